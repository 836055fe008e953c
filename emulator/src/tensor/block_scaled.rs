//! Products of E2M1 with a scale factor for each 16 or 32 elements (`kind::mxf4nvf4`, `kind::mxf4`): K = 64.
//!
//! A doubled E2M1 value is an integer of at most 12 in magnitude, so that the products of a block of 16 (32) add up to
//! at most 2304 (4608) in 16-bit integers. With UE4M3 scale factors every scaled block is a multiple of 2^-20 below
//! 2^28, and the four of them add up exactly in binary64. With UE8M0 that depends on the exponents, which are looked at.

use super::numbers::ScaleFormat;
use super::rounding::{
    Mode, NAN, Output, Term, aligned_sum, exact_sum, finish, split, to_odd, two_sum,
};

/// Elements of K of an instruction.
pub const K: usize = 64;
/// Columns that are computed together.
const WIDTH: usize = 32;
/// Elements of the smallest block.
const GROUP: usize = 16;
/// Blocks of 16 in K.
const GROUPS: usize = K / GROUP;
/// How MMA-Sim has a B200 round.
pub const MMA_SIM: Mode = Mode::Aligned { fraction: 35, mantissa: 23 };
/// The exponent that MMA-Sim has for terms that are zero.
const ZERO_EXPONENT: i32 = -139;

