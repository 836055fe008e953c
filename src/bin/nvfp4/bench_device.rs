//! `nvfp4 bench` on a device: times by its own clock, alone or in turns with peers.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::Serialize;

use nvfp4_dual_gemm::checkpoint;
use nvfp4_dual_gemm::cuda::{self, Device, Kernel};
use nvfp4_dual_gemm::synth::Operands;
use nvfp4_dual_gemm::{DType, Element, Gate, Problem};

use crate::args::{gate_text, shape_text};
use crate::bench::Args;
use crate::check::{Exact, Rows};
use crate::gpu::{self, State};
use crate::measure::{Repeat, Timing};
use crate::output::{self, Align, Output, Table};
use crate::peers::{About, Contender, Peers, Settings};
use crate::progress::Progress;
use crate::replay::{self, NODES, Replay, Rotation};
use crate::{machine, versus};

/// For the replays of each contender, each round.
const BUDGET: Duration = Duration::from_millis(250);

#[derive(Serialize)]
pub struct Report {
    /// As it was typed; `command` is a field of every report.
    pub command_line: String,
    pub device: Hardware,
    /// Just after the last measurement.
    pub state_after: Option<State>,
    pub data: String,
    pub seed: u64,
    pub gate: String,
    pub out_dtype: String,
    pub l2_cold: bool,
    pub programmatic_launch: bool,
    pub rounds: usize,
    /// What a copy within the device's memory reads and writes.
    pub copy_gb_per_s: f64,
    pub peers: Option<About>,
    pub results: Vec<Row>,
}

#[derive(Serialize)]
pub struct Hardware {
    pub name: String,
    pub compute_capability: String,
    pub sms: usize,
    pub memory_bytes: usize,
    pub l2_bytes: usize,
    /// The newest CUDA that the driver knows.
    pub driver: Option<String>,
    pub toolkit: Option<&'static str>,
    pub cutlass: Option<&'static str>,
}

#[derive(Serialize)]
pub struct Row {
    pub shape: [usize; 4],
    pub kernel: &'static str,
    pub grid: [u32; 3],
    pub cluster: [u32; 3],
    pub copies: usize,
    pub nodes: usize,
    /// Whether weights come from DRAM: their copies are more than four times the L2.
    pub cold: bool,
    #[serde(flatten)]
    pub timing: Timing,
    pub tflop_per_s: f64,
    /// Packed operands and C, over the median.
    pub gb_per_s: f64,
    pub share_of_copy_rate: f64,
    pub peers: Vec<PeerRow>,
}

/// A variant of a peer on one shape.
#[derive(Serialize)]
pub struct PeerRow {
    pub peer: String,
    pub variant: String,
    #[serde(flatten)]
    pub timing: Option<Timing>,
    /// Its median over ours.
    pub ratio: Option<f64>,
    pub copies: usize,
    pub relative_error: Option<f64>,
    pub failed: Option<String>,
}

impl Row {
    /// The variant of a peer with the least median.
    pub fn fastest(&self, peer: &str) -> Option<&PeerRow> {
        let median = |row: &PeerRow| row.timing.as_ref().map_or(f64::INFINITY, |t| t.median);
        let variants = self.peers.iter().filter(|row| row.peer == peer && row.timing.is_some());
        variants.min_by(|a, b| median(a).total_cmp(&median(b)))
    }
}

impl Report {
    /// How it was measured, in a sentence.
    pub fn method(&self) -> String {
        let caches = if self.l2_cold {
            "weights rotated over copies of more than 4 times the L2"
        } else {
            "one copy of the weights, which may stay in L2"
        };
        format!(
            "replays of CUDA graphs of at least {NODES} launches, timed by events, {caches}; {}{}; {} data, seed {}, \
             gate {}, C in {}{}",
            output::count(self.rounds, "round"),
            if self.peers.is_some() { ", each contender in turn" } else { "" },
            self.data,
            self.seed,
            self.gate,
            self.out_dtype,
            if self.programmatic_launch { "; programmatic launch" } else { "" }
        )
    }
}

