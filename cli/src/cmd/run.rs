//! `nvfp4 run`: the main job, on made-up operands or on a file's.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use nvfp4_dual_gemm::checkpoint::tensors::{self, TensorFile};
use nvfp4_dual_gemm::synth::Operands;
use nvfp4_dual_gemm::{Backend, DType, DualGemm, Element, Engine, GemmShape, Operand};
use nvfp4_harness::check::{self, Check};
use nvfp4_harness::notation::{self, glu_text, shape_text};
use nvfp4_harness::prepared::Prepared;
use nvfp4_harness::timer::{Repeat, Timing, measure};
use nvfp4_harness::{system, units};

use crate::args::{self, BackendArgs, CheckArgs, ComputeArgs, DataArgs, with_dtype};
use crate::ui::output::{Output, Shown, Style};
use crate::ui::progress::Progress;
use crate::{checked, files, warnings};

/// Compute C on made-up operands or on those of a file, time it and check it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Operands of a file: `a.codes` U8 [(L,)M,K/2], `a.scales` F8_E4M3 [(L,)M,K/16], `a.global` F32 (1 when
absent), the same for b1 (gate) and b2 (up); or `a` as F32, F16 or BF16 [(L,)M,K], quantized on the
fly. The result is tensor `c` [(L,)M,N].

Examples:
  nvfp4 run --shape 256x4096x7168
  nvfp4 run --shape 16x2880x2880 --glu gpt-oss --data full --check all
  nvfp4 run --input operands.safetensors -o c.safetensors --out-dtype bf16")]
#[command(group = clap::ArgGroup::new("source").required(true).args(["shape", "input"]))]
pub struct Args {
    /// Make operands for a problem of this size
    #[arg(long, value_name = "MxNxK[xL]", value_parser = notation::shape)]
    shape: Option<GemmShape>,
    #[command(flatten)]
    data: DataArgs,
    /// Take the operands of this safetensors file
    #[arg(long, value_name = "FILE", requires = "output", conflicts_with_all = ["data", "seed"])]
    input: Option<PathBuf>,
    /// Write C to this safetensors file, as tensor `c`
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    backend: BackendArgs,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Timed runs, after one that does not count [default: as many as fit a second]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = args::repeat)]
    repeat: Option<usize>,
    #[command(flatten)]
    check: CheckArgs,
}

#[derive(Serialize)]
struct Report {
    shape: [usize; 4],
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    glu: String,
    out_dtype: String,
    backend: String,
    isa: Option<String>,
    reason: String,
    threads: usize,
    timing: Timing,
    gflop_per_s: f64,
    gb_per_s: f64,
    bytes: f64,
    /// `None`: not asked for, or the oracle's own C.
    check: Option<Check>,
    /// Values of C that are infinite or NaN.
    non_finite: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Shown>,
}

pub fn run(args: &Args, out: &Output) -> anyhow::Result<()> {
    args.compute.use_threads()?;
    // Before any work: a backend that cannot run here, or a file that cannot be written, should not cost the user a generation.
    let engine = args.backend.one()?;
    if let Some(output) = &args.output {
        files::ensure_writable(output, args.input.as_deref().as_slice())?;
    }
    let operands = operands(args)?;
    let gemm = operands.gemm()?.with_glu(args.compute.glu())?;
    // Of operands in a file, it is C that may be far larger than they are.
    system::ensure_fits(&gemm.shape(), args.compute.out_dtype.size())?;
    with_dtype!(args.compute.out_dtype, T => with_type::<T>(args, out, &engine, &gemm))
}

fn operands(args: &Args) -> anyhow::Result<Operands> {
    if let Some(path) = &args.input {
        let _progress = Progress::spinner(format!("reading {}", path.display()));
        let file = TensorFile::open(path)?;
        return Ok(Operands {
            a: file.operand("a", Operand::A)?,
            b1: file.operand("b1", Operand::B1)?,
            b2: file.operand("b2", Operand::B2)?,
        });
    }
    let problem = args.shape.context("neither --shape nor --input is given")?;
    system::ensure_fits(&problem, args.compute.out_dtype.size())?;
    let _progress = Progress::spinner("making operands");
    Ok(Operands::generate(problem, args.data.data, args.data.seed)?)
}

