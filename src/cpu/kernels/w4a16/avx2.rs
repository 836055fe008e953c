//! AVX2 and FMA: `vpshufb` looks up both bytes of 32 values in bf16, which are the upper halves of their f32.

use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::ops::Range;

use super::{ABlock, BBlock, pack_row};
use crate::cpu::epilogue::{Epilogue, Sums};
use crate::cpu::integer::STRIP;
use crate::cpu::kernels::avx2;
use crate::cpu::kernels::strip_rows::each_span;
use crate::cpu::kernels::unpack256::{LANES, each_block};
use crate::cpu::schedule::{Kernel, Piece};
use crate::dtype::Element;
use crate::format::{BLOCK, e2m1};
use crate::matrix::ValuesView;

/// Proof that the machine has the features.
pub(in crate::cpu) struct Avx2<T>(PhantomData<T>);

impl<T> Avx2<T> {
    /// # Safety
    /// The machine has AVX2, FMA and F16C.
    pub unsafe fn new() -> Self {
        Avx2(PhantomData)
    }
}

/// Rows of one call of the inner loop: each has two halves of a block.
const ROWS_AT_ONCE: usize = 4;

impl<T: Element> Kernel for Avx2<T> {
    type Input<'a> = ValuesView<'a, T>;
    type A = ABlock;
    type B = BBlock;
    const ROWS: usize = 1;
    const K: usize = BLOCK;
    const FEW_ROWS: usize = ROWS_AT_ONCE;

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
        // SAFETY: `Avx2` is only made where the features exist.
        unsafe { decode(piece, out) };
    }

    fn multiply(&self, a: &[ABlock], b: &[BBlock], acc: [&mut [[f32; STRIP]]; 2], first: bool) {
        for (weight, acc) in acc.into_iter().enumerate() {
            assert!(a.len() == acc.len() * b.len());
            for (i, acc) in acc.chunks_mut(ROWS_AT_ONCE).enumerate() {
                let a = &a[i * ROWS_AT_ONCE * b.len()..];
                for half in 0..2 {
                    // SAFETY: `Avx2` is only made where the features exist; the lengths were checked
                    // above.
                    unsafe {
                        match acc.len() {
                            1 => multiply::<1>(a, b, weight, half, acc, first),
                            2 => multiply::<2>(a, b, weight, half, acc, first),
                            3 => multiply::<3>(a, b, weight, half, acc, first),
                            _ => multiply::<4>(a, b, weight, half, acc, first),
                        }
                    }
                }
            }
        }
    }

    fn few_rows(&self, piece: Piece<'_>, a: &[ABlock], acc: [&mut [[f32; STRIP]]; 2], first: bool) {
        assert!(acc.iter().all(|acc| a.len() == acc.len() * piece.units.len()));
        // SAFETY: `Avx2` is only made where the features exist; the lengths were checked above.
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
        // SAFETY: `Avx2` is only made where the features exist.
        unsafe { avx2::finish(epilogue, sums, c) }
    }
}

#[target_feature(enable = "avx2,f16c")]
fn decode(piece: Piece<'_>, out: &mut [BBlock]) {
    // Scale factors come as 2^-8 of their value.
    let unit = _mm256_set1_ps(256.0);
    each_span(piece, |weight, first, blocks, span| {
        let out = &mut out[first..first + blocks];
        for half in 0..2 {
            let columns = half * LANES;
            let store = |j: usize, codes: [__m256i; 2], scale: __m256| {
                let out = &mut out[j];
                for (out, codes) in out.codes[weight].iter_mut().zip(codes) {
                    // SAFETY: eight words from column 0 or 8 of 16 on.
                    unsafe { _mm256_storeu_si256(out[columns..].as_mut_ptr().cast(), codes) };
                }
                let (out, scale) = (&mut out.scales[weight], _mm256_mul_ps(scale, unit));
                // SAFETY: eight f32 from column 0 or 8 of 16 on.
                unsafe { _mm256_storeu_ps(out[columns..].as_mut_ptr(), scale) };
            };
            // SAFETY: this function is compiled for what it needs.
            unsafe { each_block(span, half, blocks, store) };
        }
    });
}

/// Byte `byte` of the upper half of each e2m1 value's f32, by code.
const fn bytes_of_values(byte: usize) -> [u8; 16] {
    let mut out = [0; 16];
    let mut code = 0;
    while code < 16 {
        out[code] = e2m1::VALUES[code].to_bits().to_le_bytes()[2 + byte];
        code += 1;
    }
    out
}

/// `acc[row][column] (+)= Σ a·b` of one weight for `R` rows and half a strip.
///
/// # Safety
/// `a` holds `b.len()` blocks of each of `R` rows; `acc` has `R` rows; `weight` and `half` are 0 or 1.
#[target_feature(enable = "avx2,fma")]
unsafe fn multiply<const R: usize>(
    a: &[ABlock],
    b: &[BBlock],
    weight: usize,
    half: usize,
    acc: &mut [[f32; STRIP]],
    first: bool,
) {
    let (a, columns) = (a.as_ptr(), half * LANES);
    let mut sums = [_mm256_setzero_ps(); R];
    // SAFETY: eight words or f32 from column 0 or 8 of 16 on; row `r` holds as many blocks as `b`, by the contract of this
    // function.
    unsafe {
        for (k, block) in b.iter().enumerate() {
            let codes = block.codes[weight]
                .each_ref()
                .map(|codes| _mm256_loadu_si256(codes[columns..].as_ptr().cast()));
            let scale = _mm256_loadu_ps(block.scales[weight][columns..].as_ptr());
            add_block::<R>(codes, scale, a.add(k), b.len(), &mut sums);
        }
    }
    add_sums(acc, half, sums, first);
}

