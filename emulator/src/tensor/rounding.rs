//! Exact sums, rounded once, and the sums of MMA-Sim (arXiv 2511.10909), truncated term by term.
//!
//! MMA-Sim is as of its version 2.1.1, which differs from the first one in zeros: a term that is zero has an exponent of
//! its own, the same for all of an instruction ([`Term::of_zero`]).

use super::numbers::power_of_two;
use half::f16;

/// What the tensor cores write for NaN in binary32.
pub const NAN: u32 = 0x7FFF_FFFF;
/// What the tensor cores write for NaN in binary16.
pub const NAN_HALF: u16 = 0x7FFF;

/// How the sum of an instruction becomes its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All of it exact, rounded once to nearest even.
    Exact,
    /// Terms aligned to the largest, truncated after so many fractional bits; the result of binary32 has
    /// `mantissa` bits and is truncated, that of binary16 is rounded to nearest even.
    Aligned {
        /// Fractional bits kept of each term.
        fraction: u32,
        /// Mantissa bits of a result in binary32: 23, or 13 for fp8 on Hopper.
        mantissa: u32,
    },
}

/// What an accumulator holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// binary32
    F32,
    /// binary16 in the low half, zeros above.
    F16,
    /// Two's complement; wraps, or saturates.
    S32 {
        /// Whether it saturates.
        saturate: bool,
    },
}

impl Output {
    /// The value of an accumulator cell.
    pub fn decode(self, cell: u32) -> f64 {
        match self {
            Self::F32 => f64::from(f32::from_bits(cell)),
            Self::F16 => f16::from_bits(cell as u16).to_f64(),
            Self::S32 { .. } => f64::from(cell as i32),
        }
    }

    /// Exponent of the smallest normal number.
    pub fn min_exponent(self) -> i32 {
        match self {
            Self::F16 => -14,
            _ => -126,
        }
    }
}

/// Knuth's sum: the rounded sum and its error, which is exact.
#[inline(always)]
pub fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let part = sum - a;
    (sum, (a - (sum - part)) + (b - part))
}

/// The number next to `sum`, odd in its last bit, that stands for `sum + error` where `error` is less than an ulp:
/// rounding it again, to at most 51 bits, gives what rounding the exact value gives (Boldo and Melquiond, 2008).
#[inline(always)]
pub fn to_odd(sum: f64, error: f64) -> f64 {
    let bits = sum.to_bits();
    if error == 0.0 || bits & 1 != 0 || !sum.is_finite() {
        return sum;
    }
    // The exact value lies between `sum` and its neighbor on the side of the error; one of them is odd.
    let away = (error > 0.0) == (sum > 0.0);
    f64::from_bits(if away { bits + 1 } else { bits - 1 })
}

/// The exact sum of terms, rounded to odd. Any exponents; nothing must overflow.
pub fn exact_sum(terms: impl IntoIterator<Item = f64>) -> f64 {
    // Shewchuk's expansion: components that do not overlap, smallest first.
    let mut parts: Vec<f64> = Vec::with_capacity(8);
    for mut term in terms {
        if !term.is_finite() {
            return f64::NAN;
        }
        let mut kept = 0;
        for index in 0..parts.len() {
            let (sum, error) = two_sum(term, parts[index]);
            if error != 0.0 {
                parts[kept] = error;
                kept += 1;
            }
            term = sum;
        }
        parts.truncate(kept);
        parts.push(term);
    }
    let mut sum = parts.pop().unwrap_or(0.0);
    while let Some(part) = parts.pop() {
        let (next, error) = two_sum(sum, part);
        sum = next;
        if error != 0.0 {
            return to_odd(sum, error);
        }
    }
    sum
}

