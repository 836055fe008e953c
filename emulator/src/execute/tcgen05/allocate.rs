//! `tcgen05.alloc`, `dealloc` and `relinquish_alloc_permit`.

use super::hazard::{check_writers, members};
use crate::execute::step::{Flow, Step};
use crate::fault::{Fault, FaultKind, Result};
use crate::isa::tcgen05::allocate::{Op, What};
use crate::machine::order::{Kind, Who};
use crate::machine::tmem::{Meeting, Region, split};
use crate::machine::warp::Wait;

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    let members = members(step, op.group)?;
    let lane = step.first_lane();
    let (columns, meeting) = match &op.what {
        What::Relinquish => {
            step.cta().tmem.relinquished = true;
            return Ok(Flow::Next);
        }
        What::Allocate { slot, columns } => {
            let columns = step.value(*columns, lane) as u32;
            step.cta().tmem.check_allocation(columns)?;
            let (_, offset) = step.own_shared(slot, lane)?;
            let slot = Some((offset, step.warp));
            (columns, Meeting { column: None, columns, slot })
        }
        What::Free { address, columns } => {
            let columns = step.value(*columns, lane) as u32;
            let (row, column) = split(step.value(*address, lane) as u32);
            if row != 0 {
                let message = format!("tcgen05.dealloc of an address with lane {row}");
                return Err(Fault::new(FaultKind::TensorMemory, message));
            }
            let region = Region::whole(column, columns);
            for rank in &members {
                check_writers(step.cluster, "tcgen05.dealloc", *rank, region)?;
            }
            (columns, Meeting { column: Some(column), columns, slot: None })
        }
    };
    let mut parts = vec![(step.rank, meeting)];
    if op.group == 2 {
        let peer = step.rank ^ 1;
        let Some(other) = step.cluster.ctas[peer as usize].tmem.meeting else {
            let pair = step.rank as usize / 2;
            let round = step.cluster.pairs.get(pair).map_or(0, |pair| pair.1);
            step.cta().tmem.meeting = Some(meeting);
            return Ok(Flow::Advance(Wait::Peer { round }));
        };
        if (other.column, other.columns) != (meeting.column, meeting.columns) {
            let message = format!(
                "thread blocks {} and {peer} do not agree: {} here, {} there",
                step.rank,
                describe(&meeting),
                describe(&other)
            );
            return Err(Fault::new(FaultKind::TensorMemory, message));
        }
        parts.push((peer, other));
    }
    let column = match meeting.column {
        Some(column) => column,
        None => match step.cta().tmem.free_run(columns) {
            Some(column) => column,
            None => return Ok(Flow::Retry(Wait::TensorColumns { columns })),
        },
    };
    for (rank, part) in parts {
        let cta = &mut step.cluster.ctas[rank as usize];
        cta.tmem.meeting = None;
        match part.slot {
            Some((offset, warp)) => {
                cta.tmem.allocate(column, columns);
                cta.shared.store(offset, &column.to_le_bytes(), Some(warp))?;
                let launch = step.launch;
                if let Some((order, who)) = step.order() {
                    let who = Who { rank, warp, lanes: u32::MAX, ..who };
                    let kind =
                        Kind { writes: true, strong: None, is_async: false, is_collective: true };
                    order.shared(launch, who, (rank, offset), 4, kind)?;
                }
            }
            None => {
                cta.tmem.free(column, columns)?;
                if let Some((order, _)) = step.order() {
                    order.forget_tensor(rank, Region::whole(column, columns));
                }
            }
        }
    }
    if op.group == 2 {
        let pair = step.rank as usize / 2;
        if let Some(pair) = step.cluster.pairs.get_mut(pair) {
            pair.1 += 1;
        }
    }
    // Somebody may have waited for the columns, or for the peer.
    step.cluster.events += 1;
    Ok(Flow::Next)
}

fn describe(meeting: &Meeting) -> String {
    match meeting.column {
        None => format!("tcgen05.alloc of {} columns", meeting.columns),
        Some(column) => format!("tcgen05.dealloc of {} columns from {column}", meeting.columns),
    }
}
