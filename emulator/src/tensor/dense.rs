//! Products without scale factors for parts of K (`kind::f16`, `tf32`, `f8f6f4`, `i8` and wgmma), and those with one
//! scale factor for all of K (`kind::mxf8f6f4`).
//!
//! Products of two elements are exact in binary64. So is their sum, when the exponents of a row and of a column lie
//! close together, which is looked at once for each row and column; where they do not, the sum is exact by other means.

use super::block_scaled::finish_row;
use super::numbers::{Format, ScaleFormat};
use super::rounding::{Mode, Output, Term, aligned_sum, exact_sum, finish, split, to_odd, two_sum};

/// How MMA-Sim has a B200 round, and an H100 but for fp8.
pub const MMA_SIM: Mode = Mode::Aligned { fraction: 25, mantissa: 23 };
/// Columns that are computed together.
const WIDTH: usize = 16;

/// Bits that a vector of elements spans: all are multiples of 2^low and smaller than 2^high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    low: i32,
    high: i32,
}

impl Span {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut span = Self { low: i32::MAX, high: i32::MIN };
        for value in values.filter(|value| *value != 0.0 && value.is_finite()) {
            // No format has numbers that are subnormal in binary64.
            let bits = value.to_bits();
            let exponent = (bits >> 52 & 0x7FF) as i32 - 1023;
            let zeros = (bits | 1 << 52).trailing_zeros() as i32;
            span.low = span.low.min(exponent - 52 + zeros);
            span.high = span.high.max(exponent + 1);
        }
        span
    }

    fn width(self) -> i32 {
        if self.high < self.low { 0 } else { self.high - self.low }
    }
}

/// A row of A.
#[derive(Debug)]
pub struct Left {
    values: Vec<f64>,
    span: Span,
    format: Format,
}

impl Left {
    /// From its elements.
    pub fn new(values: Vec<f64>, format: Format) -> Self {
        let span = Span::of(values.iter().copied());
        Self { values, span, format }
    }
}

/// B, made ready: for each `WIDTH` columns the rows of K.
#[derive(Debug)]
pub struct Right {
    columns: usize,
    k: usize,
    format: Format,
    tiles: Vec<Vec<[f64; WIDTH]>>,
    spans: Vec<Span>,
    /// The widest span.
    widest: i32,
    /// All elements are numbers.
    finite: bool,
}

impl Right {
    /// From the elements of each column, `k` to each.
    pub fn new(values: &[f64], k: usize, format: Format) -> Self {
        let k = k.max(1);
        let columns: Vec<&[f64]> = values.chunks_exact(k).collect();
        let tiles = columns.chunks(WIDTH).map(|columns| {
            let mut tile = vec![[0.0; WIDTH]; k];
            for (n, column) in columns.iter().enumerate() {
                for (row, value) in tile.iter_mut().zip(*column) {
                    row[n] = *value;
                }
            }
            tile
        });
        let tiles = tiles.collect();
        let spans: Vec<Span> =
            columns.iter().map(|column| Span::of(column.iter().copied())).collect();
        let widest = spans.iter().map(|span| span.width()).max().unwrap_or(0);
        let finite = values.iter().all(|value| value.is_finite());
        Self { columns: columns.len(), k, format, tiles, spans, widest, finite }
    }

    /// Elements of K.
    pub fn depth(&self) -> usize {
        self.k
    }
}

/// Scale factors of a row of A, and of all columns of B.
#[derive(Clone, Copy, Debug)]
pub struct Scales<'a> {
    /// Of the row.
    pub left: u8,
    /// Of the columns.
    pub right: &'a [u8],
    /// How they are written.
    pub format: ScaleFormat,
}

/// What varies between instructions.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Add what the accumulator holds.
    pub accumulate: bool,
    /// The accumulator is divided by 2 to this first (`scale-input-d`).
    pub shift: u32,
    /// What the accumulator holds.
    pub output: Output,
    /// How sums are rounded.
    pub mode: Mode,
}

