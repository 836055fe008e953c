//! The GLU: the function that joins the two products.

use crate::error::{Error, Result};

/// `C = glu(x1, x2)` with `x1 = alpha1·acc1` (gate_proj) and `x2 = alpha2·acc2`
/// (up_proj).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Glu {
    /// SwiGLU: `silu(x1)·x2` with `silu(x) = x / (1 + e^-x)`.
    #[default]
    Swiglu,
    /// SwiGLU as in gpt-oss: `g = min(x1, limit)`, `u = clamp(x2, -limit, limit)`,
    /// `(u + offset)·g·sigmoid(slope·g)`.
    ClampedSwiglu {
        /// Bound of both inputs, > 0 and at most [`Glu::MAX_PARAMETER`].
        limit: f32,
        /// Slope of the sigmoid, of magnitude at most [`Glu::MAX_PARAMETER`].
        slope: f32,
        /// Added to the clamped x2, of magnitude at most [`Glu::MAX_PARAMETER`].
        offset: f32,
    },
    /// GEGLU: `gelu_tanh(x1)·x2` with
    /// `gelu_tanh(x) = x/2·(1 + tanh(sqrt(2/pi)·(x + 0.044715·x³)))`.
    GegluTanh,
}

impl Glu {
    /// The parameters of gpt-oss: limit 7, slope 1.702, offset 1.
    pub const GPT_OSS: Glu = Glu::ClampedSwiglu { limit: 7.0, slope: 1.702, offset: 1.0 };

    /// Largest magnitude of a parameter of the clamped SwiGLU. Engines compute in f32, where
    /// `clamp(x2) + offset` or `slope·log2(e)` of larger ones can overflow, and 0 times that be NaN.
    pub const MAX_PARAMETER: f32 = 1e18;

    /// # Errors
    /// [`Error::GluParameter`] when a parameter is out of its range.
    pub fn validate(&self) -> Result<()> {
        let Glu::ClampedSwiglu { limit, slope, offset } = *self else { return Ok(()) };
        if !(limit > 0.0 && limit <= Self::MAX_PARAMETER) {
            let requirement = "> 0 and at most 1e18";
            return Err(Error::GluParameter { parameter: "limit", value: limit, requirement });
        }
        for (parameter, value) in [("slope", slope), ("offset", offset)] {
            if !value.is_finite() || value.abs() > Self::MAX_PARAMETER {
                let requirement = "between -1e18 and 1e18";
                return Err(Error::GluParameter { parameter, value, requirement });
            }
        }
        Ok(())
    }

    /// The GLU in f64, for the oracle, of finite `x1` and `x2`; NaN gives NaN. Parameters that
    /// [`Glu::validate`] refuses give a value that means nothing, never a panic.
    pub fn apply(&self, x1: f64, x2: f64) -> f64 {
        match *self {
            Glu::Swiglu => x1 / (1.0 + (-x1).exp()) * x2,
            Glu::ClampedSwiglu { limit, slope, offset } => {
                let limit = f64::from(limit);
                // `min` and `max` would hide a NaN, `clamp` panics on a limit that is NaN or < 0.
                let g = if x1 > limit { limit } else { x1 };
                let u = if x2 > limit { limit } else { x2 };
                let u = if u < -limit { -limit } else { u };
                (u + f64::from(offset)) * (g / (1.0 + (-f64::from(slope) * g).exp()))
            }
            Glu::GegluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x1 + 0.044715 * x1 * x1 * x1);
                // 1 + tanh(y) = 2·sigmoid(2y), which does not cancel for y << 0.
                x1 / (1.0 + (-2.0 * inner).exp()) * x2
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields are public, so that `apply` sees gates that `validate` has not.
    #[test]
    fn a_gate_that_is_not_valid_does_not_panic() {
        for limit in [f32::NAN, -1.0, 0.0, f32::INFINITY] {
            let gate = Glu::ClampedSwiglu { limit, slope: 1.0, offset: 0.0 };
            let _ = gate.apply(2.0, 3.0);
        }
        // silu(2)·3 where nothing is clamped; silu(7)·(7 + 1) with alpha 1.702 at the bounds.
        let gate = Glu::ClampedSwiglu { limit: 7.0, slope: 1.0, offset: 0.0 };
        assert!((gate.apply(2.0, 3.0) - 6.0 / (1.0 + (-2f64).exp())).abs() < 1e-15);
        let bound = 7.0 / (1.0 + (-11.914f64).exp());
        assert!((Glu::GPT_OSS.apply(50.0, 90.0) - 8.0 * bound).abs() < 1e-6);
        assert!((Glu::GPT_OSS.apply(50.0, -90.0) + 6.0 * bound).abs() < 1e-6);
    }

    #[test]
    fn nan_stays_nan() {
        for gate in [Glu::Swiglu, Glu::GPT_OSS, Glu::GegluTanh] {
            assert!(gate.apply(f64::NAN, 1.0).is_nan(), "{gate:?}");
            assert!(gate.apply(1.0, f64::NAN).is_nan(), "{gate:?}");
        }
    }

    #[test]
    fn parameters_have_bounds() {
        let valid = |limit, alpha, beta| {
            Glu::ClampedSwiglu { limit, slope: alpha, offset: beta }.validate().is_ok()
        };
        assert!(valid(7.0, 1.702, 1.0) && valid(1e18, -1e18, 1e18) && valid(1e-30, 0.0, -1e18));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1.1e18] {
            assert!(
                !valid(bad, 1.0, 1.0) && !valid(1.0, bad, 1.0) && !valid(1.0, 1.0, bad),
                "{bad}"
            );
        }
        assert!(!valid(0.0, 1.0, 1.0) && !valid(-7.0, 1.0, 1.0));
    }
}
