//! What the lanes of a warp know. Lanes that know the same share it, until some of them wait for something.

use super::clock::{Channel, Clock, Epoch, Knowledge, Time};
use crate::isa::semantics::{Scope, Semantics};

/// Lanes that know the same.
#[derive(Clone, Debug)]
struct Class {
    lanes: u32,
    known: Knowledge,
    /// What was known at the last fences, by scope: relaxed accesses after them pass it on.
    fenced: Vec<(Scope, Knowledge)>,
    /// What relaxed accesses observed of the thread block, the cluster and others: a fence makes it known.
    observed: [Knowledge; 3],
    /// What was known at the last `fence.mbarrier_init`.
    inits: Option<Knowledge>,
    /// What was known at the last `tcgen05.fence::before_thread_sync`.
    before: Option<Knowledge>,
}

impl Class {
    /// What its own lanes do of what some lanes of the warp do.
    fn own(&self, epoch: Epoch) -> Epoch {
        Epoch { lanes: self.lanes & epoch.lanes, ..epoch }
    }

    /// What is known, and that.
    fn known_with(&self, epoch: Epoch) -> Knowledge {
        let mut all = self.known.clone();
        all.learn(&self.own(epoch));
        all
    }
}

/// A warp.
#[derive(Clone, Debug)]
pub struct WarpOrder {
    cluster: u32,
    /// The agent that its first lane is.
    first: u32,
    /// Goes on at whatever a lane passes on: what it does after that is later.
    time: Time,
    classes: Vec<Class>,
}

impl WarpOrder {
    /// A warp that knows nothing yet.
    pub fn new(cluster: u32, first: u32) -> Self {
        let class = Class {
            lanes: u32::MAX,
            known: Knowledge::default(),
            fenced: Vec::new(),
            observed: Default::default(),
            inits: None,
            before: None,
        };
        Self { cluster, first, time: 1, classes: vec![class] }
    }

    /// What these lanes do now.
    pub fn epoch(&self, lanes: u32) -> Epoch {
        Epoch { cluster: self.cluster, first: self.first, lanes, time: self.time }
    }

    /// Whether all of these lanes know an access.
    pub fn knows(&self, lanes: u32, channel: Channel, epoch: &Epoch, any: bool) -> bool {
        let own = epoch.cluster == self.cluster && epoch.first == self.first;
        self.classes.iter().filter(|class| class.lanes & lanes != 0).all(|class| {
            // A lane knows what it did itself.
            let alone =
                own && channel != Channel::Proxy && (class.lanes & lanes & !epoch.lanes == 0);
            alone || class.known.of(channel).knows(epoch, any)
        })
    }

    /// Makes classes of their own of these lanes.
    fn split(&mut self, lanes: u32) {
        for index in 0..self.classes.len() {
            let inside = self.classes[index].lanes & lanes;
            if inside != 0 && inside != self.classes[index].lanes {
                let mut other = self.classes[index].clone();
                other.lanes &= !lanes;
                self.classes[index].lanes = inside;
                self.classes.push(other);
            }
        }
    }

    fn each(&mut self, lanes: u32) -> impl Iterator<Item = &mut Class> {
        self.split(lanes);
        self.classes.iter_mut().filter(move |class| class.lanes & lanes != 0)
    }

    /// All that these lanes did and know.
    pub fn snapshot(&self, lanes: u32) -> Knowledge {
        let mut all = Knowledge::default();
        for class in self.classes.iter().filter(|class| class.lanes & lanes != 0) {
            all.join(&class.known);
        }
        all.learn(&self.epoch(lanes));
        all
    }

    /// What an operation knows that these lanes issue.
    pub fn issue(&mut self, lanes: u32) -> Knowledge {
        let known = self.snapshot(lanes);
        self.time += 1;
        known
    }

    /// What an arrival or a store of these lanes passes on, with the scope that it does so in.
    pub fn publish(
        &mut self,
        lanes: u32,
        semantics: Semantics,
        is_barrier: bool,
    ) -> Vec<(Scope, Knowledge)> {
        let all = self.snapshot(lanes);
        self.time += 1;
        if semantics.releases {
            return vec![(semantics.scope, all)];
        }
        let mut parts: Vec<(Scope, Knowledge)> = Vec::new();
        let mut relaxed = Knowledge::default();
        if is_barrier {
            relaxed.join_channel(Channel::Execution, &all);
        }
        for class in self.classes.iter().filter(|class| class.lanes & lanes != 0) {
            if let Some(inits) = &class.inits {
                relaxed.join_channel(Channel::Inits, inits);
            }
            if let Some(before) = &class.before {
                relaxed.join_channel(Channel::Tensor, before);
            }
            for (scope, fenced) in &class.fenced {
                parts.push((semantics.scope.min(*scope), fenced.clone()));
            }
        }
        parts.push((semantics.scope, relaxed));
        parts
    }

