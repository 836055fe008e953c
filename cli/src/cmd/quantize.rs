//! `nvfp4 quantize`: float weights of a checkpoint to NVFP4.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;

use nvfp4_dual_gemm::checkpoint::{Calibration, Convention, QuantizeOptions, quantize_file};
use nvfp4_harness::units;

use crate::files;
use crate::ui::output::{Output, Shown};
use crate::ui::progress::Progress;
use crate::ui::table::{Align, Table, row};

/// Quantize the weights of a safetensors checkpoint to NVFP4
///
/// Gate, up and down projections of text layers are quantized, gate and up of a layer with one global
/// scale; other tensors and files are copied. With samples of the layers' inputs (--calibrate) the result
/// has input scales and is declared NVFP4 (W4A4: 4-bit weights and activations); without, it is declared
/// weight-only (W4A16: activations stay in 16 bits).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
IN is a safetensors file, an index or a directory; OUT is a directory: a new one, an empty one, or an earlier
result, which is replaced whole. Or it is a file ending in .safetensors, which has no configuration: it
says what it is in its metadata, where `nvfp4` looks and engines do not.

A PATTERN matches whole parts of a tensor's name, between its dots; * stands for any characters.
Samples are tensors [..., K] named by module (model.layers.0.mlp.gate_proj) or by what shares the input
(model.layers.0.mlp); .input may follow; x does for a checkpoint with one layer. Down projections have an
input of their own (model.layers.0.mlp.down_proj); without samples of any they are left as they are.

Examples:
  nvfp4 quantize model/ -o model-nvfp4/ --calibrate inputs.safetensors
  nvfp4 quantize model/ -o model-w4a16/ --weight-only
  nvfp4 quantize layer.safetensors -o layer-nvfp4.safetensors --convention compressed-tensors
  nvfp4 quantize model/ -o out/ --include gate_proj,up_proj,down_proj --exclude layers.0")]
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
    /// Safetensors file with samples of the inputs of all layers that are quantized
    #[arg(long, value_name = "FILE")]
    calibrate: Option<PathBuf>,
    /// Quantize weights alone, and declare that activations stay in 16 bits (W4A16_NVFP4, NVFP4A16): what
    /// happens without --calibrate, said outright
    #[arg(long, conflicts_with = "calibrate")]
    weight_only: bool,
    /// Weights to quantize [default: gate_proj.weight,up_proj.weight,gate_up_proj.weight,down_proj.weight,
    /// w1.weight,w3.weight,w2.weight]
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    include: Vec<String>,
    /// Weights to leave alone even so
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    exclude: Vec<String>,
    /// Quantize what --include names also in vision and audio parts, projectors and layers of multi-token
    /// prediction, and embeddings, output heads and routers
    #[arg(long)]
    all_parts: bool,
    /// Give each weight its own global scale; vLLM applies one of the two to gate and up
    #[arg(long)]
    separate_globals: bool,
}

#[derive(Serialize)]
struct Report {
    convention: String,
    /// What the configuration says, or the metadata of a single file.
    scheme: String,
    calibrated: bool,
    files: Vec<Shown>,
    quantized: Vec<Weight>,
    copied: usize,
    left_alone: Vec<Reason>,
    unsuitable: Vec<Reason>,
    companions: Vec<Shown>,
    left_behind: Vec<LeftBehind>,
    notes: Vec<String>,
    bytes_in: u64,
    bytes_out: u64,
}

#[derive(Serialize)]
struct Weight {
    tensor: String,
    shape: [usize; 2],
    global_scale: f32,
    input_global_scale: Option<f32>,
}

#[derive(Serialize)]
struct Reason {
    tensor: String,
    reason: String,
}

#[derive(Serialize)]
struct LeftBehind {
    file: Shown,
    reason: String,
}

