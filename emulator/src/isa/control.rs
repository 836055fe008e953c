//! Control flow: `bra`, `brx.idx`, `call`, `ret`, `exit`, `trap` (PTX ISA, "Control Flow Instructions").

use crate::fault::{Fault, Result};
use crate::isa::scope::{Lowered, Scope};
use crate::isa::value::{Convergence, Value};
use crate::ptx::{Operand, Statement, Symbol};

/// Bytes of the space of parameters that a call moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Offset of the source.
    pub(crate) from: u32,
    /// Offset of the destination.
    pub(crate) to: u32,
    /// How many.
    pub(crate) bytes: u32,
}

/// A function that a call may reach.
#[derive(Clone, Debug)]
pub struct Callee {
    pub(crate) start: u32,
    pub(crate) copies: Box<[Copy]>,
}

/// A function that the host provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostFunction {
    /// `__assertfail(message, file, line, function, size of a character)`
    Assert,
    /// `vprintf(format, arguments)`
    Print,
}

/// Lowered.
#[derive(Clone, Debug)]
pub enum Op {
    /// `bra`
    Branch(u32),
    /// `brx.idx`
    Indexed {
        /// Which target.
        index: Value,
        /// Indices of instructions.
        targets: Box<[u32]>,
    },
    /// `call` of a function by name.
    Call(Callee),
    /// `call` through a register: one of these functions.
    CallIndirect {
        /// The address.
        address: Value,
        /// All functions that take such arguments.
        callees: Box<[Callee]>,
    },
    /// After a call: its results.
    Results(Box<[Copy]>),
    /// After an indirect call: the results by function.
    ResultsIndirect {
        /// The address.
        address: Value,
        /// What to copy, by first instruction.
        copies: Box<[(u32, Box<[Copy]>)]>,
    },
    /// `call` of a function of the host.
    Host {
        /// Which.
        function: HostFunction,
        /// Offset and size of the arguments in the space of parameters.
        arguments: Box<[(u32, u32)]>,
        /// Where the result goes.
        result: Option<u32>,
    },
    /// `ret`
    Return,
    /// `exit`
    Exit,
    /// `trap` and `brkpt`
    Trap,
    /// A form that cannot be executed, by opcode and reason: it faults where it is reached, so that a module with
    /// one odd kernel still loads.
    Unsupported(Box<str>),
}

/// Operands of a `call`: results, function, arguments.
fn parts(statement: &Statement) -> Result<(&[Operand], &Operand, &[Operand])> {
    let list = |operand: &'_ Operand| matches!(operand, Operand::List(_));
    let (results, rest) = match statement.operands.as_slice() {
        [Operand::List(results), rest @ ..] => (results.as_slice(), rest),
        all => (&[][..], all),
    };
    match rest {
        [function, Operand::List(arguments), ..] if !list(function) => {
            Ok((results, function, arguments))
        }
        [function, ..] if !list(function) => Ok((results, function, &[])),
        _ => Err(Fault::unsupported("call without a function")),
    }
}

/// Whether a second instruction follows a statement that fetches results.
pub fn has_results(statement: &Statement) -> bool {
    statement.family == "call" && parts(statement).is_ok_and(|(results, _, _)| !results.is_empty())
}

fn symbols(operands: &[Operand], scope: &Scope<'_>) -> Result<Vec<(u32, u32)>> {
    let place = |operand: &Operand| match operand {
        Operand::Symbol(symbol, 0) => scope.parameter(*symbol),
        other => Err(Fault::unsupported(format!("{other:?} as an argument of a call"))),
    };
    operands.iter().map(place).collect()
}

fn copies(from: &[(u32, u32)], to: &[(u32, u32)]) -> Option<Box<[Copy]>> {
    let fits = from.len() == to.len() && from.iter().zip(to).all(|(from, to)| from.1 == to.1);
    let pairs = from.iter().zip(to);
    fits.then(|| pairs.map(|(from, to)| Copy { from: from.0, to: to.0, bytes: to.1 }).collect())
}

/// Indices of functions with a body that are no kernels.
fn functions(scope: &Scope<'_>) -> impl Iterator<Item = usize> {
    let functions = scope.module.functions.iter().enumerate();
    functions.filter(|(_, f)| f.is_defined && !f.is_entry).map(|(index, _)| index)
}

