//! `clusterlaunchcontrol`: a running cluster takes over one that has not started (PTX ISA, "Parallel Synchronization
//! and Communication Instructions: clusterlaunchcontrol").

use crate::fault::Fault;
use crate::isa::scope::{Lowered, Scope};
use crate::isa::value::{Address, Convergence, Value};
use crate::ptx::{Operand, Register, Space, Statement};

/// Lowered.
#[derive(Clone, Debug)]
pub enum Op {
    /// `try_cancel`
    TryCancel {
        /// Where the answer goes.
        answer: Address,
        /// What counts its bytes.
        mbarrier: Address,
        /// Also at the same offsets of all other thread blocks of the cluster.
        multicast: bool,
    },
    /// `query_cancel.is_canceled`
    IsCanceled {
        /// Predicate.
        into: Register,
        /// Answer.
        answer: Value,
    },
    /// `query_cancel.get_first_ctaid`
    FirstCtaid {
        /// Destination of each coordinate.
        into: [Option<Register>; 3],
        /// Answer.
        answer: Value,
    },
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Lowered<Op> {
    let unsupported = || Fault::unsupported(statement.opcode());
    let words: Vec<&str> = statement.suffixes.iter().map(String::as_str).collect();
    let op = match (words.as_slice(), statement.operands.as_slice()) {
        (["try_cancel", "async", ..], [answer, mbarrier]) => Op::TryCancel {
            answer: scope.address(answer, Space::Shared)?,
            mbarrier: scope.address(mbarrier, Space::Shared)?,
            multicast: statement.has("multicast::cluster::all"),
        },
        (["query_cancel", "is_canceled", ..], [Operand::Register(into), answer]) => {
            Op::IsCanceled { into: *into, answer: scope.value(answer, 128)? }
        }
        (["query_cancel", "get_first_ctaid", "v4", ..], [Operand::Vector(into), answer]) => {
            let register = |index: usize| match into.get(index) {
                Some(Operand::Register(register)) => Some(*register),
                _ => None,
            };
            let into = [register(0), register(1), register(2)];
            Op::FirstCtaid { into, answer: scope.value(answer, 128)? }
        }
        (["query_cancel", which, ..], [Operand::Register(register), answer]) => {
            let axis = ["get_first_ctaid::x", "get_first_ctaid::y", "get_first_ctaid::z"];
            let axis = axis.iter().position(|word| word == which).ok_or_else(unsupported)?;
            let mut into = [None; 3];
            into[axis] = Some(*register);
            Op::FirstCtaid { into, answer: scope.value(answer, 128)? }
        }
        _ => return Err(unsupported()),
    };
    Ok((Some(op), Convergence::None))
}
