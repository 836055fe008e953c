//! `nvfp4 bench`: times next to what the machine could do at best.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;

use nvfp4_dual_gemm::synth::{CONTEST_SEED, Data, Operands};
use nvfp4_dual_gemm::{Backend, DType, Element, Gate, Problem, bf16, f16};

use crate::args::{IsaArg, Suite, gate_text, shape_text};
#[cfg(feature = "cuda")]
use crate::bench_device;
use crate::check::{Exact, Rows};
use crate::engine::{self, Engine};
use crate::measure::{Repeat, Timing, measure};
use crate::output::{self, Align, Output, Shown, Style, Table};
use crate::plot::{self, Point};
use crate::progress::Progress;
use crate::roofline::{self, Memory, Peak};
use crate::{args, machine};

/// Measure times and compare them with the roofline of this machine
///
/// The roofline is the larger of packed bytes over DRAM read bandwidth and operations over the peak
/// of the fastest unit of the instruction set, both measured on the spot. Caches are emptied before
/// each run unless --warm is given. Two rows of each result are checked against the exact oracle.
///
/// A GPU is timed by its own clock, over replays of CUDA graphs of many launches, which read one of several copies of
/// the weights in turn: together they are more than four times its L2 cache (--warm: one copy). --peers measures
/// cuBLAS, Humming and Triton in the same run.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nvfp4 bench                                   the contest's four benchmark shapes
  nvfp4 bench --backend cpu --suite decode --plot decode.svg
  nvfp4 bench --shape 16x2880x2880 --isa all --threads 1
  nvfp4 bench --backend cuda --suite hopper --peers --markdown hopper.md")]
pub struct Args {
    /// Size to measure; may be given several times
    #[arg(long, value_name = "MxNxK[xL]", value_parser = args::shape)]
    pub shape: Vec<Problem>,
    /// Lists of sizes to measure [default: benchmark, without --shape]
    #[arg(long, value_delimiter = ',')]
    pub suite: Vec<Suite>,
    /// auto, cpu, exact or cuda
    #[arg(long, default_value = "auto")]
    pub backend: Backend,
    /// Kernel of the cuda backend, by the name or the number that `nvfp4 doctor` shows [default: by the shape]
    #[arg(long, value_name = "NAME")]
    pub kernel: Option<String>,
    /// Instruction sets of the cpu backend: amx, avx512, avx2, portable, all [default: the fastest]
    #[arg(long, value_delimiter = ',', value_parser = args::isa)]
    pub isa: Vec<IsaArg>,
    /// Draw times over roofline into this SVG file; not of a GPU
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// Measure the peers of this script, too, in turns and over the same operands; python3 (or $PYTHON) runs it
    #[arg(long, value_name = "SCRIPT", num_args = 0..=1, default_missing_value = "benches/peers/gpu.py")]
    pub peers: Option<PathBuf>,
    /// Only these peers of the script: cublas, humming, dequantise, triton
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "peers")]
    pub peer: Vec<String>,
    /// Rounds of a GPU's times, in turns with the peers [default: 3 with --peers, else 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = args::repeat)]
    pub rounds: Option<usize>,
    /// Let a launch on a GPU begin under the end of the one before (programmatic dependent launch)
    #[arg(long)]
    pub programmatic: bool,
    /// Write what was measured on a GPU into this file
    #[arg(long, value_name = "FILE.md")]
    pub markdown: Option<PathBuf>,
    /// Leave operands in the caches between runs
    #[arg(long)]
    pub warm: bool,
    /// contest: codes ±{0, .5, 1, 1.5}, scales in [0, 1); full: all codes and scale bytes
    #[arg(long, value_name = "KIND", default_value = "contest")]
    pub data: Data,
    /// Same seed, same operands, on every machine
    #[arg(long, allow_negative_numbers = true, default_value_t = CONTEST_SEED)]
    pub seed: u64,
    /// silu, gpt-oss, gelu-tanh or clamped:LIMIT,ALPHA,BETA
    #[arg(long, default_value = "silu", value_parser = args::gate)]
    pub gate: Gate,
    /// Type of C: f16, bf16 or f32
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    pub out_dtype: DType,
    /// Timed runs of each, after one that does not count [default: as many as fit a second]; on a GPU, replays a round
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = args::repeat)]
    pub repeat: Option<usize>,
    /// Threads to use [default: RAYON_NUM_THREADS, or else all CPUs]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = args::threads)]
    pub threads: Option<usize>,
}

#[derive(Serialize)]
struct Report {
    cpu: String,
    threads: usize,
    data: String,
    seed: u64,
    gate: String,
    out_dtype: String,
    caches_emptied: bool,
    dram_read_gb_per_s: f64,
    peaks: Vec<PathPeak>,
    results: Vec<Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plot: Option<Shown>,
}