pub fn run(args: &Args, out: &Output) -> anyhow::Result<()> {
    let mut options = QuantizeOptions::new(args.convention);
    if !args.include.is_empty() {
        options.include = args.include.clone();
    }
    options.exclude = args.exclude.clone();
    options.all_parts = args.all_parts;
    options.separate_globals = args.separate_globals;
    if let Some(file) = &args.calibrate {
        options = options.with_calibration(Calibration::read(file)?);
    }
    if let Some(samples) = args.calibrate.as_deref().filter(|_| args.output.is_file()) {
        files::ensure_writable(&args.output, &[samples])?;
    }
    let progress = Progress::bytes("reading");
    let done = quantize_file(&args.input, &args.output, &options, &mut |at| {
        progress.at(at.done, at.total, at.tensor);
    })?;
    drop(progress);
    let shown = |file: &PathBuf| Shown::from(file.as_path());
    let reasons = |list: Vec<(String, String)>| {
        list.into_iter().map(|(tensor, reason)| Reason { tensor, reason }).collect()
    };
    let report = Report {
        convention: options.convention.to_string(),
        scheme: done.scheme,
        calibrated: options.calibration.is_some(),
        files: done.files.iter().map(shown).collect(),
        quantized: done
            .quantized
            .into_iter()
            .map(|q| Weight {
                tensor: q.tensor,
                shape: [q.rows, q.cols],
                global_scale: q.global_scale,
                input_global_scale: q.input_global_scale,
            })
            .collect(),
        copied: done.copied,
        left_alone: reasons(done.left_alone),
        unsuitable: reasons(done.unsuitable),
        companions: done.companions.iter().map(shown).collect(),
        left_behind: done
            .left_behind
            .into_iter()
            .map(|(file, reason)| LeftBehind { file: shown(&file), reason })
            .collect(),
        notes: done.notes,
        bytes_in: done.bytes_in,
        bytes_out: done.bytes_out,
    };
    print(out, &report, args.weight_only)?;
    out.json(true, &report)
}

fn print(out: &Output, report: &Report, asked: bool) -> anyhow::Result<()> {
    let mut table = Table::new(&[
        ("tensor", Align::Left),
        ("shape", Align::Left),
        ("global scale", Align::Right),
        ("input scale", Align::Right),
    ]);
    for Weight { tensor, shape: [rows, cols], global_scale, input_global_scale } in
        &report.quantized
    {
        let input = input_global_scale.map_or("none".to_owned(), |scale| format!("{scale:e}"));
        let global = format!("{global_scale:e}");
        table.row(row![tensor, format!("[{rows}, {cols}]"), global, input]);
    }
    table.print(out)?;
    out.line("")?;
    if let Some(first) = report.left_alone.first() {
        out.line(format!(
            "{} left alone although asked for, such as {}: {}",
            units::count(report.left_alone.len(), "tensor"),
            first.tensor,
            first.reason
        ))?;
    }
    for Reason { tensor, reason } in &report.unsuitable {
        out.line(format!("copied although asked for: {tensor} ({reason})"))?;
    }
    out.line(format!(
        "{} quantized ({}), {} copied, {} to {}",
        units::count(report.quantized.len(), "weight"),
        report.convention,
        report.copied,
        units::bytes(report.bytes_in as f64),
        units::bytes(report.bytes_out as f64)
    ))?;
    for LeftBehind { file, reason } in &report.left_behind {
        out.line(format!("not copied: {file} ({reason})"))?;
    }
    for note in &report.notes {
        out.line(format!("note: {note}"))?;
    }
    let scheme = &report.scheme;
    out.line(match report.calibrated {
        true => format!(
            "declared {scheme}: 4-bit weights, and 4-bit activations under the calibrated input scales"
        ),
        false => format!(
            "declared {scheme}: 4-bit weights only; activations stay in 16 bits{}",
            if asked { "" } else { ", as there is no --calibrate" }
        ),
    })?;
    for file in &report.files {
        out.line(format!("wrote {file}"))?;
    }
    Ok(())
}
