//! The block kernels in AVX-512 intrinsics: one block of 16 a register.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::AHEAD_BYTES;
use super::portable::{self, GROUP};
use crate::format::quantize::quantize_block;
use crate::format::{BLOCK, e2m1, ue4m3};

/// Groups whose units are computed before their codes, so that the latencies of the divisions of one
/// overlap with those of the next.
const GROUPS: usize = 8;

macro_rules! quantize_kernel {
    ($name:ident, $type:ty, $load:path) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi2")]
        pub(super) fn $name(values: &[$type], global: f32, codes: &mut [u8], scales: &mut [u8]) {
            const VALUES: usize = GROUP * BLOCK;
            let pieces = values.chunks(GROUPS * VALUES);
            let codes = codes.chunks_mut(GROUPS * VALUES / 2);
            let scales = scales.chunks_mut(GROUPS * GROUP);
            for ((values, codes), scales) in pieces.zip(codes).zip(scales) {
                let (groups, rest) = values.as_chunks::<VALUES>();
                let (code_groups, rest_codes) = codes.as_chunks_mut::<{ VALUES / 2 }>();
                let (scale_groups, rest_scales) = scales.as_chunks_mut::<GROUP>();
                let mut units = [Units::default(); GROUPS];
                let outputs = scale_groups.iter_mut().zip(&mut units);
                for (group, (scales, units)) in groups.iter().zip(outputs) {
                    let (blocks, _) = group.as_chunks::<BLOCK>();
                    super::prefetch(group, AHEAD_BYTES);
                    let mut x = [_mm512_setzero_ps(); GROUP];
                    for (x, block) in x.iter_mut().zip(blocks) {
                        *x = $load(block);
                    }
                    *units = scale_group(&x, global, scales);
                }
                let outputs = code_groups.iter_mut().zip(scale_groups);
                for ((group, units), (codes, scales)) in groups.iter().zip(&units).zip(outputs) {
                    if !units.fast {
                        super::x86::avx2::$name(group, global, codes, scales);
                        continue;
                    }
                    let (blocks, _) = group.as_chunks::<BLOCK>();
                    let (packed, _) = codes.as_chunks_mut::<{ BLOCK / 2 }>();
                    let units = units.unit.iter().zip(&units.inverse);
                    for ((block, packed), (&unit, &inverse)) in blocks.iter().zip(packed).zip(units)
                    {
                        code_block($load(block), unit, inverse, packed);
                    }
                }
                let blocks = rest.chunks_exact(BLOCK).zip(rest_codes.chunks_exact_mut(BLOCK / 2));
                for ((block, codes), scale) in blocks.zip(rest_scales) {
                    *scale = quantize_block(block, global, codes);
                }
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

/// What the values of each block of a group are divided by.
#[derive(Clone, Copy, Default)]
struct Units {
    unit: [f32; GROUP],
    inverse: [f32; GROUP],
    /// Whether [`code_block`] is right for all of them.
    fast: bool,
}

/// Scales of 16 blocks and their products with the global scale.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn scale_group(x: &[__m512; GROUP], global: f32, scales: &mut [u8; GROUP]) -> Units {
    let one = _mm512_set1_ps(1.0);
    let amax = amax_of_blocks(x);
    let zero = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(amax, _mm512_setzero_ps());
    let sixth = _mm512_div_ps(amax, _mm512_set1_ps(e2m1::MAX));
    let bytes = encode_ue4m3(_mm512_div_ps(sixth, _mm512_set1_ps(global)));
    let least = _mm512_set1_epi32(i32::from(ue4m3::MIN_SUBNORMAL));
    let bytes = _mm512_mask_max_epi32(bytes, !zero, bytes, least);
    let unit = _mm512_mul_ps(decode_ue4m3(bytes), _mm512_set1_ps(global));
    // The values of a block of zeros are divided by anything but zero.
    let unit = _mm512_mask_mov_ps(unit, zero, one);
    let small = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(unit, _mm512_set1_ps(MIN_UNIT));
    let large = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(unit, _mm512_set1_ps(MAX_UNIT));
    let mut units = Units { fast: small | large == 0, ..Units::default() };
    // SAFETY: the arrays have 16, 64 and 64 bytes.
    unsafe {
        _mm_storeu_si128(scales.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(bytes));
        _mm512_storeu_ps(units.unit.as_mut_ptr(), unit);
        _mm512_storeu_ps(units.inverse.as_mut_ptr(), _mm512_div_ps(one, unit));
    }
    units
}

/// Codes of a block.
///
/// A quotient is x/unit correctly rounded, by Markstein's theorem (IBM J. Res. Dev. 34, 1990): with
/// y = RN(1/unit) and a quotient q that is off by less than one unit in the last place,
/// RN(q + y·RN(x − q·unit)) = RN(x/unit). RN(x·y) may be off by up to two, so there are two steps.
/// The remainders are multiples of 2^-47·|x| and exact while that is no less than 2^-149, so with unit
/// in \[2^-90, 2^90\] wherever |x| > 2^-12·unit; a smaller x rounds to zero whatever the last bits of its
/// quotient are. Where the first product overflows, the steps make it NaN, and the minimum with 6 in
/// [`encode_e2m1`] makes that 6.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn code_block(x: __m512, unit: f32, inverse: f32, packed: &mut [u8; BLOCK / 2]) {
    let (unit, inverse) = (_mm512_set1_ps(unit), _mm512_set1_ps(inverse));
    let q = _mm512_mul_ps(x, inverse);
    let q = _mm512_fmadd_ps(_mm512_fnmadd_ps(q, unit, x), inverse, q);
    let q = _mm512_fmadd_ps(_mm512_fnmadd_ps(q, unit, x), inverse, q);
    let code = encode_e2m1(q, x);
    let pairs = _mm512_or_si512(code, _mm512_srli_epi64::<28>(code));
    // SAFETY: the array has 8 bytes.
    unsafe { _mm_storel_epi64(packed.as_mut_ptr().cast(), _mm512_cvtepi64_epi8(pairs)) };
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

/// [`e2m1::encode`] of the magnitude of `q` with the sign of `x`; the magnitude of NaN is taken as 6.
///
/// With q in \[2^e, 2^(e+1)) and e >= 0, the unit in the last place of 2^(e+22) + q is the step
/// 2^(e-1) of e2m1; below 1 the step is that of e = 0. The last bits of the sum count steps, and the
/// code is that count plus 2e.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn encode_e2m1(q: __m512, x: __m512) -> __m512i {
    // The second operand is the result when one of them is NaN.
    let q = _mm512_min_ps(_mm512_abs_ps(q), _mm512_set1_ps(e2m1::MAX));
    // (127 + e) << 23
    let power = _mm512_and_si512(
        _mm512_castps_si512(_mm512_max_ps(q, _mm512_set1_ps(1.0))),
        _mm512_set1_epi32(0x7f80_0000),
    );
    // Two steps more, as power >> 22 is 254 + 2e and 254 + 2 is 0 in the four bits that count.
    let anchor = _mm512_add_epi32(power, _mm512_set1_epi32((22 << 23) + 2));
    let sum = _mm512_castps_si512(_mm512_add_ps(q, _mm512_castsi512_ps(anchor)));
    let code = _mm512_add_epi32(sum, _mm512_srli_epi32::<22>(power));
    let sign = _mm512_srli_epi32::<28>(_mm512_castps_si512(x));
    // Three bits of the code, the others of the sign: code & 7 | sign & !7.
    _mm512_ternarylogic_epi32::<0xca>(_mm512_set1_epi32(7), code, sign)
}

/// The values of the 16 codes for one scale: the product with the scale is exact.
#[inline]
#[target_feature(enable = "avx512f")]
fn table(scale: u8, global: f32) -> __m512 {
    let scale = ue4m3::VALUES[usize::from(scale & 127)];
    let scaled = _mm512_mul_ps(load_f32(&e2m1::VALUES), _mm512_set1_ps(scale));
    _mm512_mul_ps(scaled, _mm512_set1_ps(global))
}

/// Stores 16 bytes at an aligned place, past the caches with `STREAM`.
#[inline]
#[target_feature(enable = "avx512f")]
fn put<const STREAM: bool, T>(lane: __m128i, to: &mut [T]) {
    assert!(size_of_val(to) == 16);
    let to = to.as_mut_ptr().cast::<__m128i>();
    // SAFETY: the slice has 16 bytes, of numbers, of which every bit pattern is valid; with STREAM the
    // callers have checked that the output is aligned to 16 bytes.
    unsafe { if STREAM { _mm_stream_si128(to, lane) } else { _mm_storeu_si128(to, lane) } }
}

/// Calls with fewer blocks compute the values of the 16 codes for each block; others do so once for each
/// scale byte, but not for f32, which needs no rounding.
const TABLE_BLOCKS: usize = 512;

macro_rules! dequantize_kernel {
    ($name:ident, $type:ty, $block:ident, $round:ident) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi2")]
        pub(super) fn $name(
            codes: &[u8],
            scales: &[u8],
            global: f32,
            out: &mut [$type],
            stream: bool,
        ) {
            let (codes, _) = codes.as_chunks::<{ BLOCK / 2 }>();
            let (out, _) = out.as_chunks_mut::<BLOCK>();
            let stream = stream && out.as_ptr().addr().is_multiple_of(16);
            let mut tables = [$round(_mm512_setzero_ps()); 128];
            let looked_up = size_of::<$type>() == 2 && scales.len() >= TABLE_BLOCKS;
            if looked_up {
                for (byte, values) in (0u8..).zip(&mut tables) {
                    *values = $round(table(byte, global));
                }
            }
            for ((codes, scales), out) in
                codes.chunks(8).zip(scales.chunks(8)).zip(out.chunks_mut(8))
            {
                super::prefetch(codes, AHEAD_BYTES);
                for ((codes, &scale), out) in codes.iter().zip(scales).zip(out) {
                    let values = if looked_up {
                        tables[usize::from(scale & 127)]
                    } else {
                        $round(table(scale, global))
                    };
                    if stream {
                        $block::<true, _>(codes, values, out);
                    } else {
                        $block::<false, _>(codes, values, out);
                    }
                }
            }
            _mm_sfence(); // orders streamed stores before whatever tells other threads of them
        }
    };
}

