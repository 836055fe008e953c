//! Barriers, mbarriers and strong accesses: where what one knows goes over to others.

use super::clock::{Channel, Knowledge};
use super::shadow::View;
use super::warp::WarpOrder;
use super::{Actor, GlobalOrder, Operation, Order, Phases, Release, Who, distance, global};
use crate::fault::Result;
use crate::isa::semantics::{Scope, Semantics};
use crate::machine::Launch;

impl Order {
    /// Lanes come to a named barrier; those that wait there come together.
    pub fn named_arrive(&mut self, who: Who, id: u8, waits: bool) {
        let index = self.index(who);
        if waits {
            self.warps[index].gather(who.lanes);
        }
        let all = self.warps[index].issue_all(who.lanes);
        self.named.entry((who.rank, id)).or_default().now.join(&all);
    }

    /// A round of a named barrier is complete.
    pub fn named_complete(&mut self, rank: u32, id: u8, round: u64) {
        self.named.entry((rank, id)).or_default().complete(round);
    }

    /// Lanes go on after a round of a named barrier.
    pub fn named_wait(&mut self, who: Who, id: u8, round: u64) {
        let index = self.index(who);
        let Some(known) = self.named.get(&(who.rank, id)).and_then(|barrier| barrier.of(round))
        else {
            return;
        };
        self.warps[index].acquire(who.lanes, ACQUIRE, known, Scope::Block, true);
    }

    /// A warp comes to the cluster's barrier.
    pub fn cluster_arrive(&mut self, who: Who, releases: bool) {
        let index = self.index(who);
        let semantics = Semantics { releases, ..ACQUIRE };
        for (scope, known) in self.warps[index].publish(who.lanes, semantics, true) {
            if scope >= Scope::Cluster {
                self.barrier.now.join(&known);
            }
        }
    }

    /// A round of the cluster's barrier is complete.
    pub fn cluster_complete(&mut self, round: u64) {
        self.barrier.complete(round);
    }

    /// A warp goes on after a round of the cluster's barrier.
    pub fn cluster_wait(&mut self, who: Who, round: u64) {
        let index = self.index(who);
        if let Some(known) = self.barrier.of(round) {
            self.warps[index].acquire(who.lanes, ACQUIRE, known, Scope::Block, true);
        }
    }

    /// `mbarrier.init`
    pub fn mbarrier_init(&mut self, who: Who, offset: u32) {
        let epoch = self.warps[self.index(who)].epoch(who.lanes);
        let init = Some((epoch, self.origin(who)));
        self.mbarriers.insert((who.rank, offset), Phases { init, ..Phases::default() });
    }

    /// Lanes use an mbarrier: it must be known to be initialized.
    fn check_init(&self, launch: &Launch, view: &dyn View, at: (u32, u32)) -> Result<()> {
        let init = self.mbarriers.get(&at).and_then(|phases| phases.init);
        let Some((epoch, origin)) = init.filter(|_| self.checks.mbarrier_init) else {
            return Ok(());
        };
        let known = [Channel::Memory, Channel::Inits];
        if known.iter().any(|channel| view.knows(*channel, &epoch, false)) {
            return Ok(());
        }
        self.report(launch).init(&epoch, &origin, at)
    }

    /// Lanes arrive at an mbarrier.
    pub fn arrive(
        &mut self,
        launch: &Launch,
        who: Who,
        at: (u32, u32),
        semantics: Semantics,
    ) -> Result<()> {
        self.check_init(launch, &self.view(who), at)?;
        let index = self.index(who);
        let remote = at.0 != who.rank;
        let distance = if remote { Scope::Cluster } else { Scope::Block };
        let parts = self.warps[index].publish(who.lanes, semantics, true);
        let phases = self.mbarriers.entry(at).or_default();
        for (scope, known) in parts {
            let now = &mut phases.now[usize::from(remote)];
            if scope >= distance {
                now.join(&known);
            } else {
                now.join_channel(Channel::Execution, &known);
            }
        }
        Ok(())
    }

