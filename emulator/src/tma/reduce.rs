//! Reductions into global and shared memory (PTX ISA, "cp.reduce.async.bulk").

use half::{bf16, f16};

use super::element::Element;
use crate::fault::{Fault, FaultKind, Result};
use crate::machine::global::GlobalMemory;

/// What is done with the element that is there and the one that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operator {
    Add,
    Min,
    Max,
    /// One more, or 0 from the new element on.
    Inc,
    /// One less, or the new element from 0 and from above it.
    Dec,
    And,
    Or,
    Xor,
}

/// How an element is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Number {
    U32,
    S32,
    U64,
    S64,
    F16,
    Bf16,
    /// Subnormal numbers count as zero.
    F32,
    F64,
}

/// An operator and a type that go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reduction {
    operator: Operator,
    number: Number,
}

impl Operator {
    /// By its word in an opcode.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "add" => Self::Add,
            "min" => Self::Min,
            "max" => Self::Max,
            "inc" => Self::Inc,
            "dec" => Self::Dec,
            "and" => Self::And,
            "or" => Self::Or,
            "xor" => Self::Xor,
            _ => return None,
        })
    }
}

impl Number {
    /// By its word in an opcode. Bits are unsigned here; [`Reduction::new`] tells which operators they take.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "u32" | "b32" => Self::U32,
            "s32" => Self::S32,
            "u64" | "b64" => Self::U64,
            "s64" => Self::S64,
            "f16" => Self::F16,
            "bf16" => Self::Bf16,
            "f32" => Self::F32,
            "f64" => Self::F64,
            _ => return None,
        })
    }

    /// Of a tensor's elements.
    pub fn of(element: Element) -> Option<Self> {
        Some(match element {
            Element::U32 => Self::U32,
            Element::S32 => Self::S32,
            Element::U64 => Self::U64,
            Element::S64 => Self::S64,
            Element::F16 => Self::F16,
            Element::Bf16 => Self::Bf16,
            Element::F32 | Element::F32Ftz => Self::F32,
            _ => return None,
        })
    }

    /// Size in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::U32 | Self::S32 | Self::F32 => 4,
            Self::U64 | Self::S64 | Self::F64 => 8,
        }
    }
}

impl Reduction {
    /// `None` for a pair that the manual's table does not have for destinations in global memory.
    pub fn new(operator: Operator, number: Number) -> Option<Self> {
        let valid = match operator {
            Operator::Add => number != Number::S64,
            Operator::Min | Operator::Max => !matches!(number, Number::F32 | Number::F64),
            Operator::Inc | Operator::Dec => number == Number::U32,
            Operator::And | Operator::Or | Operator::Xor => {
                matches!(number, Number::U32 | Number::S32 | Number::U64 | Number::S64)
            }
        };
        valid.then_some(Self { operator, number })
    }

    /// Whether the table has the pair for destinations in shared memory.
    pub fn is_for_shared(self) -> bool {
        match self.operator {
            Operator::Add => matches!(self.number, Number::U32 | Number::S32 | Number::U64),
            _ => matches!(self.number, Number::U32 | Number::S32),
        }
    }

    /// The new element, from the old one and the one that comes.
    pub fn apply(self, old: u64, new: u64) -> u64 {
        match self.number {
            Number::U32 => u64::from(self.unsigned(old & u64::from(u32::MAX), new) as u32),
            Number::S32 => self.signed(i64::from(old as i32), i64::from(new as i32)) as u32 as u64,
            Number::U64 => self.unsigned(old, new),
            Number::S64 => self.signed(old as i64, new as i64) as u64,
            Number::F16 => {
                let [old, new] = [old, new].map(|bits| f16::from_bits(bits as u16));
                u64::from(match self.operator {
                    Operator::Add => f16::from_f32(odd_sum(old.to_f64(), new.to_f64())).to_bits(),
                    _ => choose(self.operator, old.to_f64(), new.to_f64(), old, new).to_bits(),
                })
            }
            Number::Bf16 => {
                let [old, new] = [old, new].map(|bits| bf16::from_bits(bits as u16));
                u64::from(match self.operator {
                    Operator::Add => bf16::from_f32(odd_sum(old.to_f64(), new.to_f64())).to_bits(),
                    _ => choose(self.operator, old.to_f64(), new.to_f64(), old, new).to_bits(),
                })
            }
            Number::F32 => {
                let [old, new] = [old, new].map(|bits| flushed(f32::from_bits(bits as u32)));
                u64::from(flushed(old + new).to_bits())
            }
            Number::F64 => (f64::from_bits(old) + f64::from_bits(new)).to_bits(),
        }
    }

