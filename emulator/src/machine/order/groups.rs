//! Groups of copies of a lane that it waits for (`cp.async.bulk.wait_group`, `cp.async.wait_group`).

use std::collections::VecDeque;

use super::clock::Epoch;

/// Committed groups that are kept: a lane may wait only until they have read, or not at all.
const KEPT: usize = 64;

/// Of one lane.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    open: Vec<Epoch>,
    /// Oldest first.
    committed: VecDeque<Vec<Epoch>>,
}

impl Groups {
    /// A copy.
    pub fn issue(&mut self, epoch: Epoch) {
        self.open.push(epoch);
    }

    /// All copies that were not waited for, when they are complete.
    pub fn all(&self) -> impl Iterator<Item = Epoch> {
        let copies = self.committed.iter().flatten().chain(&self.open);
        copies.map(|epoch| epoch.second())
    }

    /// `commit_group`
    pub fn commit(&mut self) {
        self.committed.push_back(std::mem::take(&mut self.open));
        // A lane that never waits for its copies, such as one whose copies arrive at mbarriers.
        if self.committed.len() > KEPT {
            self.committed.pop_front();
        }
    }

    /// All but the newest `allowed` are complete, or have read: what is known of them.
    pub fn wait(&mut self, allowed: u32, read: bool) -> Vec<Epoch> {
        let over = self.committed.len().saturating_sub(allowed as usize);
        if read {
            return self.committed.iter().take(over).flatten().copied().collect();
        }
        self.committed.drain(..over).flatten().map(Epoch::second).collect()
    }
}
