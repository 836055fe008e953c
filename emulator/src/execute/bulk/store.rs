//! What copies have in common: agents, the groups that a store belongs to, and counts.

use crate::counters::Moved;
use crate::execute::step::Step;
use crate::fault::{Fault, FaultKind, Result};
use crate::machine::asynchronous::{Agent, Completion, Operation};
use crate::machine::cluster::Cluster;
use crate::machine::warp::BulkGroups;

pub(super) fn misaligned<T>(message: String) -> Result<T> {
    Err(Fault::new(FaultKind::Misaligned, message))
}

/// The next copy's own agent. No two operations have the same number.
pub(super) fn alone(cluster: &Cluster) -> Agent {
    Agent::Copy(cluster.queues.next_number())
}

/// The lane that issued a store, and the number by which its groups know it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) rank: u32,
    pub(super) warp: u32,
    pub(super) lane: usize,
    pub(super) number: u64,
}

impl Owner {
    /// A store that is about to be issued.
    pub(super) fn issue(step: &mut Step<'_>, lane: usize) -> Self {
        let number = step.cluster.queues.next_number();
        let owner = Self { rank: step.rank, warp: step.warp, lane, number };
        if let Some(groups) = owner.groups(step.cluster) {
            groups.issue(number);
        }
        owner
    }

    pub(super) fn groups(self, cluster: &mut Cluster) -> Option<&mut BulkGroups> {
        let cta = cluster.ctas.get_mut(self.rank as usize)?;
        cta.warps.get_mut(self.warp as usize)?.bulk.get_mut(self.lane)
    }

    /// The source is read: the write follows as an operation of its own.
    pub(super) fn read(self, at: &mut Completion<'_>, write: Box<dyn Operation>) -> Result<()> {
        if let Some(groups) = self.groups(at.cluster) {
            groups.read(self.number);
        }
        let agent = alone(at.cluster);
        at.submit(agent, write).map(|_| ())
    }

    pub(super) fn written(self, at: &mut Completion<'_>) {
        if let Some(groups) = self.groups(at.cluster) {
            groups.written(self.number);
        }
    }
}

/// Counts a copy of `bytes` to so many thread blocks.
pub(super) fn count(moved: &mut Moved, bytes: u32, destinations: usize) {
    moved.copies += 1;
    moved.global += u64::from(bytes);
    moved.shared += u64::from(bytes) * destinations as u64;
}
