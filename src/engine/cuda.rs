//! The engine of a CUDA device.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::host::KnownScales;
use crate::cuda::{
    ActivationType, Device, DeviceBuffer, DeviceMatrix, DeviceView, Input, Io, Kernel, Lane,
    LayerPlan, Options, Parts, Plan, Stream, WeightFormat, Weights,
};
use crate::dtype::{Element, Values, each_type};
use crate::error::{CudaError, Error, Operand, Result};
use crate::glu::Glu;
use crate::matrix::{Nvfp4View, ValuesView};
use crate::memory;
use crate::op::{
    ActivationsView, DType16, InputScale, Join, MlpWeights, Precision, Problem, Stage, of_down,
};
use crate::shape::GemmShape;

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
        precision: Precision,
        known: KnownScales,
    ) -> Result<LayerPlan> {
        if matches!(precision, Precision::W4A16 { .. }) {
            self.require_values()?;
        }
        let (format, options) = self.options(weights.glu());
        let (gate_up, down) = self.with_lane(|lane| {
            let stream = lane.stream();
            let gate_up = Weights::prepare(weights.gate_proj(), weights.up_proj(), format, stream)?;
            let gate_up = match weights.biases() {
                Some([gate, up]) => gate_up.with_biases(gate, up, stream)?,
                None => gate_up,
            };
            let Some(down) = weights.down_proj() else { return Ok((gate_up, None)) };
            let on_device = Weights::linear(down, format, stream).map_err(of_down)?;
            let down = match weights.down_bias() {
                Some(bias) => on_device.with_bias(bias, stream).map_err(of_down)?,
                None => on_device,
            };
            Ok((gate_up, Some(down)))
        })?;
        let parts = |activations: ActivationType, x: Input, h: Input| -> Result<Parts> {
            // The kernels of a layer wait for one another, and read nothing but weights before.
            let options = options.clone().activations(activations).programmatic_launch(true);
            let first = Plan::new(&gate_up, &options)?;
            let down = match &down {
                Some(down) => Some((Plan::new(down, &options).map_err(of_down)?, h)),
                None => None,
            };
            let per_row = precision == Precision::W4A4 { scale: InputScale::PerRow };
            Ok(Parts { gate_up: first, input: x, down, k: weights.in_features(), per_row })
        };
        let round = match precision {
            Precision::W4A4 { .. } => {
                let (x, h) = (Input::Nvfp4(known.x), Input::Nvfp4(known.h));
                return LayerPlan::new(parts(ActivationType::Nvfp4, x, h)?, []);
            }
            Precision::W4A16 { round } => round,
        };
        let of_type = |dtype: DType16| {
            let input = Input::Values(dtype.into());
            let activations = match dtype {
                DType16::F16 => ActivationType::F16,
                DType16::Bf16 => ActivationType::Bf16,
            };
            parts(activations, input, input)
        };
        let other = match round {
            DType16::F16 => DType16::Bf16,
            DType16::Bf16 => DType16::F16,
        };
        match self.kernel.map(|kernel| kernel.info().activations) {
            None => LayerPlan::new(of_type(round)?, [of_type(other)?]),
            Some(ActivationType::F16) => LayerPlan::new(of_type(DType16::F16)?, []),
            Some(_) => LayerPlan::new(of_type(DType16::Bf16)?, []),
        }
    }

    /// Refuses a device whose kernels take no 16-bit activations, and says what it can do.
    fn require_values(&self) -> Result<()> {
        let takes_values = |kernel: Kernel| {
            kernel.runs_on(&self.device) && kernel.info().activations != ActivationType::Nvfp4
        };
        if Kernel::all().any(takes_values) {
            return Ok(());
        }
        let (major, minor) = self.device.compute_capability();
        let reason = format!(
            "W4A16: no kernel of this build takes 16-bit activations on device {} of compute capability {major}.{minor}; \
             W4A4 with the input scale dynamic or per-row needs no calibration",
            self.device.ordinal()
        );
        Err(Error::Cuda(CudaError::Refused { reason }))
    }

    /// Runs a layer with values on the host. After the first call with so many rows nothing is allocated.
    pub fn run_layer<X: Element, Y: Element>(
        &self,
        layer: &LayerPlan,
        x: &[X],
        rows: usize,
        y: &mut [Y],
        done: Option<&mut (dyn FnMut(Stage) + Send)>,
    ) -> Result<()> {
        self.with_lane(|lane| lane.run(layer, x, rows, y, done))
    }

    /// Runs operands of the host once.
    pub fn run_into<T: Element>(&self, problem: &Problem<'_>, c: &mut [T]) -> Result<()> {
        let GemmShape { m, n, batch, .. } = problem.shape;
        if problem.row_scales.is_some() && batch > 1 && m > 0 {
            // Rows are launches of their own, each with the weights of its batch.
            let mut parts = c.chunks_exact_mut(m * n).enumerate();
            return parts.try_for_each(|(l, c)| self.run_into(&problem.of_batch(l), c));
        }
        let glu = match problem.join {
            Join::Glu(glu) => glu,
            Join::Add(_) => Glu::default(),
        };
        let (format, options) = self.options(glu);
        let options = match problem.a {
            ActivationsView::Nvfp4(_) => options,
            ActivationsView::F16(_) => options.activations(ActivationType::F16),
            ActivationsView::Bf16(_) => options.activations(ActivationType::Bf16),
        };
        if options.activations != ActivationType::Nvfp4 {
            self.require_values()?;
        }
        self.with_lane(|lane| {
            let stream = lane.stream();
            let weights = upload(problem, format, stream)?;
            let plan = Plan::new(&weights, &options)?;
            let residual = residual::<T>(problem, stream)?;
            let a = match problem.a {
                ActivationsView::Nvfp4(a) => a,
                ActivationsView::F16(a) => return run_values(&plan, a, residual, stream, c),
                ActivationsView::Bf16(a) => return run_values(&plan, a, residual, stream, c),
            };
            let Some(row_scales) = problem.row_scales else {
                let a = DeviceMatrix::upload(a, stream).map_err(|e| e.with_operand(Operand::A))?;
                let shape = problem.shape;
                return run_once(&plan, shape.m, stream, c, |c, workspace| {
                    plan.launch(&with(Io::new(&a, c), &residual).workspace(workspace), stream)
                });
            };
            // A kernel multiplies by one alpha: a launch for each row.
            let GemmShape { n, k, .. } = problem.shape;
            for (row, (&scale, c)) in row_scales.iter().zip(c.chunks_exact_mut(n)).enumerate() {
                let (codes, scales) = (a.row_codes(row), a.row_scales(row));
                let a =
                    DeviceMatrix::upload(Nvfp4View::new(1, 1, k, codes, scales, scale)?, stream)?;
                let of_row = residual.as_ref().map(|all| all.slice(row * n, n)).transpose()?;
                run_once(&plan, 1, stream, c, |c, workspace| {
                    plan.launch(&with(Io::new(&a, c), &of_row).workspace(workspace), stream)
                })?;
            }
            Ok(())
        })
    }
}

