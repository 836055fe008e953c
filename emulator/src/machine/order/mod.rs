//! What is before what: vector clocks of threads and of operations under way, and who touched which memory.
//!
//! Only there when one of its checks is on. A cluster has an [`Order`] for its threads and its shared and tensor memory;
//! a launch has a [`GlobalOrder`] for global memory, which clusters on several threads of the host share.

mod barriers;
mod clock;
mod global;
mod groups;
mod report;
mod shadow;
mod tensor;
mod warp;

use std::collections::{BTreeMap, VecDeque};

pub use global::GlobalOrder;
pub use shadow::Kind;

use crate::fault::Result;
use crate::isa::semantics::{Fence, Scope};
use crate::machine::Launch;
use crate::machine::tmem::Region;
use crate::settings::Checks;
use clock::{Channel, Epoch, Knowledge};
use groups::Groups;
use report::{Memory, Report};
use shadow::{Access, Origin, Shadow, View};
use tensor::TensorShadow;
use warp::WarpOrder;

/// Rounds of a named barrier that are kept for those that wake late.
const ROUNDS: usize = 4;
/// Lanes of a warp.
const LANES: u32 = 32;

/// Some lanes of a warp at an instruction.
#[derive(Clone, Copy, Debug)]
pub struct Who {
    /// Thread block.
    pub rank: u32,
    /// Warp of it.
    pub warp: u32,
    /// Which lanes.
    pub lanes: u32,
    /// The instruction.
    pub pc: u32,
    /// How many the warp had executed before it.
    pub executed: u32,
}

impl Who {
    /// The same instruction, one lane.
    pub fn lane(self, lane: usize) -> Self {
        Self { lanes: 1 << lane, ..self }
    }
}

/// An operation under way.
#[derive(Clone, Debug)]
pub struct Actor {
    epoch: Epoch,
    known: Knowledge,
    origin: Origin,
}

impl Actor {
    /// The part of it that comes after its first.
    fn second(&self) -> Epoch {
        self.epoch.second()
    }
}

/// By which an operation is known to be complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issue {
    /// A wait of the warp; what it touches is told where it is issued.
    Told,
    /// An mbarrier, or nothing.
    Alone,
    /// Bulk groups of the lane.
    Bulk,
    /// Groups of `cp.async` of the lanes.
    Copies,
    /// An mbarrier, after all `cp.async` of the lanes.
    AfterCopies,
    /// A `tcgen05.commit` of the lane: its operations stand in a line.
    Tensor,
    /// That commit itself.
    Commit,
    /// Groups of wgmma of the warp.
    Wgmma,
}

/// What has come together at a barrier.
#[derive(Clone, Debug, Default)]
struct Gathered {
    now: Knowledge,
    /// Of complete rounds.
    done: VecDeque<(u64, Knowledge)>,
}

impl Gathered {
    fn complete(&mut self, round: u64) {
        self.done.push_back((round, std::mem::take(&mut self.now)));
        if self.done.len() > ROUNDS {
            self.done.pop_front();
        }
    }

    fn of(&self, round: u64) -> Option<&Knowledge> {
        self.done.iter().find(|(other, _)| *other == round).map(|(_, known)| known)
    }
}

/// What has come together at an mbarrier: from the own thread block, and from others.
#[derive(Clone, Debug, Default)]
struct Phases {
    /// Who initialized it.
    init: Option<(Epoch, Origin)>,
    now: [Knowledge; 2],
    done: [Knowledge; 2],
}

/// What strong accesses to a place passed on.
#[derive(Clone, Debug)]
struct Release {
    known: Knowledge,
    scope: Scope,
    cluster: u32,
    rank: u32,
}

/// Of one cluster.
#[derive(Debug)]
pub struct Order {
    cluster: u32,
    checks: Checks,
    /// Warps of a thread block.
    width: u32,
    warps: Vec<WarpOrder>,
    /// By warp and lane.
    bulk: Vec<Groups>,
    copies: Vec<Groups>,
    /// By warp: the last operation of each committed group.
    wgmma: Vec<Vec<Epoch>>,
    /// Last time of each place for operations under way.
    slots: Vec<u32>,
    /// Places of lines: of wgmma by warp, and of the tensor cores by lane.
    lines: BTreeMap<(bool, u32), u32>,
    shared: Vec<Shadow>,
    tensor: Vec<TensorShadow>,
    mbarriers: BTreeMap<(u32, u32), Phases>,
    named: BTreeMap<(u32, u8), Gathered>,
    barrier: Gathered,
    places: BTreeMap<(u32, u32), Vec<Release>>,
}

