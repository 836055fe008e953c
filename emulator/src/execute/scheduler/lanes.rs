//! How lanes of a warp go through an instruction: which execute it, which have to come, and where they go then.

use crate::execute::control::{self, Effect};
use crate::execute::dispatch;
use crate::execute::step::{Flow, Step};
use crate::fault::{Fault, FaultKind, Result};
use crate::isa::value::Convergence;
use crate::isa::{Instruction, Op};
use crate::machine::asynchronous::Agent;
use crate::machine::warp::State;

/// What becomes of a group after an instruction.
pub enum After {
    /// It goes on at this instruction.
    At(u32),
    /// It waits, or there is nothing left of it.
    Stopped,
}

/// Executes the instruction for a group of the warp.
pub fn advance(step: &mut Step<'_>, instruction: &Instruction, group: &mut usize) -> Result<After> {
    let pc = step.pc;
    let whole = step.warp_ref().groups[*group].lanes;
    step.lanes = match instruction.guard {
        None => whole,
        Some(guard) => {
            let index = guard.register.index as usize;
            let predicates = &step.warp_ref().registers.predicates;
            let bits = predicates.get(index).copied().unwrap_or(0);
            whole & if guard.negated { !bits } else { bits }
        }
    };
    if step.lanes == 0 {
        return Ok(After::At(pc + 1));
    }
    if instruction.convergence != Convergence::None && !converge(step, instruction, group)? {
        return Ok(After::Stopped);
    }
    let lanes = step.lanes;
    if instruction.convergence != Convergence::None
        && let Some((order, who)) = step.order()
    {
        order.meet(who);
    }
    step.warp().executed += 1;
    if !step.warp_ref().loads.registers.is_empty() {
        check_pending(step, instruction)?;
    }
    // Accumulators of wgmma may be used by the next wgmma.
    if !step.warp_ref().wgmma.is_empty() && !matches!(instruction.op, Op::Wgmma(_)) {
        let wgmma = &step.warp_ref().wgmma;
        if let Some(word) = instruction.words.iter().find(|word| wgmma.uses(**word)) {
            let message = format!(
                "register {word} is used between the wgmma.mma_async that uses it and the wait for that"
            );
            return Err(Fault::new(FaultKind::PendingRegister, message));
        }
    }
    if step.machine.settings.trace >= 3 {
        eprintln!(
            "emulator: CTA {} warp {} lanes {lanes:08x} PTX line {}",
            step.rank, step.warp, instruction.line
        );
    }
    if let Op::Control(op) = &instruction.op {
        let effect = control::execute(op, step)?;
        return Ok(jump(step, effect, *group, lanes));
    }
    let flow = dispatch::execute(&instruction.op, step)?;
    let waits = match flow {
        Flow::Next => return Ok(After::At(pc + 1)),
        Flow::Retry(wait) => State::Retry(wait),
        Flow::Advance(wait) => State::Advance(wait),
    };
    let warp = step.warp();
    let rest = warp.groups[*group].lanes & !lanes;
    if rest != 0 {
        warp.split(*group, rest, pc + 1);
    }
    warp.groups[*group].state = waits;
    Ok(After::Stopped)
}

