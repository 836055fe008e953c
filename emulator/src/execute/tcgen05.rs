//! tcgen05: the tensor cores of sm_100 and their memory (PTX ISA, "TensorCore 5th Generation Family Instructions").

mod allocate;
mod commit;
mod copy;
mod hazard;
mod mma;
mod transfer;

use crate::execute::step::{Flow, Step};
use crate::fault::Result;
use crate::isa::tcgen05::Op;

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    match op {
        Op::Allocate(op) => allocate::execute(op, step),
        Op::Transfer(op) => transfer::execute(op, step),
        Op::Mma(op) => mma::execute(op, step),
        Op::Copy(op) => copy::execute(op, step),
        Op::Commit(op) => commit::execute(op, step),
        Op::Fence(fence) => {
            if let Some((order, who)) = step.order() {
                order.fence(who, *fence);
            }
            Ok(Flow::Next)
        }
    }
}
