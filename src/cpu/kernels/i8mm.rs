//! NEON with products of matrices of bytes: `smmla` multiplies two rows of A with two columns of B, eight k deep.

use std::arch::aarch64::*;
use std::arch::asm;
use std::ops::Range;

use super::neon;
use super::unpack128::{LANES, StripRows};
use crate::cpu::epilogue::{Epilogue, Sums};
use crate::cpu::integer::STRIP;
use crate::cpu::schedule::{Kernel, Piece, Strip};
use crate::dtype::Element;
use crate::format::BLOCK;
use crate::matrix::Nvfp4View;

/// Proof that the machine has the features.
pub(in super::super) struct I8mm(());

impl I8mm {
    /// # Safety
    /// The machine has NEON and FEAT_I8MM.
    pub unsafe fn new() -> Self {
        I8mm(())
    }
}

/// 16 consecutive k of two rows of A.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(16))]
pub(in super::super) struct ABlock {
    /// Doubled codes of eight k, whose order is that of two quads of [`crate::cpu::integer`]: `[half][row][k]`.
    codes: [[[i8; 8]; 2]; 2],
    /// Scale factors of the rows times [`crate::cpu::integer::A_SCALE`], each twice.
    scales: [[f32; 2]; 2],
}

/// 16 consecutive k of 16 columns of both weights; `[weight]` is 0 for B1 and 1 for B2.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(in super::super) struct BBlock {
    /// Doubled codes of eight k in the order of A: `[weight][half][column]`.
    codes: [[[[i8; 8]; STRIP]; 2]; 2],
    /// Scale factors times 2^-8.
    scales: [[f32; STRIP]; 2],
}

/// Pairs of columns that the inner loop works on; a strip is eight. With three pairs of rows these are 12 registers
/// of sums, 8 of codes and 4 of scale factors.
const PAIRS: usize = 4;

/// Pairs of rows that the inner loop works on, at most.
const ROW_PAIRS: usize = 3;

impl Kernel for I8mm {
    type Input<'a> = Nvfp4View<'a>;
    type A = ABlock;
    type B = BBlock;
    const ROWS: usize = 2;
    const K: usize = BLOCK;

    fn pack(&self, a: &Nvfp4View<'_>, rows: Range<usize>, units: Range<usize>, out: &mut [ABlock]) {
        for (block, out) in units.zip(out) {
            *out = ABlock::default();
            for (i, row) in rows.clone().enumerate() {
                let (codes, scale) = neon::pack_block(a, row, block);
                for (half, codes) in out.codes.iter_mut().zip(codes.as_chunks().0) {
                    half[i] = *codes;
                }
                out.scales[i] = [scale; 2];
            }
        }
    }

    fn decode(&self, piece: Piece<'_>, out: &mut [BBlock]) {
        for (weight, b) in piece.strips.into_iter().enumerate() {
            // SAFETY: `I8mm` is only made where the features exist.
            unsafe { decode(b, weight, piece.units.clone(), out) };
        }
    }

    fn multiply(&self, a: &[ABlock], b: &[BBlock], acc: [&mut [[f32; STRIP]]; 2], first: bool) {
        for (weight, acc) in acc.into_iter().enumerate() {
            assert!(2 * a.len() == acc.len() * b.len() && acc.len().is_multiple_of(2));
            let (acc, _) = acc.as_chunks_mut::<2>();
            for (i, acc) in acc.chunks_mut(ROW_PAIRS).enumerate() {
                let a = &a[i * ROW_PAIRS * b.len()..];
                for columns in (0..STRIP).step_by(2 * PAIRS) {
                    // SAFETY: `I8mm` is only made where the features exist; the lengths were checked above.
                    unsafe {
                        match acc.len() {
                            1 => multiply::<1>(a, b, weight, columns, acc, first),
                            2 => multiply::<2>(a, b, weight, columns, acc, first),
                            _ => multiply::<3>(a, b, weight, columns, acc, first),
                        }
                    }
                }
            }
        }
    }

    fn finish<'c, T: Element>(
        &self,
        epilogue: &Epilogue<'_>,
        sums: Sums<'_>,
        c: impl Iterator<Item = &'c mut [T]>,
    ) {
        // SAFETY: `I8mm` is only made where the features exist.
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
                // The even k of four columns and the odd ones: four bytes of each belong to a column.
                let [even, odd] = neon::doubled(bytes).map(|codes| vreinterpretq_s32_s8(codes));
                let out = out[first..first + LANES].as_mut_ptr().cast::<i32>();
                // SAFETY: four columns of eight bytes.
                unsafe {
                    vst1q_s32(out, vzip1q_s32(even, odd));
                    vst1q_s32(out.add(4), vzip2q_s32(even, odd));
                }
            }
        }
    });
    rows.each_scales(|block, scales| {
        for (out, scales) in out[block].scales[weight].chunks_exact_mut(LANES).zip(scales) {
            // SAFETY: four f32.
            unsafe { vst1q_f32(out.as_mut_ptr(), scales) };
        }
    });
}

