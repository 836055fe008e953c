//! Rows of operands as integers, whose dot products are exact.
//!
//! Twice an e2m1 value is an integer in \[-12, 12\] and 2^9 times a UE4M3 value an integer up to 229376, so every product
//! of two dequantized values (before the global scales) is an integer multiple of 2^-20 below 2^43 in that unit. 2^19
//! of them fit an i64; longer dot products are summed in pieces.
//!
//! A 16-bit value is an integer of 11 bits times a power of two. Values whose powers are within a window of 40 are
//! integers below 2^50 of one unit; their products with doubled codes add up in an i64 over a block of 16, and those
//! sums times scale factors in an i128. One window has all of f16, from 2^-24 to 2^15, so that an f16 dot product is
//! exact. bf16 has seven windows at most. Their exact sums are rounded to f64 and added, 14 roundings of 2^-53 each of
//! at most `Σ|a·b|`: an error below 2^-49 of that.

use crate::dtype::Element;
use crate::error::{Operand, Result};
use crate::format::{BLOCK, e2m1, ue4m3};
use crate::matrix::{Nvfp4View, ValuesView};
use crate::memory;
use crate::op::ActivationsView;

/// Blocks whose exact sum fits an i64 with room to spare: 2^19 terms.
const BLOCKS_PER_I64: usize = (1 << 19) / BLOCK;

/// A row of activations.
pub(super) enum ExactRow {
    Nvfp4(IntegerRow),
    Values(ValueRow),
}

impl ExactRow {
    /// Row `row`, which counts through all batches.
    pub fn new(a: &ActivationsView<'_>, row: usize) -> Result<Self> {
        match a {
            ActivationsView::Nvfp4(a) => IntegerRow::new(a, row, Operand::A).map(ExactRow::Nvfp4),
            ActivationsView::F16(a) => ValueRow::new(a, row).map(ExactRow::Values),
            ActivationsView::Bf16(a) => ValueRow::new(a, row).map(ExactRow::Values),
        }
    }

    /// The dot product with a row of weights, without global scales.
    pub fn dot(&self, weight: &IntegerRow) -> f64 {
        match self {
            ExactRow::Nvfp4(row) => row.dot(weight) as f64 * 2f64.powi(-20),
            ExactRow::Values(row) => row.dot(weight),
        }
    }
}

/// One row as integers: doubled codes, and scale factors times 2^9.
pub(super) struct IntegerRow {
    codes: Vec<[i16; BLOCK]>,
    scales: Vec<i64>,
}

impl IntegerRow {
    pub fn new(view: &Nvfp4View<'_>, row: usize, operand: Operand) -> Result<Self> {
        let (bytes, scale_bytes) = (view.row_codes(row), view.row_scales(row));
        let mut codes = memory::filled([0; BLOCK], scale_bytes.len(), operand)?;
        for (block, bytes) in codes.iter_mut().zip(bytes.chunks_exact(BLOCK / 2)) {
            for (pair, byte) in block.chunks_exact_mut(2).zip(bytes) {
                pair[0] = i16::from(e2m1::DOUBLED[usize::from(byte & 15)]);
                pair[1] = i16::from(e2m1::DOUBLED[usize::from(byte >> 4)]);
            }
        }
        let mut scales = memory::filled(0, scale_bytes.len(), operand)?;
        for (scale, &byte) in scales.iter_mut().zip(scale_bytes) {
            *scale = ue4m3::times_512(byte);
        }
        Ok(IntegerRow { codes, scales })
    }

    /// The dot product of two rows in units of 2^-20.
    fn dot(&self, other: &IntegerRow) -> i128 {
        let blocks = self.codes.len();
        let mut sum = 0i128;
        for start in (0..blocks).step_by(BLOCKS_PER_I64) {
            let end = blocks.min(start + BLOCKS_PER_I64);
            let mut piece = 0i64;
            let mut i = start;
            while i < end {
                let block = of_block(&self.codes[i], &other.codes[i]);
                piece += i64::from(block) * (self.scales[i] * other.scales[i]);
                i += 1;
            }
            sum += i128::from(piece);
        }
        sum
    }
}

/// The sum of the products of two blocks of doubled codes. Most of the time of tests goes here, and they are compiled with
/// little optimization: iterators and conversions would be calls there.
fn of_block(x: &[i16; BLOCK], y: &[i16; BLOCK]) -> i32 {
    let (mut sum, mut j) = (0i32, 0);
    while j < BLOCK {
        sum = sum.wrapping_add((x[j] as i32).wrapping_mul(y[j] as i32));
        j += 1;
    }
    sum
}

/// The same where one block holds integers below 2^50: below 2^58.
fn of_values(x: &[i64; BLOCK], y: &[i16; BLOCK]) -> i64 {
    let (mut sum, mut j) = (0i64, 0);
    while j < BLOCK {
        sum = sum.wrapping_add(x[j].wrapping_mul(y[j] as i64));
        j += 1;
    }
    sum
}

/// Exponent fields of f32 that share a window, and by how much the windows are shifted: f16 widened to f32 has the fields
/// 103 to 142, which are one window.
const WINDOW: u32 = 40;
const SHIFT: u32 = 17;

/// One row of 16-bit values as integers, window by window.
pub(super) struct ValueRow {
    windows: Vec<Window>,
}

/// The values of a row that lie in one window, as integers of one unit; the others are 0.
struct Window {
    index: u32,
    values: Vec<[i64; BLOCK]>,
}

impl Window {
    /// The power of two that is the unit.
    fn unit(&self) -> i32 {
        // An f32 with exponent field e is a multiple of 2^(e - 150), and a widened one of 2^13 times that.
        (WINDOW * self.index) as i32 - SHIFT as i32 - 150 + 13
    }
}

impl ValueRow {
    fn new<T: Element>(view: &ValuesView<'_, T>, row: usize) -> Result<Self> {
        let mut windows: Vec<Window> = Vec::new();
        for (k, value) in view.row(row).iter().enumerate() {
            let bits = value.to_f32().to_bits();
            let (field, fraction) = (bits >> 23 & 0xff, bits & 0x7f_ffff);
            // A subnormal number has the exponent of field 1, and no hidden bit.
            let significand = if field == 0 { fraction } else { fraction | 1 << 23 } >> 13;
            if significand == 0 {
                continue;
            }
            let place = field.max(1) + SHIFT;
            let (index, shift) = (place / WINDOW, place % WINDOW);
            let integer = i64::from(significand) << shift;
            let at = match windows.iter().position(|window| window.index == index) {
                Some(at) => at,
                None => {
                    let blocks = view.cols() / BLOCK;
                    let values = memory::filled([0; BLOCK], blocks, Operand::A)?;
                    windows.push(Window { index, values });
                    windows.len() - 1
                }
            };
            windows[at].values[k / BLOCK][k % BLOCK] =
                if bits >> 31 == 0 { integer } else { -integer };
        }
        // The smallest first.
        windows.sort_by_key(|window| window.index);
        Ok(ValueRow { windows })
    }

    fn dot(&self, weight: &IntegerRow) -> f64 {
        let of_window = |window: &Window| {
            let mut sum = 0i128;
            for ((values, codes), &scale) in
                window.values.iter().zip(&weight.codes).zip(&weight.scales)
            {
                sum += i128::from(of_values(values, codes)) * i128::from(scale);
            }
            // Doubled codes and scale factors times 2^9.
            sum as f64 * 2f64.powi(window.unit() - 10)
        };
        self.windows.iter().map(of_window).sum()
    }
}
