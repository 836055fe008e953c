//! Sends an operation to its family.

use super::step::{Flow, Step};
use super::{bulk, clc, matrix, memory, scalar, shuffle, sync, tcgen05, wgmma};
use crate::fault::Result;
use crate::isa::Op;

/// Executes an instruction of any family but control, which the scheduler does.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    step.cluster.changes += u64::from(has_effect(op));
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

/// Whether an instruction does more than to compute. Loads and stores count by themselves, as they know what they touch.
fn has_effect(op: &Op) -> bool {
    match op {
        Op::Scalar(_) | Op::Memory(_) | Op::Shuffle(_) | Op::Control(_) | Op::Nothing => false,
        Op::Sync(op) => op.has_effect(),
        Op::Tcgen05(op) => op.has_effect(),
        Op::Bulk(_) | Op::Matrix(_) | Op::Wgmma(_) | Op::Clc(_) => true,
    }
}
