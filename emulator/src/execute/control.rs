//! Stub.
use super::Step;
use crate::fault::{Fault, Result};
use crate::program::{Lowered, Scope};
use crate::ptx::Statement;

/// Where the lanes that executed the instruction go. The scheduler moves them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The next instruction.
    Next,
    /// The instruction with this index.
    Jump(u32),
    /// Some lanes each to an instruction of their own.
    Indexed(Vec<(u32, u32)>),
    /// Into a function, from which they come back to the next instruction.
    Call {
        /// Its first instruction.
        target: u32,
    },
    /// Back to where the function was called; the lanes of a kernel exit.
    Return,
    /// Nowhere: the lanes are done.
    Exit,
}

/// Lowered.
#[derive(Clone, Debug)]
pub enum Op {}

/// Lowers.
pub fn lower(statement: &Statement, _scope: &Scope<'_>) -> Lowered {
    Err(Fault::unsupported(statement.opcode()))
}

/// Executes.
pub fn execute(op: &Op, _step: &mut Step<'_>) -> Result<Effect> {
    match *op {}
}
