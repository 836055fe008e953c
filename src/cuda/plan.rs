//! A dual GEMM or a GEMM on a device: weights bound once, launched with any activations.

use std::ffi::{CString, c_void};
use std::fmt;

use cxx::UniquePtr;

use crate::cuda::ffi::bridge::{self, ffi};
use crate::cuda::ffi::sys::abi;
use crate::cuda::io::{Io, RawIo};
use crate::cuda::kernel::{self, ActivationType, Kernel, KernelInfo, WeightFormat};
use crate::cuda::rt::device::{Current, Device};
use crate::cuda::rt::memory::Owner;
use crate::cuda::rt::stream::Stream;
use crate::cuda::weights::Weights;
use crate::error::{CudaError, Error, Operand, Result};
use crate::glu::Glu;
use crate::shape::GemmShape;

/// Choices for [`Plan::new`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// The function that joins the products; of a plain GEMM it is not looked at.
    pub glu: Glu,
    /// What A consists of.
    pub activations: ActivationType,
    /// A kernel in place of the one that is chosen by the number of rows.
    pub kernel: Option<Kernel>,
    /// Lets a launch begin under the tail of the kernel before it on the stream (programmatic dependent launch).
    pub programmatic_launch: bool,
    /// Promises that nobody writes to the weights while the plan lives. A launch may then read them before the kernel
    /// ahead of it on the stream has ended.
    pub constant_weights: bool,
    /// SMs that a launch may occupy, at least one; `None` is all of the device. Only kernels with the static scheduler
    /// take a number: others run wherever there is room, and are refused.
    pub sm_count: Option<usize>,
}

impl Options {
    /// Joins the products by this function.
    pub fn glu(mut self, glu: Glu) -> Self {
        self.glu = glu;
        self
    }

    /// [`Options::activations`]
    pub fn activations(mut self, activations: ActivationType) -> Self {
        self.activations = activations;
        self
    }

    /// Runs this kernel, whatever the number of rows; `None` leaves the choice.
    pub fn kernel(mut self, kernel: impl Into<Option<Kernel>>) -> Self {
        self.kernel = kernel.into();
        self
    }

    /// [`Options::programmatic_launch`]
    pub fn programmatic_launch(mut self, programmatic_launch: bool) -> Self {
        self.programmatic_launch = programmatic_launch;
        self
    }

    /// [`Options::constant_weights`]
    pub fn constant_weights(mut self, constant_weights: bool) -> Self {
        self.constant_weights = constant_weights;
        self
    }

    /// [`Options::sm_count`]
    pub fn sm_count(mut self, sm_count: impl Into<Option<usize>>) -> Self {
        self.sm_count = sm_count.into();
        self
    }

    /// How the weights of such a plan lie: as the kernel takes them, separate where none is named.
    pub fn weight_format(&self) -> WeightFormat {
        self.kernel.map_or(WeightFormat::Separate, |kernel| kernel.info().weights)
    }
}

/// `C = glu(alpha1·A·B1ᵀ, alpha2·A·B2ᵀ)` with bound weights, for any number of rows of A. It holds the weights: they
/// may be dropped before it, and before its launches have run.
///
/// ```no_run
/// use nvfp4_dual_gemm::cuda::{
///     Device, DeviceBuffer, DeviceMatrix, Io, Options, Plan, Stream, WeightFormat, Weights,
/// };
/// use nvfp4_dual_gemm::{Nvfp4Matrix, f16};
/// # fn main() -> nvfp4_dual_gemm::Result<()> {
/// # let (x, gate, up) = (vec![0.5f32; 4 * 64], vec![0.5f32; 96 * 64], vec![0.5f32; 96 * 64]);
/// let stream = Stream::new(&Device::first_supported()?)?;
/// let gate_proj = Nvfp4Matrix::quantize(&gate, 1, 96, 64)?;
/// let up_proj = Nvfp4Matrix::quantize(&up, 1, 96, 64)?;
/// let weights = Weights::prepare(&gate_proj, &up_proj, WeightFormat::Separate, &stream)?;
/// let plan = Plan::new(&weights, &Options::default())?;
///
/// let a = DeviceMatrix::upload(&Nvfp4Matrix::quantize(&x, 1, 4, 64)?, &stream)?;
/// let c = DeviceBuffer::<f16>::alloc(4 * 96, stream.device())?;
/// let workspace = DeviceBuffer::<u8>::alloc(plan.workspace_bytes(4)?, stream.device())?;
/// plan.launch(&Io::new(&a, &c).workspace(&workspace), &stream)?; // as often as needed, with other rows too
/// let result: Vec<f16> = c.to_vec(&stream)?;
/// # Ok(())
/// # }
/// ```
pub struct Plan {
    plan: UniquePtr<ffi::Plan>,
    weights: Weights,
    options: Options,
}

