//! The code paths that `verify` and `bench` go through.

use std::fmt;
use std::marker::PhantomData;

use anyhow::bail;

use nvfp4_dual_gemm::backend::Selection;
use nvfp4_dual_gemm::backend::cpu::{self, Isa};
#[cfg(feature = "cuda")]
use nvfp4_dual_gemm::cuda::{self, Kernel};
use nvfp4_dual_gemm::{Backend, DualGemm, Element};

use crate::args::IsaArg;

/// A backend, and the instruction set or the kernel where it has several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Engine {
    Cpu(Isa),
    /// The kernel that was asked for; `None`: the one that the shape gets.
    #[cfg(feature = "cuda")]
    Cuda(Option<Kernel>),
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
    Cpu(Isa, &'a DualGemm<'a>),
    #[cfg(feature = "cuda")]
    Cuda(Box<cuda::OnDevice<T>>),
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

/// Code paths to go through, and those that were left out, each with a reason.
#[derive(Debug)]
pub struct Engines {
    pub chosen: Vec<Engine>,
    pub left_out: Vec<(Isa, String)>,
}

/// What `--backend` and `--kernel` ask for.
pub fn one(backend: Backend, kernel: Option<&str>) -> anyhow::Result<(Selection, Engine)> {
    if kernel.is_some() && !matches!(backend, Backend::Auto | Backend::Cuda) {
        bail!("--kernel picks a kernel of the cuda backend, but --backend is {backend}");
    }
    let backend = if kernel.is_some() { Backend::Cuda } else { backend };
    // A name that means nothing is an error also where there is no device.
    #[cfg(feature = "cuda")]
    let kernel = kernel
        .map(|name| name.parse::<Kernel>().map_err(|error| anyhow::anyhow!("--kernel: {error}")))
        .transpose()?;
    let selection = backend.resolve()?;
    let engine = match (selection.backend, selection.isa) {
        (_, Some(isa)) => Engine::Cpu(isa),
        #[cfg(feature = "cuda")]
        (Backend::Cuda, None) => Engine::Cuda(kernel),
        (backend, None) => Engine::Other(backend),
    };
    Ok((selection, engine))
}

/// What `--backend`, `--isa` and `--kernel` ask for; without `--isa` the one that the backend would use itself.
pub fn choose(backend: Backend, isas: &[IsaArg], kernel: Option<&str>) -> anyhow::Result<Engines> {
    let mut engines = Engines { chosen: Vec::new(), left_out: Vec::new() };
    if kernel.is_some() && !isas.is_empty() {
        bail!("--kernel picks a kernel of the cuda backend, --isa a path of the cpu backend");
    }
    if !matches!(backend, Backend::Auto | Backend::Cpu) && !isas.is_empty() {
        bail!("--isa picks a path of the cpu backend, but --backend is {backend}");
    }
    if isas.is_empty() {
        engines.chosen.push(one(backend, kernel)?.1);
        return Ok(engines);
    }
    for arg in isas {
        match *arg {
            IsaArg::One(isa) => {
                isa.check()?;
                engines.chosen.push(Engine::Cpu(isa));
            }
            IsaArg::All => {
                for isa in Isa::ALL {
                    match isa.check() {
                        Ok(()) => engines.chosen.push(Engine::Cpu(isa)),
                        Err(error) => engines.left_out.push((isa, unavailable(&error))),
                    }
                }
            }
        }
    }
    let mut distinct = Vec::new();
    for engine in engines.chosen {
        if !distinct.contains(&engine) {
            distinct.push(engine);
        }
    }
    engines.chosen = distinct;
    Ok(engines)
}

/// The reason alone, without "backend … cannot run here".
pub fn unavailable(error: &nvfp4_dual_gemm::Error) -> String {
    match error {
        nvfp4_dual_gemm::Error::BackendUnavailable { reason, .. } => reason.clone(),
        error => error.to_string(),
    }
}
