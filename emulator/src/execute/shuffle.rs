//! What lanes of a warp exchange: `shfl`, `vote`, `match`, `activemask`, `redux` (PTX ISA, "Data Movement and
//! Conversion Instructions: shfl.sync", "Parallel Synchronization and Communication Instructions").

use crate::execute::step::{Flow, Step};
use crate::fault::Result;
use crate::isa::shuffle::{Mode, Op, Reduction, Vote};
use crate::isa::value::LANES;

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    let lanes = step.lanes;
    match op {
        Op::Shuffle { into, from, which, clamp, mode } => {
            let values: [u64; LANES] = std::array::from_fn(|lane| step.value(*from, lane));
            for lane in step.each_lane() {
                let which = step.value(*which, lane) as u32 & 31;
                let clamp = step.value(*clamp, lane) as u32;
                let (source, inside) = source(*mode, lane as u32, which, clamp);
                if let Some(register) = into.0 {
                    step.set(register, lane, values[source as usize]);
                }
                if let Some(register) = into.1 {
                    step.set(register, lane, u64::from(inside));
                }
            }
        }
        Op::Vote { into, vote, predicate } => {
            let bits = step.warp_ref().registers.predicates[predicate.register.index as usize];
            let bits = lanes & if predicate.negated { !bits } else { bits };
            let answer = match vote {
                Vote::All => u64::from(bits == lanes),
                Vote::Any => u64::from(bits != 0),
                Vote::Uniform => u64::from(bits == lanes || bits == 0),
                Vote::Ballot => u64::from(bits),
            };
            for lane in step.each_lane() {
                step.set(*into, lane, answer);
            }
        }
        Op::Match { into, value, all } => {
            let values: [u64; LANES] = std::array::from_fn(|lane| step.value(*value, lane));
            for lane in step.each_lane() {
                let equal = step
                    .each_lane()
                    .filter(|other| values[*other] == values[lane])
                    .fold(0, |mask, other| mask | 1u32 << other);
                let agree = equal == lanes;
                let mask = if *all && !agree { 0 } else { equal };
                if let Some(register) = into.0 {
                    step.set(register, lane, u64::from(mask));
                }
                if let Some(register) = into.1 {
                    step.set(register, lane, u64::from(agree));
                }
            }
        }
        Op::ActiveMask(into) => {
            for lane in step.each_lane() {
                step.set(*into, lane, u64::from(lanes));
            }
        }
        Op::Reduce(into, value, reduction) => {
            let values = step.each_lane().map(|lane| step.value(*value, lane) as u32);
            let answer = values.reduce(|sum, value| reduce(*reduction, sum, value)).unwrap_or(0);
            for lane in step.each_lane() {
                step.set(*into, lane, u64::from(answer));
            }
        }
    }
    Ok(Flow::Next)
}

/// The lane that is read, and whether it is in the segment; a lane outside reads itself.
fn source(mode: Mode, lane: u32, which: u32, clamp: u32) -> (u32, bool) {
    let (last, segment) = (clamp & 31, clamp >> 8 & 31);
    // The segment mask keeps bits of the own lane; the clamp says how far the others may go.
    let most = lane & segment | last & !segment;
    let least = lane & segment;
    let (source, inside) = match mode {
        Mode::Up => {
            let source = lane.wrapping_sub(which);
            (source, source as i32 >= most as i32)
        }
        Mode::Down => (lane + which, lane + which <= most),
        Mode::Butterfly => (lane ^ which, (lane ^ which) <= most),
        Mode::Index => {
            let source = least | which & !segment;
            (source, source <= most)
        }
    };
    if inside { (source & 31, true) } else { (lane, false) }
}

fn reduce(reduction: Reduction, first: u32, second: u32) -> u32 {
    match reduction {
        Reduction::Add => first.wrapping_add(second),
        Reduction::Min(true) => (first as i32).min(second as i32) as u32,
        Reduction::Max(true) => (first as i32).max(second as i32) as u32,
        Reduction::Min(false) => first.min(second),
        Reduction::Max(false) => first.max(second),
        Reduction::And => first & second,
        Reduction::Or => first | second,
        Reduction::Xor => first ^ second,
    }
}
