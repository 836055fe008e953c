//! What a calibration found for activations.

use crate::error::Result;

/// The global scale that a calibration found for the input.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum Calibration {
    #[default]
    Missing,
    Scale(f32),
    /// There is one that nothing can be quantized with.
    #[cfg(feature = "checkpoint")]
    Unusable(UnusableScale),
    /// There is none, as activations are not meant to be quantized.
    #[cfg(feature = "checkpoint")]
    WeightOnly(WeightOnly),
}

/// A stored global scale that is not finite and > 0.
#[cfg(feature = "checkpoint")]
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct UnusableScale {
    pub path: std::path::PathBuf,
    pub tensor: String,
    pub stored: f32,
}

/// What says that a layer is weight-only.
#[cfg(feature = "checkpoint")]
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WeightOnly {
    pub path: std::path::PathBuf,
    pub layer: String,
    pub evidence: String,
}

impl Calibration {
    pub(crate) fn scale(&self) -> Result<Option<f32>> {
        match self {
            Calibration::Missing => Ok(None),
            Calibration::Scale(scale) => Ok(Some(*scale)),
            #[cfg(feature = "checkpoint")]
            Calibration::Unusable(UnusableScale { path, tensor, stored }) => {
                let (path, tensor, stored) = (path.clone(), tensor.clone(), *stored);
                Err(crate::error::CheckpointError::InputScale { path, tensor, stored }.into())
            }
            #[cfg(feature = "checkpoint")]
            Calibration::WeightOnly(WeightOnly { path, layer, evidence }) => {
                let (path, layer, evidence) = (path.clone(), layer.clone(), evidence.clone());
                Err(crate::error::CheckpointError::WeightOnly { path, layer, evidence }.into())
            }
        }
    }
}
