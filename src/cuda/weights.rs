//! Weights on a device, prepared once: those of gate_proj and up_proj, or one weight of a plain GEMM.

use crate::cuda::ffi::bridge::{self, ffi};
use crate::cuda::ffi::sys::abi;
use crate::cuda::kernel::{self, WeightFormat};
use crate::cuda::matrix::{DeviceMatrix, HostParts};
use crate::cuda::rt::device::Device;
use crate::cuda::rt::memory::{DeviceBuffer, DeviceView, Owner};
use crate::cuda::rt::stream::Stream;
use crate::error::{Buffer, CudaError, Error, Operand, Result};
use crate::format::BLOCK;
use crate::matrix::{Nvfp4Matrix, Nvfp4View};

/// What is computed with weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// `C = glu(alpha1·A·B1ᵀ + bias1, alpha2·A·B2ᵀ + bias2)`
    DualGemm,
    /// `C = alpha·A·Wᵀ + bias + R`. Kernels have two accumulators: B1 is the first half of W's rows, B2 the other.
    Gemm,
}

impl Operation {
    pub(in crate::cuda) fn to_abi(self) -> abi::nvfp4_operation {
        match self {
            Operation::DualGemm => abi::NVFP4_OPERATION_DUAL_GEMM,
            Operation::Gemm => abi::NVFP4_OPERATION_GEMM,
        }
    }
}

/// The weights B1 of gate_proj and B2 of up_proj on a device, or one weight W, in one [`WeightFormat`], and their biases.
/// A kernel that takes another format refuses them. Clones share the memory.
#[derive(Debug, Clone)]
pub struct Weights {
    operation: Operation,
    format: WeightFormat,
    /// Codes and scales of B1, or of both where they are interleaved.
    first: (DeviceView<u8>, DeviceView<u8>),
    second: Option<(DeviceView<u8>, DeviceView<u8>)>,
    biases: Option<[DeviceView<f32>; 2]>,
    batch: usize,
    /// Columns of C.
    n: usize,
    k: usize,
    global_scales: (f32, f32),
}