// SAFETY: the C++ object is plain memory of the host; only its thread-local current device is of a thread, and
// every call sets that for itself.
unsafe impl Send for Plan {}
// SAFETY: dual_gemm.hpp: "everything const may be called from several threads", and all is const.
unsafe impl Sync for Plan {}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("n", &self.weights.n())
            .field("k", &self.weights.k())
            .field("batch", &self.weights.batch())
            .field("device", &self.device().ordinal())
            .finish_non_exhaustive()
    }
}

impl Plan {
    /// Checks what does not depend on A and C, loads the kernels, and encodes the tensor maps of the weights. Allocates
    /// no device memory.
    ///
    /// # Errors
    /// [`Error::GluParameter`], [`CudaError::Size`], [`CudaError::Architecture`] when no kernel runs on the device of
    /// the weights, [`CudaError::KernelArchitecture`] when that of the options does not, [`CudaError::Refused`] for
    /// SMs that the device does not have and for what a kernel cannot do, such as weights in another format.
    pub fn new(weights: &Weights, options: &Options) -> Result<Self> {
        options.glu.validate()?;
        let device = weights.device();
        match options.kernel {
            Some(kernel) => kernel.require(device)?,
            None => device.require_kernels()?,
        }
        let shape = GemmShape { m: 1, n: weights.n(), k: weights.k(), batch: weights.batch() };
        let abi::nvfp4_shape { n, k, batch, .. } = kernel::sizes(shape)?;
        weights.check_sizes(n, k, batch)?;
        let name = options.kernel.map(|kernel| CString::new(kernel.name())).transpose();
        let name =
            name.map_err(|error| Error::Cuda(CudaError::Refused { reason: error.to_string() }))?;
        let spec = abi::nvfp4_spec {
            size: size_of::<abi::nvfp4_spec>() as u32,
            operation: weights.operation().to_abi(),
            activations: options.activations.to_abi(),
            n,
            k,
            batch,
            glu: glu(options.glu),
            weights: weights.format().to_abi(),
            kernel: name.as_ref().map_or(std::ptr::null(), |name| name.as_ptr()),
            programmatic_launch: i32::from(options.programmatic_launch),
            constant_weights: i32::from(options.constant_weights),
            sm_count: sm_count(options.sm_count, device)?,
        };
        let _current = Current::enter(device)?;
        // SAFETY: the name is a C string; `check_sizes` has looked at the lengths, and `weights` keeps the memory.
        let plan = bridge::check(unsafe { ffi::prepare(&spec, &weights.to_abi()) })?;
        Ok(Plan { plan, weights: weights.clone(), options: options.clone() })
    }

    /// Queues the kernel for the rows of A, and ahead of it the one that widens A where there is one. Without rows
    /// nothing is queued. On the host this encodes the tensor maps of A. It calls CUDA only to launch, and to ask for
    /// the current device and for a capture; nothing is allocated, uploaded or waited for. May be captured by
    /// [`Graph::capture`](crate::cuda::Graph::capture).
    ///
    /// Launches that share C or a workspace must follow each other, on one stream or ordered by events.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`], [`Error::Length`] of C, [`Error::Alpha`], [`CudaError::Size`],
    /// [`CudaError::WrongDevice`] for operands or a stream of another device, [`CudaError::Length`] for a workspace
    /// that is missing or too small, [`CudaError::Capture`] when somebody else captures the stream,
    /// [`CudaError::Refused`] for what a kernel cannot do, [`CudaError::Call`].
    pub fn launch(&self, io: &Io<'_>, stream: &Stream) -> Result<()> {
        let addresses = io.addresses(&self.weights, self.options.activations)?;
        self.device().require("plan", stream.device())?;
        if addresses.rows == 0 {
            return Ok(());
        }
        stream.enqueue(&self.owners(io), |raw| {
            // SAFETY: the stream lives and is of the plan's device; lengths were looked at; the owners keep the memory.
            bridge::check(unsafe { self.plan.launch(&addresses, raw) })
                .map_err(|error| self.explained(error, io, addresses.rows))
        })
    }