/// One row of D, from column `first` of B on: `into[n] = sum over K of A * B, scaled, plus into[n]`.
pub fn row(
    left: &Left,
    right: &Right,
    scales: Option<Scales<'_>>,
    first: usize,
    into: &mut [u32],
    setup: Setup,
) {
    if let (Mode::Aligned { fraction, mantissa }, Output::F32 | Output::F16) =
        (setup.mode, setup.output)
    {
        for (n, cell) in into.iter_mut().enumerate() {
            *cell = aligned(left, right, scales, n + first, *cell, setup, fraction, mantissa);
        }
        return;
    }
    let mut sums = vec![0.0; right.tiles.len() * WIDTH];
    for (tile, sums) in right.tiles.iter().zip(sums.chunks_exact_mut(WIDTH)) {
        let mut totals = [0.0; WIDTH];
        for (value, row) in left.values.iter().zip(tile) {
            if *value == 0.0 && right.finite {
                continue;
            }
            for (total, other) in totals.iter_mut().zip(row) {
                *total += value * other;
            }
        }
        sums.copy_from_slice(&totals);
    }
    // A sum of 2^g products needs g bits more than a product.
    let growth = right.k.next_power_of_two().trailing_zeros() as i32;
    let room = 53 - growth - left.span.width();
    let factor = |n: usize| {
        scales.map_or(1.0, |scales| {
            scales.format.decode(scales.left) * scales.format.decode(scales.right[n])
        })
    };
    if scales.is_some() {
        // Powers of two: exact.
        for (n, sum) in sums[..right.columns].iter_mut().enumerate() {
            *sum *= factor(n);
        }
    }
    if right.widest <= room && setup.output == Output::F32 && setup.shift == 0 {
        finish_row(&sums[first..], into, setup.accumulate);
        return;
    }
    for (n, cell) in into.iter_mut().enumerate() {
        let added = accumulator(*cell, setup);
        let n = n + first;
        let sum = if right.spans[n].width() > room {
            let factor = factor(n);
            total(products(left, right, n).map(|term| term * factor).chain([added]))
        } else {
            let (sum, error) = two_sum(sums[n], added);
            to_odd(sum, error)
        };
        *cell = finish(sum, setup.output);
    }
}

fn accumulator(cell: u32, setup: Setup) -> f64 {
    if !setup.accumulate {
        return 0.0;
    }
    setup.output.decode(cell) / f64::from(1u32 << setup.shift)
}

fn products<'a>(
    left: &'a Left,
    right: &'a Right,
    n: usize,
) -> impl Iterator<Item = f64> + Clone + 'a {
    let tile = &right.tiles[n / WIDTH];
    left.values.iter().zip(tile).map(move |(a, b)| a * b[n % WIDTH])
}

/// The sum of all terms, rounded to odd.
fn total(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    // Infinities and NaN by the rules of IEEE 754, which are those of an ordinary sum.
    let plain: f64 = terms.clone().sum();
    if plain.is_finite() { exact_sum(terms) } else { plain }
}

/// The exponent that MMA-Sim has for products, and for an accumulator, that are zero.
fn zero_exponent(output: Output) -> i32 {
    if output == Output::F16 { -21 } else { -133 }
}

/// An element as MMA-Sim has it (`t_fdpa`, `st_fdpa`).
#[allow(clippy::too_many_arguments)]
fn aligned(
    left: &Left,
    right: &Right,
    scales: Option<Scales<'_>>,
    n: usize,
    cell: u32,
    setup: Setup,
    fraction: u32,
    mantissa: u32,
) -> u32 {
    let added = accumulator(cell, setup);
    let (factor, shift) = match scales {
        None => (1.0, 0),
        Some(scales) => {
            let (a, b) = (scales.format.decode(scales.left), scales.format.decode(scales.right[n]));
            let exponent = |value| split(value, scales.format.min_exponent(), 3).1;
            (a * b, if (a * b).is_nan() { 0 } else { exponent(a) + exponent(b) })
        }
    };
    let plain = products(left, right, n).map(|term| term * factor).sum::<f64>() + added;
    if !plain.is_finite() {
        return finish(plain, setup.output);
    }
    // 23 fractional bits hold a binary32; every element has at most 10.
    let zero = Term::of_zero(zero_exponent(setup.output));
    let of = |significand: i64, point: u32, exponent: i32| match significand {
        0 => zero,
        _ => Term { significand, point, exponent },
    };
    let (significand, exponent) = split(added, setup.output.min_exponent(), 23);
    let mut terms = vec![of(significand, 23, exponent)];
    let tile = &right.tiles[n / WIDTH];
    for (a, b) in left.values.iter().zip(tile) {
        let (a, ea) = split(*a, left.format.min_exponent(), 10);
        let (b, eb) = split(b[n % WIDTH], right.format.min_exponent(), 10);
        terms.push(of(a * b, 20, ea + eb + shift));
    }
    aligned_sum(&terms, fraction, mantissa, setup.output)
}
