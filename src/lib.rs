//! The two GEMMs and the gate of a SwiGLU MLP in NVFP4:
//! `C = silu(alpha1·A·B1ᵀ) * (alpha2·A·B2ᵀ)`.
//!
//! [`Nvfp4Matrix`] holds one operand, [`DualGemm`] the validated problem, [`Backend`] says where it
//! runs, and [`mod@reference`] is the exact oracle that every backend is measured against.

mod element;
mod error;
mod gate;
mod matrix;
mod problem;

pub mod backend;
#[cfg(feature = "checkpoint")]
pub mod checkpoint;
pub mod format;
pub mod reference;
pub mod synth;

pub use backend::Backend;
#[cfg(feature = "cuda")]
pub use backend::cuda;
#[cfg(feature = "checkpoint")]
pub use checkpoint::{Checkpoint, MlpLayer};
pub use element::{DType, Element};
pub use error::{Buffer, CudaVersion, Error, Operand, Result};
pub use gate::Gate;
pub use half::{bf16, f16};
pub use matrix::{Nvfp4Matrix, Nvfp4View};
pub use problem::{DualGemm, Problem};

/// The example of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadmeDoctests;
