//! NVFP4 layers in safetensors checkpoints, and safetensors files of single tensors.

mod convention;
mod error;
mod file;
mod header;
mod layer;
mod open;
mod quantize;
mod scheme;
mod sidecar;
pub mod tensors;
mod weights;
mod writer;

pub use convention::Convention;
pub use error::CheckpointError;
pub use file::{SafetensorsFile, Tensor};
pub use layer::MlpLayer;
pub use open::Checkpoint;
pub use quantize::{Progress, QuantizeOptions, QuantizeReport, Quantized, quantize_file};
pub use safetensors::Dtype;
pub use weights::{Weight, write_weights};
pub use writer::{Declared, Writer};