dequantize_kernel!(dequantize_f32, f32, dequantize_block_32, round_f32);
dequantize_kernel!(dequantize_f16, f16, dequantize_block_16, round_f16);
dequantize_kernel!(dequantize_bf16, bf16, dequantize_block_16, round_bf16);

#[inline]
#[target_feature(enable = "avx512f")]
fn round_f32(table: __m512) -> __m512 {
    table
}

#[inline]
#[target_feature(enable = "avx512f")]
fn round_f16(table: __m512) -> __m256i {
    _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(table)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn round_bf16(table: __m512) -> __m256i {
    // To nearest even; there is no NaN.
    let bits = _mm512_castps_si512(table);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded))
}

/// A block of 32-bit values, given those of the 16 codes.
#[inline]
#[target_feature(enable = "avx512f")]
fn dequantize_block_32<const STREAM: bool, T>(
    codes: &[u8; BLOCK / 2],
    table: __m512,
    out: &mut [T; BLOCK],
) {
    // One byte a quadword, its upper nibble moved to the upper half; the permutation looks at the low
    // four bits of each half only.
    let bytes = _mm512_cvtepu8_epi64(_mm_cvtsi64_si128(i64::from_le_bytes(*codes)));
    let index = _mm512_or_si512(bytes, _mm512_slli_epi64::<28>(bytes));
    let values = _mm512_castps_si512(_mm512_permutexvar_ps(index, table));
    put::<STREAM, _>(_mm512_castsi512_si128(values), &mut out[..4]);
    put::<STREAM, _>(_mm512_extracti32x4_epi32::<1>(values), &mut out[4..8]);
    put::<STREAM, _>(_mm512_extracti32x4_epi32::<2>(values), &mut out[8..12]);
    put::<STREAM, _>(_mm512_extracti32x4_epi32::<3>(values), &mut out[12..]);
}