/// A warp's lanes as the ones who know.
struct Lanes<'a> {
    order: &'a WarpOrder,
    lanes: u32,
    cluster: u32,
    rank: u32,
    width: u32,
}

impl View for Lanes<'_> {
    fn knows(&self, channel: Channel, epoch: &Epoch, any: bool) -> bool {
        self.order.knows(self.lanes, channel, epoch, any)
    }

    fn reaches(&self, scope: Scope, epoch: &Epoch, origin: &Origin) -> bool {
        scope >= distance((self.cluster, self.rank), (epoch.cluster, origin.warp / self.width))
    }
}

/// An operation as the one who knows.
struct Operation<'a> {
    actor: &'a Actor,
    rank: u32,
    width: u32,
}

impl View for Operation<'_> {
    fn knows(&self, channel: Channel, epoch: &Epoch, any: bool) -> bool {
        let own = &self.actor.epoch;
        let same = own.cluster == epoch.cluster && own.first == epoch.first;
        same || self.actor.known.of(channel).knows(epoch, any)
    }

    fn reaches(&self, scope: Scope, epoch: &Epoch, origin: &Origin) -> bool {
        let here = (self.actor.epoch.cluster, self.rank);
        scope >= distance(here, (epoch.cluster, origin.warp / self.width))
    }
}

/// How far two thread blocks, each a cluster and a rank, are from each other.
fn distance(one: (u32, u32), other: (u32, u32)) -> Scope {
    if one == other {
        Scope::Block
    } else if one.0 == other.0 {
        Scope::Cluster
    } else {
        Scope::Device
    }
}

impl Order {
    /// Of a cluster that is about to start; nothing when no check needs it.
    pub fn new(launch: &Launch, checks: Checks, cluster: u64) -> Option<Box<Self>> {
        if !checks.need_order() {
            return None;
        }
        let cluster = cluster as u32;
        let (size, width) = (launch.cluster_size(), launch.threads().div_ceil(LANES));
        let warps = size * width;
        Some(Box::new(Self {
            cluster,
            checks,
            width,
            warps: (0..warps).map(|warp| WarpOrder::new(cluster, warp * LANES)).collect(),
            bulk: vec![Groups::default(); (warps * LANES) as usize],
            copies: vec![Groups::default(); (warps * LANES) as usize],
            wgmma: vec![Vec::new(); warps as usize],
            slots: Vec::new(),
            lines: BTreeMap::new(),
            shared: (0..size).map(|_| Shadow::default()).collect(),
            tensor: (0..size).map(|_| TensorShadow::default()).collect(),
            mbarriers: BTreeMap::new(),
            named: BTreeMap::new(),
            barrier: Gathered::default(),
            places: BTreeMap::new(),
        }))
    }

    fn index(&self, who: Who) -> usize {
        (who.rank * self.width + who.warp) as usize
    }

    fn origin(&self, who: Who) -> Origin {
        let Who { pc, lanes, executed, .. } = who;
        Origin { pc, warp: who.rank * self.width + who.warp, lanes, executed }
    }

