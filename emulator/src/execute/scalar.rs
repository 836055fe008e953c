//! Stub.
use super::{Flow, Step};
use crate::fault::{Fault, Result};
use crate::program::{Lowered, Scope};
use crate::ptx::Statement;

/// Lowered.
#[derive(Clone, Debug)]
pub enum Op {}

/// Lowers.
pub fn lower(statement: &Statement, _scope: &Scope<'_>) -> Lowered {
    Err(Fault::unsupported(statement.opcode()))
}

/// Executes.
pub fn execute(op: &Op, _step: &mut Step<'_>) -> Result<Flow> {
    match *op {}
}
