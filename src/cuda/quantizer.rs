//! Two-level quantization on the device, bit for bit that of [`crate::format::quantize`]: activations that a kernel
//! has left in device memory become an operand of a [`Plan`](crate::cuda::Plan) without going through the host.

use std::ffi::c_void;

use crate::cuda::ffi::bridge::{self, ffi};
use crate::cuda::ffi::sys::{abi, cudart};
use crate::cuda::io::data_type;
use crate::cuda::kernel;
use crate::cuda::matrix::DeviceMatrix;
use crate::cuda::rt::device::{Current, Device};
use crate::cuda::rt::memory::{DeviceBuffer, DeviceView, Owner, VECTOR_ALIGNMENT, require_aligned};
use crate::cuda::rt::stream::Stream;
use crate::dtype::{DType, Element};
use crate::error::{Buffer, Error, Operand, Result};
use crate::format::scale_layout::ScaleLayout;
use crate::matrix::Nvfp4Matrix;
use crate::shape::MatrixShape;

/// Quantizes values of one shape into one [`DeviceMatrix`], again and again. Everything it queues is asynchronous, may
/// be captured, and allocates nothing. It runs on compute capability 9.0 and 10.0; elsewhere CUDA refuses the launch.
///
/// There are three ways to obtain the global scale of the tensor:
///
/// * [`Quantizer::with_scale`]: it is known, as the calibrated `input_scale` of a checkpoint is. One kernel reads the
///   values once. Values beyond `2688·scale` saturate.
/// * [`Quantizer::dynamic`]: it is `amax / 2688` of the values, and stays on the device. The matrix has 1, and the
///   product gets [`Quantizer::global_scale`] through [`Io::factors`](crate::cuda::Io::factors).
/// * [`DeviceMatrix::quantize`]: the same, but the scale is read back once and put into the matrix. That waits for the
///   device.
///
/// A NaN or an infinity among the values cannot be an error of [`Quantizer::quantize`], which does not wait: the device
/// notes the first place, and [`Quantizer::check`] reports it. The codes are unspecified then, but scale factors are
/// always finite numbers.
///
/// ```no_run
/// use nvfp4_dual_gemm::cuda::{Device, DeviceBuffer, Graph, Quantizer, Stream};
/// use nvfp4_dual_gemm::bf16;
/// # fn main() -> nvfp4_dual_gemm::Result<()> {
/// let stream = Stream::new(&Device::first_supported()?)?;
/// let activations = DeviceBuffer::<bf16>::zeroed(4 * 7168, &stream)?;
/// let quantizer = Quantizer::with_scale(1, 4, 7168, 0.003, &stream)?;
/// let a = quantizer.matrix(); // for Io::new
/// let graph = Graph::capture(&stream, |stream| quantizer.quantize(&activations, stream))?;
/// graph.launch(&stream)?;
/// quantizer.check(&stream)?; // now and then
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Quantizer {
    matrix: DeviceMatrix,
    /// Of the values; that of the matrix is padded.
    k: usize,
    dynamic: bool,
    /// An `nvfp4::QuantizeState`.
    state: DeviceBuffer<u8>,
}

impl Quantizer {
    /// For `batch` matrices of `rows`×`k` values and a global scale that is known. Allocates the matrix on the
    /// stream's device.
    ///
    /// # Errors
    /// The shape errors of [`crate::Nvfp4View::new`], [`Error::GlobalScale`], [`CudaError::Size`](crate::CudaError::Size) for sizes beyond
    /// an i32, [`CudaError::OutOfMemory`](crate::CudaError::OutOfMemory), [`CudaError::Call`](crate::CudaError::Call).
    pub fn with_scale(
        batch: usize,
        rows: usize,
        k: usize,
        global_scale: f32,
        stream: &Stream,
    ) -> Result<Self> {
        let shape = MatrixShape::new(batch, rows, k)?;
        Self::new(allocate(shape, global_scale, stream.device())?, k, false, stream)
    }

    /// For a global scale that is found anew each time, and stays on the device. The matrix has 1;
    /// [`Quantizer::global_scale`] is the scalar to multiply products by.
    ///
    /// # Errors
    /// Those of [`Quantizer::with_scale`].
    pub fn dynamic(batch: usize, rows: usize, k: usize, stream: &Stream) -> Result<Self> {
        let shape = MatrixShape::new(batch, rows, k)?;
        Self::new(allocate(shape, 1.0, stream.device())?, k, true, stream)
    }

