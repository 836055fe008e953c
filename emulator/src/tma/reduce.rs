//! The arithmetic of reductions (PTX ISA, "cp.reduce.async.bulk").

use half::{bf16, f16};

use super::element::Element;

/// The NaN that reductions of f16 and bf16 give, by bits (recorded on an H100).
const NAN: u16 = 0x7FFF;

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
    F32,
    /// Subnormal numbers count as zero.
    F32Ftz,
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
            // The manual says so of `cp.reduce.async.bulk`.
            "f32" => Self::F32Ftz,
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
            Element::F32 | Element::Tf32 => Self::F32,
            Element::F32Ftz => Self::F32Ftz,
            _ => return None,
        })
    }

    /// Size in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::U32 | Self::S32 | Self::F32 | Self::F32Ftz => 4,
            Self::U64 | Self::S64 | Self::F64 => 8,
        }
    }
}

impl Reduction {
    /// `None` for a pair that the manual's table does not have for destinations in global memory.
    pub fn new(operator: Operator, number: Number) -> Option<Self> {
        let valid = match operator {
            Operator::Add => number != Number::S64,
            Operator::Min | Operator::Max => {
                !matches!(number, Number::F32 | Number::F32Ftz | Number::F64)
            }
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
                let result = self.float(old.to_f64(), new.to_f64());
                u64::from(if result.is_nan() { NAN } else { f16::from_f32(result).to_bits() })
            }
            Number::Bf16 => {
                let [old, new] = [old, new].map(|bits| bf16::from_bits(bits as u16));
                let result = self.float(old.to_f64(), new.to_f64());
                u64::from(if result.is_nan() { NAN } else { bf16::from_f32(result).to_bits() })
            }
            Number::F32 | Number::F32Ftz => {
                let flush =
                    |value| if self.number == Number::F32Ftz { flushed(value) } else { value };
                let [old, new] = [old, new].map(|bits| flush(f32::from_bits(bits as u32)));
                let sum = flush(old + new);
                u64::from(if sum.is_nan() { 0x7FFF_FFFF } else { sum.to_bits() })
            }
            Number::F64 => (f64::from_bits(old) + f64::from_bits(new)).to_bits(),
        }
    }

    /// Of f16 or bf16; a sum still has to be rounded to that.
    fn float(self, old: f64, new: f64) -> f32 {
        match self.operator {
            Operator::Add => odd_sum(old, new),
            _ => choose(self.operator, old, new) as f32,
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

    /// How its elements are read.
    pub fn number(self) -> Number {
        self.number
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

/// The bits of an element of 8 bytes or fewer.
pub fn bits(element: &[u8]) -> u64 {
    element.iter().rev().fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

/// The lesser or greater, -0 being less than 0; the other one of a NaN.
fn choose(operator: Operator, old: f64, new: f64) -> f64 {
    let less = old < new || old == new && old.is_sign_negative();
    let takes_old = match (old.is_nan(), new.is_nan()) {
        (_, true) => true,
        (true, false) => false,
        _ => less == (operator == Operator::Min),
    };
    if takes_old { old } else { new }
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
        (false, false) => f64::from_bits((sum.to_bits() - 1) | 1),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn results<const N: usize>(
        operator: Operator,
        number: Number,
        pairs: [(u64, u64); N],
    ) -> Option<[u64; N]> {
        let reduction = Reduction::new(operator, number)?;
        Some(pairs.map(|(old, new)| reduction.apply(old, new)))
    }

    #[test]
    fn halves_reduce_as_on_an_h100() {
        // What was there, and what came, and what cp.reduce.async.bulk.tensor left.
        let pairs = [
            (0x7E00, 0x3C00),
            (0x8000, 0x0000),
            (0x0000, 0x8000),
            (0x8001, 0x0002),
            (0x7C00, 0xFC00),
            (0x7BFF, 0x7BFF),
            (0x0400, 0x8001),
            (0x3C00, 0x1000),
            (0x3C00, 0x1001),
            (0xFE00, 0x7E00),
        ];
        let add = [0x7FFF, 0, 0, 1, 0x7FFF, 0x7C00, 0x03FF, 0x3C00, 0x3C01, 0x7FFF];
        assert_eq!(results(Operator::Add, Number::F16, pairs), Some(add));
        let min = [0x3C00, 0x8000, 0x8000, 0x8001, 0xFC00, 0x7BFF, 0x8001, 0x1000, 0x1001, 0x7FFF];
        assert_eq!(results(Operator::Min, Number::F16, pairs), Some(min));
        let max = [0x3C00, 0, 0, 2, 0x7C00, 0x7BFF, 0x0400, 0x3C00, 0x3C00, 0x7FFF];
        assert_eq!(results(Operator::Max, Number::F16, pairs), Some(max));
        let pairs = [(0x7BFF, 0x7BFF), (0x7FC0, 0x3F80), (0x7F80, 0x3F80), (0x0080, 0x8001)];
        let add = [0x7C7F, 0x7FFF, 0x7F80, 0x007F];
        assert_eq!(results(Operator::Add, Number::Bf16, pairs), Some(add));
    }

    #[test]
    fn singles_add_as_on_an_h100() {
        let pairs = [
            (0x0000_0001, 0x0000_0001),
            (0x8000_0001, 0x0080_0000),
            (0x3F80_0000, 0x3F80_0FFF),
            (0x3F80_0000, 0x7F80_0001),
            (0x7F7F_FFFF, 0x7F7F_FFFF),
            (0, 0xABCD),
        ];
        let kept = [2, 0x007F_FFFF, 0x4000_0800, 0x7FFF_FFFF, 0x7F80_0000, 0xABCD];
        assert_eq!(results(Operator::Add, Number::F32, pairs), Some(kept));
        let flushed = [0, 0x0080_0000, 0x4000_0800, 0x7FFF_FFFF, 0x7F80_0000, 0];
        assert_eq!(results(Operator::Add, Number::F32Ftz, pairs), Some(flushed));
    }

    #[test]
    fn integers_wrap_and_saturate_as_the_manual_says() {
        let pairs = [(5, 3), (3, 3), (2, 3), (0, 3), (4, u64::from(u32::MAX))];
        assert_eq!(results(Operator::Inc, Number::U32, pairs), Some([0, 0, 3, 1, 5]));
        assert_eq!(results(Operator::Dec, Number::U32, pairs), Some([3, 2, 1, 3, 3]));
        let minus = u64::from(u32::MAX);
        assert_eq!(results(Operator::Min, Number::S32, [(1, minus)]), Some([minus]));
        assert_eq!(results(Operator::Max, Number::U32, [(1, minus)]), Some([minus]));
        assert_eq!(results(Operator::Add, Number::U32, [(2, minus)]), Some([1]));
        assert_eq!(results(Operator::Add, Number::S64, [(1, 1)]), None);
        assert_eq!(results(Operator::Xor, Number::F32, [(1, 1)]), None);
    }
}
