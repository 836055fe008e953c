//! Barriers, fences, and what else orders threads.

mod barrier;
mod mbarrier;

use super::{Flow, Step};
use crate::fault::{Fault, FaultKind, Result};
use crate::machine::address::{SHARED_WINDOW, WINDOW_MASK, shared, split_shared};
use crate::program::{Convergence, Lowered, Scope, Value};
use crate::ptx::{Operand, Register, Statement};

/// Lowered.
#[derive(Clone, Debug)]
pub enum Op {
    /// `bar` and `barrier`
    Barrier(barrier::Op),
    /// `mbarrier`
    MBarrier(mbarrier::Op),
    /// `fence.proxy.async`: ordinary stores of the warp become visible to TMA and the tensor cores.
    FenceProxyAsync,
    /// `elect.sync`: lane and predicate.
    Elect {
        /// The lane that is elected.
        lane: Option<Register>,
        /// True in that lane.
        predicate: Option<Register>,
        /// Candidates.
        members: Value,
    },
    /// `mapa`: the address in another thread block of the cluster.
    Mapa {
        /// Result.
        into: Register,
        /// Address.
        address: Value,
        /// Rank.
        rank: Value,
        /// 64 bits that are a generic address.
        generic: bool,
    },
    /// `getctarank`
    CtaRank {
        /// Result.
        into: Register,
        /// Address.
        address: Value,
    },
    /// `setmaxnreg`, which is only checked.
    Nothing,
    /// `nanosleep`
    Sleep,
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Lowered {
    let sync = |op| crate::program::Op::Sync(op);
    let unsupported = || Fault::unsupported(statement.opcode());
    let words: Vec<&str> = statement.suffixes.iter().map(String::as_str).collect();
    let operands = statement.operands.as_slice();
    match (statement.family.as_str(), words.as_slice(), operands) {
        ("bar" | "barrier", ..) => barrier::lower(statement, scope),
        ("mbarrier", ..) => mbarrier::lower(statement, scope),
        // A fence of global memory alone leaves shared memory as it is.
        ("fence", ["proxy", "async", "global"], []) => {
            Ok((crate::program::Op::Nothing, Convergence::None))
        }
        ("fence", ["proxy", "async" | "async::generic", ..], []) => {
            Ok((sync(Op::FenceProxyAsync), Convergence::None))
        }
        // All other memory is in order in this model; proxies of global memory see every store.
        ("fence" | "membar" | "griddepcontrol", ..) => {
            Ok((crate::program::Op::Nothing, Convergence::None))
        }
        ("elect", ["sync"], [destination, members]) => {
            let (lane, predicate) = match destination {
                Operand::Pair(lane, predicate) => (*lane, *predicate),
                Operand::Register(lane) => (Some(*lane), None),
                _ => return Err(unsupported()),
            };
            let members = scope.value(members, 32)?;
            let op = Op::Elect { lane, predicate, members };
            Ok((sync(op), Convergence::Members(members)))
        }
        ("mapa", words, [Operand::Register(into), address, rank]) => {
            let address = scope.value(address, if words.contains(&"u64") { 64 } else { 32 })?;
            let generic = !words.contains(&"shared::cluster");
            let rank = scope.value(rank, 32)?;
            Ok((sync(Op::Mapa { into: *into, address, rank, generic }), Convergence::None))
        }
        ("getctarank", words, [Operand::Register(into), address]) => {
            let address = scope.value(address, if words.contains(&"u64") { 64 } else { 32 })?;
            Ok((sync(Op::CtaRank { into: *into, address }), Convergence::None))
        }
        ("setmaxnreg", _, [Operand::Literal(crate::ptx::Literal::Integer(count))]) => {
            if !(24..=256).contains(count) || count % 8 != 0 {
                let message = format!("setmaxnreg {count}; it can be a multiple of 8 in 24..=256");
                return Err(Fault::new(FaultKind::Unsupported, message));
            }
            Ok((sync(Op::Nothing), Convergence::Warp))
        }
        ("nanosleep", ..) => Ok((sync(Op::Sleep), Convergence::None)),
        _ => Err(unsupported()),
    }
}

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    match op {
        Op::Barrier(op) => return barrier::execute(op, step),
        Op::MBarrier(op) => return mbarrier::execute(op, step),
        Op::FenceProxyAsync => {
            let warp = step.warp;
            step.cta().shared.fence(warp);
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
    }
    Ok(Flow::Next)
}
