//! Vector clocks: what a thread, or an operation under way, knows to have happened before it.

use std::sync::Arc;

/// Of an agent: a lane of the cluster, or a place for operations under way. It begins with 1.
pub type Time = u32;

/// Accesses of some lanes of a warp, or of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Number of the cluster in the grid.
    pub cluster: u32,
    /// First lane of the warp, or the place of the operation.
    pub first: u32,
    /// Which lanes; bit 0 for an operation.
    pub lanes: u32,
    /// When.
    pub time: Time,
}

impl Epoch {
    /// The second of the two parts of an operation, which first reads and then writes.
    pub fn second(self) -> Self {
        Self { time: self.time + 1, ..self }
    }
}

/// For each agent, the last time that is known. Equal parts of clocks are shared.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// By cluster, ascending.
    parts: Vec<(u32, Arc<Vec<Time>>)>,
}

impl Clock {
    fn part(&self, cluster: u32) -> Option<&[Time]> {
        // Mostly there is one.
        let found = self.parts.iter().find(|(other, _)| *other == cluster);
        found.map(|(_, times)| times.as_slice())
    }

    fn part_mut(&mut self, cluster: u32) -> &mut Vec<Time> {
        let place = match self.parts.binary_search_by_key(&cluster, |(other, _)| *other) {
            Ok(place) => place,
            Err(place) => {
                self.parts.insert(place, (cluster, Arc::default()));
                place
            }
        };
        Arc::make_mut(&mut self.parts[place].1)
    }

    /// Whether accesses are known: of all lanes, or of at least one.
    pub fn knows(&self, epoch: &Epoch, any: bool) -> bool {
        let Some(times) = self.part(epoch.cluster) else { return false };
        let known = |lane: u32| {
            times.get((epoch.first + lane) as usize).is_some_and(|time| *time >= epoch.time)
        };
        let mut left = epoch.lanes;
        while left != 0 {
            if known(left.trailing_zeros()) == any {
                return any;
            }
            left &= left - 1;
        }
        !any
    }

    /// The accesses are known from now on.
    pub fn learn(&mut self, epoch: &Epoch) {
        let times = self.part_mut(epoch.cluster);
        let lanes = 32 - epoch.lanes.leading_zeros();
        let end = (epoch.first + lanes) as usize;
        if times.len() < end {
            times.resize(end, 0);
        }
        for lane in (0..lanes).filter(|lane| epoch.lanes >> lane & 1 != 0) {
            let time = &mut times[(epoch.first + lane) as usize];
            *time = (*time).max(epoch.time);
        }
    }

    /// What the other knows is known from now on.
    pub fn join(&mut self, other: &Self) {
        for (cluster, theirs) in &other.parts {
            let place = self.parts.binary_search_by_key(cluster, |(other, _)| *other);
            let place = match place {
                Ok(place) => place,
                Err(place) => {
                    self.parts.insert(place, (*cluster, Arc::clone(theirs)));
                    continue;
                }
            };
            let ours = &mut self.parts[place].1;
            if Arc::ptr_eq(ours, theirs) || covers(ours, theirs) {
                continue;
            }
            if covers(theirs, ours) {
                *ours = Arc::clone(theirs);
                continue;
            }
            let ours = Arc::make_mut(ours);
            if ours.len() < theirs.len() {
                ours.resize(theirs.len(), 0);
            }
            for (ours, theirs) in ours.iter_mut().zip(theirs.iter()) {
                *ours = (*ours).max(*theirs);
            }
        }
    }
}

fn covers(large: &[Time], small: &[Time]) -> bool {
    small.len() <= large.len() && small.iter().zip(large).all(|(small, large)| small <= large)
}

/// What it takes for one access to be before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Causality order: releases that were acquired.
    Memory,
    /// Barriers, even relaxed ones: that a thread came there after it read.
    Execution,
    /// A `fence.proxy.async` on the way, after a store.
    Proxy,
    /// A `fence.mbarrier_init` on the way, after `mbarrier.init`.
    Inits,
    /// For operations on tensor memory: causality order, or `tcgen05.fence` on both sides of a relaxed barrier.
    Tensor,
}

/// How many channels there are.
const CHANNELS: usize = 5;

/// What is known through each channel.
#[derive(Clone, Debug, Default)]
pub struct Knowledge([Clock; CHANNELS]);

impl Knowledge {
    /// Of one channel.
    pub fn of(&self, channel: Channel) -> &Clock {
        &self.0[channel as usize]
    }

    /// Of one channel, to change.
    pub fn of_mut(&mut self, channel: Channel) -> &mut Clock {
        &mut self.0[channel as usize]
    }

    /// Nothing at all.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|clock| clock.parts.is_empty())
    }

    /// All that the other knows.
    pub fn join(&mut self, other: &Self) {
        for (ours, theirs) in self.0.iter_mut().zip(&other.0) {
            ours.join(theirs);
        }
    }

    /// What the other knows through one channel.
    pub fn join_channel(&mut self, channel: Channel, other: &Self) {
        self.of_mut(channel).join(other.of(channel));
    }

    /// The accesses are before all that follows, but for fences that they need.
    pub fn learn(&mut self, epoch: &Epoch) {
        for channel in [Channel::Memory, Channel::Execution, Channel::Inits, Channel::Tensor] {
            self.of_mut(channel).learn(epoch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_know_what_they_learned_and_what_they_joined() {
        let epoch = |first, lanes, time| Epoch { cluster: 3, first, lanes, time };
        let (mut one, mut other) = (Clock::default(), Clock::default());
        one.learn(&epoch(32, 0b101, 7));
        assert!(one.knows(&epoch(32, 0b101, 7), false) && one.knows(&epoch(32, 1, 6), false));
        assert!(!one.knows(&epoch(32, 0b101, 8), false) && !one.knows(&epoch(32, 0b111, 7), false));
        assert!(one.knows(&epoch(32, 0b110, 7), true) && !one.knows(&epoch(32, 0b010, 7), true));
        other.learn(&epoch(64, 1, 2));
        other.learn(&Epoch { cluster: 1, ..epoch(0, 1, 9) });
        one.join(&other);
        assert!(one.knows(&epoch(64, 1, 2), false) && one.knows(&epoch(34, 1, 7), false));
        assert!(one.knows(&Epoch { cluster: 1, ..epoch(0, 1, 9) }, false));
        assert!(!other.knows(&epoch(32, 1, 1), false));
    }
}
