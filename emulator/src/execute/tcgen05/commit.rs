//! `tcgen05.commit`: an arrival at mbarriers once all before it that the same thread issued is done.
//!
//! When that is done, the arrivals are on their way, each by itself: nothing in PTX says that those of two commits, or at
//! the barriers of two thread blocks, come in the order of the instructions (PTX ISA, "tcgen05 Memory Consistency Model").

use super::hazard::{agent, members};
use crate::execute::step::{Flow, Step};
use crate::fault::{Fault, FaultKind, Result};
use crate::isa::tcgen05::commit::Op;
use crate::machine::asynchronous::{Agent, Completion, Operation, Thread};
use crate::machine::order::Issue;

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
        let thread = (step.rank, step.warp, lane as u32);
        let commit = Commit { thread, members, barriers };
        if step.cluster.queues.tracks(thread) {
            step.submit(agent(&commit.members), lane, Issue::Commit, Box::new(commit))?;
        } else {
            for arrival in commit.arrivals(step.cluster.last_tensor_operation(thread)) {
                let agent = Agent::Copy(step.cluster.queues.next_number());
                step.submit(agent, lane, Issue::Commit, Box::new(arrival))?;
            }
        }
    }
    Ok(Flow::Next)
}

#[derive(Debug)]
struct Commit {
    /// Whose operations it tracks.
    thread: Thread,
    members: Vec<u32>,
    /// Rank and offset.
    barriers: Vec<(u32, u32)>,
}

impl Commit {
    /// What is left to do when the operations are complete, up to this number.
    fn arrivals(&self, number: u64) -> Vec<Arrival> {
        let from = self.members.first().copied().unwrap_or(0);
        let barriers = self.barriers.iter();
        barriers.map(|(rank, offset)| Arrival { from, number, barrier: (*rank, *offset) }).collect()
    }
}

impl Operation for Commit {
    fn complete(self: Box<Self>, at: &mut Completion<'_>) -> Result<()> {
        for arrival in self.arrivals(at.cluster.last_tensor_operation(self.thread)) {
            at.submit(Agent::Copy(at.cluster.queues.next_number()), Box::new(arrival))?;
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

/// The arrival of a commit at one barrier.
#[derive(Debug)]
struct Arrival {
    /// Rank of the first thread block that the commit is of.
    from: u32,
    /// The last operation that it tracks.
    number: u64,
    /// Rank and offset.
    barrier: (u32, u32),
}

impl Operation for Arrival {
    fn complete(self: Box<Self>, at: &mut Completion<'_>) -> Result<()> {
        let (rank, offset) = self.barrier;
        let barrier = at.cluster.mbarrier(rank, offset)?;
        barrier.commit = barrier.commit.max(self.number);
        at.signal_commit((rank, offset))?;
        let who = format!("tcgen05.commit of CTA {}", self.from);
        at.cluster.arrive(rank, offset, 1, &who)
    }

    fn describe(&self) -> String {
        let (rank, offset) = self.barrier;
        format!("arrival of tcgen05.commit of CTA {} at mbarrier {rank}:{offset:#x}", self.from)
    }

    fn uses(&self) -> Vec<u32> {
        vec![self.barrier.0]
    }
}