/// Adds the sums of a piece to half of the accumulators of `R` rows; `first` says that they hold nothing yet.
#[inline]
#[target_feature(enable = "avx2")]
fn add_sums<const R: usize>(acc: &mut [[f32; STRIP]], half: usize, sums: [__m256; R], first: bool) {
    for (acc, sum) in acc.iter_mut().zip(sums) {
        let acc = acc[half * LANES..].as_mut_ptr();
        // SAFETY: eight f32 from column 0 or 8 of 16 on.
        unsafe {
            let sum = if first { sum } else { _mm256_add_ps(_mm256_loadu_ps(acc), sum) };
            _mm256_storeu_ps(acc, sum);
        }
    }
}

/// Decodes a piece, and multiplies each block with `R` rows at once.
///
/// # Safety
/// `a` holds as many blocks of each of `R` rows as the piece; both of `acc` have `R` rows.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn decode_multiply<const R: usize>(
    piece: Piece<'_>,
    a: &[ABlock],
    acc: [&mut [[f32; STRIP]]; 2],
    first: bool,
) {
    let distance = piece.units.len();
    // Scale factors come as 2^-8 of their value.
    let unit = _mm256_set1_ps(256.0);
    // Of the piece: [weight][half][row].
    let mut sums = [[[_mm256_setzero_ps(); R]; 2]; 2];
    each_span(piece, |weight, start, blocks, span| {
        for (half, sums) in sums[weight].iter_mut().enumerate() {
            let add = |j: usize, codes: [__m256i; 2], scale: __m256| {
                let scale = _mm256_mul_ps(scale, unit);
                // SAFETY: row `r` holds as many blocks as the piece, by the contract of this function.
                unsafe {
                    let a = a.as_ptr().add(start + j);
                    add_block::<R>(codes, scale, a, distance, sums);
                }
            };
            // SAFETY: this function is compiled for what it needs.
            unsafe { each_block(span, half, blocks, add) };
        }
    });
    for (acc, sums) in acc.into_iter().zip(sums) {
        for (half, sums) in sums.into_iter().enumerate() {
            add_sums(acc, half, sums, first);
        }
    }
}

/// Adds the products of a block of eight columns with `R` rows, whose blocks are `distance` apart, to their sums.
///
/// # Safety
/// `a` points to a block of each of `R` rows.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn add_block<const R: usize>(
    codes: [__m256i; 2],
    scale: __m256,
    a: *const ABlock,
    distance: usize,
    sums: &mut [__m256; R],
) {
    const LOW: [u8; 16] = bytes_of_values(0);
    const HIGH: [u8; 16] = bytes_of_values(1);
    // The lower half of each column's word, then the upper one, within lanes of four columns.
    const HALVES: [u8; 16] = [0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15];
    // SAFETY: sixteen bytes each.
    let table = |bytes: &[u8; 16]| unsafe {
        _mm256_broadcastsi128_si256(_mm_loadu_si128(bytes.as_ptr().cast()))
    };
    let (low, high, halves) = (table(&LOW), table(&HIGH), table(&HALVES));
    let low_nibbles = _mm256_set1_epi8(0x0f);
    let upper_half = _mm256_set1_epi32(0xffff_0000_u32 as i32);
    // Even and odd k of each row.
    let mut dots = [[_mm256_setzero_ps(); 2]; R];
    for (word, codes) in codes.into_iter().enumerate() {
        let even = _mm256_shuffle_epi8(codes, halves);
        let odd = _mm256_srli_epi16::<4>(even);
        for (parity, nibbles) in [even, odd].into_iter().enumerate() {
            let nibbles = _mm256_and_si256(nibbles, low_nibbles);
            let low = _mm256_shuffle_epi8(low, nibbles);
            let high = _mm256_shuffle_epi8(high, nibbles);
            // Two bf16 a column: the first two k of this parity, then the other two.
            let pairs = [_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)];
            for (i, pair) in pairs.into_iter().enumerate() {
                let values = [_mm256_slli_epi32::<16>(pair), _mm256_and_si256(pair, upper_half)];
                for (j, value) in
                    values.map(|bits| _mm256_castsi256_ps(bits)).into_iter().enumerate()
                {
                    for (r, dots) in dots.iter_mut().enumerate() {
                        let (k, dot) = (8 * word + 4 * i + 2 * j + parity, &mut dots[parity]);
                        // SAFETY: by the contract of this function.
                        let a = _mm256_set1_ps(unsafe { (*a.add(r * distance))[k] });
                        // The first product is no addition to 0, which would make −0 positive.
                        *dot = if k < 2 {
                            _mm256_mul_ps(a, value)
                        } else {
                            _mm256_fmadd_ps(a, value, *dot)
                        };
                    }
                }
            }
        }
    }
    for (sum, [even, odd]) in sums.iter_mut().zip(dots) {
        *sum = _mm256_add_ps(*sum, _mm256_mul_ps(_mm256_add_ps(even, odd), scale));
    }
}
