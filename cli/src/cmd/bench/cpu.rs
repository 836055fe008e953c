//! `nvfp4 bench` on the CPU.

use std::path::Path;

use nvfp4_bench::cpu::{Bench, PathPeak, Report, Row};
use nvfp4_bench::plot::{self, Point};
use nvfp4_dual_gemm::{Backend, Element, Engine, GemmShape};
use nvfp4_harness::notation::shape_text;
use nvfp4_harness::units;

use super::Args;
use crate::checked;
use crate::ui::output::{Output, Style};
use crate::ui::progress::Progress;
use crate::ui::table::{Align, Cell, Stream, row};

/// Measures `problems` on each of `engines`.
pub fn run<T: Element>(
    args: &Args,
    engines: &[Engine],
    problems: &[GemmShape],
    out: &Output,
) -> anyhow::Result<()> {
    let progress = Progress::spinner("measuring DRAM and peaks");
    let bench = Bench::new(args.settings(), engines);
    drop(progress);
    let mut report = bench.report::<T>();
    print_head(out, &report, engines, bench.buffer_bytes())?;
    let table = start_table(out, problems, engines)?;

    let progress = Progress::bar(problems.len() * engines.len(), "");
    for problem in problems {
        let done = |row: Row| {
            progress.suspend(|| print_row(out, &table, &row))?;
            progress.step();
            report.results.push(row);
            Ok(())
        };
        bench.measure::<T>(problem, |what| progress.message(what), done)?;
    }
    drop(progress);

    if let Some(file) = &args.plot {
        draw(file, &report)?;
        out.line("")?;
        out.line(format!("plot: {}", file.display()))?;
        report.plot = Some(file.display().to_string());
    }
    out.json(true, &report)
}

fn print_head(
    out: &Output,
    report: &Report,
    engines: &[Engine],
    buffer: usize,
) -> anyhow::Result<()> {
    let mut fields = vec![
        ("cpu", format!("{}, {}", report.cpu, units::count(report.threads, "thread"))),
        (
            "roofline",
            format!(
                "DRAM read {} (best of 7 passes over {})",
                units::byte_rate(report.dram_read_gb_per_s * 1e9),
                units::binary_bytes(buffer)
            ),
        ),
    ];
    for PathPeak { path, peak } in &report.peaks {
        let rate = units::flop_rate(peak.gflop_per_s * 1e9);
        fields
            .push(("", format!("{path} {rate} ({}, operands in registers; best of 5)", peak.unit)));
    }
    let caches = if report.caches_emptied { "emptied before each run" } else { "left warm" };
    fields.push(("caches", caches.to_owned()));
    fields.push((
        "operands",
        format!(
            "{} data, seed {}, glu {}, output {}",
            report.data, report.seed, report.glu, report.out_dtype
        ),
    ));
    if engines.iter().any(|engine| engine.backend() == Backend::Oracle) {
        fields.push(("check", checked::OF_THE_ORACLE.to_owned()));
    }
    out.fields(&fields)?;
    out.line("")
}

fn start_table(out: &Output, problems: &[GemmShape], engines: &[Engine]) -> anyhow::Result<Stream> {
    let shape_width = problems.iter().map(|p| shape_text(p).len()).max().unwrap_or(0);
    let path_width = engines.iter().map(|e| e.to_string().len()).max().unwrap_or(0);
    Stream::start(
        out,
        &[
            ("shape", Align::Left, shape_width),
            ("path", Align::Left, path_width),
            ("runs", Align::Right, 4),
            ("median", Align::Right, 8),
            ("min", Align::Right, 8),
            ("compute", Align::Right, 13),
            ("memory", Align::Right, 10),
            ("roofline", Align::Right, 8),
            ("bound", Align::Left, 7),
            ("of roofline", Align::Right, 11),
        ],
    )
}

fn print_row(out: &Output, table: &Stream, row: &Row) -> anyhow::Result<()> {
    let [m, n, k, batch] = row.shape;
    let or_none =
        |text: Option<String>| text.map_or_else(|| Cell::styled("-", Style::Dim), Cell::from);
    table.row(
        out,
        row![
            shape_text(&GemmShape { m, n, k, batch }),
            &row.path,
            row.timing.runs,
            units::time(row.timing.median),
            units::time(row.timing.min),
            units::flop_rate(row.gflop_per_s * 1e9),
            units::byte_rate(row.gb_per_s * 1e9),
            or_none(row.roofline_s.map(units::time)),
            or_none(row.bound_by.map(str::to_owned)),
            or_none(row.time_over_roofline.map(|ratio| format!("{:.1} %", 100.0 / ratio))),
        ],
    )
}

fn draw(file: &Path, report: &Report) -> anyhow::Result<()> {
    let title = format!("NVFP4 dual GEMM, {}", units::count(report.threads, "thread"));
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
                shape: shape_text(&GemmShape { m, n, k, batch }),
                path: row.path.clone(),
                ratio,
                label: format!("{ratio:.1}x, {}", units::time(row.timing.median)),
            })
        })
        .collect();
    plot::write(file, &title, &subtitle, &points)
}
