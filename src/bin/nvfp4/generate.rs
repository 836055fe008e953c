//! `nvfp4 generate`: made-up operands in a file.

use std::path::PathBuf;

use nvfp4_dual_gemm::Problem;
use nvfp4_dual_gemm::synth::{CONTEST_SEED, Data};

use crate::args;
use crate::output::Output;

/// Write made-up operands to a safetensors file that `run --input` takes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nvfp4 generate --shape 256x4096x7168 -o operands.safetensors
  nvfp4 run --input operands.safetensors -o c.safetensors")]
pub struct Args {
    /// Size of the problem
    #[arg(long, value_name = "MxNxK[xL]", value_parser = args::shape)]
    shape: Problem,
    /// contest: codes ±{0, .5, 1, 1.5}, scales in [0, 1); full: all codes and scale bytes
    #[arg(long, default_value = "contest")]
    data: Data,
    /// Same seed, same bytes, on every machine
    #[arg(long, default_value_t = CONTEST_SEED)]
    seed: u64,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

pub fn run(_args: &Args, _out: &Output) -> anyhow::Result<()> {
    anyhow::bail!("not built in")
}
