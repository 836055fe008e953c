//! A plan for values: activations are quantized on the device, right ahead of the dual GEMM.

use std::ffi::c_void;

use crate::cuda::ffi::call::check;
use crate::cuda::ffi::sys::cudart;
use crate::cuda::io::RawIo;
use crate::cuda::kernel;
use crate::cuda::plan::Plan;
use crate::cuda::quantizer::{self, Work};
use crate::cuda::rt::capture::Relaxed;
use crate::cuda::rt::device::{Current, Device};
use crate::cuda::rt::memory::{DeviceBuffer, DeviceView, Owner, VECTOR_ALIGNMENT, require_aligned};
use crate::cuda::rt::stream::Stream;
use crate::dtype::{DType, Element};
use crate::error::{CudaError, Error, Operand, Result};
use crate::format::scale_layout::ScaleLayout;
use crate::op::InputScale;
use crate::shape::{self, MatrixShape};

/// Where parts of the scratch memory begin: a multiple of this.
const ALIGNMENT: usize = 256;

/// `y = glu(x·gate_projᵀ, x·up_projᵀ)` of values in device memory: x is quantized, then a [`Plan`] runs.
/// [`Layer::on_device`](crate::Layer::on_device) is that of a layer of an [`Engine`](crate::Engine).
///
/// A launch needs [`LayerPlan::scratch_bytes`] of scratch memory, which must be zero before its first use. Every launch
/// writes to it; one scratch memory serves all layers of a stream.
#[derive(Debug)]
pub struct LayerPlan {
    plan: Plan,
    /// Of x; that of the weights on the device may be padded.
    k: usize,
    per_row: bool,
    known_scale: Option<f32>,
}

/// The operands of a launch as addresses, for memory that a framework owns. K and N are those of the layer.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RawValues {
    /// Rows of x and y; leading dimensions count as rows.
    pub rows: usize,
    /// x \[rows, K\], from a multiple of 16 bytes on.
    pub x: *const c_void,
    /// Type of the elements of x.
    pub x_type: DType,
    /// From one row of x to the next, in elements: K where they are contiguous, a multiple of 16 bytes.
    pub x_row_stride: usize,
    /// y \[rows, N\], contiguous.
    pub y: *mut c_void,
    /// Type of the elements of y.
    pub y_type: DType,
    /// Scratch memory, from a multiple of 256 bytes on; all zero before its first use.
    pub scratch: *mut c_void,
    /// Bytes of it, at least [`LayerPlan::scratch_bytes`].
    pub scratch_bytes: usize,
}

/// Offsets in the scratch memory.
struct Scratch {
    codes: usize,
    scales: usize,
    workspace: usize,
    end: usize,
}

impl RawValues {
    /// Contiguous values, and scratch memory.
    pub fn new(
        rows: usize,
        (x, x_type, k): (*const c_void, DType, usize),
        (y, y_type): (*mut c_void, DType),
        (scratch, scratch_bytes): (*mut c_void, usize),
    ) -> Self {
        RawValues { rows, x, x_type, x_row_stride: k, y, y_type, scratch, scratch_bytes }
    }
}

impl LayerPlan {
    /// For activations of `k` columns that are quantized with `scale`: with `known_scale` where that is one number.
    pub(crate) fn new(
        plan: Plan,
        k: usize,
        scale: InputScale,
        known_scale: Option<f32>,
    ) -> Result<Self> {
        quantizer::load_kernels(plan.device())?;
        Ok(LayerPlan { plan, k, per_row: scale == InputScale::PerRow, known_scale })
    }

    /// The plan that runs after the quantizer.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// K: length of a row of x.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The device that it runs on.
    pub fn device(&self) -> &Device {
        self.plan.device()
    }

    /// Bytes of scratch memory of a launch with so many rows.
    ///
    /// # Errors
    /// The shape errors of [`crate::Nvfp4View::new`], and those of [`Plan::workspace_bytes`].
    pub fn scratch_bytes(&self, rows: usize) -> Result<usize> {
        self.scratch(rows).map(|scratch| scratch.end)
    }

