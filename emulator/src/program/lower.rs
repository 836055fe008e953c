//! From [`Module`] to [`Program`]: places variables, sends each statement to its family.

use super::grammar;
use super::layout::{Layout, PlaceOf, is_dynamic};
use super::registers::{Renumbering, for_each_register, renumber};
use super::{Address, Convergence, Instruction, Kernel, Lowered, Op, Program, Value};
use crate::execute::{bulk, clc, control, matrix, memory, scalar, shuffle, sync, tcgen05, wgmma};
use crate::fault::{Fault, Result};
use crate::ptx::{Base, Class, Literal, Module, Operand, Space, Statement, Symbol};

/// What a family needs to know of the surroundings of a statement.
#[derive(Debug)]
pub struct Scope<'a> {
    /// The module.
    pub module: &'a Module,
    layout: &'a Layout,
    /// The function that the statement is in.
    function: usize,
    /// First instruction of each function.
    starts: &'a [u32],
    /// Instruction of each statement of the function, and one past the last.
    places: &'a [u32],
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
            return Ok(Value::Constant(control::function_address(start)));
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

/// Lowers a module. `place` gives the device address of each variable of the module that is in global or constant
/// memory.
pub fn lower(module: &Module, place: &dyn Fn(&str) -> Option<u64>) -> Result<Program> {
    let layout = Layout::new(module, place)?;
    let mut renumbering = Renumbering::default();
    let mut bodies: Vec<Vec<Statement>> = vec![Vec::new(); module.functions.len()];
    // Kernels never run together in one warp: their registers share the numbers above those of the functions.
    let mut kernel_registers = vec![[0; 4]; module.functions.len()];
    for entries in [false, true] {
        if entries {
            renumbering.keep();
        }
        for (index, function) in module.functions.iter().enumerate() {
            if function.is_entry != entries {
                continue;
            }
            if entries {
                renumbering.forget();
            }
            bodies[index] = function.body.iter().map(|s| renumber(s, &mut renumbering)).collect();
            kernel_registers[index] = renumbering.counts();
        }
    }

    let mut starts = Vec::with_capacity(bodies.len());
    let mut places = Vec::with_capacity(bodies.len());
    let mut next = 0;
    for (function, body) in module.functions.iter().zip(&bodies) {
        starts.push(next);
        let mut of_function = Vec::with_capacity(body.len() + 1);
        for statement in body {
            of_function.push(next);
            next += if control::has_results(statement) { 2 } else { 1 };
        }
        of_function.push(next);
        places.push(of_function);
        next += u32::from(function.is_defined);
    }

    let mut program = Program {
        target: module.target.clone(),
        files: module.files.clone(),
        shared_names: layout.shared_names.clone(),
        ..Program::default()
    };
    for (index, function) in module.functions.iter().enumerate() {
        if !function.is_defined {
            continue;
        }
        let scope = Scope {
            module,
            layout: &layout,
            function: index,
            starts: &starts,
            places: &places[index],
        };
        for statement in &bodies[index] {
            program.instructions.push(instruction(statement, lower_statement(statement, &scope)));
            if control::has_results(statement) {
                program
                    .instructions
                    .push(instruction(statement, control::lower_results(statement, &scope)));
            }
        }
        let end = function.body.last();
        program.instructions.push(Instruction {
            guard: None,
            convergence: Convergence::None,
            op: Op::Control(control::Op::Return),
            words: Box::default(),
            line: end.map_or(0, |statement| statement.line),
            source: end.and_then(|statement| statement.source),
        });
        let registers = kernel_registers[index];
        for (most, count) in program.registers.iter_mut().zip(registers) {
            *most = (*most).max(count);
        }
        if function.is_entry {
            let mut kernel = layout.kernel(module, index);
            kernel.start = starts[index];
            kernel.registers = registers;
            program.kernels.insert(function.name.clone(), kernel);
        } else {
            let address = control::function_address(starts[index]);
            program.functions.insert(function.name.clone(), address);
        }
    }
    Ok(program)
}

fn instruction(statement: &Statement, lowered: Lowered) -> Instruction {
    let (op, convergence) = lowered.unwrap_or_else(|fault| {
        let what = format!("{} ({})", statement.opcode(), fault.message);
        (Op::Control(control::Op::Unsupported(what.into())), Convergence::None)
    });
    let mut words = Vec::new();
    for_each_register(&statement.operands, &mut |register| {
        if register.class == Class::Word && !words.contains(&register.index) {
            words.push(register.index);
        }
    });
    Instruction {
        guard: statement.guard,
        convergence,
        op,
        words: words.into(),
        line: statement.line,
        source: statement.source,
    }
}

/// Sends a statement to its family.
fn lower_statement(statement: &Statement, scope: &Scope<'_>) -> Lowered {
    grammar::check(statement)?;
    match statement.family.as_str() {
        "tcgen05" => tcgen05::lower(statement, scope),
        "wgmma" => wgmma::lower(statement, scope),
        "ldmatrix" | "stmatrix" | "movmatrix" | "mma" => matrix::lower(statement, scope),
        "cp" | "prefetch" | "prefetchu" | "tensormap" | "applypriority" | "discard" => {
            bulk::lower(statement, scope)
        }
        "clusterlaunchcontrol" => clc::lower(statement, scope),
        "bar" | "barrier" | "mbarrier" | "fence" | "membar" | "griddepcontrol" | "setmaxnreg"
        | "elect" | "mapa" | "getctarank" | "nanosleep" | "pmevent" => {
            sync::lower(statement, scope)
        }
        "red" | "st" if statement.has("async") => sync::lower(statement, scope),
        "shfl" | "vote" | "match" | "activemask" | "redux" => shuffle::lower(statement, scope),
        "ld" | "st" | "atom" | "red" | "ldu" | "cvta" | "isspacep" => {
            memory::lower(statement, scope)
        }
        "bra" | "brx" | "call" | "ret" | "exit" | "trap" | "brkpt" => {
            control::lower(statement, scope)
        }
        _ => scalar::lower(statement, scope),
    }
}

impl Layout {
    fn kernel(&self, module: &Module, index: usize) -> Kernel {
        let function = &module.functions[index];
        let layout = &self.functions[index];
        let offsets = layout.parameters.iter().copied();
        let parameters: Vec<(u32, u32)> =
            offsets.zip(function.parameters.iter().map(|v| v.size as u32)).collect();
        Kernel {
            name: function.name.clone(),
            parameter_bytes: parameters.iter().map(|(at, size)| at + size).max().unwrap_or(0),
            parameters,
            static_shared: layout.static_shared,
            dynamic_shared: layout.dynamic_shared,
            local: layout.local,
            call_bytes: layout.call_bytes,
            max_threads: function.max_threads,
            required_cluster: function.required_cluster,
            ..Kernel::default()
        }
    }
}
