//! What can be wrong with a checkpoint.

use std::fmt;
use std::path::PathBuf;

use safetensors::Dtype;

/// What is wrong with a checkpoint: every variant names the file, and the tensor where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The header of a safetensors file cannot be used.
    #[error("{}: not a valid safetensors file: {reason}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong, with names and numbers.
        reason: String,
    },

    /// The file has no such tensor.
    #[error("{}: no tensor {tensor}{}", path.display(), Near(near))]
    MissingTensor {
        /// The file or directory.
        path: PathBuf,
        /// Name looked for; several are joined with "or".
        tensor: String,
        /// Names in the file that come near.
        near: Vec<String>,
    },

    /// A tensor has another element type than asked for.
    #[error("{}: tensor {tensor} is {actual} {shape:?}, expected {expected}", path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type.
        actual: Dtype,
        /// Its shape.
        shape: Vec<usize>,
        /// Types that would do.
        expected: String,
    },

    /// A tensor has another shape than asked for.
    #[error("{}: tensor {tensor} is {dtype} {actual:?}, expected {expected}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: Dtype,
        /// Its shape.
        actual: Vec<usize>,
        /// Shapes that would do.
        expected: String,
    },

    /// The numbers of a tensor are no NVFP4 matrix, or cannot be made one.
    #[error("{}: tensor {tensor}: {source}", path.display())]
    Matrix {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong with it.
        source: Box<crate::Error>,
    },

    /// A tensor cannot be written.
    #[error("{}: cannot write tensor {tensor}: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Why not.
        reason: String,
    },
}

/// ` (nearest in the file: x, y)`, or nothing.
struct Near<'a>(&'a [String]);

impl fmt::Display for Near<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(" (the file has no tensors)");
        }
        write!(f, " (nearest in the file: {})", self.0.join(", "))
    }
}
