//! AVX2 and FMA: `vpmaddubsw` sums pairs of products in 16 bits, which 16 products of at most
//! 12·24 do not overflow.

use std::arch::x86_64::*;
use std::ops::Range;

use crate::cpu::epilogue::{Epilogue, Sums};
use crate::cpu::integer::{self, ABlock, B_SCALE, BBlock, BIAS, MAGIC, SCALES, STRIP};
use crate::cpu::schedule::{Kernel, Next, Strip};
use crate::dtype::{DType, Element};
use crate::format::BLOCK;
use crate::matrix::Nvfp4View;

/// Proof that the machine has the features.
pub(in super::super) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The machine has AVX2, FMA and F16C.
    pub unsafe fn new() -> Self {
        Avx2(())
    }
}

/// Rows of one call of the inner loop.
const ROWS_AT_ONCE: usize = 4;

/// Columns of one vector; a strip is two.
const LANES: usize = 8;

impl Kernel for Avx2 {
    type Input<'a> = Nvfp4View<'a>;
    type A = ABlock;
    type B = BBlock;
    const ROWS: usize = 1;
    const K: usize = BLOCK;

    fn pack(&self, a: &Nvfp4View<'_>, rows: Range<usize>, units: Range<usize>, out: &mut [ABlock]) {
        integer::pack_row(a, rows.start, units, out);
    }

    fn decode(&self, b: [Strip<'_>; 2], units: Range<usize>, _next: Next, out: &mut [BBlock]) {
        for (weight, b) in b.into_iter().enumerate() {
            // SAFETY: `Avx2` is only made where the features exist.
            unsafe { decode(b, weight, units.clone(), out) };
        }
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

/// Decodes blocks `blocks` of a strip, two blocks of a row at a time.
/// Columns beyond the last row of the weight become zero.
#[target_feature(enable = "avx2")]
fn decode(b: Strip<'_>, weight: usize, blocks: Range<usize>, out: &mut [BBlock]) {
    // Biased doubled codes by code.
    let table = _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0);
    let low_nibbles = _mm_set1_epi8(0x0f);
    // Lane i of the result is word i: byte groups 0..4 and 4..8 of the first block, then the second.
    let unpack = |bytes: [u8; 16]| -> [[u8; 4]; 8] {
        let mut words = [[0; 4]; 8];
        // SAFETY: sixteen bytes in, and thirty-two out.
        unsafe {
            let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
            let even = _mm_and_si128(bytes, low_nibbles);
            let odd = _mm_and_si128(_mm_srli_epi16::<4>(bytes), low_nibbles);
            let (even, odd) = (_mm_shuffle_epi8(table, even), _mm_shuffle_epi8(table, odd));
            let words = words.as_mut_ptr().cast::<__m128i>();
            _mm_storeu_si128(words, _mm_unpacklo_epi32(even, odd));
            _mm_storeu_si128(words.add(1), _mm_unpackhi_epi32(even, odd));
        }
        words
    };
    for row in 0..STRIP {
        if row >= b.rows() {
            for out in out.iter_mut() {
                out.codes[weight].iter_mut().for_each(|quad| quad[row] = [BIAS as u8; 4]);
                out.scales[weight][row] = 0.0;
            }
            continue;
        }
        let codes = b.weight.row_codes(b.first + row);
        let codes = &codes[blocks.start * BLOCK / 2..blocks.end * BLOCK / 2];
        let scales = &b.weight.row_scales(b.first + row)[blocks.clone()];
        for ((bytes, scales), out) in
            codes.chunks(BLOCK).zip(scales.chunks(2)).zip(out.chunks_mut(2))
        {
            let mut both = [0; 16];
            both[..bytes.len()].copy_from_slice(bytes);
            let words = unpack(both);
            for ((out, &scale), words) in out.iter_mut().zip(scales).zip(words.chunks_exact(4)) {
                for (quad, &word) in out.codes[weight].iter_mut().zip(words) {
                    quad[row] = word;
                }
                out.scales[weight][row] = SCALES[usize::from(scale)] * B_SCALE;
            }
        }
    }
}

/// `acc[row][column] (+)= Σ a·b` of one weight for `R` rows and half a strip.
///
/// # Safety
/// `a` holds `b.len()` blocks of each of `R` rows; `acc` has `R` rows; `weight`
/// and `half` are 0 or 1.
#[target_feature(enable = "avx2,fma")]
unsafe fn multiply<const R: usize>(
    a: &[ABlock],
    b: &[BBlock],
    weight: usize,
    half: usize,
    acc: &mut [[f32; STRIP]],
    first: bool,
) {
    let a = a.as_ptr();
    let columns = half * LANES;
    let mut sum = [_mm256_setzero_ps(); R];
    if !first {
        for r in 0..R {
            // SAFETY: eight f32 from column 0 or 8 of 16 on.
            sum[r] = unsafe { _mm256_loadu_ps(acc[r][columns..].as_ptr()) };
        }
    }
    let ones = _mm256_set1_epi16(1);
    let minus_magic = _mm256_set1_ps(-MAGIC);
    for (k, block) in b.iter().enumerate() {
        // SAFETY: eight groups of four bytes, and eight f32, from column 0 or 8 of 16 on.
        let (codes, scale) = unsafe {
            let mut codes = [_mm256_setzero_si256(); 4];
            for (codes, quad) in codes.iter_mut().zip(&block.codes[weight]) {
                *codes = _mm256_loadu_si256(quad[columns..].as_ptr().cast());
            }
            (codes, _mm256_loadu_ps(block.scales[weight][columns..].as_ptr()))
        };
        let offset = _mm256_mul_ps(minus_magic, scale);
        for (r, sum) in sum.iter_mut().enumerate() {
            // SAFETY: row `r` holds as many blocks as `b`, by the contract of this function.
            let a = unsafe { &*a.add(r * b.len() + k) };
            let mut pairs = _mm256_setzero_si256();
            for (q, &codes) in codes.iter().enumerate() {
                let quad = _mm256_set1_epi32(a.quad(q));
                pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(codes, quad));
            }
            let dot = _mm256_add_epi32(_mm256_madd_epi16(pairs, ones), _mm256_set1_epi32(a.start));
            let term = _mm256_fmadd_ps(_mm256_castsi256_ps(dot), scale, offset);
            *sum = _mm256_fmadd_ps(term, _mm256_set1_ps(a.scale), *sum);
        }
    }
    for r in 0..R {
        // SAFETY: eight f32 from column 0 or 8 of 16 on.
        unsafe { _mm256_storeu_ps(acc[r][columns..].as_mut_ptr(), sum[r]) };
    }
}
