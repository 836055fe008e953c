//! Scale factors to the 128x4 layout and back, on the device.

use crate::cuda::ffi::bridge::{self, ffi};
use crate::cuda::ffi::sys::abi::nvfp4_shape;
use crate::cuda::kernel;
use crate::cuda::rt::memory::{DeviceView, VECTOR_ALIGNMENT, require_aligned};
use crate::cuda::rt::stream::Stream;
use crate::error::{Buffer, Error, Operand, Result};
use crate::format::scale_layout::ScaleLayout;

/// Queues bringing row-major scale factors \[batch, rows, k/16\] into the 128x4 layout
/// ([`crate::format::scale_layout`]), with zeros as padding: what [`ScaleLayout::swizzle_into`] does on the host. May
/// be captured.
///
/// # Errors
/// The shape errors of [`ScaleLayout::new`]; [`CudaError::Size`](crate::CudaError::Size); [`Error::Length`] for either buffer;
/// [`CudaError::WrongDevice`](crate::CudaError::WrongDevice);
/// [`CudaError::Address`](crate::CudaError::Address) when `swizzled` begins at no multiple of 16; [`CudaError::Refused`](crate::CudaError::Refused) for buffers that overlap;
/// [`CudaError::Call`](crate::CudaError::Call).
pub fn swizzle_scales(
    row_major: &DeviceView<u8>,
    batch: usize,
    rows: usize,
    k: usize,
    swizzled: &DeviceView<u8>,
    stream: &Stream,
) -> Result<()> {
    let nvfp4_shape { m, k, batch, .. } = check(row_major, swizzled, batch, rows, k, stream)?;
    if row_major.is_empty() {
        return Ok(());
    }
    stream.enqueue(&[row_major.owner().clone(), swizzled.owner().clone()], |raw| {
        let (from, to) = (row_major.as_ptr().cast_const().cast(), swizzled.as_ptr().cast());
        // SAFETY: `check` has looked at lengths and devices; the owners keep the memory.
        let queued = unsafe { ffi::swizzle_scales(from, to, m, k, batch, raw) };
        bridge::check(queued)
    })
}

/// Queues the inverse of [`swizzle_scales`]; what stands in the padding is dropped.
///
/// # Errors
/// Those of [`swizzle_scales`].
pub fn unswizzle_scales(
    swizzled: &DeviceView<u8>,
    batch: usize,
    rows: usize,
    k: usize,
    row_major: &DeviceView<u8>,
    stream: &Stream,
) -> Result<()> {
    let nvfp4_shape { m, k, batch, .. } = check(row_major, swizzled, batch, rows, k, stream)?;
    if row_major.is_empty() {
        return Ok(());
    }
    stream.enqueue(&[row_major.owner().clone(), swizzled.owner().clone()], |raw| {
        let (from, to) = (swizzled.as_ptr().cast_const().cast(), row_major.as_ptr().cast());
        // SAFETY: as in `swizzle_scales`.
        let queued = unsafe { ffi::unswizzle_scales(from, to, m, k, batch, raw) };
        bridge::check(queued)
    })
}

fn check(
    row_major: &DeviceView<u8>,
    swizzled: &DeviceView<u8>,
    batch: usize,
    rows: usize,
    k: usize,
    stream: &Stream,
) -> Result<nvfp4_shape> {
    let layout = ScaleLayout::new(batch, rows, k)?;
    let lengths = [
        (Buffer::Scales, layout.row_major_len(), row_major),
        (Buffer::SwizzledScales, layout.swizzled_len(), swizzled),
    ];
    for (buffer, expected, view) in lengths {
        if view.len() != expected {
            let (operand, actual) = (Operand::Matrix, view.len());
            return Err(Error::Length { operand, buffer, expected, actual, batch, rows, cols: k });
        }
        view.device().require("scales", stream.device())?;
    }
    require_aligned(swizzled.as_ptr(), VECTOR_ALIGNMENT)?;
    kernel::sizes_of(Operand::Matrix, batch, rows, k)
}
