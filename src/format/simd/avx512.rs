//! The block kernels in AVX-512 intrinsics: one block of 16 a register.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::portable::{self, GROUP};
use crate::format::quantize::quantize_block;
use crate::format::{BLOCK, e2m1, ue4m3};

macro_rules! quantize_kernel {
    ($name:ident, $type:ty, $load:path) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi2")]
        pub(super) fn $name(values: &[$type], global: f32, codes: &mut [u8], scales: &mut [u8]) {
            let (groups, rest) = values.as_chunks::<{ GROUP * BLOCK }>();
            let (code_groups, rest_codes) = codes.as_chunks_mut::<{ GROUP * BLOCK / 2 }>();
            let (scale_groups, rest_scales) = scales.as_chunks_mut::<GROUP>();
            for ((group, codes), scales) in groups.iter().zip(code_groups).zip(scale_groups) {
                let (blocks, _) = group.as_chunks::<BLOCK>();
                let mut x = [_mm512_setzero_ps(); GROUP];
                for (x, block) in x.iter_mut().zip(blocks) {
                    *x = $load(block);
                }
                if !quantize_group(&x, global, codes, scales) {
                    portable::$name(group, global, codes, scales);
                }
            }
            let blocks = rest.chunks_exact(BLOCK).zip(rest_codes.chunks_exact_mut(BLOCK / 2));
            for ((block, codes), scale) in blocks.zip(rest_scales) {
                *scale = quantize_block(block, global, codes);
            }
        }
    };
}

quantize_kernel!(quantize_f32, f32, load_f32);
quantize_kernel!(quantize_f16, f16, load_f16);
quantize_kernel!(quantize_bf16, bf16, load_bf16);

#[inline]
#[target_feature(enable = "avx512f")]
fn load_f32(block: &[f32; BLOCK]) -> __m512 {
    // SAFETY: the array has 64 bytes.
    unsafe { _mm512_loadu_ps(block.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_f16(block: &[f16; BLOCK]) -> __m512 {
    // SAFETY: the array has 32 bytes.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(block.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_bf16(block: &[bf16; BLOCK]) -> __m512 {
    // SAFETY: the array has 32 bytes.
    let bits = unsafe { _mm256_loadu_si256(block.as_ptr().cast()) };
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
}

/// Scales and codes of 16 blocks; false, with nothing of use written, when a unit is so small or
/// large that the quotients need a division.
///
/// A quotient is x/unit correctly rounded, by Markstein's theorem (IBM J. Res. Dev. 34, 1990): with
/// y = RN(1/unit) and a quotient q that is off by less than one unit in the last place,
/// RN(q + y·RN(x − q·unit)) = RN(x/unit). RN(x·y) may be off by up to two, so there are two steps.
/// The remainders are exact while nothing underflows. With unit in [2^-90, 2^90] that can only be
/// where |x| < 2^-120·unit, and such an x rounds to zero whatever the last bits of its quotient are.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn quantize_group(
    x: &[__m512; GROUP],
    global: f32,
    codes: &mut [u8; GROUP * BLOCK / 2],
    scales: &mut [u8; GROUP],
) -> bool {
    let one = _mm512_set1_ps(1.0);
    let amax = amax_of_blocks(x);
    let zero = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(amax, _mm512_setzero_ps());
    let relative =
        _mm512_div_ps(_mm512_div_ps(amax, _mm512_set1_ps(e2m1::MAX)), _mm512_set1_ps(global));
    let bytes = encode_ue4m3(relative);
    let bytes = _mm512_mask_max_epi32(
        bytes,
        !zero,
        bytes,
        _mm512_set1_epi32(i32::from(ue4m3::MIN_SUBNORMAL)),
    );
    let unit = _mm512_mul_ps(decode_ue4m3(bytes), _mm512_set1_ps(global));
    // The values of a block of zeros are divided by anything but zero.
    let unit = _mm512_mask_mov_ps(unit, zero, one);
    let small = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(unit, _mm512_set1_ps(MIN_UNIT));
    let large = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(unit, _mm512_set1_ps(MAX_UNIT));
    if small | large != 0 {
        return false;
    }
    // SAFETY: the array has 16 bytes.
    unsafe { _mm_storeu_si128(scales.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(bytes)) };
    let mut units = [0.0f32; GROUP];
    let mut inverses = [0.0f32; GROUP];
    // SAFETY: the arrays have 64 bytes.
    unsafe {
        _mm512_storeu_ps(units.as_mut_ptr(), unit);
        _mm512_storeu_ps(inverses.as_mut_ptr(), _mm512_div_ps(one, unit));
    }
    let (packed, _) = codes.as_chunks_mut::<{ BLOCK / 2 }>();
    for (((&x, &unit), &inverse), packed) in x.iter().zip(&units).zip(&inverses).zip(packed) {
        let (unit, inverse) = (_mm512_set1_ps(unit), _mm512_set1_ps(inverse));
        let q = _mm512_mul_ps(x, inverse);
        let q = _mm512_fmadd_ps(_mm512_fnmadd_ps(q, unit, x), inverse, q);
        let q = _mm512_fmadd_ps(_mm512_fnmadd_ps(q, unit, x), inverse, q);
        let code = encode_e2m1(q, x);
        let pairs = _mm512_or_si512(code, _mm512_srli_epi64::<28>(code));
        // SAFETY: the array has 8 bytes.
        unsafe { _mm_storel_epi64(packed.as_mut_ptr().cast(), _mm512_cvtepi64_epi8(pairs)) };
    }
    true
}

const MIN_UNIT: f32 = 1.0 / (1u128 << 90) as f32;
const MAX_UNIT: f32 = (1u128 << 90) as f32;

/// Largest magnitude of each register, in order.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn amax_of_blocks(x: &[__m512; GROUP]) -> __m512 {
    // Maxima of pairs of registers, transposed step by step: after the first step a register holds
    // two blocks, then four, eight and sixteen.
    let mut two = [_mm512_setzero_ps(); 8];
    for (two, pair) in two.iter_mut().zip(x.chunks_exact(2)) {
        let (a, b) = (_mm512_abs_ps(pair[0]), _mm512_abs_ps(pair[1]));
        *two = _mm512_max_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    }
    let mut four = [_mm512_setzero_ps(); 4];
    for (four, pair) in four.iter_mut().zip(two.chunks_exact(2)) {
        let (a, b) = (_mm512_castps_pd(pair[0]), _mm512_castps_pd(pair[1]));
        *four = _mm512_max_ps(
            _mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
            _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)),
        );
    }
    let mut eight = [_mm512_setzero_ps(); 2];
    for (eight, pair) in eight.iter_mut().zip(four.chunks_exact(2)) {
        *eight = _mm512_max_ps(
            _mm512_shuffle_f32x4::<0x44>(pair[0], pair[1]),
            _mm512_shuffle_f32x4::<0xee>(pair[0], pair[1]),
        );
    }
    _mm512_max_ps(
        _mm512_shuffle_f32x4::<0x88>(eight[0], eight[1]),
        _mm512_shuffle_f32x4::<0xdd>(eight[0], eight[1]),
    )
}

