//! Asynchronous copies: TMA (`cp.async.bulk`, `cp.reduce.async.bulk`), tensor maps, and `cp.async`.

pub mod copies;
pub mod groups;
pub mod maps;
pub(crate) mod operands;
pub mod plain;
pub mod tensor;

use crate::fault::Fault;
use crate::isa::scope::{Lowered, Scope};
use crate::isa::value::Convergence;
use crate::ptx::Statement;

/// Lowered.
#[derive(Clone, Debug)]
pub enum Op {
    /// Boxes of tensors.
    Tensor(Box<tensor::Op>),
    /// Ranges of bytes.
    Plain(Box<plain::Op>),
    /// `commit_group` and `wait_group`
    Groups(groups::Op),
    /// Tensor maps themselves.
    Maps(Box<maps::Op>),
    /// `cp.async` that is not bulk.
    Copies(Box<copies::Op>),
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Lowered<Op> {
    let words: Vec<&str> = statement.suffixes.iter().map(String::as_str).collect();
    let lowered = match (statement.family.as_str(), words.as_slice()) {
        ("cp", ["async", "bulk", "commit_group" | "wait_group", ..]) => {
            groups::lower(statement).map(Op::Groups)
        }
        ("cp", ["async", "bulk", "prefetch", ..]) => {
            maps::lower_prefetch(statement, scope).map(|op| Op::Maps(Box::new(op)))
        }
        ("cp", ["async", "bulk", "tensor", ..] | ["reduce", "async", "bulk", "tensor", ..]) => {
            tensor::lower(statement, scope).map(|op| Op::Tensor(Box::new(op)))
        }
        ("cp", ["async", "bulk", ..] | ["reduce", "async", "bulk", ..]) => {
            plain::lower(statement, scope).map(|op| Op::Plain(Box::new(op)))
        }
        ("cp", ["async", ..]) => copies::lower(statement, scope).map(|op| Op::Copies(Box::new(op))),
        ("tensormap", ["cp_fenceproxy", ..]) => {
            let op = maps::lower_copy(statement, scope)?;
            return Ok((Some(Op::Maps(Box::new(op))), Convergence::Warp));
        }
        ("tensormap", ["replace", ..]) => {
            maps::lower_replace(statement, scope).map(|op| Op::Maps(Box::new(op)))
        }
        ("prefetch", words) if words.contains(&"tensormap") => {
            maps::lower_prefetch(statement, scope).map(|op| Op::Maps(Box::new(op)))
        }
        // Into a cache, which has no function here.
        ("prefetch" | "prefetchu" | "applypriority" | "discard", _) => {
            return Ok((None, Convergence::None));
        }
        _ => Err(Fault::unsupported(statement.opcode())),
    };
    Ok((Some(lowered?), Convergence::None))
}