/// Measures `problems` on the first device that has kernels.
pub fn run<T: Element>(
    args: &Args,
    kernel: Option<Kernel>,
    problems: &[Problem],
    out: &Output,
) -> anyhow::Result<()> {
    if args.plot.is_some() {
        bail!(
            "--plot draws times over a roofline, which is not measured for a device; --backend cpu has one"
        );
    }
    if let Some(file) = &args.markdown {
        machine::ensure_writable(file, &[])?;
    }
    let device = Device::first_supported()?;
    let l2 = device.l2_cache()?;
    let mut peers = match &args.peers {
        Some(script) => {
            check_comparable::<T>(args, problems)?;
            let _progress = Progress::spinner("starting the peers");
            Some(Peers::start(Settings {
                script: script.clone(),
                names: args.peer.clone(),
                ordinal: device.ordinal(),
                nodes: NODES,
                budget: BUDGET,
                warm: args.warm,
            })?)
        }
        None => None,
    };
    let (copy_rate, copy_bytes) = replay::copy_rate(&device, l2)?;
    let mut report = Report {
        command_line: std::iter::once("nvfp4".to_owned())
            .chain(std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()))
            .collect::<Vec<_>>()
            .join(" "),
        device: Hardware::of(&device, l2),
        state_after: None,
        data: args.data.to_string(),
        seed: args.seed,
        gate: gate_text(&args.gate),
        out_dtype: args.out_dtype.to_string(),
        l2_cold: !args.warm,
        programmatic_launch: args.programmatic,
        rounds: args.rounds.unwrap_or(if peers.is_some() { 3 } else { 1 }),
        copy_gb_per_s: copy_rate / 1e9,
        peers: peers.as_ref().map(|peers| peers.about().clone()),
        results: Vec::new(),
    };
    print_head(out, &report, copy_bytes)?;
    let table = start_table(out, problems)?;
    let progress = Progress::bar(problems.len(), "");
    for problem in problems {
        progress.message(shape_text(problem));
        let bench = Bench { args, kernel, device: &device, l2, copy_rate, rounds: report.rounds };
        let row =
            bench.measure::<T>(*problem, peers.as_mut()).with_context(|| shape_text(problem))?;
        progress.suspend(|| print_row(out, &table, &row))?;
        progress.step();
        report.results.push(row);
    }
    drop(progress);
    report.state_after = State::now(device.ordinal());
    let page = versus::page(&report);
    if report.peers.is_some() {
        out.line("")?;
        out.line(&page)?;
    }
    if let Some(file) = &args.markdown {
        checkpoint::write_file(file, &page)?;
    }
    out.json(true, &report)
}

/// Peers compute silu in fp16, one matrix at a time.
fn check_comparable<T: Element>(args: &Args, problems: &[Problem]) -> anyhow::Result<()> {
    ensure!(args.gate == Gate::Silu, "--peers: the peers have no gate but silu");
    ensure!(T::DTYPE == DType::F16, "--peers: the peers have no output but f16");
    if let Some(problem) = problems.iter().find(|problem| problem.batch != 1) {
        bail!("--peers: the peers take no batch, as of {}", shape_text(problem));
    }
    Ok(())
}

/// What the measurements of all shapes have in common.
struct Bench<'a> {
    args: &'a Args,
    kernel: Option<Kernel>,
    device: &'a Device,
    l2: usize,
    copy_rate: f64,
    rounds: usize,
}

impl Bench<'_> {
    fn measure<T: Element>(
        &self,
        problem: Problem,
        peers: Option<&mut Peers>,
    ) -> anyhow::Result<Row> {
        let args = self.args;
        machine::ensure_fits(&problem, T::DTYPE.size())?;
        let operands = Operands::generate(problem, args.data, args.seed)?;
        let gemm = operands.gemm()?.with_gate(args.gate)?;
        let weights = Problem { m: 0, ..problem }.bytes(0) as usize;
        let rotation = Rotation::new(self.l2, weights, args.warm);
        let replay =
            Replay::<T>::prepare(&gemm, self.device, self.kernel, args.programmatic, rotation)?;
        let mut peers = peers;
        let mut contenders = match &mut peers {
            Some(peers) => peers.prepare(&gemm)?,
            None => Vec::new(),
        };
        // Devices have warm and cool spells: rounds give every contender some of both.
        let mut times = Vec::new();
        for _ in 0..self.rounds {
            times.extend(replay.times(Repeat::from_arg(args.repeat, BUDGET))?);
            if let Some(peers) = &mut peers {
                peers.round(&mut contenders);
            }
        }
        let exact = Exact::<T>::new(&gemm, Rows::Some(2))?;
        exact.check(&problem, &replay.result()?).require()?;
        let timing = Timing::of(times).context("no replay was timed")?;
        let plan = replay.plan();
        let gb_per_s = problem.bytes(T::DTYPE.size()) / timing.median / 1e9;
        Ok(Row {
            shape: [problem.m, problem.n, problem.k, problem.batch],
            kernel: plan.kernel().name,
            grid: plan.grid(),
            cluster: plan.cluster(),
            copies: rotation.copies,
            nodes: rotation.nodes,
            cold: rotation.cold,
            tflop_per_s: problem.flops() / timing.median / 1e12,
            gb_per_s,
            share_of_copy_rate: gb_per_s * 1e9 / self.copy_rate,
            peers: contenders.into_iter().flat_map(|peer| peer_rows(peer, &timing)).collect(),
            timing,
        })
    }
}

