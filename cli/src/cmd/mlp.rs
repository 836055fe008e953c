//! `nvfp4 mlp`: gate and up projections of a checkpoint's layer on given activations.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use serde::Serialize;

use nvfp4_dual_gemm::checkpoint::tensors::{self, TensorFile};
use nvfp4_dual_gemm::checkpoint::{Checkpoint, LayerOptions};
use nvfp4_dual_gemm::format::Saturation;
use nvfp4_dual_gemm::{Activations, DType, Element, Engine, Error, InputScale, Spec};
use nvfp4_harness::check::{self, Check};
use nvfp4_harness::notation::glu_text;
use nvfp4_harness::{system, units};

use crate::args::{BackendArgs, CheckArgs, ComputeArgs, with_dtype};
use crate::ui::output::{Output, Shown, Style};
use crate::ui::progress::Progress;
use crate::warnings::{self, Clipped};
use crate::{checked, files};

/// Run gate and up projections of an NVFP4 layer of a checkpoint
///
/// y = glu(x·gate_projᵀ, x·up_projᵀ). The input is quantized with the calibrated global scale of the
/// checkpoint, or with that of its own largest value where there is none: --input-scale chooses.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
CHECKPOINT is a safetensors file, an index (model.safetensors.index.json) or a directory, in ModelOpt's
or compressed-tensors' convention. Tensor `x` is F32, F16 or BF16 [M,K] or [..., M,K]; the result is
tensor `y` with N in place of K.

Examples:
  nvfp4 mlp model/ --prefix model.layers.0.mlp --input x.safetensors -o y.safetensors
  nvfp4 mlp model/ --prefix model.layers.0.mlp --input x.safetensors -o y.safetensors --input-scale dynamic
  nvfp4 mlp model/ --list")]
#[command(mut_arg("glu", |glu| {
    glu.help("swiglu, gpt-oss, geglu-tanh or clamped:LIMIT,SLOPE,OFFSET [default: that of config.json, or swiglu]")
}))]
#[command(mut_arg("out_dtype", |dtype| dtype.help("Type of y: f16, bf16 or f32")))]
#[command(mut_arg("check", |check| {
    check.help("Rows of y to check against the exact oracle: auto (about a second's worth), all, or a number")
}))]
pub struct Args {
    /// Safetensors file, index or directory
    checkpoint: PathBuf,
    /// Module that holds gate_proj and up_proj, such as model.layers.0.mlp
    #[arg(long, value_name = "NAME", required_unless_present = "list")]
    prefix: Option<String>,
    /// Safetensors file with the activations, tensor `x`
    #[arg(long, value_name = "FILE", required_unless_present = "list")]
    input: Option<PathBuf>,
    /// Safetensors file to write, tensor `y`
    #[arg(short, long, value_name = "FILE", required_unless_present = "list")]
    output: Option<PathBuf>,
    /// List the prefixes of the checkpoint, and do nothing else
    #[arg(long, conflicts_with_all = [
        "prefix", "input", "output", "backend", "kernel", "glu", "input_scale", "ignore_key", "out_dtype", "check",
        "threads",
    ])]
    list: bool,
    #[command(flatten)]
    backend: BackendArgs,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Global scale of x: calibrated (that of the checkpoint, if it has one), dynamic (amax(x)/2688), per-row
    /// (amax(row)/2688), or a number, with which values up to 2688 times it can be represented
    #[arg(long, value_name = "SCALE", allow_hyphen_values = true, default_value_t = InputScale::Calibrated)]
    input_scale: InputScale,
    /// Key of config.json to read the layer without, although it may change the arithmetic; can be repeated
    #[arg(long, value_name = "KEY")]
    ignore_key: Vec<String>,
    #[command(flatten)]
    check: CheckArgs,
}

#[derive(Serialize)]
struct Report {
    checkpoint: Shown,
    /// Those that were opened.
    files: Vec<Shown>,
    /// `None`: there is none, and nothing but tensors and options rules the arithmetic.
    config: Option<Shown>,
    prefix: String,
    convention: String,
    /// M, N, K, batch.
    shape: [usize; 4],
    glu: String,
    out_dtype: String,
    alpha_gate: f64,
    alpha_up: f64,
    /// `None`: each row has its own.
    input_global_scale: Option<f32>,
    /// calibrated, dynamic or given: where it comes from.
    input_scale: &'static str,
    input_scale_calibrated: bool,
    backend: String,
    isa: Option<String>,
    reason: String,
    threads: usize,
    time_s: f64,
    /// `None`: not asked for, or the oracle's own y.
    check: Option<Check>,
    /// Values of y that are infinite or NaN.
    non_finite: usize,
    /// What the input scale clips of x.
    saturation: Clipped,
    /// `None`: a wrong y was not written.
    output: Option<Shown>,
    output_shape: Vec<usize>,
}

