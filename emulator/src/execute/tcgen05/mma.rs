//! `tcgen05.mma`: the checks at issue. [`operation`](self) carries it out.

mod operation;

use super::hazard::{agent, check_readers, members};
use crate::execute::step::{Flow, Step};
use crate::fault::{Fault, FaultKind, Result};
use crate::isa::tcgen05::mma::{A, Op};
use crate::isa::value::Address;
use crate::machine::order::Issue;
use crate::machine::tmem::split;
use crate::tensor::descriptor::{Descriptor, Generation};
use crate::tensor::instruction::{self, Kind};
use operation::{Left, Mma, ScaleAddresses};

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    for lane in step.each_lane() {
        issue(op, step, lane)?;
    }
    Ok(Flow::Next)
}

fn issue(op: &Op, step: &mut Step<'_>, lane: usize) -> Result<()> {
    let members = members(step, op.group)?;
    let bits = step.value(op.instruction, lane) as u32;
    let what = instruction::parse(bits, op.kind, op.group, op.count)?;
    let (row, column) = split(step.address(&op.d, lane) as u32);
    if row != 0 && !(row == 16 && op.group == 1 && what.m == 64) {
        let message = format!("tcgen05.mma into lane {row} and on; M is {}", what.m);
        return Err(Fault::new(FaultKind::TensorMemory, message));
    }
    let b_bits = step.value(op.b, lane);
    let (a, a_key) = match op.a {
        A::Shared(value) => {
            let bits = step.value(value, lane);
            (Left::Shared(Descriptor::parse(bits, Generation::Sm100)?), bits)
        }
        A::Tensor(address) => {
            let whole = what.m == 128 * op.group;
            if !whole || what.a.bits() < 8 && op.kind != Kind::MXF4 && op.kind != Kind::MXF4NVF4 {
                return Err(Fault::unsupported(format!(
                    "A of {} in tensor memory with M = {} and cta_group::{}",
                    what.a.name(),
                    what.m,
                    op.group
                )));
            }
            if what.transposed[0] {
                let message =
                    "A in tensor memory cannot be MN-major (bit 15 of the instruction descriptor)";
                return Err(Fault::new(FaultKind::Descriptor, message));
            }
            let address = step.address(&address, lane) as u32;
            (Left::Tensor(split(address).1), u64::from(address))
        }
    };
    let address = |step: &Step<'_>, address: &Address| {
        // Bits 30 and 31 are the id of the scale factors, which the instruction descriptor has, too.
        split(step.address(address, lane) as u32 & 0x3FFF_FFFF).1
    };
    let scales = op
        .scales
        .as_ref()
        .map(|(a, b)| ScaleAddresses { a: address(step, a), b: address(step, b) });
    let disabled = op.disabled.iter().map(|word| step.value(*word, lane) as u32).collect();
    let accumulate = (step.value(op.accumulate, lane) & 1 != 0) != op.negated;
    let shift = op.shift.map_or(0, |value| step.value(value, lane) as u32);
    if shift > 15 {
        let message = format!("scale-input-d is {shift}; it can be 0..=15");
        return Err(Fault::new(FaultKind::Descriptor, message));
    }
    let mma = Mma {
        thread: (step.rank, step.warp, lane as u32),
        members,
        units: operation::units(&what, row),
        what,
        row,
        column,
        a,
        a_key,
        b: Descriptor::parse(b_bits, Generation::Sm100)?,
        scales,
        disabled,
        accumulate,
        shift,
        collector: op.collector,
    };
    for (rank, region) in mma.regions() {
        let tmem = &step.cluster.ctas[rank as usize].tmem;
        tmem.check_columns("tcgen05.mma", region.column, region.columns)?;
        check_readers(step.cluster, "tcgen05.mma", rank, region)?;
    }
    let key =
        format!("{} cta_group::{} {}x{}x{}", op.kind.name(), op.group, what.m, what.n, op.kind.k());
    *step.cluster.counters.mma.entry(key).or_default() += 1;
    let agent = agent(&mma.members);
    step.submit(agent, lane, Issue::Tensor, Box::new(mma))?;
    Ok(())
}