/// [`ue4m3::encode`] of values >= 0 or infinity.
#[inline]
#[target_feature(enable = "avx512f")]
fn encode_ue4m3(value: __m512) -> __m512i {
    let value = _mm512_min_ps(value, _mm512_set1_ps(ue4m3::MAX));
    let bits = _mm512_castps_si512(value);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<20>(bits), _mm512_set1_epi32(1));
    let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7_ffff)), odd);
    let normal = _mm512_sub_epi32(_mm512_srli_epi32::<20>(rounded), _mm512_set1_epi32(120 << 3));
    // The unit in the last place of numbers from 2^14 on is 2^-9.
    let anchor = _mm512_set1_ps(16384.0);
    let subnormal = _mm512_sub_epi32(
        _mm512_castps_si512(_mm512_add_ps(value, anchor)),
        _mm512_castps_si512(anchor),
    );
    let is_subnormal = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(value, _mm512_set1_ps(0.015625));
    _mm512_mask_mov_epi32(normal, is_subnormal, subnormal)
}

/// [`ue4m3::decode`] of valid bytes.
#[inline]
#[target_feature(enable = "avx512f")]
fn decode_ue4m3(bytes: __m512i) -> __m512 {
    let normal = _mm512_add_epi32(_mm512_slli_epi32::<20>(bytes), _mm512_set1_epi32(120 << 23));
    let subnormal = _mm512_mul_ps(_mm512_cvtepi32_ps(bytes), _mm512_set1_ps(1.0 / 512.0));
    let is_subnormal = _mm512_cmplt_epi32_mask(bytes, _mm512_set1_epi32(8));
    _mm512_mask_mov_ps(_mm512_castsi512_ps(normal), is_subnormal, subnormal)
}

