//! `tcgen05.commit`: an arrival at mbarriers once all before it is done.

use super::{agent, group, members};
use crate::execute::{Flow, Step};
use crate::fault::{Fault, FaultKind, Result};
use crate::machine::asynchronous::{Completion, Operation};
use crate::program::{Address, Scope, Value};
use crate::ptx::{Space, Statement};

/// Lowered.
#[derive(Clone, Debug)]
pub struct Op {
    group: u32,
    barrier: Address,
    /// Thread blocks of the cluster, by bit.
    mask: Option<Value>,
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

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    for lane in step.each_lane() {
        let members = members(step, op.group)?;
        let (rank, offset) = step.cluster_shared(&op.barrier, lane)?;
        let barriers = match op.mask {
            None => vec![(rank, offset)],
            Some(mask) => {
                let mask = step.value(mask, lane) as u32 & 0xFFFF;
                let size = step.cluster.ctas.len() as u32;
                if mask == 0 || size < 16 && mask >> size != 0 {
                    let message =
                        format!("tcgen05.commit to mask {mask:#06x} of a cluster of {size}");
                    return Err(Fault::new(FaultKind::OutOfBounds, message));
                }
                (0..size).filter(|rank| mask >> rank & 1 != 0).map(|rank| (rank, offset)).collect()
            }
        };
        // An object that does not exist is an error now, not when it completes.
        for (rank, offset) in &barriers {
            step.cluster.mbarrier(*rank, *offset)?;
        }
        let agent = agent(&members);
        step.submit(agent, Box::new(Commit { members, barriers }))?;
    }
    Ok(Flow::Next)
}

#[derive(Debug)]
struct Commit {
    members: Vec<u32>,
    /// Rank and offset.
    barriers: Vec<(u32, u32)>,
}

impl Operation for Commit {
    fn complete(self: Box<Self>, at: &mut Completion<'_>) -> Result<()> {
        let number = at.cluster.tensor_operations;
        let who = format!("tcgen05.commit of CTA {}", self.members[0]);
        for (rank, offset) in self.barriers {
            at.cluster.mbarrier(rank, offset)?.commit = number;
            at.cluster.arrive(rank, offset, 1, &who)?;
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let barriers: Vec<String> =
            self.barriers.iter().map(|(rank, offset)| format!("{rank}:{offset:#x}")).collect();
        format!("tcgen05.commit to mbarrier {}", barriers.join(", "))
    }

    fn uses(&self) -> Vec<u32> {
        let barriers = self.barriers.iter().map(|(rank, _)| *rank);
        self.members.iter().copied().chain(barriers).collect()
    }
}
