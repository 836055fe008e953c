//! Instructions that compute from registers to registers.

use crate::execute::step::{Flow, Step};
use crate::fault::Result;
use crate::isa::scalar::{Lanes, Op};
use crate::isa::value::Value;
use crate::settings::Mufu;

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    match op {
        Op::Code(code) => {
            let (mask, rank) = (step.lanes, step.rank);
            let settings = &step.machine.settings;
            let perturb = (settings.mufu == Mufu::Perturbed).then_some(settings.seed);
            let registers = &mut step.warp().registers;
            code(&mut Lanes {
                predicates: &mut registers.predicates,
                words: &mut registers.words,
                doubles: &mut registers.doubles,
                quads: &mut registers.quads,
                mask,
                rank,
                perturb,
            });
        }
        Op::Special { into, from } => {
            for lane in step.each_lane() {
                let value = step.value(Value::Special(*from), lane);
                step.set(*into, lane, value);
            }
        }
    }
    Ok(Flow::Next)
}
