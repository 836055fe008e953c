//! AVX-512 with VNNI: `vpdpbusd` sums four products of bytes in each of 16 lanes.

use std::arch::x86_64::*;
use std::ops::Range;

use super::strip_rows::{Edge, SPAN, StripRows, each_span};
use super::unpack512::Span;
use crate::cpu::epilogue::{Epilogue, Sums};
use crate::cpu::integer::{self, ABlock, BBlock, MAGIC, STRIP};
use crate::cpu::schedule::{Kernel, Next, Piece, Strip};
use crate::dtype::{DType, Element};
use crate::format::BLOCK;
use crate::matrix::Nvfp4View;

/// Proof that the machine has the features.
pub(in super::super) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The machine has AVX-512 F, BW, VL and VNNI.
    pub unsafe fn new() -> Self {
        Avx512(())
    }
}

/// Rows of one call of the inner loop: 2·6 accumulators, 8 vectors of codes and 4 of scales leave 8
/// registers for what comes and goes. With 8 rows the compiler spills: 125 instead of 65
/// ms for 256,4096,7168 on two CPUs of an Ice Lake Xeon.
const ROWS_AT_ONCE: usize = 6;

impl Kernel for Avx512 {
    type Input<'a> = Nvfp4View<'a>;
    type A = ABlock;
    type B = BBlock;
    const ROWS: usize = 1;
    const K: usize = BLOCK;
    const FEW_ROWS: usize = 4;

    fn pack(&self, a: &Nvfp4View<'_>, rows: Range<usize>, units: Range<usize>, out: &mut [ABlock]) {
        integer::pack_row(a, rows.start, units, out);
    }

    fn decode(&self, piece: Piece<'_>, out: &mut [BBlock]) {
        let Piece { strips, units, next } = piece;
        for (weight, b) in strips.into_iter().enumerate() {
            // SAFETY: `Avx512` is only made where the features exist.
            unsafe { decode(b, weight, units.start, next, out) };
        }
    }

    fn multiply(&self, a: &[ABlock], b: &[BBlock], acc: [&mut [[f32; STRIP]]; 2], first: bool) {
        let [acc1, acc2] = acc;
        assert!(a.len() == acc1.len() * b.len() && acc1.len() == acc2.len());
        let mut row = 0;
        while row < acc1.len() {
            let rows = (acc1.len() - row).min(ROWS_AT_ONCE);
            let a = &a[row * b.len()..];
            let (acc1, acc2) = (&mut acc1[row..row + rows], &mut acc2[row..row + rows]);
            // SAFETY: `Avx512` is only made where the features exist; the lengths were checked above.
            unsafe {
                match rows {
                    1 => multiply::<1>(a, b, acc1, acc2, first),
                    2 => multiply::<2>(a, b, acc1, acc2, first),
                    3 => multiply::<3>(a, b, acc1, acc2, first),
                    4 => multiply::<4>(a, b, acc1, acc2, first),
                    5 => multiply::<5>(a, b, acc1, acc2, first),
                    _ => multiply::<6>(a, b, acc1, acc2, first),
                }
            }
            row += rows;
        }
    }

    fn few_rows(&self, piece: Piece<'_>, a: &[ABlock], acc: [&mut [[f32; STRIP]]; 2], first: bool) {
        assert!(acc.iter().all(|acc| a.len() == acc.len() * piece.units.len()));
        // SAFETY: `Avx512` is only made where the features exist; the lengths were checked above.
        unsafe {
            match acc[0].len() {
                1 => decode_multiply::<1>(piece, a, acc, first),
                2 => decode_multiply::<2>(piece, a, acc, first),
                3 => decode_multiply::<3>(piece, a, acc, first),
                _ => decode_multiply::<4>(piece, a, acc, first),
            }
        }
    }

    fn finish<'c, T: Element>(
        &self,
        epilogue: &Epilogue<'_>,
        sums: Sums<'_>,
        c: impl Iterator<Item = &'c mut [T]>,
    ) {
        // SAFETY: `Avx512` is only made where the features exist.
        unsafe { finish(epilogue, sums, c) }
    }
}