    fn scratch(&self, rows: usize) -> Result<Scratch> {
        let rows = if self.per_row { rows.min(1) } else { rows };
        let shape = MatrixShape::new(1, rows, quantizer::padded(self.k));
        let MatrixShape { cols, .. } = shape.map_err(|e| e.with_operand(Operand::A))?;
        let overflow = || Error::SizeOverflow { operand: Operand::A, batch: 1, rows, cols };
        let after = |from: usize, bytes: usize| {
            from.checked_add(bytes)?.checked_next_multiple_of(ALIGNMENT)
        };
        let codes = after(0, quantizer::state_bytes()).ok_or_else(overflow)?;
        let scales = after(codes, rows * cols / 2).ok_or_else(overflow)?;
        let scale_bytes = ScaleLayout::new(1, rows, cols)?.swizzled_len();
        let workspace = after(scales, scale_bytes).ok_or_else(overflow)?;
        let end = after(workspace, self.plan.workspace_bytes(rows)?).ok_or_else(overflow)?;
        Ok(Scratch { codes, scales, workspace, end })
    }

    /// Queues the quantizer for `x` \[rows, K\] and the dual GEMM into `y` \[rows, N\]; nothing without rows. It does
    /// not allocate, upload or wait, and may be captured by [`Graph::capture`](super::Graph::capture). A NaN or an
    /// infinity in x is noted in the scratch memory, and reported by [`LayerPlan::check`].
    ///
    /// # Errors
    /// [`Error::Length`] of x (operand a) and y (operand c), [`CudaError::Length`] of the scratch memory,
    /// [`CudaError::Address`] unless x begins at a multiple of 16 bytes and the scratch memory at one of 256,
    /// [`CudaError::WrongDevice`], [`CudaError::Capture`] when somebody else captures the stream, [`CudaError::Call`].
    pub fn launch<X: Element, Y: Element>(
        &self,
        x: &DeviceView<X>,
        rows: usize,
        y: &DeviceView<Y>,
        scratch: &DeviceView<u8>,
        stream: &Stream,
    ) -> Result<()> {
        self.check_lengths(x.len(), rows, y.len())?;
        let devices = [("x", x.device()), ("y", y.device()), ("scratch", scratch.device())];
        for (what, device) in devices {
            device.require(what, self.device())?;
        }
        self.device().require("plan", stream.device())?;
        let values = RawValues {
            rows,
            x: x.as_ptr(),
            x_type: X::DTYPE,
            x_row_stride: self.k,
            y: y.as_ptr(),
            y_type: Y::DTYPE,
            scratch: scratch.as_ptr(),
            scratch_bytes: scratch.len(),
        };
        let parts = self.check_values(&values)?;
        if rows == 0 {
            return Ok(());
        }
        let used = [x.owner(), y.owner(), scratch.owner()].into_iter();
        let weights = self.plan.weights().views().map(DeviceView::owner);
        let owners: Vec<Owner> = used.chain(weights).cloned().collect();
        // SAFETY: lengths, devices and alignment were looked at, the stream lives, and the owners keep the memory.
        stream.enqueue(&owners, |raw| unsafe { self.queue(&values, &parts, raw) })
    }

    /// [`LayerPlan::launch`] with memory and a stream of another library, which may be capturing the stream.
    ///
    /// # Safety
    /// `stream` must be a live stream of the plan's device, of any kind: created, legacy or per-thread. The addresses
    /// must be memory of that device, of the sizes that [`RawValues`] states, until the launch has run; where the
    /// stream is being captured, they and the layer must outlive every replay of the graph.
    ///
    /// # Errors
    /// Those of [`LayerPlan::launch`] that numbers tell.
    pub unsafe fn launch_raw(&self, values: &RawValues, stream: *mut c_void) -> Result<()> {
        let parts = self.check_values(values)?;
        if values.rows == 0 {
            return Ok(());
        }
        let _current = Current::enter(self.device())?;
        // SAFETY: the caller's.
        unsafe { self.queue(values, &parts, stream.cast()) }
    }

