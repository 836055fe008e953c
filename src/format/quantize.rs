//! Two-level quantization, with IEEE division and rounding to nearest even, saturating:
//!
//! ```text
//! global  = amax(tensor) / (6·448)
//! scale_b = ue4m3( (amax(block) / 6) / global )
//! code    = e2m1( x / (f32(scale_b)·global) )
//! ```
//!
//! * An all-zero block has scale 0, and codes that keep only the sign of each zero. An all-zero tensor has global 1.
//! * A global that underflows becomes the smallest f32. A scale that underflows becomes the smallest subnormal, 2^-9,
//!   unless its block is all zero.
//! * −0 and negative values that round to zero keep the sign bit.
//!
//! The functions on whole tensors use the widest vectors of the CPU and, beyond 64 KiB, all threads of rayon's pool.
//! The result does not depend on either.

use rayon::prelude::*;

use crate::dtype::{Element, Values};
use crate::error::{Buffer, Error, Operand, Result};
use crate::format::kernels::{self, PIECE, Path, THREAD_BYTES};
use crate::format::{BLOCK, e2m1, ue4m3};
use crate::shape::MatrixShape;

/// `amax / 2688` of `values` \[batch, rows, cols\], or 1 for a tensor of zeros.
///
/// # Errors
/// The shape errors of [`crate::Nvfp4View::new`], [`Error::Length`] when `values` is not a whole number of
/// matrices, and [`Error::NonFinite`] with the place of the first NaN or infinity.
pub fn global_scale<T: Element>(values: &[T], rows: usize, cols: usize) -> Result<f32> {
    let batch = rows.checked_mul(cols).map_or(1, |n| values.len().checked_div(n).unwrap_or(1));
    let shape = MatrixShape::new(batch.max(1), rows, cols)?;
    shape.check_length(Buffer::Values, 1, values.len(), Operand::Matrix)?;
    finite_amax(values, rows, cols).map(global_of_amax)
}

/// Refuses the first NaN or infinity; the shape fits.
pub(crate) fn check_finite<T: Element>(values: &[T], rows: usize, cols: usize) -> Result<()> {
    finite_amax(values, rows, cols).map(|_| ())
}

/// Largest magnitude of finite values, of a shape that fits.
pub(crate) fn finite_amax<T: Element>(values: &[T], rows: usize, cols: usize) -> Result<f32> {
    let amax = amax(values);
    if amax.is_finite() {
        return Ok(amax);
    }
    match values.iter().position(|v| !v.to_f32().is_finite()) {
        None => Ok(amax), // cannot be: the maximum is one of the values
        Some(i) => Err(Error::NonFinite {
            operand: Operand::Matrix,
            value: values[i].to_f32(),
            batch: i / cols / rows,
            row: i / cols % rows,
            col: i % cols,
        }),
    }
}

/// Largest magnitude; NaN or infinity when one of the values is.
pub(crate) fn amax<T: Element>(values: &[T]) -> f32 {
    let path = Path::best();
    if size_of_val(values) <= THREAD_BYTES {
        return kernels::amax(path, Values::of(values));
    }
    values
        .par_chunks(PIECE)
        .map(|piece| kernels::amax(path, Values::of(piece)))
        .reduce(|| 0.0, |a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) })
}

/// The global scale of a tensor with this largest magnitude.
pub fn global_of_amax(amax: f32) -> f32 {
    if amax == 0.0 { 1.0 } else { (amax / (e2m1::MAX * ue4m3::MAX)).max(f32::from_bits(1)) }
}

/// Quantizes `values` \[batch, rows, cols\] into `codes` (half as many bytes) and `scales` (1/16 as many), and returns
/// the global scale: [`crate::Nvfp4Matrix::quantize`] into buffers of the caller.
///
/// # Errors
/// The shape errors of [`crate::Nvfp4View::new`], [`Error::Length`] for any of the three buffers, and
/// [`Error::NonFinite`] for a NaN or an infinity.
pub fn two_level<T: Element>(
    values: &[T],
    batch: usize,
    rows: usize,
    cols: usize,
    codes: &mut [u8],
    scales: &mut [u8],
) -> Result<f32> {
    let shape = MatrixShape::new(batch, rows, cols)?;
    shape.check_length(Buffer::Values, 1, values.len(), Operand::Matrix)?;
    shape.check_length(Buffer::Codes, 2, codes.len(), Operand::Matrix)?;
    shape.check_length(Buffer::Scales, BLOCK, scales.len(), Operand::Matrix)?;
    let global = global_scale(values, rows, cols)?;
    quantize_into(values, global, codes, scales);
    Ok(global)
}

