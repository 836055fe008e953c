//! The time limit of `mbarrier.try_wait`, and when a cluster can be said to be stuck.
//!
//! A wait that is parked until its phase ends would be a deadlock where a program asks for one stage before it does
//! what another warp needs to fill it. PTX ends such a wait without success after some time. Here that time is over
//! when nothing else can go on.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::machine::cluster::Cluster;
use crate::machine::warp::{State, Wait, Warp};

/// Time limits in a row without any effect after which a cluster counts as stuck although its registers still change:
/// a loop that counts its attempts, say.
const LIMIT: u32 = 1 << 12;

/// What is known since something last had an effect.
#[derive(Debug, Default)]
pub struct Stall {
    /// Effects until then.
    effects: u64,
    /// Time limits since.
    limits: u32,
    /// What the warps were like at them.
    states: Recurrence,
}

/// Whether states come back, without keeping more than one: it is kept twice as long each time, so that a loop of any
/// length meets it again (Brent's way to find a cycle).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recurrence {
    looks: u32,
    kept: u64,
    kept_at: u32,
}

impl Recurrence {
    /// The state at the next look: how many looks ago it was the one that is kept, if it was.
    pub fn look(&mut self, state: u64) -> Option<u32> {
        let ago = (self.looks > 0 && self.kept == state).then(|| self.looks - self.kept_at);
        if self.looks == 0 || self.looks.is_power_of_two() {
            (self.kept, self.kept_at) = (state, self.looks);
        }
        self.looks += 1;
        ago
    }

    /// Looks until now.
    pub fn looks(self) -> u32 {
        self.looks
    }
}

impl Cluster {
    /// Lets the time of every parked `mbarrier.try_wait` be over. False if nothing can come of it: there is none, or
    /// the warps are again where they were at an earlier time limit, with no effect on anything else in between.
    pub fn end_waits(&mut self) -> bool {
        let effects = self.changes + self.reads + self.events;
        if self.stall.effects != effects {
            self.stall = Stall { effects, ..Stall::default() };
        } else if self.stall.limits > 0 {
            let state = self.fingerprint();
            if self.stall.states.look(state).is_some() || self.stall.limits >= LIMIT {
                return false;
            }
        }
        self.stall.limits += 1;
        self.let_waits_end()
    }

    /// Ends the time of every parked `mbarrier.try_wait`; false if there is none.
    pub(super) fn let_waits_end(&mut self) -> bool {
        let mut some = false;
        for warp in self.ctas.iter_mut().flat_map(|cta| &mut cta.warps) {
            for group in &mut warp.groups {
                if matches!(group.state, State::Retry(Wait::MBarrier { .. })) {
                    group.state = State::Ready;
                    warp.out_of_time |= group.lanes;
                    some = true;
                }
            }
        }
        some
    }

    /// Of all that the warps can change without an effect: their places, registers and local memory.
    fn fingerprint(&self) -> u64 {
        fingerprint(self.ctas.iter().flat_map(|cta| &cta.warps))
    }
}

/// Of all that warps can change without an effect: their places, registers and local memory.
pub(super) fn fingerprint<'a>(warps: impl Iterator<Item = &'a Warp>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for warp in warps {
        let Warp { groups, registers, local, .. } = warp;
        let mut groups: Vec<_> = groups.iter().collect();
        groups.sort_unstable_by_key(|group| group.lanes);
        groups.hash(&mut hasher);
        registers.hash(&mut hasher);
        local.hash(&mut hasher);
    }
    hasher.finish()
}
