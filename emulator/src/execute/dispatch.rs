//! Sends an operation to its family.

use super::step::{Flow, Step};
use super::{bulk, clc, matrix, memory, scalar, shuffle, sync, tcgen05, wgmma};
use crate::fault::Result;
use crate::isa::Op;

/// Executes an instruction of any family but control, which the scheduler does.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    match op {
        Op::Scalar(op) => scalar::execute(op, step),
        Op::Memory(op) => memory::execute(op, step),
        Op::Shuffle(op) => shuffle::execute(op, step),
        Op::Sync(op) => sync::execute(op, step),
        Op::Bulk(op) => bulk::execute(op, step),
        Op::Matrix(op) => matrix::execute(op, step),
        Op::Tcgen05(op) => tcgen05::execute(op, step),
        Op::Wgmma(op) => wgmma::execute(op, step),
        Op::Clc(op) => clc::execute(op, step),
        Op::Control(_) | Op::Nothing => Ok(Flow::Next),
    }
}
