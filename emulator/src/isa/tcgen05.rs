//! tcgen05: the tensor cores of sm_100 and their memory (PTX ISA, "TensorCore 5th Generation Family Instructions").

pub mod allocate;
pub mod commit;
pub mod copy;
mod group;
pub mod mma;
pub mod transfer;

use crate::fault::Fault;
use crate::isa::scope::{Lowered, Scope};
use crate::isa::semantics::Fence;
use crate::isa::value::Convergence;
use crate::ptx::Statement;

/// Lowered.
#[derive(Clone, Debug)]
pub enum Op {
    /// `alloc`, `dealloc`, `relinquish_alloc_permit`
    Allocate(allocate::Op),
    /// `ld`, `st`, `wait`
    Transfer(transfer::Op),
    /// `mma`
    Mma(Box<mma::Op>),
    /// `cp`
    Copy(copy::Op),
    /// `commit`
    Commit(commit::Op),
    /// `fence`: the order that it makes is that of the barriers between threads in this model.
    Fence(Fence),
}

impl Op {
    /// Whether other warps may notice it. A fence changes nothing by itself, and loops around a wait may have one.
    pub(crate) fn has_effect(&self) -> bool {
        !matches!(self, Self::Fence(_))
    }
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Lowered<Op> {
    let first = statement.suffixes.first().map(String::as_str);
    let (op, convergence) = match first {
        Some("alloc" | "dealloc" | "relinquish_alloc_permit") => {
            (Op::Allocate(allocate::lower(statement, scope)?), Convergence::Warp)
        }
        Some("ld" | "st" | "wait::ld" | "wait::st") => {
            (Op::Transfer(transfer::lower(statement, scope)?), Convergence::Warp)
        }
        Some("mma") => (Op::Mma(Box::new(mma::lower(statement, scope)?)), Convergence::None),
        Some("cp") => (Op::Copy(copy::lower(statement, scope)?), Convergence::None),
        Some("commit") => (Op::Commit(commit::lower(statement, scope)?), Convergence::None),
        Some("fence::before_thread_sync") => (Op::Fence(Fence::BeforeSync), Convergence::None),
        Some("fence::after_thread_sync") => (Op::Fence(Fence::AfterSync), Convergence::None),
        _ => return Err(Fault::unsupported(statement.opcode())),
    };
    Ok((Some(op), convergence))
}
