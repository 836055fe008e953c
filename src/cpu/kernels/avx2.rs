//! AVX2 and FMA: `vpmaddubsw` sums pairs of products in 16 bits, which 16 products of at most
//! 12·24 do not overflow. With AVX-VNNI, `vpdpbusd` sums four products in 32 bits.

use std::arch::x86_64::*;
use std::ops::Range;

use super::strip_rows::{RawSpan, each_span};
use super::unpack256::{LANES, each_block};
use crate::cpu::epilogue::{Epilogue, Sums};
use crate::cpu::integer::{self, ABlock, BBlock, MAGIC, STRIP};
use crate::cpu::schedule::{Kernel, Piece};
use crate::dtype::{DType, Element};
use crate::format::BLOCK;
use crate::matrix::Nvfp4View;

/// Proof that the machine has the features; `VNNI` says whether AVX-VNNI is among them.
pub(in super::super) struct Avx2<const VNNI: bool>(());

impl<const VNNI: bool> Avx2<VNNI> {
    /// # Safety
    /// The machine has AVX2, FMA and F16C, and AVX-VNNI where `VNNI` says so.
    pub unsafe fn new() -> Self {
        Avx2(())
    }
}

/// Rows of one call of the inner loop.
const ROWS_AT_ONCE: usize = 4;

impl<const VNNI: bool> Kernel for Avx2<VNNI> {
    type Input<'a> = Nvfp4View<'a>;
    type A = ABlock;
    type B = BBlock;
    const ROWS: usize = 1;
    const K: usize = BLOCK;
    const FEW_ROWS: usize = ROWS_AT_ONCE;

    fn pack(&self, a: &Nvfp4View<'_>, rows: Range<usize>, units: Range<usize>, out: &mut [ABlock]) {
        integer::pack_row(a, rows.start, units, out);
    }

    fn decode(&self, piece: Piece<'_>, out: &mut [BBlock]) {
        // SAFETY: `Avx2` is only made where the features exist.
        unsafe { decode(piece, out) };
    }

    fn multiply(&self, a: &[ABlock], b: &[BBlock], acc: [&mut [[f32; STRIP]]; 2], first: bool) {
        for (weight, acc) in acc.into_iter().enumerate() {
            assert!(a.len() == acc.len() * b.len());
            for (i, acc) in acc.chunks_mut(ROWS_AT_ONCE).enumerate() {
                let a = &a[i * ROWS_AT_ONCE * b.len()..];
                // SAFETY: `Avx2` is only made where the features exist; the lengths were checked above.
                unsafe {
                    match VNNI {
                        true => vnni::multiply(a, b, weight, acc, first),
                        false => plain::multiply(a, b, weight, acc, first),
                    }
                }
            }
        }
    }

    fn few_rows(&self, piece: Piece<'_>, a: &[ABlock], acc: [&mut [[f32; STRIP]]; 2], first: bool) {
        assert!(acc.iter().all(|acc| a.len() == acc.len() * piece.units.len()));
        // SAFETY: `Avx2` is only made where the features exist; the lengths were checked above.
        unsafe {
            match VNNI {
                true => vnni::decode_multiply(piece, a, acc, first),
                false => plain::decode_multiply(piece, a, acc, first),
            }
        }
    }

    fn finish<'c, T: Element>(
        &self,
        epilogue: &Epilogue<'_>,
        sums: Sums<'_>,
        c: impl Iterator<Item = &'c mut [T]>,
    ) {
        // SAFETY: `Avx2` is only made where the features exist.
        unsafe { finish(epilogue, sums, c) }
    }
}

/// The way from the sums to C as AVX2 code.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn finish<'c, T: Element>(
    epilogue: &Epilogue<'_>,
    sums: Sums<'_>,
    c: impl Iterator<Item = &'c mut [T]>,
) {
    epilogue.finish(sums, c, |values, out| {
        if T::DTYPE != DType::F16 {
            return T::convert(values, out);
        }
        for half in 0..2 {
            // SAFETY: half of sixteen f32 in, and half of sixteen f16 out.
            unsafe {
                let values = _mm256_loadu_ps(values.as_ptr().add(half * LANES));
                let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values);
                _mm_storeu_si128(out.as_mut_ptr().add(half * LANES).cast(), halves);
            }
        }
    });
}