impl Weights {
    /// Packs both matrices on the host and copies them to the stream's device.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when they differ in shape, [`Error::ZeroDimension`] without rows, [`CudaError::Size`],
    /// [`CudaError::OutOfMemory`], [`CudaError::Call`].
    pub fn prepare<'a>(
        b1: impl Into<Nvfp4View<'a>>,
        b2: impl Into<Nvfp4View<'a>>,
        format: WeightFormat,
        stream: &Stream,
    ) -> Result<Self> {
        let (b1, b2) = (b1.into(), b2.into());
        check_shapes((b1.batch(), b1.rows(), b1.cols()), (b2.batch(), b2.rows(), b2.cols()))?;
        match format {
            WeightFormat::Separate => {
                let upload = |matrix, operand| {
                    DeviceMatrix::upload(matrix, stream).map_err(|e| e.with_operand(operand))
                };
                Self::from_matrices(upload(b1, Operand::B1)?, upload(b2, Operand::B2)?)
            }
            WeightFormat::Interleaved => Self::interleave(b1, b2, stream),
        }
    }

    /// Packs one weight \[batch, N, K\] of a plain GEMM, and copies it to the stream's device.
    ///
    /// # Errors
    /// [`Error::ZeroDimension`] without rows, [`CudaError::Size`], [`CudaError::OutOfMemory`], [`CudaError::Call`].
    pub fn linear<'a>(
        w: impl Into<Nvfp4View<'a>>,
        format: WeightFormat,
        stream: &Stream,
    ) -> Result<Self> {
        let w = w.into();
        w.check_rows(Operand::W)?;
        let of_w = |error: Error| error.map_operand(|_| Operand::W);
        let [b1, b2] = halves(&w).map_err(of_w)?;
        let weights = Self::prepare(&b1, &b2, format, stream).map_err(of_w)?;
        Ok(Weights { operation: Operation::Gemm, n: w.rows(), ..weights })
    }

    /// Adds biases \[batch, N\], in f32, to both products before the GLU.
    ///
    /// # Errors
    /// [`Error::Length`]; [`CudaError::Refused`] for weights of a plain GEMM; [`CudaError::WrongDevice`];
    /// [`CudaError::OutOfMemory`], [`CudaError::Call`].
    pub fn with_biases(self, bias1: &[f32], bias2: &[f32], stream: &Stream) -> Result<Self> {
        self.require(Operation::DualGemm)?;
        self.check_bias(Operand::B1, bias1)?;
        self.check_bias(Operand::B2, bias2)?;
        self.with_uploaded(bias1, bias2, stream)
    }

    /// Adds a bias \[batch, N\], in f32, to the product.
    ///
    /// # Errors
    /// Those of [`Weights::with_biases`], for weights of a dual GEMM.
    pub fn with_bias(self, bias: &[f32], stream: &Stream) -> Result<Self> {
        self.require(Operation::Gemm)?;
        self.check_bias(Operand::W, bias)?;
        let first = self.n.div_ceil(2);
        let part = |second: bool| -> Vec<f32> {
            let of_batch = |bias: &[f32]| match second {
                false => bias[..first].to_vec(),
                true => bias[first..].to_vec(),
            };
            bias.chunks_exact(self.n).flat_map(of_batch).collect()
        };
        let (bias1, bias2) = (part(false), part(true));
        self.with_uploaded(&bias1, &bias2, stream)
    }

    fn with_uploaded(self, bias1: &[f32], bias2: &[f32], stream: &Stream) -> Result<Self> {
        stream.device().require("bias", self.device())?;
        // A bias of no columns still has an address.
        let upload = |bias: &[f32]| match bias {
            [] => DeviceBuffer::from_host(&[0.0f32], stream),
            bias => DeviceBuffer::from_host(bias, stream),
        };
        let biases = Some([upload(bias1)?.view(), upload(bias2)?.view()]);
        Ok(Weights { biases, ..self })
    }

    fn require(&self, operation: Operation) -> Result<()> {
        if self.operation == operation {
            return Ok(());
        }
        let reason = format!("a bias of {operation:?} for weights of {:?}", self.operation);
        Err(Error::Cuda(CudaError::Refused { reason }))
    }

    fn check_bias(&self, operand: Operand, bias: &[f32]) -> Result<()> {
        let (batch, cols) = (self.batch, self.n);
        let (expected, actual) = (batch * cols, bias.len());
        if expected == actual {
            return Ok(());
        }
        let (buffer, rows) = (Buffer::Bias, 1);
        Err(Error::Length { operand, buffer, expected, actual, batch, rows, cols })
    }

    /// Takes matrices that are on the device already, as [`WeightFormat::Separate`].
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`], [`Error::ZeroDimension`] without rows, [`CudaError::WrongDevice`].
    pub fn from_matrices(b1: DeviceMatrix, b2: DeviceMatrix) -> Result<Self> {
        check_shapes((b1.batch(), b1.rows(), b1.k()), (b2.batch(), b2.rows(), b2.k()))?;
        b2.device().require("b2", b1.device())?;
        Ok(Weights {
            operation: Operation::DualGemm,
            format: WeightFormat::Separate,
            biases: None,
            batch: b1.batch(),
            n: b1.rows(),
            k: b1.k(),
            global_scales: (b1.global_scale(), b2.global_scale()),
            first: (b1.codes().clone(), b1.scales().clone()),
            second: Some((b2.codes().clone(), b2.scales().clone())),
        })
    }

    fn interleave(b1: Nvfp4View<'_>, b2: Nvfp4View<'_>, stream: &Stream) -> Result<Self> {
        let (first, second) = (HostParts::of(&b1)?, HostParts::of(&b2)?);
        let (batch, n, k) = (b1.batch(), b1.rows(), first.k);
        let of_b1 = kernel::sizes_of(Operand::B1, batch, n, k)?;
        let sizes = abi::nvfp4_shape { m: 1, n: of_b1.m, ..of_b1 };
        let mut codes = zeros(ffi::interleaved_codes_bytes(sizes.n, sizes.k, sizes.batch))?;
        let mut scales = zeros(ffi::interleaved_scales_bytes(sizes.n, sizes.k, sizes.batch))?;
        let interleaved = ffi::interleave_weights(
            &sizes,
            first.codes.as_deref().unwrap_or(b1.codes()),
            &first.scales,
            second.codes.as_deref().unwrap_or(b2.codes()),
            &second.scales,
            &mut codes,
            &mut scales,
        );
        bridge::check(interleaved)?;
        Ok(Weights {
            operation: Operation::DualGemm,
            format: WeightFormat::Interleaved,
            biases: None,
            first: (
                DeviceBuffer::from_host(&codes, stream)?.view(),
                DeviceBuffer::from_host(&scales, stream)?.view(),
            ),
            second: None,
            batch,
            n,
            k,
            global_scales: (b1.global_scale(), b2.global_scale()),
        })
    }

    /// What is computed with them.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// Their layout on the device.
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    /// Number of matrices, L.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Columns of C: rows of each of B1 and B2, or of W.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Whether products get a bias.
    pub fn has_bias(&self) -> bool {
        self.biases.is_some()
    }

    /// K on the device: a multiple of 32.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Bytes of device memory that they take.
    pub fn bytes(&self) -> usize {
        let second = self.second.iter().flat_map(|(codes, scales)| [codes, scales]);
        let views = [&self.first.0, &self.first.1].into_iter().chain(second);
        let of_biases = self.biases.iter().flatten().map(|bias| bias.len() * size_of::<f32>());
        views.map(|view| view.len()).chain(of_biases).sum()
    }

    /// The multipliers of B1 and of B2.
    pub fn global_scales(&self) -> (f32, f32) {
        self.global_scales
    }

    /// The device that holds them.
    pub fn device(&self) -> &Device {
        self.first.0.device()
    }

    /// Their addresses.
    pub(in crate::cuda) fn to_abi(&self) -> abi::nvfp4_weights {
        let address = |view: &DeviceView<u8>| view.as_ptr().cast_const();
        let null = (std::ptr::null(), std::ptr::null());
        let pair =
            |(codes, scales): &(DeviceView<u8>, DeviceView<u8>)| (address(codes), address(scales));
        let (b1_codes, b1_scales) = pair(&self.first);
        let (b2_codes, b2_scales) = self.second.as_ref().map_or(null, pair);
        let size = size_of::<abi::nvfp4_weights>() as u32;
        let none = [std::ptr::null(); 2];
        let bias_of = |view: &DeviceView<f32>| view.as_ptr().cast_const().cast();
        let [bias1, bias2] = self.biases.as_ref().map_or(none, |both| both.each_ref().map(bias_of));
        abi::nvfp4_weights { size, b1_codes, b1_scales, b2_codes, b2_scales, bias1, bias2 }
    }

    /// The kernels' own account of what they read, against what is there.
    pub(in crate::cuda) fn check_sizes(&self, n: i32, k: i32, batch: i32) -> Result<()> {
        let n = match self.operation {
            Operation::DualGemm => n,
            Operation::Gemm => n / 2 + n % 2,
        };
        let (codes, scales) = match self.format {
            WeightFormat::Separate => {
                (ffi::codes_bytes(n, k, batch), ffi::scales_bytes(n, k, batch))
            }
            WeightFormat::Interleaved => (
                ffi::interleaved_codes_bytes(n, k, batch),
                ffi::interleaved_scales_bytes(n, k, batch),
            ),
        };
        let names = [["b1.codes", "b1.scales"], ["b2.codes", "b2.scales"]];
        for ([of_codes, of_scales], views) in
            names.into_iter().zip([Some(&self.first), self.second.as_ref()])
        {
            let Some(views) = views else { continue };
            for (what, view, expected) in
                [(of_codes, &views.0, codes), (of_scales, &views.1, scales)]
            {
                if view.len() != expected {
                    return Err(Error::Cuda(CudaError::Length {
                        what,
                        expected,
                        actual: view.len(),
                    }));
                }
            }
        }
        Ok(())
    }

    /// Everything that a plan must keep alive.
    pub(in crate::cuda) fn owners(&self) -> impl Iterator<Item = &Owner> {
        let second = self.second.iter().flat_map(|(codes, scales)| [codes, scales]);
        let views = [&self.first.0, &self.first.1].into_iter().chain(second).map(DeviceView::owner);
        views.chain(self.biases.iter().flatten().map(DeviceView::owner))
    }
}

/// The first ceil(N/2) rows of each matrix, and the others; where there is one less of these, a row of zeros follows.
fn halves(w: &Nvfp4View<'_>) -> Result<[Nvfp4Matrix; 2]> {
    let (batch, rows, k) = (w.batch(), w.rows(), w.cols());
    let first = rows.div_ceil(2);
    let part = |second: bool| {
        let mut codes = zeros(batch * first * k / 2)?;
        let mut scales = zeros(batch * first * k / BLOCK)?;
        let to = codes.chunks_exact_mut(k / 2).zip(scales.chunks_exact_mut(k / BLOCK));
        // Where there is no row, zeros stay.
        for (i, (codes, scales)) in to.enumerate() {
            let (l, row) = (i / first, i % first + if second { first } else { 0 });
            if row < rows {
                codes.copy_from_slice(w.row_codes(l * rows + row));
                scales.copy_from_slice(w.row_scales(l * rows + row));
            }
        }
        Nvfp4Matrix::new(batch, first, k, codes, scales, w.global_scale())
    };
    Ok([part(false)?, part(true)?])
}

fn check_shapes(b1: (usize, usize, usize), b2: (usize, usize, usize)) -> Result<()> {
    if b1 == b2 {
        let (batch, rows, cols) = b1;
        let operand = Operand::B1;
        return match rows {
            0 => Err(Error::ZeroDimension { operand, batch, rows, cols }),
            _ => Ok(()),
        };
    }
    let (operand, other) = (Operand::B2, Operand::B1);
    Err(Error::ShapeMismatch { operand, other, expected: b1, actual: b2 })
}

fn zeros(bytes: usize) -> Result<Vec<u8>> {
    let mut buffer = Vec::new();
    buffer
        .try_reserve_exact(bytes)
        .map_err(|_| Error::OutOfMemory { operand: Operand::B1, bytes })?;
    buffer.resize(bytes, 0);
    Ok(buffer)
}