    fn view(&self, who: Who) -> Lanes<'_> {
        Lanes {
            order: &self.warps[self.index(who)],
            lanes: who.lanes,
            cluster: self.cluster,
            rank: who.rank,
            width: self.width,
        }
    }

    fn report<'a>(&self, launch: &'a Launch) -> Report<'a> {
        Report { launch, width: self.width }
    }

    /// An access of lanes to the same bytes of shared memory.
    pub fn shared(
        &mut self,
        launch: &Launch,
        who: Who,
        at: (u32, u32),
        bytes: u32,
        kind: Kind,
    ) -> Result<()> {
        let Some(mut shadow) = self.shared.get_mut(at.0 as usize).map(std::mem::take) else {
            return Ok(());
        };
        let epoch = self.warps[self.index(who)].epoch(who.lanes);
        let access = Access { epoch, origin: self.origin(who), kind };
        let (address, bytes) = (u64::from(at.1), u64::from(bytes));
        let found = shadow.access(address, bytes, access, &self.view(who), self.checks);
        self.shared[at.0 as usize] = shadow;
        let memory = Memory::Shared(at.0, at.1);
        self.report(launch).result(found, kind, memory)
    }

    /// An access of an operation to shared memory.
    pub fn shared_async(
        &mut self,
        launch: &Launch,
        actor: &Actor,
        at: (u32, u32),
        bytes: u32,
        kind: Kind,
    ) -> Result<()> {
        let rank = actor.origin.warp / self.width;
        let view = Operation { actor, rank, width: self.width };
        let access = Access { epoch: actor.epoch, origin: actor.origin, kind };
        let Some(shadow) = self.shared.get_mut(at.0 as usize) else { return Ok(()) };
        let found = shadow.access(u64::from(at.1), u64::from(bytes), access, &view, self.checks);
        self.report(launch).result(found, kind, Memory::Shared(at.0, at.1))
    }

    /// An access of lanes to the same bytes of global memory.
    pub fn global(
        &self,
        launch: &Launch,
        global: &GlobalOrder,
        who: Who,
        address: u64,
        bytes: u64,
        kind: Kind,
    ) -> Result<()> {
        let epoch = self.warps[self.index(who)].epoch(who.lanes);
        let access = Access { epoch, origin: self.origin(who), kind };
        let found = global.access(address, bytes, access, &self.view(who), self.checks);
        self.report(launch).result(found, kind, Memory::Global(address))
    }

    /// An access of an operation to global memory; a store's is its second part.
    pub fn global_async(
        &self,
        launch: &Launch,
        global: &GlobalOrder,
        actor: &Actor,
        address: u64,
        bytes: u64,
        kind: Kind,
    ) -> Result<()> {
        let rank = actor.origin.warp / self.width;
        let view = Operation { actor, rank, width: self.width };
        let epoch = if kind.writes { actor.second() } else { actor.epoch };
        let access = Access { epoch, origin: actor.origin, kind };
        let found = global.access(address, bytes, access, &view, self.checks);
        self.report(launch).result(found, kind, Memory::Global(address))
    }

    /// An access of a warp to tensor memory.
    pub fn tensor(
        &mut self,
        launch: &Launch,
        who: Who,
        rank: u32,
        region: Region,
        writes: bool,
    ) -> Result<()> {
        if !self.checks.tensor_fence {
            return Ok(());
        }
        let epoch = self.warps[self.index(who)].epoch(who.lanes);
        let kind = Kind { writes, strong: None, is_async: false, is_collective: true };
        let access = Access { epoch, origin: self.origin(who), kind };
        let Some(mut shadow) = self.tensor.get_mut(rank as usize).map(std::mem::take) else {
            return Ok(());
        };
        let found = shadow.access(region, access, &self.view(who));
        self.tensor[rank as usize] = shadow;
        self.report(launch).tensor(found, kind, rank, region)
    }

    /// An access of an operation to tensor memory.
    pub fn tensor_async(
        &mut self,
        launch: &Launch,
        actor: &Actor,
        rank: u32,
        region: Region,
        writes: bool,
    ) -> Result<()> {
        if !self.checks.tensor_fence {
            return Ok(());
        }
        let kind = Kind { writes, strong: None, is_async: true, is_collective: true };
        let view = Operation { actor, rank: actor.origin.warp / self.width, width: self.width };
        let access = Access { epoch: actor.epoch, origin: actor.origin, kind };
        let Some(shadow) = self.tensor.get_mut(rank as usize) else { return Ok(()) };
        let found = shadow.access(region, access, &view);
        self.report(launch).tensor(found, kind, rank, region)
    }

    /// Columns were given back: what follows is the next owner's.
    pub fn forget_tensor(&mut self, rank: u32, region: Region) {
        if let Some(shadow) = self.tensor.get_mut(rank as usize) {
            shadow.forget(region);
        }
    }

    /// An operation is issued.
    pub fn issue(&mut self, who: Who, how: Issue) -> Option<Actor> {
        if how == Issue::Told {
            return None;
        }
        let (index, origin) = (self.index(who), self.origin(who));
        let lane = who.lanes.trailing_zeros().min(LANES - 1);
        let together = matches!(how, Issue::Wgmma | Issue::Copies | Issue::AfterCopies);
        let mut known = self.warps[index].issue(if together { who.lanes } else { 1 << lane });
        let agent = (index as u32) * LANES;
        let base = self.warps.len() as u32 * LANES;
        let slot = match how {
            Issue::Tensor | Issue::Commit => self.line(false, agent + lane),
            Issue::Wgmma => self.line(true, agent),
            Issue::Told | Issue::Alone | Issue::Bulk | Issue::Copies | Issue::AfterCopies => {
                self.free_slot(&known)
            }
        };
        let last = &mut self.slots[slot as usize];
        let time = match how {
            Issue::Commit => *last,
            Issue::Tensor | Issue::Wgmma => {
                *last += 1;
                *last
            }
            // Two parts.
            Issue::Told | Issue::Alone | Issue::Bulk | Issue::Copies | Issue::AfterCopies => {
                *last += 2;
                *last - 1
            }
        };
        let epoch = Epoch { cluster: self.cluster, first: base + slot, lanes: 1, time };
        if how == Issue::Commit && time > 0 {
            known.learn(&epoch);
        }
        for lane in (0..LANES).filter(|lane| who.lanes >> lane & 1 != 0) {
            match how {
                Issue::Bulk => self.bulk[(agent + lane) as usize].issue(epoch),
                Issue::Copies => self.copies[(agent + lane) as usize].issue(epoch),
                Issue::AfterCopies => {
                    for epoch in self.copies[(agent + lane) as usize].all() {
                        known.learn(&epoch);
                    }
                }
                _ => {}
            }
        }
        Some(Actor { epoch, known, origin })
    }

    fn line(&mut self, is_wgmma: bool, agent: u32) -> u32 {
        let slots = &mut self.slots;
        *self.lines.entry((is_wgmma, agent)).or_insert_with(|| {
            slots.push(0);
            slots.len() as u32 - 1
        })
    }

    /// A place whose last operation is known to be over.
    fn free_slot(&mut self, known: &Knowledge) -> u32 {
        let base = self.warps.len() as u32 * LANES;
        let found = (0..self.slots.len() as u32).find(|slot| {
            let last = self.slots[*slot as usize];
            // Of a store it may be known only that it has read.
            let time = last.saturating_sub(1);
            let epoch = Epoch { cluster: self.cluster, first: base + slot, lanes: 1, time };
            known.of(Channel::Memory).knows(&epoch, false)
                && !self.lines.values().any(|line| line == slot)
        });
        found.unwrap_or_else(|| {
            self.slots.push(0);
            self.slots.len() as u32 - 1
        })
    }

    /// `commit_group` of lanes: of bulk stores, or of `cp.async`.
    pub fn commit_group(&mut self, who: Who, is_bulk: bool) {
        let agent = self.index(who) as u32 * LANES;
        let groups = if is_bulk { &mut self.bulk } else { &mut self.copies };
        for lane in (0..LANES).filter(|lane| who.lanes >> lane & 1 != 0) {
            groups[(agent + lane) as usize].commit();
        }
    }

    /// `wait_group` of lanes is over.
    pub fn wait_group(&mut self, who: Who, is_bulk: bool, allowed: u32, read: bool) {
        let index = self.index(who);
        let agent = index as u32 * LANES;
        for lane in (0..LANES).filter(|lane| who.lanes >> lane & 1 != 0) {
            let groups = if is_bulk { &mut self.bulk } else { &mut self.copies };
            for epoch in groups[(agent + lane) as usize].wait(allowed, read) {
                self.warps[index].learn(1 << lane, &epoch);
            }
        }
    }

    /// `wgmma.commit_group` of a warp.
    pub fn commit_wgmma(&mut self, who: Who) {
        let index = self.index(who);
        let slot = self.line(true, index as u32 * LANES);
        let first = self.warps.len() as u32 * LANES + slot;
        let time = self.slots[slot as usize];
        self.wgmma[index].push(Epoch { cluster: self.cluster, first, lanes: 1, time });
    }

    /// `wgmma.wait_group` of a warp is over: the groups are complete for all four warps.
    pub fn wait_wgmma(&mut self, who: Who, allowed: u32) {
        let index = self.index(who);
        let over = self.wgmma[index].len().saturating_sub(allowed as usize);
        let first = who.rank * self.width + who.warp / 4 * 4;
        let end = (first + 4).min((who.rank + 1) * self.width);
        for other in first..end {
            let groups = &self.wgmma[other as usize];
            let last = over.min(groups.len()).checked_sub(1).and_then(|last| groups.get(last));
            if let Some(epoch) = last.copied().filter(|epoch| epoch.time > 0) {
                self.warps[index].learn(who.lanes, &epoch);
            }
        }
    }

    /// A fence of lanes.
    pub fn fence(&mut self, who: Who, fence: Fence) {
        let index = self.index(who);
        let warp = &mut self.warps[index];
        match fence {
            Fence::Memory(semantics) => warp.fence(who.lanes, semantics),
            Fence::Inits => warp.fence_inits(who.lanes),
            Fence::BeforeSync => warp.fence_tensor(who.lanes, false),
            Fence::AfterSync => warp.fence_tensor(who.lanes, true),
        }
    }

    /// `fence.proxy.async` of lanes.
    pub fn fence_proxy(&mut self, who: Who) {
        let index = self.index(who);
        self.warps[index].fence_proxy(who.lanes);
    }

    /// Lanes execute an instruction together that orders no memory.
    pub fn meet(&mut self, who: Who) {
        let index = self.index(who);
        self.warps[index].meet(who.lanes);
    }

    /// `bar.warp.sync`
    pub fn gather(&mut self, who: Who) {
        let index = self.index(who);
        self.warps[index].gather(who.lanes);
    }
}
