//! `cp.async.bulk.commit_group` and `cp.async.bulk.wait_group`.

use crate::fault::{Fault, Result};
use crate::isa::bulk::operands::literal;
use crate::ptx::Statement;

/// Lowered.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `commit_group`
    Commit,
    /// `wait_group`
    Wait {
        /// Newest groups that need not be complete.
        allowed: u32,
        /// `.read`
        read: bool,
    },
}

/// Lowers.
pub fn lower(statement: &Statement) -> Result<Op> {
    if statement.has("commit_group") {
        return Ok(Op::Commit);
    }
    let allowed = literal(statement, statement.operands.first())?;
    let allowed = u32::try_from(allowed).map_err(|_| Fault::unsupported(statement.opcode()))?;
    Ok(Op::Wait { allowed, read: statement.has("read") })
}
