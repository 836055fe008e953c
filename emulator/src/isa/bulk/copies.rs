//! `cp.async`: copies of up to 16 bytes by each lane, in the generic proxy.

use crate::fault::{Fault, Result};
use crate::isa::bulk::operands::{literal, without_policy};
use crate::isa::scope::Scope;
use crate::isa::value::{Address, Value};
use crate::ptx::{Class, Operand, Space, Statement};

/// Lowered.
#[derive(Clone, Debug)]
pub enum Op {
    /// `cp.async.ca` and `cp.async.cg`
    Copy {
        /// In shared memory.
        into: Address,
        /// In global memory.
        from: Address,
        /// 4, 8 or 16.
        bytes: u32,
        /// How much is read.
        source: SourceBytes,
    },
    /// `cp.async.commit_group`
    Commit,
    /// `cp.async.wait_group`; `wait_all` commits before.
    Wait {
        /// Newest groups that need not be complete.
        allowed: u32,
        /// Whether what is in no group is waited for as well.
        all: bool,
    },
    /// `cp.async.mbarrier.arrive`
    Arrive {
        /// The mbarrier.
        barrier: Address,
        /// Whether the arrival is one more than the mbarrier was initialized for.
        increments: bool,
    },
}

/// How many bytes are read; zeros follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SourceBytes {
    /// All.
    All,
    /// `src-size`
    Some(Value),
    /// `ignore-src`: none where it is true.
    NoneIf(Value),
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Result<Op> {
    let unsupported = || Fault::unsupported(statement.opcode());
    if statement.has("commit_group") {
        return Ok(Op::Commit);
    }
    if statement.has("wait_all") {
        return Ok(Op::Wait { allowed: 0, all: true });
    }
    if statement.has("wait_group") {
        let allowed = literal(statement, statement.operands.first())?;
        let allowed = u32::try_from(allowed).map_err(|_| unsupported())?;
        return Ok(Op::Wait { allowed, all: false });
    }
    let is_shared = statement.has("shared") || statement.has("shared::cta");
    if statement.has("mbarrier") && statement.has("arrive") {
        let [barrier] = statement.operands.as_slice() else { return Err(unsupported()) };
        let space = if is_shared { Space::Shared } else { Space::Generic };
        let barrier = scope.address(barrier, space)?;
        return Ok(Op::Arrive { barrier, increments: !statement.has("noinc") });
    }
    if !is_shared || !statement.has("global") || !(statement.has("ca") || statement.has("cg")) {
        return Err(unsupported());
    }
    let (into, from, bytes, rest) = match without_policy(statement) {
        [into, from, bytes, rest @ ..] => (into, from, bytes, rest),
        _ => return Err(unsupported()),
    };
    let bytes = literal(statement, Some(bytes))?;
    if !matches!(bytes, 4 | 8 | 16) || statement.has("cg") && bytes != 16 {
        return Err(unsupported());
    }
    let source = match rest {
        [] => SourceBytes::All,
        [operand @ Operand::Register(register)] if register.class == Class::Predicate => {
            SourceBytes::NoneIf(scope.value(operand, 1)?)
        }
        [operand] => SourceBytes::Some(scope.value(operand, 32)?),
        _ => return Err(unsupported()),
    };
    Ok(Op::Copy {
        into: scope.address(into, Space::Shared)?,
        from: scope.address(from, Space::Global)?,
        bytes: bytes as u32,
        source,
    })
}
