//! The global scale with which activations are quantized.

use std::fmt;
use std::str::FromStr;

/// The global scale with which a layer quantizes activations, written `calibrated`, `dynamic`, `per-row` or as a
/// number.
///
/// A global scale g is a multiplier: a value is `e2m1 · ue4m3 · g`. Its magnitude is at most 2688·g, and what lies
/// beyond that saturates.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum InputScale {
    /// The one that comes with the weights ([`MlpWeights::input_scale`](super::MlpWeights::input_scale)); without one,
    /// that of [`InputScale::Dynamic`].
    #[default]
    Calibrated,
    /// amax/2688 of all activations of the call. Nothing saturates, but the result of a token depends on the others in
    /// the batch.
    Dynamic,
    /// amax/2688 of each row. Nothing saturates, and the result of a token does not depend on others.
    PerRow,
    /// This multiplier, finite and > 0.
    Fixed(f32),
}

impl InputScale {
    /// How the input h of the down projection is quantized where x is quantized so: in the same way, by a calibrated
    /// scale or an amax of its own. A fixed scale is that of x alone; h then gets [`InputScale::Calibrated`].
    pub fn of_down(self) -> InputScale {
        match self {
            InputScale::Fixed(_) => InputScale::Calibrated,
            other => other,
        }
    }
}

impl fmt::Display for InputScale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InputScale::Calibrated => f.write_str("calibrated"),
            InputScale::Dynamic => f.write_str("dynamic"),
            InputScale::PerRow => f.write_str("per-row"),
            InputScale::Fixed(scale) => write!(f, "{scale:e}"),
        }
    }
}

impl FromStr for InputScale {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "calibrated" => Ok(InputScale::Calibrated),
            "dynamic" => Ok(InputScale::Dynamic),
            "per-row" => Ok(InputScale::PerRow),
            _ => match s.parse::<f32>() {
                Ok(scale) if scale.is_finite() && scale > 0.0 => Ok(InputScale::Fixed(scale)),
                _ => {
                    Err(format!("{s} is none of calibrated, dynamic, per-row, a finite number > 0"))
                }
            },
        }
    }
}
