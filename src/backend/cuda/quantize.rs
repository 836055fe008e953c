//! Two-level quantisation on the device, bit for bit that of [`crate::format::quantize`]: activations that a kernel
//! has left in device memory become an operand of [`DualGemm`](super::DualGemm) without going through the host.

use std::ffi::c_void;

use super::bridge::{self, ffi};
use super::buffer::{DeviceBuffer, DeviceView, Owner};
use super::device::{Current, Device};
use super::kernel;
use super::matrix::DeviceMatrix;
use super::scales;
use super::stream::Stream;
use super::sys::{abi, cudart};
use crate::element::{DType, Element};
use crate::error::{Buffer, Error, Operand, Result};
use crate::format::scale_layout::ScaleLayout;
use crate::matrix::{Nvfp4Matrix, Shape};

/// Quantises values of one shape into one [`DeviceMatrix`], again and again. Everything it queues is asynchronous, may
/// be captured, and allocates nothing. It runs on compute capability 9.0 and 10.0; elsewhere CUDA refuses the launch.
///
/// There are three ways to the global scale of the tensor:
///
/// * [`Quantizer::with_scale`]: it is known, as the calibrated `input_scale` of a checkpoint is. One kernel that reads
///   the values once. Values beyond `2688·scale` saturate.
/// * [`Quantizer::dynamic`]: it is `amax / 2688` of the values at hand, and stays on the device. The matrix says 1, and
///   the product gets the true one through [`Options::alpha1`](super::Options::alpha1) and `alpha2`; see there.
/// * [`DeviceMatrix::quantize`]: the same, but the scale is read back once and put into the matrix. That waits for the
///   device, and a plan has to be made, or rebound, for the new scale.
///
/// A NaN or an infinity among the values cannot be an error of [`Quantizer::quantize`], which does not wait: the device
/// notes the first place, and [`Quantizer::check`] tells. What the codes are then is not specified, but scale factors
/// are finite numbers always.
///
/// ```no_run
/// use nvfp4_dual_gemm::cuda::{Device, DeviceBuffer, Graph, Quantizer, Stream};
/// use nvfp4_dual_gemm::bf16;
/// # fn main() -> nvfp4_dual_gemm::Result<()> {
/// let stream = Stream::new(&Device::first_supported()?)?;
/// let activations = DeviceBuffer::<bf16>::zeroed(4 * 7168, &stream)?;
/// let quantizer = Quantizer::with_scale(1, 4, 7168, 0.003, &stream)?;
/// let a = quantizer.matrix().clone(); // for DualGemm::prepare
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
    /// The shape errors of [`crate::Nvfp4View::new`], [`Error::GlobalScale`], [`Error::CudaSize`] for sizes beyond
    /// an i32, [`Error::CudaOutOfMemory`], [`Error::CudaCall`].
    pub fn with_scale(
        batch: usize,
        rows: usize,
        k: usize,
        global_scale: f32,
        stream: &Stream,
    ) -> Result<Self> {
        let shape = Shape::new(batch, rows, k)?;
        Self::new(allocate(shape, global_scale, stream.device())?, k, false, stream)
    }

    /// For a global scale that is found anew each time, and stays on the device: the matrix says 1.
    /// [`Quantizer::alpha`] is the scalar to multiply products by.
    ///
    /// # Errors
    /// Those of [`Quantizer::with_scale`].
    pub fn dynamic(batch: usize, rows: usize, k: usize, stream: &Stream) -> Result<Self> {
        let shape = Shape::new(batch, rows, k)?;
        Self::new(allocate(shape, 1.0, stream.device())?, k, true, stream)
    }

    /// Overwrites a matrix that is there already, with its own global scale. `k` is that of the values: the matrix's,
    /// or 16 less where that is padded.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] unless `k`, padded to a multiple of 32, is that of the matrix; those of
    /// [`Quantizer::with_scale`].
    pub fn for_matrix(matrix: &DeviceMatrix, k: usize, stream: &Stream) -> Result<Self> {
        let (batch, rows) = (matrix.batch(), matrix.rows());
        Shape::new(batch, rows, k)?;
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

    /// The global scale of the values quantised last, on the device, for both
    /// [`Options::alpha1`](super::Options::alpha1) and [`Options::alpha2`](super::Options::alpha2); `None` where the
    /// matrix has the scale itself.
    pub fn alpha(&self) -> Option<DeviceView<f32>> {
        if !self.dynamic {
            return None;
        }
        let scalar =
            self.state.slice(ffi::quantize_global_scale_offset(), size_of::<f32>()).ok()?;
        let owner: Owner = self.state.owner().clone();
        // SAFETY: the four bytes of an f32, aligned in the C++ struct and the struct by cudaMalloc, kept by `owner`.
        unsafe { DeviceView::from_raw(scalar.as_ptr(), 1, self.state.device(), owner) }.ok()
    }

    /// Queues quantising `values` \[batch, rows, k\] into the matrix; nothing where there are no rows. May be captured.
    ///
    /// # Errors
    /// [`Error::Length`]; [`Error::CudaWrongDevice`]; [`Error::CudaAddress`] for values that begin at no multiple of
    /// 16 bytes; [`Error::CudaRefused`] for values that overlap the matrix, or more of them than one launch can do;
    /// [`Error::CudaCapture`] when somebody else captures the stream; [`Error::CudaCall`].
    pub fn quantize<T: Element>(&self, values: &DeviceView<T>, stream: &Stream) -> Result<()> {
        let work = self.work(values)?;
        self.matrix.device().require("matrix", stream.device())?;
        if values.is_empty() {
            return Ok(());
        }
        let (codes, scales) = (self.matrix.codes(), self.matrix.scales());
        let owners = [values.owner(), codes.owner(), scales.owner(), self.state.owner()];
        // SAFETY: the stream lives and is of the matrix' device; the owners keep the memory.
        stream.enqueue(&owners.map(Owner::clone), |raw| unsafe { self.queue(&work, raw) })
    }

    /// Queues quantising on any `cudaStream_t`, also on one that somebody else captures: the twin of
    /// [`DualGemm::launch_unchecked`](super::DualGemm::launch_unchecked).
    ///
    /// # Safety
    /// `stream` must be a live stream of the quantizer's device. Where it is being captured, `values` and the quantizer
    /// must outlive every replay of the graph. Memory of [`DeviceView::from_stream_ordered`] must outlive the work.
    ///
    /// # Errors
    /// Those of [`Quantizer::quantize`], but for [`Error::CudaCapture`].
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
        unsafe { self.queue(&work, stream.cast()) }
    }

    /// Everything that is checked of the values.
    fn work<T: Element>(&self, values: &DeviceView<T>) -> Result<ffi::QuantizeWork> {
        let (batch, rows) = (self.matrix.batch(), self.matrix.rows());
        let shape = Shape::new(batch, rows, self.k)?;
        shape.check_length(Buffer::Values, 1, values.len(), Operand::Matrix)?;
        values.device().require("values", self.matrix.device())?;
        scales::check_alignment(values)?;
        let sizes = kernel::sizes_of(Operand::Matrix, batch, rows, self.k)?;
        Ok(ffi::QuantizeWork {
            values: values.as_ptr() as usize,
            value_type: value_type(T::DTYPE),
            rows: sizes.m,
            k: sizes.k,
            batch: sizes.batch,
            codes: self.matrix.codes().as_ptr() as usize,
            scales: self.matrix.scales().as_ptr() as usize,
            state: self.state.as_ptr() as usize,
        })
    }

    /// # Safety
    /// `work` is that of this quantizer, for values that live until it has run, and the device of both is current;
    /// `stream` is a live stream of it.
    unsafe fn queue(&self, work: &ffi::QuantizeWork, stream: cudart::cudaStream_t) -> Result<()> {
        if self.dynamic {
            // SAFETY: the lengths are those of the shape: of values as checked, of the matrix by construction, and
            // k padded is the matrix's. The rest is the caller's.
            bridge::check(unsafe { ffi::find_amax(work, stream) })?;
            // SAFETY: as above.
            return bridge::check(unsafe { ffi::quantize_by_amax(work, stream) });
        }
        // SAFETY: as above.
        bridge::check(unsafe { ffi::quantize_with(work, self.matrix.global_scale(), stream) })
    }

    /// Waits for the stream, and tells whether any value since the last check was NaN or infinite.
    ///
    /// # Errors
    /// [`Error::NonFinite`] with the first place, once; [`Error::CudaCapture`] inside of a capture;
    /// [`Error::CudaCall`], also for earlier work that failed.
    pub fn check(&self, stream: &Stream) -> Result<()> {
        self.findings(stream).map(|_| ())
    }

    /// The global scale of the values quantised last; only where it is dynamic.
    fn findings(&self, stream: &Stream) -> Result<f32> {
        let state = self.state.to_vec(stream)?;
        let findings = bridge::check(ffi::quantize_findings(&state))?;
        if !findings.non_finite {
            return Ok(findings.global_scale);
        }
        // The scale stays for whoever multiplies by it.
        self.state.slice(0, ffi::quantize_global_scale_offset())?.fill_bytes(0, stream)?;
        let (rows, k, index) = (self.matrix.rows(), self.k, findings.index);
        Err(Error::NonFinite {
            operand: Operand::Matrix,
            value: findings.value,
            batch: index / k / rows.max(1),
            row: index / k % rows.max(1),
            col: index % k,
        })
    }
}

