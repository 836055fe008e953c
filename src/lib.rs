//! The two GEMMs and the GLU of a SwiGLU MLP in NVFP4:
//! `C = silu(alpha1·A·B1ᵀ) * (alpha2·A·B2ᵀ)`.
//!
//! [`Nvfp4Matrix`] holds one operand, [`DualGemm`] says what is computed, an [`Engine`] where, a [`Layer`] holds
//! weights that are ready to run there, and [`mod@oracle`] is the exact result that every engine is measured against.

mod dtype;
mod engine;
mod error;
mod glu;
mod matrix;
mod memory;
mod op;
mod shape;
mod simd;

#[cfg(feature = "checkpoint")]
pub mod checkpoint;
mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod format;
pub mod oracle;
pub mod synth;

#[cfg(feature = "checkpoint")]
pub use checkpoint::{Checkpoint, MlpLayer};
pub use dtype::{DType, Element, Values, ValuesMut};
pub use engine::{Backend, Engine, Layer, Precision, Spec};
pub use error::{Buffer, CudaError, CudaVersion, Error, Operand, Result, UnsuitableDevice};
pub use glu::Glu;
pub use half::{bf16, f16};
pub use matrix::{Nvfp4Matrix, Nvfp4View};
pub use op::{Activations, DualGemm, InputScale, MlpWeights};
pub use shape::GemmShape;
pub use simd::{AMX_VARIABLE, ISA_VARIABLE, Isa};

/// The example of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadmeDoctests;
