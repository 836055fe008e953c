//! The code paths that `verify` and `bench` go through.

use std::fmt;

use anyhow::bail;

use nvfp4_dual_gemm::backend::cpu::{self, Isa};
use nvfp4_dual_gemm::{Backend, DualGemm, Element};

use crate::args::IsaArg;

/// A backend, and the instruction set where it has several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Engine {
    Cpu(Isa),
    Other(Backend),
}

impl Engine {
    pub fn run<T: Element>(self, gemm: &DualGemm<'_>, c: &mut [T]) -> nvfp4_dual_gemm::Result<()> {
        match self {
            Engine::Cpu(isa) => cpu::run(gemm, isa, c),
            Engine::Other(backend) => gemm.run_into(backend, c),
        }
    }

    /// The instruction set, if it runs on the CPU's.
    pub fn isa(self) -> Option<Isa> {
        match self {
            Engine::Cpu(isa) => Some(isa),
            Engine::Other(_) => None,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Engine::Cpu(isa) => write!(f, "cpu ({isa})"),
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

/// What `--backend` and `--isa` ask for; without `--isa` the one that the backend would use itself.
pub fn choose(backend: Backend, isas: &[IsaArg]) -> anyhow::Result<Engines> {
    let mut engines = Engines { chosen: Vec::new(), left_out: Vec::new() };
    if !matches!(backend, Backend::Auto | Backend::Cpu) && !isas.is_empty() {
        bail!("--isa picks a path of the cpu backend, but --backend is {backend}");
    }
    if isas.is_empty() {
        let selection = backend.resolve()?;
        let engine = selection.isa.map_or(Engine::Other(selection.backend), Engine::Cpu);
        engines.chosen.push(engine);
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
