//! The gate in f32, sixteen columns at a time, and the way from the sums to C.
//!
//! Everything is written on arrays of 16 without branches, so that it becomes vector code in a
//! function compiled for AVX-512 or AVX2; multiplications and additions are not fused, so that all
//! instruction sets give the same bits.

use super::integer::STRIP;
use crate::element::Element;
use crate::gate::Gate;

/// The gate with its alphas.
#[derive(Debug, Clone, Copy)]
pub(super) struct Epilogue {
    pub alpha1: f32,
    pub alpha2: f32,
    pub gate: Gate,
}

/// Sums of neighbouring strips.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sums<'a> {
    /// \[strip\]\[weight\]\[row\]
    pub acc: &'a [[f32; STRIP]],
    /// Rows of one weight of one strip, at least those of C.
    pub rows: usize,
}

impl Epilogue {
    /// Writes `gate(alpha1·sum1, alpha2·sum2)` to the rows of C, `convert`ed.
    #[inline(always)]
    pub fn finish<'c, T: Element>(
        &self,
        sums: Sums<'_>,
        c: impl Iterator<Item = &'c mut [T]>,
        convert: impl Fn(&[f32; STRIP], &mut [T; STRIP]),
    ) {
        let (alpha1, alpha2) = (self.alpha1, self.alpha2);
        match self.gate {
            Gate::Silu => each(sums, c, convert, |x1, x2| {
                let x1 = finite(x1 * alpha1);
                product(x1 * sigmoid(x1), x2 * alpha2)
            }),
            Gate::ClampedSwiglu { limit, alpha, beta } => each(sums, c, convert, |x1, x2| {
                let g = finite(x1 * alpha1).min(limit);
                let u = (x2 * alpha2).clamp(-limit, limit);
                (u + beta) * (g * sigmoid(alpha * g))
            }),
            Gate::GeluTanh => each(sums, c, convert, |x1, x2| {
                // 1 + tanh(y) = 2·sigmoid(2y); 2·sqrt(2/pi) = 1.5957691…
                let x1 = finite(x1 * alpha1);
                let y = 1.595_769 * (x1 + 0.044_715 * x1 * x1 * x1);
                product(x1 * sigmoid(y), x2 * alpha2)
            }),
        }
    }
}

/// Row by row over all strips, so that a cache line of C is written at once.
#[inline(always)]
fn each<'c, T: Element>(
    sums: Sums<'_>,
    c: impl Iterator<Item = &'c mut [T]>,
    convert: impl Fn(&[f32; STRIP], &mut [T; STRIP]),
    f: impl Fn(f32, f32) -> f32,
) {
    for (row, out) in c.enumerate() {
        let strips = sums.acc.chunks_exact(2 * sums.rows);
        for (strip, out) in strips.zip(out.chunks_mut(STRIP)) {
            let (sums1, sums2) = (&strip[row], &strip[sums.rows + row]);
            let mut values = [0.0; STRIP];
            // The only call of `f`: with two, the compiler makes it a function of its own, which has
            // no vectors.
            for ((value, &x1), &x2) in values.iter_mut().zip(sums1).zip(sums2) {
                *value = f(x1, x2);
            }
            if let Ok(out) = out.try_into() {
                convert(&values, out);
            } else {
                let mut last = [T::default(); STRIP];
                convert(&values, &mut last);
                out.copy_from_slice(&last[..out.len()]);
            }
        }
    }
}

/// Keeps −∞·sigmoid(−∞) from becoming NaN.
#[inline(always)]
fn finite(x: f32) -> f32 {
    x.clamp(f32::MIN, f32::MAX)
}

/// `gate·up` that stays 0 where the gate is closed and `up` has overflowed.
#[inline(always)]
fn product(gate: f32, up: f32) -> f32 {
    if gate == 0.0 { gate } else { gate * up }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// e^x within 2 ULP; infinity from 128·ln 2 on and 0 below the normal numbers.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // x = n·ln 2 + r with |r| ≤ ln 2 / 2; the high part of ln 2 has few bits, so that n·HIGH is
    // exact (Cody and Waite).
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    const ROUND: f32 = 12_582_912.0; // 1.5·2^23: adding and subtracting it rounds to an integer
    let x = x.clamp(-88.0, 89.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * HIGH) - n * LOW;
    // Taylor to r^7; the remainder is below 2^-26 on the interval.
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    // n is in [-127, 128]: exponent fields 0 and 255 are 0 and infinity. The low 9 bits of `shifted`
    // are those of n (`as i32` saturates, which LLVM does one lane at a time).
    let two_to_n = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    p * two_to_n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_true_one() {
        let mut worst = 0.0f64;
        for i in -870_000..880_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            worst = worst.max(((f64::from(exp(x)) - exact) / exact).abs());
        }
        assert!(worst < 3e-7, "{worst:e}");
        assert_eq!(exp(200.0), f32::INFINITY);
        assert_eq!(exp(f32::MIN), 0.0);
        assert_eq!(exp(0.0), 1.0);
    }

    /// The gate is closed, whatever the other projection has grown to.
    #[test]
    fn gates_at_the_ends_of_the_range() {
        for gate in [Gate::Silu, Gate::GPT_OSS, Gate::GeluTanh] {
            for (alpha2, lowest) in [(1.0, 1e-40), (3e38, -0.0)] {
                let epilogue = Epilogue { alpha1: 1e30, alpha2, gate };
                for x in [f32::MIN, -1e38, -1e10, -0.0, 0.0, lowest] {
                    let sums = Sums { acc: &[[x; STRIP], [2.0; STRIP]], rows: 1 };
                    let mut c = [f32::NAN; STRIP];
                    epilogue.finish(sums, [&mut c[..]].into_iter(), |values, out| *out = *values);
                    assert!(c[0].abs() < 1e-6, "{gate:?} {x} {alpha2} -> {}", c[0]);
                }
            }
        }
    }
}
