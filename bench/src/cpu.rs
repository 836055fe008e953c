//! The CPU's engines: times next to the roofline of this machine.

use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use nvfp4_dual_gemm::synth::Operands;
use nvfp4_dual_gemm::{Backend, Element, Engine, GemmShape};
use nvfp4_harness::check::{Exact, Rows};
use nvfp4_harness::notation::{glu_text, shape_text};
use nvfp4_harness::prepared::Prepared;
use nvfp4_harness::system;
use nvfp4_harness::timer::{Repeat, Timing, measure};

use crate::Settings;
use crate::roofline::{self, Memory, Peak};

/// What was measured, on what, and how.
#[derive(Serialize)]
pub struct Report {
    /// Model of the CPU.
    pub cpu: String,
    /// Threads of the engines.
    pub threads: usize,
    /// Kind of the operands.
    pub data: String,
    /// Seed of the operands.
    pub seed: u64,
    /// The gate.
    pub glu: String,
    /// Type of C.
    pub out_dtype: String,
    /// Whether operands come from DRAM in each run.
    pub caches_emptied: bool,
    /// What DRAM gives to all threads.
    pub dram_read_gb_per_s: f64,
    /// Of each engine that has one.
    pub peaks: Vec<PathPeak>,
    /// Sizes and engines, in the order of the measurements.
    pub results: Vec<Row>,
    /// Where the plot is, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plot: Option<String>,
}

/// The peak that an engine is held against.
#[derive(Serialize)]
pub struct PathPeak {
    /// Name of the engine.
    pub path: String,
    /// Its fastest unit.
    #[serde(flatten)]
    pub peak: Peak,
}

/// An engine on one size.
#[derive(Serialize)]
pub struct Row {
    /// M, N, K, batch.
    pub shape: [usize; 4],
    /// Name of the engine.
    pub path: String,
    /// Of a run.
    #[serde(flatten)]
    pub timing: Timing,
    /// Operations over the median.
    pub gflop_per_s: f64,
    /// Packed operands and C, over the median.
    pub gb_per_s: f64,
    /// The least time that this machine could take; `None` where it is not measured.
    pub roofline_s: Option<f64>,
    /// What the roofline is made of: memory or compute.
    pub bound_by: Option<&'static str>,
    /// Median over roofline; 1 is the most that this machine could do.
    pub time_over_roofline: Option<f64>,
}

/// Engines and the roofline, ready to measure.
pub struct Bench {
    settings: Settings,
    /// With the peak of its units; `None`: the oracle, which computes in portable code.
    engines: Vec<(Engine, Option<Peak>)>,
    memory: Memory,
    bandwidth: f64,
}

impl Bench {
    /// Measures DRAM and the peaks.
    pub fn new(settings: Settings, engines: &[Engine]) -> Self {
        let memory = Memory::allocate();
        let bandwidth = memory.bandwidth();
        let peak = |engine: &Engine| (engine.clone(), engine.isa().map(roofline::peak));
        let engines = engines.iter().map(peak).collect();
        Bench { settings, engines, memory, bandwidth }
    }

    /// Bytes of the buffer that DRAM was measured with.
    pub fn buffer_bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// The report on C in `T`, without results yet.
    pub fn report<T: Element>(&self) -> Report {
        let peak = |(engine, peak): &(Engine, Option<Peak>)| {
            Some(PathPeak { path: engine.to_string(), peak: peak.clone()? })
        };
        let Settings { data, seed, glu, warm, .. } = self.settings;
        Report {
            cpu: system::cpu_model(),
            threads: rayon::current_num_threads(),
            data: data.to_string(),
            seed,
            glu: glu_text(&glu),
            out_dtype: T::DTYPE.to_string(),
            caches_emptied: !warm,
            dram_read_gb_per_s: self.bandwidth / 1e9,
            peaks: self.engines.iter().filter_map(peak).collect(),
            results: Vec::new(),
            plot: None,
        }
    }

    /// Measures one size on each engine, and checks two rows of each C, but of the oracle's; `doing` hears of each step, `done` of each result.
    ///
    /// # Errors
    /// Those of the engines and of `done`; C that differs from the oracle's.
    pub fn measure<T: Element>(
        &self,
        problem: &GemmShape,
        doing: impl Fn(String),
        mut done: impl FnMut(Row) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let Settings { data, seed, glu, warm, repeat } = self.settings;
        doing(format!("{} operands", shape_text(problem)));
        let operands = Operands::generate(*problem, data, seed)?;
        let gemm = operands.gemm()?.with_glu(glu)?;
        let exact = Exact::<T>::new(&gemm, Rows::Some(2))?;
        let mut c = vec![T::default(); problem.batch * problem.m * problem.n];
        for (engine, peak) in &self.engines {
            doing(format!("{} {engine}", shape_text(problem)));
            let empty_caches = || {
                if !warm {
                    self.memory.read();
                }
            };
            let repeat = Repeat::from_arg(repeat, Duration::from_secs(1));
            let prepared = Prepared::new(engine, &gemm)?;
            let timing = measure(repeat, empty_caches, || prepared.run(&mut c))?;
            prepared.fetch(&mut c)?;
            if engine.backend() != Backend::Oracle {
                let check = exact.check(problem, &c, engine.bound(problem.k, 2));
                check.require().with_context(|| format!("{} on {engine}", shape_text(problem)))?;
            }
            let floor = peak.as_ref().map(|peak| {
                let flop_per_s = peak.gflop_per_s * 1e9;
                roofline::floor(problem, T::DTYPE.size(), self.bandwidth, flop_per_s)
            });
            done(Row {
                shape: [problem.m, problem.n, problem.k, problem.batch],
                path: engine.to_string(),
                gflop_per_s: problem.flops() / timing.median / 1e9,
                gb_per_s: problem.bytes(T::DTYPE.size()) / timing.median / 1e9,
                roofline_s: floor.map(|(seconds, _)| seconds),
                bound_by: floor.map(|(_, memory)| if memory { "memory" } else { "compute" }),
                time_over_roofline: floor.map(|(seconds, _)| timing.median / seconds),
                timing,
            })?;
        }
        Ok(())
    }
}
