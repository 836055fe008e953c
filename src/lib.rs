#![cfg_attr(feature = "checkpoint", doc = include_str!("../README.md"))]
// The examples of that page need the feature.
#![cfg_attr(not(feature = "checkpoint"), doc = "Both input projections of a gated MLP in NVFP4.")]
//!
//! # Where things are
//! [`Nvfp4Matrix`] holds one operand, [`MlpWeights`] both weights, [`Engine`] says where to compute, and a [`Layer`] holds
//! weights that are ready to run there. [`DualGemm`] is one problem whose operands are all given, [`mod@oracle`] computes
//! its exact result, and [`mod@format`] has the quantizer and the layouts. What is computed on activations is chosen by
//! [`Glu`] and [`InputScale`] in a [`Spec`].
//!
//! Work on the CPU runs in rayon's current pool ([`Engine::with_pool`]), on the instruction set that [`ISA_VARIABLE`] and
//! [`AMX_VARIABLE`] allow.
//!
//! | feature | adds |
//! |---|---|
//! | `checkpoint` (default) | the module `checkpoint`: layers of safetensors checkpoints, and writing them |
//! | `cuda` | the module `cuda`: kernels for NVIDIA GPUs; takes nvcc and CUTLASS to build |
//! | `cudarc` | memory and streams of the crate cudarc as operands, on top of `cuda` |
//! | `nccl` | cudarc's NCCL, for the example of tensor parallelism |

// docs.rs marks what is part of a feature.
#![cfg_attr(docsrs, feature(doc_cfg))]

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
pub use engine::{Backend, Engine, Layer, LayerSaturation, Spec};
pub use error::{Buffer, CudaError, CudaVersion, Error, Operand, Result, UnsuitableDevice};
pub use glu::Glu;
pub use half::{bf16, f16};
pub use matrix::{Nvfp4Matrix, Nvfp4View, ValuesView};
pub use op::{
    Activations, ActivationsView, DType16, DualGemm, Gemm, InputScale, MlpWeights, Operation,
    Precision, Stage,
};
pub use shape::GemmShape;
pub use simd::{AMX_VARIABLE, ISA_VARIABLE, Isa};

/// The examples of the guide, compiled.
#[cfg(all(doctest, feature = "checkpoint", feature = "cudarc"))]
#[doc = include_str!("../docs/gpu.md")]
pub struct GpuGuide;
