//! How far from exact a backend may be.

use std::f64::consts::{LN_2, PI};

use crate::dtype::DType;

/// K of one instruction of the tensor cores of compute capability 10.0, for NVFP4.
const INSTRUCTION_K: usize = 64;
/// Fractional bits of an accumulator.
const FRACTION: i32 = 23;

/// How many values of a result may be more than 1 ULP from the exact ones: 0.1 %, and what truncations cause besides.
///
/// Hardware that adds up in one accumulator and drops, `J` times, what its 24 bits do not hold, is allowed what
/// that does to sums of terms of random signs. Drops are toward zero and half a unit in the last place on average, which
/// for a partial sum `S` is `S·2^-24/(2·ln 2)`. The sum is close to zero, or else they would not matter; so
/// its partial sums, of standard deviation `σ·sqrt(j)` after `j` terms, are those of a walk that returns, whose sum has the
/// standard deviation `σ·sqrt(J³/12)`. The mean magnitude of the error is therefore
/// `sqrt(2/π)·2^-24/(2·ln 2)·σ·sqrt(J³/12)`. An error of `E` puts those more than 1 ULP away that lie within `E·2^p` of
/// zero, on either side, of numbers with `p` fractional bits (between that and half of it, those whose rounding makes two of
/// one). The density there is `1/(σ·sqrt(2πJ))`. In all, a share of `J·2^(p-23)/(sqrt(48)·ln 2·π)`: 0.1 % for f16 and
/// J = 124. A product of two such sums is close to zero where either is, twice as often. Sums without enough bits
/// to be rounded, as of scale factors that are close to each other, stay exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bound {
    /// Of all the sums that a value is the product of.
    truncations: usize,
}

impl Bound {
    /// For values that are products of `sums` sums, 2 for a dual GEMM and 1 for a GEMM, each truncated `times` times.
    pub fn truncated(times: usize, sums: usize) -> Self {
        Bound { truncations: times.saturating_mul(sums) }
    }

    /// For kernels of the library on a CUDA device of this compute capability, major and minor, that add up `k` products
    /// for each of `sums` sums. That of [`Bound::default`] but for 10.x: there all of K is one chain of truncations, one for
    /// every 64.
    pub fn on(compute_capability: (u32, u32), k: usize, sums: usize) -> Self {
        match compute_capability {
            (10, _) => Self::truncated(k.div_ceil(INSTRUCTION_K), sums),
            _ => Self::default(),
        }
    }

    /// The share of values, from 0 to 1, where ULP of this type are counted: those of f16 for f32.
    pub fn share(self, ulp_of: DType) -> f64 {
        let fraction = match ulp_of {
            DType::F16 | DType::F32 => 10,
            DType::Bf16 => 7,
        };
        let each = 2f64.powi(fraction - FRACTION) / (48f64.sqrt() * LN_2 * PI);
        (1e-3 + self.truncations as f64 * each).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_a_thousandth_and_the_formula() {
        let share = |k, sums| 100.0 * Bound::on((10, 0), k, sums).share(DType::F16);
        // 2^-13/(sqrt(48)·ln 2·π) = 1.220703125e-4/15.0866... = 8.0913e-6, times K/64 and the sums, in percent.
        for (k, sums, expected) in [
            (256, 2, 0.10647),
            (4096, 1, 0.15178),
            (4096, 2, 0.20357),
            (7168, 1, 0.19062),
            (7168, 2, 0.28125),
            (14336, 2, 0.46249),
            (28672, 1, 0.46249),
            (28672, 2, 0.82498),
            // One over: one instruction more.
            (28673, 2, 0.82660),
        ] {
            assert!((share(k, sums) - expected).abs() < 2e-5, "{k} {sums}: {}", share(k, sums));
        }
        // Steps of bf16 are eight times as large.
        let bound = Bound::on((10, 3), 8 * 28672, 2);
        assert!((100.0 * bound.share(DType::Bf16) - 0.82498).abs() < 2e-5);
        assert_eq!(Bound::truncated(usize::MAX, 2).share(DType::F16), 1.0);
    }

    #[test]
    fn only_devices_that_truncate_all_of_k_get_more() {
        for capability in [(8, 0), (9, 0), (12, 0)] {
            assert_eq!(Bound::on(capability, 1 << 20, 2), Bound::default());
        }
        assert_eq!(Bound::default().share(DType::F16), 1e-3);
    }
}