/// A number, rounded to odd before, as the bits of an accumulator.
pub fn finish(value: f64, output: Output) -> u32 {
    match output {
        Output::F32 if value.is_nan() => NAN,
        Output::F32 => (value as f32).to_bits(),
        Output::F16 if value.is_nan() => u32::from(NAN_HALF),
        Output::F16 => u32::from(to_half(value).to_bits()),
        Output::S32 { saturate: true } => value as i32 as u32,
        Output::S32 { saturate: false } => value as i64 as u32,
    }
}

/// To binary16, to nearest even, by way of binary32 rounded to odd: the direct conversion of `half` looks at the upper
/// half of the bits only.
fn to_half(value: f64) -> f16 {
    let near = value as f32;
    if !value.is_finite() || f64::from(near) == value {
        return f16::from_f32(near);
    }
    let bits = near.to_bits();
    let beyond = f64::from(near).abs() > value.abs();
    let truncated = if beyond { bits - 1 } else { bits };
    f16::from_f32(f32::from_bits(truncated | 1))
}

/// A term of an aligned sum: `significand * 2^(exponent - point)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// Integer; below 2^52 in magnitude.
    pub significand: i64,
    /// Fractional bits of the significand.
    pub point: u32,
    /// The exponent that terms are aligned by.
    pub exponent: i32,
}

impl Term {
    /// Zero, whose exponent only matters where it is the largest.
    pub fn of_zero(exponent: i32) -> Self {
        Self { significand: 0, point: 0, exponent }
    }
}

/// Significand with `point` fractional bits, and exponent; numbers below the smallest normal one keep its exponent, and so
/// does zero (MMA-Sim, `frexp_and_normalize`).
pub fn split(value: f64, min_exponent: i32, point: u32) -> (i64, i32) {
    if value == 0.0 {
        return (0, min_exponent);
    }
    let exponent = ((value.to_bits() >> 52 & 0x7FF) as i32 - 1023).max(min_exponent);
    // Both factors are normal numbers; the product is exact.
    let significand = value * power_of_two(point as i32) * power_of_two(-exponent);
    (significand as i64, exponent)
}

/// Aligns the terms to the largest exponent, truncates each toward zero, adds, and rounds; zero is positive (MMA-Sim,
/// `truncated_fused_sum` and `ldexp_and_normalize`).
pub fn aligned_sum(terms: &[Term], fraction: u32, mantissa: u32, output: Output) -> u32 {
    let Some(largest) = terms.iter().map(|term| term.exponent).max() else { return 0 };
    let mut sum = 0i64;
    for term in terms {
        let shift = fraction as i32 - term.point as i32 + term.exponent - largest;
        let magnitude = term.significand.unsigned_abs();
        let shifted = match shift {
            0.. => magnitude << shift.min(63),
            -63..0 => magnitude >> -shift,
            _ => 0,
        };
        sum += if term.significand < 0 { -(shifted as i64) } else { shifted as i64 };
    }
    if sum == 0 {
        return 0;
    }
    let magnitude = sum.unsigned_abs();
    let scale = largest - fraction as i32;
    // Exponent of the leading bit, and of the last bit that the result has room for.
    let leading = 63 - magnitude.leading_zeros() as i32 + scale;
    let last = leading.max(output.min_exponent()) - mantissa as i32;
    match output {
        Output::F16 => {
            // At most 46 bits: exact in binary64, whose exponents reach far enough.
            let value = ldexp(sum as f64, scale);
            match finish(value, Output::F16) {
                0x8000 => 0,
                bits => bits,
            }
        }
        _ => {
            let drop = last - scale;
            let kept = match drop {
                64.. => 0,
                1..64 => magnitude >> drop << drop,
                _ => magnitude,
            };
            let value = ldexp(kept as f64, scale);
            finish(if sum < 0 && kept != 0 { -value } else { value }, Output::F32)
        }
    }
}

/// value * 2^exponent where the result is far from the limits of binary64, though 2^exponent may not be.
fn ldexp(value: f64, exponent: i32) -> f64 {
    let half = exponent / 2;
    value * power_of_two(half) * power_of_two(exponent - half)
}