    /// Encodes everything ahead, for launches that are recorded or repeated.
    ///
    /// # Errors
    /// Those of [`Plan::launch`] but for the stream.
    pub fn bind(&self, io: &Io<'_>) -> Result<BoundPlan> {
        let addresses = io.addresses(&self.weights, self.options.activations)?;
        let _current = Current::enter(self.device())?;
        // SAFETY: as in `launch`; the owners are kept by what is made.
        let bound = bridge::check(unsafe { ffi::bind(&self.plan, &addresses) })
            .map_err(|error| self.explained(error, io, addresses.rows))?;
        let kernel = Kernel::of_row(bound.kernel())?;
        let device = self.device().clone();
        Ok(BoundPlan { bound, kernel, device, owners: self.owners(io) })
    }

    /// Queues the kernel with memory and a stream of another library, which may be capturing the stream.
    ///
    /// # Safety
    /// `stream` must be a live stream of the plan's device, of any kind: created, legacy or per-thread. The addresses of
    /// `io` must be memory of that device, of the lengths that [`RawIo`] states, until the launch has run; where the
    /// stream is being captured, they, the plan and the weights must outlive every replay of the graph.
    ///
    /// # Errors
    /// Those of [`Plan::launch`] that numbers tell.
    pub unsafe fn launch_raw(&self, io: &RawIo, stream: *mut c_void) -> Result<()> {
        let addresses = io.addresses(&self.weights, self.options.activations)?;
        if addresses.rows == 0 {
            return Ok(());
        }
        // SAFETY: the caller's.
        bridge::check(unsafe { self.plan.launch(&addresses, stream.cast()) })
    }

    /// Bytes of the workspace of a launch with so many rows: A as fp16 for kernels of compute capability 9.0 with tiles
    /// of more than 8 rows, 0 for others. It holds nothing between launches: one may serve all plans of a stream.
    ///
    /// # Errors
    /// [`CudaError::Size`], [`CudaError::Refused`] for rows that no launch can have.
    pub fn workspace_bytes(&self, rows: usize) -> Result<usize> {
        bridge::check(self.plan.workspace_size(kernel::size(Operand::A, "M", rows)?))
    }

    /// The kernel that runs for so many rows; for none, that of one.
    ///
    /// # Errors
    /// Those of [`Plan::workspace_bytes`].
    pub fn kernel(&self, rows: usize) -> Result<KernelInfo> {
        let row = bridge::check(self.plan.kernel(kernel::size(Operand::A, "M", rows)?))?;
        Kernel::of_row(row).map(Kernel::info)
    }

    /// Thread blocks of a launch with so many rows, and of one of its clusters; zeros for none.
    ///
    /// # Errors
    /// Those of [`Plan::workspace_bytes`].
    pub fn launch_shape(&self, rows: usize) -> Result<LaunchShape> {
        let shape = self.plan.launch_shape(kernel::size(Operand::A, "M", rows)?);
        bridge::check(shape).map(|shape| LaunchShape { grid: shape.grid, cluster: shape.cluster })
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The options that it was created with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The device that it runs on.
    pub fn device(&self) -> &Device {
        self.weights.device()
    }

    /// What the host code refused, as [`CudaError::Length`] where it is the workspace. It looks at the workspace itself,
    /// with the kernel that it has chosen; to ask before each launch would be to choose twice.
    fn explained(&self, error: Error, io: &Io<'_>, rows: i32) -> Error {
        let needed = bridge::check(self.plan.workspace_size(rows));
        needed.and_then(|needed| io.require_workspace(needed)).err().unwrap_or(error)
    }

    fn owners(&self, io: &Io<'_>) -> Vec<Owner> {
        let weights = self.weights.owners().cloned();
        weights.chain(io.owners().cloned()).collect()
    }
}

/// Thread blocks of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaunchShape {
    /// Thread blocks of the grid.
    pub grid: [u32; 3],
    /// Thread blocks of one cluster.
    pub cluster: [u32; 3],
}

