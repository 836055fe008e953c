//! wgmma: the tensor cores of sm_90 (PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions").
//!
//! Each warp of a warpgroup has 16 rows of A and D of its own, so that each executes its quarter by itself. Operands in
//! registers are read at issue, shared memory and accumulators when the operation completes.

use crate::execute::panel::{Slice, read_k_major, read_mn_major};
use crate::execute::step::{Flow, Step};
use crate::fault::{Fault, FaultKind, Result};
use crate::isa::value::{LANES, Value};
use crate::isa::wgmma::{A, Mma, Op, Shape};
use crate::machine::asynchronous::{Agent, Completion, Operation};
use crate::machine::order::Issue;
use crate::machine::warp::Wait;
use crate::settings::Rounding;
use crate::tensor::dense::{self, Setup};
use crate::tensor::descriptor::{Descriptor, Generation};
use crate::tensor::numbers::Format;
use crate::tensor::rounding::Mode;

/// Rows of a warp.
const ROWS: u32 = 16;

/// How a sum is rounded.
fn mode(shape: &Shape, rounding: Rounding) -> Mode {
    let small = matches!(shape.a, Format::E4M3 | Format::E5M2);
    match rounding {
        Rounding::Exact => Mode::Exact,
        Rounding::MmaSim if small => Mode::Aligned { fraction: 13, mantissa: 13 },
        Rounding::MmaSim => dense::MMA_SIM,
    }
}

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    if step.lanes != u32::MAX {
        let message = format!("wgmma by lanes {:#010x}; it needs all", step.lanes);
        return Err(Fault::new(FaultKind::Divergence, message));
    }
    match op {
        Op::Fence => {}
        Op::Commit => {
            step.warp().wgmma.commit();
            if let Some((order, who)) = step.order() {
                order.commit_wgmma(who);
            }
        }
        Op::Wait(allowed) => {
            let warp = step.warp;
            if !step.cta().wgmma_is_over(warp, *allowed) {
                return Ok(Flow::Retry(Wait::WgmmaGroups { allowed: *allowed }));
            }
            step.warp().wgmma.waited(*allowed);
            if let Some((order, who)) = step.order() {
                order.wait_wgmma(who, *allowed);
            }
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
    step.submit(agent, 0, Issue::Wgmma, Box::new(operation))?;
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
            mode: mode(shape, at.machine.settings.rounding),
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
