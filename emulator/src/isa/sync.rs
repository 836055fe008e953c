//! Barriers, fences, and what else orders threads.

pub mod barrier;
pub mod mbarrier;

use crate::fault::{Fault, FaultKind};
use crate::isa::scope::{Lowered, Scope};
use crate::isa::semantics::{Fence, Semantics};
use crate::isa::value::{Convergence, Value};
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
    /// A fence that is only looked at by the checks of order.
    Fence(Fence),
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
    /// `griddepcontrol.wait`
    WaitPriorGrids,
    /// `griddepcontrol.launch_dependents`
    LaunchDependents,
}

impl Op {
    /// Whether other warps may notice it.
    pub(crate) fn has_effect(&self) -> bool {
        match self {
            Self::Barrier(op) => !matches!(op, barrier::Op::Warp),
            Self::MBarrier(op) => {
                !matches!(op, mbarrier::Op::Wait { .. } | mbarrier::Op::PendingCount(..))
            }
            // A fence changes nothing by itself, and loops around a wait may have one.
            Self::FenceProxyAsync
            | Self::Fence(_)
            | Self::Elect { .. }
            | Self::Mapa { .. }
            | Self::CtaRank { .. }
            | Self::Nothing
            | Self::Sleep
            | Self::WaitPriorGrids
            | Self::LaunchDependents => false,
        }
    }
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Lowered<Op> {
    let unsupported = || Fault::unsupported(statement.opcode());
    let words: Vec<&str> = statement.suffixes.iter().map(String::as_str).collect();
    let operands = statement.operands.as_slice();
    match (statement.family.as_str(), words.as_slice(), operands) {
        ("bar" | "barrier", ..) => {
            let (op, convergence) = barrier::lower(statement, scope)?;
            Ok((op.map(Op::Barrier), convergence))
        }
        ("mbarrier", ..) => {
            let (op, convergence) = mbarrier::lower(statement, scope)?;
            Ok((op.map(Op::MBarrier), convergence))
        }
        // A fence of global memory alone leaves shared memory as it is.
        ("fence", ["proxy", "async", "global"], []) => Ok((None, Convergence::None)),
        ("fence", ["proxy", "async" | "async::generic", ..], []) => {
            Ok((Some(Op::FenceProxyAsync), Convergence::None))
        }
        ("fence", ["mbarrier_init", ..], []) => {
            Ok((Some(Op::Fence(Fence::Inits)), Convergence::None))
        }
        (
            "fence",
            ["sc" | "acq_rel" | "acquire" | "release" | "cta" | "cluster" | "gpu" | "sys", ..],
            [],
        )
        | ("membar", _, []) => {
            let fence = Fence::Memory(Semantics::fence(statement));
            Ok((Some(Op::Fence(fence)), Convergence::None))
        }
        // Proxies of global memory see every store in this model.
        ("fence" | "membar", ..) => Ok((None, Convergence::None)),
        ("griddepcontrol", ["wait"], []) => Ok((Some(Op::WaitPriorGrids), Convergence::None)),
        ("griddepcontrol", ["launch_dependents"], []) => {
            Ok((Some(Op::LaunchDependents), Convergence::None))
        }
        ("elect", ["sync"], [destination, members]) => {
            let (lane, predicate) = match destination {
                Operand::Pair(lane, predicate) => (*lane, *predicate),
                Operand::Register(lane) => (Some(*lane), None),
                _ => return Err(unsupported()),
            };
            let members = scope.value(members, 32)?;
            let op = Op::Elect { lane, predicate, members };
            Ok((Some(op), Convergence::Members(members)))
        }
        ("mapa", words, [Operand::Register(into), address, rank]) => {
            let address = scope.value(address, if words.contains(&"u64") { 64 } else { 32 })?;
            let generic = !words.contains(&"shared::cluster");
            let rank = scope.value(rank, 32)?;
            Ok((Some(Op::Mapa { into: *into, address, rank, generic }), Convergence::None))
        }
        ("getctarank", words, [Operand::Register(into), address]) => {
            let address = scope.value(address, if words.contains(&"u64") { 64 } else { 32 })?;
            Ok((Some(Op::CtaRank { into: *into, address }), Convergence::None))
        }
        ("setmaxnreg", _, [Operand::Literal(crate::ptx::Literal::Integer(count))]) => {
            if !(24..=256).contains(count) || count % 8 != 0 {
                let message = format!("setmaxnreg {count}; it can be a multiple of 8 in 24..=256");
                return Err(Fault::new(FaultKind::Unsupported, message));
            }
            Ok((Some(Op::Nothing), Convergence::Warp))
        }
        ("nanosleep", ..) => Ok((Some(Op::Sleep), Convergence::None)),
        _ => Err(unsupported()),
    }
}
