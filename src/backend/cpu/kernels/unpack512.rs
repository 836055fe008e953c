//! From packed rows to vectors with one column a lane, for the AVX-512 kernels.

use std::arch::x86_64::*;

use crate::backend::cpu::integer::STRIP;
use crate::format::BLOCK;
use crate::matrix::Nvfp4View;

/// Blocks of one load: 64 packed bytes, 128 consecutive k.
pub(super) const SPAN: usize = 8;

/// 128 consecutive k of 16 columns.
pub(super) struct Span {
    /// Vector d holds, for each column, the packed codes of k = 8d..8d+8.
    pub codes: [__m512i; 16],
    /// Vector j holds, for each column, the scale factor of block j times 2^-8.
    pub scales: [__m512; SPAN],
}

/// Loads up to 128 k from block `block` on, of the 16 rows of a weight from `row` on. Codes and
/// scales beyond the end of K or N are zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn load_span(b: &Nvfp4View<'_>, row: usize, block: usize) -> Span {
    let (row_codes, row_scales) = (b.cols() / 2, b.cols() / BLOCK);
    let blocks = (row_scales - block).min(SPAN);
    let rows = b.rows().saturating_sub(row).min(STRIP);
    let mut codes = [_mm512_setzero_si512(); STRIP];
    let mut scales = [0u64; STRIP];
    // Eight bytes of codes a block, and one scale byte in a word of eight: the same mask.
    let mask = u64::MAX >> (64 - 8 * blocks);
    for (i, (codes, scales)) in codes.iter_mut().zip(&mut scales).enumerate().take(rows) {
        let from = &b.codes()[(row + i) * row_codes + block * BLOCK / 2..];
        let scale_at = (row + i) * row_scales + block;
        if blocks == SPAN {
            assert!(from.len() >= 64);
            // SAFETY: 64 bytes are there.
            *codes = unsafe { _mm512_loadu_si512(from.as_ptr().cast()) };
        } else {
            assert!(from.len() >= 8 * blocks);
            // SAFETY: the mask covers `8·blocks` bytes, which are there.
            *codes = unsafe { _mm512_maskz_loadu_epi8(mask, from.as_ptr().cast()) };
        }
        let from = &b.scales()[scale_at..];
        let word = match from.first_chunk::<8>() {
            Some(bytes) => u64::from_le_bytes(*bytes),
            // The last few bytes of the matrix.
            None => from.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
        };
        *scales = word & mask;
    }
    Span { codes: transpose(codes), scales: expand_scales(&scales) }
}

/// 16x16 transposition of 32-bit words.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: [__m512i; 16]) -> [__m512i; 16] {
    // Within each group of four rows: vector c of group g holds, in its 128-bit lane l, the words
    // 4l + c of the four rows.
    let mut groups = [[_mm512_setzero_si512(); 4]; 4];
    for (group, rows) in groups.iter_mut().zip(rows.chunks_exact(4)) {
        let low01 = _mm512_unpacklo_epi32(rows[0], rows[1]);
        let high01 = _mm512_unpackhi_epi32(rows[0], rows[1]);
        let low23 = _mm512_unpacklo_epi32(rows[2], rows[3]);
        let high23 = _mm512_unpackhi_epi32(rows[2], rows[3]);
        group[0] = _mm512_unpacklo_epi64(low01, low23);
        group[1] = _mm512_unpackhi_epi64(low01, low23);
        group[2] = _mm512_unpacklo_epi64(high01, high23);
        group[3] = _mm512_unpackhi_epi64(high01, high23);
    }
    // Across groups: a 4x4 transposition of 128-bit lanes for each c.
    let mut out = [_mm512_setzero_si512(); 16];
    for c in 0..4 {
        let [g0, g1, g2, g3] = [groups[0][c], groups[1][c], groups[2][c], groups[3][c]];
        let even01 = _mm512_shuffle_i32x4::<0x88>(g0, g1);
        let even23 = _mm512_shuffle_i32x4::<0x88>(g2, g3);
        let odd01 = _mm512_shuffle_i32x4::<0xdd>(g0, g1);
        let odd23 = _mm512_shuffle_i32x4::<0xdd>(g2, g3);
        out[c] = _mm512_shuffle_i32x4::<0x88>(even01, even23);
        out[4 + c] = _mm512_shuffle_i32x4::<0x88>(odd01, odd23);
        out[8 + c] = _mm512_shuffle_i32x4::<0xdd>(even01, even23);
        out[12 + c] = _mm512_shuffle_i32x4::<0xdd>(odd01, odd23);
    }
    out
}

/// Eight scale bytes of each of 16 columns to eight vectors of f32.
///
/// A UE4M3 byte shifted left by 7 is an f16 with the same exponent field: 2^-8 of its value,
/// subnormals included, which the conversion from f16 handles at full speed.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn expand_scales(words: &[u64; 16]) -> [__m512; SPAN] {
    // SAFETY: the array holds 16 words, two vectors of eight.
    let (mut low, mut high) = unsafe {
        (_mm512_loadu_si512(words.as_ptr().cast()), _mm512_loadu_si512(words[8..].as_ptr().cast()))
    };
    let mut out = [_mm512_setzero_ps(); SPAN];
    for out in &mut out {
        let bytes = _mm_unpacklo_epi64(_mm512_cvtepi64_epi8(low), _mm512_cvtepi64_epi8(high));
        let halves = _mm256_slli_epi16::<7>(_mm256_cvtepu8_epi16(bytes));
        *out = _mm512_cvtph_ps(halves);
        low = _mm512_srli_epi64::<8>(low);
        high = _mm512_srli_epi64::<8>(high);
    }
    out
}

/// Asks for the rows of the strip after `row`'s, a part of them with each span: a strip is
/// contiguous in memory, so the requests of all its spans are one sequential sweep.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn prefetch_next_strip(b: &Nvfp4View<'_>, row: usize, block: usize) {
    let codes = b.codes();
    let at = (row + STRIP) * (b.cols() / 2) + block * (BLOCK / 2) * STRIP;
    if at + SPAN * BLOCK / 2 * STRIP <= codes.len() {
        for line in 0..STRIP {
            // SAFETY: within `codes`; a prefetch has no effect on memory.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(codes.as_ptr().add(at + 64 * line).cast()) };
        }
    }
    let scales = b.scales();
    let at = (row + STRIP) * (b.cols() / BLOCK) + block * STRIP;
    if at + SPAN * STRIP <= scales.len() {
        for line in 0..SPAN * STRIP / 64 {
            // SAFETY: within `scales`; a prefetch has no effect on memory.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(scales.as_ptr().add(at + 64 * line).cast()) };
        }
    }
}
