//! The dual GEMM on a device: prepared once, launched often.

use std::ffi::c_void;
use std::fmt;

use cxx::UniquePtr;

use super::bridge::{self, ffi};
use super::buffer::{DeviceBuffer, DeviceView, Owner};
use super::device::{Current, Device};
use super::kernel::{self, Kernel, KernelInfo};
use super::matrix::DeviceMatrix;
use super::stream::Stream;
use super::sys::abi;
use super::weights::{WeightFormat, Weights};
use crate::element::{DType, Element};
use crate::error::{Buffer, Error, Operand, Result};
use crate::gate::Gate;
use crate::problem::Problem;

/// What [`DualGemm::prepare`] may be told.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The function that joins the products.
    pub gate: Gate,
    /// A kernel in place of the one that the shape gets.
    pub kernel: Option<Kernel>,
    /// Lets a launch begin under the tail of the kernel before it on the stream (programmatic dependent launch).
    pub programmatic_launch: bool,
    /// SMs that a launch may occupy; all of the device where `None`. Fewer are for kernels of the static scheduler:
    /// others run wherever there is room, and are refused.
    pub sm_count: Option<usize>,
    /// A scalar in device memory that multiplies `global(A)·global(B1)`, read by each launch.
    pub alpha1: Option<DeviceView<f32>>,
    /// The same for B2.
    pub alpha2: Option<DeviceView<f32>>,
}

/// `C = gate(alpha1·A·B1ᵀ, alpha2·A·B2ᵀ)` bound to device memory. It holds operands, weights and C: they may be
/// dropped before it, and before its launches have run.
///
/// ```no_run
/// use nvfp4_dual_gemm::cuda::{
///     Device, DeviceBuffer, DeviceMatrix, DualGemm, Options, Stream, WeightFormat, Weights,
/// };
/// use nvfp4_dual_gemm::{Nvfp4Matrix, f16};
/// # fn main() -> nvfp4_dual_gemm::Result<()> {
/// # let (x, gate, up) = (vec![0.5f32; 4 * 64], vec![0.5f32; 96 * 64], vec![0.5f32; 96 * 64]);
/// let stream = Stream::new(&Device::first_supported()?)?;
/// let a = DeviceMatrix::upload(&Nvfp4Matrix::quantize(&x, 1, 4, 64)?, &stream)?;
/// let gate = Nvfp4Matrix::quantize(&gate, 1, 96, 64)?;
/// let up = Nvfp4Matrix::quantize(&up, 1, 96, 64)?;
/// let weights = Weights::prepare(&gate, &up, WeightFormat::Separate, &stream)?;
/// let c = DeviceBuffer::<f16>::alloc(4 * 96, stream.device())?;
///
/// let gemm = DualGemm::prepare(&weights, &a, &c, &Options::default())?;
/// gemm.launch(&stream)?; // as often as needed
/// let result: Vec<f16> = c.to_vec(&stream)?;
/// # Ok(())
/// # }
/// ```
pub struct DualGemm {
    /// `None` where M is 0: there is nothing to launch.
    plan: Option<UniquePtr<ffi::DualGemm>>,
    kernel: Kernel,
    device: Device,
    problem: Problem,
    output: DType,
    weights: WeightFormat,
    options: Options,
    /// Memory that launches write before they read it; `None` where the kernel needs none.
    workspace: Option<DeviceBuffer<u8>>,
    /// What the addresses in `plan` belong to, the workspace among it.
    owners: Vec<Owner>,
}

// SAFETY: the C++ object is plain memory of the host; only its thread-local current device is of a thread, and
// every call sets that for itself.
unsafe impl Send for DualGemm {}
// SAFETY: the const functions of the C++ class change nothing in it (dual_gemm.hpp: "launch() may be called from
// several threads"); `rebind` takes `&mut`.
unsafe impl Sync for DualGemm {}

impl fmt::Debug for DualGemm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DualGemm")
            .field("problem", &self.problem)
            .field("kernel", &self.kernel)
            .field("device", &self.device.ordinal())
            .finish_non_exhaustive()
    }
}

