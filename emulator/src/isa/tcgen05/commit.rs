//! `tcgen05.commit`: an arrival at mbarriers once all before it is done.

use super::group::group;
use crate::fault::{Fault, Result};
use crate::isa::scope::Scope;
use crate::isa::value::{Address, Value};
use crate::ptx::{Space, Statement};

/// Lowered.
#[derive(Clone, Debug)]
pub struct Op {
    pub(crate) group: u32,
    pub(crate) barrier: Address,
    /// Thread blocks of the cluster, by bit.
    pub(crate) mask: Option<Value>,
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Result<Op> {
    let group = group(statement)?;
    let space =
        if statement.has("shared::cluster") { Space::SharedCluster } else { Space::Generic };
    let operands = statement.operands.as_slice();
    let (barrier, mask) = match (statement.has("multicast::cluster"), operands) {
        (false, [barrier]) => (barrier, None),
        (true, [barrier, mask]) => (barrier, Some(scope.value(mask, 16)?)),
        _ => return Err(Fault::unsupported(statement.opcode())),
    };
    if !statement.has("mbarrier::arrive::one") {
        return Err(Fault::unsupported(statement.opcode()));
    }
    Ok(Op { group, barrier: scope.address(barrier, space)?, mask })
}