    /// Waits for the stream, and reports whether any x since the last check had a NaN or an infinity.
    ///
    /// # Errors
    /// [`Error::NonFinite`] with the first place of the launch that met it, of `rows` rows, once; [`CudaError::Length`];
    /// [`CudaError::Capture`] inside of a capture; [`CudaError::Call`], also for earlier work that failed.
    pub fn check(&self, scratch: &DeviceView<u8>, rows: usize, stream: &Stream) -> Result<()> {
        let state = scratch.slice(0, quantizer::state_bytes())?;
        let found = quantizer::findings(&state.to_vec(stream)?, rows, self.k);
        if found.is_err() {
            state.slice(0, quantizer::global_scale_offset())?.fill_bytes(0, stream)?;
        }
        found.map(|_| ()).map_err(|e| e.with_operand(Operand::A))
    }

    pub(in crate::cuda) fn check_lengths(&self, x: usize, rows: usize, y: usize) -> Result<()> {
        shape::check_values(rows, (self.k, x), (self.plan.weights().n(), y))
    }

    fn check_values(&self, values: &RawValues) -> Result<Scratch> {
        let rows = values.rows;
        let parts = self.scratch(rows)?;
        kernel::size(Operand::A, "M", rows)?;
        if rows == 0 {
            return Ok(parts);
        }
        let (expected, actual) = (parts.end, values.scratch_bytes);
        if actual < expected {
            return Err(Error::Cuda(CudaError::Length { what: "scratch", expected, actual }));
        }
        require_aligned(values.x, VECTOR_ALIGNMENT)?;
        require_aligned(values.scratch, ALIGNMENT)?;
        let (stride, size) = (values.x_row_stride, values.x_type.size());
        if rows > 1 && (stride < self.k || !stride.is_multiple_of(VECTOR_ALIGNMENT / size)) {
            let reason = format!(
                "x: a row stride of {stride} {} is less than K = {} or no multiple of {VECTOR_ALIGNMENT} bytes",
                values.x_type, self.k
            );
            return Err(Error::Cuda(CudaError::Refused { reason }));
        }
        Ok(parts)
    }

    /// # Safety
    /// The values passed `check_values`, of which `parts` came; their memory lives until the work has run, and
    /// `stream` is a live stream of the plan's device, which is current.
    unsafe fn queue(
        &self,
        values: &RawValues,
        parts: &Scratch,
        stream: cudart::cudaStream_t,
    ) -> Result<()> {
        if !self.per_row {
            // SAFETY: the caller's.
            return unsafe { self.queue_rows(values, parts, stream) };
        }
        // A kernel multiplies by one alpha: each row is a launch of its own.
        let x_bytes = values.x_row_stride * values.x_type.size();
        let y_bytes = self.plan.weights().n() * values.y_type.size();
        for row in 0..values.rows {
            let x = values.x.wrapping_byte_add(row * x_bytes);
            let y = values.y.wrapping_byte_add(row * y_bytes);
            // SAFETY: a row of the caller's values, which begins at a multiple of 16 bytes as the stride is one.
            unsafe { self.queue_rows(&RawValues { x, y, rows: 1, ..*values }, parts, stream) }?;
        }
        Ok(())
    }

    /// # Safety
    /// That of `queue`.
    unsafe fn queue_rows(
        &self,
        values: &RawValues,
        parts: &Scratch,
        stream: cudart::cudaStream_t,
    ) -> Result<()> {
        let rows = values.rows;
        let part = |offset: usize| values.scratch.wrapping_byte_add(offset);
        let (codes, scales, state) = (part(parts.codes), part(parts.scales), part(0));
        let work = Work {
            values: values.x,
            dtype: values.x_type,
            row_stride: values.x_row_stride,
            shape: MatrixShape::new(1, rows, self.k)?,
            codes,
            scales,
            state,
            known_scale: self.known_scale,
        };
        // SAFETY: the caller's, and the parts of the scratch memory have the lengths that `scratch` counted.
        unsafe { work.queue(stream) }?;
        let (y, y_type) = (values.y, values.y_type);
        let mut io = RawIo::new(rows, codes, scales, self.known_scale.unwrap_or(1.0), y, y_type);
        if self.known_scale.is_none() {
            let found = part(quantizer::global_scale_offset()).cast_const().cast();
            (io.factor1, io.factor2) = (found, found);
        }
        io.workspace = part(parts.workspace);
        io.workspace_bytes = parts.end - parts.workspace;
        // SAFETY: as above.
        unsafe { self.plan.launch_raw(&io, stream.cast()) }
    }
}

