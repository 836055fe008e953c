//! What can be wrong with a CUDA device, with work for it, and with operands of its kernels.

use std::fmt;

use super::Operand;

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

/// What is wrong with a device, or with what was asked of it. Part of every build, so that [`Error`](super::Error) is
/// the same in all of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// There is no CUDA driver on this machine.
    #[error(
        "no CUDA driver on this machine (libcuda.so.1, part of NVIDIA's driver); this build has runtime {runtime}"
    )]
    NoDriver {
        /// The CUDA runtime of this build.
        runtime: CudaVersion,
    },

    /// The CUDA driver does not know the runtime of this build.
    #[error("the CUDA driver is too old: it knows CUDA {driver}, this build has runtime {runtime}")]
    DriverTooOld {
        /// The newest CUDA that the driver knows.
        driver: CudaVersion,
        /// The CUDA runtime of this build.
        runtime: CudaVersion,
    },

    /// There is a driver, but no device, or none that this process may see.
    #[error("no CUDA device (is CUDA_VISIBLE_DEVICES set?)")]
    NoDevice,

    /// No device has this ordinal.
    #[error("no CUDA device {ordinal}: this machine has {count}, counted from 0")]
    NoSuchDevice {
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
    Architecture {
        /// The devices that were looked at.
        devices: Vec<UnsuitableDevice>,
        /// Compute capabilities that there are kernels for.
        built_for: Vec<(u32, u32)>,
        /// Devices that would not tell what they are, by ordinal, and their errors.
        unreadable: Vec<(usize, String)>,
    },

    /// The kernel that was asked for is not for this device, which has others.
    #[error("kernel {kernel} is for compute capability {}, {device}", dotted(*built_for))]
    KernelArchitecture {
        /// Name of the kernel.
        kernel: String,
        /// The compute capability that it is for.
        built_for: (u32, u32),
        /// The device.
        device: UnsuitableDevice,
    },

    /// Device memory could not be allocated.
    #[error("CUDA device {device}: cannot allocate {bytes} bytes, {free} of {total} are free")]
    OutOfMemory {
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
    Call {
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
    WrongDevice {
        /// What is at fault.
        what: &'static str,
        /// Ordinal expected.
        expected: usize,
        /// Ordinal found.
        actual: usize,
    },

    /// Something cannot be done while a stream is being captured.
    #[error("CUDA graph capture: {reason}")]
    Capture {
        /// Why not.
        reason: String,
    },

    /// Device memory, or what is copied to or from it, is not as long as it must be.
    #[error("{what}: {actual} elements, expected {expected}")]
    Length {
        /// What is at fault.
        what: &'static str,
        /// Elements needed.
        expected: usize,
        /// Elements given.
        actual: usize,
    },

    /// A part of device memory, or of its rows, is not inside.
    #[error("{len} {what} from {from} on are not all among the {of} of device memory")]
    Range {
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
    Rows {
        /// Rows asked for.
        rows: usize,
        /// Elements that there are.
        elements: usize,
    },

    /// Elements of another library's device memory are not of the size that is asked for.
    #[error("elements of {actual} bytes in device memory, expected {expected} bytes")]
    Element {
        /// Bytes of an element expected.
        expected: usize,
        /// Bytes of an element found.
        actual: usize,
    },

    /// More device memory than can be addressed.
    #[error("cannot allocate {elements} elements of {size} bytes: more than {} bytes", isize::MAX)]
    Allocation {
        /// Elements asked for.
        elements: usize,
        /// Bytes of one.
        size: usize,
    },

    /// A copy within one piece of device memory.
    #[error(
        "copy: the {bytes} bytes of the source at {from:#x} overlap what is written from {to:#x} on"
    )]
    Overlap {
        /// Address of the destination.
        to: usize,
        /// Address of the source.
        from: usize,
        /// Bytes of the source.
        bytes: usize,
    },

    /// A size is beyond the 32 bits that the kernels count with.
    #[error("{operand}: {dimension} = {value}, the CUDA kernels take at most {}", i32::MAX)]
    Size {
        /// Operand at fault.
        operand: Operand,
        /// The name of the size: batch, M, N, K, or rows.
        dimension: &'static str,
        /// Its value.
        value: usize,
    },

    /// A device address is null or not aligned.
    #[error("device address {address:#x} is not a multiple of {alignment} above 0")]
    Address {
        /// The address.
        address: usize,
        /// What it must be a multiple of, in bytes.
        alignment: usize,
    },

    /// The kernels' host code refuses the problem or an operand.
    #[error("the CUDA kernels refuse this: {reason}")]
    Refused {
        /// The operand and the numbers, in the host code's words or CUTLASS's.
        reason: String,
    },
}

fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

fn dotted((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}
