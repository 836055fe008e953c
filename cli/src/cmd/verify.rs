//! `nvfp4 verify`: every code path against the exact oracle.

use std::time::Instant;

use anyhow::bail;
use serde::Serialize;

use nvfp4_dual_gemm::synth::{CONTEST_SEED, Data, Operands};
use nvfp4_dual_gemm::{Backend, DType, Element, Gate, Problem, bf16, f16};
use nvfp4_harness::check::{Check, Exact, Rows};
use nvfp4_harness::engine::Engine;
use nvfp4_harness::notation::{self, IsaArg, gate_text, shape_text};
use nvfp4_harness::{system, units};

use crate::args::Suite;
use crate::ui::output::{Output, Style};
use crate::ui::progress::Progress;
use crate::ui::table::{Align, Cell, Stream, row};
use crate::{args, select};

/// Check each code path of this machine against the exact oracle
///
/// A path passes when at most 0.1 % of the elements are more than 1 ULP from the exact result, as far as a
/// count can tell, and all are within rtol = 1e-3, atol = 1e-3·max(1, median |C|). Of n elements,
/// n/1000 + 2·sqrt(n/1000) may be further than 1 ULP, at least one; of fewer than 1000, none further than
/// max(4, n/8) ULP. For C in f32, ULP are those of f16.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nvfp4 verify                                   odd shapes, every instruction set: seconds
  nvfp4 verify --suite contest                   the contest's ten test shapes
  nvfp4 verify --suite contest,hopper,quick --backend cuda --check all
  nvfp4 verify --shape 7x100x2880 --gate gpt-oss --isa avx2 --check all")]
pub struct Args {
    /// Size to check; may be given several times
    #[arg(long, value_name = "MxNxK[xL]", value_parser = notation::shape)]
    shape: Vec<Problem>,
    /// Lists of sizes to check [default: quick, without --shape]
    #[arg(long, value_delimiter = ',')]
    suite: Vec<Suite>,
    /// auto, cpu or cuda
    #[arg(long, default_value = "cpu")]
    backend: Backend,
    /// Kernel of the cuda backend, by the name or the number that `nvfp4 doctor` shows [default: by the shape]
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    /// Instruction sets of the cpu backend: amx, avx512, avx2, portable, all [default: all]
    #[arg(long, value_delimiter = ',', value_parser = notation::isa)]
    isa: Vec<IsaArg>,
    /// contest: codes ±{0, .5, 1, 1.5}, scales in [0, 1); full: all codes and scale bytes
    #[arg(long, value_name = "KIND", default_value = "full")]
    data: Data,
    /// Same seed, same operands, on every machine
    #[arg(long, allow_negative_numbers = true, default_value_t = CONTEST_SEED)]
    seed: u64,
    /// silu, gpt-oss, gelu-tanh or clamped:LIMIT,ALPHA,BETA
    #[arg(long, default_value = "silu", value_parser = notation::gate)]
    gate: Gate,
    /// Type of C: f16, bf16 or f32
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    out_dtype: DType,
    /// Rows of C to check of each shape: auto (about a second's worth), all, or a number
    #[arg(long, value_name = "ROWS", allow_negative_numbers = true, default_value_t = Rows::Auto)]
    check: Rows,
    /// Threads to use [default: RAYON_NUM_THREADS, or else all CPUs]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = args::threads)]
    threads: Option<usize>,
}

#[derive(Serialize)]
struct Report {
    data: String,
    seed: u64,
    gate: String,
    out_dtype: String,
    threads: usize,
    passed: usize,
    failed: usize,
    not_available: Vec<NotAvailable>,
    results: Vec<Row>,
}

#[derive(Serialize)]
struct NotAvailable {
    isa: String,
    reason: String,
}

#[derive(Serialize)]
struct Row {
    shape: [usize; 4],
    path: String,
    time_s: f64,
    #[serde(flatten)]
    check: Check,
}

pub fn run(args: &Args, out: &Output) -> anyhow::Result<()> {
    args::use_threads(args.threads)?;
    if args.check == Rows::Some(0) {
        bail!("--check 0 would check nothing");
    }
    match args.out_dtype {
        DType::F16 => with_type::<f16>(args, out),
        DType::Bf16 => with_type::<bf16>(args, out),
        DType::F32 => with_type::<f32>(args, out),
    }
}

