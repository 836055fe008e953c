//! Measures NVFP4 dual GEMMs and whole MLPs: on the CPU over the roofline of this machine, on a GPU by its own clock and in turns with
//! peers.

pub mod clocks;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod device;
#[cfg(feature = "cuda")]
pub mod graph_timer;
pub mod hardware;
#[cfg(feature = "cuda")]
pub mod markdown;
pub mod mlp;
pub mod peers;
pub mod plot;
pub mod report;
pub mod roofline;

use nvfp4_dual_gemm::Glu;
use nvfp4_dual_gemm::synth::Data;

/// What is measured, and how often.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// What the operands look like.
    pub data: Data,
    /// Same seed, same operands.
    pub seed: u64,
    /// The gate.
    pub glu: Glu,
    /// Whether operands may stay in the caches between runs.
    pub warm: bool,
    /// Timed runs; `None`: as many as fit the time of a contender.
    pub repeat: Option<usize>,
}
