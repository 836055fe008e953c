//! Barriers, fences, and what else orders threads.

mod barrier;
mod mbarrier;

use crate::execute::step::{Flow, Step};
use crate::fault::Result;
use crate::isa::address::{SHARED_WINDOW, WINDOW_MASK, shared, split_shared};
use crate::isa::sync::Op;
use crate::machine::dependence;
use crate::machine::warp::Wait;

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    match op {
        Op::Barrier(op) => return barrier::execute(op, step),
        Op::MBarrier(op) => return mbarrier::execute(op, step),
        Op::FenceProxyAsync => {
            let warp = step.warp;
            step.cta().shared.fence(warp);
            if let Some((order, who)) = step.order() {
                order.fence_proxy(who);
            }
        }
        Op::Fence(fence) => {
            if let Some((order, who)) = step.order() {
                order.fence(who, *fence);
            }
        }
        Op::Elect { lane, predicate, members } => {
            let members = step.value(*members, step.first_lane()) as u32 & step.lanes;
            let elected = members.trailing_zeros() as usize;
            for at in step.each_lane() {
                if let Some(register) = lane {
                    step.set(*register, at, elected as u64);
                }
                if let Some(register) = predicate {
                    step.set(*register, at, u64::from(at == elected));
                }
            }
        }
        Op::Mapa { into, address, rank, generic } => {
            for lane in step.each_lane() {
                let bits = step.value(*address, lane);
                let rank = step.value(*rank, lane) as u32;
                let (_, offset) = split_shared((bits & WINDOW_MASK) as u32);
                let mapped = u64::from(shared(rank, offset));
                step.cluster.locate(mapped as u32)?;
                step.set(*into, lane, if *generic { SHARED_WINDOW | mapped } else { mapped });
            }
        }
        Op::CtaRank { into, address } => {
            for lane in step.each_lane() {
                let (rank, _) = split_shared((step.value(*address, lane) & WINDOW_MASK) as u32);
                step.set(*into, lane, u64::from(rank));
            }
        }
        Op::Nothing => {}
        Op::Sleep => step.yields = true,
        Op::WaitPriorGrids => {
            if !dependence::is_complete() {
                return Ok(Flow::Advance(Wait::PriorGrids));
            }
        }
        // Further ones of the thread block mean nothing.
        Op::LaunchDependents => {
            if !std::mem::replace(&mut step.cta().launched_dependents, true) {
                dependence::launch_dependents();
            }
        }
    }
    Ok(Flow::Next)
}