fn peer_rows(contender: Contender, ours: &Timing) -> Vec<PeerRow> {
    let peer = contender.peer;
    match contender.variants {
        Err(reason) => vec![PeerRow {
            peer,
            variant: String::new(),
            timing: None,
            ratio: None,
            copies: 0,
            relative_error: None,
            failed: Some(reason),
        }],
        Ok(variants) => variants
            .into_iter()
            .map(|(variant, found)| {
                let timing = Timing::of(found.times);
                PeerRow {
                    peer: peer.clone(),
                    variant,
                    ratio: timing.as_ref().map(|timing| timing.median / ours.median),
                    timing,
                    copies: found.copies,
                    relative_error: Some(found.relative_error),
                    failed: None,
                }
            })
            .collect(),
    }
}

impl Hardware {
    fn of(device: &Device, l2: usize) -> Self {
        Hardware {
            name: device.name().to_owned(),
            compute_capability: gpu::dotted(device.compute_capability()),
            sms: device.sm_count(),
            memory_bytes: device.memory(),
            l2_bytes: l2,
            driver: cuda::driver_version().map(|version| version.to_string()),
            toolkit: cuda::TOOLKIT,
            cutlass: cuda::CUTLASS,
        }
    }
}

fn print_head(out: &Output, report: &Report, copied: usize) -> anyhow::Result<()> {
    let device = &report.device;
    out.fields(&[
        (
            "device",
            format!(
                "{}, {}, L2 {}",
                device.name,
                output::count(device.sms, "SM"),
                output::binary_bytes(device.l2_bytes)
            ),
        ),
        (
            "copy rate",
            format!(
                "{} read and written (best of 10 copies of {} within its memory)",
                output::byte_rate(report.copy_gb_per_s * 1e9),
                output::binary_bytes(copied)
            ),
        ),
        ("times", report.method()),
    ])?;
    out.line("")
}

fn start_table(out: &Output, problems: &[Problem]) -> anyhow::Result<Table> {
    let shape_width = problems.iter().map(|p| shape_text(p).len()).max().unwrap_or(0);
    let kernel_width = Kernel::all().map(|kernel| kernel.name().len()).max().unwrap_or(0);
    Table::start(
        out,
        &[
            ("shape", shape_width, Align::Left),
            ("median", 8, Align::Right),
            ("least", 8, Align::Right),
            ("compute", 13, Align::Right),
            ("memory", 10, Align::Right),
            ("of copy rate", 12, Align::Right),
            ("replays", 7, Align::Right),
            ("copies", 9, Align::Right),
            ("grid", 9, Align::Left),
            ("cluster", 7, Align::Left),
            ("kernel", kernel_width, Align::Left),
        ],
    )
}

