//! `atom` and `red` (PTX ISA, "Parallel Synchronization and Communication Instructions").

use super::access::{allocation, check_alignment, check_mbarrier, locate};
use crate::execute::step::Step;
use crate::fault::{Fault, FaultKind, Result};
use crate::float::half::{Bf16, F16, Half};
use crate::float::round::Mode;
use crate::isa::address::Target;
use crate::isa::memory::Element;
use crate::isa::memory::atomic::{Action, Atomic, Kind};
use crate::isa::value::LANES;
use crate::machine::shared::Proxy;
use crate::ptx::{Class, Register};

/// The new value of an element.
fn combine(op: &Atomic, old: u128, value: u128, replacement: u128, is_global: bool) -> u128 {
    let signed = |bits: u128| match op.bytes {
        4 => i64::from(bits as i32),
        _ => bits as i64,
    };
    match (op.action, op.kind) {
        (Action::And, _) => old & value,
        (Action::Or, _) => old | value,
        (Action::Xor, _) => old ^ value,
        (Action::Exchange, _) => value,
        (Action::CompareAndSwap, _) => {
            if old == value {
                replacement
            } else {
                old
            }
        }
        (Action::Increment, _) => {
            if old >= value {
                0
            } else {
                old + 1
            }
        }
        (Action::Decrement, _) => {
            if old == 0 || old > value {
                value
            } else {
                old - 1
            }
        }
        (_, Kind::F16 | Kind::Bf16) if op.is_pair => {
            let low = half(op, old as u16, value as u16);
            let high = half(op, (old >> 16) as u16, (value >> 16) as u16);
            u128::from(low) | u128::from(high) << 16
        }
        (_, Kind::F16 | Kind::Bf16) => u128::from(half(op, old as u16, value as u16)),
        (_, Kind::Float) => {
            // On global memory the hardware flushes subnormal values (PTX ISA, "atom").
            let flush = |value: f32| {
                if is_global && value.is_subnormal() { 0.0_f32.copysign(value) } else { value }
            };
            let sum = flush(f32::from_bits(old as u32)) + flush(f32::from_bits(value as u32));
            u128::from(if sum.is_nan() { 0x7FFF_FFFF } else { flush(sum).to_bits() })
        }
        (_, Kind::Double) => {
            let sum = f64::from_bits(old as u64) + f64::from_bits(value as u64);
            u128::from(sum.to_bits())
        }
        (Action::Add, _) => old.wrapping_add(value),
        (Action::Min, Kind::Signed) => signed(old).min(signed(value)) as u64 as u128,
        (Action::Max, Kind::Signed) => signed(old).max(signed(value)) as u64 as u128,
        (Action::Min, _) => old.min(value),
        (Action::Max, _) => old.max(value),
    }
}

fn half(op: &Atomic, old: u16, value: u16) -> u16 {
    match (op.action, op.kind) {
        (Action::Min, Kind::F16) => F16(old).min(F16(value), false).0,
        (Action::Max, Kind::F16) => F16(old).max(F16(value), false).0,
        (Action::Min, _) => Bf16(old).min(Bf16(value), false).0,
        (Action::Max, _) => Bf16(old).max(Bf16(value), false).0,
        (_, Kind::F16) => F16(old).add(F16(value), Mode::Nearest).0,
        _ => Bf16(old).add(Bf16(value), Mode::Nearest).0,
    }
}

fn value(step: &Step<'_>, element: Element, lane: usize, bytes: u32) -> u128 {
    let wide = match element {
        Element::Sink => 0,
        Element::Register(Register { class: Class::Quad, index }) => {
            let quads = &step.warp_ref().registers.quads;
            quads.get(index as usize).map_or(0, |quad| quad[lane])
        }
        Element::Register(register) => u128::from(step.warp_ref().registers.get(register, lane)),
        Element::Value(value) => u128::from(step.value(value, lane)),
    };
    wide & (u128::MAX >> (128 - 8 * bytes))
}

/// Executes, lane after lane.
pub fn execute(op: &Atomic, targets: &[Target; LANES], step: &mut Step<'_>) -> Result<()> {
    let bytes = op.bytes as usize;
    for lane in step.each_lane() {
        check_alignment(targets[lane], bytes * op.from.len())?;
        for (index, element) in op.from.iter().enumerate() {
            let operand = value(step, *element, lane, op.bytes);
            let replacement =
                op.replacement.map_or(0, |element| value(step, element, lane, op.bytes));
            let old =
                update(op, step, targets[lane], (index * bytes) as u32, operand, replacement)?;
            if let Some(Element::Register(into)) = op.into.get(index) {
                let quads = &mut step.warp().registers.quads;
                match (into.class, quads.get_mut(into.index as usize)) {
                    (Class::Quad, Some(quad)) => quad[lane] = old,
                    _ => step.set(*into, lane, old as u64),
                }
            }
        }
    }
    Ok(())
}

fn update(
    op: &Atomic,
    step: &mut Step<'_>,
    target: Target,
    skip: u32,
    operand: u128,
    replacement: u128,
) -> Result<u128> {
    let bytes = op.bytes as usize;
    match target {
        Target::Global(address) => {
            let address = address + u64::from(skip);
            step.cluster.counters.global_loads += bytes as u64;
            step.cluster.counters.global_stores += bytes as u64;
            let combined = |old| combine(op, old, operand, replacement, true);
            let allocation = allocation(step, address, bytes as u64)?;
            let old = if bytes == 16 {
                step.machine.memory.update_wide(address, combined)?
            } else {
                // What nobody wrote can be replaced, but not built upon.
                if op.action != Action::Exchange {
                    let mut before = [0; 8];
                    allocation.read(address, &mut before[..bytes], true)?;
                }
                let change = |old| combined(u128::from(old)) as u64;
                u128::from(allocation.update(address, op.bytes, change)?)
            };
            // An attempt that fails, such as to take a lock, only reads.
            let low = u128::MAX >> (128 - 8 * bytes);
            let changed = combined(old) & low != old & low || allocation.is_shared_with_host();
            step.cluster.changes += u64::from(changed);
            step.cluster.reads += 1;
            Ok(old)
        }
        Target::Shared(address) => {
            let (rank, offset) = locate(step, op.address.space, address + skip)?;
            check_mbarrier(step, rank, offset, bytes)?;
            let warp = (rank == step.rank).then_some(step.warp);
            let shared = &mut step.cluster.ctas[rank as usize].shared;
            let mut before = [0; 16];
            if op.action == Action::Exchange {
                before[..bytes].copy_from_slice(shared.peek(offset, op.bytes)?);
            } else {
                before[..bytes].copy_from_slice(shared.read(offset, op.bytes, Proxy::Generic)?);
            }
            let old = u128::from_le_bytes(before);
            let new = combine(op, old, operand, replacement, false).to_le_bytes();
            shared.store(offset, &new[..bytes], warp)?;
            step.cluster.changes += u64::from(new[..bytes] != before[..bytes]);
            Ok(old)
        }
        Target::Param(_) | Target::Local(_) => Err(Fault::new(
            FaultKind::OutOfBounds,
            "an atomic operation on parameters or local memory",
        )),
    }
}
