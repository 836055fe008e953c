//! The engine of a CUDA device.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::cuda::{
    Device, DeviceBuffer, DeviceMatrix, Io, Kernel, Lane, LayerPlan, Options, Plan, Stream,
    WeightFormat, Weights,
};
use crate::dtype::Element;
use crate::error::{Error, Operand, Result};
use crate::glu::Glu;
use crate::matrix::Nvfp4View;
use crate::op::{InputScale, Join, MlpWeights, Problem};

/// A device, and the streams and memory of calls with values on the host.
#[derive(Clone)]
pub(super) struct Cuda {
    device: Device,
    /// In place of the one that the number of rows gets.
    kernel: Option<Kernel>,
    lanes: Arc<Mutex<Vec<Lane>>>,
}

impl fmt::Debug for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cuda").field(&self.device).finish()
    }
}

impl Cuda {
    /// The first device that a kernel of this build is for, and a sentence on it.
    pub fn first() -> Result<(Self, String)> {
        Ok(Self::new(Device::first_supported()?))
    }

    pub fn open(ordinal: usize) -> Result<(Self, String)> {
        let device = Device::open(ordinal)?;
        device.require_kernels()?;
        Ok(Self::new(device))
    }

    fn new(device: Device) -> (Self, String) {
        let (major, minor) = device.compute_capability();
        let (ordinal, name) = (device.ordinal(), device.name());
        let reason = format!("device {ordinal}, {name}, compute capability {major}.{minor}");
        (Cuda { device, kernel: None, lanes: Arc::default() }, reason)
    }

    pub fn with_kernel(&self, kernel: Kernel) -> Result<Self> {
        kernel.require(&self.device)?;
        Ok(Cuda { kernel: Some(kernel), ..self.clone() })
    }

    /// How weights are to lie, and what a plan is told.
    fn options(&self, glu: Glu) -> (WeightFormat, Options) {
        let options = Options::default().glu(glu).kernel(self.kernel).constant_weights(true);
        (options.weight_format(), options)
    }

    pub fn kernel(&self) -> Option<Kernel> {
        self.kernel
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Calls `work` with a lane that nobody else uses meanwhile. One that failed is not used again.
    fn with_lane<R>(&self, work: impl FnOnce(&mut Lane) -> Result<R>) -> Result<R> {
        let lanes = || self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let free = lanes().pop();
        let mut lane = free.map_or_else(|| Lane::new(&self.device), Ok)?;
        let result = work(&mut lane)?;
        lanes().push(lane);
        Ok(result)
    }

    /// Packs and uploads.
    pub fn load(
        &self,
        weights: &MlpWeights,
        scale: InputScale,
        known_scale: Option<f32>,
    ) -> Result<LayerPlan> {
        refuse_biases(weights.biases().is_some())?;
        let (format, options) = self.options(weights.glu());
        let on_device = self.with_lane(|lane| {
            Weights::prepare(weights.gate_proj(), weights.up_proj(), format, lane.stream())
        })?;
        let plan = Plan::new(&on_device, &options)?;
        LayerPlan::new(plan, weights.in_features(), scale, known_scale)
    }

    /// Runs a layer with values on the host. After the first call with so many rows nothing is allocated.
    pub fn run_layer<X: Element, Y: Element>(
        &self,
        layer: &LayerPlan,
        x: &[X],
        rows: usize,
        y: &mut [Y],
    ) -> Result<()> {
        self.with_lane(|lane| lane.run(layer, x, rows, y))
    }

    /// Runs operands of the host once.
    pub fn run_into<T: Element>(&self, problem: &Problem<'_>, c: &mut [T]) -> Result<()> {
        refuse_biases(problem.biases.is_some())?;
        let Join::Glu(glu) = problem.join else {
            let (backend, reason) = ("cuda".to_owned(), "a GEMM is not built yet".to_owned());
            return Err(Error::BackendUnavailable { backend, reason });
        };
        self.with_lane(|lane| {
            let stream = lane.stream();
            let (format, options) = self.options(glu);
            let [b1, b2] = problem.weights;
            let weights = Weights::prepare(b1, b2, format, stream)?;
            let plan = Plan::new(&weights, &options)?;
            let (shape, a) = (problem.shape, problem.a.nvfp4()?);
            let Some(row_scales) = problem.row_scales else {
                return run_once(&plan, a, stream, c);
            };
            // A kernel multiplies by one alpha: a launch for each row.
            let rows = row_scales.iter().zip(c.chunks_exact_mut(shape.n)).enumerate();
            for (row, (&scale, c)) in rows {
                let (codes, scales) = (a.row_codes(row), a.row_scales(row));
                run_once(&plan, Nvfp4View::new(1, 1, shape.k, codes, scales, scale)?, stream, c)?;
            }
            Ok(())
        })
    }
}

fn refuse_biases(there: bool) -> Result<()> {
    if there {
        let (backend, reason) = ("cuda".to_owned(), "biases are not built yet".to_owned());
        return Err(Error::BackendUnavailable { backend, reason });
    }
    Ok(())
}

fn run_once<T: Element>(plan: &Plan, a: Nvfp4View<'_>, stream: &Stream, c: &mut [T]) -> Result<()> {
    let a = DeviceMatrix::upload(a, stream).map_err(|e| e.with_operand(Operand::A))?;
    let on_device = DeviceBuffer::alloc(c.len(), stream.device())?;
    let workspace = DeviceBuffer::<u8>::alloc(plan.workspace_bytes(a.rows())?, stream.device())?;
    plan.launch(&Io::new(&a, &on_device).workspace(&workspace), stream)?;
    on_device.download(c, stream)
}
