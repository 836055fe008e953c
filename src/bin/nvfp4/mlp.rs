//! `nvfp4 mlp`: gate and up projections of a checkpoint's layer on given activations.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use serde::Serialize;

use nvfp4_dual_gemm::backend::Selection;
use nvfp4_dual_gemm::checkpoint::Checkpoint;
use nvfp4_dual_gemm::checkpoint::tensors::{self, TensorFile};
use nvfp4_dual_gemm::{Backend, DType, DualGemm, Element, Gate, bf16, f16};

use crate::args::gate_text;
use crate::check::{Check, Exact, Rows};
use crate::output::{self, Output, Shown, Style};
use crate::progress::Progress;
use crate::{args, engine, machine};

/// Run gate and up projections of an NVFP4 layer of a checkpoint
///
/// y = gate(x·gate_projᵀ, x·up_projᵀ). The input is quantised with the calibrated global scale of the
/// checkpoint, or with that of its own largest value where there is none.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
CHECKPOINT is a safetensors file, an index (model.safetensors.index.json) or a directory, in ModelOpt's
or compressed-tensors' convention. Tensor `x` is F32, F16 or BF16 [M,K] or [..., M,K]; the result is
tensor `y` with N in place of K.

Examples:
  nvfp4 mlp model/ --prefix model.layers.0.mlp --input x.safetensors -o y.safetensors
  nvfp4 mlp model/ --list")]
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
    #[arg(long, conflicts_with_all = ["prefix", "input", "output"])]
    list: bool,
    /// auto, cpu, exact or cuda
    #[arg(long, default_value = "auto")]
    backend: Backend,
    /// Kernel of the cuda backend, by the name or the number that `nvfp4 doctor` shows [default: by the shape]
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    /// silu, gpt-oss, gelu-tanh or clamped:LIMIT,ALPHA,BETA [default: that of config.json, or silu]
    #[arg(long, value_parser = args::gate)]
    gate: Option<Gate>,
    /// Type of y: f16, bf16 or f32
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    out_dtype: DType,
    /// Rows of y to check against the exact oracle: auto (about a second's worth), all, or a number
    #[arg(long, value_name = "ROWS", default_value_t = Rows::Auto)]
    check: Rows,
    /// Threads to use [default: RAYON_NUM_THREADS, or else all CPUs]
    #[arg(long, value_name = "N", value_parser = args::threads)]
    threads: Option<usize>,
}

#[derive(Serialize)]
struct Report {
    checkpoint: Shown,
    prefix: String,
    convention: String,
    /// M, N, K, batch.
    shape: [usize; 4],
    gate: String,
    out_dtype: String,
    alpha_gate: f64,
    alpha_up: f64,
    input_global_scale: f32,
    input_scale_calibrated: bool,
    backend: String,
    isa: Option<String>,
    reason: String,
    threads: usize,
    time_s: f64,
    check: Option<Check>,
    output: Shown,
    output_shape: Vec<usize>,
}

