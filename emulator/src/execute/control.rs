//! Control flow: `bra`, `brx.idx`, `call`, `ret`, `exit`, `trap` (PTX ISA, "Control Flow Instructions").
//!
//! An instruction only says where its lanes go; the scheduler, which owns the groups of lanes, sends them there.

use super::Step;
use crate::fault::{Fault, FaultKind, Result};
use crate::program::{Convergence, Lowered, Scope};
use crate::ptx::Statement;

/// Where the lanes that executed an instruction go. The others of their group fall through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// To the next instruction.
    Next,
    /// All to this instruction.
    Jump(u32),
    /// Each of the lanes to an instruction; together they are all that executed.
    Indexed(Vec<(u32, u32)>),
    /// Into a function that returns to the next instruction.
    Call {
        /// Its first instruction.
        target: u32,
    },
    /// Back to the caller; out of the kernel where there is none.
    Return,
    /// Out of the kernel.
    Exit,
}

/// Lowered.
#[derive(Clone, Debug)]
pub enum Op {
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

/// Lowers.
pub fn lower(statement: &Statement, _scope: &Scope<'_>) -> Lowered {
    let op = match statement.family.as_str() {
        "ret" => Op::Return,
        "exit" => Op::Exit,
        "trap" | "brkpt" => Op::Trap,
        _ => return Err(Fault::unsupported(statement.opcode())),
    };
    Ok((crate::program::Op::Control(op), Convergence::None))
}

/// Executes: says where the lanes go.
pub fn execute(op: &Op, _step: &mut Step<'_>) -> Result<Effect> {
    match op {
        Op::Return => Ok(Effect::Return),
        Op::Exit => Ok(Effect::Exit),
        Op::Trap => Err(Fault::new(FaultKind::Trap, "the kernel executed trap")),
        Op::Unsupported(what) => Err(Fault::unsupported(what)),
    }
}
