//! The one error type of the library: every variant names the operand, the place and the numbers.

#[cfg(feature = "checkpoint")]
mod checkpoint;
mod cuda;

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;

use crate::dtype::DType;

#[cfg(feature = "checkpoint")]
pub use checkpoint::{CheckpointError, NoDown};
pub use cuda::{CudaError, CudaVersion, UnsuitableDevice};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Which operand of `C = glu(alpha1·A·B1ᵀ, alpha2·A·B2ᵀ)`, of `C = alpha·A·Wᵀ + R` or of a whole MLP an error speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operand {
    /// Activations, M×K.
    A,
    /// Gate weights, N×K.
    B1,
    /// Up weights, N×K.
    B2,
    /// Weights of a GEMM with one weight, N×K.
    W,
    /// Result, M×N.
    C,
    /// Residual, of the shape of C.
    R,
    /// Input of the down projection, what the GLU gives.
    H,
    /// Weights of the down projection.
    Down,
    /// A matrix that has not been given a place in a GEMM yet.
    Matrix,
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operand::A => "a",
            Operand::B1 => "b1",
            Operand::B2 => "b2",
            Operand::W => "w",
            Operand::C => "c",
            Operand::R => "r",
            Operand::H => "h",
            Operand::Down => "down",
            Operand::Matrix => "matrix",
        })
    }
}

/// Which buffer of an operand an error speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Buffer {
    /// Packed e2m1 codes, two a byte.
    Codes,
    /// Scale factors, row-major, one a block of 16.
    Scales,
    /// Scale factors in the 128x4 layout.
    SwizzledScales,
    /// Unquantized values.
    Values,
    /// One e2m1 code a byte.
    UnpackedCodes,
    /// Global scales, one a row.
    RowScales,
    /// What is added to the columns of a product.
    Bias,
}

impl fmt::Display for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Buffer::Codes => "codes",
            Buffer::Scales => "scales",
            Buffer::SwizzledScales => "swizzled scales",
            Buffer::Values => "values",
            Buffer::UnpackedCodes => "unpacked codes",
            Buffer::RowScales => "row scales",
            Buffer::Bias => "biases",
        })
    }
}

