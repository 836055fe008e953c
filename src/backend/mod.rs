//! Where a dual GEMM runs.

pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;

use std::fmt;
use std::str::FromStr;

use crate::element::Element;
use crate::error::{Error, Result};
use crate::problem::DualGemm;
use crate::reference;

/// The backend that the caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Backend {
    /// The fastest one that can run here, never an emulated device; [`Backend::resolve`] tells which, and why.
    #[default]
    Auto,
    /// The fused CPU kernels, on the best instruction set of the machine.
    Cpu,
    /// The exact oracle.
    Exact,
    /// The fused kernels on the first CUDA device that they are built for. Part of builds with feature `cuda`.
    Cuda,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Auto => "auto",
            Backend::Cpu => "cpu",
            Backend::Exact => "exact",
            Backend::Cuda => "cuda",
        })
    }
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "auto" => Ok(Backend::Auto),
            "cpu" => Ok(Backend::Cpu),
            "exact" => Ok(Backend::Exact),
            "cuda" => Ok(Backend::Cuda),
            _ => Err(format!("{s} is none of auto, cpu, exact, cuda")),
        }
    }
}

/// A backend that can run here, and why it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Never [`Backend::Auto`].
    pub backend: Backend,
    /// The instruction set, for [`Backend::Cpu`].
    pub isa: Option<cpu::Isa>,
    /// One sentence.
    pub reason: String,
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.isa {
            Some(isa) => write!(f, "{} ({isa})", self.backend),
            None => write!(f, "{}", self.backend),
        }
    }
}

impl Backend {
    /// Says which backend would run.
    ///
    /// # Errors
    /// [`Error::BackendUnavailable`] for one that is not built in or cannot run here,
    /// [`Error::Environment`] when `NVFP4_CPU_ISA` has a value that means nothing; for [`Backend::Cuda`] the error
    /// of the driver or the device, such as [`Error::CudaNoDriver`] or [`Error::CudaArchitecture`].
    pub fn resolve(self) -> Result<Selection> {
        let selection = |backend, isa, reason| Ok(Selection { backend, isa, reason });
        match self {
            Backend::Auto => match cuda_device() {
                Ok(CudaDevice { emulated: false, words }) => selection(Backend::Cuda, None, words),
                other => {
                    let choice = cpu::Isa::choose()?;
                    let why_not = match other {
                        // It runs on this CPU, too, one instruction at a time.
                        Ok(CudaDevice { words, .. }) => format!("not {words}"),
                        Err(Error::BackendUnavailable { .. }) => {
                            "no CUDA backend in this build".to_owned()
                        }
                        Err(error) => error.to_string(),
                    };
                    let reason = format!("{why_not}; {}", choice.reason);
                    selection(Backend::Cpu, Some(choice.isa), reason)
                }
            },
            Backend::Cpu => {
                let choice = cpu::Isa::choose()?;
                selection(self, Some(choice.isa), choice.reason)
            }
            Backend::Exact => selection(self, None, "asked for".to_owned()),
            Backend::Cuda => selection(self, None, cuda_device()?.words),
        }
    }
}

/// The device that [`Backend::Cuda`] runs on.
struct CudaDevice {
    words: String,
    emulated: bool,
}

#[cfg(feature = "cuda")]
fn cuda_device() -> Result<CudaDevice> {
    let device = cuda::Device::first_supported()?;
    let (major, minor) = device.compute_capability();
    let (ordinal, name) = (device.ordinal(), device.name());
    let words = format!("device {ordinal}, {name}, compute capability {major}.{minor}");
    Ok(CudaDevice { words, emulated: device.is_emulated() })
}

#[cfg(not(feature = "cuda"))]
fn cuda_device() -> Result<CudaDevice> {
    let reason = "this build has no CUDA backend".to_owned();
    Err(Error::BackendUnavailable { backend: Backend::Cuda.to_string(), reason })
}

pub(crate) fn run<T: Element>(gemm: &DualGemm<'_>, backend: Backend, c: &mut [T]) -> Result<()> {
    match backend.resolve()? {
        Selection { isa: Some(isa), .. } => cpu::run(gemm, isa, c),
        #[cfg(feature = "cuda")]
        Selection { backend: Backend::Cuda, .. } => cuda::run(gemm, None, c),
        Selection { isa: None, .. } => reference::exact_into(gemm, c),
    }
}
