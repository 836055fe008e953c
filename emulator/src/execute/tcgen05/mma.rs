//! `tcgen05.mma`: what it is made of, and the checks at issue. [`operation`](super::mma) carries it out.

mod operation;

use operation::{Left, Mma, ScaleAddresses};

use super::{agent, check_readers, group, members};
use crate::execute::{Flow, Step};
use crate::fault::{Fault, FaultKind, Result};
use crate::machine::tmem::split;
use crate::program::{Address, Scope, Value};
use crate::ptx::{Operand, Space, Statement};
use crate::tensor::descriptor::{Descriptor, Generation};
use crate::tensor::instruction::{self, Kind};
use crate::tensor::rounding::Output;

/// What an instruction says of the buffer that keeps A between MMAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collector {
    /// `.collector::a::discard`, which is the default.
    Discard,
    /// `.collector::a::fill`
    Fill,
    /// `.collector::a::use`
    Use,
    /// `.collector::a::lastuse`
    LastUse,
}

/// Where A is.
#[derive(Clone, Copy, Debug)]
enum A {
    Shared(Value),
    Tensor(Address),
}

/// Lowered.
#[derive(Clone, Debug)]
pub struct Op {
    kind: Kind,
    group: u32,
    /// Scale factors of a row, if the opcode names the number.
    count: Option<u32>,
    collector: Collector,
    d: Address,
    a: A,
    b: Value,
    instruction: Value,
    scales: Option<(Address, Address)>,
    /// Lanes that are not written: 4 or 8 words.
    disabled: Vec<Value>,
    /// Whether to add what D holds.
    accumulate: Value,
    negated: bool,
    /// `scale-input-d`
    shift: Option<Value>,
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Result<Op> {
    let unsupported = || Fault::unsupported(statement.opcode());
    if ["ws", "sp", "ashift"].iter().any(|word| statement.has(word)) {
        return Err(unsupported());
    }
    let kinds = [
        ("kind::f16", Kind::F16),
        ("kind::tf32", Kind::TF32),
        ("kind::f8f6f4", Kind::F8F6F4),
        ("kind::i8", Kind::I8),
        ("kind::mxf8f6f4", Kind::MXF8F6F4),
        ("kind::mxf4", Kind::MXF4),
        ("kind::mxf4nvf4", Kind::MXF4NVF4),
    ];
    let kind = kinds.iter().find(|(word, _)| statement.has(word)).ok_or_else(unsupported)?.1;
    if kind.is_scaled() != statement.has("block_scale") {
        return Err(unsupported());
    }
    let natural = if kind == Kind::MXF8F6F4 { 1 } else { 2 };
    let counts = [
        ("scale_vec::1X", 1),
        ("scale_vec::2X", 2),
        ("scale_vec::4X", 4),
        ("block16", 4),
        ("block32", natural),
    ];
    let count = counts.iter().find(|(word, _)| statement.has(word)).map(|(_, count)| *count);
    let collectors = [
        ("collector::a::fill", Collector::Fill),
        ("collector::a::use", Collector::Use),
        ("collector::a::lastuse", Collector::LastUse),
    ];
    let collector = collectors
        .iter()
        .find(|(word, _)| statement.has(word))
        .map_or(Collector::Discard, |(_, collector)| *collector);
    let address = |operand: &Operand| scope.address(operand, Space::Generic);
    let [d, a, b, idesc, rest @ ..] = statement.operands.as_slice() else {
        return Err(unsupported());
    };
    let a = match a {
        Operand::Address(..) => A::Tensor(address(a)?),
        _ => A::Shared(scope.value(a, 64)?),
    };
    let (scales, rest) = match rest {
        [sfa, sfb, rest @ ..] if kind.is_scaled() => (Some((address(sfa)?, address(sfb)?)), rest),
        _ if kind.is_scaled() => return Err(unsupported()),
        rest => (None, rest),
    };
    let group = group(statement)?;
    let (disabled, rest) = match rest {
        [Operand::Vector(words), rest @ ..] => {
            if words.len() != 4 * group as usize {
                return Err(unsupported());
            }
            let words = words.iter().map(|word| scope.value(word, 32));
            (words.collect::<Result<_>>()?, rest)
        }
        rest => (Vec::new(), rest),
    };
    let (accumulate, shift) = match rest {
        [accumulate] => (accumulate, None),
        [accumulate, shift] if matches!(kind, Kind::F16 | Kind::TF32) => {
            (accumulate, Some(scope.value(shift, 32)?))
        }
        _ => return Err(unsupported()),
    };
    let (accumulate, negated) = match accumulate {
        Operand::Not(register) => (Value::Register(*register), true),
        operand => (scope.value(operand, 1)?, false),
    };
    let (d, b, instruction) = (address(d)?, scope.value(b, 64)?, scope.value(idesc, 32)?);
    Ok(Op {
        kind,
        group,
        count,
        collector,
        d,
        a,
        b,
        instruction,
        scales,
        disabled,
        accumulate,
        negated,
        shift,
    })
}

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
        members,
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
    for (rank, first, count) in mma.columns() {
        step.cluster.ctas[rank as usize].tmem.check_columns("tcgen05.mma", first, count)?;
        check_readers(step.cluster, "tcgen05.mma", rank, (first, count))?;
    }
    let key =
        format!("{} cta_group::{} {}x{}x{}", op.kind.name(), op.group, what.m, what.n, op.kind.k());
    *step.cluster.counters.mma.entry(key).or_default() += 1;
    let agent = agent(&mma.members);
    step.submit(agent, Box::new(mma))?;
    Ok(())
}

/// What is known of D in words.
fn output_name(output: Output) -> &'static str {
    match output {
        Output::F32 => "f32",
        Output::F16 => "f16",
        Output::S32 { .. } => "s32",
    }
}
