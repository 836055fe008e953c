//! What is computed, checked once; where it runs is a matter of [`crate::Engine`].

mod dual_gemm;
mod input_scale;
mod mlp;

pub use dual_gemm::DualGemm;
pub use input_scale::InputScale;
pub use mlp::{Activations, MlpWeights};
#[cfg(feature = "checkpoint")]
pub(crate) use mlp::{Calibration, UnusableScale, WeightOnly};
