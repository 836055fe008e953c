//! `nvfp4 bench`: times next to what the machine could do at best.

mod cpu;
#[cfg(feature = "cuda")]
mod device;
mod mlp;

use std::path::PathBuf;

use anyhow::bail;

use nvfp4_bench::peers::Choice;
use nvfp4_bench::{Settings, plot};
use nvfp4_dual_gemm::{Element, Engine};
use nvfp4_harness::notation::shape_text;
use nvfp4_harness::system;

use crate::args::{self, ComputeArgs, DataArgs, PathArgs, SizeArgs, Suite, with_dtype};
use crate::files;
use crate::ui::output::Output;

/// Measure times and compare them with the roofline of this machine
///
/// The roofline is the larger of packed bytes over DRAM read bandwidth and operations over the peak
/// of the fastest unit of the instruction set, both measured on the spot. Caches are emptied before
/// each run unless --warm is given. Two rows of each result are checked against the exact oracle.
///
/// A GPU is timed by its own clock, over replays of CUDA graphs of many launches, which read one of several copies of
/// the weights in turn: together they are more than four times its L2 cache (--warm: one copy). --peers measures in the
/// same run what else could do the work: cuBLAS on fp16 weights that were dequantized ahead of time (cublas) or are in
/// each call (dequantize), the W4A16 kernels of the Python package humming-kernels (humming), and one kernel in Triton
/// (triton). Those need torch and triton; what is missing is left out, with the reason.
///
/// --mlp measures whole layers, with normally distributed weights and x, x and y in bf16. On a GPU each stage is timed
/// by itself, too; peers are cublas and humming, on the CPU torch. Two rows of each y are compared with the exact oracle.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nvfp4 bench                                   the contest's four benchmark shapes
  nvfp4 bench --backend cpu --suite decode --plot decode.svg
  nvfp4 bench --shape 16x2880x2880 --isa all --threads 1
  nvfp4 bench --backend cuda --suite hopper --peers --markdown hopper.md
  nvfp4 bench --backend cuda --mlp --peers --markdown mlp.md
  nvfp4 bench --backend cpu --mlp 4096x14336x4096 --tokens 1,16 --precision w4a16 --peers")]
#[command(mut_arg("suite", |suite| suite.help("Lists of sizes to go through [default: benchmark, without --shape]")))]
pub struct Args {
    #[command(flatten)]
    sizes: SizeArgs,
    #[command(flatten)]
    paths: PathArgs,
    /// Draw times over roofline into this SVG file; not of a GPU
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Leave operands in the caches between runs
    #[arg(long)]
    warm: bool,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Timed runs of each, after one that does not count [default: as many as fit a second]; on a GPU, replays a round
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = args::repeat)]
    repeat: Option<usize>,
    #[command(flatten)]
    mlp: mlp::MlpArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Of a GPU, and of a whole MLP.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "On a GPU, and with --mlp")]
struct DeviceArgs {
    /// Measure the peers, too, in turns and over the same operands; python3 (or $PYTHON) runs them, by this script
    /// where it is given
    #[arg(long, value_name = "SCRIPT", num_args = 0..=1)]
    peers: Option<Option<PathBuf>>,
    /// Only these peers: cublas, humming, dequantize, triton, or those of the script; of a whole MLP on the CPU
    /// torch-prepacked, torch-bf16, torch-f32
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "peers")]
    peer: Vec<String>,
    /// Rounds of times, in turns with the peers [default: 3 with --peers, else 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = args::repeat)]
    rounds: Option<usize>,
    /// Let a launch begin under the end of the one before (programmatic dependent launch)
    #[arg(long)]
    programmatic: bool,
    /// Write what was measured into this file
    #[arg(long, value_name = "FILE.md")]
    markdown: Option<PathBuf>,
}

impl DeviceArgs {
    fn choice(&self) -> Option<Choice> {
        let choice =
            |script: &Option<PathBuf>| Choice { script: script.clone(), names: self.peer.clone() };
        self.peers.as_ref().map(choice)
    }
}

/// As it was typed.
fn command_line() -> String {
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let words: Vec<String> = std::iter::once("nvfp4".to_owned()).chain(words).collect();
    words.join(" ")
}

impl Args {
    fn settings(&self) -> Settings {
        let DataArgs { data, seed } = self.data;
        let (glu, warm, repeat) = (self.compute.glu(), self.warm, self.repeat);
        Settings { data, seed, glu, warm, repeat }
    }
}

pub fn run(args: &Args, out: &Output) -> anyhow::Result<()> {
    if let Some(file) = &args.plot {
        plot::check_name(file)?;
        files::ensure_writable(file, &[])?;
    }
    args.compute.use_threads()?;
    if let Some(shapes) = &args.mlp.mlp {
        if let Some(file) = &args.device.markdown {
            files::ensure_writable(file, &[])?;
        }
        return mlp::run(args, shapes, &engines(args)?, out);
    }
    with_dtype!(args.compute.out_dtype, T => with_type::<T>(args, out))
}

/// What is asked for, if times of it mean something.
fn engines(args: &Args) -> anyhow::Result<Vec<Engine>> {
    let engines = args.paths.engines()?.chosen;
    engines.iter().try_for_each(nvfp4_harness::prepared::require_a_clock)?;
    Ok(engines)
}

fn with_type<T: Element>(args: &Args, out: &Output) -> anyhow::Result<()> {
    let engines = engines(args)?;
    let problems = args.sizes.problems(Suite::Benchmark);
    for problem in &problems {
        if problem.m == 0 {
            bail!("{}: M = 0 leaves nothing to measure", shape_text(problem));
        }
        system::ensure_fits(problem, T::DTYPE.size())?;
    }
    #[cfg(feature = "cuda")]
    if let [engine] = &engines[..]
        && let Some(device) = engine.device()
    {
        return device::run::<T>(args, device, engine.kernel(), &problems, out);
    }
    let DeviceArgs { peers, rounds, programmatic, markdown, .. } = &args.device;
    let of_a_device = [
        ("--peers", peers.is_some()),
        ("--rounds", rounds.is_some()),
        ("--programmatic", *programmatic),
        ("--markdown", markdown.is_some()),
    ];
    if let Some((option, _)) = of_a_device.iter().find(|(_, given)| *given) {
        bail!("{option} is for the cuda backend, not for {}", engines[0]);
    }
    cpu::run::<T>(args, &engines, &problems, out)
}