pub fn run(args: &Args, out: &Output) -> anyhow::Result<()> {
    if args.list {
        return list(args, out);
    }
    args.compute.use_threads()?;
    with_dtype!(args.compute.out_dtype, T => with_type::<T>(args, out))
}

fn list(args: &Args, out: &Output) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Listing {
        checkpoint: Shown,
        layers: Vec<String>,
    }
    let layers = Checkpoint::open(&args.checkpoint)?.layers();
    if layers.is_empty() {
        bail!("{}: no gate and up projections in this checkpoint", args.checkpoint.display());
    }
    for layer in &layers {
        out.line(layer)?;
    }
    out.json(true, Listing { checkpoint: Shown::from(args.checkpoint.as_path()), layers })
}

fn with_type<T: Element>(args: &Args, out: &Output) -> anyhow::Result<()> {
    // clap asks for all three unless --list is given.
    let prefix = args.prefix.as_ref().context("--prefix is missing")?;
    let input = args.input.as_ref().context("--input is missing")?;
    let output = args.output.as_ref().context("--output is missing")?;
    let engine = args.backend.one()?;
    files::ensure_writable(output, &[input.as_path(), &args.checkpoint])?;
    let progress = Progress::spinner(format!("reading {}", args.checkpoint.display()));
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    // The files of a directory or an index are known only now.
    files::ensure_outside(output, &checkpoint)?;
    let mut options =
        args.compute.glu.iter().fold(LayerOptions::new().gate_up_only(), |o, &glu| o.glu(glu));
    options = args.ignore_key.iter().fold(options, |options, key| options.ignore(key));
    let layer = checkpoint.layer_with(prefix, &options)?;

    let file = TensorFile::open(input)?;
    let (shape, x) = file.values::<f32>("x")?;
    let k = layer.gate_proj.cols();
    let (&last, leading) = match shape.split_last() {
        Some((last, leading)) if !leading.is_empty() => (last, leading),
        _ => bail!("{}: tensor x is {shape:?}, expected [M, {k}]", input.display()),
    };
    if last != k {
        bail!(
            "{}: tensor x is {shape:?}, but {prefix} of {} takes [M, {k}]",
            input.display(),
            args.checkpoint.display()
        );
    }
    progress.message("quantizing x");
    let a =
        layer.quantize_input_with(&x, x.len() / k, args.input_scale).map_err(
            |error| match error {
                // That names the checkpoint's tensor; x has no part in it.
                error @ Error::Checkpoint(_) => error.into(),
                error => {
                    anyhow::Error::from(error).context(format!("{}: tensor x", input.display()))
                }
            },
        )?;
    let weights = layer.weights()?;
    let gemm = weights.gemm(&a)?;
    let problem = gemm.shape();
    system::ensure_fits(&problem, T::DTYPE.size())?;
    progress.message(format!("running on {engine}"));
    let mut y = vec![T::default(); problem.m * problem.n];
    let ready = engine.load(&layer, &Spec::default().input_scale(args.input_scale))?;
    let start = Instant::now();
    ready.run(&x, problem.m, &mut y)?;
    let time_s = start.elapsed().as_secs_f64();
    progress.message("checking against the oracle");
    let check = check::check(&gemm, engine.backend(), args.check.check, &y)?;
    let mut output_shape = leading.to_vec();
    output_shape.push(problem.n);
    let output = checked::keep(check.as_ref(), Some(output), |path| {
        tensors::write_output(path, "y", &output_shape, &y)
    })?;
    drop(progress);

    let input_scale = match args.input_scale {
        InputScale::Calibrated if layer.input_global_scale()?.is_some() => "calibrated",
        InputScale::Calibrated | InputScale::Dynamic => "dynamic",
        InputScale::PerRow => "per row",
        _ => "given",
    };
    let config = files::checkpoint_directory(&args.checkpoint).join("config.json");
    let report = Report {
        checkpoint: Shown::from(args.checkpoint.as_path()),
        files: checkpoint.files().map(Shown::from).collect(),
        config: config.is_file().then(|| Shown::from(config.as_path())),
        prefix: prefix.clone(),
        convention: layer.convention.to_string(),
        shape: [problem.m, problem.n, problem.k, problem.batch],
        glu: glu_text(&layer.glu),
        out_dtype: args.compute.out_dtype.to_string(),
        alpha_gate: gemm.alpha1(),
        alpha_up: gemm.alpha2(),
        input_global_scale: a.row_scales().is_none().then(|| a.matrix().global_scale()),
        input_scale,
        input_scale_calibrated: input_scale == "calibrated",
        backend: engine.backend().to_string(),
        isa: engine.isa().map(|isa| isa.to_string()),
        reason: engine.reason().to_owned(),
        threads: rayon::current_num_threads(),
        time_s,
        check,
        non_finite: warnings::non_finite(&y),
        saturation: saturation(&x, &a, k).into(),
        output,
        output_shape,
    };
    let assumed = args.compute.glu.is_none() && report.config.is_none();
    print(out, &report, &engine, args.compute.out_dtype, assumed)?;
    out.json(report.check.as_ref().is_none_or(|check| check.pass), &report)?;
    report.check.as_ref().map_or(Ok(()), Check::require)
}

