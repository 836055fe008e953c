//! Whole MLPs on a device: times by its own clock, alone or in turns with peers.

use anyhow::{Context, bail};

use nvfp4_dual_gemm::cuda::{Device, DeviceBuffer, LayerPlan, Stream};
use nvfp4_dual_gemm::{Engine, Error, bf16};
use nvfp4_harness::timer::{Repeat, Timing};

use super::report::{Machine, Measured, Memory, Ours, Report, Row, Stage};
use super::stages::Stages;
use super::{Layer, Mode, Settings, check_comparable, checked};
use crate::clocks::State;
use crate::device::BUDGET;
use crate::graph_timer::{self, GraphTimer, Rotation, one_of_all};
use crate::peers::{self, Peers};
use crate::report::{Head, OnDevice};

/// Launches of a graph, at least; each is of three kernels or more.
const NODES: usize = 24;

/// An engine on a device and the peers, ready to measure layers.
pub struct Bench {
    settings: Settings,
    engine: Engine,
    device: Device,
    l2: usize,
    peers: Option<Peers>,
    copy_rate: f64,
    copy_bytes: usize,
}

/// A layer on the device in each mode, each as often as its copies of the weights.
pub struct Loaded<'a> {
    layer: &'a Layer,
    rotation: Rotation,
    modes: Vec<(Mode, Result<Vec<nvfp4_dual_gemm::Layer>, String>)>,
}

/// A mode with one number of tokens.
struct Contestant<'a> {
    layer: &'a nvfp4_dual_gemm::Layer,
    plan: &'a LayerPlan,
    whole: GraphTimer,
    results: Vec<DeviceBuffer<bf16>>,
    scratch: DeviceBuffer<u8>,
    stages: Stages,
    times: Vec<f64>,
}

impl Bench {
    /// Starts the peers and measures a copy.
    ///
    /// # Errors
    /// An engine that is no device; those of the device and of the script; a GLU that the peers do not have.
    pub fn new(settings: Settings, engine: &Engine) -> anyhow::Result<Self> {
        let device = engine.device().context("the engine is no CUDA device")?.clone();
        let l2 = device.l2_cache()?;
        let peers = match &settings.peers {
            Some(choice) => {
                check_comparable(settings.common.glu)?;
                let warm = settings.common.warm;
                let (choice, ordinal) = (choice.clone(), device.ordinal());
                Some(Peers::start(peers::Settings::on_device(
                    choice,
                    peers::MLP,
                    ordinal,
                    NODES,
                    BUDGET,
                    warm,
                ))?)
            }
            None => None,
        };
        let (copy_rate, copy_bytes) = graph_timer::copy_rate(&device, l2)?;
        let engine = engine.clone();
        Ok(Bench { settings, engine, device, l2, peers, copy_rate, copy_bytes })
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
            head: Head::new(command_line, common, self.settings.rounds(), self.peers.as_ref()),
            machine: Machine::Device(OnDevice::new(&self.device, self.l2, self.copy_rate)),
            cold: !common.warm,
            results: Vec::new(),
        }
    }

    /// Brings a layer to the device in each mode. What the device has no kernel for is noted.
    ///
    /// # Errors
    /// Those of [`Engine::load`] otherwise.
    pub fn load<'a>(&self, layer: &'a Layer) -> anyhow::Result<Loaded<'a>> {
        // Those of a stage alone are not to be in L2, either.
        let bytes = layer.shape().least_weight_bytes();
        let rotation = Rotation::new(self.l2, bytes, self.settings.common.warm).with_nodes(NODES);
        let mut modes = Vec::new();
        for &mode in &self.settings.modes {
            let load = |_| self.engine.load(layer.weights().clone(), &mode.spec());
            let layers = match (0..rotation.copies).map(load).collect::<Result<Vec<_>, Error>>() {
                Ok(layers) => Ok(layers),
                // A precision that the device does not compute in.
                Err(error) if mode == Mode::W4A16 => Err(error.to_string()),
                Err(error) => return Err(error.into()),
            };
            modes.push((mode, layers));
        }
        Ok(Loaded { layer, rotation, modes })
    }

    /// Measures a layer with so many tokens, and checks two rows of each y.
    ///
    /// # Errors
    /// Those of the device; y that differs from the oracle's, or between copies of the weights.
    pub fn measure(&mut self, loaded: &Loaded<'_>, rows: usize) -> anyhow::Result<Row> {
        let Loaded { layer, rotation, modes } = loaded;
        let shape = layer.shape();
        let x = layer.input(rows);
        let stream = Stream::new(&self.device)?;
        let on_device = DeviceBuffer::from_host(&x, &stream)?;
        let mut contestants = Vec::new();
        for (mode, layers) in modes {
            let contestant = match layers {
                Ok(layers) => {
                    Ok(Contestant::prepare(layer, *mode, layers, &on_device, *rotation, &stream)?)
                }
                Err(reason) => Err(reason.clone()),
            };
            contestants.push((*mode, contestant));
        }
        let mut contenders = match &mut self.peers {
            Some(peers) => peers.prepare_layer(layer, &x, rows)?,
            None => Vec::new(),
        };
        let repeat = Repeat::from_arg(self.settings.common.repeat, BUDGET);
        // Devices have warm and cool spells: rounds give every contender some of both.
        for _ in 0..self.settings.rounds() {
            for contestant in contestants.iter_mut().filter_map(|(_, found)| found.as_mut().ok()) {
                let times = contestant.whole.times(repeat)?;
                contestant.times.extend(times);
                contestant.stages.time(repeat)?;
            }
            if let Some(peers) = &mut self.peers {
                peers.round(&mut contenders);
            }
        }
        let mut ours = Vec::new();
        for (mode, contestant) in contestants {
            let name = mode.title().to_owned();
            let (measured, failed) = match contestant {
                Ok(contestant) => {
                    let y = one_of_all(&contestant.results, &stream)?;
                    contestant.plan.check(&contestant.scratch, rows, &stream)?;
                    let of_y = checked(contestant.layer, &x, rows, &y);
                    let relative_error = of_y.with_context(|| name.clone())?;
                    (Some(contestant.measured(layer, rows, rotation, relative_error)?), None)
                }
                Err(reason) => (None, Some(reason)),
            };
            ours.push(Ours { name, measured, failed });
        }
        Ok(Row::new(shape, rows, ours, contenders))
    }
}

