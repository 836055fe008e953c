//! NEON with dot products: `sdot` sums four products of signed bytes in each of four lanes.

use std::arch::aarch64::*;
use std::arch::asm;
use std::ops::Range;

use super::unpack128::{LANES, StripRows};
use crate::cpu::epilogue::{Epilogue, Sums};
use crate::cpu::integer::{A_SCALE, DOUBLED_PAIRS, SCALES, STRIP};
use crate::cpu::schedule::{Kernel, Piece, Strip};
use crate::dtype::{DType, Element};
use crate::format::{BLOCK, e2m1};
use crate::matrix::Nvfp4View;

/// Proof that the machine has the features.
pub(in super::super) struct Neon(());

impl Neon {
    /// # Safety
    /// The machine has NEON and FEAT_DotProd.
    pub unsafe fn new() -> Self {
        Neon(())
    }
}

/// 16 consecutive k of one row of A.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(16))]
pub(in super::super) struct ABlock {
    /// Doubled codes in quads, as in [`crate::cpu::integer`].
    codes: [i8; BLOCK],
    /// Scale factor times [`A_SCALE`].
    scale: f32,
}

/// 16 consecutive k of 16 columns of both weights; `[weight]` is 0 for B1 and 1 for B2.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(in super::super) struct BBlock {
    /// Doubled codes: `[weight][quad][column]`.
    codes: [[[[i8; 4]; STRIP]; 4]; 2],
    /// Scale factors times 2^-8.
    scales: [[f32; STRIP]; 2],
}

/// Vectors of columns that the inner loop works on; a strip is four. With eight rows these are 16 registers of sums, 8
/// of codes and 2 of scale factors.
const VECTORS: usize = 2;

impl Kernel for Neon {
    type Input<'a> = Nvfp4View<'a>;
    type A = ABlock;
    type B = BBlock;
    const ROWS: usize = 1;
    const K: usize = BLOCK;

    fn pack(&self, a: &Nvfp4View<'_>, rows: Range<usize>, units: Range<usize>, out: &mut [ABlock]) {
        for (block, out) in units.zip(out) {
            (out.codes, out.scale) = pack_block(a, rows.start, block);
        }
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
                for columns in (0..STRIP).step_by(VECTORS * LANES) {
                    // SAFETY: `Neon` is only made where the features exist; the lengths were checked above.
                    unsafe {
                        match acc.len() {
                            1 => multiply::<1>(a, b, weight, columns, acc, first),
                            2 | 3 => multiply::<2>(a, b, weight, columns, acc, first),
                            4..8 => multiply::<4>(a, b, weight, columns, acc, first),
                            _ => multiply::<8>(a, b, weight, columns, acc, first),
                        }
                    }
                }
                row += match acc.len() {
                    1 => 1,
                    2 | 3 => 2,
                    4..8 => 4,
                    _ => 8,
                };
            }
        }
    }

    fn finish<'c, T: Element>(
        &self,
        epilogue: &Epilogue<'_>,
        sums: Sums<'_>,
        c: impl Iterator<Item = &'c mut [T]>,
    ) {
        // SAFETY: `Neon` is only made where the features exist.
        unsafe { finish(epilogue, sums, c) }
    }
}

/// Doubled codes in quads and the scale factor times [`A_SCALE`] of block `block` of row `row` of A.
pub(super) fn pack_block(a: &Nvfp4View<'_>, row: usize, block: usize) -> ([i8; BLOCK], f32) {
    let bytes = &a.row_codes(row)[block * BLOCK / 2..][..BLOCK / 2];
    let mut codes = [0; BLOCK];
    for (quads, bytes) in codes.chunks_exact_mut(8).zip(bytes.chunks_exact(4)) {
        for (i, &byte) in bytes.iter().enumerate() {
            [quads[i], quads[4 + i]] = DOUBLED_PAIRS[usize::from(byte)];
        }
    }
    (codes, SCALES[usize::from(a.row_scales(row)[block])] * A_SCALE)
}

/// The way from the sums to C, with the CPU's own conversion to f16.
#[target_feature(enable = "neon")]
pub(super) fn finish<'c, T: Element>(
    epilogue: &Epilogue<'_>,
    sums: Sums<'_>,
    c: impl Iterator<Item = &'c mut [T]>,
) {
    epilogue.finish(sums, c, |values, out| {
        if T::DTYPE != DType::F16 {
            return T::convert(values, out);
        }
        for columns in (0..STRIP).step_by(LANES) {
            // SAFETY: four of sixteen f32 in, and four of sixteen f16 out.
            unsafe {
                let values = vld1q_f32(values.as_ptr().add(columns));
                let halves = vreinterpret_u16_f16(vcvt_f16_f32(values));
                vst1_u16(out.as_mut_ptr().add(columns).cast(), halves);
            }
        }
    });
}

