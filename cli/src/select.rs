//! What `--backend`, `--isa` and `--kernel` choose.

#[cfg(feature = "cuda")]
use anyhow::anyhow;
use anyhow::bail;

#[cfg(feature = "cuda")]
use nvfp4_dual_gemm::cuda::Kernel;
use nvfp4_dual_gemm::{Backend, Engine, Isa};
use nvfp4_harness::notation::IsaArg;

/// Code paths to go through, and those that were left out, each with a reason.
#[derive(Debug)]
pub struct Engines {
    pub chosen: Vec<Engine>,
    pub left_out: Vec<(Isa, String)>,
}

/// What `--backend` and `--kernel` ask for.
pub fn one(backend: Backend, kernel: Option<&str>) -> anyhow::Result<Engine> {
    let Some(name) = kernel else { return Ok(Engine::of(backend)?) };
    if !matches!(backend, Backend::Auto | Backend::Cuda) {
        bail!("--kernel picks a kernel of the cuda backend, but --backend is {backend}");
    }
    #[cfg(feature = "cuda")]
    {
        // A name that means nothing is an error also where there is no device.
        let kernel = name.parse::<Kernel>().map_err(|error| anyhow!("--kernel: {error}"))?;
        Ok(Engine::of(Backend::Cuda)?.with_kernel(kernel)?)
    }
    #[cfg(not(feature = "cuda"))]
    {
        let _ = name;
        Ok(Engine::of(Backend::Cuda)?)
    }
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
        engines.chosen.push(one(backend, kernel)?);
        return Ok(engines);
    }
    for arg in isas {
        match *arg {
            IsaArg::One(isa) => {
                engines.chosen.push(Engine::cpu_with(isa)?);
            }
            IsaArg::All => {
                for isa in Isa::ALL {
                    match Engine::cpu_with(isa) {
                        Ok(engine) => engines.chosen.push(engine),
                        Err(error) => engines.left_out.push((isa, unavailable(&error))),
                    }
                }
            }
        }
    }
    let mut known = Vec::new();
    engines.chosen.retain(|engine| {
        let new = !known.contains(&engine.isa());
        known.push(engine.isa());
        new
    });
    Ok(engines)
}

/// The reason alone, without "backend … cannot run here".
pub fn unavailable(error: &nvfp4_dual_gemm::Error) -> String {
    match error {
        nvfp4_dual_gemm::Error::BackendUnavailable { reason, .. } => reason.clone(),
        error => error.to_string(),
    }
}