/// Codes and scales of finite values; the buffers have 1/2 and 1/16 of their count.
pub(crate) fn quantize_into<T: Element>(
    values: &[T],
    global: f32,
    codes: &mut [u8],
    scales: &mut [u8],
) {
    let path = Path::best();
    if size_of_val(values) <= THREAD_BYTES {
        return kernels::quantize(path, Values::of(values), global, codes, scales);
    }
    values
        .par_chunks(PIECE)
        .zip(codes.par_chunks_mut(PIECE / 2))
        .zip(scales.par_chunks_mut(PIECE / BLOCK))
        .for_each(|((values, codes), scales)| {
            kernels::quantize(path, Values::of(values), global, codes, scales);
        });
}

/// [`quantize_into`] of rows of `cols` values, each with the global scale of its own, as if it were a tensor:
/// `globals` has one for each row. The values are finite.
pub(crate) fn quantize_rows_into<T: Element>(
    values: &[T],
    cols: usize,
    globals: &mut [f32],
    codes: &mut [u8],
    scales: &mut [u8],
) {
    let path = Path::best();
    let row = |values: &[T], global: &mut f32, codes: &mut [u8], scales: &mut [u8]| {
        *global = global_of_amax(kernels::amax(path, Values::of(values)));
        kernels::quantize(path, Values::of(values), *global, codes, scales);
    };
    if size_of_val(values) <= THREAD_BYTES {
        let rows = values.chunks_exact(cols).zip(globals);
        let parts = codes.chunks_exact_mut(cols / 2).zip(scales.chunks_exact_mut(cols / BLOCK));
        rows.zip(parts).for_each(|((v, global), (codes, scales))| row(v, global, codes, scales));
        return;
    }
    let rows = values.par_chunks_exact(cols).zip(globals);
    let parts = codes.par_chunks_exact_mut(cols / 2).zip(scales.par_chunks_exact_mut(cols / BLOCK));
    rows.zip(parts).for_each(|((v, global), (codes, scales))| row(v, global, codes, scales));
}

/// One block, exactly as the formulas say: what every vector kernel has to agree with.
pub(super) fn quantize_block<T: Element>(block: &[T], global: f32, codes: &mut [u8]) -> u8 {
    let amax = block.iter().fold(0.0f32, |m, v| m.max(v.to_f32().abs()));
    let mut scale = ue4m3::encode(amax / e2m1::MAX / global);
    if scale == 0 && amax > 0.0 {
        scale = ue4m3::MIN_SUBNORMAL;
    }
    let unit = ue4m3::decode(scale) * global;
    for (pair, byte) in block.chunks_exact(2).zip(codes) {
        let code = |v: T| {
            let v = v.to_f32();
            if v == 0.0 { u8::from(v.is_sign_negative()) << 3 } else { e2m1::encode(v / unit) }
        };
        *byte = code(pair[0]) | code(pair[1]) << 4;
    }
    scale
}

/// `e2m1 · scale · global` in f32, then rounded to `T`.
pub(crate) fn dequantize_into<T: Element>(codes: &[u8], scales: &[u8], global: f32, out: &mut [T]) {
    let (path, whole) = (Path::best(), size_of_val(out));
    if whole <= THREAD_BYTES {
        return kernels::dequantize(path, whole, codes, scales, global, out);
    }
    codes
        .par_chunks(PIECE / 2)
        .zip(scales.par_chunks(PIECE / BLOCK))
        .zip(out.par_chunks_mut(PIECE))
        .for_each(|((codes, scales), out)| {
            kernels::dequantize(path, whole, codes, scales, global, out)
        });
}