/// A block of 16-bit values, given those of the 16 codes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn dequantize_block_16<const STREAM: bool, T>(
    codes: &[u8; BLOCK / 2],
    table: __m256i,
    out: &mut [T; BLOCK],
) {
    let bytes = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(*codes)));
    let index = _mm256_or_si256(bytes, _mm256_slli_epi32::<12>(bytes));
    let values = _mm256_permutexvar_epi16(index, table);
    put::<STREAM, _>(_mm256_castsi256_si128(values), &mut out[..8]);
    put::<STREAM, _>(_mm256_extracti128_si256::<1>(values), &mut out[8..]);
}

/// Bytes before the first cache line that starts in the slice, or none when nothing is streamed.
pub(super) fn head(bytes: &[u8], stream: bool) -> usize {
    if stream { bytes.as_ptr().addr().wrapping_neg() % 64 } else { 0 }.min(bytes.len())
}

/// Stores a cache line, past the caches with `stream`, for which it has to be aligned.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn put_line(line: __m512i, to: &mut [u8; 64], stream: bool) {
    let to = to.as_mut_ptr().cast::<__m512i>();
    // SAFETY: the array has 64 bytes, and those who stream have split off what is before a line.
    unsafe { if stream { _mm512_stream_si512(to, line) } else { _mm512_storeu_si512(to, line) } }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi2")]