/// [`e2m1::encode`] of the magnitude of `q` with the sign of `x`; no NaN.
///
/// With q in [2^e, 2^(e+1)) and e >= 0, the unit in the last place of 2^(e+22) + q is the step
/// 2^(e-1) of e2m1; below 1 the step is that of e = 0. The sum less 2^(e+22) counts steps, and the
/// code is that count plus 2e.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn encode_e2m1(q: __m512, x: __m512) -> __m512i {
    let q = _mm512_min_ps(_mm512_abs_ps(q), _mm512_set1_ps(e2m1::MAX));
    let power = _mm512_and_si512(
        _mm512_castps_si512(_mm512_max_ps(q, _mm512_set1_ps(1.0))),
        _mm512_set1_epi32(0x7f80_0000),
    );
    let anchor = _mm512_add_epi32(power, _mm512_set1_epi32(22 << 23));
    let sum = _mm512_castps_si512(_mm512_add_ps(q, _mm512_castsi512_ps(anchor)));
    // power is (127 + e) << 23.
    let twice_e = _mm512_sub_epi32(_mm512_srli_epi32::<22>(power), _mm512_set1_epi32(254));
    let code = _mm512_add_epi32(_mm512_sub_epi32(sum, anchor), twice_e);
    let sign = _mm512_srli_epi32::<28>(_mm512_castps_si512(x));
    // code | (sign & 8)
    _mm512_ternarylogic_epi32::<0xf8>(code, sign, _mm512_set1_epi32(8))
}

/// The values of the 16 codes for one scale: the product with the scale is exact.
#[inline]
#[target_feature(enable = "avx512f")]
fn table(scale: u8, global: f32) -> __m512 {
    let scale = ue4m3::VALUES[usize::from(scale & 127)];
    let scaled = _mm512_mul_ps(load_f32(&e2m1::VALUES), _mm512_set1_ps(scale));
    _mm512_mul_ps(scaled, _mm512_set1_ps(global))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi2")]
pub(super) fn dequantize_f32(codes: &[u8], scales: &[u8], global: f32, out: &mut [f32]) {
    let (blocks, _) = codes.as_chunks::<{ BLOCK / 2 }>();
    let (out, _) = out.as_chunks_mut::<BLOCK>();
    for ((codes, &scale), out) in blocks.iter().zip(scales).zip(out) {
        // One byte a quadword, its upper nibble moved to the upper half; the permutation looks at the
        // low four bits of each half only.
        let bytes = _mm512_cvtepu8_epi64(_mm_cvtsi64_si128(i64::from_le_bytes(*codes)));
        let index = _mm512_or_si512(bytes, _mm512_slli_epi64::<28>(bytes));
        let values = _mm512_permutexvar_ps(index, table(scale, global));
        // SAFETY: the array has 64 bytes.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), values) };
    }
}

/// Writes a block of 16-bit values, given those of the 16 codes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn dequantize_block_16<T>(codes: &[u8; BLOCK / 2], table: __m256i, out: &mut [T; BLOCK]) {
    const { assert!(size_of::<T>() == 2) };
    let bytes = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(*codes)));
    let index = _mm256_or_si256(bytes, _mm256_slli_epi32::<12>(bytes));
    let values = _mm256_permutexvar_epi16(index, table);
    // SAFETY: the array has 32 bytes, and T is f16 or bf16, of which all bit patterns are valid.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), values) };
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi2")]
pub(super) fn dequantize_f16(codes: &[u8], scales: &[u8], global: f32, out: &mut [f16]) {
    let (blocks, _) = codes.as_chunks::<{ BLOCK / 2 }>();
    let (out, _) = out.as_chunks_mut::<BLOCK>();
    for ((codes, &scale), out) in blocks.iter().zip(scales).zip(out) {
        let table = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(table(scale, global));
        dequantize_block_16(codes, table, out);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi2")]
pub(super) fn dequantize_bf16(codes: &[u8], scales: &[u8], global: f32, out: &mut [bf16]) {
    let (blocks, _) = codes.as_chunks::<{ BLOCK / 2 }>();
    let (out, _) = out.as_chunks_mut::<BLOCK>();
    for ((codes, &scale), out) in blocks.iter().zip(scales).zip(out) {
        // To nearest even; there is no NaN.
        let bits = _mm512_castps_si512(table(scale, global));
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
        let table = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded));
        dequantize_block_16(codes, table, out);
    }
}
