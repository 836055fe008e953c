//! From packed rows to vectors with one column a lane, for the AVX-512 kernels.

use std::arch::x86_64::*;

use super::strip_rows::{RawSpan, SPAN};

/// 128 consecutive k of 16 columns.
pub(super) struct Span {
    /// Vector d holds, for each column, the packed codes of k = 8d..8d+8.
    pub codes: [__m512i; 16],
    /// Vector j holds, for each column, the scale factor of block j times 2^-8.
    pub scales: [__m512; SPAN],
}

impl Span {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub fn load(raw: RawSpan<'_>) -> Span {
        let ((codes, row_codes), (scales, row_scales)) = (raw.codes(), raw.scales());
        // SAFETY: from both pointers on, sixteen rows at the given distances have 64 bytes of codes
        // and 8 of scales.
        unsafe { Span { codes: transpose(codes, row_codes), scales: expand(scales, row_scales) } }
    }
}

/// Transposition of 16 rows of 16 words of 32 bits, `stride` bytes apart.
///
/// # Safety
/// Each of the 16 rows has 64 bytes.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn transpose(rows: *const u8, stride: usize) -> [__m512i; 16] {
    // Within each group of four rows: vector c of group g holds, in its 128-bit lane l, the words
    // 4l + c of the four rows.
    let mut groups = [[_mm512_setzero_si512(); 4]; 4];
    for (g, group) in groups.iter_mut().enumerate() {
        // SAFETY: by the contract of this function.
        let [row0, row1, row2, row3] = unsafe {
            let first = rows.add(4 * g * stride);
            [
                _mm512_loadu_si512(first.cast()),
                _mm512_loadu_si512(first.add(stride).cast()),
                _mm512_loadu_si512(first.add(2 * stride).cast()),
                _mm512_loadu_si512(first.add(3 * stride).cast()),
            ]
        };
        let low01 = _mm512_unpacklo_epi32(row0, row1);
        let high01 = _mm512_unpackhi_epi32(row0, row1);
        let low23 = _mm512_unpacklo_epi32(row2, row3);
        let high23 = _mm512_unpackhi_epi32(row2, row3);
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
///
/// # Safety
/// Each of the 16 rows, `stride` bytes apart, has 8 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn expand(rows: *const u8, stride: usize) -> [__m512; SPAN] {
    // SAFETY: by the contract of this function.
    let (low, high) = unsafe {
        let pair = |row: usize| {
            _mm_unpacklo_epi64(
                _mm_loadl_epi64(rows.add(row * stride).cast()),
                _mm_loadl_epi64(rows.add((row + 1) * stride).cast()),
            )
        };
        let four =
            |row| _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(pair(row)), pair(row + 2));
        let eight = |row| _mm512_inserti64x4::<1>(_mm512_castsi256_si512(four(row)), four(row + 4));
        (eight(0), eight(8))
    };
    // Each 128-bit lane holds two columns. Their bytes 0..4 (then 4..8) become the high bytes of
    // eight words: column 2l in words 0..4, column 2l + 1 in words 4..8.
    const Z: i8 = -1; // a shuffle index with bit 7 set gives zero
    let widen = [
        _mm_setr_epi8(Z, 0, Z, 1, Z, 2, Z, 3, Z, 8, Z, 9, Z, 10, Z, 11),
        _mm_setr_epi8(Z, 4, Z, 5, Z, 6, Z, 7, Z, 12, Z, 13, Z, 14, Z, 15),
    ];
    // Word j (then j + 1) of each column, columns in order: 32 words from two vectors.
    let mut select = [0i16; 32];
    for (i, select) in select.iter_mut().enumerate() {
        let (column, j) = (i % 16, i / 16);
        *select = (column * 4 + j) as i16;
    }
    // SAFETY: 32 words.
    let select = unsafe { _mm512_loadu_si512(select.as_ptr().cast()) };
    let mut out = [_mm512_setzero_ps(); SPAN];
    for half in 0..2 {
        let widen = _mm512_broadcast_i32x4(widen[half]);
        let words = [_mm512_shuffle_epi8(low, widen), _mm512_shuffle_epi8(high, widen)];
        for pair in 0..2 {
            let select = _mm512_add_epi16(select, _mm512_set1_epi16(2 * pair as i16));
            let both = _mm512_permutex2var_epi16(words[0], select, words[1]);
            // From the high byte to a shift by 7.
            let both = _mm512_srli_epi16::<1>(both);
            let j = 4 * half + 2 * pair;
            out[j] = _mm512_cvtph_ps(_mm512_castsi512_si256(both));
            out[j + 1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64::<1>(both));
        }
    }
    out
}
