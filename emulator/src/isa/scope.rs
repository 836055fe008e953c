//! The surroundings of a statement: what its operands become in them.

use super::address;
use super::layout::{Layout, PlaceOf, is_dynamic};
use super::value::{Address, Convergence, Value};
use crate::fault::{Fault, Result};
use crate::ptx::{Base, Literal, Module, Operand, Space, Symbol};

/// What a family makes of a statement: nothing where that has no function here (prefetches, hints, fences that order
/// nothing in this model), and the lanes that have to come together.
pub type Lowered<Op> = Result<(Option<Op>, Convergence)>;

/// What a family needs to know of the surroundings of a statement.
#[derive(Debug)]
pub struct Scope<'a> {
    /// The module.
    pub module: &'a Module,
    pub(super) layout: &'a Layout,
    /// The function that the statement is in.
    pub(super) function: usize,
    /// First instruction of each function.
    pub(super) starts: &'a [u32],
    /// Instruction of each statement of the function, and one past the last.
    pub(super) places: &'a [u32],
}

impl Scope<'_> {
    /// A register, number, special register or address of a variable as a value. Literals become the bits of a type
    /// of `bits` bits; a floating-point type takes single and double literals.
    pub fn value(&self, operand: &Operand, bits: u32) -> Result<Value> {
        match operand {
            Operand::Register(register) => Ok(Value::Register(*register)),
            Operand::Special(special) => Ok(Value::Special(*special)),
            Operand::Literal(literal) => Ok(Value::Constant(literal_bits(*literal, bits))),
            Operand::Symbol(symbol, offset) => self.symbol(*symbol, *offset),
            other => Err(Fault::unsupported(format!("{other:?} as a value"))),
        }
    }

    /// `[base+offset]`
    pub fn address(&self, operand: &Operand, space: Space) -> Result<Address> {
        match operand {
            Operand::Address(base, offset) | Operand::TensorAddress(base, offset, _) => {
                let mut space = space;
                let base = match base {
                    Base::Register(register) => Value::Register(*register),
                    Base::Symbol(symbol) => {
                        if space == Space::Generic {
                            space = self.space(*symbol);
                        }
                        self.symbol(*symbol, 0)?
                    }
                    Base::Absolute => Value::Constant(0),
                };
                Ok(Address { space, base, offset: *offset })
            }
            other => Err(Fault::unsupported(format!("{other:?} as an address"))),
        }
    }

    /// Index of the first instruction of a function.
    pub fn function(&self, symbol: Symbol) -> Result<u32> {
        match symbol {
            Symbol::Function(index)
                if self.module.functions.get(index).is_some_and(|f| f.is_defined) =>
            {
                self.starts.get(index).copied().ok_or_else(|| Fault::unsupported("a function"))
            }
            Symbol::Function(index) => {
                let name = self.module.functions.get(index).map_or("?", |f| &f.name);
                Err(Fault::unsupported(format!("{name}, a function without a body")))
            }
            _ => Err(Fault::unsupported("a call of a variable")),
        }
    }

    /// Index of the instruction at a label of the function.
    pub fn label(&self, label: usize) -> Result<u32> {
        let place = self.places.get(label).copied();
        place.ok_or_else(|| Fault::unsupported("a label outside of its function"))
    }

    /// Offsets in the space of parameters, and sizes, of the parameters of a function, then of its results.
    pub(crate) fn signature(&self, index: usize) -> Result<[Vec<(u32, u32)>; 2]> {
        let (Some(function), Some(layout)) =
            (self.module.functions.get(index), self.layout.functions.get(index))
        else {
            return Err(Fault::unsupported("a call of an unknown function"));
        };
        let sizes = |variables: &[crate::ptx::Variable], offsets: &[u32]| {
            variables.iter().zip(offsets).map(|(v, offset)| (*offset, v.size as u32)).collect()
        };
        Ok([
            sizes(&function.parameters, &layout.parameters),
            sizes(&function.results, &layout.results),
        ])
    }

    /// Offset and size of a variable in the space of parameters.
    pub(crate) fn parameter(&self, symbol: Symbol) -> Result<(u32, u32)> {
        match (self.symbol(symbol, 0)?, self.variable(symbol)) {
            (Value::Constant(offset), Some(variable)) if variable.space == Space::Param => {
                Ok((offset as u32, variable.size as u32))
            }
            _ => Err(Fault::unsupported("an argument that is no .param variable")),
        }
    }

    fn variable(&self, symbol: Symbol) -> Option<&crate::ptx::Variable> {
        let function = self.module.functions.get(self.function);
        match symbol {
            Symbol::Global(index) => self.module.variables.get(index),
            Symbol::Parameter(index) => function?.parameters.get(index),
            Symbol::Result(index) => function?.results.get(index),
            Symbol::Local(index) => function?.locals.get(index),
            Symbol::Function(_) => None,
        }
    }

    /// The space of a variable; constant memory is global memory here.
    pub(crate) fn space(&self, symbol: Symbol) -> Space {
        match self.variable(symbol).map_or(Space::Generic, |variable| variable.space) {
            Space::Const => Space::Global,
            space => space,
        }
    }

    fn symbol(&self, symbol: Symbol, offset: i64) -> Result<Value> {
        if let Symbol::Function(_) = symbol {
            let start = self.function(symbol)?;
            return Ok(Value::Constant(address::function(start)));
        }
        let place = match self.variable(symbol) {
            Some(variable) if is_dynamic(variable) => self.layout.dynamic(self.function),
            _ => self.layout.place(self.function, symbol),
        };
        match place {
            Some(PlaceOf::Shared(at)) => Ok(Value::Shared(at.wrapping_add(offset as u32))),
            Some(PlaceOf::Plain(at)) => Ok(Value::Constant(at.wrapping_add(offset as u64))),
            None => {
                let name = self.variable(symbol).map_or("?", |variable| &variable.name);
                Err(Fault::unsupported(format!("{name} has no place in memory")))
            }
        }
    }
}

/// The bits of a number as a type of this width.
fn literal_bits(literal: Literal, bits: u32) -> u64 {
    match (literal, bits) {
        (Literal::Integer(value), 64..) => value,
        (Literal::Integer(value), _) => value & ((1 << bits) - 1),
        (Literal::Single(single), 64) => f64::from(f32::from_bits(single)).to_bits(),
        (Literal::Single(single), _) => u64::from(single),
        (Literal::Double(double), 64) => double,
        (Literal::Double(double), 16) => {
            u64::from(half::f16::from_f64(f64::from_bits(double)).to_bits())
        }
        (Literal::Double(double), _) => u64::from((f64::from_bits(double) as f32).to_bits()),
    }
}
