//! wgmma: the tensor cores of sm_90 (PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions").

use crate::fault::{Fault, Result};
use crate::isa::scope::{Lowered, Scope};
use crate::isa::value::{Convergence, Value};
use crate::ptx::{Class, Literal, Operand, Statement};
use crate::tensor::numbers::Format;
use crate::tensor::rounding::Output;

/// Lowered.
#[derive(Clone, Debug)]
pub enum Op {
    /// `wgmma.fence`: registers are in order in this model.
    Fence,
    /// `wgmma.commit_group`
    Commit,
    /// `wgmma.wait_group`
    Wait(u32),
    /// `wgmma.mma_async`
    Mma(Box<Mma>),
}

/// Where A is.
#[derive(Clone, Debug)]
pub(crate) enum A {
    Descriptor(Value),
    /// Four words.
    Registers([Value; 4]),
}

/// `wgmma.mma_async`
#[derive(Clone, Debug)]
pub struct Mma {
    pub(crate) shape: Shape,
    /// Accumulators.
    pub(crate) d: Vec<u32>,
    pub(crate) a: A,
    pub(crate) b: Value,
    pub(crate) accumulate: Value,
    pub(crate) negated: bool,
    /// Word registers of A, which may not be touched either.
    pub(crate) a_registers: Vec<u32>,
}

/// What does not vary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) n: u32,
    pub(crate) a: Format,
    pub(crate) b: Format,
    pub(crate) output: Output,
    /// A, B are negated.
    pub(crate) negative: [bool; 2],
    /// A, B are MN-major.
    pub(crate) transposed: [bool; 2],
}

impl Shape {
    pub(crate) fn k(&self) -> u32 {
        256 / self.a.bits()
    }

    /// Elements of D in a register.
    pub(crate) fn packed(&self) -> u32 {
        if self.output == Output::F16 { 2 } else { 1 }
    }
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Lowered<Op> {
    let unsupported = || Fault::unsupported(statement.opcode());
    let op = match (statement.suffixes.first().map(String::as_str), statement.operands.as_slice()) {
        (Some("fence"), []) => Op::Fence,
        (Some("commit_group"), []) => Op::Commit,
        (Some("wait_group"), [Operand::Literal(Literal::Integer(count))]) if *count < 8 => {
            Op::Wait(*count as u32)
        }
        (Some("mma_async"), operands) => Op::Mma(Box::new(lower_mma(statement, operands, scope)?)),
        _ => return Err(unsupported()),
    };
    Ok((Some(op), Convergence::Warp))
}

fn lower_mma(statement: &Statement, operands: &[Operand], scope: &Scope<'_>) -> Result<Mma> {
    let unsupported = || Fault::unsupported(statement.opcode());
    if statement.has("sp") {
        return Err(unsupported());
    }
    let at = statement.suffixes.iter().position(|word| word.starts_with("m64n"));
    let at = at.ok_or_else(unsupported)?;
    let types: Vec<&str> = statement.suffixes[at + 1..]
        .iter()
        .map(String::as_str)
        .filter(|word| *word != "satfinite")
        .collect();
    let [d, a, b] = types[..] else { return Err(unsupported()) };
    let format = |word: &str| {
        let formats = [
            Format::F16,
            Format::BF16,
            Format::TF32,
            Format::E4M3,
            Format::E5M2,
            Format::S8,
            Format::U8,
        ];
        formats.into_iter().find(|format| format.name() == word).ok_or_else(unsupported)
    };
    let (a, b) = (format(a)?, format(b)?);
    let output = match d {
        "f32" => Output::F32,
        "f16" => Output::F16,
        "s32" => Output::S32 { saturate: statement.has("satfinite") },
        _ => return Err(unsupported()),
    };
    let (n, k) = statement.suffixes[at]["m64n".len()..].split_once('k').ok_or_else(unsupported)?;
    let (n, k): (u32, u32) = match (n.parse(), k.parse()) {
        (Ok(n), Ok(k)) => (n, k),
        _ => return Err(unsupported()),
    };
    let mut shape = Shape { n, a, b, output, negative: [false; 2], transposed: [false; 2] };
    if a.bits() != b.bits() || k != shape.k() || n == 0 || n > 256 || !n.is_multiple_of(8) {
        return Err(unsupported());
    }
    let [d, a_operand, b_operand, accumulate, rest @ ..] = operands else {
        return Err(unsupported());
    };
    let word = |operand: &Operand| match operand {
        Operand::Register(register) if register.class == Class::Word => Ok(register.index),
        _ => Err(unsupported()),
    };
    let Operand::Vector(d) = d else { return Err(unsupported()) };
    let d: Vec<u32> = d.iter().map(word).collect::<Result<_>>()?;
    if d.len() as u32 != n / 2 / shape.packed() {
        return Err(unsupported());
    }
    let (a, a_registers) = match a_operand {
        Operand::Vector(registers) => {
            let values: Vec<Value> = registers
                .iter()
                .map(|register| scope.value(register, 32))
                .collect::<Result<_>>()?;
            let values = values.try_into().map_err(|_| unsupported())?;
            (A::Registers(values), registers.iter().map(word).collect::<Result<_>>()?)
        }
        operand => (A::Descriptor(scope.value(operand, 64)?), Vec::new()),
    };
    let numbers = rest.iter().map(|operand| match operand {
        Operand::Literal(Literal::Integer(number)) => Ok(*number as i64 as i32),
        _ => Err(unsupported()),
    });
    let numbers: Vec<i32> = numbers.collect::<Result<_>>()?;
    let sixteen = shape.a.bits() == 16;
    let (signs, majors): (&[i32], [i32; 2]) = match (&a, numbers.as_slice()) {
        (_, []) if matches!(output, Output::S32 { .. }) => (&[1, 1], [0, 0]),
        (_, signs @ [_, _]) if !sixteen => (signs, [0, 0]),
        (A::Descriptor(_), [sa, sb, ta, tb]) if sixteen => (&[*sa, *sb], [*ta, *tb]),
        (A::Registers(_), [sa, sb, tb]) if sixteen => (&[*sa, *sb], [0, *tb]),
        _ => return Err(unsupported()),
    };
    if signs.iter().any(|sign| sign.abs() != 1)
        || majors.iter().any(|major| !(0..=1).contains(major))
    {
        return Err(unsupported());
    }
    shape.negative = [signs[0] < 0, signs[1] < 0];
    shape.transposed = majors.map(|major| major == 1);
    let (accumulate, negated) = match accumulate {
        Operand::Not(register) => (Value::Register(*register), true),
        operand => (scope.value(operand, 1)?, false),
    };
    Ok(Mma { shape, d, a, b: scope.value(b_operand, 64)?, accumulate, negated, a_registers })
}