pub fn run(args: &Args, out: &Output) -> anyhow::Result<()> {
    machine::use_threads(args.threads)?;
    if args.list {
        return list(args, out);
    }
    match args.out_dtype {
        DType::F16 => with_type::<f16>(args, out),
        DType::Bf16 => with_type::<bf16>(args, out),
        DType::F32 => with_type::<f32>(args, out),
    }
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
    let (selection, engine) = engine::one(args.backend, args.kernel.as_deref())?;
    machine::ensure_writable(output, &[input.as_path(), &args.checkpoint])?;
    let progress = Progress::spinner(format!("reading {}", args.checkpoint.display()));
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    // The files of a directory or an index are known only now.
    let tensors = checkpoint.names().filter_map(|name| checkpoint.get(name));
    let files: BTreeSet<&Path> = tensors.map(|tensor| tensor.path()).collect();
    machine::ensure_writable(output, &files.into_iter().collect::<Vec<_>>())?;
    let layer = checkpoint.layer(prefix)?;
    let gate = match args.gate {
        Some(gate) => gate,
        None => checkpoint.gate()?.unwrap_or_default(),
    };

    let file = TensorFile::open(input)?;
    let (shape, x) = file.values::<f32>("x")?;
    let k = layer.gate.cols();
    let (&last, leading) = match shape.split_last() {
        Some((last, leading)) if !leading.is_empty() => (last, leading),
        _ => bail!("{}: tensor x is {shape:?}, expected [M, {k}]", input.display()),
    };
    if last != k || x.is_empty() {
        bail!(
            "{}: tensor x is {shape:?}, but {prefix} of {} takes [M, {k}]",
            input.display(),
            args.checkpoint.display()
        );
    }
    progress.message("quantising x");
    let a = layer
        .quantize_input(&x, x.len() / k)
        .with_context(|| format!("{}: tensor x", input.display()))?;
    let gemm = DualGemm::new(&a, layer.gate, layer.up)?.with_gate(gate)?;
    let problem = gemm.problem();
    machine::ensure_fits(&problem, T::DTYPE.size())?;
    progress.message(format!("running on {selection}"));
    let mut y = vec![T::default(); problem.batch * problem.m * problem.n];
    let prepared = engine.prepare(&gemm)?;
    let start = Instant::now();
    prepared.run(&mut y)?;
    let time_s = start.elapsed().as_secs_f64();
    prepared.fetch(&mut y)?;
    progress.message("checking against the oracle");
    let check = match args.check {
        Rows::Some(0) => None,
        rows => Some(Exact::<T>::new(&gemm, rows)?.check(&problem, &y)),
    };
    let pass = check.as_ref().is_none_or(|check| check.pass);
    let mut output_shape = leading.to_vec();
    output_shape.push(problem.n);
    if pass {
        tensors::write_output(output, "y", &output_shape, &y)?;
    }
    drop(progress);

    let Selection { backend, isa, reason } = &selection;
    let report = Report {
        checkpoint: Shown::from(args.checkpoint.as_path()),
        prefix: prefix.clone(),
        convention: layer.convention.to_string(),
        shape: [problem.m, problem.n, problem.k, problem.batch],
        gate: gate_text(&gate),
        out_dtype: args.out_dtype.to_string(),
        alpha_gate: gemm.alpha1(),
        alpha_up: gemm.alpha2(),
        input_global_scale: a.global_scale(),
        input_scale_calibrated: layer.input_global_scale()?.is_some(),
        backend: backend.to_string(),
        isa: isa.map(|isa| isa.to_string()),
        reason: reason.clone(),
        threads: rayon::current_num_threads(),
        time_s,
        check,
        output: Shown::from(output.as_path()),
        output_shape,
    };
    print(out, &report, &selection)?;
    out.json(pass, &report)?;
    report.check.as_ref().map_or(Ok(()), Check::require)
}

fn print(out: &Output, report: &Report, selection: &Selection) -> anyhow::Result<()> {
    let [m, n, k, _] = report.shape;
    out.line(format!(
        "{}  {} ({}), {m}x{n}x{k}, gate {}",
        out.paint(&report.prefix, Style::Bold),
        report.checkpoint,
        report.convention,
        report.gate
    ))?;
    let origin = if report.input_scale_calibrated { "of the checkpoint" } else { "from amax of x" };
    let mut fields = vec![
        ("input scale", format!("{:e} {origin}", report.input_global_scale)),
        ("alphas", format!("gate {:.6e}, up {:.6e}", report.alpha_gate, report.alpha_up)),
        ("backend", format!("{selection}: {}", report.reason)),
        (
            "time",
            format!(
                "{}, one run on {}",
                output::time(report.time_s),
                output::count(report.threads, "thread")
            ),
        ),
    ];
    match &report.check {
        Some(check) => fields.extend([
            ("check", format!("{}, {}", out.verdict(check.pass), check.extent())),
            ("", check.measures()),
        ]),
        None => fields.push(("check", "none".to_owned())),
    }
    if report.check.as_ref().is_none_or(|check| check.pass) {
        fields.push((
            "output",
            format!("{}, y {} {:?}", report.output, report.out_dtype, report.output_shape),
        ));
    }
    out.fields(&fields)
}