#[derive(Serialize)]
struct PathPeak {
    path: String,
    #[serde(flatten)]
    peak: Peak,
}

#[derive(Serialize)]
struct Row {
    shape: [usize; 4],
    path: String,
    #[serde(flatten)]
    timing: Timing,
    gflop_per_s: f64,
    gb_per_s: f64,
    /// None for a device whose roofline is not measured here.
    roofline_s: Option<f64>,
    bound_by: Option<&'static str>,
    time_over_roofline: Option<f64>,
}

pub fn run(args: &Args, out: &Output) -> anyhow::Result<()> {
    if let Some(file) = &args.plot {
        plot::check_name(file)?;
        machine::ensure_writable(file, &[])?;
    }
    machine::use_threads(args.threads)?;
    match args.out_dtype {
        DType::F16 => with_type::<f16>(args, out),
        DType::Bf16 => with_type::<bf16>(args, out),
        DType::F32 => with_type::<f32>(args, out),
    }
}

fn with_type<T: Element>(args: &Args, out: &Output) -> anyhow::Result<()> {
    let engines = engine::choose(args.backend, &args.isa, args.kernel.as_deref())?;
    for engine in &engines.chosen {
        engine.require_a_clock()?;
    }
    let mut problems = args.shape.clone();
    problems.extend(args.suite.iter().flat_map(|suite| suite.problems()));
    if problems.is_empty() {
        problems = Suite::Benchmark.problems();
    }
    for problem in &problems {
        if problem.m == 0 {
            bail!("{}: M = 0 leaves nothing to measure", shape_text(problem));
        }
        machine::ensure_fits(problem, T::DTYPE.size())?;
    }
    #[cfg(feature = "cuda")]
    if let [Engine::Cuda(kernel)] = engines.chosen[..] {
        return bench_device::run::<T>(args, kernel, &problems, out);
    }
    let of_a_device = [
        ("--peers", args.peers.is_some()),
        ("--rounds", args.rounds.is_some()),
        ("--programmatic", args.programmatic),
        ("--markdown", args.markdown.is_some()),
    ];
    if let Some((option, _)) = of_a_device.iter().find(|(_, given)| *given) {
        bail!("{option} is for the cuda backend, not for {}", engines.chosen[0]);
    }

    let progress = Progress::spinner("measuring DRAM and peaks");
    let memory = Memory::new();
    let bandwidth = memory.bandwidth();
    // The oracle computes in portable code; a device has a roofline that is not measured here.
    let peaks: Vec<Option<Peak>> =
        engines.chosen.iter().map(|engine| engine.isa().map(roofline::peak)).collect();
    drop(progress);
    let mut report = Report {
        cpu: machine::cpu_model(),
        threads: rayon::current_num_threads(),
        data: args.data.to_string(),
        seed: args.seed,
        gate: gate_text(&args.gate),
        out_dtype: args.out_dtype.to_string(),
        caches_emptied: !args.warm,
        dram_read_gb_per_s: bandwidth / 1e9,
        peaks: Vec::new(),
        results: Vec::new(),
        plot: args.plot.as_deref().map(Shown::from),
    };
    for (engine, peak) in engines.chosen.iter().zip(&peaks) {
        if let Some(peak) = peak {
            report.peaks.push(PathPeak { path: engine.to_string(), peak: peak.clone() });
        }
    }
    print_head(out, &report, memory.bytes())?;
    let table = start_table(out, &problems, &engines.chosen)?;

    let progress = Progress::bar(problems.len() * engines.chosen.len(), "");
    for problem in &problems {
        progress.message(format!("{} operands", shape_text(problem)));
        let operands = Operands::generate(*problem, args.data, args.seed)?;
        let gemm = operands.gemm()?.with_gate(args.gate)?;
        let exact = Exact::<T>::new(&gemm, Rows::Some(2))?;
        let mut c = vec![T::default(); problem.batch * problem.m * problem.n];
        for (engine, peak) in engines.chosen.iter().zip(&peaks) {
            progress.message(format!("{} {engine}", shape_text(problem)));
            let empty_caches = || {
                if !args.warm {
                    memory.read();
                }
            };
            let repeat = Repeat::from_arg(args.repeat, Duration::from_secs(1));
            let prepared = engine.prepare(&gemm)?;
            let timing = measure(repeat, empty_caches, || prepared.run(&mut c))?;
            prepared.fetch(&mut c)?;
            let check = exact.check(problem, &c);
            check.require().with_context(|| format!("{} on {engine}", shape_text(problem)))?;
            let floor = peak.as_ref().map(|peak| {
                roofline::floor(problem, T::DTYPE.size(), bandwidth, peak.gflop_per_s * 1e9)
            });
            let row = Row {
                shape: [problem.m, problem.n, problem.k, problem.batch],
                path: engine.to_string(),
                gflop_per_s: problem.flops() / timing.median / 1e9,
                gb_per_s: problem.bytes(T::DTYPE.size()) / timing.median / 1e9,
                roofline_s: floor.map(|(seconds, _)| seconds),
                bound_by: floor.map(|(_, memory)| if memory { "memory" } else { "compute" }),
                time_over_roofline: floor.map(|(seconds, _)| timing.median / seconds),
                timing,
            };
            progress.suspend(|| print_row(out, &table, &row))?;
            progress.step();
            report.results.push(row);
        }
    }
    drop(progress);

    if let Some(file) = &args.plot {
        draw(file, &report)?;
        out.line("")?;
        out.line(format!("plot: {}", file.display()))?;
    }
    out.json(true, &report)
}

