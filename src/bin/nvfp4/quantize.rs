//! `nvfp4 quantize`: float weights of a checkpoint to NVFP4.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;

use nvfp4_dual_gemm::checkpoint::{Convention, QuantizeOptions, quantize_file};

use crate::output::{self, Align, Output, Shown, Table};
use crate::progress::Progress;

/// Quantise the weights of a safetensors checkpoint to NVFP4
///
/// Weights whose names end in one of the suffixes are quantised, each with its own global scale; other
/// tensors are copied.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
IN is a safetensors file, an index or a directory; OUT is a file ending in .safetensors, or a directory.

Examples:
  nvfp4 quantize model/ -o model-nvfp4/
  nvfp4 quantize layer.safetensors -o layer-nvfp4.safetensors --convention compressed-tensors
  nvfp4 quantize model/ -o out/ --include gate_proj.weight,up_proj.weight,down_proj.weight")]
pub struct Args {
    /// Checkpoint with F32, F16 or BF16 weights
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// File or directory to write
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Names and scales of the result: modelopt (global scales are multipliers) or
    /// compressed-tensors (divisors; llm-compressor and vLLM)
    #[arg(long, value_name = "NAME", default_value = "modelopt")]
    convention: Convention,
    /// Ends of the names of the weights to quantise [default: gate_proj.weight,up_proj.weight]
    #[arg(long, value_name = "SUFFIX", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    include: Vec<String>,
}

#[derive(Serialize)]
struct Report {
    convention: String,
    files: Vec<Shown>,
    quantized: Vec<Weight>,
    copied: usize,
    unsuitable: Vec<Unsuitable>,
    bytes_in: u64,
    bytes_out: u64,
}

#[derive(Serialize)]
struct Weight {
    tensor: String,
    shape: [usize; 2],
    global_scale: f32,
}

#[derive(Serialize)]
struct Unsuitable {
    tensor: String,
    reason: String,
}

pub fn run(args: &Args, out: &Output) -> anyhow::Result<()> {
    let mut options = QuantizeOptions { convention: args.convention, ..Default::default() };
    if !args.include.is_empty() {
        // "*gate_proj.weight" means the same suffix.
        let suffix = |text: &String| text.trim_start_matches('*').to_owned();
        options.suffixes = args.include.iter().map(suffix).collect();
    }
    let progress = Progress::bytes("reading");
    let done = quantize_file(&args.input, &args.output, &options, &mut |at| {
        progress.at(at.done, at.total, at.tensor);
    })?;
    drop(progress);
    let report = Report {
        convention: options.convention.to_string(),
        files: done.files.iter().map(|file| Shown::from(file.as_path())).collect(),
        quantized: done
            .quantized
            .into_iter()
            .map(|q| Weight {
                tensor: q.tensor,
                shape: [q.rows, q.cols],
                global_scale: q.global_scale,
            })
            .collect(),
        copied: done.copied,
        unsuitable: done
            .unsuitable
            .into_iter()
            .map(|(tensor, reason)| Unsuitable { tensor, reason })
            .collect(),
        bytes_in: done.bytes_in,
        bytes_out: done.bytes_out,
    };
    print(out, &report)?;
    out.json(true, &report)
}

fn print(out: &Output, report: &Report) -> anyhow::Result<()> {
    let shape = |w: &Weight| format!("[{}, {}]", w.shape[0], w.shape[1]);
    let width = |of: &dyn Fn(&Weight) -> usize| report.quantized.iter().map(of).max().unwrap_or(0);
    let columns = [
        ("tensor", width(&|w| w.tensor.chars().count()), Align::Left),
        ("shape", width(&|w| shape(w).len()), Align::Left),
        ("global scale", 14, Align::Right),
    ];
    let table = Table::start(out, &columns)?;
    for weight in &report.quantized {
        let scale = format!("{:e}", weight.global_scale);
        table.row(out, &[weight.tensor.clone(), shape(weight), scale])?;
    }
    out.line("")?;
    for Unsuitable { tensor, reason } in &report.unsuitable {
        out.line(format!("copied although asked for: {tensor} ({reason})"))?;
    }
    out.line(format!(
        "{} quantised ({}), {} copied, {} to {}",
        output::count(report.quantized.len(), "weight"),
        report.convention,
        report.copied,
        output::bytes(report.bytes_in as f64),
        output::bytes(report.bytes_out as f64)
    ))?;
    for file in &report.files {
        out.line(format!("wrote {file}"))?;
    }
    Ok(())
}