    /// These lanes observe what others passed on, from so far away, at a barrier or in memory.
    pub fn acquire(
        &mut self,
        lanes: u32,
        semantics: Semantics,
        from: &Knowledge,
        distance: Scope,
        is_barrier: bool,
    ) {
        for class in self.each(lanes) {
            if semantics.acquires && semantics.scope >= distance {
                class.known.join(from);
                continue;
            }
            if is_barrier {
                class.known.join_channel(Channel::Execution, from);
            }
            class.observed[distance as usize].join(from);
        }
    }

    /// `fence.acq_rel` and its like.
    pub fn fence(&mut self, lanes: u32, semantics: Semantics) {
        let epoch = self.epoch(lanes);
        for class in self.each(lanes) {
            if semantics.acquires {
                for observed in class.observed.iter().take(semantics.scope as usize + 1) {
                    class.known.join(observed);
                }
            }
            if semantics.releases {
                let all = class.known_with(epoch);
                class.fenced.retain(|(scope, _)| *scope != semantics.scope);
                class.fenced.push((semantics.scope, all));
            }
        }
        self.time += 1;
    }

    /// `fence.proxy.async`: what is known to be stored may be read by the async proxy.
    pub fn fence_proxy(&mut self, lanes: u32) {
        let epoch = self.epoch(lanes);
        for class in self.each(lanes) {
            let own = class.own(epoch);
            let stored = class.known.of(Channel::Memory).clone();
            let proxy = class.known.of_mut(Channel::Proxy);
            proxy.join(&stored);
            proxy.learn(&own);
        }
        self.time += 1;
    }

    /// `fence.mbarrier_init`
    pub fn fence_inits(&mut self, lanes: u32) {
        let epoch = self.epoch(lanes);
        for class in self.each(lanes) {
            class.inits = Some(class.known_with(epoch));
        }
        self.time += 1;
    }

    /// `tcgen05.fence`, before or after a barrier.
    pub fn fence_tensor(&mut self, lanes: u32, is_after: bool) {
        let epoch = self.epoch(lanes);
        for class in self.each(lanes) {
            if is_after {
                for observed in &class.observed {
                    class.known.join_channel(Channel::Tensor, observed);
                }
            } else {
                class.before = Some(class.known_with(epoch));
            }
        }
        self.time += 1;
    }

    /// Something is known from now on, because these lanes waited for it.
    pub fn learn(&mut self, lanes: u32, epoch: &Epoch) {
        for class in self.each(lanes) {
            class.known.learn(epoch);
        }
    }

    /// An instruction that lanes execute together (`.sync`), which orders no memory: only that all have come there.
    pub fn meet(&mut self, lanes: u32) {
        if lanes.is_power_of_two() {
            return;
        }
        let mut all = Clock::default();
        for class in self.classes.iter().filter(|class| class.lanes & lanes != 0) {
            all.join(class.known.of(Channel::Execution));
        }
        all.learn(&self.epoch(lanes));
        for class in self.each(lanes) {
            class.known.of_mut(Channel::Execution).join(&all);
        }
        self.time += 1;
    }

    /// `bar.warp.sync`: what one of the lanes knows, all know.
    pub fn gather(&mut self, lanes: u32) {
        let all = self.snapshot(lanes);
        self.split(lanes);
        let mut merged: Option<Class> = None;
        let (inside, outside): (Vec<Class>, Vec<Class>) =
            self.classes.drain(..).partition(|class| class.lanes & lanes != 0);
        for class in inside {
            let Some(merged) = &mut merged else {
                merged = Some(class);
                continue;
            };
            merged.lanes |= class.lanes;
            for (scope, fenced) in class.fenced {
                match merged.fenced.iter_mut().find(|(other, _)| *other == scope) {
                    Some((_, other)) => other.join(&fenced),
                    None => merged.fenced.push((scope, fenced)),
                }
            }
            for (ours, theirs) in merged.observed.iter_mut().zip(&class.observed) {
                ours.join(theirs);
            }
            join_some(&mut merged.inits, class.inits);
            join_some(&mut merged.before, class.before);
        }
        self.classes = outside;
        if let Some(mut merged) = merged {
            merged.known = all;
            self.classes.push(merged);
        }
        self.time += 1;
    }
}

fn join_some(ours: &mut Option<Knowledge>, theirs: Option<Knowledge>) {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => ours.join(&theirs),
        (ours @ None, theirs) => *ours = theirs,
        _ => {}
    }
}