impl DualGemm {
    /// Checks everything, picks the kernel, allocates its workspace, and encodes tensor maps. `c` is
    /// \[batch, M, N\], row-major. Kernels of compute capability 9.0 with tiles of more than 8 rows have a workspace, A
    /// widened to fp16 in device memory ([`DualGemm::workspace_size`]); others allocate nothing. M may be 0: launches
    /// of such a plan do nothing.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`], [`Error::Alpha`], [`Error::Length`] of `c`, [`Error::GateParameter`],
    /// [`Error::CudaSize`], [`Error::CudaWrongDevice`] when operands are on different devices,
    /// [`Error::CudaArchitecture`] when no kernel runs there, [`Error::CudaKernelArchitecture`] when that of the
    /// options does not, [`Error::CudaRefused`] for SMs that the device does not have and for what a kernel cannot do,
    /// such as weights in another format, [`Error::CudaOutOfMemory`] for the workspace.
    pub fn prepare<T: Element>(
        weights: &Weights,
        a: &DeviceMatrix,
        c: &DeviceView<T>,
        options: &Options,
    ) -> Result<Self> {
        options.gate.validate()?;
        let device = weights.device().clone();
        let mut bound = Bound::new(weights, a, c, options)?;
        check_architecture(options.kernel, &device)?;
        let sm_count = sm_count(options.sm_count, &device)?;
        let empty = bound.problem.m == 0;
        // What holds for one row is checked where there are none, too.
        let problem = Problem { m: bound.problem.m.max(1), ..bound.problem };
        let config = abi::nvfp4_config {
            problem: kernel::sizes(problem)?,
            gate: gate(options.gate),
            output: output(T::DTYPE),
            weights: weights.format().to_abi(),
            kernel: options
                .kernel
                .map_or(abi::NVFP4_KERNEL_AUTO, |kernel| kernel.id() as abi::nvfp4_kernel),
            programmatic_launch: i32::from(options.programmatic_launch),
            sm_count,
        };
        let _current = Current::enter(&device)?;
        let workspace = match bridge::check(ffi::workspace_bytes(&config))? {
            bytes if bytes == 0 || empty => None,
            bytes => Some(DeviceBuffer::<u8>::alloc(bytes, &device)?),
        };
        bound.take_workspace(workspace.as_ref());
        let (plan, kernel) = if empty {
            let capability = device.compute_capability();
            let sms = options.sm_count.unwrap_or(device.sm_count());
            let select = || Kernel::select(problem, weights.format(), capability, sms);
            (None, options.kernel.map_or_else(select, Ok)?)
        } else {
            // SAFETY: `Bound` has looked at the lengths, and `owners` keeps the memory.
            let plan = bridge::check(unsafe { ffi::prepare(&config, &bound.operands) })?;
            let kernel = Kernel::of_row(plan.kernel())?;
            (Some(plan), kernel)
        };
        Ok(DualGemm {
            plan,
            kernel,
            device,
            problem: bound.problem,
            output: T::DTYPE,
            weights: weights.format(),
            options: options.clone(),
            workspace,
            owners: bound.owners,
        })
    }

    /// Other operands of the same sizes, formats and type: encodes tensor maps again, on the host, and keeps the
    /// workspace. A failure leaves the plan as it was.
    ///
    /// # Errors
    /// Those of [`DualGemm::prepare`].
    pub fn rebind<T: Element>(
        &mut self,
        weights: &Weights,
        a: &DeviceMatrix,
        c: &DeviceView<T>,
    ) -> Result<()> {
        weights.device().require("weights", &self.device)?;
        let mut bound = Bound::new(weights, a, c, &self.options)?;
        bound.take_workspace(self.workspace.as_ref());
        let same = bound.problem == self.problem
            && T::DTYPE == self.output
            && weights.format() == self.weights;
        if !same {
            let of = |problem: Problem, weights, output| {
                format!("{problem:?}, {weights} weights, C in {output}")
            };
            return Err(Error::CudaRefused {
                reason: format!(
                    "the plan is for {}, not for {}",
                    of(self.problem, self.weights, self.output),
                    of(bound.problem, weights.format(), T::DTYPE)
                ),
            });
        }
        let _current = Current::enter(&self.device)?;
        if let Some(plan) = &mut self.plan {
            // SAFETY: as in `prepare`. Launches so far have copied the old addresses; that memory is freed after them.
            bridge::check(unsafe { plan.pin_mut().rebind(&bound.operands) })?;
        }
        self.owners = bound.owners;
        Ok(())
    }

    /// Queues the kernel, and ahead of it the one that widens A where it has one. Allocates nothing; may be captured by
    /// [`Graph::capture`](super::Graph::capture). Launches of one plan share its C and its workspace: on several
    /// streams, events must let them follow each other, or C is not defined. A plan for each stream needs none.
    ///
    /// # Errors
    /// [`Error::CudaWrongDevice`] for a stream of another device, [`Error::CudaCapture`] when somebody else captures
    /// the stream, [`Error::CudaCall`].
    pub fn launch(&self, stream: &Stream) -> Result<()> {
        self.device.require("plan", stream.device())?;
        let Some(plan) = &self.plan else { return Ok(()) };
        stream.enqueue(&self.owners, |raw| {
            // SAFETY: the stream lives and is of the plan's device; `owners` keep the memory.
            bridge::check(unsafe { plan.launch(raw) })
        })
    }