    fn unsigned(self, old: u64, new: u64) -> u64 {
        match self.operator {
            Operator::Add => old.wrapping_add(new),
            Operator::Min => old.min(new),
            Operator::Max => old.max(new),
            Operator::Inc => {
                if old >= new {
                    0
                } else {
                    old + 1
                }
            }
            Operator::Dec => {
                if old == 0 || old > new {
                    new
                } else {
                    old - 1
                }
            }
            Operator::And => old & new,
            Operator::Or => old | new,
            Operator::Xor => old ^ new,
        }
    }

    fn signed(self, old: i64, new: i64) -> i64 {
        match self.operator {
            Operator::Min => old.min(new),
            Operator::Max => old.max(new),
            _ => self.unsigned(old as u64, new as u64) as i64,
        }
    }

    /// Reduces elements into global memory, each atomically.
    pub fn run(self, memory: &GlobalMemory, address: u64, from: &[u8]) -> Result<()> {
        let (allocation, offset) = memory.locate(address, from.len() as u64)?;
        // Bytes that nobody wrote are found before anything changes.
        let mut old = vec![0; from.len()];
        allocation.read(offset, &mut old, true)?;
        let size = self.number.bytes();
        if !address.is_multiple_of(size as u64) || !from.len().is_multiple_of(size) {
            let message = format!("a reduction of {} bytes at {address:#x}", from.len());
            return Err(Fault::new(FaultKind::Misaligned, message));
        }
        for (index, element) in from.chunks_exact(size).enumerate() {
            let at = offset + (index * size) as u64;
            let new = bits(element);
            allocation.update(at, size as u32, |old| self.apply(old, new));
        }
        Ok(())
    }

    /// Reduces elements that lie in `from` into those in `into`.
    pub fn run_shared(self, into: &mut [u8], from: &[u8]) {
        let size = self.number.bytes();
        for (into, from) in into.chunks_exact_mut(size).zip(from.chunks_exact(size)) {
            let result = self.apply(bits(into), bits(from));
            into.copy_from_slice(&result.to_le_bytes()[..size]);
        }
    }
}

fn bits(element: &[u8]) -> u64 {
    element.iter().rev().fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

/// The lesser or greater; what is no NaN, if one is.
fn choose<T>(operator: Operator, old: f64, new: f64, old_bits: T, new_bits: T) -> T {
    let less = old < new || old == new && old.is_sign_negative();
    let takes_old = match (old.is_nan(), new.is_nan()) {
        (_, true) => true,
        (true, false) => false,
        _ if operator == Operator::Min => less,
        _ => !less,
    };
    if takes_old { old_bits } else { new_bits }
}

/// The sum rounded to odd: what is not exact keeps a low bit of 1. Rounding it again to half the bits or fewer gives
/// what rounding the exact sum once would.
fn odd_sum(old: f64, new: f64) -> f32 {
    let sum = old + new;
    if !sum.is_finite() {
        return sum as f32;
    }
    // What the sum lost in rounding (Knuth's two-sum).
    let part = sum - old;
    let lost = (old - (sum - part)) + (new - part);
    let wide = match (lost == 0.0, (lost > 0.0) == (sum > 0.0)) {
        (true, _) => sum,
        (false, true) => f64::from_bits(sum.to_bits() | 1),
        (false, false) => f64::from_bits(sum.to_bits() - 1 | 1),
    };
    let near = wide as f32;
    if f64::from(near) == wide {
        return near;
    }
    let toward_zero = near.to_bits() - u32::from(f64::from(near).abs() > wide.abs());
    f32::from_bits(toward_zero | 1)
}

fn flushed(value: f32) -> f32 {
    if value.is_subnormal() { 0.0_f32.copysign(value) } else { value }
}