fn with_type<T: Element>(args: &Args, out: &Output) -> anyhow::Result<()> {
    let all = matches!(args.backend, Backend::Auto | Backend::Cpu)
        && args.isa.is_empty()
        && args.kernel.is_none();
    let isas = if all { &[IsaArg::All][..] } else { &args.isa };
    let engines = select::choose(args.backend, isas, args.kernel.as_deref())?;
    if engines.chosen.contains(&Engine::Other(Backend::Exact)) {
        bail!("--backend exact is the oracle itself, which would be compared with itself");
    }
    let mut problems = args.shape.clone();
    problems.extend(args.suite.iter().flat_map(|suite| suite.problems()));
    if problems.is_empty() {
        problems = Suite::Quick.problems();
    }
    for problem in &problems {
        system::ensure_fits(problem, T::DTYPE.size())?;
    }

    let shape_width = problems.iter().map(|p| shape_text(p).len()).max().unwrap_or(0);
    let path_width = engines.chosen.iter().map(|e| e.to_string().len()).max().unwrap_or(0);
    let rows_width = problems.iter().map(|p| 2 * (p.m * p.batch).to_string().len() + 1);
    let table = Stream::start(
        out,
        &[
            ("shape", Align::Left, shape_width),
            ("path", Align::Left, path_width),
            ("rows", Align::Right, rows_width.max().unwrap_or(0)),
            ("max ULP", Align::Right, 7),
            ("> 1 ULP", Align::Right, 8),
            ("outside", Align::Right, 7),
            ("time", Align::Right, 8),
            ("", Align::Left, 4),
        ],
    )?;

    let steps = problems.len() * engines.chosen.len();
    let progress = Progress::bar(steps, "");
    let mut results = Vec::with_capacity(steps);
    for problem in &problems {
        progress.message(format!("{} operands", shape_text(problem)));
        let operands = Operands::generate(*problem, args.data, args.seed)?;
        let gemm = operands.gemm()?.with_gate(args.gate)?;
        progress.message(format!("{} oracle", shape_text(problem)));
        let exact = Exact::<T>::new(&gemm, args.check)?;
        let mut c = vec![T::default(); problem.batch * problem.m * problem.n];
        for engine in &engines.chosen {
            progress.message(format!("{} {engine}", shape_text(problem)));
            c.fill(T::from_f32(f32::NAN)); // an element that is left out must not pass
            let start = Instant::now();
            let prepared = engine.prepare(&gemm)?;
            prepared.run(&mut c)?;
            prepared.fetch(&mut c)?;
            let row = row(problem, *engine, start.elapsed().as_secs_f64(), &exact, &c);
            progress.suspend(|| print_row(out, &table, &row))?;
            progress.step();
            results.push(row);
        }
    }
    drop(progress);

    let failed = results.iter().filter(|row| !row.check.pass).count();
    let report = Report {
        data: args.data.to_string(),
        seed: args.seed,
        gate: gate_text(&args.gate),
        out_dtype: args.out_dtype.to_string(),
        threads: rayon::current_num_threads(),
        passed: steps - failed,
        failed,
        not_available: engines
            .left_out
            .into_iter()
            .map(|(isa, reason)| NotAvailable { isa: isa.to_string(), reason })
            .collect(),
        results,
    };
    print_summary(out, &report)?;
    out.json(failed == 0, &report)?;
    if failed > 0 {
        bail!("{failed} of {steps} results differ from the exact oracle");
    }
    Ok(())
}

fn row<T: Element>(
    problem: &Problem,
    engine: Engine,
    time_s: f64,
    exact: &Exact<T>,
    c: &[T],
) -> Row {
    Row {
        shape: [problem.m, problem.n, problem.k, problem.batch],
        path: engine.to_string(),
        time_s,
        check: exact.check(problem, c),
    }
}

fn print_row(out: &Output, table: &Stream, row: &Row) -> anyhow::Result<()> {
    let [m, n, k, batch] = row.shape;
    table.row(
        out,
        row![
            shape_text(&Problem { m, n, k, batch }),
            &row.path,
            format!("{}/{}", row.check.rows, row.check.rows_total),
            units::ulp(row.check.max_ulp),
            units::percent(row.check.share_beyond_one_ulp),
            row.check.outside_tolerance,
            units::time(row.time_s),
            Cell::verdict(row.check.pass),
        ],
    )
}

fn print_summary(out: &Output, report: &Report) -> anyhow::Result<()> {
    out.line("")?;
    let total = report.passed + report.failed;
    out.line(format!(
        "{}  {} of {total} passed; {} data, seed {}, gate {}, output {}, {}",
        Style::verdict(report.failed == 0),
        report.passed,
        report.data,
        report.seed,
        report.gate,
        report.out_dtype,
        units::count(report.threads, "thread"),
    ))?;
    for NotAvailable { isa, reason } in &report.not_available {
        out.line(format!("not run: {isa} ({reason})"))?;
    }
    Ok(())
}
