//! AVX-512: `vpermps` looks up the e2m1 values of sixteen columns at once.

use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::ops::Range;

use super::{ABlock, BBlock, pack_row};
use crate::cpu::epilogue::{Epilogue, Sums};
use crate::cpu::integer::STRIP;
use crate::cpu::kernels::avx512;
use crate::cpu::kernels::strip_rows::{Edge, SPAN, StripRows, each_span};
use crate::cpu::kernels::unpack512::Span;
use crate::cpu::schedule::{Kernel, Next, Piece, Strip};
use crate::dtype::Element;
use crate::format::{BLOCK, e2m1};
use crate::matrix::ValuesView;

/// Proof that the machine has the features.
pub(in crate::cpu) struct Avx512<T>(PhantomData<T>);

impl<T> Avx512<T> {
    /// # Safety
    /// The machine has AVX-512 F, BW and VL, and FMA.
    pub unsafe fn new() -> Self {
        Avx512(PhantomData)
    }
}

/// Rows of one call of the inner loop: each has a sum and two halves of a block.
const ROWS_AT_ONCE: usize = 8;

impl<T: Element> Kernel for Avx512<T> {
    type Input<'a> = ValuesView<'a, T>;
    type A = ABlock;
    type B = BBlock;
    const ROWS: usize = 1;
    const K: usize = BLOCK;
    const FEW_ROWS: usize = 4;

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
        let Piece { strips, units, next } = piece;
        for (weight, b) in strips.into_iter().enumerate() {
            // SAFETY: `Avx512` is only made where the features exist.
            unsafe { decode(b, weight, units.start, next, out) };
        }
    }

    fn multiply(&self, a: &[ABlock], b: &[BBlock], acc: [&mut [[f32; STRIP]]; 2], first: bool) {
        for (weight, acc) in acc.into_iter().enumerate() {
            assert!(a.len() == acc.len() * b.len());
            for (i, acc) in acc.chunks_mut(ROWS_AT_ONCE).enumerate() {
                let a = &a[i * ROWS_AT_ONCE * b.len()..];
                // SAFETY: `Avx512` is only made where the features exist; the lengths were checked above.
                unsafe {
                    match acc.len() {
                        1 => multiply::<1>(a, b, weight, acc, first),
                        2 => multiply::<2>(a, b, weight, acc, first),
                        3 => multiply::<3>(a, b, weight, acc, first),
                        4 => multiply::<4>(a, b, weight, acc, first),
                        5 => multiply::<5>(a, b, weight, acc, first),
                        6 => multiply::<6>(a, b, weight, acc, first),
                        7 => multiply::<7>(a, b, weight, acc, first),
                        _ => multiply::<8>(a, b, weight, acc, first),
                    }
                }
            }
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

    fn finish<'c, C: Element>(
        &self,
        epilogue: &Epilogue<'_>,
        sums: Sums<'_>,
        c: impl Iterator<Item = &'c mut [C]>,
    ) {
        // SAFETY: `Avx512` is only made where the features exist.
        unsafe { avx512::finish(epilogue, sums, c) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn decode(b: Strip<'_>, weight: usize, start: usize, next: Next, out: &mut [BBlock]) {
    let (rows, mut edge) = (StripRows::new(b), Edge::default());
    // Scale factors come as 2^-8 of their value.
    let unit = _mm512_set1_ps(256.0);
    for (i, out) in out.chunks_mut(SPAN).enumerate() {
        let block = start + i * SPAN;
        rows.prefetch(next, block);
        let Span { codes, scales } = Span::load(rows.span(block, &mut edge));
        for (j, out) in out.iter_mut().enumerate() {
            let [low, high] = &mut out.codes[weight];
            // SAFETY: sixteen words each, and sixteen f32.
            unsafe {
                _mm512_storeu_si512(low.as_mut_ptr().cast(), codes[2 * j]);
                _mm512_storeu_si512(high.as_mut_ptr().cast(), codes[2 * j + 1]);
                let scale = _mm512_mul_ps(scales[j], unit);
                _mm512_storeu_ps(out.scales[weight].as_mut_ptr(), scale);
            }
        }
    }
}

/// Decodes a piece, and multiplies each block with `R` rows at once.
///
/// # Safety
/// `a` holds as many blocks of each of `R` rows as the piece; both of `acc` have `R` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
unsafe fn decode_multiply<const R: usize>(
    piece: Piece<'_>,
    a: &[ABlock],
    acc: [&mut [[f32; STRIP]]; 2],
    first: bool,
) {
    let (a, distance) = (a.as_ptr(), piece.units.len());
    // Scale factors come as 2^-8 of their value.
    let unit = _mm512_set1_ps(256.0);
    // Of the piece: [weight][row].
    let mut sums = [[_mm512_setzero_ps(); R]; 2];
    each_span(piece, |weight, start, blocks, span| {
        let Span { codes, scales } = Span::load(span);
        let mut add = |j: usize| {
            let codes = [codes[2 * j], codes[2 * j + 1]];
            let scale = _mm512_mul_ps(scales[j], unit);
            // SAFETY: row `r` holds as many blocks as the piece, by the contract of this function.
            unsafe { add_block(codes, scale, a.add(start + j), distance, &mut sums[weight]) };
        };
        // Of a known length: without a loop.
        if blocks == SPAN { (0..SPAN).for_each(&mut add) } else { (0..blocks).for_each(add) }
    });
    for (acc, sums) in acc.into_iter().zip(sums) {
        add_sums(acc, sums, first);
    }
}

/// Adds the products of a block with `R` rows, whose blocks are `distance` apart, to their sums.
///
/// # Safety
/// `a` points to a block of each of `R` rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
unsafe fn add_block<const R: usize>(
    codes: [__m512i; 2],
    scale: __m512,
    a: *const ABlock,
    distance: usize,
    sums: &mut [__m512; R],
) {
    // SAFETY: sixteen f32. `vpermps` looks at the low four bits of each lane only.
    let table = unsafe { _mm512_loadu_ps(e2m1::VALUES.as_ptr()) };
    let (mut even, mut odd) = ([_mm512_setzero_ps(); R], [_mm512_setzero_ps(); R]);
    for (half, mut codes) in codes.into_iter().enumerate() {
        for pair in 0..4 {
            let values = [codes, _mm512_srli_epi32::<4>(codes)]
                .map(|codes| _mm512_permutexvar_ps(codes, table));
            codes = _mm512_srli_epi32::<8>(codes);
            for r in 0..R {
                let k = 8 * half + 2 * pair;
                // SAFETY: by the contract of this function.
                let a = |k: usize| unsafe { _mm512_set1_ps((*a.add(r * distance))[k]) };
                // The first products are no additions to 0, which would make −0 positive.
                (even[r], odd[r]) = if k == 0 {
                    (_mm512_mul_ps(a(k), values[0]), _mm512_mul_ps(a(k + 1), values[1]))
                } else {
                    let even = _mm512_fmadd_ps(a(k), values[0], even[r]);
                    (even, _mm512_fmadd_ps(a(k + 1), values[1], odd[r]))
                };
            }
        }
    }
    for (sum, (even, odd)) in sums.iter_mut().zip(even.into_iter().zip(odd)) {
        *sum = _mm512_add_ps(*sum, _mm512_mul_ps(_mm512_add_ps(even, odd), scale));
    }
}

/// `acc[row][column] (+)= Σ a·b` of one weight for `R` rows.
///
/// # Safety
/// `a` holds `b.len()` blocks of each of `R` rows; `acc` has `R` rows; `weight` is 0 or 1.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
unsafe fn multiply<const R: usize>(
    a: &[ABlock],
    b: &[BBlock],
    weight: usize,
    acc: &mut [[f32; STRIP]],
    first: bool,
) {
    let a = a.as_ptr();
    let mut sums = [_mm512_setzero_ps(); R];
    for (k, block) in b.iter().enumerate() {
        // SAFETY: sixteen words each, and sixteen f32; row `r` holds as many blocks as `b`, by the contract of this function.
        unsafe {
            let codes = block.codes[weight]
                .each_ref()
                .map(|codes| _mm512_loadu_si512(codes.as_ptr().cast()));
            let scale = _mm512_loadu_ps(block.scales[weight].as_ptr());
            add_block(codes, scale, a.add(k), b.len(), &mut sums);
        }
    }
    add_sums(acc, sums, first);
}

/// Adds the sums of a piece to the accumulators of `R` rows; `first` says that they hold nothing yet.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_sums<const R: usize>(acc: &mut [[f32; STRIP]], sums: [__m512; R], first: bool) {
    for (acc, sum) in acc.iter_mut().zip(sums) {
        // SAFETY: sixteen f32 a row.
        unsafe {
            let before = _mm512_loadu_ps(acc.as_ptr());
            let sum = if first { sum } else { _mm512_add_ps(before, sum) };
            _mm512_storeu_ps(acc.as_mut_ptr(), sum);
        }
    }
}
