//! wgmma: the tensor cores of sm_90 (PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions").
//!
//! Each warp of a warpgroup has 16 rows of A and D of its own, so that each executes its quarter by itself. Operands in
//! registers are read at issue, shared memory and accumulators when the operation completes.

use super::{Flow, Step};
use crate::execute::panel::{Slice, read_k_major, read_mn_major};
use crate::fault::{Fault, FaultKind, Result};
use crate::machine::asynchronous::{Agent, Completion, Operation};
use crate::machine::registers::LANES;
use crate::machine::warp::Wait;
use crate::program::{Convergence, Lowered, Scope, Value};
use crate::ptx::{Class, Literal, Operand, Statement};
use crate::settings::Rounding;
use crate::tensor::dense::{self, Setup};
use crate::tensor::descriptor::{Descriptor, Generation};
use crate::tensor::numbers::Format;
use crate::tensor::rounding::{Mode, Output};

/// Rows of a warp.
const ROWS: u32 = 16;

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
enum A {
    Descriptor(Value),
    /// Four words.
    Registers([Value; 4]),
}

/// `wgmma.mma_async`
#[derive(Clone, Debug)]
pub struct Mma {
    shape: Shape,
    /// Accumulators.
    d: Vec<u32>,
    a: A,
    b: Value,
    accumulate: Value,
    negated: bool,
    /// Word registers of A, which may not be touched either.
    a_registers: Vec<u32>,
}

/// What does not vary.
#[derive(Clone, Copy, Debug)]
struct Shape {
    n: u32,
    a: Format,
    b: Format,
    output: Output,
    /// A, B are negated.
    negative: [bool; 2],
    /// A, B are MN-major.
    transposed: [bool; 2],
}

impl Shape {
    fn k(&self) -> u32 {
        256 / self.a.bits()
    }

    /// Elements of D in a register.
    fn packed(&self) -> u32 {
        if self.output == Output::F16 { 2 } else { 1 }
    }

    fn mode(&self, rounding: Rounding) -> Mode {
        let small = matches!(self.a, Format::E4M3 | Format::E5M2);
        match rounding {
            Rounding::Exact => Mode::Exact,
            Rounding::MmaSim if small => Mode::Aligned { fraction: 13, mantissa: 13 },
            Rounding::MmaSim => Mode::Aligned { fraction: 25, mantissa: 23 },
        }
    }
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Lowered {
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
    Ok((crate::program::Op::Wgmma(op), Convergence::Warp))
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

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    if step.lanes != u32::MAX {
        let message = format!("wgmma by lanes {:#010x}; it needs all", step.lanes);
        return Err(Fault::new(FaultKind::Divergence, message));
    }
    match op {
        Op::Fence => {}
        Op::Commit => step.warp().wgmma.commit(),
        Op::Wait(allowed) => {
            let warp = step.warp;
            if !step.cta().wgmma_is_over(warp, *allowed) {
                return Ok(Flow::Retry(Wait::WgmmaGroups { allowed: *allowed }));
            }
            step.warp().wgmma.waited(*allowed);
        }
        Op::Mma(mma) => issue(mma, step)?,
    }
    Ok(Flow::Next)
}

fn issue(mma: &Mma, step: &mut Step<'_>) -> Result<()> {
    let uniform = |value: Value, step: &Step<'_>| {
        let first = step.value(value, 0);
        match (1..LANES).find(|lane| step.value(value, *lane) != first) {
            None => Ok(first),
            Some(lane) => {
                let message = format!("wgmma: an operand of lane {lane} is not that of lane 0");
                Err(Fault::new(FaultKind::Divergence, message))
            }
        }
    };
    let quarter = step.warp % 4;
    let a = match &mma.a {
        A::Descriptor(value) => {
            Left::Shared(Descriptor::parse(uniform(*value, step)?, Generation::Sm90)?)
        }
        A::Registers(values) => {
            let mut slices = [[0; 32]; ROWS as usize];
            for (index, value) in values.iter().enumerate() {
                for lane in 0..LANES {
                    let word = step.value(*value, lane) as u32;
                    let (row, byte) = a_place(lane, index);
                    slices[row][byte..byte + 4].copy_from_slice(&word.to_le_bytes());
                }
            }
            Left::Registers(slices.to_vec())
        }
    };
    let operation = Pending {
        rank: step.rank,
        warp: step.warp,
        quarter,
        shape: mma.shape,
        d: mma.d.clone(),
        a,
        b: Descriptor::parse(uniform(mma.b, step)?, Generation::Sm90)?,
        accumulate: (uniform(mma.accumulate, step)? & 1 != 0) != mma.negated,
    };
    if quarter == 0 {
        let shape = &mma.shape;
        let key = format!("wgmma {} m64n{}k{}", shape.a.name(), shape.n, shape.k());
        *step.cluster.counters.mma.entry(key).or_default() += 1;
    }
    let touched = mma.d.iter().chain(&mma.a_registers).copied().collect();
    step.warp().wgmma.issue(touched);
    let agent = Agent::Wgmma(step.rank, step.warp);
    step.submit(agent, Box::new(operation))?;
    Ok(())
}