    /// Overwrites an existing matrix, with its own global scale. `k` is that of the values: the matrix's, or 16 less
    /// where that is padded.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] unless `k`, padded to a multiple of 32, is that of the matrix; those of
    /// [`Quantizer::with_scale`].
    pub fn for_matrix(matrix: &DeviceMatrix, k: usize, stream: &Stream) -> Result<Self> {
        let (batch, rows) = (matrix.batch(), matrix.rows());
        MatrixShape::new(batch, rows, k)?;
        if padded(k) != matrix.k() {
            return Err(Error::ShapeMismatch {
                operand: Operand::Matrix,
                other: Operand::Matrix,
                expected: (batch, rows, matrix.k()),
                actual: (batch, rows, k),
            });
        }
        Self::new(matrix.clone(), k, false, stream)
    }

    fn new(matrix: DeviceMatrix, k: usize, dynamic: bool, stream: &Stream) -> Result<Self> {
        kernel::sizes_of(Operand::Matrix, matrix.batch(), matrix.rows(), matrix.k())?;
        matrix.device().require("matrix", stream.device())?;
        load_kernels(stream.device())?;
        let state = DeviceBuffer::zeroed(ffi::quantize_state_bytes(), stream)?;
        // Other streams may be the first to use it.
        stream.synchronize()?;
        Ok(Quantizer { matrix, k, dynamic, state })
    }

    /// The matrix that is written.
    pub fn matrix(&self) -> &DeviceMatrix {
        &self.matrix
    }

    /// K of the values.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The global scale of the values quantized last, on the device, for both [`Io::factors`](crate::cuda::Io::factors);
    /// `None` where the matrix has the scale itself.
    pub fn global_scale(&self) -> Option<DeviceView<f32>> {
        if !self.dynamic {
            return None;
        }
        let scalar =
            self.state.slice(ffi::quantize_global_scale_offset(), size_of::<f32>()).ok()?;
        let owner: Owner = self.state.owner().clone();
        // SAFETY: the four bytes of an f32, aligned in the C++ struct and the struct by cudaMalloc, kept by `owner`.
        unsafe { DeviceView::from_raw(scalar.as_ptr(), 1, self.state.device(), owner) }.ok()
    }

    /// Queues the quantizer for `values` \[batch, rows, k\]; nothing where there are no rows. May be captured.
    ///
    /// # Errors
    /// [`Error::Length`]; [`CudaError::WrongDevice`](crate::CudaError::WrongDevice); [`CudaError::Address`](crate::CudaError::Address) for values that begin at no multiple of
    /// 16 bytes; [`CudaError::Refused`](crate::CudaError::Refused) for values that overlap the matrix, or more of them than one launch can do;
    /// [`CudaError::Capture`](crate::CudaError::Capture) when somebody else captures the stream; [`CudaError::Call`](crate::CudaError::Call).
    pub fn quantize<T: Element>(&self, values: &DeviceView<T>, stream: &Stream) -> Result<()> {
        let work = self.work(values)?;
        self.matrix.device().require("matrix", stream.device())?;
        if values.is_empty() {
            return Ok(());
        }
        let (codes, scales) = (self.matrix.codes(), self.matrix.scales());
        let owners = [values.owner(), codes.owner(), scales.owner(), self.state.owner()];
        // SAFETY: the stream lives and is of the matrix' device; the owners keep the memory.
        stream.enqueue(&owners.map(Owner::clone), |raw| unsafe { work.queue(raw) })
    }

    /// Queues the quantizer on any `cudaStream_t`, which another library may be capturing: the counterpart of
    /// [`BoundPlan::launch_unchecked`](crate::cuda::BoundPlan::launch_unchecked).
    ///
    /// # Safety
    /// `stream` must be a live stream of the quantizer's device. Where it is being captured, `values` and the quantizer
    /// must outlive every replay of the graph. Memory of [`DeviceView::from_stream_ordered`] must outlive the work.
    ///
    /// # Errors
    /// Those of [`Quantizer::quantize`], but for [`CudaError::Capture`](crate::CudaError::Capture).
    pub unsafe fn quantize_unchecked<T: Element>(
        &self,
        values: &DeviceView<T>,
        stream: *mut c_void,
    ) -> Result<()> {
        let work = self.work(values)?;
        if values.is_empty() {
            return Ok(());
        }
        let _current = Current::enter(self.matrix.device())?;
        // SAFETY: the caller's.
        unsafe { work.queue(stream.cast()) }
    }

