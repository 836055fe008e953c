//! Kinds of engines, by name.

use std::fmt;
use std::str::FromStr;

/// A kind of engine, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Backend {
    /// A CUDA device that this build has kernels for, never an emulated one; otherwise the CPU.
    #[default]
    Auto,
    /// The fused CPU kernels, on the best instruction set of the machine.
    Cpu,
    /// The exact oracle.
    Oracle,
    /// The fused CUDA kernels, on the first device that they are built for. Needs the feature `cuda`.
    Cuda,
}

impl Backend {
    const ALL: [Backend; 4] = [Backend::Auto, Backend::Cpu, Backend::Oracle, Backend::Cuda];

    fn name(self) -> &'static str {
        match self {
            Backend::Auto => "auto",
            Backend::Cpu => "cpu",
            Backend::Oracle => "oracle",
            Backend::Cuda => "cuda",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let found = Backend::ALL.into_iter().find(|backend| backend.name() == s);
        found.ok_or_else(|| format!("{s} is none of auto, cpu, oracle, cuda"))
    }
}
