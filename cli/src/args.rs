//! Values of arguments that several commands share.

use anyhow::bail;
use clap::ValueEnum;

use nvfp4_dual_gemm::Problem;
use nvfp4_dual_gemm::synth::{CONTEST_BENCHMARKS, CONTEST_TESTS};

/// More threads than any machine has CPUs.
pub const MAX_THREADS: usize = 4096;

/// A number of threads, at least one.
pub fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=MAX_THREADS) => Ok(n),
        _ => Err(format!("expected a number from 1 to {MAX_THREADS}")),
    }
}

/// Takes the number of threads for all later work; without one, rayon's choice stands
/// (`RAYON_NUM_THREADS`, or else all CPUs).
pub fn use_threads(threads: Option<usize>) -> anyhow::Result<()> {
    const VARIABLE: &str = "RAYON_NUM_THREADS";
    match (threads, std::env::var(VARIABLE)) {
        (Some(threads), _) => {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
        }
        // rayon would start them all, and take minutes to do so. It passes over what is no number.
        (None, Ok(text)) if text.parse().is_ok_and(|n: u64| n > MAX_THREADS as u64) => {
            bail!("environment variable {VARIABLE}={text}: expected at most {}", MAX_THREADS);
        }
        _ => {}
    }
    Ok(())
}

/// A number of timed runs, at least one.
pub fn repeat(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=1_000_000) => Ok(n),
        _ => Err("expected a number from 1 to 1000000".to_owned()),
    }
}

/// Lists of shapes.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub enum Suite {
    /// Odd sizes, batches, edges of tiles: seconds.
    Quick,
    /// The ten test shapes of GPU MODE's nvfp4_dual_gemm contest.
    Contest,
    /// The four benchmark shapes of the same contest.
    Benchmark,
    /// M = 1, 2, 4, 8, 16 with N = 4096, K = 7168.
    Decode,
    /// The four benchmark shapes, and M = 1, 8, 16, 32, 64 with N = 4096, K = 7168.
    Hopper,
}

impl Suite {
    pub fn problems(self) -> Vec<Problem> {
        let problem = |(m, n, k, batch)| Problem { m, n, k, batch };
        match self {
            Suite::Quick => [
                (1, 1, 16, 1),
                (1, 256, 512, 1),
                (3, 19, 48, 2),
                (16, 33, 2048, 1),
                (33, 65, 272, 3),
                (128, 128, 256, 1),
                (129, 257, 1040, 1),
                (256, 512, 256, 1),
            ]
            .map(problem)
            .to_vec(),
            Suite::Contest => CONTEST_TESTS.to_vec(),
            Suite::Benchmark => CONTEST_BENCHMARKS.to_vec(),
            Suite::Decode => [1, 2, 4, 8, 16].map(|m| problem((m, 4096, 7168, 1))).to_vec(),
            Suite::Hopper => {
                let decode = [1, 8, 16, 32, 64].map(|m| problem((m, 4096, 7168, 1)));
                CONTEST_BENCHMARKS.into_iter().chain(decode).collect()
            }
        }
    }
}