    /// Everything that is checked of the values.
    fn work<T: Element>(&self, values: &DeviceView<T>) -> Result<Work> {
        let (batch, rows) = (self.matrix.batch(), self.matrix.rows());
        let shape = MatrixShape::new(batch, rows, self.k)?;
        shape.check_length(Buffer::Values, 1, values.len(), Operand::Matrix)?;
        values.device().require("values", self.matrix.device())?;
        require_aligned(values.as_ptr(), VECTOR_ALIGNMENT)?;
        Ok(Work {
            values: values.as_ptr(),
            dtype: T::DTYPE,
            row_stride: self.k,
            shape,
            codes: self.matrix.codes().as_ptr(),
            scales: self.matrix.scales().as_ptr(),
            state: self.state.as_ptr(),
            known_scale: (!self.dynamic).then_some(self.matrix.global_scale()),
        })
    }

    /// Waits for the stream, and reports whether any value since the last check was NaN or infinite.
    ///
    /// # Errors
    /// [`Error::NonFinite`] with the first place, once; [`CudaError::Capture`](crate::CudaError::Capture) inside of a capture;
    /// [`CudaError::Call`](crate::CudaError::Call), also for earlier work that failed.
    pub fn check(&self, stream: &Stream) -> Result<()> {
        self.findings(stream).map(|_| ())
    }

    /// The global scale of the values quantized last; only where it is dynamic.
    fn findings(&self, stream: &Stream) -> Result<f32> {
        let found = findings(&self.state.to_vec(stream)?, self.matrix.rows(), self.k);
        if found.is_err() {
            // The scale stays for whoever multiplies by it.
            self.state.slice(0, ffi::quantize_global_scale_offset())?.fill_bytes(0, stream)?;
        }
        found
    }
}

/// One quantizing of values, as addresses.
pub(crate) struct Work {
    pub values: *const c_void,
    pub dtype: DType,
    /// From one row of the values to the next, in elements.
    pub row_stride: usize,
    /// Of the values.
    pub shape: MatrixShape,
    pub codes: *mut c_void,
    pub scales: *mut c_void,
    /// An `nvfp4::QuantizeState`, [`state_bytes`] of them.
    pub state: *mut c_void,
    /// The global scale, or `None` where it is to be found.
    pub known_scale: Option<f32>,
}

impl Work {
    /// # Safety
    /// Until the work has run, the addresses must be memory of the current device, of the lengths of the shape and the stride (of
    /// codes and scale factors with K padded to a multiple of 32), and `stream` a live stream of it.
    pub unsafe fn queue(&self, stream: cudart::cudaStream_t) -> Result<()> {
        let MatrixShape { batch, rows, cols } = self.shape;
        let sizes = kernel::sizes_of(Operand::Matrix, batch, rows, cols)?;
        let work = ffi::QuantizeWork {
            values: self.values as usize,
            value_type: data_type(self.dtype),
            rows: sizes.m,
            k: sizes.k,
            batch: sizes.batch,
            row_stride: self.row_stride,
            codes: self.codes as usize,
            scales: self.scales as usize,
            state: self.state as usize,
        };
        if let Some(scale) = self.known_scale {
            // SAFETY: the caller's.
            return bridge::check(unsafe { ffi::quantize_with(&work, scale, stream) });
        }
        // SAFETY: the caller's.
        bridge::check(unsafe { ffi::find_amax(&work, stream) })?;
        // SAFETY: the caller's.
        bridge::check(unsafe { ffi::quantize_by_amax(&work, stream) })
    }
}

/// So that the first launch of a kernel, which may stand in a capture, loads nothing.
pub(in crate::cuda) fn load_kernels(device: &Device) -> Result<()> {
    let _current = Current::enter(device)?;
    bridge::check(ffi::load_quantizer())
}

/// Bytes of what a quantizing notes on the device; all zero before the first.
pub(crate) fn state_bytes() -> usize {
    ffi::quantize_state_bytes()
}

/// Where in there the global scale is that was found, an f32.
pub(crate) fn global_scale_offset() -> usize {
    ffi::quantize_global_scale_offset()
}