/// The gate and the conversion as AVX-512 code.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
pub(super) fn finish<'c, T: Element>(
    epilogue: &Epilogue<'_>,
    sums: Sums<'_>,
    c: impl Iterator<Item = &'c mut [T]>,
) {
    epilogue.finish(sums, c, |values, out| {
        if T::DTYPE != DType::F16 {
            return T::convert(values, out);
        }
        // SAFETY: sixteen f32 in, and sixteen f16 out.
        unsafe {
            let values = _mm512_loadu_ps(values.as_ptr());
            let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values);
            _mm256_storeu_si256(out.as_mut_ptr().cast(), halves);
        }
    });
}

/// The biased doubled codes of a block from its packed ones: four quads.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn unpack(codes: [__m512i; 2]) -> [__m512i; 4] {
    // Biased doubled codes by code.
    let table = _mm512_broadcast_i32x4(_mm_setr_epi8(
        12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0,
    ));
    let low_nibbles = _mm512_set1_epi8(0x0f);
    let even = |codes| _mm512_shuffle_epi8(table, _mm512_and_si512(codes, low_nibbles));
    let odd = |codes| even(_mm512_srli_epi16::<4>(codes));
    [even(codes[0]), odd(codes[0]), even(codes[1]), odd(codes[1])]
}