/// The biased doubled codes of a block from its packed ones: four quads.
#[inline]
#[target_feature(enable = "avx2")]
fn unpack(codes: [__m256i; 2]) -> [__m256i; 4] {
    // Biased doubled codes by code.
    let table = _mm256_broadcastsi128_si256(_mm_setr_epi8(
        12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0,
    ));
    let low_nibbles = _mm256_set1_epi8(0x0f);
    let even = |codes| _mm256_shuffle_epi8(table, _mm256_and_si256(codes, low_nibbles));
    let odd = |codes| even(_mm256_srli_epi16::<4>(codes));
    [even(codes[0]), odd(codes[0]), even(codes[1]), odd(codes[1])]
}

#[target_feature(enable = "avx2,f16c")]
fn decode(piece: Piece<'_>, out: &mut [BBlock]) {
    each_span(piece, |weight, first, blocks, span| {
        let out = &mut out[first..first + blocks];
        for half in 0..2 {
            let columns = half * LANES;
            let store = |j: usize, codes: [__m256i; 2], scale: __m256| {
                let out = &mut out[j];
                for (quad, codes) in out.codes[weight].iter_mut().zip(unpack(codes)) {
                    // SAFETY: eight groups of four bytes from column 0 or 8 of 16 on.
                    unsafe {
                        _mm256_storeu_si256(quad[columns..].as_mut_ptr().cast(), codes);
                    }
                }
                // SAFETY: eight f32 from column 0 or 8 of 16 on.
                unsafe { _mm256_storeu_ps(out.scales[weight][columns..].as_mut_ptr(), scale) };
            };
            // SAFETY: this function is compiled for what it needs.
            unsafe { each_block(span, half, blocks, store) };
        }
    });
}

/// The products of up to [`ROWS_AT_ONCE`] rows, compiled for certain features.
macro_rules! products {
    ($name:ident, $features:literal, $vnni:literal) => {
        mod $name {
            use super::*;

            /// `acc[row][column] (+)= Σ a·b` of one weight.
            ///
            /// # Safety
            /// The machine has the features, and `a` as many blocks of each row of `acc` as `b`; `weight` is 0 or 1.
            #[target_feature(enable = $features)]
            pub unsafe fn multiply(
                a: &[ABlock],
                b: &[BBlock],
                weight: usize,
                acc: &mut [[f32; STRIP]],
                first: bool,
            ) {
                for half in 0..2 {
                    // SAFETY: by the contract of this function.
                    unsafe {
                        match acc.len() {
                            1 => multiply_half::<1>(a, b, weight, half, acc, first),
                            2 => multiply_half::<2>(a, b, weight, half, acc, first),
                            3 => multiply_half::<3>(a, b, weight, half, acc, first),
                            _ => multiply_half::<4>(a, b, weight, half, acc, first),
                        }
                    }
                }
            }

            /// [`multiply`] for half a strip and `R` rows, which `acc` has at least.
            ///
            /// # Safety
            /// That of [`multiply`].
            #[target_feature(enable = $features)]
            unsafe fn multiply_half<const R: usize>(
                a: &[ABlock],
                b: &[BBlock],
                weight: usize,
                half: usize,
                acc: &mut [[f32; STRIP]],
                first: bool,
            ) {
                let (a, columns) = (a.as_ptr(), half * LANES);
                // SAFETY: eight words or f32 are loaded and stored from column 0 or 8 of 16 on; row `r` holds as many
                // blocks as `b`, by the contract of this function.
                unsafe {
                    let mut sums = load_sums::<R>(acc, half, first);
                    for (k, block) in b.iter().enumerate() {
                        let mut codes = [_mm256_setzero_si256(); 4];
                        for (codes, quad) in codes.iter_mut().zip(&block.codes[weight]) {
                            *codes = _mm256_loadu_si256(quad[columns..].as_ptr().cast());
                        }
                        let scale = _mm256_loadu_ps(block.scales[weight][columns..].as_ptr());
                        add_block::<R, $vnni>(&codes, scale, a.add(k), b.len(), &mut sums);
                    }
                    store_sums::<R>(acc, half, sums);
                }
            }

            /// Decodes a piece of a strip, and multiplies each block with all rows at once.
            ///
            /// # Safety
            /// The machine has the features, and `a` as many blocks of each row of both `acc` as the piece.
            #[target_feature(enable = $features)]
            pub unsafe fn decode_multiply(
                piece: Piece<'_>,
                a: &[ABlock],
                acc: [&mut [[f32; STRIP]]; 2],
                first: bool,
            ) {
                let all = piece.units.len();
                each_span(piece, |weight, start, blocks, span| {
                    let (a, acc) = (&a[start..], &mut *acc[weight]);
                    for half in 0..2 {
                        let (half, first) = (Half { span, half, blocks }, first && start == 0);
                        // SAFETY: by the contract of this function.
                        unsafe {
                            match acc.len() {
                                1 => half_of_span::<1>(half, a, all, acc, first),
                                2 => half_of_span::<2>(half, a, all, acc, first),
                                3 => half_of_span::<3>(half, a, all, acc, first),
                                _ => half_of_span::<4>(half, a, all, acc, first),
                            }
                        }
                    }
                });
            }

            /// [`decode_multiply`] of half a span of one weight for `R` rows, whose blocks are `distance` apart.
            ///
            /// # Safety
            /// The machine has the features, and `a` as many blocks of each row of `acc` as the span.
            #[target_feature(enable = $features)]
            unsafe fn half_of_span<const R: usize>(
                Half { span, half, blocks }: Half<'_>,
                a: &[ABlock],
                distance: usize,
                acc: &mut [[f32; STRIP]],
                first: bool,
            ) {
                let a = a.as_ptr();
                // SAFETY: by the contract of this function.
                unsafe {
                    let mut sums = load_sums::<R>(acc, half, first);
                    each_block(span, half, blocks, |j, codes, scale| {
                        let codes = unpack(codes);
                        add_block::<R, $vnni>(&codes, scale, a.add(j), distance, &mut sums);
                    });
                    store_sums::<R>(acc, half, sums);
                }
            }
        }
    };
}
products!(plain, "avx2,fma,f16c", false);
products!(vnni, "avx2,fma,f16c,avxvnni", true);

