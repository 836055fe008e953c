//! From packed rows to vectors with one column a lane, for the NEON kernels.

use std::arch::aarch64::*;
use std::ops::Range;

use crate::cpu::integer::STRIP;
use crate::cpu::schedule::{PIECE, Strip};
use crate::format::BLOCK;

/// Columns of a vector of words.
pub(super) const LANES: usize = 4;

/// Blocks of a row that are 16 bytes of codes.
const PAIR: usize = 2;

/// What rows beyond the end of a weight read as.
static ZEROS: [u8; PIECE / 2] = [0; PIECE / 2];

/// Some blocks of the 16 rows of a weight that make a strip; rows beyond its end are zero.
pub(super) struct StripRows<'a> {
    codes: [&'a [u8]; STRIP],
    scales: [&'a [u8]; STRIP],
}

impl<'a> StripRows<'a> {
    /// Blocks `blocks`, those of one piece at most.
    pub fn new(b: Strip<'a>, blocks: Range<usize>) -> Self {
        let bytes = blocks.start * BLOCK / 2..blocks.end * BLOCK / 2;
        let rows = b.rows();
        let codes = |row| match row < rows {
            true => &b.weight.row_codes(b.first + row)[bytes.clone()],
            false => &ZEROS[..bytes.len()],
        };
        let scales = |row| match row < rows {
            true => &b.weight.row_scales(b.first + row)[blocks.clone()],
            false => &ZEROS[..blocks.len()],
        };
        StripRows { codes: std::array::from_fn(codes), scales: std::array::from_fn(scales) }
    }

    /// Calls with the codes of pairs of blocks: with the number of the pair, the first of [`LANES`] columns, and four
    /// vectors, each of which holds for each of these columns eight packed codes: k = 0..8 and 8..16 of the
    /// first block of the pair, and the same of the second, which is zero where there is none.
    #[inline]
    #[target_feature(enable = "neon")]
    pub fn each_pair(&self, mut f: impl FnMut(usize, usize, [uint8x16_t; 4])) {
        let blocks = self.scales[0].len();
        for pair in 0..blocks.div_ceil(PAIR) {
            for first in (0..STRIP).step_by(LANES) {
                let rows: [_; LANES] =
                    std::array::from_fn(|i| load(&self.codes[first + i][pair * BLOCK..]));
                f(pair, first, transpose(rows));
            }
        }
    }

    /// Calls for each block with its number and the scale factors of the 16 columns, times 2^-8.
    #[inline]
    #[target_feature(enable = "neon")]
    pub fn each_scales(&self, mut f: impl FnMut(usize, [float32x4_t; STRIP / LANES])) {
        let blocks = self.scales[0].len();
        for start in (0..blocks).step_by(STRIP) {
            let rows = std::array::from_fn(|row| load(&self.scales[row][start..]));
            let columns = transpose_bytes(rows);
            for (i, &bytes) in columns.iter().enumerate().take(blocks - start) {
                f(start + i, expand(bytes));
            }
        }
    }
}

/// The first 16 bytes; what is beyond the end is zero.
#[inline]
#[target_feature(enable = "neon")]
fn load(bytes: &[u8]) -> uint8x16_t {
    match bytes.first_chunk::<16>() {
        // SAFETY: the array has 16 bytes.
        Some(all) => unsafe { vld1q_u8(all.as_ptr()) },
        None => {
            let mut padded = [0; 16];
            padded[..bytes.len()].copy_from_slice(bytes);
            // SAFETY: the array has 16 bytes.
            unsafe { vld1q_u8(padded.as_ptr()) }
        }
    }
}

/// Transposition of four rows of four words.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn transpose(rows: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
    let [a, b, c, d] = rows.map(|row| vreinterpretq_u32_u8(row));
    let (ab_even, ab_odd) = (vtrn1q_u32(a, b), vtrn2q_u32(a, b));
    let (cd_even, cd_odd) = (vtrn1q_u32(c, d), vtrn2q_u32(c, d));
    let low =
        |x, y| vreinterpretq_u8_u64(vtrn1q_u64(vreinterpretq_u64_u32(x), vreinterpretq_u64_u32(y)));
    let high =
        |x, y| vreinterpretq_u8_u64(vtrn2q_u64(vreinterpretq_u64_u32(x), vreinterpretq_u64_u32(y)));
    [low(ab_even, cd_even), low(ab_odd, cd_odd), high(ab_even, cd_even), high(ab_odd, cd_odd)]
}

/// Transposition of 16 rows of 16 bytes.
#[inline]
#[target_feature(enable = "neon")]
fn transpose_bytes(rows: [uint8x16_t; STRIP]) -> [uint8x16_t; STRIP] {
    // Row and column are eight bits of a byte's place: 4 of the vector, 4 within it. Zipping vectors i and i + 8 into
    // 2i and 2i + 1 turns all eight by one; four turns exchange both halves.
    let mut now = rows;
    for _ in 0..4 {
        now = std::array::from_fn(|i| {
            let (a, b) = (now[i / 2], now[i / 2 + STRIP / 2]);
            if i % 2 == 0 { vzip1q_u8(a, b) } else { vzip2q_u8(a, b) }
        });
    }
    now
}

/// The values of sixteen UE4M3 bytes times 2^-8, which is what a byte shifted to the exponent and mantissa of an f16
/// means.
#[inline]
#[target_feature(enable = "neon")]
fn expand(bytes: uint8x16_t) -> [float32x4_t; STRIP / LANES] {
    let widen = |bits| vcvt_f32_f16(vreinterpret_f16_u16(bits));
    let low = vshll_n_u8::<7>(vget_low_u8(bytes));
    let high = vshll_n_u8::<7>(vget_high_u8(bytes));
    [
        widen(vget_low_u16(low)),
        widen(vget_high_u16(low)),
        widen(vget_low_u16(high)),
        widen(vget_high_u16(high)),
    ]
}