impl DeviceMatrix {
    /// Quantises `values` \[batch, rows, k\] that are on the device, as
    /// [`Nvfp4Matrix::quantize`](crate::Nvfp4Matrix::quantize) does on the host, with the same bits. Waits for the
    /// stream, to read the global scale; [`Quantizer`] does without.
    ///
    /// # Errors
    /// Those of [`Nvfp4Matrix::quantize`](crate::Nvfp4Matrix::quantize), of [`Quantizer::dynamic`] and of
    /// [`Quantizer::quantize`]; [`Error::CudaCapture`] inside of a capture.
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
            return allocate(Shape::new(batch, rows, k)?, global_scale, stream.device());
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
    let shape = Shape::new(batch, rows, k)?;
    shape.check_length(Buffer::Values, 1, values.len(), Operand::Matrix)
}

fn padded(k: usize) -> usize {
    k.next_multiple_of(abi::NVFP4_K_MULTIPLE as usize)
}

/// A matrix of whatever the memory held before.
fn allocate(shape: Shape, global_scale: f32, device: &Device) -> Result<DeviceMatrix> {
    if !(global_scale.is_finite() && global_scale > 0.0) {
        return Err(Error::GlobalScale { operand: Operand::Matrix, value: global_scale });
    }
    let Shape { batch, rows, cols } = shape;
    // Sizes that the kernels can have, before K is padded: nothing overflows then.
    kernel::sizes_of(Operand::Matrix, batch, rows, cols)?;
    let k = padded(cols);
    let codes = Shape::new(batch, rows, k)?.elements() / 2;
    let scales = ScaleLayout::new(batch, rows, k)?.swizzled_len();
    let buffer = |len| DeviceBuffer::<u8>::alloc(len, device).map(|buffer| buffer.view());
    DeviceMatrix::from_parts(batch, rows, k, buffer(codes)?, buffer(scales)?, global_scale)
}

/// `nvfp4::ValueType`.
fn value_type(dtype: DType) -> u32 {
    match dtype {
        DType::F16 => 0,
        DType::Bf16 => 1,
        DType::F32 => 2,
    }
}
