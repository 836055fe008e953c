//! `tcgen05.alloc`, `dealloc` and `relinquish_alloc_permit`.

use super::group::group;
use crate::fault::{Fault, Result};
use crate::isa::scope::Scope;
use crate::isa::value::{Address, Value};
use crate::ptx::{Space, Statement};

/// Lowered.
#[derive(Clone, Debug)]
pub struct Op {
    pub(crate) group: u32,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Allocate { slot: Address, columns: Value },
    Free { address: Value, columns: Value },
    Relinquish,
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Result<Op> {
    let group = group(statement)?;
    let what = match (statement.suffixes[0].as_str(), statement.operands.as_slice()) {
        ("alloc", [slot, columns]) => {
            let space = if statement.has("shared::cta") { Space::Shared } else { Space::Generic };
            let (slot, columns) = (scope.address(slot, space)?, scope.value(columns, 32)?);
            What::Allocate { slot, columns }
        }
        ("dealloc", [address, columns]) => {
            What::Free { address: scope.value(address, 32)?, columns: scope.value(columns, 32)? }
        }
        ("relinquish_alloc_permit", []) => What::Relinquish,
        _ => return Err(Fault::unsupported(statement.opcode())),
    };
    Ok(Op { group, what })
}
