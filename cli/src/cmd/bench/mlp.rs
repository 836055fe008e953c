//! `nvfp4 bench --mlp`: whole layers, on the CPU or on a device.

use anyhow::{Context, bail};

use nvfp4_bench::mlp::report::{Measured, Report, Row};
use nvfp4_bench::mlp::{Layer, Mode, SUITE, Settings, Shape, TOKENS, cpu, markdown};
use nvfp4_dual_gemm::{Backend, Engine, Glu, checkpoint};
use nvfp4_harness::units;

use super::Args;
use crate::ui::output::Output;
use crate::ui::progress::Progress;
use crate::ui::table::{Align, Cell, Stream, row};

/// Of whole layers.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Of a whole MLP")]
pub struct MlpArgs {
    /// Measure layers y = down(glu(gate(x), up(x))) in place of dual GEMMs, x [M, K], h [M, N], y [M, H]
    /// [default: 4096x14336x4096 (Llama 8B), 7168x2048x7168 (a shared expert of DeepSeek), 5120x25600x5120 (Qwen 32B)]
    #[arg(long, value_name = "KxNxH", num_args = 0.., value_delimiter = ',', conflicts_with_all = [
        "shape", "suite", "plot", "kernel", "out_dtype", "data", "programmatic",
    ])]
    pub mlp: Option<Vec<Shape>>,
    /// Numbers of tokens, M [default: 1,16,128,1024]
    #[arg(long, value_name = "M", value_delimiter = ',', requires = "mlp", value_parser = tokens)]
    tokens: Vec<usize>,
    /// Of ours: w4a4 (calibrated scales), w4a4-dynamic (scales found in each call), w4a16 (bf16) [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "mlp")]
    precision: Vec<Mode>,
}

/// A number of tokens.
fn tokens(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(rows @ 1..=1_000_000) => Ok(rows),
        _ => Err("expected a number from 1 to 1000000".to_owned()),
    }
}

/// The list, or what stands for none.
fn or_all<T: Copy>(chosen: &[T], all: &[T]) -> Vec<T> {
    if chosen.is_empty() { all.to_vec() } else { chosen.to_vec() }
}

/// Measures `shapes`, or those that stand for none, on `engines`.
pub fn run(args: &Args, shapes: &[Shape], engines: &[Engine], out: &Output) -> anyhow::Result<()> {
    if let Some(engine) = engines.iter().find(|engine| engine.backend() == Backend::Oracle) {
        bail!("--mlp: {engine} is what others are compared with");
    }
    let settings = Settings {
        common: args.settings(),
        modes: or_all(&args.mlp.precision, &Mode::ALL),
        rounds: args.device.rounds,
        peers: args.device.choice(),
    };
    let plan = Plan {
        glu: args.compute.glu(),
        seed: args.data.seed,
        shapes: or_all(shapes, &SUITE),
        tokens: or_all(&args.mlp.tokens, &TOKENS),
    };
    let command_line = super::command_line();
    #[cfg(feature = "cuda")]
    if let [engine] = engines
        && engine.device().is_some()
    {
        let report = plan.on_device(settings, engine, command_line, out)?;
        return finish(args, &report, out);
    }
    let progress = Progress::spinner("measuring DRAM and getting the peers ready");
    let mut bench = cpu::Bench::new(settings, engines)?;
    drop(progress);
    let mut report = bench.report(command_line);
    let each = |layer: &Layer, rows: &[usize], done: &mut dyn FnMut(Row) -> anyhow::Result<()>| {
        rows.iter().try_for_each(|&rows| done(bench.measure(layer, rows)?))
    };
    plan.measure(&mut report, out, each)?;
    finish(args, &report, out)
}

/// What is measured.
struct Plan {
    glu: Glu,
    seed: u64,
    shapes: Vec<Shape>,
    tokens: Vec<usize>,
}

impl Plan {
    #[cfg(feature = "cuda")]
    fn on_device(
        &self,
        settings: Settings,
        engine: &Engine,
        command_line: String,
        out: &Output,
    ) -> anyhow::Result<Report> {
        let progress = Progress::spinner("getting the device and the peers ready");
        let mut bench = nvfp4_bench::mlp::device::Bench::new(settings, engine)?;
        drop(progress);
        let mut report = bench.report(command_line);
        let each =
            |layer: &Layer, rows: &[usize], done: &mut dyn FnMut(Row) -> anyhow::Result<()>| {
                let loaded = bench.load(layer)?;
                rows.iter().try_for_each(|&rows| done(bench.measure(&loaded, rows)?))
            };
        self.measure(&mut report, out, each)?;
        report.set_state(bench.state());
        Ok(report)
    }

    /// Makes each layer, has `each` measure it with all numbers of tokens, and prints what it is done with.
    fn measure(
        &self,
        report: &mut Report,
        out: &Output,
        mut each: impl FnMut(
            &Layer,
            &[usize],
            &mut dyn FnMut(Row) -> anyhow::Result<()>,
        ) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for fact in report.facts() {
            out.line(fact)?;
        }
        out.line("")?;
        let table = start_table(out)?;
        let progress = Progress::bar(self.shapes.len() * self.tokens.len(), "");
        for &shape in &self.shapes {
            progress.message(format!("{shape}: weights"));
            let layer = Layer::generate(shape, self.glu, self.seed)?;
            progress.message(shape.to_string());
            let mut done = |row: Row| {
                progress.suspend(|| print_row(out, &table, &row))?;
                progress.step();
                report.results.push(row);
                Ok(())
            };
            each(&layer, &self.tokens, &mut done).with_context(|| shape.to_string())?;
        }
        Ok(())
    }
}

fn finish(args: &Args, report: &Report, out: &Output) -> anyhow::Result<()> {
    let page = markdown::page(report);
    if report.head.peers.is_some() {
        out.line("")?;
        out.line(&page)?;
    }
    if let Some(file) = &args.device.markdown {
        checkpoint::write_file(file, &page)?;
    }
    out.json(true, report)
}

fn start_table(out: &Output) -> anyhow::Result<Stream> {
    Stream::start(
        out,
        &[
            ("layer, tokens", Align::Left, 31),
            ("ours", Align::Left, 21),
            ("median", Align::Right, 8),
            ("least", Align::Right, 8),
            ("compute", Align::Right, 13),
            ("memory", Align::Right, 10),
            ("runs", Align::Right, 5),
            ("copies", Align::Right, 6),
            ("error", Align::Right, 7),
        ],
    )
}

fn print_row(out: &Output, table: &Stream, row: &Row) -> anyhow::Result<()> {
    for own in &row.ours {
        let cells = match &own.measured {
            Some(measured) => cells(row, &own.name, measured),
            None => row![row.title(), &own.name, own.failed.as_deref().unwrap_or("not measured")],
        };
        table.row(out, cells)?;
    }
    Ok(())
}

fn cells(row: &Row, name: &str, measured: &Measured) -> Vec<Cell> {
    row![
        row.title(),
        name,
        units::time(measured.timing.median),
        units::time(measured.timing.min),
        units::flop_rate(measured.tflop_per_s * 1e12),
        units::byte_rate(measured.gb_per_s * 1e9),
        measured.timing.runs,
        measured.copies,
        format!("{:.1e}", measured.relative_error),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_stands_for_all() {
        assert_eq!(or_all(&[], &TOKENS), TOKENS);
        assert_eq!(or_all(&[5], &TOKENS), [5]);
        assert!(tokens("0").is_err() && tokens("-1").is_err() && tokens("16") == Ok(16));
    }
}
