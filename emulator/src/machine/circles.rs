//! Warps that go round in circles: they execute, and come back to where they were with nothing changed in between.
//!
//! What a warp does next depends on its own state and on memory. Where it has the same state again, and neither its
//! cluster nor another one has changed anything since, it does the same for ever, unless another changes memory. A
//! register that holds a count or a clock is part of the state: a loop with a limit of its own is no circle.

use crate::machine::cluster::Cluster;
use crate::machine::stall::{Recurrence, fingerprint};
use crate::machine::warp::{State, Warp};

/// Warp instructions of a cluster between two looks at its warps.
const LOOK: u64 = 1 << 12;
/// Time limits of parked waits in a row without any change after which a loop that only counts them is taken for a
/// circle.
const LIMIT: u32 = 1 << 10;

/// What was seen of a warp since something changed.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    states: Recurrence,
    circles: bool,
}

/// What is known of the warps of a cluster since something changed.
#[derive(Debug, Default)]
pub struct Circles {
    /// Changes by the cluster until then.
    changes: u64,
    /// The same by the grid, as the cluster knew it.
    progress: u64,
    /// Instructions at which the next look is due.
    due: u64,
    /// By place in the cluster.
    seen: Vec<Seen>,
    /// States of parked warps when the time of their waits was over.
    limits: Recurrence,
    /// No warp can change anything.
    stuck: bool,
}

fn is_parked(warp: &Warp) -> bool {
    warp.groups.iter().all(|group| group.state != State::Ready)
}

impl Cluster {
    /// Everything that it changed, and what completed, so far.
    pub fn all_changes(&self) -> u64 {
        self.changes + self.events
    }

    /// At the begin of a turn: whether it is still known that no warp of it can change anything, as nothing has changed
    /// since. `progress` counts what all clusters of the grid changed.
    pub fn is_stuck(&mut self, progress: u64) -> bool {
        if self.circles.progress != progress {
            self.circles = Circles { progress, ..Circles::default() };
        }
        self.circles.stuck && self.circles.changes == self.all_changes()
    }

    /// Looks at the warps, if it is time to: whether each that can run goes round in a circle, and all others wait.
    pub fn goes_round(&mut self) -> bool {
        let changes = self.all_changes();
        let circles = &mut self.circles;
        if circles.changes != changes || circles.seen.is_empty() {
            let warps = self.ctas.iter().map(|cta| cta.warps.len()).sum();
            let (progress, due) = (circles.progress, self.steps + LOOK);
            let seen = vec![Seen::default(); warps];
            self.circles = Circles { changes, progress, due, seen, ..Circles::default() };
            return false;
        }
        if self.steps < circles.due || !self.queues.is_empty() {
            return false;
        }
        circles.due = self.steps + LOOK;
        let mut all = true;
        let warps = self.ctas.iter().flat_map(|cta| &cta.warps);
        for (warp, seen) in warps.zip(&mut circles.seen) {
            if seen.circles || is_parked(warp) {
                continue;
            }
            let state = fingerprint(std::iter::once(warp));
            // Groups of lanes take turns: each had one.
            let turns = seen.states.look(state);
            seen.circles = turns.is_some_and(|turns| turns as usize >= warp.groups.len());
            all &= seen.circles;
        }
        if !all || self.outlasts_limits() {
            return false;
        }
        self.circles.stuck = true;
        true
    }

    /// Parked `mbarrier.try_wait`s run out of time before the cluster counts as stuck: whether some had not yet come back
    /// to where they were.
    fn outlasts_limits(&mut self) -> bool {
        let warps = self.ctas.iter().flat_map(|cta| &cta.warps);
        let parked = warps.zip(&self.circles.seen).filter(|(_, seen)| !seen.circles);
        let state = fingerprint(parked.map(|(warp, _)| warp));
        let circles = &mut self.circles;
        if circles.limits.looks() >= LIMIT || circles.limits.look(state).is_some() {
            return false;
        }
        // The next look is at what these warps do then.
        circles.due = 0;
        self.let_waits_end()
    }

    /// Rank and place of the warps that were seen to go round.
    pub fn circling(&self) -> Vec<(u32, u32)> {
        let warps = self.ctas.iter().flat_map(|cta| cta.warps.iter().map(|warp| (cta.rank, warp)));
        let seen = warps.zip(&self.circles.seen).filter(|(_, seen)| seen.circles);
        seen.map(|((rank, warp), _)| (rank, warp.index)).collect()
    }
}