fn print_head(out: &Output, report: &Report, buffer: usize) -> anyhow::Result<()> {
    let mut fields = vec![
        ("cpu", format!("{}, {}", report.cpu, output::count(report.threads, "thread"))),
        (
            "roofline",
            format!(
                "DRAM read {} (best of 7 passes over {})",
                output::byte_rate(report.dram_read_gb_per_s * 1e9),
                output::binary_bytes(buffer)
            ),
        ),
    ];
    for PathPeak { path, peak } in &report.peaks {
        let rate = output::flop_rate(peak.gflop_per_s * 1e9);
        fields
            .push(("", format!("{path} {rate} ({}, operands in registers; best of 5)", peak.unit)));
    }
    let caches = if report.caches_emptied { "emptied before each run" } else { "left warm" };
    fields.push(("caches", caches.to_owned()));
    fields.push((
        "operands",
        format!(
            "{} data, seed {}, gate {}, output {}",
            report.data, report.seed, report.gate, report.out_dtype
        ),
    ));
    out.fields(&fields)?;
    out.line("")
}

fn start_table(out: &Output, problems: &[Problem], engines: &[Engine]) -> anyhow::Result<Table> {
    let shape_width = problems.iter().map(|p| shape_text(p).len()).max().unwrap_or(0);
    let path_width = engines.iter().map(|e| e.to_string().len()).max().unwrap_or(0);
    Table::start(
        out,
        &[
            ("shape", shape_width, Align::Left),
            ("path", path_width, Align::Left),
            ("runs", 4, Align::Right),
            ("median", 8, Align::Right),
            ("min", 8, Align::Right),
            ("compute", 13, Align::Right),
            ("memory", 10, Align::Right),
            ("roofline", 8, Align::Right),
            ("bound", 7, Align::Left),
            ("of roofline", 11, Align::Right),
        ],
    )
}

fn print_row(out: &Output, table: &Table, row: &Row) -> anyhow::Result<()> {
    let [m, n, k, batch] = row.shape;
    let none = || out.paint("-", Style::Dim);
    table.row(
        out,
        &[
            shape_text(&Problem { m, n, k, batch }),
            row.path.clone(),
            row.timing.runs.to_string(),
            output::time(row.timing.median),
            output::time(row.timing.min),
            output::flop_rate(row.gflop_per_s * 1e9),
            output::byte_rate(row.gb_per_s * 1e9),
            row.roofline_s.map_or_else(none, output::time),
            row.bound_by.map_or_else(none, str::to_owned),
            row.time_over_roofline.map_or_else(none, |ratio| format!("{:.1} %", 100.0 / ratio)),
        ],
    )
}

fn draw(file: &std::path::Path, report: &Report) -> anyhow::Result<()> {
    let title = format!("NVFP4 dual GEMM, {}", output::count(report.threads, "thread"));
    let mut subtitle = format!("{}; DRAM read {:.1} GB/s", report.cpu, report.dram_read_gb_per_s);
    let peaks: Vec<String> = report
        .peaks
        .iter()
        .map(|PathPeak { path, peak }| {
            let isa = path.trim_start_matches("cpu (").trim_end_matches(')');
            format!("{isa} {:.0}", peak.gflop_per_s)
        })
        .collect();
    if !peaks.is_empty() {
        subtitle += &format!(", peak GFLOP/s: {}", peaks.join(", "));
    }
    let points: Vec<Point> = report
        .results
        .iter()
        .filter_map(|row| {
            let [m, n, k, batch] = row.shape;
            let ratio = row.time_over_roofline?;
            Some(Point {
                shape: shape_text(&Problem { m, n, k, batch }),
                path: row.path.clone(),
                ratio,
                label: format!("{ratio:.1}x, {}", output::time(row.timing.median)),
            })
        })
        .collect();
    plot::write(file, &title, &subtitle, &points)
}
