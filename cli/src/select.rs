//! What `--backend`, `--isa` and `--kernel` choose.

use anyhow::bail;

use nvfp4_dual_gemm::Backend;
use nvfp4_dual_gemm::backend::Selection;
use nvfp4_dual_gemm::Isa;
#[cfg(feature = "cuda")]
use nvfp4_dual_gemm::cuda::Kernel;
use nvfp4_harness::engine::Engine;
use nvfp4_harness::notation::IsaArg;

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