/// Brings lanes together for an instruction that needs them. False if some are still to come.
fn converge(step: &mut Step<'_>, instruction: &Instruction, group: &mut usize) -> Result<bool> {
    let pc = step.pc;
    let lanes = step.lanes;
    let warp = step.warp();
    let rest = warp.groups[*group].lanes & !lanes;
    if rest != 0 {
        warp.split(*group, rest, pc + 1);
    }
    *group = warp.gather(*group);
    let present = warp.groups[*group].lanes;
    let alive = warp.alive();
    let needed = match instruction.convergence {
        Convergence::None => 0,
        Convergence::Warp => alive,
        Convergence::Members(mask) => {
            let lane = present.trailing_zeros() as usize;
            let mask = step.value(mask, lane) as u32;
            if mask >> lane & 1 == 0 {
                let message =
                    format!("lane {lane} executes with a member mask {mask:#010x} without it");
                return Err(Fault::new(FaultKind::Divergence, message));
            }
            mask & alive
        }
    };
    step.lanes = present;
    if needed & !present == 0 {
        if let Convergence::Members(_) = instruction.convergence {
            // Lanes outside of the mask execute with one of their own.
            let others = present & !needed;
            if others != 0 {
                let warp = step.warp();
                warp.split(*group, others, pc);
                step.lanes = needed;
            }
        }
        step.warp().groups[*group].state = State::Ready;
        return Ok(true);
    }
    let warp = step.warp();
    warp.groups[*group].state = State::Converging;
    // Nobody else can come when all others stand at such an instruction, too.
    if warp.groups.iter().all(|other| other.state == State::Converging) {
        let missing = needed & !present;
        let program = &step.launch.program;
        let places: Vec<String> = step
            .warp_ref()
            .groups
            .iter()
            .map(|other| {
                let line = program.instructions.get(other.pc as usize).map_or(0, |at| at.line);
                format!("lanes {:#010x} at PTX line {line}", other.lanes)
            })
            .collect();
        return Err(Fault::new(
            FaultKind::Divergence,
            format!("lanes {missing:#010x} cannot come to this instruction: {}", places.join(", ")),
        ));
    }
    Ok(false)
}

fn check_pending(step: &mut Step<'_>, instruction: &Instruction) -> Result<()> {
    let warp = step.warp();
    warp.reads_accumulators = true;
    let pending = &warp.loads.registers;
    let Some(word) = instruction.words.iter().find(|word| pending.contains(word)) else {
        return Ok(());
    };
    if step.machine.settings.checks.pending_registers {
        let message = format!(
            "register {word} is used between the tcgen05.ld that fills it and the wait for that"
        );
        return Err(Fault::new(FaultKind::PendingRegister, message));
    }
    // Hardware waits for a register that an instruction depends on (PTX ISA, "tcgen05 Memory Consistency Model").
    let agent = Agent::TensorMemory(step.rank, step.warp);
    while let Some(place) = step.cluster.queues.position(agent) {
        step.cluster.complete(step.machine, step.launch, place)?;
    }
    let loads = &mut step.warp().loads;
    loads.registers.clear();
    loads.regions.clear();
    Ok(())
}

/// Applies control flow to the lanes that executed it; the others of the group go on.
fn jump(step: &mut Step<'_>, effect: Effect, group: usize, lanes: u32) -> After {
    let pc = step.pc;
    let warp = step.warp();
    let rest = warp.groups[group].lanes & !lanes;
    match effect {
        Effect::Next => return After::At(pc + 1),
        Effect::Jump(target) if rest == 0 => return After::At(target),
        _ if rest != 0 => warp.split(group, rest, pc + 1),
        _ => {}
    }
    match effect {
        Effect::Next => {}
        Effect::Jump(target) => {
            warp.groups[group].pc = target;
            return After::Stopped;
        }
        Effect::Indexed(targets) => {
            let mut left = lanes;
            for (some, target) in targets {
                let some = some & left;
                if some == left {
                    warp.groups[group].pc = target;
                    break;
                }
                if some != 0 {
                    warp.split(group, some, target);
                    left &= !some;
                }
            }
        }
        Effect::Call { target } => {
            warp.groups[group].calls.push(pc + 1);
            return After::At(target);
        }
        Effect::Calls(targets) => {
            warp.groups[group].calls.push(pc + 1);
            let mut left = lanes;
            for (some, target) in targets {
                let some = some & left;
                if some == left {
                    warp.groups[group].pc = target;
                    break;
                }
                if some != 0 {
                    warp.split(group, some, target);
                    left &= !some;
                }
            }
        }
        Effect::Return if !warp.groups[group].calls.is_empty() => {
            let back = warp.groups[group].calls.pop().unwrap_or(0);
            return After::At(back);
        }
        Effect::Return | Effect::Exit => {
            warp.exited |= lanes;
            warp.groups.swap_remove(group);
        }
    }
    After::Stopped
}
