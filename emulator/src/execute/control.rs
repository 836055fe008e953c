//! Control flow: `bra`, `brx.idx`, `call`, `ret`, `exit`, `trap` (PTX ISA, "Control Flow Instructions").
//!
//! An instruction only says where its lanes go; the scheduler, which owns the groups of lanes, sends them there.

mod host_calls;

use super::memory;
use crate::execute::step::Step;
use crate::fault::{Fault, FaultKind, Result};
use crate::isa::address::{FUNCTION_WINDOW, WINDOW_MASK};
use crate::isa::control::{Copy, HostFunction, Op};
use crate::isa::value::Value;

/// Where the lanes that executed an instruction go. The others of their group fall through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// To the next instruction.
    Next,
    /// All to this instruction.
    Jump(u32),
    /// Each of the lanes to an instruction; together they are all that executed.
    Indexed(Vec<(u32, u32)>),
    /// Into a function that returns to the next instruction.
    Call {
        /// Its first instruction.
        target: u32,
    },
    /// Each of the lanes into a function that returns to the next instruction; together they are all that executed.
    Calls(Vec<(u32, u32)>),
    /// Back to the caller; out of the kernel where there is none.
    Return,
    /// Out of the kernel.
    Exit,
}

fn copy(step: &mut Step<'_>, lanes: u32, copies: &[Copy]) -> Result<()> {
    for copy in copies {
        for lane in (0..32).filter(|lane| lanes >> lane & 1 != 0) {
            let bytes = memory::read_parameter(step, lane, copy.from, copy.bytes)?.to_vec();
            memory::write_parameter(step, lane, copy.to, &bytes)?;
        }
    }
    Ok(())
}

/// Lanes by value.
fn by_value(step: &Step<'_>, value: Value) -> Vec<(u32, u64)> {
    let mut groups: Vec<(u32, u64)> = Vec::new();
    for lane in step.each_lane() {
        let value = step.value(value, lane);
        match groups.iter_mut().find(|(_, of)| *of == value) {
            Some((lanes, _)) => *lanes |= 1 << lane,
            None => groups.push((1 << lane, value)),
        }
    }
    groups
}

/// Executes: says where the lanes go.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Effect> {
    match op {
        Op::Branch(target) => Ok(Effect::Jump(*target)),
        Op::Indexed { index, targets } => {
            let groups = by_value(step, *index).into_iter().map(|(lanes, index)| {
                match targets.get(index as u32 as usize) {
                    Some(target) => Ok((lanes, *target)),
                    None => Err(Fault::new(
                        FaultKind::OutOfBounds,
                        format!("brx.idx takes target {index} of {}", targets.len()),
                    )),
                }
            });
            Ok(Effect::Indexed(groups.collect::<Result<_>>()?))
        }
        Op::Call(callee) => {
            copy(step, step.lanes, &callee.copies)?;
            Ok(Effect::Call { target: callee.start })
        }
        Op::CallIndirect { address, callees } => {
            let mut targets = Vec::new();
            for (lanes, address) in by_value(step, *address) {
                let start = address & WINDOW_MASK;
                let is_function = address & !WINDOW_MASK == FUNCTION_WINDOW;
                let callee = callees.iter().find(|callee| u64::from(callee.start) == start);
                let Some(callee) = callee.filter(|_| is_function) else {
                    let message =
                        format!("a call of {address:#x}, no function with such arguments");
                    return Err(Fault::new(FaultKind::OutOfBounds, message));
                };
                copy(step, lanes, &callee.copies)?;
                targets.push((lanes, callee.start));
            }
            Ok(Effect::Calls(targets))
        }
        Op::Results(copies) => {
            copy(step, step.lanes, copies)?;
            Ok(Effect::Next)
        }
        Op::ResultsIndirect { address, copies } => {
            for (lanes, address) in by_value(step, *address) {
                let start = address & WINDOW_MASK;
                match copies.iter().find(|(of, _)| u64::from(*of) == start) {
                    Some((_, copies)) => copy(step, lanes, copies)?,
                    None => return Err(Fault::unsupported("results that the call does not take")),
                }
            }
            Ok(Effect::Next)
        }
        Op::Host { function, arguments, result } => {
            match function {
                HostFunction::Assert => host_calls::assert(step, arguments)?,
                HostFunction::Print => host_calls::print(step, arguments, *result)?,
            }
            Ok(Effect::Next)
        }
        Op::Return => Ok(Effect::Return),
        Op::Exit => Ok(Effect::Exit),
        Op::Trap => Err(Fault::new(FaultKind::Trap, "the kernel executed trap or brkpt")),
        Op::Unsupported(what) => Err(Fault::unsupported(what)),
    }
}
