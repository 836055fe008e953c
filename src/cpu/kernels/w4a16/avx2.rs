//! AVX2 and FMA: `vpermps` looks up the magnitudes of eight columns at once; the sign is a bit of the code.

use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::ops::Range;

use super::{ABlock, BBlock, decode, pack_row};
use crate::cpu::epilogue::{Epilogue, Sums};
use crate::cpu::integer::STRIP;
use crate::cpu::kernels::avx2;
use crate::cpu::schedule::{Kernel, Next, Strip};
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

/// Rows of one call of the inner loop: each has a sum and two halves of a block.
const ROWS_AT_ONCE: usize = 3;

/// Columns of one vector; a strip is two.
const LANES: usize = 8;

impl<T: Element> Kernel for Avx2<T> {
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

    fn decode(&self, b: [Strip<'_>; 2], units: Range<usize>, _next: Next, out: &mut [BBlock]) {
        for (weight, b) in b.into_iter().enumerate() {
            decode(b, weight, units.clone(), out);
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
                            _ => multiply::<3>(a, b, weight, half, acc, first),
                        }
                    }
                }
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
    let a = a.as_ptr();
    let columns = half * LANES;
    // SAFETY: the first eight of sixteen f32. `vpermps` looks at the low three bits of each lane only.
    let table = unsafe { _mm256_loadu_ps(e2m1::VALUES.as_ptr()) };
    let sign = _mm256_set1_ps(-0.0);
    let mut sums = [_mm256_setzero_ps(); R];
    for (k, block) in b.iter().enumerate() {
        // Even and odd k of each row.
        let mut halves = [[_mm256_setzero_ps(); 2]; R];
        for (word, codes) in block.codes[weight].iter().enumerate() {
            // SAFETY: eight words from column 0 or 8 of 16 on.
            let mut codes = unsafe { _mm256_loadu_si256(codes[columns..].as_ptr().cast()) };
            for i in 0..8 {
                let magnitude = _mm256_permutevar8x32_ps(table, codes);
                let signs = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(codes));
                let value = _mm256_or_ps(magnitude, _mm256_and_ps(signs, sign));
                codes = _mm256_srli_epi32::<4>(codes);
                for (r, halves) in halves.iter_mut().enumerate() {
                    // SAFETY: row `r` holds as many blocks as `b`, by the contract of this function.
                    let a = unsafe { (*a.add(r * b.len() + k))[8 * word + i] };
                    let (a, sum) = (_mm256_set1_ps(a), &mut halves[i % 2]);
                    // The first product is no addition to 0, which would make −0 positive.
                    *sum = if word == 0 && i < 2 {
                        _mm256_mul_ps(a, value)
                    } else {
                        _mm256_fmadd_ps(a, value, *sum)
                    };
                }
            }
        }
        // SAFETY: eight f32 from column 0 or 8 of 16 on.
        let scale = unsafe { _mm256_loadu_ps(block.scales[weight][columns..].as_ptr()) };
        for (sum, [even, odd]) in sums.iter_mut().zip(halves) {
            *sum = _mm256_add_ps(*sum, _mm256_mul_ps(_mm256_add_ps(even, odd), scale));
        }
    }
    for (acc, sum) in acc.iter_mut().zip(sums) {
        let acc = acc[columns..].as_mut_ptr();
        // SAFETY: eight f32 from column 0 or 8 of 16 on.
        unsafe {
            let sum = if first { sum } else { _mm256_add_ps(_mm256_loadu_ps(acc), sum) };
            _mm256_storeu_ps(acc, sum);
        }
    }
}
