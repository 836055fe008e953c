//! The one error type of the library: every variant names the operand, the place and the numbers.

#[cfg(feature = "checkpoint")]
mod checkpoint;

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;

#[cfg(feature = "checkpoint")]
pub use checkpoint::CheckpointError;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Which operand of `C = gate(alpha1·A·B1ᵀ, alpha2·A·B2ᵀ)` an error speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operand {
    /// Activations, M×K.
    A,
    /// Gate weights, N×K.
    B1,
    /// Up weights, N×K.
    B2,
    /// Result, M×N.
    C,
    /// A matrix that has not been given a place in a GEMM yet.
    Matrix,
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operand::A => "a",
            Operand::B1 => "b1",
            Operand::B2 => "b2",
            Operand::C => "c",
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
        })
    }
}

/// A release of CUDA, such as 13.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CudaVersion {
    /// The number before the dot.
    pub major: u32,
    /// The number after it.
    pub minor: u32,
}

impl CudaVersion {
    /// Takes CUDA's own notation: 13050 for 13.5.
    pub const fn from_number(number: u32) -> Self {
        CudaVersion { major: number / 1000, minor: number % 1000 / 10 }
    }
}

impl fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A CUDA device that no kernel of a build runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsuitableDevice {
    /// Its ordinal.
    pub device: usize,
    /// Its name.
    pub name: String,
    /// Its compute capability, major and minor.
    pub compute_capability: (u32, u32),
}

impl fmt::Display for UnsuitableDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UnsuitableDevice { device, name, compute_capability } = self;
        let capability = dotted(*compute_capability);
        write!(f, "CUDA device {device} ({name}) has compute capability {capability}")
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
        "{operand}: alpha = {global_a:e} * {global_b:e} (global scales of a and {operand}) is {} the range of normal f32 numbers",
        if *.global_a as f64 * *.global_b as f64 > 1.0 { "above" } else { "below" }
    )]
    Alpha {
        /// B1 for alpha1, B2 for alpha2.
        operand: Operand,
        /// Global scale of A.
        global_a: f32,
        /// Global scale of the weight.
        global_b: f32,
    },

    /// A value to quantize is NaN or infinite.
    #[error("{operand}: {value} at batch {batch}, row {row}, column {col} cannot be quantised")]
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
    #[error("gate: {parameter} = {value} must be {requirement}")]
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

    /// There is no CUDA driver on this machine.
    #[error(
        "no CUDA driver on this machine (libcuda.so.1, part of NVIDIA's driver); this build has runtime {runtime}"
    )]
    CudaNoDriver {
        /// The CUDA runtime of this build.
        runtime: CudaVersion,
    },

    /// The CUDA driver does not know the runtime of this build.
    #[error("the CUDA driver is too old: it knows CUDA {driver}, this build has runtime {runtime}")]
    CudaDriverTooOld {
        /// The newest CUDA that the driver knows.
        driver: CudaVersion,
        /// The CUDA runtime of this build.
        runtime: CudaVersion,
    },

    /// There is a driver, but no device, or none that this process may see.
    #[error("no CUDA device (is CUDA_VISIBLE_DEVICES set?)")]
    CudaNoDevice,

    /// No device has this ordinal.
    #[error("no CUDA device {ordinal}: this machine has {count}, counted from 0")]
    CudaNoSuchDevice {
        /// Ordinal asked for.
        ordinal: usize,
        /// Number of devices.
        count: usize,
    },

    /// The kernels' machine code is not for any of these devices: code for sm_90a runs on compute capability 9.0 alone,
    /// code for sm_100a on 10.0 alone.
    #[error(
        "{}, the kernels of this build are for {}{}",
        listed(devices),
        listed(built_for.iter().map(|&one| dotted(one))),
        unreadable.iter().map(|(device, error)| format!("; CUDA device {device}: {error}")).collect::<String>()
    )]
    CudaArchitecture {
        /// The devices that were looked at.
        devices: Vec<UnsuitableDevice>,
        /// Compute capabilities that there are kernels for.
        built_for: Vec<(u32, u32)>,
        /// Devices that would not tell what they are, by ordinal, and their errors.
        unreadable: Vec<(usize, String)>,
    },

    /// The kernel that was asked for is not for this device, which has others.
    #[error("kernel {kernel} is for compute capability {}, {device}", dotted(*built_for))]
    CudaKernelArchitecture {
        /// Name of the kernel.
        kernel: String,
        /// The compute capability that it is for.
        built_for: (u32, u32),
        /// The device.
        device: UnsuitableDevice,
    },

    /// Device memory could not be allocated.
    #[error("CUDA device {device}: cannot allocate {bytes} bytes, {free} of {total} are free")]
    CudaOutOfMemory {
        /// Ordinal of the device.
        device: usize,
        /// Bytes asked for.
        bytes: usize,
        /// Bytes free.
        free: usize,
        /// Bytes that the device has.
        total: usize,
    },

    /// A CUDA call failed; for one that waits, it may be earlier work that did.
    #[error("{call}: {name} ({code}): {text}")]
    CudaCall {
        /// The call.
        call: String,
        /// Name of CUDA's error.
        name: String,
        /// Its number.
        code: u32,
        /// CUDA's words.
        text: String,
    },

    /// Operands, plan and stream are not all of one device.
    #[error("{what}: on CUDA device {actual}, expected device {expected}")]
    CudaWrongDevice {
        /// What is at fault.
        what: &'static str,
        /// Ordinal expected.
        expected: usize,
        /// Ordinal found.
        actual: usize,
    },

    /// Something cannot be done while a stream is being captured.
    #[error("CUDA graph capture: {reason}")]
    CudaCapture {
        /// Why not.
        reason: String,
    },

    /// Device memory, or what is copied to or from it, is not as long as it must be.
    #[error("{what}: {actual} elements, expected {expected}")]
    CudaLength {
        /// What is at fault.
        what: &'static str,
        /// Elements needed.
        expected: usize,
        /// Elements given.
        actual: usize,
    },

    /// A part of device memory, or of its rows, is not inside.
    #[error("{len} {what} from {from} on are not all among the {of} of device memory")]
    CudaRange {
        /// Elements, or columns of a row.
        what: &'static str,
        /// The first one.
        from: usize,
        /// How many.
        len: usize,
        /// How many there are.
        of: usize,
    },

    /// Device memory is no matrix of that many rows.
    #[error("{elements} elements of device memory do not make {rows} rows of one length")]
    CudaRows {
        /// Rows asked for.
        rows: usize,
        /// Elements that there are.
        elements: usize,
    },

    /// Elements of another library's device memory are not of the size that is asked for.
    #[error("elements of {actual} bytes in device memory, expected {expected} bytes")]
    CudaElement {
        /// Bytes of an element expected.
        expected: usize,
        /// Bytes of an element found.
        actual: usize,
    },

    /// More device memory than can be addressed.
    #[error("cannot allocate {elements} elements of {size} bytes: more than {} bytes", isize::MAX)]
    CudaAllocation {
        /// Elements asked for.
        elements: usize,
        /// Bytes of one.
        size: usize,
    },

    /// A copy within one piece of device memory.
    #[error(
        "copy: the {bytes} bytes of the source at {from:#x} overlap what is written from {to:#x} on"
    )]
    CudaOverlap {
        /// Address of the destination.
        to: usize,
        /// Address of the source.
        from: usize,
        /// Bytes of the source.
        bytes: usize,
    },

    /// A size is beyond the 32 bits that the kernels count with.
    #[error("{operand}: {dimension} = {value}, the CUDA kernels take at most {}", i32::MAX)]
    CudaSize {
        /// Operand at fault.
        operand: Operand,
        /// The name of the size: batch, M, N, K, or rows.
        dimension: &'static str,
        /// Its value.
        value: usize,
    },

    /// A device address is null or not aligned.
    #[error("device address {address:#x} is not a multiple of {alignment} above 0")]
    CudaAddress {
        /// The address.
        address: usize,
        /// What it must be a multiple of, in bytes.
        alignment: usize,
    },

    /// The kernels' host code refuses the problem or an operand.
    #[error("the CUDA kernels refuse this: {reason}")]
    CudaRefused {
        /// The operand and the numbers, in the host code's words or CUTLASS's.
        reason: String,
    },

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