impl<'a> Contestant<'a> {
    /// Runs each copy once, and captures the whole layer and its stages.
    fn prepare(
        layer: &Layer,
        mode: Mode,
        layers: &'a [nvfp4_dual_gemm::Layer],
        x: &DeviceBuffer<bf16>,
        rotation: Rotation,
        stream: &Stream,
    ) -> anyhow::Result<Self> {
        let plans: Option<Vec<&LayerPlan>> = layers.iter().map(|layer| layer.on_device()).collect();
        let plans = plans.context("a layer that is not on the device")?;
        let (Some(&plan), Some(first)) = (plans.first(), layers.first()) else {
            bail!("no copy of the layer")
        };
        let rows = x.len() / plan.k();
        let scratch = DeviceBuffer::<u8>::zeroed(plan.scratch_bytes(rows)?, stream)?;
        let mut results = Vec::new();
        for plan in &plans {
            let y = DeviceBuffer::<bf16>::alloc(rows * plan.n(), stream.device())?;
            plan.launch(x, rows, &y, &scratch, stream)?;
            results.push(y);
        }
        stream.synchronize()?;
        for y in &results {
            // NaN: what a replay leaves unwritten fails the check.
            y.fill_bytes(0xff, stream)?;
        }
        let whole = GraphTimer::capture(stream, rotation, |copy, stream| {
            plans[copy].launch(x, rows, &results[copy], &scratch, stream)
        })?;
        let stages = Stages::capture(layer, mode, &plans, x, rotation, stream)?;
        Ok(Contestant { layer: first, plan, whole, results, scratch, stages, times: Vec::new() })
    }

    fn measured(
        self,
        layer: &Layer,
        rows: usize,
        rotation: &Rotation,
        relative_error: f64,
    ) -> anyhow::Result<Measured> {
        let timing = Timing::of(self.times).context("no replay was timed")?;
        let plans = std::iter::once(self.plan.plan()).chain(self.plan.down_plan());
        let (mut kernels, mut weight_bytes) = (Vec::new(), 0);
        for plan in plans {
            kernels.push(plan.kernel(rows)?.name);
            weight_bytes += plan.weights().bytes();
        }
        let shape = layer.shape();
        let (flops, value_bytes) = (shape.flops(rows), shape.value_bytes(rows));
        let bytes = (shape.weight_bytes() + value_bytes) as f64;
        Ok(Measured {
            tflop_per_s: flops / timing.median / 1e12,
            gb_per_s: bytes / timing.median / 1e9,
            timing,
            copies: rotation.copies,
            nodes: rotation.nodes,
            kernels,
            relative_error,
            memory: Memory { weight_bytes, value_bytes, scratch_bytes: Some(self.scratch.len()) },
            stages: self
                .stages
                .timings()
                .map(|(stage, timing)| Stage { stage: stage.to_string(), timing })
                .collect(),
        })
    }
}
