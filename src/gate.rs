//! The function that joins the two products.

use crate::error::{Error, Result};

/// `C = gate(x1, x2)` with `x1 = alpha1·acc1` (gate projection) and `x2 = alpha2·acc2` (up
/// projection).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Gate {
    /// SwiGLU: `silu(x1)·x2` with `silu(x) = x / (1 + e^-x)`.
    #[default]
    Silu,
    /// SwiGLU as in gpt-oss: `g = min(x1, limit)`, `u = clamp(x2, -limit, limit)`,
    /// `(u + beta)·g·sigmoid(alpha·g)`.
    ClampedSwiglu {
        /// Bound of both inputs, > 0 and at most [`Gate::MAX_PARAMETER`].
        limit: f32,
        /// Slope of the sigmoid, of magnitude at most [`Gate::MAX_PARAMETER`].
        alpha: f32,
        /// Offset of the up projection, of magnitude at most [`Gate::MAX_PARAMETER`].
        beta: f32,
    },
    /// GEGLU: `gelu_tanh(x1)·x2` with
    /// `gelu_tanh(x) = x/2·(1 + tanh(sqrt(2/pi)·(x + 0.044715·x³)))`.
    GeluTanh,
}

impl Gate {
    /// The parameters of gpt-oss: limit 7, alpha 1.702, beta 1.
    pub const GPT_OSS: Gate = Gate::ClampedSwiglu { limit: 7.0, alpha: 1.702, beta: 1.0 };

    /// Largest magnitude of a parameter of the clamped SwiGLU. Backends compute in f32, where
    /// `clamp(x2) + beta` or `alpha·log2(e)` of larger ones can overflow, and 0 times that be NaN.
    pub const MAX_PARAMETER: f32 = 1e18;

    /// # Errors
    /// [`Error::GateParameter`] when a parameter is out of its range.
    pub fn validate(&self) -> Result<()> {
        let Gate::ClampedSwiglu { limit, alpha, beta } = *self else { return Ok(()) };
        if !(limit > 0.0 && limit <= Self::MAX_PARAMETER) {
            let requirement = "> 0 and at most 1e18";
            return Err(Error::GateParameter { parameter: "limit", value: limit, requirement });
        }
        for (parameter, value) in [("alpha", alpha), ("beta", beta)] {
            if !value.is_finite() || value.abs() > Self::MAX_PARAMETER {
                let requirement = "between -1e18 and 1e18";
                return Err(Error::GateParameter { parameter, value, requirement });
            }
        }
        Ok(())
    }

    /// The gate in f64, for the oracle, of finite `x1` and `x2`; NaN gives NaN. Parameters that
    /// [`Gate::validate`] refuses give a value that means nothing, never a panic.
    pub fn apply(&self, x1: f64, x2: f64) -> f64 {
        match *self {
            Gate::Silu => x1 / (1.0 + (-x1).exp()) * x2,
            Gate::ClampedSwiglu { limit, alpha, beta } => {
                let limit = f64::from(limit);
                // `min` and `max` would hide a NaN, `clamp` panics on a limit that is NaN or < 0.
                let g = if x1 > limit { limit } else { x1 };
                let u = if x2 > limit { limit } else { x2 };
                let u = if u < -limit { -limit } else { u };
                (u + f64::from(beta)) * (g / (1.0 + (-f64::from(alpha) * g).exp()))
            }
            Gate::GeluTanh => {
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
            let gate = Gate::ClampedSwiglu { limit, alpha: 1.0, beta: 0.0 };
            let _ = gate.apply(2.0, 3.0);
        }
        // silu(2)·3 where nothing is clamped; silu(7)·(7 + 1) with alpha 1.702 at the bounds.
        let gate = Gate::ClampedSwiglu { limit: 7.0, alpha: 1.0, beta: 0.0 };
        assert!((gate.apply(2.0, 3.0) - 6.0 / (1.0 + (-2f64).exp())).abs() < 1e-15);
        let bound = 7.0 / (1.0 + (-11.914f64).exp());
        assert!((Gate::GPT_OSS.apply(50.0, 90.0) - 8.0 * bound).abs() < 1e-6);
        assert!((Gate::GPT_OSS.apply(50.0, -90.0) + 6.0 * bound).abs() < 1e-6);
    }

    #[test]
    fn nan_stays_nan() {
        for gate in [Gate::Silu, Gate::GPT_OSS, Gate::GeluTanh] {
            assert!(gate.apply(f64::NAN, 1.0).is_nan(), "{gate:?}");
            assert!(gate.apply(1.0, f64::NAN).is_nan(), "{gate:?}");
        }
    }

    #[test]
    fn parameters_have_bounds() {
        let valid =
            |limit, alpha, beta| Gate::ClampedSwiglu { limit, alpha, beta }.validate().is_ok();
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
