//! `cp.async.bulk.commit_group` and `cp.async.bulk.wait_group`.

use super::super::{Flow, Step};
use super::literal;
use crate::fault::{Fault, Result};
use crate::machine::warp::Wait;
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

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    let lanes = step.each_lane();
    match op {
        Op::Commit => {
            for lane in lanes {
                if let Some(groups) = step.warp().bulk.get_mut(lane) {
                    groups.commit();
                }
            }
        }
        Op::Wait { allowed, read } => {
            let bulk = &step.warp_ref().bulk;
            let mut groups = lanes.filter_map(|lane| bulk.get(lane));
            if !groups.all(|groups| groups.is_over(*allowed, *read)) {
                return Ok(Flow::Retry(Wait::BulkGroups { allowed: *allowed, read: *read }));
            }
        }
    }
    Ok(Flow::Next)
}
