//! `nvfp4 generate`: made-up operands in a file.

use std::path::PathBuf;

use serde::Serialize;

use nvfp4_dual_gemm::GemmShape;
use nvfp4_dual_gemm::checkpoint::tensors;
use nvfp4_dual_gemm::synth::Operands;
use nvfp4_harness::notation::{self, shape_text};
use nvfp4_harness::{system, units};

use crate::args::DataArgs;
use crate::files;
use crate::ui::output::{Output, Shown, Style};
use crate::ui::progress::Progress;

/// Write made-up operands to a safetensors file that `run --input` takes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nvfp4 generate --shape 256x4096x7168 -o operands.safetensors
  nvfp4 run --input operands.safetensors -o c.safetensors")]
pub struct Args {
    /// Size of the problem
    #[arg(long, value_name = "MxNxK[xL]", value_parser = notation::shape)]
    shape: GemmShape,
    #[command(flatten)]
    data: DataArgs,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Serialize)]
struct Report {
    shape: [usize; 4],
    data: String,
    seed: u64,
    output: Shown,
    file_bytes: u64,
}

pub fn run(args: &Args, out: &Output) -> anyhow::Result<()> {
    let problem = args.shape;
    let DataArgs { data, seed } = args.data;
    system::ensure_fits(&problem, 0)?;
    files::ensure_writable(&args.output, &[])?;
    let progress = Progress::spinner("making operands");
    let operands = Operands::generate(problem, data, seed)?;
    progress.message(format!("writing {}", args.output.display()));
    tensors::write_matrices(&args.output, &operands.named())?;
    drop(progress);
    let file_bytes = files::file_size(&args.output)?;
    out.line(format!(
        "{}: a, b1 and b2 of {}, {} data, seed {}, {}",
        Style::Bold.paint(&args.output.display().to_string()),
        shape_text(&problem),
        data,
        seed,
        units::bytes(file_bytes as f64)
    ))?;
    out.json(
        true,
        Report {
            shape: [problem.m, problem.n, problem.k, problem.batch],
            data: data.to_string(),
            seed,
            output: Shown::from(args.output.as_path()),
            file_bytes,
        },
    )
}
