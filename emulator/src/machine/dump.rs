//! Words for what hangs, and for what a thread block leaves behind.

use crate::fault::{Fault, FaultKind, Place, Result};
use crate::isa::Program;
use crate::machine::Launch;
use crate::machine::cluster::Cluster;
use crate::machine::warp::{Group, State, Wait, Warp};

/// A deadlock, with what every parked warp waits for and what is known of it.
pub fn deadlock(cluster: &Cluster, launch: &Launch) -> Fault {
    let dump = parked_groups(cluster, launch);
    let message = format!("nothing can run and nothing is under way: {} groups wait", dump.len());
    Fault { dump, ..Fault::new(FaultKind::Deadlock, message) }
}

/// A line for each group of lanes that waits.
pub fn parked_groups(cluster: &Cluster, launch: &Launch) -> Vec<String> {
    let mut lines = Vec::new();
    for cta in &cluster.ctas {
        for warp in &cta.warps {
            for group in warp.groups.iter().filter(|group| group.state != State::Ready) {
                lines.push(parked(cluster, launch, cta.rank, warp, group));
            }
        }
    }
    lines
}

/// Where a warp stands, by rank and number, when it is at an instruction.
pub fn place(cluster: &Cluster, launch: &Launch, (rank, warp): (u32, u32), pc: u32) -> Place {
    let program = &launch.program;
    let cta = &cluster.ctas[rank as usize];
    Place {
        kernel: launch.kernel.name.clone(),
        cta: cta.id,
        warp,
        lanes: cta.warps[warp as usize].alive(),
        line: program.instructions.get(pc as usize).map_or(0, |at| at.line),
        source: program.source(pc).map(|(file, line)| (file.to_owned(), line)),
    }
}

/// A line for a warp that goes round between two instructions.
pub fn circle(
    cluster: &Cluster,
    launch: &Launch,
    warp: (u32, u32),
    (first, last): (u32, u32),
) -> String {
    let begin = place(cluster, launch, warp, first);
    let end = place(cluster, launch, warp, last);
    let [x, y, z] = begin.cta;
    let source = begin.source.map_or_else(String::new, |(file, line)| format!(" ({file}:{line})"));
    format!(
        "CTA ({x}, {y}, {z}) warp {} repeats PTX lines {} to {}{source}",
        warp.1, begin.line, end.line
    )
}

fn parked(cluster: &Cluster, launch: &Launch, rank: u32, warp: &Warp, group: &Group) -> String {
    let program = &launch.program;
    let line = program.instructions.get(group.pc as usize).map_or(0, |at| at.line);
    let source = program.source(group.pc);
    let source = source.map_or_else(String::new, |(file, line)| format!(" ({file}:{line})"));
    let [x, y, z] = cluster.ctas[rank as usize].id;
    let what = match &group.state {
        State::Ready => "can run".to_owned(),
        State::Converging => "waits for other lanes of the warp".to_owned(),
        State::Retry(wait) | State::Advance(wait) => waits_for(cluster, program, rank, wait),
    };
    format!(
        "CTA ({x}, {y}, {z}) warp {} lanes {:#010x} PTX line {line}{source}: {what}",
        warp.index, group.lanes
    )
}

fn waits_for(cluster: &Cluster, program: &Program, rank: u32, wait: &Wait) -> String {
    let cta = &cluster.ctas[rank as usize];
    match wait {
        Wait::MBarrier { offset, phase } => {
            let name = shared_name(program, *offset);
            match cta.mbarriers.get(offset) {
                None => format!("mbarrier {name}, which is gone"),
                Some(barrier) => format!(
                    "mbarrier {name}, phase {phase} (parity {}): {} of {} arrivals and {} bytes are missing, \
                     {} bytes were expected; last to arrive: {}",
                    phase & 1,
                    barrier.pending,
                    barrier.expected,
                    barrier.bytes,
                    barrier.announced,
                    if barrier.last.is_empty() { "nobody" } else { &barrier.last }
                ),
            }
        }
        Wait::NamedBarrier { id, round } => {
            let barrier = &cta.named[usize::from(*id) % 16];
            format!(
                "named barrier {id}, round {round}: {} of {} threads came",
                barrier.arrived, barrier.expected
            )
        }
        Wait::ClusterBarrier { round } => {
            format!("the cluster's barrier, round {round}: {} threads came", cluster.barrier.0)
        }
        Wait::BulkGroups { allowed, read } => format!(
            "bulk groups to be {}: at most {allowed} may be left",
            if *read { "read" } else { "complete" }
        ),
        Wait::CopyGroups { allowed } => {
            format!("groups of cp.async: at most {allowed} may be left")
        }
        Wait::TensorLoads => "its tcgen05.ld".to_owned(),
        Wait::TensorStores => "its tcgen05.st".to_owned(),
        Wait::TensorColumns { columns } => format!(
            "{columns} free columns of tensor memory; allocated are {:?}",
            cta.tmem.allocations
        ),
        Wait::Peer { .. } => "the other thread block of its pair".to_owned(),
        Wait::WgmmaGroups { allowed } => format!("wgmma groups: at most {allowed} may be left"),
        Wait::PriorGrids => "the launches before this one".to_owned(),
    }
}

/// The variable that holds an offset of shared memory, as far as the program names it.
fn shared_name(program: &Program, offset: u32) -> String {
    let below = program.shared_names.iter().filter(|(start, _)| *start <= offset).max();
    match below {
        None => format!("{offset:#x}"),
        Some((start, name)) => format!("{name}+{:#x} (offset {offset:#x})", offset - start),
    }
}

/// What a thread block must not leave behind when its last thread exits.
pub fn check_exit(cluster: &Cluster, rank: u32) -> Result<()> {
    let cta = &cluster.ctas[rank as usize];
    let [x, y, z] = cta.id;
    let left = |what: String| {
        let message = format!("thread block ({x}, {y}, {z}) ends {what}");
        Err(Fault::new(FaultKind::InFlightAtExit, message))
    };
    let busy = cluster.queues.iter().find(|(_, pending)| {
        !pending.operation.may_outlive_thread_block() && pending.operation.uses().contains(&rank)
    });
    if let Some((_, pending)) = busy {
        return left(format!(
            "while an operation uses it: {}, issued at PTX line {}",
            pending.operation.describe(),
            pending.place.line
        ));
    }
    if let Some(allocation) = cta.tmem.allocations.first() {
        return left(format!(
            "with {} columns of tensor memory at column {} allocated",
            allocation.columns, allocation.column
        ));
    }
    for (offset, barrier) in &cta.mbarriers {
        if barrier.bytes != 0 {
            return Err(Fault::new(
                FaultKind::TransactionBytes,
                format!(
                    "thread block ({x}, {y}, {z}) ends with {} bytes missing at mbarrier {offset:#x} ({} expected)",
                    barrier.bytes, barrier.announced
                ),
            ));
        }
    }
    for warp in &cta.warps {
        if let Some(lane) = warp.bulk.iter().position(|bulk| !bulk.open.is_empty()) {
            let message = format!("with bulk stores in no group: warp {}, lane {lane}", warp.index);
            return left(message);
        }
    }
    Ok(())
}