/// Eight columns of the first `blocks` blocks of a span.
#[derive(Clone, Copy)]
struct Half<'a> {
    span: RawSpan<'a>,
    half: usize,
    blocks: usize,
}

/// Half of the accumulators of `R` rows; zero where they hold nothing yet.
///
/// # Safety
/// The machine has AVX2, and `acc` has `R` rows.
#[inline(always)]
unsafe fn load_sums<const R: usize>(acc: &[[f32; STRIP]], half: usize, first: bool) -> [__m256; R] {
    // SAFETY: eight f32 from column 0 or 8 of 16 on.
    unsafe {
        let mut sums = [_mm256_setzero_ps(); R];
        if !first {
            for (sum, acc) in sums.iter_mut().zip(acc) {
                *sum = _mm256_loadu_ps(acc[half * LANES..].as_ptr());
            }
        }
        sums
    }
}

/// The inverse of [`load_sums`].
///
/// # Safety
/// That of [`load_sums`].
#[inline(always)]
unsafe fn store_sums<const R: usize>(acc: &mut [[f32; STRIP]], half: usize, sums: [__m256; R]) {
    for (acc, sum) in acc.iter_mut().zip(sums) {
        // SAFETY: eight f32 from column 0 or 8 of 16 on.
        unsafe { _mm256_storeu_ps(acc[half * LANES..].as_mut_ptr(), sum) };
    }
}

/// Adds the products of a block with `R` rows, whose blocks are `distance` apart, to their sums.
///
/// # Safety
/// `a` points to a block of each of `R` rows. The machine has AVX2 and FMA, and AVX-VNNI where `VNNI` says so.
#[inline(always)]
unsafe fn add_block<const R: usize, const VNNI: bool>(
    codes: &[__m256i; 4],
    scale: __m256,
    a: *const ABlock,
    distance: usize,
    sums: &mut [__m256; R],
) {
    // SAFETY: by the contract of this function.
    unsafe {
        // (MAGIC + dot)·scale − MAGIC·scale is dot·scale without a rounding.
        let offset = _mm256_mul_ps(_mm256_set1_ps(-MAGIC), scale);
        for (r, sum) in sums.iter_mut().enumerate() {
            let a = &*a.add(r * distance);
            let quad = |q: usize| _mm256_set1_epi32(a.quad(q));
            let mut dot = _mm256_set1_epi32(a.start);
            if VNNI {
                for (q, &codes) in codes.iter().enumerate() {
                    dot = _mm256_dpbusd_avx_epi32(dot, codes, quad(q));
                }
            } else {
                let product = |q: usize| _mm256_maddubs_epi16(codes[q], quad(q));
                let low = _mm256_add_epi16(product(0), product(1));
                let high = _mm256_add_epi16(product(2), product(3));
                let pairs = _mm256_add_epi16(low, high);
                dot = _mm256_add_epi32(dot, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
            }
            let term = _mm256_fmadd_ps(_mm256_castsi256_ps(dot), scale, offset);
            *sum = _mm256_fmadd_ps(term, _mm256_set1_ps(a.scale), *sum);
        }
    }
}
