//! Named barriers of a thread block, the barrier of the cluster, and `bar.warp.sync`.
//!
//! The hardware counts threads in whole warps; so does this. A barrier without a count waits for the warps that have
//! not exited.

use crate::execute::step::{Flow, Step};
use crate::fault::{Fault, FaultKind, Result};
use crate::isa::sync::barrier::{Op, Reduction};
use crate::isa::value::{LANES, Value};
use crate::machine::warp::Wait;
use crate::ptx::{Guard, Register};

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    match op {
        Op::Warp => {
            if let Some((order, who)) = step.order() {
                order.gather(who);
            }
            Ok(Flow::Next)
        }
        Op::Named { id, count, waits, reduction } => {
            named(step, *id, *count, *waits, reduction.as_ref())
        }
        Op::ClusterArrive { releases } => cluster_arrive(step, *releases),
        Op::ClusterWait => {
            let Some(round) = step.warp().cluster_round else {
                let message = "barrier.cluster.wait without barrier.cluster.arrive before it";
                return Err(Fault::new(FaultKind::Barrier, message));
            };
            if step.cluster.barrier_rounds() > round {
                step.warp().cluster_round = None;
                if let Some((order, who)) = step.order() {
                    order.cluster_wait(who, round);
                }
                return Ok(Flow::Next);
            }
            Ok(Flow::Retry(Wait::ClusterBarrier { round }))
        }
    }
}

fn named(
    step: &mut Step<'_>,
    id: Value,
    count: Option<Value>,
    waits: bool,
    reduction: Option<&(Reduction, Guard, Register)>,
) -> Result<Flow> {
    let lane = step.first_lane();
    let number = step.value(id, lane);
    let count = count.map(|count| step.value(count, lane) as u32);
    let live = 32 * step.cta().warps.iter().filter(|warp| !warp.groups.is_empty()).count() as u32;
    if number >= 16 {
        let message = format!("named barrier {number}; there are 16");
        return Err(Fault::new(FaultKind::Barrier, message));
    }
    let index = number as usize;
    if let (Some((_, round)), Some((which, _, into))) = (step.warp().reduction.take(), reduction) {
        let [and, or] = step.cta().named[index].answer;
        let answer = match which {
            Reduction::Count => step.cta().named[index].count,
            Reduction::And => and,
            Reduction::Or => or,
        };
        for lane in step.each_lane() {
            step.set(*into, lane, u64::from(answer));
        }
        if let Some((order, who)) = step.order() {
            order.named_wait(who, index as u8, round);
        }
        return Ok(Flow::Next);
    }
    let expected = match count {
        None => live,
        Some(count) if count == 0 || count % 32 != 0 || count > 32 * 64 => {
            let message = format!("named barrier {number} for {count} threads, no multiple of 32");
            return Err(Fault::new(FaultKind::Barrier, message));
        }
        Some(count) => count,
    };
    let lanes = step.lanes;
    let predicates = reduction.map(|(_, guard, _)| {
        let bits = step.warp_ref().registers.predicates[guard.register.index as usize];
        lanes & if guard.negated { !bits } else { bits }
    });
    let barrier = &mut step.cta().named[index];
    if barrier.arrived > 0 && barrier.expected != expected && count.is_some() {
        let message = format!(
            "named barrier {number} for {expected} threads; others of this round said {}",
            barrier.expected
        );
        return Err(Fault::new(FaultKind::Barrier, message));
    }
    if barrier.arrived == 0 {
        barrier.reduction = [0, 0];
        barrier.counted = count.is_some();
    }
    barrier.expected = expected;
    barrier.arrived += LANES as u32;
    if let Some(bits) = predicates {
        barrier.reduction[0] += bits.count_ones();
        barrier.reduction[1] += lanes.count_ones();
    }
    let round = barrier.round;
    if barrier.arrived > barrier.expected {
        let message = format!(
            "named barrier {number} for {} threads: {} have come",
            barrier.expected, barrier.arrived
        );
        return Err(Fault::new(FaultKind::Barrier, message));
    }
    let complete = barrier.arrived == barrier.expected;
    if let Some((order, who)) = step.order() {
        order.named_arrive(who, index as u8, waits);
        if complete {
            order.named_complete(who.rank, index as u8, round);
            if waits && reduction.is_none() {
                order.named_wait(who, index as u8, round);
            }
        }
    }
    if complete {
        step.cta().named[index].complete();
        step.cluster.events += 1;
    }
    if !waits {
        return Ok(Flow::Next);
    }
    let wait = Wait::NamedBarrier { id: index as u8, round };
    if reduction.is_some() {
        step.warp().reduction = Some((index as u8, round));
        return Ok(Flow::Retry(wait));
    }
    Ok(if complete { Flow::Next } else { Flow::Advance(wait) })
}

fn cluster_arrive(step: &mut Step<'_>, releases: bool) -> Result<Flow> {
    let round = step.cluster.barrier_rounds();
    if step.warp().cluster_round.replace(round).is_some() {
        let message = "a second barrier.cluster.arrive without barrier.cluster.wait between";
        return Err(Fault::new(FaultKind::Barrier, message));
    }
    if let Some((order, who)) = step.order() {
        order.cluster_arrive(who, releases);
    }
    step.cluster.arrive_at_barrier();
    Ok(Flow::Next)
}
