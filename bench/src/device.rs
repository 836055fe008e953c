//! A device: times by its own clock, alone or in turns with peers.

use std::marker::PhantomData;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::Serialize;

use nvfp4_dual_gemm::cuda::{Device, Kernel};
use nvfp4_dual_gemm::oracle::Bound;
use nvfp4_dual_gemm::synth::Operands;
use nvfp4_dual_gemm::{DType, Element, GemmShape, Glu};
use nvfp4_harness::check::{Exact, Rows};
use nvfp4_harness::notation::shape_text;
use nvfp4_harness::system;
use nvfp4_harness::timer::{Repeat, Timing};

use crate::clocks::State;
use crate::graph_timer::{self, NODES, Replay, Rotation};
use crate::peers::{self, Contender, Peers};
use crate::report::{self, Head, OnDevice};

/// For the replays of each contender, each round.
pub(crate) const BUDGET: Duration = Duration::from_millis(250);

/// What was measured, on what, and how.
#[derive(Serialize)]
pub struct Report {
    /// Of any report.
    #[serde(flatten)]
    pub head: Head,
    /// On what.
    #[serde(flatten)]
    pub machine: OnDevice,
    /// Kind of the operands.
    pub data: String,
    /// Type of C.
    pub out_dtype: String,
    /// Whether weights come from DRAM, where there is room for their copies.
    pub l2_cold: bool,
    /// Programmatic dependent launch of ours.
    pub programmatic_launch: bool,
    /// A row for each size.
    pub results: Vec<Row>,
}

/// One size.
#[derive(Serialize)]
pub struct Row {
    /// M, N, K, batch.
    pub shape: [usize; 4],
    /// Name of the kernel.
    pub kernel: &'static str,
    /// Thread blocks.
    pub grid: [u32; 3],
    /// Thread blocks of a cluster.
    pub cluster: [u32; 3],
    /// Copies of the weights.
    pub copies: usize,
    /// Launches of the graph.
    pub nodes: usize,
    /// Whether weights come from DRAM: their copies are more than four times the L2.
    pub cold: bool,
    /// Of a launch.
    #[serde(flatten)]
    pub timing: Timing,
    /// Operations over the median.
    pub tflop_per_s: f64,
    /// Packed operands and C, over the median.
    pub gb_per_s: f64,
    /// `gb_per_s` over that of a copy.
    pub share_of_copy_rate: f64,
    /// Each variant of each peer.
    pub peers: Vec<PeerRow>,
}

/// A variant of a peer on one shape.
#[derive(Serialize)]
pub struct PeerRow {
    /// Name of the peer.
    pub peer: String,
    /// One way of it to compute C.
    pub variant: String,
    /// Of a call.
    #[serde(flatten)]
    pub timing: Option<Timing>,
    /// Its median over ours.
    pub ratio: Option<f64>,
    /// Copies of its weights.
    pub copies: usize,
    /// ‖error‖ over ‖C‖.
    pub relative_error: Option<f64>,
    /// Why it has no times.
    pub failed: Option<String>,
}

impl Row {
    /// The variant of a peer with the least median.
    pub fn fastest(&self, peer: &str) -> Option<&PeerRow> {
        report::fastest(&self.peers, peer, |row| (&row.peer, row.timing.as_ref()))
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
            "replays of CUDA graphs of at least {NODES} launches, timed by events, {caches}; {}; {} data, seed {}, \
             GLU {}, C in {}{}",
            self.head.turns(),
            self.data,
            self.head.seed,
            self.head.glu,
            self.out_dtype,
            if self.programmatic_launch { "; programmatic launch" } else { "" }
        )
    }
}

/// How a device is measured.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is measured.
    pub device: Device,
    /// Operands, GLU and what the caches hold.
    pub common: crate::Settings,
    /// `None`: the one that the shape gets.
    pub kernel: Option<Kernel>,
    /// Programmatic dependent launch.
    pub programmatic: bool,
    /// Rounds, in turns with the peers; `None`: 3 with peers, else 1.
    pub rounds: Option<usize>,
    /// Peers to take turns with.
    pub peers: Option<peers::Choice>,
}

/// The device and the peers, ready to measure C in `T`.
pub struct Bench<T> {
    settings: Settings,
    device: Device,
    l2: usize,
    peers: Option<Peers>,
    copy_rate: f64,
    copy_bytes: usize,
    rounds: usize,
    output: PhantomData<T>,
}

impl<T: Element> Bench<T> {
    /// Opens the device, starts the peers and measures a copy.
    ///
    /// # Errors
    /// Those of the device and of the script; a GLU, a type of C or one of `problems` that the peers do not have.
    pub fn new(settings: Settings, problems: &[GemmShape]) -> anyhow::Result<Self> {
        let device = settings.device.clone();
        let l2 = device.l2_cache()?;
        let peers = match &settings.peers {
            Some(choice) => {
                check_comparable::<T>(settings.common.glu, problems)?;
                Some(Peers::start(peers::Settings::on_device(
                    choice.clone(),
                    peers::DUAL_GEMM,
                    device.ordinal(),
                    NODES,
                    BUDGET,
                    settings.common.warm,
                ))?)
            }
            None => None,
        };
        let (copy_rate, copy_bytes) = graph_timer::copy_rate(&device, l2)?;
        let rounds = settings.rounds.unwrap_or(if peers.is_some() { 3 } else { 1 });
        let output = PhantomData;
        Ok(Bench { settings, device, l2, peers, copy_rate, copy_bytes, rounds, output })
    }