    /// Queues the kernel on any `cudaStream_t`, also on one that somebody else captures.
    ///
    /// # Safety
    /// `stream` must be a live stream of the plan's device. Where it is being captured, operands, weights and C must
    /// outlive every replay of the graph. Memory of [`DeviceView::from_stream_ordered`] must outlive the launch.
    ///
    /// # Errors
    /// [`Error::CudaCall`].
    pub unsafe fn launch_unchecked(&self, stream: *mut c_void) -> Result<()> {
        let Some(plan) = &self.plan else { return Ok(()) };
        // SAFETY: the caller's.
        bridge::check(unsafe { plan.launch(stream.cast()) })
    }

    /// Bytes of device memory that the plan holds beyond the operands: A as fp16 for kernels of compute capability 9.0
    /// with tiles of more than 8 rows, 0 for others.
    pub fn workspace_size(&self) -> usize {
        self.workspace.as_ref().map_or(0, |workspace| workspace.len())
    }

    /// The kernel that runs; for no rows, the one that would run for one.
    pub fn kernel(&self) -> KernelInfo {
        self.kernel.info()
    }

    /// Thread blocks of a launch; zeros where M is 0.
    pub fn grid(&self) -> [u32; 3] {
        self.plan.as_ref().map_or([0; 3], |plan| plan.launch_shape().grid)
    }

    /// Thread blocks of a cluster of a launch; zeros where M is 0.
    pub fn cluster(&self) -> [u32; 3] {
        self.plan.as_ref().map_or([0; 3], |plan| plan.launch_shape().cluster)
    }

    /// The size; K as it is on the device.
    pub fn problem(&self) -> Problem {
        self.problem
    }

    /// The device that it runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }
}

/// Operands that fit each other, and what keeps them.
struct Bound {
    problem: Problem,
    operands: abi::nvfp4_operands,
    owners: Vec<Owner>,
}

impl Bound {
    fn new<T: Element>(
        weights: &Weights,
        a: &DeviceMatrix,
        c: &DeviceView<T>,
        options: &Options,
    ) -> Result<Self> {
        let problem =
            Problem { m: a.rows(), n: weights.n(), k: weights.k(), batch: weights.batch() };
        let Problem { m, n, k, batch } = problem;
        if (a.batch(), a.k()) != (batch, k) {
            return Err(Error::ShapeMismatch {
                operand: Operand::A,
                other: Operand::B1,
                expected: (batch, m, k),
                actual: (a.batch(), m, a.k()),
            });
        }
        let overflow = Error::SizeOverflow { operand: Operand::C, batch, rows: m, cols: n };
        let expected =
            batch.checked_mul(m).and_then(|values| values.checked_mul(n)).ok_or(overflow)?;
        if c.len() != expected {
            return Err(Error::Length {
                operand: Operand::C,
                buffer: Buffer::Values,
                expected,
                actual: c.len(),
                batch,
                rows: m,
                cols: n,
            });
        }
        let (global1, global2) = weights.global_scales();
        let (alpha1, alpha2) = (
            alpha(Operand::B1, a.global_scale(), global1)?,
            alpha(Operand::B2, a.global_scale(), global2)?,
        );
        Self::check_sizes(problem, weights, a)?;
        a.device().require("a", weights.device())?;
        c.device().require("c", weights.device())?;
        let mut owners: Vec<Owner> = weights.views().map(|view| view.owner().clone()).collect();
        owners.extend([a.codes().owner().clone(), a.scales().owner().clone(), c.owner().clone()]);
        let mut scalar = |view: &Option<DeviceView<f32>>| {
            let Some(view) = view else { return Ok(std::ptr::null()) };
            view.device().require("alpha", weights.device())?;
            if view.is_empty() {
                return Err(Error::CudaLength { what: "alpha", expected: 1, actual: 0 });
            }
            owners.push(view.owner().clone());
            Ok(view.as_ptr().cast_const().cast::<f32>())
        };
        let (alpha1_ptr, alpha2_ptr) = (scalar(&options.alpha1)?, scalar(&options.alpha2)?);
        let address = |view: &DeviceView<u8>| view.as_ptr().cast_const();
        let null = std::ptr::null();
        let (b2_codes, b2_scales) = weights
            .second
            .as_ref()
            .map_or((null, null), |(codes, scales)| (address(codes), address(scales)));
        let operands = abi::nvfp4_operands {
            a_codes: address(a.codes()),
            a_scales: address(a.scales()),
            b1_codes: address(&weights.first.0),
            b1_scales: address(&weights.first.1),
            b2_codes,
            b2_scales,
            c: c.as_ptr(),
            alpha1,
            alpha2,
            alpha1_ptr,
            alpha2_ptr,
            workspace: std::ptr::null_mut(),
        };
        Ok(Bound { problem, operands, owners })
    }