/// Doubled values of the codes.
const DOUBLED: [i16; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// The doubled elements of a row of K: packed, the even element in the low half of each byte.
pub fn decode(row: &[u8; 32]) -> [i16; K] {
    let mut values = [0; K];
    for (pair, byte) in values.chunks_exact_mut(2).zip(row) {
        pair[0] = DOUBLED[usize::from(byte & 15)];
        pair[1] = DOUBLED[usize::from(byte >> 4)];
    }
    values
}

/// B, made ready: for each `WIDTH` columns the rows of K.
#[derive(Debug)]
pub struct Right {
    tiles: Vec<[[i16; WIDTH]; K]>,
    /// Whether a group of K of a tile has elements other than 0.
    filled: Vec<[bool; GROUPS]>,
}

impl Right {
    /// From the K slices of all columns.
    pub fn new(slices: &[[u8; 32]]) -> Self {
        let count = slices.len().div_ceil(WIDTH);
        let mut tiles = vec![[[0; WIDTH]; K]; count];
        let mut filled = vec![[false; GROUPS]; count];
        for (tile, (slices, filled)) in tiles.iter_mut().zip(slices.chunks(WIDTH).zip(&mut filled))
        {
            for (n, slice) in slices.iter().enumerate() {
                for (k, value) in decode(slice).into_iter().enumerate() {
                    tile[k][n] = value;
                    filled[k / GROUP] |= value != 0;
                }
            }
        }
        Self { tiles, filled }
    }
}

/// The scale factors of all columns of B for one instruction.
#[derive(Debug)]
pub struct RightScales {
    format: ScaleFormat,
    /// Scale factors of a column: 2 or 4.
    count: usize,
    codes: Vec<[u8; 4]>,
    /// `values[group][column]`, in quarters (elements are doubled); columns padded to [`WIDTH`].
    values: [Vec<f32>; 4],
    /// Some scale factor is NaN.
    nan: bool,
    /// Exponents of the smallest and largest scale factor.
    span: (i32, i32),
}

impl RightScales {
    /// From the codes of each column: the first `count` of each are used.
    pub fn new(codes: Vec<[u8; 4]>, count: usize, format: ScaleFormat) -> Self {
        let padded = codes.len().next_multiple_of(WIDTH);
        let mut values = [const { Vec::new() }; 4];
        let (mut nan, mut span) = (false, (i32::MAX, i32::MIN));
        for (group, values) in values.iter_mut().enumerate().take(count) {
            values.resize(padded, 0.0);
            for (value, codes) in values.iter_mut().zip(&codes) {
                let exact = format.decode(codes[group]);
                nan |= exact.is_nan();
                span = widen(span, codes[group], format);
                // UE8M0 takes its own way where binary32 might not hold the product.
                *value = exact as f32;
            }
        }
        Self { format, count, codes, values, nan, span }
    }
}

fn widen(span: (i32, i32), code: u8, format: ScaleFormat) -> (i32, i32) {
    match format {
        ScaleFormat::UE8M0 if code != 0xFF => {
            let exponent = i32::from(code) - 127;
            (span.0.min(exponent), span.1.max(exponent))
        }
        _ => span,
    }
}

/// Memory that is used from row to row.
#[derive(Debug, Default)]
pub struct Scratch {
    sums: Vec<f64>,
}

/// One row of D: `into[n] = sum over K of A * B, scaled, plus into[n]` where `accumulate`.
///
/// `scales` are the row's own; `into` are the cells of the accumulator in binary32, from column `first` of B on.
#[allow(clippy::too_many_arguments)]
pub fn row(
    left: &[i16; K],
    scales: [u8; 4],
    (right, right_scales): (&Right, &RightScales),
    first: usize,
    into: &mut [u32],
    accumulate: bool,
    mode: Mode,
    scratch: &mut Scratch,
) {
    if let Mode::Aligned { fraction, .. } = mode {
        for (n, cell) in into.iter_mut().enumerate() {
            let n = n + first;
            let sum = aligned(left, scales, right, right_scales, n, *cell, accumulate, fraction);
            *cell = sum;
        }
        return;
    }
    let format = right_scales.format;
    if format == ScaleFormat::UE8M0 && !fits(scales, right_scales) {
        for (n, cell) in into.iter_mut().enumerate() {
            let terms = terms(left, scales, right, right_scales, n + first);
            let accumulator = if accumulate { Output::F32.decode(*cell) } else { 0.0 };
            let sum = exact_sum(terms.into_iter().chain([accumulator]));
            *cell = finish(sum, Output::F32);
        }
        return;
    }
    scratch.sums.clear();
    scratch.sums.resize(right.tiles.len() * WIDTH, 0.0);
    let span = K / right_scales.count;
    for group in 0..right_scales.count {
        let part = &left[group * span..(group + 1) * span];
        let scale = format.decode(scales[group]) * 0.25;
        if part.iter().all(|value| *value == 0) && !scale.is_nan() && !right_scales.nan {
            continue;
        }
        let tiles = right.tiles.iter().zip(&right.filled).zip(scratch.sums.chunks_exact_mut(WIDTH));
        let factors = right_scales.values[group].chunks_exact(WIDTH);
        let begin = group * span;
        for (((tile, filled), sums), factors) in tiles.zip(factors) {
            let some = filled[begin / GROUP..(begin + span) / GROUP].contains(&true);
            if !some && !scale.is_nan() && !right_scales.nan {
                continue;
            }
            let dots = dot(part, &tile[begin..begin + span]);
            match format {
                ScaleFormat::UE4M3 => add_scaled(sums, &dots, factors, scale as f32),
                ScaleFormat::UE8M0 => {
                    for ((sum, dot), factor) in sums.iter_mut().zip(&dots).zip(factors) {
                        *sum += f64::from(*dot) * (scale * f64::from(*factor));
                    }
                }
            }
        }
    }
    let sums = &scratch.sums[first..];
    finish_row(sums, into, accumulate);
}

/// Products of a block with the columns of a tile.
#[inline(always)]
fn dot(part: &[i16], tile: &[[i16; WIDTH]]) -> [i16; WIDTH] {
    let mut sums = [0i16; WIDTH];
    for (value, row) in part.iter().zip(tile) {
        for (sum, other) in sums.iter_mut().zip(row) {
            *sum = sum.wrapping_add(value.wrapping_mul(*other));
        }
    }
    sums
}

/// A block of at most 12 bits times two scale factors of 4 bits: exact in binary32.
#[inline(always)]
fn add_scaled(sums: &mut [f64], dots: &[i16; WIDTH], factors: &[f32], scale: f32) {
    for ((sum, dot), factor) in sums.iter_mut().zip(dots).zip(factors) {
        *sum += f64::from(f32::from(*dot) * (scale * factor));
    }
}

/// Adds the accumulators to exact sums, rounded once.
pub(super) fn finish_row(sums: &[f64], into: &mut [u32], accumulate: bool) {
    if !accumulate {
        for (cell, sum) in into.iter_mut().zip(sums) {
            *cell = if sum.is_nan() { NAN } else { (*sum as f32).to_bits() };
        }
        return;
    }
    for (cells, sums) in into.chunks_mut(WIDTH).zip(sums.chunks(WIDTH)) {
        let mut rounded = [0f32; WIDTH];
        let mut exact = true;
        for ((rounded, cell), sum) in rounded.iter_mut().zip(&*cells).zip(sums) {
            let (total, error) = two_sum(*sum, f64::from(f32::from_bits(*cell)));
            *rounded = total as f32;
            // NaN as well.
            exact &= error == 0.0;
        }
        if exact {
            for (cell, rounded) in cells.iter_mut().zip(rounded) {
                *cell = rounded.to_bits();
            }
            continue;
        }
        for (cell, sum) in cells.iter_mut().zip(sums) {
            let (total, error) = two_sum(*sum, f64::from(f32::from_bits(*cell)));
            *cell = finish(to_odd(total, error), Output::F32);
        }
    }
}

/// Whether sums of UE8M0-scaled blocks are exact in binary64: a block has 15 bits, and there are at most four.
fn fits(scales: [u8; 4], right: &RightScales) -> bool {
    let mut span = (i32::MAX, i32::MIN);
    for code in &scales[..right.count] {
        span = widen(span, *code, right.format);
    }
    let width = |(low, high): (i32, i32)| if high < low { 0 } else { high - low };
    width(span) + width(right.span) + 15 + 2 <= 53
}

/// The scaled blocks of an element of D, each exact.
fn terms(
    left: &[i16; K],
    scales: [u8; 4],
    right: &Right,
    other: &RightScales,
    n: usize,
) -> [f64; 4] {
    let (tile, column) = (&right.tiles[n / WIDTH], n % WIDTH);
    let span = K / other.count;
    let mut terms = [0.0; 4];
    for (group, term) in terms.iter_mut().enumerate().take(other.count) {
        let range = group * span..(group + 1) * span;
        let dot: i32 = left[range.clone()]
            .iter()
            .zip(&tile[range])
            .map(|(a, b)| i32::from(*a) * i32::from(b[column]))
            .sum();
        let scale = other.format.decode(scales[group]) * other.format.decode(other.codes[n][group]);
        *term = f64::from(dot) * 0.25 * scale;
    }
    terms
}

/// An element as MMA-Sim has it (`gst_fdpa`): a term for each 16 elements, whose products are added exactly. Only the
/// scale factors give it its exponent, unless all its products or a scale factor are zero.
#[allow(clippy::too_many_arguments)]
fn aligned(
    left: &[i16; K],
    scales: [u8; 4],
    right: &Right,
    other: &RightScales,
    n: usize,
    cell: u32,
    accumulate: bool,
    fraction: u32,
) -> u32 {
    let format = other.format;
    let accumulator = if accumulate { Output::F32.decode(cell) } else { 0.0 };
    let codes = (&scales[..other.count], &other.codes[n][..other.count]);
    let nan = |codes: &[u8]| codes.iter().any(|code| format.decode(*code).is_nan());
    if accumulator.is_nan() || nan(codes.0) || nan(codes.1) {
        return NAN;
    }
    if accumulator.is_infinite() {
        return cell;
    }
    let mut terms = [Term::of_zero(ZERO_EXPONENT); GROUPS + 1];
    if accumulator != 0.0 {
        let (significand, exponent) = split(accumulator, Output::F32.min_exponent(), 23);
        terms[GROUPS] = Term { significand, point: 23, exponent };
    }
    let tile = &right.tiles[n / WIDTH];
    for (group, term) in terms.iter_mut().take(GROUPS).enumerate() {
        let range = group * GROUP..(group + 1) * GROUP;
        let (mut dot, mut some) = (0, 0);
        for (a, b) in left[range.clone()].iter().zip(&tile[range]) {
            let product = i32::from(*a) * i32::from(b[n % WIDTH]);
            dot += product;
            some |= product;
        }
        let block = group * other.count / GROUPS;
        let (a, ea) = split(format.decode(codes.0[block]), format.min_exponent(), 3);
        let (b, eb) = split(format.decode(codes.1[block]), format.min_exponent(), 3);
        if some != 0 && a * b != 0 {
            // Quarters, and three fractional bits of each scale factor.
            *term = Term { significand: i64::from(dot) * a * b, point: 8, exponent: ea + eb };
        }
    }
    aligned_sum(&terms, fraction, 23, Output::F32)
}
