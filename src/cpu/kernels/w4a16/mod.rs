//! Kernels for 16-bit activations: weights are widened to f32 in registers (with AMX, to bf16 in cache).
//!
//! A value of A times an e2m1 value is exact in f32. Each block of 16 is summed in two halves, of even and of odd k, whose
//! sum is multiplied by the scale factor and added to the sum of a piece of K, and that at last to the accumulator:
//! sums of three levels, so that errors grow with the square roots of 16, 32 and K/512 rather than that of K. Products
//! with e2m1 values are the only ones that may be fused with an addition, as nothing is rounded between; with the same
//! order everywhere all instruction sets give the same bits.

#[cfg(target_arch = "x86_64")]
pub(in crate::cpu) mod amx;
#[cfg(target_arch = "x86_64")]
pub(in crate::cpu) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(in crate::cpu) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(in crate::cpu) mod neon;
pub(in crate::cpu) mod portable;

use std::ops::Range;

use crate::cpu::integer::{SCALES, STRIP};
use crate::cpu::schedule::Strip;
use crate::dtype::Element;
use crate::format::BLOCK;
use crate::matrix::ValuesView;

/// 16 consecutive k of one row of A.
type ABlock = [f32; BLOCK];

/// 16 consecutive k of 16 columns of both weights; `[weight]` is 0 for B1 and 1 for B2.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(in crate::cpu) struct BBlock {
    /// Packed codes, eight k a word, the first in the lowest four bits: `[weight][half][column]`.
    codes: [[[u32; STRIP]; 2]; 2],
    /// Scale factors.
    scales: [[f32; STRIP]; 2],
}

/// Packs blocks `blocks` of row `row` of A.
fn pack_row<T: Element>(
    a: &ValuesView<'_, T>,
    row: usize,
    blocks: Range<usize>,
    out: &mut [ABlock],
) {
    let values = &a.row(row)[blocks.start * BLOCK..blocks.end * BLOCK];
    T::widen(values, out.as_flattened_mut());
}

/// Takes blocks `blocks` of a strip apart, byte by byte; columns beyond the last row of the weight become zero.
fn decode(b: Strip<'_>, weight: usize, blocks: Range<usize>, out: &mut [BBlock]) {
    for row in 0..STRIP {
        if row >= b.rows() {
            for out in out.iter_mut() {
                out.codes[weight].iter_mut().for_each(|half| half[row] = 0);
                out.scales[weight][row] = 0.0;
            }
            continue;
        }
        let codes = b.weight.row_codes(b.first + row);
        let codes = &codes[blocks.start * BLOCK / 2..blocks.end * BLOCK / 2];
        let scales = &b.weight.row_scales(b.first + row)[blocks.clone()];
        for ((bytes, &scale), out) in codes.as_chunks::<8>().0.iter().zip(scales).zip(&mut *out) {
            let word = u64::from_le_bytes(*bytes);
            out.codes[weight][0][row] = word as u32;
            out.codes[weight][1][row] = (word >> 32) as u32;
            out.scales[weight][row] = SCALES[usize::from(scale)];
        }
    }
}