/// Doubled codes of the low nibbles of packed bytes, and of the high ones.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn doubled(bytes: uint8x16_t) -> [int8x16_t; 2] {
    // SAFETY: the array has 16 bytes.
    let table = unsafe { vld1q_s8(e2m1::DOUBLED.as_ptr()) };
    [vqtbl1q_s8(table, vandq_u8(bytes, vdupq_n_u8(15))), vqtbl1q_s8(table, vshrq_n_u8::<4>(bytes))]
}

/// Decodes blocks `blocks` of a strip; columns beyond the last row of the weight become zero.
#[target_feature(enable = "neon")]
fn decode(b: Strip<'_>, weight: usize, blocks: Range<usize>, out: &mut [BBlock]) {
    let rows = StripRows::new(b, blocks);
    rows.each_pair(|pair, first, words| {
        let blocks = out[2 * pair..].iter_mut().zip(words.chunks_exact(2));
        for (out, halves) in blocks.take(2) {
            for (half, &bytes) in halves.iter().enumerate() {
                for (odd, codes) in doubled(bytes).into_iter().enumerate() {
                    let quad = &mut out.codes[weight][2 * half + odd][first..first + LANES];
                    // SAFETY: four columns of four bytes.
                    unsafe { vst1q_s8(quad.as_mut_ptr().cast(), codes) };
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

/// The dot products of four quads of four columns with the quads of a row.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot(quads: [int8x16_t; 4], row: int8x16_t) -> int32x4_t {
    let sums;
    // The intrinsic is not stable; and of sixty-four single instructions the compiler would make a loop again.
    // SAFETY: the instructions exist by the features of this function, and touch their registers only.
    unsafe {
        asm!(
            "movi {sums:v}.4s, #0",
            "sdot {sums:v}.4s, {q0:v}.16b, {row:v}.4b[0]",
            "sdot {sums:v}.4s, {q1:v}.16b, {row:v}.4b[1]",
            "sdot {sums:v}.4s, {q2:v}.16b, {row:v}.4b[2]",
            "sdot {sums:v}.4s, {q3:v}.16b, {row:v}.4b[3]",
            sums = out(vreg) sums,
            q0 = in(vreg) quads[0],
            q1 = in(vreg) quads[1],
            q2 = in(vreg) quads[2],
            q3 = in(vreg) quads[3],
            row = in(vreg) row,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// `acc[row][column] (+)= Σ a·b` of one weight for `R` rows and the columns of [`VECTORS`] vectors from `columns` on.
///
/// # Safety
/// `a` holds `b.len()` blocks of each of `R` rows; `acc` has `R` rows or more; `weight` is 0 or 1, and so many columns
/// from `columns` on are in a strip.
#[target_feature(enable = "neon,dotprod")]
unsafe fn multiply<const R: usize>(
    a: &[ABlock],
    b: &[BBlock],
    weight: usize,
    columns: usize,
    acc: &mut [[f32; STRIP]],
    first: bool,
) {
    let a = a.as_ptr();
    let mut sums = [[vdupq_n_f32(0.0); VECTORS]; R];
    if !first {
        for (sums, acc) in sums.iter_mut().zip(&*acc) {
            for (v, sum) in sums.iter_mut().enumerate() {
                // SAFETY: four f32 within a strip, by the contract of this function.
                *sum = unsafe { vld1q_f32(acc[columns + v * LANES..].as_ptr()) };
            }
        }
    }
    for (k, block) in b.iter().enumerate() {
        let mut codes = [[vdupq_n_s8(0); 4]; VECTORS];
        for (v, codes) in codes.iter_mut().enumerate() {
            for (codes, quad) in codes.iter_mut().zip(&block.codes[weight]) {
                // SAFETY: four columns of four bytes within a strip.
                *codes = unsafe { vld1q_s8(quad[columns + v * LANES..].as_ptr().cast()) };
            }
        }
        let mut scales = [vdupq_n_f32(0.0); VECTORS];
        for (v, scales) in scales.iter_mut().enumerate() {
            // SAFETY: four f32 within a strip.
            *scales = unsafe { vld1q_f32(block.scales[weight][columns + v * LANES..].as_ptr()) };
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: row `r` holds as many blocks as `b`, by the contract of this function.
            let a = unsafe { &*a.add(r * b.len() + k) };
            // SAFETY: sixteen bytes.
            let row = unsafe { vld1q_s8(a.codes.as_ptr()) };
            for ((sum, &codes), &scales) in sums.iter_mut().zip(&codes).zip(&scales) {
                // 12 bits times two scales of 4 bits: only the addition rounds.
                let term = vmulq_f32(vcvtq_f32_s32(dot(codes, row)), scales);
                *sum = vfmaq_n_f32(*sum, term, a.scale);
            }
        }
    }
    for (acc, sums) in acc.iter_mut().zip(sums) {
        for (v, sum) in sums.into_iter().enumerate() {
            // SAFETY: four f32 within a strip.
            unsafe { vst1q_f32(acc[columns + v * LANES..].as_mut_ptr(), sum) };
        }
    }
}
