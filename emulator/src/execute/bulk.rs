//! Asynchronous copies: TMA (`cp.async.bulk`, `cp.reduce.async.bulk`), tensor maps, and `cp.async`.
//!
//! Each copy is an operation of an agent of its own. A load is one operation for each thread block that it writes to:
//! nothing says that the parts of a multicast come together. A store is two: the first reads its source, and
//! issues the second, which writes.

pub mod boxes;
mod copies;
mod groups;
mod maps;
mod plain;
mod reduce;
mod route;
mod tensor;

use super::{Flow, Step};
use crate::counters::Moved;
use crate::fault::{Fault, FaultKind, Result};
use crate::machine::asynchronous::{Agent, Completion, Operation};
use crate::machine::cluster::Cluster;
use crate::machine::warp::BulkGroups;
use crate::program::{Convergence, Lowered, Scope, Value};
use crate::ptx::{Literal, Operand, Space, Statement};

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
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Lowered {
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
            let op = crate::program::Op::Bulk(Op::Maps(Box::new(op)));
            return Ok((op, Convergence::Warp));
        }
        ("tensormap", ["replace", ..]) => {
            maps::lower_replace(statement, scope).map(|op| Op::Maps(Box::new(op)))
        }
        ("prefetch", words) if words.contains(&"tensormap") => {
            maps::lower_prefetch(statement, scope).map(|op| Op::Maps(Box::new(op)))
        }
        // Into a cache, which has no function here.
        ("prefetch" | "prefetchu" | "applypriority" | "discard", _) => {
            return Ok((crate::program::Op::Nothing, Convergence::None));
        }
        _ => Err(Fault::unsupported(statement.opcode())),
    };
    Ok((crate::program::Op::Bulk(lowered?), Convergence::None))
}

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    match op {
        Op::Tensor(op) => tensor::execute(op, step),
        Op::Plain(op) => plain::execute(op, step),
        Op::Groups(op) => groups::execute(op, step),
        Op::Maps(op) => maps::execute(op, step),
        Op::Copies(op) => copies::execute(op, step),
    }
}

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// To the shared memory of the thread block itself, or of any in the cluster.
    Load(Space),
    /// From shared to global memory.
    Store,
    /// From shared memory to that of another thread block.
    Shared,
}

fn direction(statement: &Statement) -> Result<Direction> {
    let place = |word: &str| statement.suffixes.iter().position(|suffix| suffix == word);
    let own = place("shared::cta").or_else(|| place("shared"));
    match (place("global"), own, place("shared::cluster")) {
        (Some(global), Some(own), None) if global < own => Ok(Direction::Store),
        (Some(_), Some(_), None) => Ok(Direction::Load(Space::Shared)),
        (Some(_), None, Some(_)) => Ok(Direction::Load(Space::SharedCluster)),
        (None, Some(_), Some(_)) => Ok(Direction::Shared),
        _ => Err(Fault::unsupported(statement.opcode())),
    }
}

/// An integer that is written out.
fn literal(statement: &Statement, operand: Option<&Operand>) -> Result<u64> {
    match operand {
        Some(Operand::Literal(Literal::Integer(number))) => Ok(*number),
        _ => Err(Fault::unsupported(statement.opcode())),
    }
}

/// The operands without the cache policy, which stands last and orders nothing.
fn without_policy(statement: &Statement) -> &[Operand] {
    match statement.operands.split_last() {
        Some((_, others)) if statement.has("L2::cache_hint") => others,
        _ => &statement.operands,
    }
}

fn mask(
    statement: &Statement,
    scope: &Scope<'_>,
    operand: Option<&Operand>,
) -> Result<Option<Value>> {
    match (statement.has("multicast::cluster"), operand) {
        (true, Some(mask)) => Ok(Some(scope.value(mask, 16)?)),
        (false, None) => Ok(None),
        _ => Err(Fault::unsupported(statement.opcode())),
    }
}

fn misaligned<T>(message: String) -> Result<T> {
    Err(Fault::new(FaultKind::Misaligned, message))
}

/// The next copy's own agent. No two operations have the same number.
fn alone(cluster: &Cluster) -> Agent {
    Agent::Copy(cluster.queues.issued + 1)
}

/// The lane that issued a store, and the number by which its groups know it.
#[derive(Clone, Copy, Debug)]
struct Owner {
    rank: u32,
    warp: u32,
    lane: usize,
    number: u64,
}

impl Owner {
    /// A store that is about to be issued.
    fn issue(step: &mut Step<'_>, lane: usize) -> Self {
        let number = step.cluster.queues.issued + 1;
        let owner = Self { rank: step.rank, warp: step.warp, lane, number };
        if let Some(groups) = owner.groups(step.cluster) {
            groups.issue(number);
        }
        owner
    }

    fn groups(self, cluster: &mut Cluster) -> Option<&mut BulkGroups> {
        let cta = cluster.ctas.get_mut(self.rank as usize)?;
        cta.warps.get_mut(self.warp as usize)?.bulk.get_mut(self.lane)
    }

    /// The source is read: the write follows as an operation of its own.
    fn read(self, at: &mut Completion<'_>, write: Box<dyn Operation>) -> Result<()> {
        if let Some(groups) = self.groups(at.cluster) {
            groups.read(self.number);
        }
        let agent = alone(at.cluster);
        at.submit(agent, write).map(|_| ())
    }

    fn written(self, at: &mut Completion<'_>) {
        if let Some(groups) = self.groups(at.cluster) {
            groups.written(self.number);
        }
    }
}

/// Counts a copy of `bytes` to so many thread blocks.
fn count(moved: &mut Moved, bytes: u32, destinations: usize) {
    moved.copies += 1;
    moved.global += u64::from(bytes);
    moved.shared += u64::from(bytes) * destinations as u64;
}
