//! The global scale with which the input of a layer is quantised.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::CheckpointError;
use super::layer::MlpLayer;
use crate::element::Element;
use crate::error::{Operand, Result};
use crate::matrix::Nvfp4Matrix;

/// Which global scale quantises the activations of a layer; written `calibrated`, `dynamic` or as a
/// number.
///
/// A global scale g is a multiplier: a value is `e2m1 · ue4m3 · g`, at most 2688·g in magnitude, and
/// what lies beyond saturates.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum InputScale {
    /// The one that the checkpoint stores ([`MlpLayer::input_global_scale`]); where it stores none,
    /// that of [`InputScale::Dynamic`].
    #[default]
    Calibrated,
    /// amax/2688 of the activations given: nothing saturates, and what becomes of a token depends on
    /// the others beside it.
    Dynamic,
    /// This multiplier, finite and > 0.
    Fixed(f32),
}

impl fmt::Display for InputScale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InputScale::Calibrated => f.write_str("calibrated"),
            InputScale::Dynamic => f.write_str("dynamic"),
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
            _ => match s.parse::<f32>() {
                Ok(scale) if scale.is_finite() && scale > 0.0 => Ok(InputScale::Fixed(scale)),
                _ => Err(format!("{s} is none of calibrated, dynamic, a finite number > 0")),
            },
        }
    }
}

/// A stored global scale that no input can be quantised with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BadInputScale<'a> {
    pub path: &'a Path,
    pub tensor: &'a str,
    pub stored: f32,
}

impl MlpLayer<'_> {
    /// The calibrated global scale for the one input that both projections share: the larger of the
    /// two multipliers (the smaller of two divisors), so that nothing saturates that either allows
    /// for. ModelOpt does the same when it exports layers that are going to be fused
    /// (`export/quant_utils.py`, `preprocess_linear_fusion`). `None` if neither is stored.
    ///
    /// # Errors
    /// [`CheckpointError::InputScale`] when one is stored that is not finite and > 0, as for an
    /// expert that no token of the calibration reached.
    pub fn input_global_scale(&self) -> Result<Option<f32>> {
        if let Some(BadInputScale { path, tensor, stored }) = self.bad_input_scale {
            let (path, tensor) = (path.to_owned(), tensor.to_owned());
            return Err(CheckpointError::InputScale { path, tensor, stored }.into());
        }
        Ok(match (self.gate_input_global, self.up_input_global) {
            (Some(gate), Some(up)) => Some(gate.max(up)),
            (one, other) => one.or(other),
        })
    }

    /// [`MlpLayer::quantize_input_with`] the calibrated scale.
    ///
    /// # Errors
    /// Those of [`MlpLayer::quantize_input_with`].
    pub fn quantize_input<T: Element>(&self, x: &[T], rows: usize) -> Result<Nvfp4Matrix> {
        self.quantize_input_with(x, rows, InputScale::Calibrated)
    }

    /// Quantises activations `x` \[rows, K\] for this layer.
    ///
    /// # Errors
    /// [`CheckpointError::InputScale`] when the calibrated scale is asked for and cannot be used;
    /// those of [`Nvfp4Matrix::quantize_with_global`], about operand a.
    pub fn quantize_input_with<T: Element>(
        &self,
        x: &[T],
        rows: usize,
        scale: InputScale,
    ) -> Result<Nvfp4Matrix> {
        let global = match scale {
            InputScale::Calibrated => self.input_global_scale()?,
            InputScale::Dynamic => None,
            InputScale::Fixed(global) => Some(global),
        };
        let cols = self.gate.cols();
        match global {
            Some(global) => Nvfp4Matrix::quantize_with_global(x, 1, rows, cols, global),
            None => Nvfp4Matrix::quantize(x, 1, rows, cols),
        }
        .map_err(|e| e.with_operand(Operand::A))
    }
}
