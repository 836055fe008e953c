//! `mbarrier` (PTX ISA, "Parallel Synchronization and Communication Instructions: mbarrier").
//!
//! A wait that would fail parks its lanes until the phase is complete, which `try_wait` allows. It fails once nothing
//! else goes on, as its time is limited; with a random schedule also now and then.

use crate::execute::step::{Flow, Step};
use crate::fault::{Fault, FaultKind, Result};
use crate::isa::semantics::Semantics;
use crate::isa::sync::mbarrier::{Op, Phase};
use crate::isa::value::Address;
use crate::machine::mbarrier::MBarrier;
use crate::machine::order::Who;
use crate::machine::warp::Wait;
use crate::ptx::{Register, Space};
use crate::settings::Schedule;

/// Bits of a token that hold the phase; above it the pending count.
const TOKEN_PHASE: u64 = (1 << 40) - 1;

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    match op {
        Op::Init(address, count) => {
            for lane in step.each_lane() {
                let count = step.value(*count, lane) as u32;
                init(step, address, count, lane)?;
            }
        }
        Op::Invalidate(address) => {
            for lane in step.each_lane() {
                let (rank, offset) = step.own_shared(address, lane)?;
                let bytes = step.cluster.mbarrier(rank, offset)?.bytes;
                if bytes != 0 {
                    let message = format!("mbarrier.inval with {bytes} bytes missing");
                    return Err(Fault::new(FaultKind::TransactionBytes, message));
                }
                step.cta().mbarriers.remove(&offset);
            }
        }
        Op::Arrive { into, address, count, bytes, drops, semantics } => {
            for lane in step.each_lane() {
                let count = count.map_or(1, |count| step.value(count, lane) as u32);
                let bytes = bytes.map(|bytes| step.value(bytes, lane) as u32);
                arrive(step, lane, (*into, address), count, bytes, *drops, *semantics)?;
            }
        }
        Op::CompleteBytes(address, bytes) => {
            for lane in step.each_lane() {
                let bytes = step.value(*bytes, lane) as u32;
                let (rank, offset) = step.cluster_shared(address, lane)?;
                step.cluster.complete_bytes(rank, offset, bytes)?;
            }
        }
        Op::Wait { into, address, phase, blocks, semantics } => {
            return wait(step, (*into, address), *phase, *blocks, *semantics);
        }
        Op::PendingCount(into, token) => {
            for lane in step.each_lane() {
                let count = step.value(*token, lane) >> 40;
                step.set(*into, lane, count);
            }
        }
    }
    Ok(Flow::Next)
}

fn init(step: &mut Step<'_>, address: &Address, count: u32, lane: usize) -> Result<()> {
    let (rank, offset) = step.own_shared(address, lane)?;
    let barrier = MBarrier::new(count)?;
    if offset % 8 != 0 {
        let message = format!("mbarrier.init at offset {offset:#x}, no multiple of 8");
        return Err(Fault::new(FaultKind::Misaligned, message));
    }
    let warp = step.warp;
    let cta = step.cluster.running(rank)?;
    if cta.mbarriers.contains_key(&offset) {
        let message = format!("mbarrier.init at offset {offset:#x}, where one lives already");
        return Err(Fault::new(FaultKind::Barrier, message));
    }
    // The object counts as written, whatever its bits are.
    cta.shared.store(offset, &[0; 8], Some(warp))?;
    cta.mbarriers.insert(offset, barrier);
    if let Some((order, all)) = step.order() {
        order.mbarrier_init(all.lane(lane), offset);
    }
    Ok(())
}

fn arrive(
    step: &mut Step<'_>,
    lane: usize,
    (into, address): (Option<Register>, &Address),
    count: u32,
    bytes: Option<u32>,
    drops: bool,
    semantics: Semantics,
) -> Result<()> {
    let (rank, offset) = step.cluster_shared(address, lane)?;
    if rank != step.rank && address.space == Space::Shared {
        step.own_shared(address, lane)?;
    }
    if rank != step.rank && into.is_some() {
        let message = "an arrival at the mbarrier of another thread block gives no token";
        return Err(Fault::new(FaultKind::Barrier, message));
    }
    let who = format!("CTA {} warp {} lane {lane}", step.rank, step.warp);
    let before = step.cluster.mbarrier(rank, offset)?;
    let token = before.phase & TOKEN_PHASE | u64::from(before.pending) << 40;
    let launch = step.launch;
    if let Some((order, all)) = step.order() {
        order.arrive(launch, all.lane(lane), (rank, offset), semantics)?;
    }
    step.cluster.change_mbarrier(rank, offset, |barrier| {
        if let Some(bytes) = bytes {
            barrier.expect_bytes(bytes)?;
        }
        if drops {
            barrier.expected = barrier.expected.saturating_sub(count);
        }
        if count == 0 {
            return Ok(());
        }
        barrier.last = who;
        barrier.arrive(count)
    })?;
    if let Some(register) = into {
        step.set(register, lane, token);
    }
    Ok(())
}

fn wait(
    step: &mut Step<'_>,
    (into, address): (Register, &Address),
    phase: Phase,
    blocks: bool,
    semantics: Semantics,
) -> Result<Flow> {
    let lanes = step.lanes;
    let late = step.warp_ref().out_of_time & lanes != 0;
    if blocks {
        step.warp().out_of_time &= !lanes;
    }
    let blocks = blocks && !late;
    // Lanes may wait for different objects: those that need not wait go on together, the others one object at a time.
    let mut failed: Option<(u32, u64)> = None;
    let mut observed = 0;
    let mut waited: Vec<(u32, u32, bool)> = Vec::new();
    for lane in step.each_lane() {
        let (rank, offset) = step.own_shared(address, lane)?;
        let value = match phase {
            Phase::Parity(parity) => step.value(parity, lane),
            Phase::Token(token) => step.value(token, lane) & TOKEN_PHASE,
        };
        let barrier = step.cluster.mbarrier(rank, offset)?;
        let complete = match phase {
            Phase::Parity(_) => barrier.is_complete(value & 1 != 0),
            Phase::Token(_) => barrier.phase & TOKEN_PHASE > value,
        };
        if complete {
            observed = observed.max(barrier.completed_commit);
        } else if failed.is_none() {
            failed = Some((offset, barrier.phase));
        }
        if step.cluster.order.is_some() {
            let same = |other: &&mut (u32, u32, bool)| (other.1, other.2) == (offset, complete);
            match waited.iter_mut().find(same) {
                Some((lanes, ..)) => *lanes |= 1 << lane,
                None => waited.push((1 << lane, offset, complete)),
            }
        }
        if !blocks || complete {
            step.set(into, lane, u64::from(complete));
        }
    }
    let launch = step.launch;
    if let Some((order, all)) = step.order() {
        for (lanes, offset, complete) in waited {
            order.wait(launch, Who { lanes, ..all }, offset, complete, semantics)?;
        }
    }
    for cta in &mut step.cluster.ctas {
        cta.tmem.observed = cta.tmem.observed.max(observed);
    }
    let Some((offset, current)) = failed else {
        step.cluster.counters.waits += 1;
        return Ok(Flow::Next);
    };
    if !blocks {
        step.yields = true;
        return Ok(Flow::Next);
    }
    let spurious =
        step.machine.settings.schedule == Schedule::Random && step.cluster.random.below(8) == 0;
    if spurious {
        for lane in step.each_lane() {
            step.set(into, lane, 0);
        }
        step.yields = true;
        return Ok(Flow::Next);
    }
    step.cluster.counters.parked += 1;
    Ok(Flow::Retry(Wait::MBarrier { offset, phase: current }))
}
