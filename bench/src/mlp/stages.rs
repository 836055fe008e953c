//! The stages of a layer on a device, each in a graph of its own.

use nvfp4_dual_gemm::cuda::{
    BoundPlan, DeviceBuffer, DeviceView, Io, LayerPlan, Quantizer, RoundFirst, Stream,
};
use nvfp4_dual_gemm::{Result, Stage, bf16};
use nvfp4_harness::timer::{Repeat, Timing};

use super::{Layer, Mode};
use crate::graph_timer::{GraphTimer, Rotation};

/// Times of stages, in the order of the layer: those that a launch of it queues, with its own plans.
pub struct Stages {
    /// With the stages that are timed.
    stages: Vec<(Stage, GraphTimer, Vec<f64>)>,
}

/// One launch, with the copy of the weights of that number.
type Launch<'a> = Box<dyn Fn(usize, &Stream) -> Result<()> + 'a>;

impl Stages {
    /// Runs each stage once and captures it. K and N are multiples of 32.
    ///
    /// # Errors
    /// Those of the device.
    pub fn capture(
        layer: &Layer,
        mode: Mode,
        plans: &[&LayerPlan],
        x: &DeviceView<bf16>,
        rotation: Rotation,
        stream: &Stream,
    ) -> Result<Self> {
        let (k, n) = (layer.shape().k, layer.shape().n);
        let rows = x.len() / k;
        let y = DeviceBuffer::<bf16>::alloc(rows * layer.shape().h, stream.device())?;
        let mut workspace_bytes = 0;
        for plan in plans.iter().flat_map(|layer| [Some(layer.plan()), layer.down_plan()]).flatten()
        {
            workspace_bytes = workspace_bytes.max(plan.workspace_bytes(rows)?);
        }
        let workspace = DeviceBuffer::<u8>::alloc(workspace_bytes, stream.device())?;
        let bind = |down: bool, io: Io<'_>| -> Result<Vec<BoundPlan>> {
            let io = io.workspace(&workspace);
            let chosen = plans.iter().filter_map(|layer| match down {
                true => layer.down_plan(),
                false => Some(layer.plan()),
            });
            chosen.map(|plan| plan.bind(&io)).collect()
        };
        fn launch<'a>(plans: Vec<BoundPlan>) -> Launch<'a> {
            Box::new(move |copy, stream| plans[copy].launch(stream))
        }
        if mode == Mode::W4A16 {
            let h = DeviceBuffer::<bf16>::alloc(rows * n, stream.device())?;
            let gate_up = bind(false, Io::of_values(x, rows, &h))?;
            let down = bind(true, Io::of_values(&h, rows, &y))?;
            let stages = vec![(Stage::GateUp, launch(gate_up)), (Stage::Down, launch(down))];
            return Self::of(stages, rotation, stream);
        }
        let known =
            |scale: Result<Option<f32>>| scale.map(|scale| scale.filter(|_| mode == Mode::W4A4));
        let of_x = quantizer(rows, k, known(layer.weights().input_scale())?, stream)?;
        let of_h = quantizer(rows, n, known(layer.weights().down_input_scale())?, stream)?;
        let (x_scale, h_scale) = (of_x.global_scale(), of_h.global_scale());
        let (a, h) = (of_x.matrix(), of_h.matrix());
        let in_epilogue = plans.iter().all(|plan| plan.quantizes_in_epilogue());
        let values = match in_epilogue {
            true => None,
            false => Some(DeviceBuffer::<f32>::alloc(rows * n, stream.device())?),
        };
        let quantize_x: Launch<'_> = Box::new(|_, stream| of_x.quantize(x, stream));
        let mut stages = vec![(Stage::X, quantize_x)];
        let gate_up = match &values {
            None => Io::to_nvfp4(a, h, RoundFirst::None),
            Some(values) => Io::new(a, values),
        };
        stages.push((Stage::GateUp, launch(bind(false, gate_up.factors(&x_scale, &x_scale))?)));
        if let Some(values) = &values {
            let quantize_h: Launch<'_> = Box::new(|_, stream| of_h.quantize(values, stream));
            stages.push((Stage::H, quantize_h));
        }
        let down = Io::new(h, &y).factors(&h_scale, &h_scale);
        stages.push((Stage::Down, launch(bind(true, down)?)));
        Self::of(stages, rotation, stream)
    }

    fn of(stages: Vec<(Stage, Launch<'_>)>, rotation: Rotation, stream: &Stream) -> Result<Self> {
        // In order, so that each finds what the one before wrote.
        for (_, launch) in &stages {
            (0..rotation.copies).try_for_each(|copy| launch(copy, stream))?;
        }
        stream.synchronize()?;
        let capture = |(name, launch): (Stage, Launch<'_>)| {
            Ok((name, GraphTimer::capture(stream, rotation, launch)?, Vec::new()))
        };
        Ok(Stages { stages: stages.into_iter().map(capture).collect::<Result<_>>()? })
    }

    /// Times each of them once more.
    ///
    /// # Errors
    /// Those of the device.
    pub fn time(&mut self, repeat: Repeat) -> Result<()> {
        for (_, timer, times) in &mut self.stages {
            times.extend(timer.times(repeat)?);
        }
        Ok(())
    }

    /// Their names and times, but for those without one.
    pub fn timings(self) -> impl Iterator<Item = (Stage, Timing)> {
        self.stages.into_iter().filter_map(|(name, _, times)| Some((name, Timing::of(times)?)))
    }
}

fn quantizer(rows: usize, k: usize, scale: Option<f32>, stream: &Stream) -> Result<Quantizer> {
    match scale {
        Some(scale) => Quantizer::with_scale(1, rows, k, scale, stream),
        None => Quantizer::dynamic(1, rows, k, stream),
    }
}
