//! From packed rows to vectors with one column a lane, for the AVX2 kernels: eight rows of a strip at a time.

use std::arch::x86_64::*;

use super::strip_rows::{RawSpan, SPAN};

/// Columns of one vector.
pub(super) const LANES: usize = 8;

/// Eight rows of a span.
pub(super) struct HalfSpan<'a> {
    raw: RawSpan<'a>,
    first_row: usize,
}

impl<'a> HalfSpan<'a> {
    /// Rows 0..8 of the span, or 8..16.
    #[inline(always)]
    pub fn new(raw: RawSpan<'a>, half: usize) -> Self {
        assert!(half < 2);
        HalfSpan { raw, first_row: half * LANES }
    }

    /// Blocks `2·pair` and `2·pair + 1`: vector d holds, for each column, the packed codes of k = 8d..8d+8 of both.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn codes(&self, pair: usize) -> [__m256i; 4] {
        assert!(pair < SPAN / 2);
        let (rows, stride) = self.raw.codes();
        // Rows r and r + 4 share a vector, so that columns are in order after a transposition within 128-bit lanes.
        let both = |r: usize| {
            // SAFETY: a span has 64 bytes of each of sixteen rows.
            unsafe {
                let low = rows.add(self.first_row * stride + 16 * pair);
                let high = low.add(4 * stride);
                let low = _mm_loadu_si128(low.add(r * stride).cast());
                let high = _mm_loadu_si128(high.add(r * stride).cast());
                _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high)
            }
        };
        let [row0, row1, row2, row3] = [both(0), both(1), both(2), both(3)];
        let low01 = _mm256_unpacklo_epi32(row0, row1);
        let high01 = _mm256_unpackhi_epi32(row0, row1);
        let low23 = _mm256_unpacklo_epi32(row2, row3);
        let high23 = _mm256_unpackhi_epi32(row2, row3);
        [
            _mm256_unpacklo_epi64(low01, low23),
            _mm256_unpackhi_epi64(low01, low23),
            _mm256_unpacklo_epi64(high01, high23),
            _mm256_unpackhi_epi64(high01, high23),
        ]
    }

    /// Vector j holds, for each column, the scale factor of block j times 2^-8.
    ///
    /// A UE4M3 byte shifted left by 7 is an f16 with the same exponent field: 2^-8 of its value, subnormals included,
    /// which the conversion from f16 handles at full speed.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    pub fn scales(&self) -> [__m256; SPAN] {
        let (rows, stride) = self.raw.scales();
        // SAFETY: a span has 8 scale bytes of each of sixteen rows.
        let row = |r: usize| unsafe {
            let first = rows.add(self.first_row * stride);
            _mm_loadl_epi64(first.add(r * stride).cast())
        };
        // A transposition of 8 by 8 bytes: pairs of rows, then fours, then all.
        let twos = [0, 2, 4, 6].map(|r| _mm_unpacklo_epi8(row(r), row(r + 1)));
        let low = [_mm_unpacklo_epi16(twos[0], twos[1]), _mm_unpacklo_epi16(twos[2], twos[3])];
        let high = [_mm_unpackhi_epi16(twos[0], twos[1]), _mm_unpackhi_epi16(twos[2], twos[3])];
        let blocks = [
            _mm_unpacklo_epi32(low[0], low[1]),
            _mm_unpackhi_epi32(low[0], low[1]),
            _mm_unpacklo_epi32(high[0], high[1]),
            _mm_unpackhi_epi32(high[0], high[1]),
        ];
        let widen = |words: __m128i| _mm256_cvtph_ps(_mm_srli_epi16::<1>(words));
        let zero = _mm_setzero_si128();
        let mut out = [_mm256_setzero_ps(); SPAN];
        for (out, both) in out.as_chunks_mut::<2>().0.iter_mut().zip(blocks) {
            // Each byte becomes the high byte of a word.
            *out = [widen(_mm_unpacklo_epi8(zero, both)), widen(_mm_unpackhi_epi8(zero, both))];
        }
        out
    }
}

/// Calls `each(j, codes, scales)` for the first `blocks` blocks of eight rows of a span: the packed codes of k = 0..8 and
/// 8..16 of block `j`, and its scale factors times 2^-8, by column.
///
/// It becomes part of its caller, which may be compiled for more than AVX2.
///
/// # Safety
/// The machine has AVX2 and F16C.
#[inline(always)]
pub(super) unsafe fn each_block(
    raw: RawSpan<'_>,
    half: usize,
    blocks: usize,
    mut each: impl FnMut(usize, [__m256i; 2], __m256),
) {
    let span = HalfSpan::new(raw, half);
    // SAFETY: by the contract of this function.
    let scales = unsafe { span.scales() };
    if blocks == SPAN {
        // Of a known length: without a loop.
        for pair in 0..SPAN / 2 {
            // SAFETY: as above.
            let [a, b, c, d] = unsafe { span.codes(pair) };
            each(2 * pair, [a, b], scales[2 * pair]);
            each(2 * pair + 1, [c, d], scales[2 * pair + 1]);
        }
        return;
    }
    for pair in 0..blocks.div_ceil(2) {
        // SAFETY: as above.
        let [a, b, c, d] = unsafe { span.codes(pair) };
        each(2 * pair, [a, b], scales[2 * pair]);
        if 2 * pair + 1 < blocks {
            each(2 * pair + 1, [c, d], scales[2 * pair + 1]);
        }
    }
}