/// Row and first byte of its K slice of a register of A of a thread.
fn a_place(lane: usize, register: usize) -> (usize, usize) {
    (lane / 4 + 8 * (register & 1), 4 * (lane % 4) + 16 * (register >> 1))
}

/// Row and column of element `index` of D of a thread.
fn d_place(lane: usize, index: usize) -> (usize, usize) {
    (lane / 4 + 8 * (index >> 1 & 1), 8 * (index >> 2) + 2 * (lane % 4) + (index & 1))
}

#[derive(Debug)]
enum Left {
    Shared(Descriptor),
    Registers(Vec<Slice>),
}

/// A warp's quarter of an instruction.
#[derive(Debug)]
struct Pending {
    rank: u32,
    warp: u32,
    quarter: u32,
    shape: Shape,
    d: Vec<u32>,
    a: Left,
    b: Descriptor,
    accumulate: bool,
}

impl Operation for Pending {
    fn complete(self: Box<Self>, at: &mut Completion<'_>) -> Result<()> {
        let shape = &self.shape;
        let cta = &mut at.cluster.ctas[self.rank as usize];
        let (shared, warp) = (&cta.shared, &mut cta.warps[self.warp as usize]);
        let panel = |from: &Descriptor, rows: u32, format: Format, transposed: bool| {
            if transposed {
                read_mn_major(shared, from, rows, format.bits() / 8)
            } else {
                read_k_major(shared, from, rows)
            }
        };
        let left = match &self.a {
            Left::Registers(slices) => slices.clone(),
            Left::Shared(from) => {
                let first = (ROWS * self.quarter) as usize;
                let end = ROWS * (self.quarter + 1);
                panel(from, end, shape.a, shape.transposed[0])?.split_off(first)
            }
        };
        let mut values = Vec::new();
        for slice in panel(&self.b, shape.n, shape.b, shape.transposed[1])? {
            shape.b.unpack(&slice, &mut values);
        }
        negate(&mut values, shape.negative[1]);
        let right = dense::Right::new(&values, shape.k() as usize, shape.b);
        let setup = Setup {
            accumulate: self.accumulate,
            shift: 0,
            output: shape.output,
            mode: shape.mode(at.machine.settings.rounding),
        };
        let n = shape.n as usize;
        let packed = shape.packed() as usize;
        let mut cells = vec![0u32; ROWS as usize * n];
        let words = &mut warp.registers.words;
        let missing =
            || Fault::new(FaultKind::Unsupported, "wgmma of a register that is not there");
        for (index, register) in self.d.iter().enumerate() {
            let register = words.get(*register as usize).ok_or_else(missing)?;
            for (lane, word) in register.iter().enumerate() {
                for part in 0..packed {
                    let (row, column) = d_place(lane, index * packed + part);
                    let word = if packed == 2 { word >> (16 * part) & 0xFFFF } else { *word };
                    cells[row * n + column] = word;
                }
            }
        }
        for (slice, cells) in left.iter().zip(cells.chunks_exact_mut(n)) {
            let mut values = Vec::with_capacity(right.depth());
            shape.a.unpack(slice, &mut values);
            negate(&mut values, shape.negative[0]);
            let left = dense::Left::new(values, shape.a);
            dense::row(&left, &right, None, 0, cells, setup);
        }
        for (index, register) in self.d.iter().enumerate() {
            let register = words.get_mut(*register as usize).ok_or_else(missing)?;
            for (lane, word) in register.iter_mut().enumerate() {
                let cell = |part: usize| {
                    let (row, column) = d_place(lane, index * packed + part);
                    cells[row * n + column]
                };
                *word = if packed == 2 { cell(0) | cell(1) << 16 } else { cell(0) };
            }
        }
        warp.wgmma.completed();
        Ok(())
    }

    fn describe(&self) -> String {
        let shape = &self.shape;
        format!(
            "wgmma m64n{}k{} {} of CTA {} warp {}",
            shape.n,
            shape.k(),
            shape.a.name(),
            self.rank,
            self.warp
        )
    }

    fn uses(&self) -> Vec<u32> {
        vec![self.rank]
    }
}

fn negate(values: &mut [f64], negative: bool) {
    if negative {
        values.iter_mut().for_each(|value| *value = -*value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_cover_each_element_once_and_as_in_the_manual() {
        let mut seen = vec![0; 16 * 24];
        for lane in 0..LANES {
            for index in 0..12 {
                let (row, column) = d_place(lane, index);
                seen[row * 24 + column] += 1;
            }
        }
        assert!(seen.iter().all(|count| *count == 1));
        // PTX ISA, "Register Fragments for wgmma.mma_async", figures of D and A (.f16).
        assert_eq!(d_place(0, 0), (0, 0));
        assert_eq!(d_place(5, 1), (1, 3));
        assert_eq!(d_place(5, 2), (9, 2));
        assert_eq!(d_place(31, 7), (15, 15));
        assert_eq!(a_place(5, 0), (1, 4));
        assert_eq!(a_place(5, 1), (9, 4));
        assert_eq!(a_place(5, 2), (1, 20));
        assert_eq!(a_place(5, 3), (9, 20));
    }
}
