//! `mbarrier` (PTX ISA, "Parallel Synchronization and Communication Instructions: mbarrier").

use crate::fault::Fault;
use crate::isa::scope::{Lowered, Scope};
use crate::isa::semantics::Semantics;
use crate::isa::value::{Address, Convergence, Value};
use crate::ptx::{Operand, Register, Space, Statement};

/// How a phase is named.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    /// By its parity.
    Parity(Value),
    /// By what `arrive` gave.
    Token(Value),
}

/// Lowered.
#[derive(Clone, Debug)]
pub enum Op {
    /// `init`
    Init(Address, Value),
    /// `inval`
    Invalidate(Address),
    /// `arrive`, `arrive_drop`, `arrive.expect_tx`, `expect_tx`
    Arrive {
        /// Token of the phase, if wanted.
        into: Option<Register>,
        /// The object, perhaps of another thread block.
        address: Address,
        /// Arrivals.
        count: Option<Value>,
        /// Bytes.
        bytes: Option<Value>,
        /// One arrival less is expected from the next phase on.
        drops: bool,
        /// Order.
        semantics: Semantics,
    },
    /// `complete_tx`
    CompleteBytes(Address, Value),
    /// `test_wait`, `try_wait`
    Wait {
        /// Predicate.
        into: Register,
        /// The object, of the own thread block.
        address: Address,
        /// Which.
        phase: Phase,
        /// `try_wait`
        blocks: bool,
        /// Order.
        semantics: Semantics,
    },
    /// `pending_count`
    PendingCount(Register, Value),
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Lowered<Op> {
    let unsupported = || Fault::unsupported(statement.opcode());
    let has = |word| statement.has(word);
    let space = match (has("shared::cluster"), has("shared") || has("shared::cta")) {
        (true, _) => Space::SharedCluster,
        (_, true) => Space::Shared,
        _ => Space::Generic,
    };
    let address = |operand: &Operand| scope.address(operand, space);
    let value = |operand: &Operand| scope.value(operand, 32);
    let first = statement.suffixes.first().map(String::as_str).unwrap_or_default();
    let op = match (first, statement.operands.as_slice()) {
        _ if has("noComplete") => return Err(unsupported()),
        ("init", [at, count]) => Op::Init(address(at)?, value(count)?),
        ("inval", [at]) => Op::Invalidate(address(at)?),
        ("expect_tx", [at, bytes]) => Op::Arrive {
            into: None,
            address: address(at)?,
            count: Some(Value::Constant(0)),
            bytes: Some(value(bytes)?),
            drops: false,
            semantics: Semantics { releases: false, ..Semantics::arrival(statement) },
        },
        ("complete_tx", [at, bytes]) => Op::CompleteBytes(address(at)?, value(bytes)?),
        ("arrive" | "arrive_drop", operands) => {
            let (into, rest) = match operands {
                [Operand::Sink, rest @ ..] => (None, rest),
                [Operand::Register(into), rest @ ..] => (Some(*into), rest),
                rest => (None, rest),
            };
            let (at, number) = match rest {
                [at] => (address(at)?, None),
                [at, number] => (address(at)?, Some(value(number)?)),
                _ => return Err(unsupported()),
            };
            let (count, bytes) = if has("expect_tx") { (None, number) } else { (number, None) };
            let (drops, semantics) = (first == "arrive_drop", Semantics::arrival(statement));
            Op::Arrive { into, address: at, count, bytes, drops, semantics }
        }
        ("test_wait" | "try_wait", [Operand::Register(into), at, phase, ..]) => Op::Wait {
            into: *into,
            address: address(at)?,
            phase: if has("parity") {
                Phase::Parity(value(phase)?)
            } else {
                Phase::Token(scope.value(phase, 64)?)
            },
            blocks: first == "try_wait",
            semantics: Semantics::wait(statement),
        },
        ("pending_count", [Operand::Register(into), token]) => {
            Op::PendingCount(*into, scope.value(token, 64)?)
        }
        _ => return Err(unsupported()),
    };
    Ok((Some(op), Convergence::None))
}