impl Error {
    /// The same error, about `operand` where it spoke of an unplaced [`Operand::Matrix`].
    #[must_use]
    pub fn with_operand(mut self, to: Operand) -> Self {
        use Error::*;
        match &mut self {
            Length { operand, .. }
            | ZeroDimension { operand, .. }
            | KNotMultiple { operand, .. }
            | ShapeMismatch { operand, .. }
            | SizeOverflow { operand, .. }
            | CudaSize { operand, .. }
            | ScaleByte { operand, .. }
            | Code { operand, .. }
            | GlobalScale { operand, .. }
            | Alpha { operand, .. }
            | NonFinite { operand, .. }
            | RowOutOfRange { operand, .. }
            | OutOfMemory { operand, .. } => {
                if *operand == Operand::Matrix {
                    *operand = to;
                }
            }
            GluParameter { .. } | BackendUnavailable { .. } | Environment { .. } | Io { .. } => {}
            CudaNoDriver { .. }
            | CudaDriverTooOld { .. }
            | CudaNoDevice
            | CudaNoSuchDevice { .. }
            | CudaArchitecture { .. }
            | CudaKernelArchitecture { .. }
            | CudaOutOfMemory { .. }
            | CudaCall { .. }
            | CudaWrongDevice { .. }
            | CudaCapture { .. }
            | CudaLength { .. }
            | CudaRange { .. }
            | CudaRows { .. }
            | CudaElement { .. }
            | CudaAllocation { .. }
            | CudaOverlap { .. }
            | CudaAddress { .. }
            | CudaRefused { .. } => {}
            #[cfg(feature = "checkpoint")]
            Checkpoint(_) => {}
        }
        self
    }
}

fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

fn dotted((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

fn scale_byte_fault(byte: u8) -> &'static str {
    match byte {
        0x7f | 0xff => "NaN",
        0x80 => "minus zero",
        0x81.. => "negative",
        _ => "valid",
    }
}