/// Whether a function can come to call itself.
fn is_recursive(scope: &Scope<'_>, function: usize) -> bool {
    let mut seen = vec![false; scope.module.functions.len()];
    let mut left = vec![function];
    while let Some(next) = left.pop() {
        let Some(body) = scope.module.functions.get(next).map(|f| &f.body) else { continue };
        for statement in body.iter().filter(|statement| statement.family == "call") {
            if let Ok((_, Operand::Symbol(Symbol::Function(callee), _), _)) = parts(statement) {
                if *callee == function {
                    return true;
                }
                if let Some(seen) = seen.get_mut(*callee).filter(|seen| !**seen) {
                    *seen = true;
                    left.push(*callee);
                }
            }
        }
    }
    false
}

fn lower_call(statement: &Statement, scope: &Scope<'_>) -> Result<Op> {
    let (results, function, arguments) = parts(statement)?;
    let arguments = symbols(arguments, scope)?;
    let Operand::Symbol(Symbol::Function(index), _) = function else {
        let address = scope.value(function, 64)?;
        let callees = functions(scope).filter_map(|index| {
            let [parameters, _] = scope.signature(index).ok()?;
            let start = scope.function(Symbol::Function(index)).ok()?;
            Some(Callee { start, copies: copies(&arguments, &parameters)? })
        });
        return Ok(Op::CallIndirect { address, callees: callees.collect() });
    };
    let callee = scope.module.functions.get(*index);
    if callee.is_some_and(|callee| !callee.is_defined) {
        let function = match callee.map_or("", |callee| callee.name.as_str()) {
            "__assertfail" => HostFunction::Assert,
            "vprintf" => HostFunction::Print,
            name => return Err(Fault::unsupported(format!("a call of {name}"))),
        };
        let result = symbols(results, scope)?.first().map(|(offset, _)| *offset);
        return Ok(Op::Host { function, arguments: arguments.into(), result });
    }
    if is_recursive(scope, *index) {
        return Err(Fault::unsupported("recursion"));
    }
    let [parameters, _] = scope.signature(*index)?;
    let copies = copies(&arguments, &parameters).ok_or_else(|| {
        Fault::unsupported("a call whose arguments are not those of the function")
    })?;
    Ok(Op::Call(Callee { start: scope.function(Symbol::Function(*index))?, copies }))
}

/// Lowers the second instruction of a call with results.
pub fn lower_results(statement: &Statement, scope: &Scope<'_>) -> Lowered<Op> {
    let (results, function, _) = parts(statement)?;
    let results = symbols(results, scope)?;
    let op = match function {
        Operand::Symbol(Symbol::Function(index), _)
            if scope.module.functions.get(*index).is_some_and(|f| !f.is_defined) =>
        {
            None
        }
        Operand::Symbol(Symbol::Function(index), _) => {
            let [_, from] = scope.signature(*index)?;
            let copies = copies(&from, &results).ok_or_else(|| {
                Fault::unsupported("a call whose results are not those of the function")
            })?;
            Some(Op::Results(copies))
        }
        pointer => {
            let address = scope.value(pointer, 64)?;
            let copies = functions(scope).filter_map(|index| {
                let [_, from] = scope.signature(index).ok()?;
                Some((scope.function(Symbol::Function(index)).ok()?, copies(&from, &results)?))
            });
            Some(Op::ResultsIndirect { address, copies: copies.collect() })
        }
    };
    Ok((op, Convergence::None))
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Lowered<Op> {
    let op = match (statement.family.as_str(), statement.operands.as_slice()) {
        ("bra", [Operand::Label(label)]) => Op::Branch(scope.label(*label)?),
        ("brx", [index, Operand::Targets(targets)]) => Op::Indexed {
            index: scope.value(index, 32)?,
            targets: targets.iter().map(|label| scope.label(*label)).collect::<Result<_>>()?,
        },
        ("call", _) => lower_call(statement, scope)?,
        ("ret", []) => Op::Return,
        ("exit", []) => Op::Exit,
        ("trap" | "brkpt", []) => Op::Trap,
        _ => return Err(Fault::unsupported(statement.opcode())),
    };
    Ok((Some(op), Convergence::None))
}