/// Decodes a piece, and multiplies each block with `R` rows at once, without a way through the cache.
///
/// # Safety
/// `a` holds as many blocks of each of `R` rows as the piece; both of `acc` have `R` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn decode_multiply<const R: usize>(
    piece: Piece<'_>,
    a: &[ABlock],
    acc: [&mut [[f32; STRIP]]; 2],
    first: bool,
) {
    let (a, distance) = (a.as_ptr(), piece.units.len());
    let minus_magic = _mm512_set1_ps(-MAGIC);
    each_span(piece, |weight, start, blocks, span| {
        let Span { codes, scales } = Span::load(span);
        let acc = &mut *acc[weight];
        let mut sums = [_mm512_setzero_ps(); R];
        if !(first && start == 0) {
            for (sum, acc) in sums.iter_mut().zip(&*acc) {
                // SAFETY: sixteen f32.
                *sum = unsafe { _mm512_loadu_ps(acc.as_ptr()) };
            }
        }
        let mut add = |j: usize| {
            let (codes, scale) = (unpack([codes[2 * j], codes[2 * j + 1]]), scales[j]);
            // (MAGIC + dot)·scale − MAGIC·scale is dot·scale without a rounding.
            let offset = _mm512_mul_ps(minus_magic, scale);
            for (r, sum) in sums.iter_mut().enumerate() {
                // SAFETY: row `r` holds as many blocks as the piece, by the contract of this function.
                let a = unsafe { &*a.add(r * distance + start + j) };
                let mut dot = _mm512_set1_epi32(a.start);
                for (q, &codes) in codes.iter().enumerate() {
                    dot = _mm512_dpbusd_epi32(dot, codes, _mm512_set1_epi32(a.quad(q)));
                }
                let term = _mm512_fmadd_ps(_mm512_castsi512_ps(dot), scale, offset);
                *sum = _mm512_fmadd_ps(term, _mm512_set1_ps(a.scale), *sum);
            }
        };
        // Of a known length: without a loop.
        if blocks == SPAN {
            (0..SPAN).for_each(&mut add)
        } else {
            (0..blocks).for_each(add)
        }
        for (acc, sum) in acc.iter_mut().zip(sums) {
            // SAFETY: sixteen f32.
            unsafe { _mm512_storeu_ps(acc.as_mut_ptr(), sum) };
        }
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn decode(b: Strip<'_>, weight: usize, start: usize, next: Next, out: &mut [BBlock]) {
    let (rows, mut edge) = (StripRows::new(b), Edge::default());
    for (i, out) in out.chunks_mut(SPAN).enumerate() {
        let block = start + i * SPAN;
        rows.prefetch(next, block);
        let Span { codes, scales } = Span::load(rows.span(block, &mut edge));
        for (j, out) in out.iter_mut().enumerate() {
            let quads = unpack([codes[2 * j], codes[2 * j + 1]]);
            for (out, quad) in out.codes[weight].iter_mut().zip(quads) {
                // SAFETY: a quad is 64 bytes, aligned to 64 by `BBlock`.
                unsafe { _mm512_store_si512(out.as_mut_ptr().cast(), quad) };
            }
            // SAFETY: sixteen f32.
            unsafe { _mm512_storeu_ps(out.scales[weight].as_mut_ptr(), scales[j]) };
        }
    }
}

/// Codes and scale factors of one weight.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(b: &BBlock, weight: usize) -> ([__m512i; 4], __m512) {
    let quads = b.codes[weight].as_ptr().cast::<__m512i>();
    // SAFETY: four quads of 64 bytes, aligned to 64 by `BBlock`, and sixteen f32.
    unsafe {
        (
            [
                _mm512_load_si512(quads),
                _mm512_load_si512(quads.add(1)),
                _mm512_load_si512(quads.add(2)),
                _mm512_load_si512(quads.add(3)),
            ],
            _mm512_loadu_ps(b.scales[weight].as_ptr()),
        )
    }
}

/// `acc[weight][row][column] (+)= Σ a·b` for `R` rows.
///
/// # Safety
/// `a` holds `b.len()` blocks of each of `R` rows; `acc1` and `acc2` have `R` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn multiply<const R: usize>(
    a: &[ABlock],
    b: &[BBlock],
    acc1: &mut [[f32; STRIP]],
    acc2: &mut [[f32; STRIP]],
    first: bool,
) {
    let a = a.as_ptr();
    let mut sum1 = [_mm512_setzero_ps(); R];
    let mut sum2 = [_mm512_setzero_ps(); R];
    if !first {
        for r in 0..R {
            // SAFETY: sixteen f32 a row.
            unsafe {
                sum1[r] = _mm512_loadu_ps(acc1[r].as_ptr());
                sum2[r] = _mm512_loadu_ps(acc2[r].as_ptr());
            }
        }
    }
    let minus_magic = _mm512_set1_ps(-MAGIC);
    for (k, block) in b.iter().enumerate() {
        let (codes1, scale1) = load(block, 0);
        let (codes2, scale2) = load(block, 1);
        // (MAGIC + dot)·scale − MAGIC·scale is dot·scale without a rounding.
        let offset1 = _mm512_mul_ps(minus_magic, scale1);
        let offset2 = _mm512_mul_ps(minus_magic, scale2);
        for r in 0..R {
            // SAFETY: row `r` holds as many blocks as `b`, by the contract of this function.
            let a = unsafe { &*a.add(r * b.len() + k) };
            let mut dot1 = _mm512_set1_epi32(a.start);
            let mut dot2 = dot1;
            for q in 0..4 {
                let quad = _mm512_set1_epi32(a.quad(q));
                dot1 = _mm512_dpbusd_epi32(dot1, codes1[q], quad);
                dot2 = _mm512_dpbusd_epi32(dot2, codes2[q], quad);
            }
            let scale = _mm512_set1_ps(a.scale);
            let term1 = _mm512_fmadd_ps(_mm512_castsi512_ps(dot1), scale1, offset1);
            let term2 = _mm512_fmadd_ps(_mm512_castsi512_ps(dot2), scale2, offset2);
            sum1[r] = _mm512_fmadd_ps(term1, scale, sum1[r]);
            sum2[r] = _mm512_fmadd_ps(term2, scale, sum2[r]);
        }
    }
    for r in 0..R {
        // SAFETY: sixteen f32 a row.
        unsafe {
            _mm512_storeu_ps(acc1[r].as_mut_ptr(), sum1[r]);
            _mm512_storeu_ps(acc2[r].as_mut_ptr(), sum2[r]);
        }
    }
}