/// What a copy of a state says: the global scale that was found, or the first value that is not finite.
pub(crate) fn findings(state: &[u8], rows: usize, k: usize) -> Result<f32> {
    let findings = bridge::check(ffi::quantize_findings(state))?;
    if !findings.non_finite {
        return Ok(findings.global_scale);
    }
    let index = findings.index;
    Err(Error::NonFinite {
        operand: Operand::Matrix,
        value: findings.value,
        batch: index / k / rows.max(1),
        row: index / k % rows.max(1),
        col: index % k,
    })
}

impl DeviceMatrix {
    /// Quantizes `values` \[batch, rows, k\] that are on the device, as
    /// [`Nvfp4Matrix::quantize`](crate::Nvfp4Matrix::quantize) does on the host, with the same bits. Waits for the
    /// stream, to read the global scale; [`Quantizer`] does without.
    ///
    /// # Errors
    /// Those of [`Nvfp4Matrix::quantize`](crate::Nvfp4Matrix::quantize), of [`Quantizer::dynamic`] and of
    /// [`Quantizer::quantize`]; [`CudaError::Capture`](crate::CudaError::Capture) inside of a capture.
    pub fn quantize<T: Element>(
        values: &DeviceView<T>,
        batch: usize,
        rows: usize,
        k: usize,
        stream: &Stream,
    ) -> Result<Self> {
        check_values(values, batch, rows, k)?;
        if values.is_empty() {
            // No values, no magnitude: the host's answer.
            values.device().require("values", stream.device())?;
            let global_scale = Nvfp4Matrix::quantize::<T>(&[], batch, rows, k)?.global_scale();
            return allocate(MatrixShape::new(batch, rows, k)?, global_scale, stream.device());
        }
        let quantizer = Quantizer::dynamic(batch, rows, k, stream)?;
        quantizer.quantize(values, stream)?;
        let global_scale = quantizer.findings(stream)?;
        let matrix = quantizer.matrix;
        let (codes, scales) = (matrix.codes().clone(), matrix.scales().clone());
        DeviceMatrix::from_parts(batch, rows, matrix.k(), codes, scales, global_scale)
    }

    /// The same with a global scale that is already known, as
    /// [`Nvfp4Matrix::quantize_with_global`](crate::Nvfp4Matrix::quantize_with_global). Waits for the stream, to look
    /// for NaN and infinity.
    ///
    /// # Errors
    /// Those of [`DeviceMatrix::quantize`], and [`Error::GlobalScale`].
    pub fn quantize_with_global<T: Element>(
        values: &DeviceView<T>,
        batch: usize,
        rows: usize,
        k: usize,
        global_scale: f32,
        stream: &Stream,
    ) -> Result<Self> {
        check_values(values, batch, rows, k)?;
        let quantizer = Quantizer::with_scale(batch, rows, k, global_scale, stream)?;
        quantizer.quantize(values, stream)?;
        quantizer.check(stream)?;
        Ok(quantizer.matrix)
    }
}

/// Before anything is allocated for them.
fn check_values<T: Element>(
    values: &DeviceView<T>,
    batch: usize,
    rows: usize,
    k: usize,
) -> Result<()> {
    let shape = MatrixShape::new(batch, rows, k)?;
    shape.check_length(Buffer::Values, 1, values.len(), Operand::Matrix)
}

pub(crate) fn padded(k: usize) -> usize {
    k.next_multiple_of(abi::NVFP4_K_MULTIPLE as usize)
}

/// A matrix of whatever the memory held before.
fn allocate(shape: MatrixShape, global_scale: f32, device: &Device) -> Result<DeviceMatrix> {
    if !(global_scale.is_finite() && global_scale > 0.0) {
        return Err(Error::GlobalScale { operand: Operand::Matrix, value: global_scale });
    }
    let MatrixShape { batch, rows, cols } = shape;
    // Sizes that the kernels can have, before K is padded: nothing overflows then.
    kernel::sizes_of(Operand::Matrix, batch, rows, cols)?;
    let k = padded(cols);
    let codes = MatrixShape::new(batch, rows, k)?.elements() / 2;
    let scales = ScaleLayout::new(batch, rows, k)?.swizzled_len();
    let buffer = |len| DeviceBuffer::<u8>::alloc(len, device).map(|buffer| buffer.view());
    DeviceMatrix::from_parts(batch, rows, k, buffer(codes)?, buffer(scales)?, global_scale)
}
