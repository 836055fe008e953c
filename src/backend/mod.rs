//! Where a dual GEMM runs.

pub mod cpu;

use std::fmt;
use std::str::FromStr;

use crate::element::Element;
use crate::error::{Error, Result};
use crate::problem::DualGemm;
use crate::reference;

/// The backend that the caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Backend {
    /// The fastest one that can run here; [`Backend::resolve`] tells which, and why.
    #[default]
    Auto,
    /// The fused CPU kernels, on the best instruction set of the machine.
    Cpu,
    /// The exact oracle.
    Exact,
    /// A CUDA device. Not part of this build.
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
    /// [`Error::Environment`] when `NVFP4_CPU_ISA` has a value that means nothing.
    pub fn resolve(self) -> Result<Selection> {
        let (isa, reason) = match self {
            Backend::Auto => {
                let choice = cpu::Isa::choose()?;
                (Some(choice.isa), format!("no CUDA backend in this build; {}", choice.reason))
            }
            Backend::Cpu => {
                let choice = cpu::Isa::choose()?;
                (Some(choice.isa), choice.reason)
            }
            Backend::Exact => (None, "asked for".to_owned()),
            Backend::Cuda => {
                return Err(Error::BackendUnavailable {
                    backend: self.to_string(),
                    reason: "this build has no CUDA backend".to_owned(),
                });
            }
        };
        let backend = if self == Backend::Auto { Backend::Cpu } else { self };
        Ok(Selection { backend, isa, reason })
    }
}

pub(crate) fn run<T: Element>(gemm: &DualGemm<'_>, backend: Backend, c: &mut [T]) -> Result<()> {
    match backend.resolve()? {
        Selection { isa: Some(isa), .. } => cpu::run(gemm, isa, c),
        Selection { isa: None, .. } => reference::exact_into(gemm, c),
    }
}