/// What a call with values on the host has for itself while it runs: a stream that nobody else knows, and memory.
#[derive(Debug)]
pub(crate) struct Lane {
    stream: Stream,
    x: DeviceBuffer<u8>,
    y: DeviceBuffer<u8>,
    scratch: DeviceBuffer<u8>,
}

impl Lane {
    pub fn new(device: &Device) -> Result<Self> {
        let none = || DeviceBuffer::<u8>::alloc(0, device);
        Ok(Lane { stream: Stream::new(device)?, x: none()?, y: none()?, scratch: none()? })
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Runs a layer and waits once. Allocates where no call before had as many rows.
    pub fn run<X: Element, Y: Element>(
        &mut self,
        layer: &LayerPlan,
        x: &[X],
        rows: usize,
        y: &mut [Y],
    ) -> Result<()> {
        layer.check_lengths(x.len(), rows, y.len())?;
        let Lane { stream, x: on_device_x, y: on_device_y, scratch } = self;
        let scratch_bytes = layer.scratch_bytes(rows)?;
        for (buffer, bytes) in [
            (&mut *on_device_x, size_of_val(x)),
            (&mut *on_device_y, size_of_val(y)),
            (&mut *scratch, scratch_bytes),
        ] {
            if buffer.len() < bytes {
                *buffer = DeviceBuffer::alloc(0, stream.device())?; // freed before more is asked for
                *buffer = DeviceBuffer::zeroed(bytes, stream)?;
            }
        }
        let values = RawValues {
            rows,
            x: on_device_x.as_ptr(),
            x_type: X::DTYPE,
            x_row_stride: layer.k,
            y: on_device_y.as_ptr(),
            y_type: Y::DTYPE,
            scratch: scratch.as_ptr(),
            scratch_bytes,
        };
        let parts = layer.check_values(&values)?;
        let mut state = [0u8; ALIGNMENT];
        let state = &mut state[..quantizer::state_bytes()];
        // Captures of other threads do not matter to a stream that nobody else knows.
        let _relaxed = Relaxed::enter();
        let copy =
            |to: *mut c_void, from: *const c_void, bytes: usize, raw: cudart::cudaStream_t| {
                // SAFETY: both sides have as many bytes, and this function waits for the stream. The kind is that of
                // the addresses.
                check("cudaMemcpyAsync", unsafe {
                    cudart::cudaMemcpyAsync(to, from, bytes, cudart::cudaMemcpyDefault, raw)
                })
            };
        let outcome = stream.enqueue(&[], |raw| {
            let mut queue = || {
                copy(values.x.cast_mut(), x.as_ptr().cast(), size_of_val(x), raw)?;
                // SAFETY: the memory is this lane's, the weights are the layer's, and both are held.
                unsafe { layer.queue(&values, &parts, raw) }?;
                copy(y.as_mut_ptr().cast(), values.y, size_of_val(y), raw)?;
                copy(state.as_mut_ptr().cast(), values.scratch, state.len(), raw)
            };
            let queued = queue();
            // Also when something failed: what was queued uses memory of the host.
            // SAFETY: the stream lives.
            let done =
                check("cudaStreamSynchronize", unsafe { cudart::cudaStreamSynchronize(raw) });
            queued.and(done)
        });
        outcome?;
        let found =
            quantizer::findings(state, rows, layer.k).map_err(|e| e.with_operand(Operand::A));
        if found.is_err() {
            scratch.slice(0, quantizer::global_scale_offset())?.fill_bytes(0, stream)?;
        }
        found.map(|_| ())
    }
}
