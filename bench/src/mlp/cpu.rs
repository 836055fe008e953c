//! Whole MLPs on the CPU's engines, alone or in turns with peers.

use std::time::Duration;

use anyhow::Context;

use nvfp4_dual_gemm::{Engine, bf16};
use nvfp4_harness::system;
use nvfp4_harness::timer::{Repeat, Timing, run_times};

use super::report::{Machine, Measured, Memory, Ours, Report, Row};
use super::{Layer, Settings, check_comparable, checked};
use crate::peers::{self, Peers};
use crate::report::Head;
use crate::roofline;

/// For the runs of each contender, each round.
const BUDGET: Duration = Duration::from_secs(1);

/// Engines and the peers, ready to measure layers.
pub struct Bench {
    settings: Settings,
    engines: Vec<Engine>,
    memory: roofline::Memory,
    bandwidth: f64,
    peers: Option<Peers>,
}

/// An engine in a mode with one layer.
struct Contestant {
    name: String,
    layer: nvfp4_dual_gemm::Layer,
    times: Vec<f64>,
    y: Vec<bf16>,
}

impl Bench {
    /// Measures DRAM and starts the peers.
    ///
    /// # Errors
    /// Those of the script; a GLU that the peers do not have.
    pub fn new(settings: Settings, engines: &[Engine]) -> anyhow::Result<Self> {
        if settings.peers.is_some() {
            check_comparable(settings.common.glu)?;
        }
        let memory = roofline::Memory::allocate();
        let bandwidth = memory.bandwidth();
        let peers = match &settings.peers {
            Some(choice) => {
                // The same cold caches for both.
                let emptied = if settings.common.warm { 0 } else { memory.bytes() };
                let options = [
                    ("--threads", rayon::current_num_threads().to_string()),
                    ("--budget", BUDGET.as_secs_f64().to_string()),
                    ("--empty-caches", emptied.to_string()),
                ];
                let arguments =
                    options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
                let (choice, arguments) = (choice.clone(), arguments.collect());
                Some(Peers::start(peers::Settings { choice, script: peers::MLP_CPU, arguments })?)
            }
            None => None,
        };
        Ok(Bench { settings, engines: engines.to_vec(), memory, bandwidth, peers })
    }

    /// The report, without results yet; `command_line` as it was typed.
    pub fn report(&self, command_line: String) -> Report {
        let common = &self.settings.common;
        Report {
            head: Head::new(command_line, common, self.settings.rounds(), self.peers.as_ref()),
            machine: Machine::Cpu {
                cpu: system::cpu_model(),
                threads: rayon::current_num_threads(),
                dram_read_gb_per_s: self.bandwidth / 1e9,
            },
            cold: !common.warm,
            results: Vec::new(),
        }
    }

    /// Measures a layer with so many tokens on each engine, and checks two rows of each y.
    ///
    /// # Errors
    /// Those of the engines; y that differs from the oracle's.
    pub fn measure(&mut self, layer: &Layer, rows: usize) -> anyhow::Result<Row> {
        let (shape, x) = (layer.shape(), layer.input(rows));
        let mut contestants = Vec::new();
        for engine in &self.engines {
            for &mode in &self.settings.modes {
                let name = match engine.isa() {
                    Some(isa) => format!("{}, {isa}", mode.title()),
                    None => mode.title().to_owned(),
                };
                let layer = engine.load(layer.weights().clone(), &mode.spec())?;
                let (times, y) = (Vec::new(), vec![bf16::NAN; rows * shape.h]);
                contestants.push(Contestant { name, layer, times, y });
            }
        }
        let mut contenders = match &mut self.peers {
            Some(peers) => peers.prepare_layer(layer, &x, rows)?,
            None => Vec::new(),
        };
        let repeat = Repeat::from_arg(self.settings.common.repeat, BUDGET);
        let empty_caches = || {
            if !self.settings.common.warm {
                self.memory.read();
            }
        };
        // Machines have quiet and noisy spells: rounds give every contender some of both.
        for _ in 0..self.settings.rounds() {
            for Contestant { layer, times, y, .. } in &mut contestants {
                let run = || layer.run(&x, rows, &mut y[..]);
                times.extend(run_times(repeat, empty_caches, run)?.0);
            }
            if let Some(peers) = &mut self.peers {
                peers.round(&mut contenders);
            }
        }
        let memory = Memory {
            weight_bytes: shape.weight_bytes(),
            value_bytes: shape.value_bytes(rows),
            scratch_bytes: None,
        };
        let mut ours = Vec::new();
        for Contestant { name, layer, times, y } in contestants {
            let relative_error = checked(&layer, &x, rows, &y).with_context(|| name.clone())?;
            let timing = Timing::of(times).context("no run was timed")?;
            let bytes = (memory.weight_bytes + memory.value_bytes) as f64;
            let measured = Measured {
                tflop_per_s: shape.flops(rows) / timing.median / 1e12,
                gb_per_s: bytes / timing.median / 1e9,
                timing,
                copies: 1,
                nodes: 1,
                kernels: Vec::new(),
                relative_error,
                memory,
                stages: Vec::new(),
            };
            ours.push(Ours { name, measured: Some(measured), failed: None });
        }
        Ok(Row::new(shape, rows, ours, contenders))
    }
}