/// The dot products of two rows with two columns, row by row; both are given in two halves of eight k.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn dot(rows: [int8x16_t; 2], columns: [int8x16_t; 2]) -> int32x4_t {
    let sums;
    // The intrinsic is not stable.
    // SAFETY: the instructions exist by the features of this function, and touch their registers only.
    unsafe {
        asm!(
            "movi {sums:v}.4s, #0",
            "smmla {sums:v}.4s, {r0:v}.16b, {c0:v}.16b",
            "smmla {sums:v}.4s, {r1:v}.16b, {c1:v}.16b",
            sums = out(vreg) sums,
            r0 = in(vreg) rows[0],
            r1 = in(vreg) rows[1],
            c0 = in(vreg) columns[0],
            c1 = in(vreg) columns[1],
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// `acc[row][column] (+)= Σ a·b` of one weight for `P` pairs of rows and [`PAIRS`] pairs of columns from `columns` on.
///
/// # Safety
/// `a` holds `b.len()` blocks of each of `P` pairs of rows, which `acc` has; `weight` is 0 or 1, and so many columns
/// from `columns` on are in a strip.
#[target_feature(enable = "neon,i8mm")]
unsafe fn multiply<const P: usize>(
    a: &[ABlock],
    b: &[BBlock],
    weight: usize,
    columns: usize,
    acc: &mut [[[f32; STRIP]; 2]],
    first: bool,
) {
    let a = a.as_ptr();
    // Each a pair of rows by a pair of columns.
    let mut sums = [[vdupq_n_f32(0.0); PAIRS]; P];
    if !first {
        for (sums, [acc0, acc1]) in sums.iter_mut().zip(&*acc) {
            for (c, sum) in sums.iter_mut().enumerate() {
                // SAFETY: two f32 of each row within a strip, by the contract of this function.
                *sum = unsafe {
                    vcombine_f32(
                        vld1_f32(acc0[columns + 2 * c..].as_ptr()),
                        vld1_f32(acc1[columns + 2 * c..].as_ptr()),
                    )
                };
            }
        }
    }
    for (k, block) in b.iter().enumerate() {
        let mut codes = [[vdupq_n_s8(0); 2]; PAIRS];
        let mut scales = [vdupq_n_f32(0.0); PAIRS];
        for (c, (codes, scales)) in codes.iter_mut().zip(&mut scales).enumerate() {
            for (codes, half) in codes.iter_mut().zip(&block.codes[weight]) {
                // SAFETY: two columns of eight bytes within a strip.
                *codes = unsafe { vld1q_s8(half[columns + 2 * c..].as_ptr().cast()) };
            }
            // SAFETY: two f32 within a strip.
            let pair = unsafe { vld1_f32(block.scales[weight][columns + 2 * c..].as_ptr()) };
            *scales = vcombine_f32(pair, pair);
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: pair `r` holds as many blocks as `b`, by the contract of this function.
            let a = unsafe { &*a.add(r * b.len() + k) };
            // SAFETY: two rows of eight bytes for each half, and four f32.
            let (rows, of_rows) = unsafe {
                let rows = a.codes.each_ref().map(|half| vld1q_s8(half.as_ptr().cast()));
                (rows, vld1q_f32(a.scales.as_ptr().cast()))
            };
            for ((sum, &codes), &scales) in sums.iter_mut().zip(&codes).zip(&scales) {
                // 12 bits times two scales of 4 bits: only the addition rounds.
                let term = vmulq_f32(vcvtq_f32_s32(dot(rows, codes)), scales);
                *sum = vfmaq_f32(*sum, term, of_rows);
            }
        }
    }
    for ([acc0, acc1], sums) in acc.iter_mut().zip(sums) {
        for (c, sum) in sums.into_iter().enumerate() {
            // SAFETY: two f32 of each row within a strip.
            unsafe {
                vst1_f32(acc0[columns + 2 * c..].as_mut_ptr(), vget_low_f32(sum));
                vst1_f32(acc1[columns + 2 * c..].as_mut_ptr(), vget_high_f32(sum));
            }
        }
    }
}
