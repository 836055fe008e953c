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

    /// The file is a pointer of Git LFS to the one that should be there.
    #[error("{}: is a Git LFS pointer and not the file itself: fetch that with `git lfs pull`", path.display())]
    LfsPointer {
        /// The file.
        path: PathBuf,
    },

    /// Somebody changed the file while it was open.
    #[error("{}: changed after it was opened: {reason}; open it again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What tells it.
        reason: String,
    },

    /// The index says that a tensor is in a file that is not there.
    #[error("{}: tensor {tensor} is in the shard {shard}, which is missing", path.display())]
    MissingShard {
        /// The file or directory that was opened.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Name of the file.
        shard: String,
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

    /// A global scale cannot be used.
    #[error("{}: tensor {tensor} holds {stored:e}, expected {expected}", path.display())]
    GlobalScale {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The number as it is stored.
        stored: f32,
        /// What would do.
        expected: &'static str,
    },

    /// A number that is added, such as one of a bias, is infinite or NaN.
    #[error("{}: tensor {tensor} holds {value} at {index:?}, expected a finite number", path.display())]
    NonFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Index of the number in the tensor.
        index: Vec<usize>,
        /// The number.
        value: f32,
    },

    /// The calibrated scale of the input of a weight-only layer is asked for, which has none.
    #[error(
        "{}: layer {layer} is weight-only (W4A16_NVFP4), and has no calibrated scale for 4-bit activations: \
         {evidence}; run it as W4A16, or choose --input-scale dynamic, per-row or VALUE (InputScale::Dynamic, \
         InputScale::PerRow, InputScale::Fixed)",
        path.display()
    )]
    WeightOnly {
        /// The file or directory.
        path: PathBuf,
        /// The layer.
        layer: String,
        /// What says so.
        evidence: String,
    },

    /// The whole MLP is asked for, and there is no down projection that it could run with.
    #[error("{}: layer {layer} has gate and up projections alone: {reason}", path.display())]
    NoDown {
        /// The file or directory.
        path: PathBuf,
        /// The layer.
        layer: String,
        /// Why there is none.
        reason: NoDown,
    },

    /// The calibrated global scale of a layer's input cannot be used; another can be chosen.
    #[error(
        "{}: tensor {tensor} holds {stored:e}, and no input can be quantized with that (as for an expert that \
         the calibration never reached): choose --input-scale dynamic or --input-scale VALUE \
         (MlpLayer::quantize_input_with and InputScale::Dynamic or InputScale::Fixed)",
        path.display()
    )]
    InputScale {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The number as it is stored.
        stored: f32,
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

    /// A JSON file beside the tensors (index or quantization config) cannot be used.
    #[error("{}: {reason}", path.display())]
    Json {
        /// The JSON file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A directory has no safetensors file, or several that do not make one checkpoint.
    #[error("{}: {reason}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What it has and lacks.
        reason: String,
    },

    /// There are no gate and up projections below a prefix.
    #[error("{}: no MLP layer {prefix:?}: looked for {looked_for}{}", path.display(), Near(near))]
    MissingLayer {
        /// The file or directory.
        path: PathBuf,
        /// Prefix asked for.
        prefix: String,
        /// Names looked for.
        looked_for: String,
        /// Layers, or else tensors, whose names come near.
        near: Vec<String>,
    },

    /// The layer multiplies its input by one matrix only, so that there is nothing to gate with.
    #[error("{}: layer {layer}: this MLP has no gate: there is {present}, and no {absent}", path.display())]
    NoGate {
        /// The file or directory.
        path: PathBuf,
        /// The layer.
        layer: String,
        /// Modules that it has.
        present: String,
        /// Module that it would need.
        absent: String,
    },

    /// The layer is stored in another format, which must not be read as NVFP4.
    #[error("{}: layer {layer} is {scheme}, not NVFP4 with activations of 4 or 16 bits: {evidence}", path.display())]
    Scheme {
        /// The file or directory.
        path: PathBuf,
        /// The layer.
        layer: String,
        /// Name of the scheme that it is.
        scheme: String,
        /// By what it was recognized, and what to do if something can be done.
        evidence: String,
    },

    /// The MLPs of the model have an activation function that no gate computes.
    #[error("{}: config.json says that the activation is {activation:?}, expected silu or gelu_pytorch_tanh; give the GLU yourself (--glu, LayerOptions::glu)", path.display())]
    Activation {
        /// The file or directory.
        path: PathBuf,
        /// Name of the function.
        activation: String,
    },

    /// A tensor or a key of the configuration may change what the layer computes.
    #[error("{}: layer {layer} is not read: {reason}", path.display())]
    NotUnderstood {
        /// The file or directory.
        path: PathBuf,
        /// The layer.
        layer: String,
        /// The tensor or the key, its file, and what can be done.
        reason: String,
    },

    /// None of the tensors is to be quantized, or can be.
    #[error("{}: no 2-D F32, F16 or BF16 tensor with K a multiple of 16 is named {patterns}{why}{}", path.display(), Near(near))]
    NothingToQuantize {
        /// The file or directory.
        path: PathBuf,
        /// Patterns of names that were looked for.
        patterns: String,
        /// What became of the first tensor that has such a name, if there is one.
        why: String,
        /// Names that come near.
        near: Vec<String>,
    },

    /// A layer that is to be quantized has no usable sample of its input.
    #[error("calibration: {module}: {reason}")]
    Calibration {
        /// The layer, or the tensor of the samples.
        module: String,
        /// What is missing or wrong.
        reason: String,
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

/// Why a layer of a checkpoint is read without its down projection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoDown {
    /// The reader did not ask for it.
    NotAsked,
    /// The checkpoint has none.
    Absent {
        /// Name of the module looked for.
        module: String,
    },
    /// It is stored in another format than NVFP4, or in another precision than gate and up.
    Format {
        /// Name of the module.
        module: String,
        /// Name of the format.
        scheme: String,
        /// By what it was recognized.
        evidence: String,
    },
    /// Something may change what it computes and is not understood.
    NotUnderstood {
        /// The tensor or the key, its file, and what can be done.
        reason: String,
    },
    /// Tensors of it are in a file that is not there.
    Missing {
        /// The error of the first one.
        reason: String,
    },
    /// Its tensors are damaged, or do not fit gate and up.
    Damaged {
        /// The error, with the tensor and the numbers.
        reason: String,
    },
}

impl fmt::Display for NoDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoDown::NotAsked => write!(f, "the down projection was not asked for"),
            NoDown::Absent { module } => write!(f, "there is no {module}"),
            NoDown::Format { module, scheme, evidence } => {
                write!(f, "{module} is {scheme}: {evidence}")
            }
            NoDown::NotUnderstood { reason } => write!(f, "down is not read: {reason}"),
            NoDown::Missing { reason } | NoDown::Damaged { reason } => f.write_str(reason),
        }
    }
}

/// ` (nearest: x, y)`.
struct Near<'a>(&'a [String]);

impl fmt::Display for Near<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(" (there are no tensors)");
        }
        write!(f, " (nearest: {})", self.0.join(", "))
    }
}
