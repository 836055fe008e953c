//! The weights of gate_proj and up_proj on a device, prepared once.

use crate::cuda::ffi::bridge::{self, ffi};
use crate::cuda::ffi::sys::abi;
use crate::cuda::kernel::{self, WeightFormat};
use crate::cuda::matrix::{DeviceMatrix, HostParts};
use crate::cuda::rt::device::Device;
use crate::cuda::rt::memory::{DeviceBuffer, DeviceView};
use crate::cuda::rt::stream::Stream;
use crate::error::{CudaError, Error, Operand, Result};
use crate::matrix::Nvfp4View;

/// The weights B1 of gate_proj and B2 of up_proj on a device, in one [`WeightFormat`]. A kernel that takes another
/// format refuses them. Clones share the memory.
#[derive(Debug, Clone)]
pub struct Weights {
    format: WeightFormat,
    /// Codes and scales of B1, or of both where they are interleaved.
    first: (DeviceView<u8>, DeviceView<u8>),
    second: Option<(DeviceView<u8>, DeviceView<u8>)>,
    batch: usize,
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

    /// Takes matrices that are on the device already, as [`WeightFormat::Separate`].
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`], [`Error::ZeroDimension`] without rows, [`CudaError::WrongDevice`].
    pub fn from_matrices(b1: DeviceMatrix, b2: DeviceMatrix) -> Result<Self> {
        check_shapes((b1.batch(), b1.rows(), b1.k()), (b2.batch(), b2.rows(), b2.k()))?;
        b2.device().require("b2", b1.device())?;
        Ok(Weights {
            format: WeightFormat::Separate,
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
            format: WeightFormat::Interleaved,
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

    /// Their layout on the device.
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    /// Number of matrices, L.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Rows of each of B1 and B2, columns of C.
    pub fn n(&self) -> usize {
        self.n
    }

    /// K on the device: a multiple of 32.
    pub fn k(&self) -> usize {
        self.k
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
        let (bias1, bias2) = (std::ptr::null(), std::ptr::null());
        abi::nvfp4_weights { size, b1_codes, b1_scales, b2_codes, b2_scales, bias1, bias2 }
    }

    /// The kernels' own account of what they read, against what is there.
    pub(in crate::cuda) fn check_sizes(&self, n: i32, k: i32, batch: i32) -> Result<()> {
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
    pub(in crate::cuda) fn views(&self) -> impl Iterator<Item = &DeviceView<u8>> {
        let second = self.second.iter().flat_map(|(codes, scales)| [codes, scales]);
        [&self.first.0, &self.first.1].into_iter().chain(second)
    }
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
