//! What is computed, checked once; where it runs is a matter of [`crate::Engine`].

mod activations;
mod calibration;
mod checks;
mod dual_gemm;
mod gemm;
mod input_scale;
mod mlp;
mod precision;
mod problem;
mod shard;
mod stage;

pub use activations::{Activations, ActivationsView};
pub(crate) use calibration::Calibration;
#[cfg(feature = "checkpoint")]
pub(crate) use calibration::{UnusableScale, WeightOnly};
pub use dual_gemm::DualGemm;
pub use gemm::Gemm;
pub use input_scale::InputScale;
pub use mlp::MlpWeights;
pub(crate) use mlp::of_down;
pub use precision::{DType16, Precision};
pub use problem::Operation;
pub(crate) use problem::{Join, Problem};
pub use stage::Stage;
