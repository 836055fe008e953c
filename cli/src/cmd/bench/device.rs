//! `nvfp4 bench` on a device.

use anyhow::{Context, bail};

use nvfp4_bench::device::{Bench, Report, Row, Settings};
use nvfp4_bench::markdown;
use nvfp4_dual_gemm::cuda::{Device, Kernel};
use nvfp4_dual_gemm::{Element, GemmShape, checkpoint};
use nvfp4_harness::notation::shape_text;
use nvfp4_harness::units;

use super::Args;
use crate::files;
use crate::ui::output::Output;
use crate::ui::progress::Progress;
use crate::ui::table::{Align, Stream, row};

/// Measures `problems` on a device.
pub fn run<T: Element>(
    args: &Args,
    device: &Device,
    kernel: Option<Kernel>,
    problems: &[GemmShape],
    out: &Output,
) -> anyhow::Result<()> {
    if args.plot.is_some() {
        bail!(
            "--plot draws times over a roofline, which is not measured for a device; --backend cpu has one"
        );
    }
    if let Some(file) = &args.device.markdown {
        files::ensure_writable(file, &[])?;
    }
    let progress = Progress::spinner("getting the device and the peers ready");
    let settings = Settings {
        device: device.clone(),
        common: args.settings(),
        kernel,
        programmatic: args.device.programmatic,
        rounds: args.device.rounds,
        peers: args.device.choice(),
    };
    let mut bench = Bench::<T>::new(settings, problems)?;
    drop(progress);
    let mut report = bench.report(super::command_line());
    print_head(out, &report, bench.copy_bytes())?;
    let table = start_table(out, problems)?;
    let progress = Progress::bar(problems.len(), "");
    for problem in problems {
        progress.message(shape_text(problem));
        let row = bench.measure(*problem).with_context(|| shape_text(problem))?;
        progress.suspend(|| print_row(out, &table, &row))?;
        progress.step();
        report.results.push(row);
    }
    drop(progress);
    report.machine.state_after = bench.state();
    let page = markdown::page(&report);
    if report.head.peers.is_some() {
        out.line("")?;
        out.line(&page)?;
    }
    if let Some(file) = &args.device.markdown {
        checkpoint::write_file(file, &page)?;
    }
    out.json(true, &report)
}

fn print_head(out: &Output, report: &Report, copied: usize) -> anyhow::Result<()> {
    let device = &report.machine.device;
    out.fields(&[
        (
            "device",
            format!(
                "{}, {}, L2 {}",
                device.name,
                units::count(device.sms, "SM"),
                units::binary_bytes(device.l2_bytes)
            ),
        ),
        (
            "copy rate",
            format!(
                "{} read and written (best of 10 copies of {} within its memory)",
                units::byte_rate(report.machine.copy_gb_per_s * 1e9),
                units::binary_bytes(copied)
            ),
        ),
        ("times", report.method()),
    ])?;
    out.line("")
}

fn start_table(out: &Output, problems: &[GemmShape]) -> anyhow::Result<Stream> {
    let shape_width = problems.iter().map(|p| shape_text(p).len()).max().unwrap_or(0);
    let kernel_width = Kernel::all().map(|kernel| kernel.name().len()).max().unwrap_or(0);
    Stream::start(
        out,
        &[
            ("shape", Align::Left, shape_width),
            ("median", Align::Right, 8),
            ("least", Align::Right, 8),
            ("compute", Align::Right, 13),
            ("memory", Align::Right, 10),
            ("of copy rate", Align::Right, 12),
            ("replays", Align::Right, 7),
            ("copies", Align::Right, 9),
            ("grid", Align::Left, 9),
            ("cluster", Align::Left, 7),
            ("kernel", Align::Left, kernel_width),
        ],
    )
}

fn print_row(out: &Output, table: &Stream, row: &Row) -> anyhow::Result<()> {
    let [m, n, k, batch] = row.shape;
    let times = |[x, y, z]: [u32; 3]| format!("{x}x{y}x{z}");
    table.row(
        out,
        row![
            shape_text(&GemmShape { m, n, k, batch }),
            units::time(row.timing.median),
            units::time(row.timing.min),
            units::flop_rate(row.tflop_per_s * 1e12),
            units::byte_rate(row.gb_per_s * 1e9),
            format!("{:.1} %", 100.0 * row.share_of_copy_rate),
            row.timing.runs,
            format!("{} {}", row.copies, if row.cold { "cold" } else { "warm" }),
            times(row.grid),
            times(row.cluster),
            row.kernel,
        ],
    )
}
