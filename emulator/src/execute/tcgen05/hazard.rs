//! Who carries out instructions of the tensor cores, and which tensor memory must not be touched.

use crate::execute::step::Step;
use crate::fault::{Fault, FaultKind, Result};
use crate::machine::asynchronous::Agent;
use crate::machine::cluster::Cluster;
use crate::machine::tmem::Region;

/// Ranks of the thread blocks that an instruction of this `cta_group` acts on. The peer must be there and run, and all
/// instructions must name the same `cta_group`.
pub(super) fn members(step: &mut Step<'_>, group: u32) -> Result<Vec<u32>> {
    step.cta().tmem.check_group(group)?;
    if group == 1 {
        return Ok(vec![step.rank]);
    }
    let peer = step.rank ^ 1;
    match step.cluster.ctas.get(peer as usize) {
        None => {
            let message = format!(
                "cta_group::2 by thread block {} of a cluster of {}: it has no peer",
                step.rank,
                step.cluster.ctas.len()
            );
            Err(Fault::new(FaultKind::TensorMemory, message))
        }
        Some(cta) if cta.finished => {
            let message =
                format!("cta_group::2 by thread block {}, whose peer {peer} has exited", step.rank);
            Err(Fault::new(FaultKind::TensorMemory, message))
        }
        Some(_) => Ok(vec![step.rank & !1, step.rank | 1]),
    }
}

/// Who carries out mma, cp and commit of these thread blocks.
pub(super) fn agent(members: &[u32]) -> Agent {
    Agent::TensorCores(members.first().copied().unwrap_or(0))
}

/// A fault if a warp reads what an operation is about to write: its tcgen05.ld was not waited for.
pub(super) fn check_readers(
    cluster: &Cluster,
    what: &str,
    rank: u32,
    region: Region,
) -> Result<()> {
    let Some(cta) = cluster.ctas.get(rank as usize) else { return Ok(()) };
    for warp in &cta.warps {
        if let Some(read) = warp.loads.regions.iter().find(|read| read.overlaps(&region)) {
            let message = format!(
                "{what} writes {region} of thread block {rank} while a tcgen05.ld of warp {} of {read} was not waited \
                 for",
                warp.index
            );
            return Err(Fault::new(FaultKind::TensorHazard, message));
        }
    }
    Ok(())
}

/// A fault if tensor memory is written by an operation that may still be under way, as far as the thread can know.
pub(super) fn check_writers(
    cluster: &Cluster,
    what: &str,
    rank: u32,
    region: Region,
) -> Result<()> {
    let under_way = cluster.queues.iter().find(|(_, pending)| {
        let written = pending.operation.writes_regions();
        written.iter().any(|(other, written)| *other == rank && written.overlaps(&region))
    });
    if let Some((_, pending)) = under_way {
        let message = format!(
            "accumulator touched before its commit was waited for: {what} of {region} of thread block {rank}, which \
             {} (PTX line {}) writes",
            pending.operation.describe(),
            pending.place.line
        );
        return Err(Fault::new(FaultKind::TensorHazard, message));
    }
    let Some(cta) = cluster.ctas.get(rank as usize) else { return Ok(()) };
    let writer = cta.tmem.writer.newest(region);
    if writer <= cta.tmem.observed {
        return Ok(());
    }
    let message = format!(
        "accumulator touched before its commit was waited for: {what} of {region} of thread block {rank}, written by \
         operation {writer} of the tensor cores; commits up to {} were waited for",
        cta.tmem.observed
    );
    Err(Fault::new(FaultKind::TensorHazard, message))
}
