//! `nvfp4 bench`: times next to what the machine could do at best.

mod cpu;
#[cfg(feature = "cuda")]
mod device;

use std::path::PathBuf;

use anyhow::bail;

use nvfp4_bench::{Settings, plot};
use nvfp4_dual_gemm::synth::{CONTEST_SEED, Data};
use nvfp4_dual_gemm::{Backend, DType, Element, Gate, Problem, bf16, f16};
#[cfg(feature = "cuda")]
use nvfp4_harness::engine::Engine;
use nvfp4_harness::notation::{self, IsaArg, shape_text};
use nvfp4_harness::system;

use crate::args::{self, Suite};
use crate::ui::output::Output;
use crate::{files, select};

/// Measure times and compare them with the roofline of this machine
///
/// The roofline is the larger of packed bytes over DRAM read bandwidth and operations over the peak
/// of the fastest unit of the instruction set, both measured on the spot. Caches are emptied before
/// each run unless --warm is given. Two rows of each result are checked against the exact oracle.
///
/// A GPU is timed by its own clock, over replays of CUDA graphs of many launches, which read one of several copies of
/// the weights in turn: together they are more than four times its L2 cache (--warm: one copy). --peers measures
/// cuBLAS, Humming and Triton in the same run.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nvfp4 bench                                   the contest's four benchmark shapes
  nvfp4 bench --backend cpu --suite decode --plot decode.svg
  nvfp4 bench --shape 16x2880x2880 --isa all --threads 1
  nvfp4 bench --backend cuda --suite hopper --peers --markdown hopper.md")]
pub struct Args {
    /// Size to measure; may be given several times
    #[arg(long, value_name = "MxNxK[xL]", value_parser = notation::shape)]
    pub shape: Vec<Problem>,
    /// Lists of sizes to measure [default: benchmark, without --shape]
    #[arg(long, value_delimiter = ',')]
    pub suite: Vec<Suite>,
    /// auto, cpu, exact or cuda
    #[arg(long, default_value = "auto")]
    pub backend: Backend,
    /// Kernel of the cuda backend, by the name or the number that `nvfp4 doctor` shows [default: by the shape]
    #[arg(long, value_name = "NAME")]
    pub kernel: Option<String>,
    /// Instruction sets of the cpu backend: amx, avx512, avx2, portable, all [default: the fastest]
    #[arg(long, value_delimiter = ',', value_parser = notation::isa)]
    pub isa: Vec<IsaArg>,
    /// Draw times over roofline into this SVG file; not of a GPU
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// Measure the peers of this script, too, in turns and over the same operands; python3 (or $PYTHON) runs it
    #[arg(long, value_name = "SCRIPT", num_args = 0..=1, default_missing_value = "bench/peers/gpu.py")]
    pub peers: Option<PathBuf>,
    /// Only these peers of the script: cublas, humming, dequantise, triton
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "peers")]
    pub peer: Vec<String>,
    /// Rounds of a GPU's times, in turns with the peers [default: 3 with --peers, else 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = args::repeat)]
    pub rounds: Option<usize>,
    /// Let a launch on a GPU begin under the end of the one before (programmatic dependent launch)
    #[arg(long)]
    pub programmatic: bool,
    /// Write what was measured on a GPU into this file
    #[arg(long, value_name = "FILE.md")]
    pub markdown: Option<PathBuf>,
    /// Leave operands in the caches between runs
    #[arg(long)]
    pub warm: bool,
    /// contest: codes ±{0, .5, 1, 1.5}, scales in [0, 1); full: all codes and scale bytes
    #[arg(long, value_name = "KIND", default_value = "contest")]
    pub data: Data,
    /// Same seed, same operands, on every machine
    #[arg(long, allow_negative_numbers = true, default_value_t = CONTEST_SEED)]
    pub seed: u64,
    /// silu, gpt-oss, gelu-tanh or clamped:LIMIT,ALPHA,BETA
    #[arg(long, default_value = "silu", value_parser = notation::gate)]
    pub gate: Gate,
    /// Type of C: f16, bf16 or f32
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    pub out_dtype: DType,
    /// Timed runs of each, after one that does not count [default: as many as fit a second]; on a GPU, replays a round
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = args::repeat)]
    pub repeat: Option<usize>,
    /// Threads to use [default: RAYON_NUM_THREADS, or else all CPUs]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = args::threads)]
    pub threads: Option<usize>,
}

impl Args {
    fn settings(&self) -> Settings {
        Settings {
            data: self.data,
            seed: self.seed,
            gate: self.gate,
            warm: self.warm,
            repeat: self.repeat,
        }
    }
}

pub fn run(args: &Args, out: &Output) -> anyhow::Result<()> {
    if let Some(file) = &args.plot {
        plot::check_name(file)?;
        files::ensure_writable(file, &[])?;
    }
    args::use_threads(args.threads)?;
    match args.out_dtype {
        DType::F16 => with_type::<f16>(args, out),
        DType::Bf16 => with_type::<bf16>(args, out),
        DType::F32 => with_type::<f32>(args, out),
    }
}

fn with_type<T: Element>(args: &Args, out: &Output) -> anyhow::Result<()> {
    let engines = select::choose(args.backend, &args.isa, args.kernel.as_deref())?;
    for engine in &engines.chosen {
        engine.require_a_clock()?;
    }
    let mut problems = args.shape.clone();
    problems.extend(args.suite.iter().flat_map(|suite| suite.problems()));
    if problems.is_empty() {
        problems = Suite::Benchmark.problems();
    }
    for problem in &problems {
        if problem.m == 0 {
            bail!("{}: M = 0 leaves nothing to measure", shape_text(problem));
        }
        system::ensure_fits(problem, T::DTYPE.size())?;
    }
    #[cfg(feature = "cuda")]
    if let [Engine::Cuda(kernel)] = engines.chosen[..] {
        return device::run::<T>(args, kernel, &problems, out);
    }
    let of_a_device = [
        ("--peers", args.peers.is_some()),
        ("--rounds", args.rounds.is_some()),
        ("--programmatic", args.programmatic),
        ("--markdown", args.markdown.is_some()),
    ];
    if let Some((option, _)) = of_a_device.iter().find(|(_, given)| *given) {
        bail!("{option} is for the cuda backend, not for {}", engines.chosen[0]);
    }

    cpu::run::<T>(args, &engines.chosen, &problems, out)
}
