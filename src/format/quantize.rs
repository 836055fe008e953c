//! Two-level quantisation, IEEE division, round to nearest even, saturating:
//!
//! ```text
//! global  = amax(tensor) / (6·448)
//! scale_b = ue4m3( (amax(block) / 6) / global )
//! code    = e2m1( x / (f32(scale_b)·global) )
//! ```
//! An all-zero block has scale 0 and codes that keep only the sign of each zero, an all-zero tensor
//! has global 1; a scale that underflows keeps the smallest subnormal 2^-9 when its block is not all
//! zero; −0 and negatives that round to zero keep the sign bit.

use crate::element::Element;
use crate::error::{Error, Operand, Result};
use crate::format::{BLOCK, e2m1, ue4m3};
use crate::matrix::Nvfp4View;

/// `amax / 2688`, or 1 for a tensor of zeros.
///
/// # Errors
/// [`Error::NonFinite`] with the place of the first NaN or infinity.
pub fn global_scale<T: Element>(values: &[T], rows: usize, cols: usize) -> Result<f32> {
    let mut amax = 0.0f32;
    for (i, v) in values.iter().enumerate() {
        let value = v.to_f32();
        if !value.is_finite() {
            return Err(Error::NonFinite {
                operand: Operand::Matrix,
                value,
                batch: i / cols / rows,
                row: i / cols % rows,
                col: i % cols,
            });
        }
        amax = amax.max(value.abs());
    }
    Ok(global_of_amax(amax))
}

/// The global scale of a tensor with this largest magnitude.
pub fn global_of_amax(amax: f32) -> f32 {
    if amax == 0.0 { 1.0 } else { (amax / (e2m1::MAX * ue4m3::MAX)).max(f32::from_bits(1)) }
}

/// Codes and scales of finite values; the buffers have 1/2 and 1/16 of their count.
pub(crate) fn quantize_into<T: Element>(
    values: &[T],
    global: f32,
    codes: &mut [u8],
    scales: &mut [u8],
) {
    for ((block, codes), scale) in
        values.chunks_exact(BLOCK).zip(codes.chunks_exact_mut(BLOCK / 2)).zip(scales)
    {
        *scale = quantize_block(block, global, codes);
    }
}

fn quantize_block<T: Element>(block: &[T], global: f32, codes: &mut [u8]) -> u8 {
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

/// `e2m1 · scale · global` in f32.
pub(crate) fn dequantize_into(view: &Nvfp4View<'_>, out: &mut [f32]) {
    let global = view.global_scale();
    for ((codes, &scale), out) in
        view.codes().chunks_exact(BLOCK / 2).zip(view.scales()).zip(out.chunks_exact_mut(BLOCK))
    {
        let scale = ue4m3::decode(scale);
        for (byte, pair) in codes.iter().zip(out.chunks_exact_mut(2)) {
            pair[0] = e2m1::decode(byte & 15) * scale * global;
            pair[1] = e2m1::decode(byte >> 4) * scale * global;
        }
    }
}