fn upload(problem: &Problem<'_>, format: WeightFormat, stream: &Stream) -> Result<Weights> {
    let [first, second] = problem.weights;
    match problem.join {
        Join::Glu(_) => {
            let weights = Weights::prepare(first, second, format, stream)?;
            match problem.biases {
                Some([gate, up]) => weights.with_biases(gate, up, stream),
                None => Ok(weights),
            }
        }
        Join::Add(_) => {
            let weights = Weights::linear(first, format, stream)?;
            match problem.biases {
                Some([bias, _]) => weights.with_bias(bias, stream),
                None => Ok(weights),
            }
        }
    }
}

/// R on the device, which takes it in the type of C alone.
fn residual<T: Element>(problem: &Problem<'_>, stream: &Stream) -> Result<Option<DeviceView<T>>> {
    let Join::Add(Some(residual)) = problem.join else { return Ok(None) };
    if residual.dtype() != T::DTYPE {
        let reason = format!(
            "residual: its type is {}, that of C {}, and on a device both are the same",
            residual.dtype(),
            T::DTYPE
        );
        return Err(Error::Cuda(CudaError::Refused { reason }));
    }
    let values: Vec<T> = each_type!(Values, residual, residual => {
        residual.iter().map(|value| T::from_f32(value.to_f32())).collect()
    });
    Ok(Some(DeviceBuffer::from_host(&values, stream)?.view()))
}

fn with<'a, T: Element>(io: Io<'a>, residual: &'a Option<DeviceView<T>>) -> Io<'a> {
    match residual {
        Some(residual) => io.residual(residual),
        None => io,
    }
}

/// 16-bit activations, with K padded as the weights are.
fn run_values<A: Element, T: Element>(
    plan: &Plan,
    a: ValuesView<'_, A>,
    residual: Option<DeviceView<T>>,
    stream: &Stream,
    c: &mut [T],
) -> Result<()> {
    let (k, padded) = (a.cols(), plan.weights().k());
    let mut values = memory::filled(A::default(), a.batch() * a.rows() * padded, Operand::A)?;
    for (to, from) in values.chunks_exact_mut(padded).zip(a.values().chunks_exact(k)) {
        to[..k].copy_from_slice(from);
    }
    let values = DeviceBuffer::from_host(&values, stream)?;
    run_once(plan, a.rows(), stream, c, |c, workspace| {
        let io = with(Io::of_values(&values, a.rows(), c), &residual);
        plan.launch(&io.workspace(workspace), stream)
    })
}

/// `launch` gets C on the device, and a workspace.
fn run_once<T: Element>(
    plan: &Plan,
    rows: usize,
    stream: &Stream,
    c: &mut [T],
    launch: impl FnOnce(&DeviceView<T>, &DeviceView<u8>) -> Result<()>,
) -> Result<()> {
    let on_device = DeviceBuffer::alloc(c.len(), stream.device())?;
    let workspace = DeviceBuffer::<u8>::alloc(plan.workspace_bytes(rows)?, stream.device())?;
    launch(&on_device, &workspace)?;
    on_device.download(c, stream)
}
