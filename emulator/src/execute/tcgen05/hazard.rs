//! Who carries out instructions of the tensor cores, and which columns of tensor memory must not be touched.

use crate::execute::step::Step;
use crate::fault::{Fault, FaultKind, Result};
use crate::machine::asynchronous::Agent;
use crate::machine::cluster::Cluster;

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

fn overlap(a: (u32, u32), b: (u32, u32)) -> bool {
    a.0 < b.0 + b.1 && b.0 < a.0 + a.1
}

/// A fault if a warp reads columns that an operation is about to write: its tcgen05.ld was not waited for.
pub(super) fn check_readers(
    cluster: &Cluster,
    what: &str,
    rank: u32,
    columns: (u32, u32),
) -> Result<()> {
    let Some(cta) = cluster.ctas.get(rank as usize) else { return Ok(()) };
    for warp in &cta.warps {
        if let Some(read) = warp.loads.columns.iter().find(|read| overlap(**read, columns)) {
            let message = format!(
                "{what} writes columns {}..{} of thread block {rank} while a tcgen05.ld of warp {} of columns {}..{} \
                 was not waited for",
                columns.0,
                columns.0 + columns.1,
                warp.index,
                read.0,
                read.0 + read.1
            );
            return Err(Fault::new(FaultKind::TensorHazard, message));
        }
    }
    Ok(())
}

/// A fault if columns are written by an operation that may still be under way, as far as the thread can know.
pub(super) fn check_writers(
    cluster: &Cluster,
    what: &str,
    rank: u32,
    columns: (u32, u32),
) -> Result<()> {
    let under_way = cluster.queues.iter().find(|(_, pending)| {
        let written = pending.operation.writes_columns();
        written
            .iter()
            .any(|(other, first, count)| *other == rank && overlap((*first, *count), columns))
    });
    let range = format!("columns {}..{} of thread block {rank}", columns.0, columns.0 + columns.1);
    if let Some((_, pending)) = under_way {
        let message = format!(
            "accumulator touched before its commit was waited for: {what} of {range}, which {} (PTX line {}) writes",
            pending.operation.describe(),
            pending.place.line
        );
        return Err(Fault::new(FaultKind::TensorHazard, message));
    }
    let Some(cta) = cluster.ctas.get(rank as usize) else { return Ok(()) };
    let writers = cta.tmem.writer.iter().skip(columns.0 as usize).take(columns.1 as usize);
    let Some(writer) = writers.max().filter(|writer| **writer > cta.tmem.observed) else {
        return Ok(());
    };
    let message = format!(
        "accumulator touched before its commit was waited for: {what} of {range}, written by operation {writer} of \
         the tensor cores; commits up to {} were waited for",
        cta.tmem.observed
    );
    Err(Fault::new(FaultKind::TensorHazard, message))
}
