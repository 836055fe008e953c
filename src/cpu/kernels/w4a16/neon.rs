//! NEON: byte tables give the halves of e2m1 values in bf16, which a shift widens; products by one lane of A.

use std::arch::aarch64::*;
use std::marker::PhantomData;
use std::ops::Range;

use super::{ABlock, BBlock, pack_row};
use crate::cpu::epilogue::{Epilogue, Sums};
use crate::cpu::integer::{B_SCALE, STRIP};
use crate::cpu::kernels::neon;
use crate::cpu::kernels::unpack128::{LANES, StripRows};
use crate::cpu::schedule::{Kernel, Piece, Strip};
use crate::dtype::Element;
use crate::format::{BLOCK, e2m1};
use crate::matrix::ValuesView;

/// Proof that the machine has the features.
pub(in crate::cpu) struct Neon<T>(PhantomData<T>);

impl<T> Neon<T> {
    /// # Safety
    /// The machine has NEON.
    pub unsafe fn new() -> Self {
        Neon(PhantomData)
    }
}

impl<T: Element> Kernel for Neon<T> {
    type Input<'a> = ValuesView<'a, T>;
    type A = ABlock;
    type B = BBlock;
    const ROWS: usize = 1;
    const K: usize = BLOCK;

    fn pack(
        &self,
        a: &ValuesView<'_, T>,
        rows: Range<usize>,
        units: Range<usize>,
        out: &mut [ABlock],
    ) {
        pack_row(a, rows.start, units, out);
    }

    fn decode(&self, piece: Piece<'_>, out: &mut [BBlock]) {
        for (weight, b) in piece.strips.into_iter().enumerate() {
            // SAFETY: `Neon` is only made where the features exist.
            unsafe { decode(b, weight, piece.units.clone(), out) };
        }
    }

    fn multiply(&self, a: &[ABlock], b: &[BBlock], acc: [&mut [[f32; STRIP]]; 2], first: bool) {
        for (weight, acc) in acc.into_iter().enumerate() {
            assert!(a.len() == acc.len() * b.len());
            let mut row = 0;
            while row < acc.len() {
                let (a, acc) = (&a[row * b.len()..], &mut acc[row..]);
                // Each row of each vector of columns has a sum and two halves of a block.
                // SAFETY: `Neon` is only made where the features exist; the lengths were checked above.
                row += unsafe {
                    match acc.len() {
                        1 => multiply::<1, 2>(a, b, weight, acc, first),
                        2 | 3 => multiply::<2, 2>(a, b, weight, acc, first),
                        4..8 => multiply::<4, 1>(a, b, weight, acc, first),
                        _ => multiply::<8, 1>(a, b, weight, acc, first),
                    }
                };
            }
        }
    }

    fn finish<'c, C: Element>(
        &self,
        epilogue: &Epilogue<'_>,
        sums: Sums<'_>,
        c: impl Iterator<Item = &'c mut [C]>,
    ) {
        // SAFETY: `Neon` is only made where the features exist.
        unsafe { neon::finish(epilogue, sums, c) }
    }
}

/// Decodes blocks `blocks` of a strip; columns beyond the last row of the weight become zero.
#[target_feature(enable = "neon")]
fn decode(b: Strip<'_>, weight: usize, blocks: Range<usize>, out: &mut [BBlock]) {
    let rows = StripRows::new(b, blocks);
    rows.each_pair(|pair, first, words| {
        let blocks = out[2 * pair..].iter_mut().zip(words.chunks_exact(2));
        for (out, halves) in blocks.take(2) {
            for (out, &bytes) in out.codes[weight].iter_mut().zip(halves) {
                // SAFETY: four words.
                unsafe { vst1q_u8(out[first..first + LANES].as_mut_ptr().cast(), bytes) };
            }
        }
    });
    rows.each_scales(|block, scales| {
        for (out, scales) in out[block].scales[weight].chunks_exact_mut(LANES).zip(scales) {
            // SAFETY: four f32.
            unsafe { vst1q_f32(out.as_mut_ptr(), vmulq_n_f32(scales, 1.0 / B_SCALE)) };
        }
    });
}

