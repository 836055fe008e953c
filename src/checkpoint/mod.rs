//! NVFP4 layers in safetensors checkpoints, and safetensors files of single tensors.

mod error;
mod file;
mod header;
pub mod tensors;
mod writer;

pub use error::CheckpointError;
pub use file::{SafetensorsFile, Tensor};
pub use safetensors::Dtype;
pub use writer::{Declared, Writer};