    /// Bytes of the copy that was measured.
    pub fn copy_bytes(&self) -> usize {
        self.copy_bytes
    }

    /// The clocks now.
    pub fn state(&self) -> Option<State> {
        State::now(self.device.ordinal())
    }

    /// The report, without results yet; `command_line` as it was typed.
    pub fn report(&self, command_line: String) -> Report {
        let common = &self.settings.common;
        Report {
            head: Head::new(command_line, common, self.rounds, self.peers.as_ref()),
            machine: OnDevice::new(&self.device, self.l2, self.copy_rate),
            data: common.data.to_string(),
            out_dtype: T::DTYPE.to_string(),
            l2_cold: !common.warm,
            programmatic_launch: self.settings.programmatic,
            results: Vec::new(),
        }
    }

    /// Measures one size, and checks two rows of its C.
    ///
    /// # Errors
    /// Those of the device; C that differs from the oracle's, or between copies of the operands.
    pub fn measure(&mut self, problem: GemmShape) -> anyhow::Result<Row> {
        system::ensure_fits(&problem, T::DTYPE.size())?;
        let crate::Settings { data, seed, glu, warm, repeat } = self.settings.common;
        let operands = Operands::generate(problem, data, seed)?;
        let gemm = operands.gemm()?.with_glu(glu)?;
        let weights = GemmShape { m: 0, ..problem }.bytes(0) as usize;
        let rotation = Rotation::new(self.l2, weights, warm);
        let Settings { kernel, programmatic, .. } = self.settings;
        let replay = Replay::<T>::prepare(&gemm, &self.device, kernel, programmatic, rotation)?;
        let mut contenders = match &mut self.peers {
            Some(peers) => peers.prepare(&gemm)?,
            None => Vec::new(),
        };
        // Devices have warm and cool spells: rounds give every contender some of both.
        let mut times = Vec::new();
        for _ in 0..self.rounds {
            times.extend(replay.times(Repeat::from_arg(repeat, BUDGET))?);
            if let Some(peers) = &mut self.peers {
                peers.round(&mut contenders);
            }
        }
        let exact = Exact::<T>::new(&gemm, Rows::Some(2))?;
        let bound = Bound::on(self.device.compute_capability(), problem.k, 2);
        exact.check(&problem, &replay.result()?, bound).require()?;
        let timing = Timing::of(times).context("no replay was timed")?;
        let plan = replay.plan();
        let gb_per_s = problem.bytes(T::DTYPE.size()) / timing.median / 1e9;
        Ok(Row {
            shape: [problem.m, problem.n, problem.k, problem.batch],
            kernel: plan.kernel().name,
            grid: plan.launch_shape().grid,
            cluster: plan.launch_shape().cluster,
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

/// Peers compute silu in fp16, one matrix at a time.
fn check_comparable<T: Element>(glu: Glu, problems: &[GemmShape]) -> anyhow::Result<()> {
    ensure!(glu == Glu::Swiglu, "--peers: the peers have no GLU but swiglu");
    ensure!(T::DTYPE == DType::F16, "--peers: the peers have no output but f16");
    if let Some(problem) = problems.iter().find(|problem| problem.batch != 1) {
        bail!("--peers: the peers take no batch, as of {}", shape_text(problem));
    }
    Ok(())
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::report::tests::{head, on_device};
    use nvfp4_harness::json;

    pub(crate) fn timing(median: f64, min: f64) -> Timing {
        Timing { median, min, runs: 10, warmed_up: true }
    }

    /// One shape and two peers that were not measured on it.
    pub(crate) fn report() -> Report {
        Report {
            head: head("nvfp4 bench", 1e-3),
            machine: on_device(),
            data: "contest".to_owned(),
            out_dtype: "f16".to_owned(),
            l2_cold: true,
            programmatic_launch: false,
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
            weight_bytes: None,
            times: vec![50e-6, 60e-6, 70e-6],
        };
        let mut report = report();
        let row = &mut report.results[0];
        row.peers = peer_rows(peer("cublas", Ok([("one".to_owned(), found)].into())), &row.timing);
        row.peers.extend(peer_rows(peer("humming", Err("no module".to_owned())), &row.timing));
        report.machine.state_after = Some(State {
            driver: "580".to_owned(),
            sm_mhz: "1755".to_owned(),
            sm_mhz_at_most: "1980".to_owned(),
            memory_mhz: "2619".to_owned(),
            power_limit_w: "700".to_owned(),
        });
        let line = json::line("bench", "1", true, &report).unwrap();
        assert_eq!(json::check_keys(&line), Ok(()));
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
                "command version ok command_line device state_after data seed glu out_dtype l2_cold \
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
            weight_bytes: None,
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
