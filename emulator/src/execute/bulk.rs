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
mod store;
mod tensor;

use crate::execute::step::{Flow, Step};
use crate::fault::Result;
use crate::isa::bulk::Op;

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
