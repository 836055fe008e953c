//! The gate in f32, sixteen columns at a time.
//!
//! Everything is written on arrays of 16 without branches, so that it becomes vector code in a
//! function compiled for AVX-512 or AVX2; multiplications and additions are not fused, so that all
//! instruction sets give the same bits.

use super::integer::STRIP;
use crate::gate::Gate;

/// The gate with its alphas.
#[derive(Debug, Clone, Copy)]
pub(super) struct Epilogue {
    pub alpha1: f32,
    pub alpha2: f32,
    pub gate: Gate,
}

impl Epilogue {
    /// Replaces each sum of B1 with `gate(alpha1·acc1, alpha2·acc2)`; the sums of B2 stay.
    #[inline(always)]
    pub fn apply(&self, acc1: &mut [[f32; STRIP]], acc2: &[[f32; STRIP]]) {
        let (alpha1, alpha2) = (self.alpha1, self.alpha2);
        match self.gate {
            Gate::Silu => each(acc1, acc2, |x1, x2| {
                let x1 = finite(x1 * alpha1);
                x1 * sigmoid(x1) * (x2 * alpha2)
            }),
            Gate::ClampedSwiglu { limit, alpha, beta } => each(acc1, acc2, |x1, x2| {
                let g = finite(x1 * alpha1).min(limit);
                let u = (x2 * alpha2).clamp(-limit, limit);
                (u + beta) * (g * sigmoid(alpha * g))
            }),
            Gate::GeluTanh => each(acc1, acc2, |x1, x2| {
                // 1 + tanh(y) = 2·sigmoid(2y); 2·sqrt(2/pi) = 1.5957691…
                let x1 = finite(x1 * alpha1);
                let y = 1.595_769 * (x1 + 0.044_715 * x1 * x1 * x1);
                x1 * sigmoid(y) * (x2 * alpha2)
            }),
        }
    }
}

#[inline(always)]
fn each(acc1: &mut [[f32; STRIP]], acc2: &[[f32; STRIP]], f: impl Fn(f32, f32) -> f32) {
    for (row1, row2) in acc1.iter_mut().zip(acc2) {
        for (x1, &x2) in row1.iter_mut().zip(row2) {
            *x1 = f(*x1, x2);
        }
    }
}

/// Keeps −∞·sigmoid(−∞) from becoming NaN.
#[inline(always)]
fn finite(x: f32) -> f32 {
    x.clamp(f32::MIN, f32::MAX)
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
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = (x - n * HIGH) - n * LOW;
    // Taylor to r^7; the remainder is below 2^-26 on the interval.
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    // n is in [-127, 128]: exponent fields 0 and 255 are 0 and infinity.
    let two_to_n = f32::from_bits(((n as i32 + 127) as u32) << 23);
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

    #[test]
    fn gates_at_the_ends_of_the_range() {
        for gate in [Gate::Silu, Gate::GPT_OSS, Gate::GeluTanh] {
            let epilogue = Epilogue { alpha1: 1e30, alpha2: 1.0, gate };
            for x in [f32::MIN, -1e38, -1e10, -0.0, 0.0, 1e-40] {
                let mut acc1 = [[x; STRIP]];
                epilogue.apply(&mut acc1, &[[2.0; STRIP]]);
                assert!(acc1[0][0].abs() < 1e-6, "{gate:?} {x} -> {}", acc1[0][0]);
            }
        }
    }
}