/// Of all of x, or of its rows, each with its own scale.
fn saturation(x: &[f32], a: &Activations, k: usize) -> Saturation {
    let Some(scales) = a.row_scales() else {
        return Saturation::of(x, a.matrix().global_scale());
    };
    let of_row = |(row, &scale): (&[f32], &f32)| Saturation::of(row, scale);
    let rows = x.chunks_exact(k).zip(scales).map(of_row);
    rows.fold(Saturation::of::<f32>(&[], 0.0), |all, row| all.and(&row))
}

fn print(
    out: &Output,
    report: &Report,
    engine: &Engine,
    dtype: DType,
    assumed: bool,
) -> anyhow::Result<()> {
    let [m, n, k, _] = report.shape;
    let why = if assumed { " (no config.json found)" } else { "" };
    out.line(format!(
        "{}  {} ({}), {m}x{n}x{k}, glu {}{why}",
        Style::Bold.paint(&report.prefix),
        report.checkpoint,
        report.convention,
        report.glu
    ))?;
    let origin = match report.input_scale {
        "calibrated" => "of the checkpoint",
        "dynamic" => "from amax of x",
        "per row" => "from amax of each row of x",
        _ => "as given",
    };
    let scale = match report.input_global_scale {
        Some(scale) => format!("{scale:e} {origin}"),
        None => origin.to_owned(),
    };
    let mut fields = vec![
        ("input scale", scale),
        ("alphas", format!("gate {:.6e}, up {:.6e}", report.alpha_gate, report.alpha_up)),
        ("backend", format!("{engine}: {}", report.reason)),
        (
            "time",
            format!(
                "{}, one run on {}",
                units::time(report.time_s),
                units::count(report.threads, "thread")
            ),
        ),
    ];
    fields.extend(checked::fields(report.check.as_ref(), engine.backend()));
    if let Some(output) = &report.output {
        fields.push((
            "output",
            format!("{output}, y {} {:?}", report.out_dtype, report.output_shape),
        ));
    }
    let clipped = report.saturation.sentences();
    let non_finite = warnings::of_non_finite(report.non_finite, m * n, "y", dtype);
    fields.extend(clipped.chain(non_finite).map(|warning| ("warning", warning)));
    out.fields(&fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::error::ErrorKind;
    use clap::{CommandFactory, Parser};

    #[derive(Debug, Parser)]
    struct Mlp {
        #[command(flatten)]
        _args: Args,
    }

    #[test]
    fn a_list_takes_no_other_option() {
        let command = Mlp::command();
        let others = command
            .get_arguments()
            .filter(|arg| !["checkpoint", "list", "help"].contains(&arg.get_id().as_str()));
        let mut tried = 0;
        for arg in others {
            let option = format!("--{}", arg.get_long().unwrap());
            let value = match arg.get_id().as_str() {
                "backend" => "cpu",
                "glu" => "swiglu",
                "out_dtype" => "f32",
                "input_scale" => "dynamic",
                "check" | "threads" => "1",
                _ => "x",
            };
            let error = Mlp::try_parse_from(["mlp", "model", "--list", &option, value]);
            assert_eq!(error.unwrap_err().kind(), ErrorKind::ArgumentConflict, "{option}");
            tried += 1;
        }
        assert!(tried >= 11, "{tried}");
    }
}
