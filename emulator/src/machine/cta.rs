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
    /// Cells and allocations.
    pub tmem: TensorMemory,
    /// All warps.
    pub warps: Vec<Warp>,
    /// All lanes have exited.
    pub finished: bool,
    /// `griddepcontrol.launch_dependents` was executed.
    pub launched_dependents: bool,
}

impl Cta {
    /// Whether at most `allowed` of the wgmma groups that a warp committed are left. An instruction is one of the whole
    /// warpgroup: it is complete when it is for all four warps, and one of them may give its operands back then.
    pub fn wgmma_is_over(&self, warp: u32, allowed: u32) -> bool {
        let first = warp as usize / 4 * 4;
        let group = self.warps.iter().skip(first).take(4);
        let Some(this) = self.warps.get(warp as usize) else { return true };
        let needed = this.wgmma.all().saturating_sub(u64::from(allowed));
        group.into_iter().all(|other| other.wgmma.complete() >= needed)
    }
}
