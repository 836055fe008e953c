//! Numbers of registers: a program holds only those that it uses, and kernels share theirs.

use std::collections::HashMap;

use crate::ptx::{Base, Class, Operand, Register, Statement};

/// Predicate 0 of a program is the carry flag of `add.cc` and the like.
pub const CARRY: u32 = 0;

/// New numbers by old ones.
#[derive(Debug)]
pub struct Renumbering {
    numbers: HashMap<Register, u32>,
    /// The next number of each class, and what it is after [`Renumbering::forget`].
    next: [u32; 4],
    kept: [u32; 4],
}

impl Default for Renumbering {
    fn default() -> Self {
        let carry = [CARRY + 1, 0, 0, 0];
        Self { numbers: HashMap::new(), next: carry, kept: carry }
    }
}

impl Renumbering {
    /// What is numbered so far keeps its numbers.
    pub fn keep(&mut self) {
        self.kept = self.next;
    }

    /// Another kernel begins: numbers given since [`Renumbering::keep`] may be given again.
    pub fn forget(&mut self) {
        self.numbers.clear();
        self.next = self.kept;
    }

    /// Registers of each class: predicates, words, doubles, quads.
    pub fn counts(&self) -> [u32; 4] {
        self.next
    }

    fn number(&mut self, register: &mut Register) {
        let next = &mut self.next[match register.class {
            Class::Predicate => 0,
            Class::Word => 1,
            Class::Double => 2,
            Class::Quad => 3,
        }];
        register.index = *self.numbers.entry(*register).or_insert_with(|| {
            *next += 1;
            *next - 1
        });
    }
}

/// The statement with new numbers.
pub fn renumber(statement: &Statement, renumbering: &mut Renumbering) -> Statement {
    let mut statement = statement.clone();
    if let Some(guard) = &mut statement.guard {
        renumbering.number(&mut guard.register);
    }
    for operand in &mut statement.operands {
        visit(operand, &mut |register| renumbering.number(register));
    }
    statement
}

fn visit(operand: &mut Operand, act: &mut dyn FnMut(&mut Register)) {
    match operand {
        Operand::Register(register) | Operand::Not(register) => act(register),
        Operand::Pair(first, second) => {
            first.iter_mut().for_each(&mut *act);
            second.iter_mut().for_each(act);
        }
        Operand::Vector(parts) | Operand::List(parts) => {
            parts.iter_mut().for_each(|part| visit(part, act));
        }
        Operand::Address(base, _) => visit_base(base, act),
        Operand::TensorAddress(base, _, parts) => {
            visit_base(base, act);
            parts.iter_mut().for_each(|part| visit(part, act));
        }
        Operand::Literal(_)
        | Operand::Sink
        | Operand::Symbol(..)
        | Operand::Special(_)
        | Operand::Unknown(_)
        | Operand::Label(_)
        | Operand::Targets(_) => {}
    }
}

fn visit_base(base: &mut Base, act: &mut dyn FnMut(&mut Register)) {
    if let Base::Register(register) = base {
        act(register);
    }
}

/// All registers in operands.
pub fn for_each_register(operands: &[Operand], act: &mut dyn FnMut(Register)) {
    for operand in operands {
        visit(&mut operand.clone(), &mut |register| act(*register));
    }
}
