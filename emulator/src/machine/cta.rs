//! A thread block (CTA).

use std::collections::BTreeMap;

use crate::machine::mbarrier::MBarrier;
use crate::machine::shared::SharedMemory;
use crate::machine::tmem::TensorMemory;
use crate::machine::warp::Warp;

/// `bar.sync` and `bar.arrive` with an id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedBarrier {
    /// Threads that have to come in this round; 0 when nobody has come.
    pub expected: u32,
    /// Threads that came.
    pub arrived: u32,
    /// Complete rounds.
    pub round: u64,
    /// The program gave the count; without one, warps that exit are not waited for.
    pub counted: bool,
    /// `bar.red` in this round: predicates that are true, and all.
    pub reduction: [u32; 2],
    /// `bar.red.popc` of the last round.
    pub count: u32,
    /// `bar.red.and` and `bar.red.or` of the last round.
    pub answer: [u32; 2],
}

impl NamedBarrier {
    /// Ends the round.
    pub fn complete(&mut self) {
        let [hits, all] = self.reduction;
        self.count = hits;
        self.answer = [u32::from(hits == all), u32::from(hits > 0)];
        self.reduction = [0, 0];
        self.arrived = 0;
        self.round += 1;
    }
}

/// One thread block.
#[derive(Debug)]
pub struct Cta {
    /// %cluster_ctarank
    pub rank: u32,
    /// %ctaid
    pub id: [u32; 3],
    /// %smid
    pub smid: u32,
    /// Bytes.
    pub shared: SharedMemory,
    /// mbarrier objects by offset.
    pub mbarriers: BTreeMap<u32, MBarrier>,
    /// The 16 named barriers.
    pub named: [NamedBarrier; 16],
    /// Empty until the first allocation.
    pub tmem: TensorMemory,
    /// All warps.
    pub warps: Vec<Warp>,
    /// Meeting points of warpgroups (wgmma, setmaxnreg): warps that came, and complete rounds.
    pub warpgroups: Vec<(u32, u64)>,
    /// All lanes have exited.
    pub finished: bool,
}