pub(super) fn pack(codes: &[u8], packed: &mut [u8], stream: bool) -> bool {
    let n = head(packed, stream).min(codes.len() / 2);
    let (head_codes, codes) = codes.split_at(2 * n);
    let (head_packed, packed) = packed.split_at_mut(n);
    let mut fits = portable::pack(head_codes, head_packed, false);
    let (pairs, rest_codes) = codes.as_chunks::<128>();
    let (lines, rest_packed) = packed.as_chunks_mut::<64>();
    let mut seen = _mm512_setzero_si512();
    let low = _mm512_set1_epi16(0xff);
    let order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    for (pairs, line) in pairs.iter().zip(lines) {
        super::prefetch(pairs, AHEAD_BYTES);
        // SAFETY: the array has 128 bytes.
        let (a, b) = unsafe {
            (
                _mm512_loadu_si512(pairs.as_ptr().cast()),
                _mm512_loadu_si512(pairs[64..].as_ptr().cast()),
            )
        };
        seen = _mm512_or_si512(seen, _mm512_or_si512(a, b));
        let a = _mm512_and_si512(_mm512_or_si512(a, _mm512_srli_epi16::<4>(a)), low);
        let b = _mm512_and_si512(_mm512_or_si512(b, _mm512_srli_epi16::<4>(b)), low);
        // The pack works within each 128 bits.
        let packed = _mm512_permutexvar_epi64(order, _mm512_packus_epi16(a, b));
        put_line(packed, line, stream);
    }
    fits &= _mm512_test_epi8_mask(seen, _mm512_set1_epi8(-16)) == 0;
    fits &= portable::pack(rest_codes, rest_packed, false);
    _mm_sfence(); // as in the dequantizer
    fits
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi2")]
pub(super) fn unpack(packed: &[u8], codes: &mut [u8], stream: bool) {
    let stream = stream && codes.as_ptr().addr().is_multiple_of(2);
    let n = (head(codes, stream) / 2).min(packed.len());
    let (head_packed, packed) = packed.split_at(n);
    let (head_codes, codes) = codes.split_at_mut(2 * n);
    portable::unpack(head_packed, head_codes, false);
    let (halves, rest_packed) = packed.as_chunks::<32>();
    let (lines, rest_codes) = codes.as_chunks_mut::<64>();
    for (half, line) in halves.iter().zip(lines) {
        super::prefetch(half, AHEAD_BYTES);
        // SAFETY: the array has 32 bytes.
        let bytes = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
        let words = _mm512_cvtepu8_epi16(bytes);
        let both = _mm512_or_si512(words, _mm512_slli_epi16::<4>(words));
        put_line(_mm512_and_si512(both, _mm512_set1_epi8(15)), line, stream);
    }
    portable::unpack(rest_packed, rest_codes, false);
    _mm_sfence(); // as in the dequantizer
}
