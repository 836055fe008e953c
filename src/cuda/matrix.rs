//! An NVFP4 matrix on a device.

use crate::cuda::ffi::sys::abi;
use crate::cuda::rt::device::Device;
use crate::cuda::rt::memory::{DeviceBuffer, DeviceView, VECTOR_ALIGNMENT, require_aligned};
use crate::cuda::rt::stream::Stream;
use crate::error::{Buffer, Error, Operand, Result};
use crate::format::scale_layout::ScaleLayout;
use crate::matrix::Nvfp4View;
use crate::shape::MatrixShape;

/// TMA wants rows of codes that begin at multiples of 16 bytes.
const K_MULTIPLE: usize = abi::NVFP4_K_MULTIPLE as usize;

/// An NVFP4 matrix (or a batch of them) in device memory, as the kernels read it: packed codes \[batch, rows, K/2\]
/// and scale factors in the 128x4 layout. Clones share the memory.
#[derive(Debug, Clone)]
pub struct DeviceMatrix {
    codes: DeviceView<u8>,
    scales: DeviceView<u8>,
    batch: usize,
    rows: usize,
    k: usize,
    global_scale: f32,
}

impl DeviceMatrix {
    /// Copies a matrix to the stream's device. K is padded to a multiple of 32 with zero codes, which add nothing to
    /// any product.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`](crate::CudaError::OutOfMemory), [`Error::SizeOverflow`], [`CudaError::Call`](crate::CudaError::Call).
    pub fn upload<'a>(matrix: impl Into<Nvfp4View<'a>>, stream: &Stream) -> Result<Self> {
        let matrix = matrix.into();
        let HostParts { codes, scales, k } = HostParts::of(&matrix)?;
        Ok(DeviceMatrix {
            codes: DeviceBuffer::from_host(codes.as_deref().unwrap_or(matrix.codes()), stream)?
                .view(),
            scales: DeviceBuffer::from_host(&scales, stream)?.view(),
            batch: matrix.batch(),
            rows: matrix.rows(),
            k,
            global_scale: matrix.global_scale(),
        })
    }

    /// Takes what is on the device already: `codes` \[batch, rows, k/2\] with the even k in the low nibble, `scales`
    /// in the 128x4 layout ([`crate::format::scale_layout`]), UE4M3. The padding of K may be anything but NaN (0x7f,
    /// 0xff).
    ///
    /// # Errors
    /// Those of [`Nvfp4View::new`] but for the scale bytes, which are not read; [`Error::KNotMultiple`] unless k is
    /// a multiple of 32; [`CudaError::WrongDevice`](crate::CudaError::WrongDevice); [`CudaError::Address`](crate::CudaError::Address) for an address that is no multiple of 16.
    pub fn from_parts(
        batch: usize,
        rows: usize,
        k: usize,
        codes: DeviceView<u8>,
        scales: DeviceView<u8>,
        global_scale: f32,
    ) -> Result<Self> {
        let operand = Operand::Matrix;
        let shape = MatrixShape::new(batch, rows, k)?;
        if !k.is_multiple_of(K_MULTIPLE) {
            return Err(Error::KNotMultiple { operand, k, multiple: K_MULTIPLE });
        }
        shape.check_length(Buffer::Codes, 2, codes.len(), operand)?;
        let expected = ScaleLayout::new(batch, rows, k)?.swizzled_len();
        if scales.len() != expected {
            let (buffer, actual) = (Buffer::SwizzledScales, scales.len());
            return Err(Error::Length { operand, buffer, expected, actual, batch, rows, cols: k });
        }
        if !(global_scale.is_finite() && global_scale > 0.0) {
            return Err(Error::GlobalScale { operand, value: global_scale });
        }
        scales.device().require("scales", codes.device())?;
        for view in [&codes, &scales] {
            require_aligned(view.as_ptr(), VECTOR_ALIGNMENT)?;
        }
        Ok(DeviceMatrix { codes, scales, batch, rows, k, global_scale })
    }

    /// Number of matrices, L.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Rows: M for activations, N for weights.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// K on the device: a multiple of 32.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The multiplier of the whole tensor.
    pub fn global_scale(&self) -> f32 {
        self.global_scale
    }

    /// Packed codes.
    pub fn codes(&self) -> &DeviceView<u8> {
        &self.codes
    }

    /// Scale factors in the 128x4 layout.
    pub fn scales(&self) -> &DeviceView<u8> {
        &self.scales
    }

    /// The device that holds it.
    pub fn device(&self) -> &Device {
        self.codes.device()
    }
}

/// A matrix on the host in the form that the device wants.
pub(in crate::cuda) struct HostParts {
    /// `None`: those of the matrix are right as they are.
    pub codes: Option<Vec<u8>>,
    pub scales: Vec<u8>,
    pub k: usize,
}

impl HostParts {
    pub fn of(matrix: &Nvfp4View<'_>) -> Result<Self> {
        // K = 16 more makes one scale factor more a row, in an atom that is there already: blocks are odd in number.
        let scales = matrix.to_swizzled_scales()?;
        let k = matrix.cols().next_multiple_of(K_MULTIPLE);
        if k == matrix.cols() {
            return Ok(HostParts { codes: None, scales, k });
        }
        let (row, padded) = (matrix.cols() / 2, k / 2);
        let rows = matrix.batch() * matrix.rows();
        let mut codes = vec![0; rows * padded];
        for (to, from) in codes.chunks_exact_mut(padded).zip(matrix.codes().chunks_exact(row)) {
            to[..row].copy_from_slice(from);
        }
        Ok(HostParts { codes: Some(codes), scales, k })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Nvfp4Matrix;

    /// The padded matrix, read back by the host's own layout, is the matrix and zeros.
    #[test]
    fn k_is_padded_with_zeros() {
        for (batch, rows, k) in [(1, 1, 16), (2, 3, 48), (1, 130, 80), (2, 5, 112)] {
            let values: Vec<f32> = (0..batch * rows * k).map(|i| (i as f32 * 0.37).sin()).collect();
            let matrix = Nvfp4Matrix::quantize(&values, batch, rows, k).unwrap();
            let parts = HostParts::of(&matrix.view()).unwrap();
            assert_eq!(parts.k, k + 16);
            let codes = parts.codes.unwrap();
            let padded = Nvfp4Matrix::from_swizzled(
                batch,
                rows,
                parts.k,
                codes,
                &parts.scales,
                matrix.global_scale(),
            )
            .unwrap();
            let (narrow, wide) = (matrix.dequantize(), padded.dequantize());
            for (narrow, wide) in narrow.chunks(k).zip(wide.chunks(k + 16)) {
                assert_eq!(narrow, &wide[..k]);
                assert!(wide[k..].iter().all(|&value| value.to_bits() == 0));
            }
        }
    }

    #[test]
    fn a_k_that_fits_is_left_alone() {
        let matrix = Nvfp4Matrix::quantize(&[1.0f32; 3 * 64], 1, 3, 64).unwrap();
        let parts = HostParts::of(&matrix.view()).unwrap();
        assert!(parts.codes.is_none());
        assert_eq!((parts.k, parts.scales.len()), (64, 512));
    }
}
