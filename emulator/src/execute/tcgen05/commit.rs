//! `tcgen05.commit`: an arrival at mbarriers once all before it is done.

use super::hazard::{agent, members};
use crate::execute::step::{Flow, Step};
use crate::fault::{Fault, FaultKind, Result};
use crate::isa::tcgen05::commit::Op;
use crate::machine::asynchronous::{Completion, Operation};

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