    fn take_workspace(&mut self, workspace: Option<&DeviceBuffer<u8>>) {
        let Some(workspace) = workspace else { return };
        self.operands.workspace = workspace.as_ptr();
        self.owners.push(workspace.owner().clone());
    }

    /// The kernels' own account of what they read, against what is there.
    fn check_sizes(problem: Problem, weights: &Weights, a: &DeviceMatrix) -> Result<()> {
        let abi::nvfp4_problem { m, n, k, batch } = kernel::sizes(problem)?;
        let (b_codes, b_scales) = match weights.format() {
            WeightFormat::Separate => {
                (ffi::codes_bytes(n, k, batch), ffi::scales_bytes(n, k, batch))
            }
            WeightFormat::Interleaved => (
                ffi::interleaved_codes_bytes(n, k, batch),
                ffi::interleaved_scales_bytes(n, k, batch),
            ),
        };
        let mut buffers = vec![
            ("a.codes", a.codes(), ffi::codes_bytes(m, k, batch)),
            ("a.scales", a.scales(), ffi::scales_bytes(m, k, batch)),
            ("b1.codes", &weights.first.0, b_codes),
            ("b1.scales", &weights.first.1, b_scales),
        ];
        if let Some((codes, scales)) = &weights.second {
            buffers.extend([("b2.codes", codes, b_codes), ("b2.scales", scales, b_scales)]);
        }
        for (what, view, expected) in buffers {
            if view.len() != expected {
                return Err(Error::CudaLength { what, expected, actual: view.len() });
            }
        }
        Ok(())
    }
}

fn check_architecture(kernel: Option<Kernel>, device: &Device) -> Result<()> {
    match kernel {
        Some(kernel) if !kernel.runs_on(device) => Err(Error::CudaKernelArchitecture {
            kernel: kernel.name().to_owned(),
            built_for: kernel.info().compute_capability,
            device: device.unsuitable(),
        }),
        None if !device.supports_kernels() => {
            Err(kernel::wrong_architecture(vec![device.unsuitable()], Vec::new()))
        }
        _ => Ok(()),
    }
}

/// As in abi.h, where 0 is all of the device.
fn sm_count(asked: Option<usize>, device: &Device) -> Result<i32> {
    let Some(count) = asked else { return Ok(0) };
    let there = device.sm_count();
    i32::try_from(count).ok().filter(|_| (1..=there).contains(&count)).ok_or_else(|| {
        let ordinal = device.ordinal();
        let reason =
            format!("sm_count = {count} is not in 1..={there}, the SMs of device {ordinal}");
        Error::CudaRefused { reason }
    })
}

fn alpha(operand: Operand, global_a: f32, global_b: f32) -> Result<f32> {
    let alpha = (f64::from(global_a) * f64::from(global_b)) as f32;
    if alpha.is_normal() { Ok(alpha) } else { Err(Error::Alpha { operand, global_a, global_b }) }
}

fn gate(gate: Gate) -> abi::nvfp4_gate {
    let plain = |kind| abi::nvfp4_gate { kind, limit: 0.0, alpha: 0.0, beta: 0.0 };
    match gate {
        Gate::Silu => plain(abi::NVFP4_GATE_SILU),
        Gate::GeluTanh => plain(abi::NVFP4_GATE_GELU_TANH),
        Gate::ClampedSwiglu { limit, alpha, beta } => {
            abi::nvfp4_gate { kind: abi::NVFP4_GATE_CLAMPED_SWIGLU, limit, alpha, beta }
        }
    }
}

fn output(dtype: DType) -> abi::nvfp4_output {
    match dtype {
        DType::F16 => abi::NVFP4_OUTPUT_F16,
        DType::Bf16 => abi::NVFP4_OUTPUT_BF16,
        DType::F32 => abi::NVFP4_OUTPUT_F32,
    }
}