/// The values of eight k of four columns, given a word of codes for each column.
#[inline]
#[target_feature(enable = "neon")]
fn values(words: uint8x16_t) -> [float32x4_t; 8] {
    const ORDER: [u8; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];
    // SAFETY: all arrays have 16 bytes.
    let (upper, lower, order) = unsafe {
        (vld1q_u8(e2m1::UPPER.as_ptr()), vld1q_u8(e2m1::LOWER.as_ptr()), vld1q_u8(ORDER.as_ptr()))
    };
    // Four columns of a byte side by side.
    let bytes = vqtbl1q_u8(words, order);
    let mut out = [vdupq_n_f32(0.0); 8];
    for (odd, codes) in
        [vandq_u8(bytes, vdupq_n_u8(15)), vshrq_n_u8::<4>(bytes)].into_iter().enumerate()
    {
        let (high, low) = (vqtbl1q_u8(upper, codes), vqtbl1q_u8(lower, codes));
        for (i, halves) in [vzip1q_u8(low, high), vzip2q_u8(low, high)].into_iter().enumerate() {
            let halves = vreinterpretq_u16_u8(halves);
            let widen = |half| vreinterpretq_f32_u32(vshll_n_u16::<16>(half));
            out[4 * i + odd] = widen(vget_low_u16(halves));
            out[4 * i + 2 + odd] = widen(vget_high_u16(halves));
        }
    }
    out
}

/// `acc[row][column] (+)= Σ a·b` of one weight for `R` rows, the columns of `C` vectors at a time; gives `R`.
///
/// # Safety
/// `a` holds `b.len()` blocks of each of `R` rows; `acc` has `R` rows or more; `weight` is 0 or 1. `C` divides 4.
#[target_feature(enable = "neon")]
unsafe fn multiply<const R: usize, const C: usize>(
    a: &[ABlock],
    b: &[BBlock],
    weight: usize,
    acc: &mut [[f32; STRIP]],
    first: bool,
) -> usize {
    let a = a.as_ptr();
    for columns in (0..STRIP).step_by(C * LANES) {
        let mut sums = [[vdupq_n_f32(0.0); C]; R];
        for (k, block) in b.iter().enumerate() {
            // Even and odd k of each row.
            let mut halves = [[[vdupq_n_f32(0.0); 2]; C]; R];
            for (word, codes) in block.codes[weight].iter().enumerate() {
                let mut b_values = [[vdupq_n_f32(0.0); 8]; C];
                for (c, b_values) in b_values.iter_mut().enumerate() {
                    // SAFETY: four words within a strip.
                    let words = unsafe { vld1q_u8(codes[columns + c * LANES..].as_ptr().cast()) };
                    *b_values = values(words);
                }
                for (r, halves) in halves.iter_mut().enumerate() {
                    // SAFETY: row `r` holds as many blocks as `b`, by the contract of this function.
                    let a = unsafe { &*a.add(r * b.len() + k) };
                    // SAFETY: eight f32 from 0 or 8 of 16 on.
                    let (a0, a1) = unsafe {
                        let a = a.as_ptr().add(8 * word);
                        (vld1q_f32(a), vld1q_f32(a.add(4)))
                    };
                    for (halves, b) in halves.iter_mut().zip(&b_values) {
                        let [even, odd] = *halves;
                        // The first products are no additions to 0, which would make −0 positive.
                        let (even, odd) = if word == 0 {
                            (vmulq_laneq_f32::<0>(b[0], a0), vmulq_laneq_f32::<1>(b[1], a0))
                        } else {
                            (
                                vfmaq_laneq_f32::<0>(even, b[0], a0),
                                vfmaq_laneq_f32::<1>(odd, b[1], a0),
                            )
                        };
                        let even = vfmaq_laneq_f32::<2>(even, b[2], a0);
                        let odd = vfmaq_laneq_f32::<3>(odd, b[3], a0);
                        let even = vfmaq_laneq_f32::<0>(even, b[4], a1);
                        let odd = vfmaq_laneq_f32::<1>(odd, b[5], a1);
                        let even = vfmaq_laneq_f32::<2>(even, b[6], a1);
                        let odd = vfmaq_laneq_f32::<3>(odd, b[7], a1);
                        *halves = [even, odd];
                    }
                }
            }
            for (c, scales) in
                block.scales[weight][columns..].chunks_exact(LANES).take(C).enumerate()
            {
                // SAFETY: four f32.
                let scales = unsafe { vld1q_f32(scales.as_ptr()) };
                for (sums, halves) in sums.iter_mut().zip(&halves) {
                    let [even, odd] = halves[c];
                    sums[c] = vaddq_f32(sums[c], vmulq_f32(vaddq_f32(even, odd), scales));
                }
            }
        }
        for (acc, sums) in acc.iter_mut().zip(sums) {
            for (c, sum) in sums.into_iter().enumerate() {
                let acc = acc[columns + c * LANES..].as_mut_ptr();
                // SAFETY: four f32 within a strip.
                unsafe {
                    let sum = if first { sum } else { vaddq_f32(vld1q_f32(acc), sum) };
                    vst1q_f32(acc, sum);
                }
            }
        }
    }
    R
}
