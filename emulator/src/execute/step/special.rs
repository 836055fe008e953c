//! Special registers (PTX ISA, "Special Registers").

use super::Step;
use crate::isa::address::SHARED_RESERVED;
use crate::isa::value::LANES;
use crate::ptx::Special;

/// Place in a box by number, x fastest.
fn coordinate(number: u32, extents: [u32; 3], axis: u8) -> u32 {
    let [x, y, _] = extents.map(|extent| extent.max(1));
    match axis {
        0 => number % x,
        1 => number / x % y,
        2 => number / x / y,
        _ => 0,
    }
}

fn of(axes: [u32; 3], axis: u8, otherwise: u32) -> u32 {
    axes.get(usize::from(axis)).copied().unwrap_or(otherwise)
}

impl Step<'_> {
    /// A special register in a lane. Clocks count the instructions of the warp.
    pub(super) fn special(&self, special: Special, lane: usize) -> u64 {
        let launch = self.launch;
        let cta = &self.cluster.ctas[self.rank as usize];
        let executed = self.warp_ref().executed;
        let (bit, cluster) = (1_u32 << lane, launch.cluster.map(|extent| extent.max(1)));
        let threads = launch.threads();
        u64::from(match special {
            Special::Tid(axis) => {
                coordinate(self.warp * LANES as u32 + lane as u32, launch.block, axis)
            }
            Special::Ntid(axis) => of(launch.block, axis, 0),
            Special::Ctaid(axis) => of(cta.id, axis, 0),
            Special::Nctaid(axis) => of(launch.grid, axis, 0),
            Special::Clusterid(axis) => of(cta.id, axis, 0) / of(cluster, axis, 1),
            Special::Nclusterid(axis) => of(launch.grid, axis, 0) / of(cluster, axis, 1),
            Special::ClusterCtaid(axis) => of(cta.id, axis, 0) % of(cluster, axis, 1),
            Special::ClusterNctaid(axis) => of(cluster, axis, 0),
            Special::ClusterCtarank => self.rank,
            Special::ClusterNctarank => launch.cluster_size(),
            Special::IsExplicitCluster => u32::from(launch.cluster_size() > 1),
            Special::Laneid => lane as u32,
            Special::Warpid => self.warp,
            Special::Nwarpid => threads.div_ceil(LANES as u32),
            Special::Smid => cta.smid,
            Special::Nsmid => self.machine.settings.sms,
            Special::Gridid => 1,
            Special::Envreg(1) => (self.cluster.grid.workspace >> 32) as u32,
            Special::Envreg(_) => self.cluster.grid.workspace as u32,
            Special::LanemaskEq => bit,
            Special::LanemaskLe => bit | (bit - 1),
            Special::LanemaskLt => bit - 1,
            Special::LanemaskGe => !(bit - 1),
            Special::LanemaskGt => !(bit | (bit - 1)),
            Special::Clock => executed as u32,
            Special::Clock64 | Special::Globaltimer => return executed,
            Special::DynamicSmemSize => launch.dynamic_shared,
            Special::TotalSmemSize => cta.shared.end() - SHARED_RESERVED,
            Special::AggrSmemSize => cta.shared.end(),
        })
    }
}