fn print_row(out: &Output, table: &Table, row: &Row) -> anyhow::Result<()> {
    let [m, n, k, batch] = row.shape;
    let times = |[x, y, z]: [u32; 3]| format!("{x}x{y}x{z}");
    table.row(
        out,
        &[
            shape_text(&Problem { m, n, k, batch }),
            output::time(row.timing.median),
            output::time(row.timing.min),
            output::flop_rate(row.tflop_per_s * 1e12),
            output::byte_rate(row.gb_per_s * 1e9),
            format!("{:.1} %", 100.0 * row.share_of_copy_rate),
            row.timing.runs.to_string(),
            format!("{} {}", row.copies, if row.cold { "cold" } else { "warm" }),
            times(row.grid),
            times(row.cluster),
            row.kernel.to_owned(),
        ],
    )
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::unique_keys;

    pub fn timing(median: f64, min: f64) -> Timing {
        Timing { median, min, runs: 10, warmed_up: true }
    }

    /// One shape and two peers that were not measured on it.
    pub fn report() -> Report {
        let title = |name: &str, title: &str| (name.to_owned(), title.to_owned());
        Report {
            command_line: "nvfp4 bench".to_owned(),
            device: Hardware {
                name: "A GPU".to_owned(),
                compute_capability: "9.0".to_owned(),
                sms: 132,
                memory_bytes: 80 << 30,
                l2_bytes: 50 << 20,
                driver: None,
                toolkit: None,
                cutlass: None,
            },
            state_after: None,
            data: "contest".to_owned(),
            seed: 1,
            gate: "silu".to_owned(),
            out_dtype: "f16".to_owned(),
            l2_cold: true,
            programmatic_launch: false,
            rounds: 3,
            copy_gb_per_s: 2500.0,
            peers: Some(About {
                peers: vec![title("cublas", "cuBLAS"), title("humming", "Humming")],
                versions: [title("torch", "2")].into(),
                tolerance: 1e-3,
                rows: 8,
            }),
            results: vec![Row {
                shape: [256, 4096, 7168, 1],
                kernel: "kernel",
                grid: [64, 2, 1],
                cluster: [2, 1, 1],
                copies: 7,
                nodes: 49,
                cold: true,
                timing: timing(40e-6, 30e-6),
                tflop_per_s: 750.0,
                gb_per_s: 900.0,
                share_of_copy_rate: 0.36,
                peers: Vec::new(),
            }],
        }
    }

    /// Only a GPU gives such a report: its JSON is looked at here.
    #[test]
    fn the_json_has_each_field_once() {
        let peer = |name: &str, variants| Contender { peer: name.to_owned(), variants };
        let found = crate::peers::Variant {
            relative_error: 1e-4,
            copies: 2,
            times: vec![50e-6, 60e-6, 70e-6],
        };
        let mut report = report();
        let row = &mut report.results[0];
        row.peers = peer_rows(peer("cublas", Ok([("one".to_owned(), found)].into())), &row.timing);
        row.peers.extend(peer_rows(peer("humming", Err("no module".to_owned())), &row.timing));
        report.state_after = Some(State {
            driver: "580".to_owned(),
            sm_mhz: "1755".to_owned(),
            sm_mhz_at_most: "1980".to_owned(),
            memory_mhz: "2619".to_owned(),
            power_limit_w: "700".to_owned(),
        });
        let line = output::json_line("bench", true, &report).unwrap();
        assert_eq!(unique_keys::check(&line), Ok(()));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        let keys = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        let sorted = |names: &str| -> Vec<String> {
            let mut names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
            names.sort();
            names
        };
        assert_eq!(
            keys(&value),
            sorted(
                "command version ok command_line device state_after data seed gate out_dtype l2_cold \
                 programmatic_launch rounds copy_gb_per_s peers results"
            )
        );
        assert_eq!(
            (&value["command"], &value["command_line"]),
            (&"bench".into(), &"nvfp4 bench".into())
        );
        let row = &value["results"][0];
        let timing = "median_s min_s runs warmed_up";
        assert_eq!(
            keys(row),
            sorted(&format!(
                "shape kernel grid cluster copies nodes cold {timing} tflop_per_s gb_per_s share_of_copy_rate peers"
            ))
        );
        let peer = "peer variant ratio copies relative_error failed";
        assert_eq!(keys(&row["peers"][0]), sorted(&format!("{peer} {timing}")));
        assert_eq!((&row["peers"][0]["ratio"], &row["peers"][0]["runs"]), (&1.5.into(), &3.into()));
        assert_eq!(keys(&row["peers"][1]), sorted(peer));
        assert_eq!(row["peers"][1]["failed"], "no module");
    }

    #[test]
    fn a_peer_counts_with_its_faster_variant() {
        let variant = |times: &[f64]| crate::peers::Variant {
            relative_error: 1e-4,
            copies: 2,
            times: times.to_vec(),
        };
        let contender = Contender {
            peer: "cublas".to_owned(),
            variants: Ok([
                ("one".to_owned(), variant(&[60e-6, 10e-6, 61e-6])),
                ("two".to_owned(), variant(&[50e-6, 51e-6, 49e-6])),
                ("untimed".to_owned(), variant(&[])),
            ]
            .into()),
        };
        let mut row = report().results.remove(0);
        row.peers = peer_rows(contender, &row.timing);
        let fastest = row.fastest("cublas").unwrap();
        assert_eq!((&*fastest.variant, fastest.ratio), ("two", Some(1.25)));
        assert!(row.fastest("humming").is_none());
    }
}
