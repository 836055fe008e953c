//! `nvfp4 verify`: every code path against the exact oracle.

use std::time::Instant;

use anyhow::bail;
use serde::Serialize;

use nvfp4_dual_gemm::synth::Operands;
use nvfp4_dual_gemm::{Backend, Element, Engine, GemmShape};
use nvfp4_harness::check::{Check, Exact, Rows};
use nvfp4_harness::notation::{glu_text, shape_text};
use nvfp4_harness::prepared::Prepared;
use nvfp4_harness::{system, units};

use crate::args::{
    CheckArgs, ComputeArgs, DataArgs, PathArgs, SizeArgs, Suite, isa_help, with_dtype,
};
use crate::ui::output::{Output, Style};
use crate::ui::progress::Progress;
use crate::ui::table::{Align, Cell, Stream, row};

/// Check each code path of this machine against the exact oracle
///
/// A path passes when at most 0.1 % of the elements are more than 1 ULP from the exact result, as far as a
/// count can tell, and all are within rtol = 1e-3, atol = 1e-3·max(1, median |C|). Of n elements,
/// n/1000 + 2·sqrt(n/1000) may be further than 1 ULP, at least one; of fewer than 1000, none further than
/// max(4, n/8) ULP. For C in f32, ULP are those of f16.
///
/// A device of compute capability 10 truncates its sums, once for each 64 of K: 0.18 % more are allowed there for
/// K = 7168, and others in proportion.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nvfp4 verify                                   odd shapes, every instruction set: seconds
  nvfp4 verify --suite contest                   the contest's ten test shapes
  nvfp4 verify --suite contest,hopper,quick --backend cuda --check all
  nvfp4 verify --shape 7x100x2880 --glu gpt-oss --isa avx2 --check all")]
#[command(mut_arg("suite", |suite| suite.help("Lists of sizes to go through [default: quick, without --shape]")))]
#[command(mut_arg("backend", |backend| backend.help("auto, cpu or cuda").default_value("cpu")))]
#[command(mut_arg("isa", |isa| isa.help(isa_help("all"))))]
#[command(mut_arg("data", |data| data.default_value("full")))]
pub struct Args {
    #[command(flatten)]
    sizes: SizeArgs,
    #[command(flatten)]
    paths: PathArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    check: CheckArgs,
}

#[derive(Serialize)]
struct Report {
    data: String,
    seed: u64,
    glu: String,
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
    args.compute.use_threads()?;
    if args.check.check == Rows::Some(0) {
        bail!("--check 0 would check nothing");
    }
    with_dtype!(args.compute.out_dtype, T => with_type::<T>(args, out))
}

fn with_type<T: Element>(args: &Args, out: &Output) -> anyhow::Result<()> {
    let engines = args.paths.every_engine()?;
    if engines.chosen.iter().any(|engine| engine.backend() == Backend::Oracle) {
        bail!("--backend oracle is the oracle itself, which would be compared with itself");
    }
    let problems = args.sizes.problems(Suite::Quick);
    let DataArgs { data, seed } = args.data;
    let glu = args.compute.glu();
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
        let operands = Operands::generate(*problem, data, seed)?;
        let gemm = operands.gemm()?.with_glu(glu)?;
        progress.message(format!("{} oracle", shape_text(problem)));
        let exact = Exact::<T>::new(&gemm, args.check.check)?;
        let mut c = vec![T::default(); problem.batch * problem.m * problem.n];
        for engine in &engines.chosen {
            progress.message(format!("{} {engine}", shape_text(problem)));
            c.fill(T::from_f32(f32::NAN)); // an element that is left out must not pass
            let start = Instant::now();
            let prepared = Prepared::new(engine, &gemm)?;
            prepared.run(&mut c)?;
            prepared.fetch(&mut c)?;
            let row = row(problem, engine, start.elapsed().as_secs_f64(), &exact, &c);
            progress.suspend(|| print_row(out, &table, &row))?;
            progress.step();
            results.push(row);
        }
    }
    drop(progress);

    let failed = results.iter().filter(|row| !row.check.pass).count();
    let report = Report {
        data: data.to_string(),
        seed,
        glu: glu_text(&glu),
        out_dtype: args.compute.out_dtype.to_string(),
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
    problem: &GemmShape,
    engine: &Engine,
    time_s: f64,
    exact: &Exact<T>,
    c: &[T],
) -> Row {
    Row {
        shape: [problem.m, problem.n, problem.k, problem.batch],
        path: engine.to_string(),
        time_s,
        check: exact.check(problem, c, engine.bound(problem.k, 2)),
    }
}

fn print_row(out: &Output, table: &Stream, row: &Row) -> anyhow::Result<()> {
    let [m, n, k, batch] = row.shape;
    table.row(
        out,
        row![
            shape_text(&GemmShape { m, n, k, batch }),
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
        "{}  {} of {total} passed; {} data, seed {}, glu {}, output {}, {}",
        Style::verdict(report.failed == 0),
        report.passed,
        report.data,
        report.seed,
        report.glu,
        report.out_dtype,
        units::count(report.threads, "thread"),
    ))?;
    for NotAvailable { isa, reason } in &report.not_available {
        out.line(format!("not run: {isa} ({reason})"))?;
    }
    Ok(())
}