fn with_type<T: Element>(
    args: &Args,
    out: &Output,
    engine: &Engine,
    gemm: &DualGemm<'_>,
) -> anyhow::Result<()> {
    let problem = gemm.shape();
    let source = match &args.input {
        Some(path) => path.display().to_string(),
        None => format!("{} data, seed {}", args.data.data, args.data.seed),
    };
    out.line(format!(
        "{}  {}, glu {}, output {}",
        Style::Bold.paint(&shape_text(&problem)),
        source,
        glu_text(&gemm.glu()),
        args.compute.out_dtype
    ))?;
    out.fields(&[("backend", format!("{engine}: {}", engine.reason()))])?;

    let mut c = vec![T::default(); problem.batch * problem.m * problem.n];
    let repeat = Repeat::from_arg(args.repeat, Duration::from_secs(1));
    let progress = Progress::spinner(format!("running on {engine}"));
    let prepared = Prepared::new(engine, gemm)?;
    let timing = measure(repeat, || (), || prepared.run(&mut c))?;
    prepared.fetch(&mut c)?;
    progress.message("checking against the oracle");
    let check = check::check(gemm, engine, args.check.check, &c)?;
    let passed = check.as_ref().is_none_or(|check| check.pass);
    let output = checked::keep(passed, args.output.as_deref(), |path| {
        progress.message(format!("writing {}", path.display()));
        let GemmShape { m, n, batch, .. } = problem;
        let shape = if batch == 1 { vec![m, n] } else { vec![batch, m, n] };
        tensors::write_output(path, "c", &shape, &c)
    })?;
    drop(progress);

    let bytes = if problem.m == 0 { 0.0 } else { problem.bytes(T::DTYPE.size()) };
    let report = Report {
        shape: [problem.m, problem.n, problem.k, problem.batch],
        data: args.input.is_none().then(|| args.data.data.to_string()),
        seed: args.input.is_none().then_some(args.data.seed),
        glu: glu_text(&gemm.glu()),
        out_dtype: args.compute.out_dtype.to_string(),
        backend: engine.backend().to_string(),
        isa: engine.isa().map(|isa| isa.to_string()),
        reason: engine.reason().to_owned(),
        threads: rayon::current_num_threads(),
        gflop_per_s: problem.flops() / timing.median / 1e9,
        gb_per_s: bytes / timing.median / 1e9,
        bytes,
        timing,
        check,
        non_finite: warnings::non_finite(&c),
        output,
    };
    print(out, &report, engine.backend(), args.compute.out_dtype)?;
    out.json(report.check.as_ref().is_none_or(|check| check.pass), &report)?;
    report.check.as_ref().map_or(Ok(()), Check::require)
}

fn print(out: &Output, report: &Report, backend: Backend, dtype: DType) -> anyhow::Result<()> {
    let timing = &report.timing;
    let how = match (timing.warmed_up, timing.runs) {
        (false, _) => "one run, not warmed up".to_owned(),
        (true, 1) => "one run after a warm-up".to_owned(),
        (true, n) => format!("median of {n} runs, fastest {}", units::time(timing.min)),
    };
    let mut fields = vec![
        ("threads", report.threads.to_string()),
        ("time", format!("{}, {how}", units::time(timing.median))),
    ];
    let [m, n, _, batch] = report.shape;
    // Without rows nothing is computed, and no operand is read.
    if m > 0 {
        let memory = format!(
            "{}, {} of packed operands and C",
            units::byte_rate(report.gb_per_s * 1e9),
            units::bytes(report.bytes)
        );
        fields.push(("compute", units::flop_rate(report.gflop_per_s * 1e9)));
        fields.push(("memory", memory));
    }
    fields.extend(checked::fields(report.check.as_ref(), backend));
    if let Some(path) = &report.output {
        fields.push(("output", path.to_string()));
    }
    let warning = warnings::of_non_finite(report.non_finite, batch * m * n, "C", dtype);
    fields.extend(warning.map(|warning| ("warning", warning)));
    out.fields(&fields)
}