/// Everything that can be wrong with the input, the machine or a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A buffer does not have the length that its shape asks for.
    #[error(
        "{operand}: {buffer} hold {actual} elements, but shape {batch} x {rows} x {cols} needs {expected}"
    )]
    Length {
        /// Operand at fault.
        operand: Operand,
        /// Buffer at fault.
        buffer: Buffer,
        /// Elements that the shape needs.
        expected: usize,
        /// Elements given.
        actual: usize,
        /// Batch count L of the shape.
        batch: usize,
        /// Rows of the shape.
        rows: usize,
        /// Logical columns (K, or N for C) of the shape.
        cols: usize,
    },

    /// A dimension is zero that must not be: any but the rows of activations.
    #[error("{operand}: shape {batch} x {rows} x {cols} has a zero dimension")]
    ZeroDimension {
        /// Operand at fault.
        operand: Operand,
        /// Batch count.
        batch: usize,
        /// Rows.
        rows: usize,
        /// Columns.
        cols: usize,
    },

    /// K is not a multiple of what the operation needs (16 on the CPU, 32 for TMA).
    #[error("{operand}: K = {k} is not a multiple of {multiple}")]
    KNotMultiple {
        /// Operand at fault.
        operand: Operand,
        /// K given.
        k: usize,
        /// What it has to be a multiple of.
        multiple: usize,
    },

    /// Two operands disagree in shape.
    #[error("{operand}: shape is {actual:?} (batch, rows, K), but {other} asks for {expected:?}")]
    ShapeMismatch {
        /// Operand at fault.
        operand: Operand,
        /// The operand it was compared with.
        other: Operand,
        /// (batch, rows, K) that would fit.
        expected: (usize, usize, usize),
        /// (batch, rows, K) given.
        actual: (usize, usize, usize),
    },

    /// A size does not fit the address space.
    #[error("{operand}: {batch} x {rows} x {cols} overflows the address space")]
    SizeOverflow {
        /// Operand at fault.
        operand: Operand,
        /// Batch count.
        batch: usize,
        /// Rows.
        rows: usize,
        /// Columns.
        cols: usize,
    },

    /// A scale byte is not a UE4M3 number: 0x7f (NaN), or the sign bit is set.
    #[error("{operand}: scale {byte:#04x} ({}) at batch {batch}, row {row}, block {block}", scale_byte_fault(*byte))]
    ScaleByte {
        /// Operand at fault.
        operand: Operand,
        /// The byte.
        byte: u8,
        /// Batch index.
        batch: usize,
        /// Row index.
        row: usize,
        /// Block index, k / 16.
        block: usize,
    },

    /// An unpacked code is not below 16.
    #[error("{operand}: code {code} at index {index} is not an e2m1 code (0..=15)")]
    Code {
        /// Operand at fault.
        operand: Operand,
        /// The value.
        code: u8,
        /// Its index.
        index: usize,
    },

    /// A global scale is not a finite number above zero.
    #[error("{operand}: global scale {value:?} is not a finite number > 0")]
    GlobalScale {
        /// Operand at fault.
        operand: Operand,
        /// The value.
        value: f32,
    },

    /// `global(A)·global(B)` is no normal f32.
    #[error(
        "{operand}: alpha = {global_a:e} * {global_b:e} (global scales of {} and {operand}) is {} the range of normal f32 numbers",
        if *operand == Operand::Down { Operand::H } else { Operand::A },
        if *.global_a as f64 * *.global_b as f64 > 1.0 { "above" } else { "below" }
    )]
    Alpha {
        /// B1 for alpha1, B2 for alpha2, and down, whose input is h.
        operand: Operand,
        /// Global scale of A, or of h.
        global_a: f32,
        /// Global scale of the weight.
        global_b: f32,
    },

    /// A value to quantize or to round to 16 bits is NaN or infinite, or becomes so.
    #[error("{operand}: {value} at batch {batch}, row {row}, column {col} cannot be quantized")]
    NonFinite {
        /// Operand at fault.
        operand: Operand,
        /// The value.
        value: f32,
        /// Batch index.
        batch: usize,
        /// Row index.
        row: usize,
        /// Column index.
        col: usize,
    },

    /// A bias is NaN or infinite.
    #[error("{operand}: bias {value} at index {index} is not finite")]
    BiasNonFinite {
        /// The weights that it belongs to.
        operand: Operand,
        /// Its index in \[batch, N\].
        index: usize,
        /// The value.
        value: f32,
    },

    /// What takes NVFP4 activations was given values.
    #[error("{operand}: activations are {actual}, but NVFP4 is needed")]
    NotQuantized {
        /// Operand at fault.
        operand: Operand,
        /// Type of the values.
        actual: DType,
    },

    /// A factor of the down projection that leaves its global scale no normal f32 > 0.
    #[error(
        "{operand}: global scale {global_scale:e} times multiplier {multiplier:e} is not a normal f32 > 0"
    )]
    Multiplier {
        /// Operand at fault.
        operand: Operand,
        /// Global scale of the weight.
        global_scale: f32,
        /// The factor.
        multiplier: f32,
    },

    /// A part of an MLP for a rank that there is not, or for more ranks than there are blocks.
    #[error(
        "rank {rank} of {ranks}: there are {ranks} parts of N = {n} only where that has as many blocks of 16, and ranks count from 0"
    )]
    Shard {
        /// The rank.
        rank: usize,
        /// How many there are.
        ranks: usize,
        /// Rows of gate_proj.
        n: usize,
    },

    /// Something of the down projection, of weights that have none.
    #[error("the weights have no down projection, which {what} is for")]
    NoDownProjection {
        /// What was given or asked for.
        what: &'static str,
    },

    /// A row to be computed lies outside of C.
    #[error("{operand}: row {row} of batch {batch} is outside of {batches} x {rows}")]
    RowOutOfRange {
        /// Operand at fault.
        operand: Operand,
        /// Batch index.
        batch: usize,
        /// Row index.
        row: usize,
        /// Batch count.
        batches: usize,
        /// Row count.
        rows: usize,
    },

    /// A parameter of the gate is out of its range.
    #[error("GLU: {parameter} = {value} must be {requirement}")]
    GluParameter {
        /// Name of the parameter.
        parameter: &'static str,
        /// Its value.
        value: f32,
        /// What it must be.
        requirement: &'static str,
    },

    /// The asked-for backend or code path cannot run here.
    #[error("backend {backend} cannot run here: {reason}")]
    BackendUnavailable {
        /// Name of the backend or code path.
        backend: String,
        /// Why not.
        reason: String,
    },

    /// An environment variable has a value that means nothing.
    #[error("environment variable {variable}={value}: expected one of {expected}")]
    Environment {
        /// Name of the variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },

    /// A buffer could not be allocated.
    #[error("{operand}: cannot allocate {bytes} bytes")]
    OutOfMemory {
        /// Operand at fault.
        operand: Operand,
        /// Bytes asked for.
        bytes: usize,
    },

    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },

    /// The device layer and its kernels.
    #[error(transparent)]
    Cuda(#[from] CudaError),

    /// A checkpoint cannot be used.
    #[cfg(feature = "checkpoint")]
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// So that a conversion that cannot fail may stand where one may.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// The operand of a borrowed error.
macro_rules! operand_of {
    ($error:expr) => {{
        use Error::*;
        match $error {
            Length { operand, .. }
            | ZeroDimension { operand, .. }
            | KNotMultiple { operand, .. }
            | ShapeMismatch { operand, .. }
            | SizeOverflow { operand, .. }
            | Cuda(CudaError::Size { operand, .. })
            | ScaleByte { operand, .. }
            | Code { operand, .. }
            | GlobalScale { operand, .. }
            | Alpha { operand, .. }
            | NonFinite { operand, .. }
            | BiasNonFinite { operand, .. }
            | NotQuantized { operand, .. }
            | Multiplier { operand, .. }
            | RowOutOfRange { operand, .. }
            | OutOfMemory { operand, .. } => Some(operand),
            GluParameter { .. } | BackendUnavailable { .. } | Environment { .. } | Io { .. } => {
                None
            }
            NoDownProjection { .. } | Shard { .. } => None,
            Cuda(_) => None,
            #[cfg(feature = "checkpoint")]
            Checkpoint(_) => None,
        }
    }};
}

impl Error {
    /// The same error, about `operand` where it spoke of an unplaced [`Operand::Matrix`].
    #[must_use]
    pub fn with_operand(self, to: Operand) -> Self {
        self.map_operand(|operand| if operand == Operand::Matrix { to } else { operand })
    }

    /// The operand that it speaks of, if it does of one.
    pub fn operand(&self) -> Option<Operand> {
        operand_of!(self).copied()
    }

    /// The same error about what `place` makes of its operand.
    pub(crate) fn map_operand(mut self, place: impl Fn(Operand) -> Operand) -> Self {
        if let Error::ShapeMismatch { other, .. } = &mut self {
            *other = place(*other);
        }
        if let Some(operand) = operand_of!(&mut self) {
            *operand = place(*operand);
        }
        self
    }
}

fn scale_byte_fault(byte: u8) -> &'static str {
    match byte {
        0x7f | 0xff => "NaN",
        0x80 => "minus zero",
        0x81.. => "negative",
        _ => "valid",
    }
}
