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
    /// `bar.red`: what came in this round, and the answer of the last.
    pub reduction: [u32; 2],
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
