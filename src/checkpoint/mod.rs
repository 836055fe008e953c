//! NVFP4 layers in safetensors checkpoints, and safetensors files of single tensors.
//!
//! [`Checkpoint`] opens a file, a directory or an index, and [`Checkpoint::layer`] reads one MLP or expert in
//! ModelOpt's or compressed-tensors' [`Convention`]: gate and up projections, the down projection where it can be
//! read, biases, and whether it is weight-only ([`Scheme`]). [`Checkpoint::mlp`] wants all three projections.
//! [`quantize_file`] makes such a checkpoint from floats. [`tensors`] has the operands of one dual
//! GEMM as tensors of a file.
//!
//! ```no_run
//! use nvfp4_dual_gemm::{Engine, Spec, checkpoint::Checkpoint};
//! # fn main() -> nvfp4_dual_gemm::Result<()> {
//! # let (x, mut y) = (vec![0.0f32; 8 * 4096], vec![0.0f32; 8 * 4096]);
//! let checkpoint = Checkpoint::open("Llama-3.1-8B-NVFP4")?;
//! let layer = checkpoint.layer("model.layers.0.mlp")?;
//! let layer = Engine::auto()?.load(layer, &Spec::default())?;
//! layer.run(&x, 8, &mut y)?; // 8 tokens
//! # Ok(())
//! # }
//! ```
//!
//! # What is refused
//! Schemes that look alike and mean something else are refused by name: NVFP4_AWQ whose scale is not
//! folded, NVFP4_SVD, W4A8_NVFP4_FP8, MXFP4, FP8, INT4 and INT8 formats, groups other than 16, weights that are
//! not quantized. They are told by their tensors, and by `hf_quant_config.json` and `quantization_config` in
//! `config.json` where these lie beside them, or by what [`quantize_file`] writes into a single file: W4A8_NVFP4_FP8, and that a layer is weight-only, cannot be told by
//! tensors alone.
//!
//! What may change the arithmetic of a layer is applied where it is understood, and refused where it is
//! not: tensors beside a projection other than those of its convention, and keys of `config.json` for
//! activations, limits, multipliers, sparsity and transforms. [`LayerOptions`] answers such keys.
//! `docs/checkpoints.md` of the repository has the lists.
//!
//! # Hostile files
//! Every length, offset, shape, type, name and scale byte is checked before it is used; nothing is
//! allocated by a number that the file merely claims; shards outside of the directory are refused.
//! What is checked is in private memory and stays as it was checked; see [`SafetensorsFile`] on what
//! happens when another process changes a file.

mod activation;
mod adapter;
mod arithmetic;
mod beside;
mod bias;
mod clamp;
mod configured;
mod convention;
mod down;
mod file;
mod groups;
mod header;
mod json;
mod keys;
mod layer;
mod layers;
mod layout;
mod modality;
mod open;
mod options;
mod outline;
mod patterns;
mod place;
mod projection;
mod quantization;
mod quantize;
mod read;
mod replace;
mod scheme;
mod sidecar;
mod source;
mod stack;
pub mod tensors;
mod transforms;
mod verdict;
mod weights;
mod writer;

pub use crate::error::{CheckpointError, NoDown};
pub use convention::Convention;
pub use file::{SafetensorsFile, Tensor};
pub use layer::MlpLayer;
pub use open::Checkpoint;
pub use options::LayerOptions;
pub use outline::LayerOutline;
pub use quantize::{
    Calibration, Progress, QuantizeOptions, QuantizeReport, Quantized, quantize_file,
};
pub use replace::{check_target, remove_temporaries, write_file};
pub use safetensors::Dtype;
pub use verdict::Scheme;
pub use weights::{Weight, write_weights};
pub use writer::{Declared, Writer};
