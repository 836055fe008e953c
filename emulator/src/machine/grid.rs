//! The clusters of a grid, the places for those that are resident, and which of these still get on.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::machine::Launch;
use crate::machine::order::GlobalOrder;

/// The clusters of a grid.
#[derive(Debug)]
pub struct Clusters {
    /// In clusters.
    extent: [u64; 3],
    /// Device memory with the barrier of a cooperative launch; 0 for others.
    pub workspace: u64,
    /// Places that have multiprocessors of their own.
    own: u32,
    state: Mutex<State>,
    /// What is before what in global memory, where a check needs it.
    pub order: GlobalOrder,
}

#[derive(Debug)]
struct State {
    /// The next cluster to start.
    next: u64,
    /// Free places for resident clusters.
    slots: BTreeSet<u32>,
    /// Clusters that have started and not ended.
    resident: u64,
    /// Turns in which a cluster changed something, started or ended.
    progress: u64,
    /// Clusters that were found stuck in a turn that began with this progress.
    stuck: u64,
}

impl State {
    fn advance(&mut self) {
        self.progress += 1;
        self.stuck = 0;
    }
}

impl Clusters {
    /// All of a launch on so many multiprocessors. `workspace` is for grid barriers.
    pub fn new(launch: &Launch, sms: u32, workspace: u64) -> Self {
        let extent =
            [0, 1, 2].map(|axis| u64::from(launch.grid[axis] / launch.cluster[axis].max(1)));
        let size = launch.cluster_size().max(1);
        let own = (sms / size).max(1);
        let most = (sms.saturating_mul(launch.blocks_per_sm) / size).max(own);
        let slots = (0..most).collect();
        let state = State { next: 0, slots, resident: 0, progress: 0, stuck: 0 };
        let order = GlobalOrder::default();
        Self { extent, workspace, own, state: Mutex::new(state), order }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.extent.iter().product()
    }

    /// Takes the next one that has not started, to cancel it.
    pub fn take(&self) -> Option<u64> {
        let mut state = self.state();
        (state.next < self.total()).then(|| {
            state.next += 1;
            state.next - 1
        })
    }

    /// Starts the next one if there is a place: gives the place and its number. A place that shares multiprocessors
    /// with others counts only where it has to, as all others wait for what may not have started.
    pub fn start(&self, shares: bool) -> Option<(u32, u64)> {
        let mut state = self.state();
        let first = *state.slots.first()?;
        if state.next >= self.total() || first >= self.own && !shares {
            return None;
        }
        state.slots.pop_first();
        state.next += 1;
        state.resident += 1;
        state.advance();
        Some((first, state.next - 1))
    }

    /// The cluster at a place has ended.
    pub fn end(&self, slot: u32) {
        let mut state = self.state();
        state.slots.insert(slot);
        state.resident -= 1;
        state.advance();
    }

    /// Place in the grid, in clusters, x fastest.
    pub fn id(&self, number: u64) -> [u32; 3] {
        let [x, y, _] = self.extent.map(|extent| extent.max(1));
        [(number % x) as u32, (number / x % y) as u32, (number / (x * y)) as u32]
    }

    /// A cluster changed something in its turn.
    pub fn advance(&self) {
        self.state().advance();
    }

    /// What all clusters changed until now. It is asked for before a turn: what others change in theirs shows when those
    /// are over.
    pub fn progress(&self) -> u64 {
        self.state().progress
    }

    /// A cluster was found stuck in a turn that began with this progress; said once for each.
    pub fn found_stuck(&self, progress: u64) {
        let mut state = self.state();
        state.stuck += u64::from(state.progress == progress);
    }

    /// Whether none of those that have started can get on, and no other can start: how many could not.
    pub fn left_behind(&self) -> Option<u64> {
        let state = self.state();
        let left = self.total() - state.next;
        let ends = state.stuck == state.resident && (left == 0 || state.slots.is_empty());
        ends.then_some(left)
    }
}
