//! Words for what is missing between two accesses.

use super::clock::Epoch;
use super::shadow::{Access, Kind, Origin, Record, Rule};
use crate::fault::{Fault, FaultKind, Result};
use crate::machine::Launch;
use crate::machine::cluster::coordinates;
use crate::machine::tmem::Region;

/// Where an access went.
#[derive(Clone, Copy, Debug)]
pub enum Memory {
    /// Rank and offset.
    Shared(u32, u32),
    /// Address.
    Global(u64),
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shared(rank, offset) => write!(f, "shared memory at {rank}:{offset:#x}"),
            Self::Global(address) => write!(f, "global memory at {address:#x}"),
        }
    }
}

/// What names of places come from.
pub struct Report<'a> {
    pub(super) launch: &'a Launch,
    /// Warps of a thread block.
    pub(super) width: u32,
}

fn words(kind: Kind) -> String {
    let how = match (kind.is_async, kind.strong) {
        (true, _) => "asynchronous ",
        (_, Some(_)) => "strong ",
        _ => "",
    };
    format!("{how}{}", if kind.writes { "write" } else { "read" })
}

impl Report<'_> {
    /// Who did something, and where.
    fn place(&self, epoch: &Epoch, origin: &Origin) -> String {
        let launch = self.launch;
        let extent = [0, 1, 2].map(|axis| launch.grid[axis] / launch.cluster[axis].max(1));
        let id = coordinates(epoch.cluster, extent);
        let inside = coordinates(origin.warp / self.width, launch.cluster);
        let [x, y, z] = [0, 1, 2].map(|axis| id[axis] * launch.cluster[axis] + inside[axis]);
        let instruction = launch.program.instructions.get(origin.pc as usize);
        let line = instruction.map_or(0, |instruction| instruction.line);
        let source = launch.program.source(origin.pc);
        let source = source.map_or(String::new(), |(file, line)| format!(", {file}:{line}"));
        format!(
            "CTA ({x}, {y}, {z}), warp {}, lanes {:#010x}, PTX line {line}{source}",
            origin.warp % self.width,
            origin.lanes
        )
    }

    pub(super) fn result(
        &self,
        found: Option<(Record, Rule)>,
        kind: Kind,
        memory: Memory,
    ) -> Result<()> {
        let Some((old, rule)) = found else { return Ok(()) };
        let (fault, why, check) = match rule {
            Rule::Race => (FaultKind::Race, "nothing orders them", "races"),
            Rule::Relaxed => {
                let why = "only barriers that promise nothing of memory order them, such as relaxed arrivals";
                (FaultKind::Race, why, "relaxed-reuse")
            }
            Rule::Proxy => {
                let why = "there is no fence.proxy.async on the way from one to the other";
                (FaultKind::ProxyFence, why, "proxy-fence")
            }
        };
        let message = format!(
            "{} of {memory} after {} by {}: {why} (EMULATOR_CHECKS: {check})",
            words(kind),
            words(old.kind),
            self.place(&old.epoch, &old.origin)
        );
        Err(Fault::new(fault, message))
    }

    pub(super) fn tensor(
        &self,
        found: Option<Access>,
        kind: Kind,
        rank: u32,
        region: Region,
    ) -> Result<()> {
        let Some(old) = found else { return Ok(()) };
        let message = format!(
            "{} of tensor memory of thread block {rank}, {region}, after {} by {}: neither a release that was acquired \
             nor tcgen05.fence on both sides of a barrier orders them (EMULATOR_CHECKS: tensor-fence; ptxas of CUDA \
             13.5 makes a NOP of each of these fences)",
            words(kind),
            words(old.kind),
            self.place(&old.epoch, &old.origin)
        );
        Err(Fault::new(FaultKind::TensorHazard, message))
    }

    pub(super) fn init(&self, epoch: &Epoch, origin: &Origin, at: (u32, u32)) -> Result<()> {
        let message = format!(
            "mbarrier {}:{:#x} is used, and its mbarrier.init by {} is not known to be before: it takes a barrier, and \
             for another thread block fence.mbarrier_init or a release (EMULATOR_CHECKS: mbarrier-init)",
            at.0,
            at.1,
            self.place(epoch, origin)
        );
        Err(Fault::new(FaultKind::Barrier, message))
    }
}