    /// An operation arrives at an mbarrier, or counts its bytes there.
    pub fn signal(&mut self, launch: &Launch, actor: &Actor, at: (u32, u32)) -> Result<()> {
        let rank = actor.origin.warp / self.width;
        self.check_init(launch, &Operation { actor, rank, width: self.width }, at)?;
        let phases = self.mbarriers.entry(at).or_default();
        let now = &mut phases.now[usize::from(rank != at.0)];
        now.join(&actor.known);
        now.learn(&actor.second());
        Ok(())
    }

    /// The arrival of a commit at an mbarrier.
    pub fn signal_commit(&mut self, launch: &Launch, actor: &Actor, at: (u32, u32)) -> Result<()> {
        let rank = actor.origin.warp / self.width;
        self.check_init(launch, &Operation { actor, rank, width: self.width }, at)?;
        self.mbarriers.entry(at).or_default().now[usize::from(rank != at.0)].join(&actor.known);
        Ok(())
    }

    /// A phase of an mbarrier is complete.
    pub fn phase_complete(&mut self, at: (u32, u32)) {
        let phases = self.mbarriers.entry(at).or_default();
        for (done, now) in phases.done.iter_mut().zip(&mut phases.now) {
            done.join(&std::mem::take(now));
        }
    }

    /// Lanes found a phase of an mbarrier complete.
    pub fn wait(
        &mut self,
        launch: &Launch,
        who: Who,
        offset: u32,
        complete: bool,
        semantics: Semantics,
    ) -> Result<()> {
        let at = (who.rank, offset);
        self.check_init(launch, &self.view(who), at)?;
        let index = self.index(who);
        let Some(phases) = self.mbarriers.get(&at).filter(|_| complete) else { return Ok(()) };
        let [own, others] = &phases.done;
        self.warps[index].acquire(who.lanes, semantics, own, Scope::Block, true);
        self.warps[index].acquire(who.lanes, semantics, others, Scope::Cluster, true);
        Ok(())
    }

    /// Lanes access a place of shared memory strongly, and pass on what they know.
    pub fn pass_on(&mut self, who: Who, at: (u32, u32), semantics: Semantics) {
        let index = self.index(who);
        let parts = self.warps[index].publish(who.lanes, semantics, false);
        let (cluster, rank) = (self.cluster, who.rank);
        let place = self.places.entry(at).or_default();
        global::add(place, parts, cluster, rank);
    }

    /// Lanes have read a place of shared memory strongly.
    pub fn observe(&mut self, who: Who, at: (u32, u32), semantics: Semantics) {
        let index = self.index(who);
        for release in self.places.get(&at).into_iter().flatten() {
            self.warps[index].observe(who, (self.cluster, who.rank), release, semantics);
        }
    }

    /// The same of global memory.
    pub fn pass_on_global(
        &mut self,
        global: &GlobalOrder,
        who: Who,
        address: u64,
        semantics: Semantics,
    ) {
        let index = self.index(who);
        let parts = self.warps[index].publish(who.lanes, semantics, false);
        global.pass_on(address, parts, self.cluster, who.rank);
    }

    /// Lanes have read a place of global memory strongly.
    pub fn observe_global(
        &mut self,
        global: &GlobalOrder,
        who: Who,
        address: u64,
        semantics: Semantics,
    ) {
        let index = self.index(who);
        for release in global.observe(address) {
            self.warps[index].observe(who, (self.cluster, who.rank), &release, semantics);
        }
    }
}

/// Of barriers that have no words for it.
const ACQUIRE: Semantics =
    Semantics { is_strong: true, acquires: true, releases: true, scope: Scope::Cluster };

impl WarpOrder {
    /// A barrier: all that these lanes know and did.
    fn issue_all(&mut self, lanes: u32) -> Knowledge {
        let parts = self.publish(lanes, ACQUIRE, true);
        parts.into_iter().map(|(_, known)| known).next().unwrap_or_default()
    }

    /// What a strong access passed on is observed, if its scope reaches here.
    fn observe(&mut self, who: Who, here: (u32, u32), release: &Release, semantics: Semantics) {
        let distance = distance(here, (release.cluster, release.rank));
        if release.scope >= distance {
            self.acquire(who.lanes, semantics, &release.known, distance, false);
        }
    }
}