/// A launch of a [`Plan`] with all of its operands. It holds them: they may be dropped before it, and before its
/// launches have run.
pub struct BoundPlan {
    bound: UniquePtr<ffi::BoundPlan>,
    kernel: Kernel,
    device: Device,
    /// What the addresses in `bound` belong to.
    owners: Vec<Owner>,
}

// SAFETY: as for `Plan`.
unsafe impl Send for BoundPlan {}
// SAFETY: as for `Plan`.
unsafe impl Sync for BoundPlan {}

impl fmt::Debug for BoundPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundPlan")
            .field("kernel", &self.kernel)
            .field("device", &self.device.ordinal())
            .finish_non_exhaustive()
    }
}

impl BoundPlan {
    /// [`Plan::launch`] with nothing left to encode.
    ///
    /// # Errors
    /// [`CudaError::WrongDevice`] for a stream of another device, [`CudaError::Capture`] when somebody else captures
    /// the stream, [`CudaError::Call`].
    pub fn launch(&self, stream: &Stream) -> Result<()> {
        self.device.require("plan", stream.device())?;
        stream.enqueue(&self.owners, |raw| {
            // SAFETY: the stream lives and is of the plan's device; `owners` keep the memory.
            bridge::check(unsafe { self.bound.launch(raw) })
        })
    }

    /// Queues the kernel on any `cudaStream_t`, also on one that somebody else captures.
    ///
    /// # Safety
    /// `stream` must be a live stream of the plan's device. Where it is being captured, what is bound must outlive every
    /// replay of the graph. Memory of [`DeviceView::from_stream_ordered`](crate::cuda::DeviceView::from_stream_ordered) must
    /// outlive the launch.
    ///
    /// # Errors
    /// [`CudaError::Call`].
    pub unsafe fn launch_unchecked(&self, stream: *mut c_void) -> Result<()> {
        // SAFETY: the caller's.
        bridge::check(unsafe { self.bound.launch(stream.cast()) })
    }

    /// The kernel that runs; for no rows, the one that would run for one.
    pub fn kernel(&self) -> KernelInfo {
        self.kernel.info()
    }

    /// Thread blocks of a launch; zeros for no rows.
    pub fn launch_shape(&self) -> LaunchShape {
        let shape = self.bound.launch_shape();
        LaunchShape { grid: shape.grid, cluster: shape.cluster }
    }

    /// The device that it runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }
}

/// As in types.h, where 0 is all of the device.
fn sm_count(asked: Option<usize>, device: &Device) -> Result<i32> {
    let Some(count) = asked else { return Ok(0) };
    let there = device.sm_count();
    i32::try_from(count).ok().filter(|_| (1..=there).contains(&count)).ok_or_else(|| {
        let ordinal = device.ordinal();
        let reason =
            format!("sm_count = {count} is not in 1..={there}, the SMs of device {ordinal}");
        Error::Cuda(CudaError::Refused { reason })
    })
}

fn glu(glu: Glu) -> abi::nvfp4_glu {
    let plain = |kind| abi::nvfp4_glu { kind, limit: 0.0, slope: 0.0, offset: 0.0 };
    match glu {
        Glu::Swiglu => plain(abi::NVFP4_GLU_SWIGLU),
        Glu::GegluTanh => plain(abi::NVFP4_GLU_GEGLU_TANH),
        Glu::ClampedSwiglu { limit, slope, offset } => {
            abi::nvfp4_glu { kind: abi::NVFP4_GLU_CLAMPED_SWIGLU, limit, slope, offset }
        }
    }
}
