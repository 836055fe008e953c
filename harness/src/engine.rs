//! The code paths that `verify` and `bench` go through.

use std::fmt;
use std::marker::PhantomData;

#[cfg(feature = "cuda")]
use anyhow::bail;

use nvfp4_dual_gemm::backend::cpu::{self, Isa};
#[cfg(feature = "cuda")]
use nvfp4_dual_gemm::cuda::{self, Kernel};
use nvfp4_dual_gemm::{Backend, DualGemm, Element};

/// A backend, and the instruction set or the kernel where it has several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Engine {
    /// The kernels of the CPU for an instruction set.
    Cpu(Isa),
    /// The kernel that was asked for; `None`: the one that the shape gets.
    #[cfg(feature = "cuda")]
    Cuda(Option<Kernel>),
    /// Another backend, such as the oracle.
    Other(Backend),
}

impl Engine {
    /// Gets ready to run `gemm`: for a device, operands are copied to it.
    pub fn prepare<'a, T: Element>(
        self,
        gemm: &'a DualGemm<'a>,
    ) -> nvfp4_dual_gemm::Result<Prepared<'a, T>> {
        Ok(match self {
            Engine::Cpu(isa) => Prepared::Cpu(isa, gemm),
            #[cfg(feature = "cuda")]
            Engine::Cuda(kernel) => {
                let device = cuda::Device::first_supported()?;
                Prepared::Cuda(Box::new(cuda::OnDevice::new(gemm, &device, kernel)?))
            }
            Engine::Other(backend) => Prepared::Other(backend, gemm, PhantomData),
        })
    }

    /// An error where times mean nothing: on an emulated device.
    pub fn require_a_clock(self) -> anyhow::Result<()> {
        #[cfg(feature = "cuda")]
        if let Engine::Cuda(_) = self {
            let device = cuda::Device::first_supported()?;
            if device.is_emulated() {
                bail!(
                    "{} runs on this CPU, so that its times say nothing of the device; `nvfp4 verify --backend cuda` checks its results",
                    device.name()
                );
            }
        }
        Ok(())
    }

    /// Whether it is what others are compared with.
    pub fn is_oracle(self) -> bool {
        self == Engine::Other(Backend::Exact)
    }

    /// The instruction set, if it runs on the CPU's.
    pub fn isa(self) -> Option<Isa> {
        match self {
            Engine::Cpu(isa) => Some(isa),
            _ => None,
        }
    }
}

/// An engine with the operands where it wants them.
pub enum Prepared<'a, T> {
    /// Nothing to prepare.
    Cpu(Isa, &'a DualGemm<'a>),
    /// Operands and C in the device's memory.
    #[cfg(feature = "cuda")]
    Cuda(Box<cuda::OnDevice<T>>),
    /// Nothing to prepare.
    Other(Backend, &'a DualGemm<'a>, PhantomData<T>),
}

impl<T: Element> Prepared<'_, T> {
    /// Computes C: what is timed. For a device it stays there, copies are not part of it.
    pub fn run(&self, c: &mut [T]) -> nvfp4_dual_gemm::Result<()> {
        match self {
            Prepared::Cpu(isa, gemm) => cpu::run(gemm, *isa, c),
            #[cfg(feature = "cuda")]
            Prepared::Cuda(on_device) => on_device.run(),
            Prepared::Other(backend, gemm, _) => gemm.run_into(*backend, c),
        }
    }

    /// Brings C to the host after the last run.
    pub fn fetch(&self, c: &mut [T]) -> nvfp4_dual_gemm::Result<()> {
        match self {
            #[cfg(feature = "cuda")]
            Prepared::Cuda(on_device) => on_device.download(c),
            _ => {
                let _ = c;
                Ok(())
            }
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Engine::Cpu(isa) => write!(f, "cpu ({isa})"),
            #[cfg(feature = "cuda")]
            Engine::Cuda(Some(kernel)) => write!(f, "cuda ({kernel})"),
            #[cfg(feature = "cuda")]
            Engine::Cuda(None) => f.write_str("cuda"),
            Engine::Other(backend) => write!(f, "{backend}"),
        }
    }
}
