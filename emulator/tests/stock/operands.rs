//! Operands of a GEMM as the bytes that the kernels take, and the results that they have to give.

use super::numbers::{Exact, Format, Random, Sum, e2m1, e4m3, f16, power, product};
use super::quantized;

/// What A and B are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// e2m1 with a ue4m3 scale for 16 elements.
    Nvf4,
    /// e4m3 with a ue8m0 scale for 32 elements.
    Mxf8,
    /// f16.
    F16,
}

/// Which numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// Such that every partial sum is an f32: results have to be right to the last bit.
    Exact,
    /// Of the whole range of elements and scales.
    Full,
}

/// `D = alpha * A * B^T + beta * C`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Problem {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub alpha: f32,
    pub beta: f32,
    pub numbers: Numbers,
}

/// How a kernel takes and gives matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub kind: Kind,
    /// A, B are stored along M and N; otherwise along K.
    pub along_mn: bool,
    /// C and D are stored by columns.
    pub by_columns: bool,
    pub has_c: bool,
    pub d: Format,
}

/// How a kernel adds up, for the bound of what it may be off by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Each MMA rounds its exact sum once, with the accumulator.
    Exact,
    /// As the model MMA-Sim: the terms of an MMA are aligned to the largest, each is cut off after so many bits, and so is
    /// the sum after 23. A term is a product, or with NVFP4 the sum of 16 products.
    MmaSim,
}

impl Kind {
    /// Terms of an MMA, the accumulator included, and bits kept behind the leading one of the largest.
    fn terms(self) -> (usize, i32) {
        match self {
            Self::Nvf4 => (64 / 16 + 1, 35),
            Self::Mxf8 => (32 + 1, 25),
            Self::F16 => (16 + 1, 25),
        }
    }

    /// Products that an MMA sums for an entry.
    fn k_of_mma(self) -> usize {
        match self {
            Self::Nvf4 => 64,
            Self::Mxf8 => 32,
            Self::F16 => 16,
        }
    }
}

/// The files of a kernel, and what it computes from them.
pub struct Operands {
    pub problem: Problem,
    pub layout: Layout,
    pub files: Vec<(&'static str, Vec<u8>)>,
    sums: Vec<Sum>,
    /// Of the sums.
    unit: i32,
    /// f16, by rows.
    c: Vec<u16>,
}

impl Operands {
    pub fn new(layout: Layout, problem: Problem, seed: u64) -> Self {
        let mut random = Random(seed);
        let Problem { m, n, k, .. } = problem;
        let (a, mut files) =
            matrix(layout, problem.numbers, &mut random, m, k, ["a.bin", "sfa.bin"]);
        let (b, more) = matrix(layout, problem.numbers, &mut random, n, k, ["b.bin", "sfb.bin"]);
        files.extend(more);
        let mut c = Vec::new();
        if layout.has_c {
            c = (0..m * n).map(|_| half(Numbers::Exact, &mut random)).collect();
            let stored = permuted(&c, m, n, layout.by_columns);
            files.push(("c.bin", stored.iter().flat_map(|bits| bits.to_le_bytes()).collect()));
        }
        if layout.d == Format::E2m1 {
            files.push(("norm.bin", quantized::NORM.to_le_bytes().to_vec()));
        }
        let sums = product(&a, &b);
        Self { problem, layout, files, sums, unit: a.unit + b.unit, c }
    }

    /// Numbers for which any order of operations in f32 is exact, up to the last rounding to D.
    fn is_exact(&self) -> bool {
        let Problem { alpha, beta, .. } = self.problem;
        self.sums.iter().enumerate().all(|(at, sum)| {
            // In the unit that all terms have in common.
            let low = if sum.bits == 0 { 0 } else { sum.bits.trailing_zeros() as i32 };
            let c = self.c.get(at).map_or(0, |bits| f16(*bits));
            let magnitudes = sum.magnitudes >> low;
            let unit = self.unit + low;
            let combined = combine(magnitudes, unit, alpha.abs(), c.abs(), beta.abs());
            magnitudes < 1 << 24 && fits_f32(combined, unit, alpha, c, beta)
        })
    }

    /// An entry before the last rounding, and what it may be off by. `parts` are the sums that the kernel adds up.
    fn expected(&self, at: usize, rounding: Rounding, parts: usize) -> (f64, f64) {
        let Problem { k, alpha, beta, .. } = self.problem;
        let sum = self.sums[at];
        let c = self.c.get(at).map_or(0, |bits| f16(*bits));
        let scale = 2f64.powi(self.unit);
        let (alpha, beta) = (f64::from(alpha), f64::from(beta));
        let addend = beta * c as f64 * 2f64.powi(-24);
        let exact = alpha * (sum.sum as f64 * scale) + addend;
        // A partial sum is at most the sum of the magnitudes, and what was lost of it does not matter here. Each addition
        // to an accumulator loses at most an ulp of f32 of that, each other addition, too, and so do the two
        // operations of the epilogue.
        let magnitudes = sum.magnitudes as f64 * scale;
        let ulp = 2f64.powi(-23);
        let steps = k.div_ceil(self.layout.kind.k_of_mma()) as f64;
        let mut lost = (steps + parts as f64 - 1.0) * magnitudes * ulp;
        if rounding == Rounding::MmaSim {
            // Each term loses less than its last bit, which lies so many bits below the largest exponent: that of a
            // product or of the accumulator.
            let (terms, kept) = self.layout.kind.terms();
            let largest = magnitudes.max(sum.power as f64 * scale);
            lost += steps * terms as f64 * largest * 2f64.powi(-kept);
        }
        let lost = lost * (1.0 + 2f64.powi(-10));
        let magnitude = alpha.abs() * magnitudes + addend.abs();
        (exact, alpha.abs() * lost + 2.0 * magnitude * ulp)
    }

    /// Bytes of D.
    pub fn bytes_of_d(&self) -> usize {
        let Problem { m, n, .. } = self.problem;
        match self.layout.d {
            Format::E2m1 => quantized::sizes(m, n).1,
            format => m * n * format.bytes(),
        }
    }

    /// D with one value off by a little, to see that the check can fail.
    pub fn spoiled(&self, d: &[u8], rounding: Rounding) -> Vec<u8> {
        let mut worse = d.to_vec();
        let numbers = self.problem.numbers;
        if self.layout.d == Format::E2m1 {
            // The next code, or for a bound the one with half the magnitude or twice.
            let largest = worse.iter_mut().take(d.len() / 2).max_by_key(|byte| **byte & 7);
            if let Some(byte) = largest {
                *byte ^= if numbers == Numbers::Exact { 1 } else { 4 };
            }
            return worse;
        }
        let magnitude = |pair: &[u8]| {
            pair.iter().rev().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) & 0x7FFF
        };
        let chunks = worse.chunks_exact_mut(self.layout.d.bytes());
        let largest = chunks.max_by_key(|pair| magnitude(pair));
        if let Some(byte) = largest.and_then(<[u8]>::first_mut) {
            *byte ^= match (numbers, rounding) {
                (Numbers::Exact, _) => 1,
                (Numbers::Full, Rounding::Exact) => 8,
                (Numbers::Full, Rounding::MmaSim) => 32,
            };
        }
        worse
    }

    /// Says what is wrong with a result, if anything is. `parts` are the sums that the kernel adds up for an entry.
    pub fn check(&self, d: &[u8], rounding: Rounding, parts: usize) -> Result<(), String> {
        let Problem { m, n, alpha, beta, numbers, .. } = self.problem;
        let format = self.layout.d;
        let bytes = format.bytes();
        if numbers == Numbers::Exact && !self.is_exact() {
            return Err("these operands need more than f32".into());
        }
        if format == Format::E2m1 {
            return quantized::check(d, m, n, |row, column| {
                let (value, off) = self.expected(row * n + column, rounding, parts);
                (value, if numbers == Numbers::Exact { 0.0 } else { off })
            });
        }
        if d.len() != m * n * bytes {
            return Err(format!("{} bytes of D", d.len()));
        }
        let (mut wrong, mut first) = (0, None);
        for row in 0..m {
            for column in 0..n {
                let at = if self.layout.by_columns { column * m + row } else { row * n + column };
                let mut word = [0; 4];
                word[..bytes].copy_from_slice(&d[at * bytes..][..bytes]);
                let bits = u32::from_le_bytes(word);
                let sum = self.sums[row * n + column];
                let c = self.c.get(row * n + column).map_or(0, |bits| f16(*bits));
                let problem = match numbers {
                    Numbers::Exact => {
                        let exact = combine(sum.sum, self.unit, alpha, c, beta);
                        let expected = format.round(exact.0, exact.1);
                        // A sum of zero may come with either sign.
                        let zero = exact.0 == 0 && bits << (32 - 8 * bytes) << 1 == 0;
                        (bits != expected && !zero).then(|| {
                            format!("{:e} for {:e}", format.value(bits), format.value(expected))
                        })
                    }
                    Numbers::Full => {
                        let (exact, lost) = self.expected(row * n + column, rounding, parts);
                        // Then D is rounded.
                        let allowed = lost + format.ulp(exact.abs() + lost) / 2.0;
                        let got = format.value(bits);
                        let near = (got - exact).abs() <= allowed;
                        (!near).then(|| format!("{got:e} for {exact:e} (+-{allowed:e})"))
                    }
                };
                if let Some(problem) = problem {
                    wrong += 1;
                    first.get_or_insert(format!("D[{row}, {column}] is {problem}"));
                }
            }
        }
        match first {
            None => Ok(()),
            Some(first) => Err(format!("{wrong} of {} values are wrong; {first}", m * n)),
        }
    }
}

/// `alpha * sum + beta * c` in integers: value and exponent.
fn combine(sum: i128, unit: i32, alpha: f32, c: i64, beta: f32) -> (i128, i32) {
    let ((alpha, alpha_unit), (beta, beta_unit)) = (integer(alpha), integer(beta));
    let (left, left_unit) = (sum * alpha, unit + alpha_unit);
    let (right, right_unit) = (i128::from(c) * beta, -24 + beta_unit);
    match (left, right) {
        (_, 0) => (left, left_unit),
        (0, _) => (right, right_unit),
        _ => {
            let unit = left_unit.min(right_unit);
            ((left << (left_unit - unit)) + (right << (right_unit - unit)), unit)
        }
    }
}

/// Whether `alpha * sum + beta * c`, a result of [`combine`], takes 24 bits at most. It is in the smaller one of the
/// two units, but that of C is far below what C needs.
fn fits_f32(combined: (i128, i32), unit: i32, alpha: f32, c: i64, beta: f32) -> bool {
    let last_of_c = match i128::from(c) * integer(beta).0 {
        0 => i32::MAX,
        product => -24 + integer(beta).1 + product.trailing_zeros() as i32,
    };
    let last = last_of_c.min(unit + integer(alpha).1);
    let (value, value_unit) = combined;
    value == 0 || value >> (last - value_unit).max(0) < 1 << 24
}

/// A number as an integer times a power of two, the integer odd or zero.
fn integer(number: f32) -> (i128, i32) {
    let (mut value, mut unit) = (f64::from(number), 0);
    while value != value.trunc() {
        value *= 2.0;
        unit -= 1;
    }
    (value as i128, unit)
}

/// The bits of an f16: a small multiple of a half, or anything from 2^-10 to 4.
fn half(numbers: Numbers, random: &mut Random) -> u16 {
    match numbers {
        Numbers::Exact => {
            let value = random.below(17) as f32 / 2.0 - 4.0;
            half::f16::from_f32(value).to_bits()
        }
        Numbers::Full => {
            let exponent = 5 + random.below(12) as u16;
            (random.next() as u16 & 0x83FF) | exponent << 10
        }
    }
}

type Files = Vec<(&'static str, Vec<u8>)>;

fn matrix(
    layout: Layout,
    numbers: Numbers,
    random: &mut Random,
    rows: usize,
    columns: usize,
    names: [&'static str; 2],
) -> (Exact, Files) {
    let [name, scale_name] = names;
    match layout.kind {
        Kind::F16 => {
            let bits: Vec<u16> = (0..rows * columns).map(|_| half(numbers, random)).collect();
            let values: Vec<i64> = bits.iter().map(|bits| f16(*bits)).collect();
            let powers = values.iter().map(|value| power(*value, 1 << 10)).collect();
            let stored = permuted(&bits, rows, columns, layout.along_mn);
            let file = stored.iter().flat_map(|bits| bits.to_le_bytes()).collect();
            (Exact { rows, columns, unit: -24, values, powers }, vec![(name, file)])
        }
        Kind::Nvf4 => {
            let codes: Vec<u8> = (0..rows * columns).map(|_| random.below(16) as u8).collect();
            let file = codes.chunks_exact(2).map(|pair| pair[0] | pair[1] << 4).collect();
            // Exact: 0.25, 0.5, 1 or 2. Full: every code but those of zero and NaN, different ones for a long stretch.
            let scale = |random: &mut Random| match numbers {
                Numbers::Exact => 0x28 + 8 * random.below(4) as u8,
                Numbers::Full => 1 + random.below(0x7E) as u8,
            };
            let (scales, stored) = scales(random, rows, columns.div_ceil(16), scale);
            let scale = |at: usize| {
                let (row, column) = (at / columns, at % columns);
                e4m3(scales[row * columns.div_ceil(16) + column / 16])
            };
            let value = |at: usize| e2m1(codes[at]) * scale(at);
            let values = (0..rows * columns).map(value).collect();
            // Groups are aligned by their scales, whatever they hold; 1 is two halves.
            let powers = (0..rows * columns).map(|at| 2 * power(scale(at), 1 << 3)).collect();
            let exact = Exact { rows, columns, unit: -10, values, powers };
            (exact, vec![(name, file), (scale_name, stored)])
        }
        Kind::Mxf8 => {
            let element = |random: &mut Random| match numbers {
                // -4 to 4 in halves.
                Numbers::Exact => {
                    const CODES: [u8; 9] = [0, 0x30, 0x38, 0x3C, 0x40, 0x42, 0x44, 0x46, 0x48];
                    CODES[random.below(9) as usize] | (random.next() as u8 & 0x80)
                }
                Numbers::Full => random.below(0x7F) as u8 | (random.next() as u8 & 0x80),
            };
            let codes: Vec<u8> = (0..rows * columns).map(|_| element(random)).collect();
            // 2^-2..2^1, and 2^-8..2^7.
            let scale = |random: &mut Random| match numbers {
                Numbers::Exact => 125 + random.below(4) as u8,
                Numbers::Full => 119 + random.below(16) as u8,
            };
            let (scales, stored) = scales(random, rows, columns.div_ceil(32), scale);
            let scale = |at: usize| {
                let (row, column) = (at / columns, at % columns);
                scales[row * columns.div_ceil(32) + column / 32] - 119
            };
            let values = (0..rows * columns).map(|at| e4m3(codes[at]) << scale(at)).collect();
            let power = |at: usize| power(e4m3(codes[at]), 1 << 3) << scale(at);
            let powers = (0..rows * columns).map(power).collect();
            let exact = Exact { rows, columns, unit: -17, values, powers };
            (exact, vec![(name, codes), (scale_name, stored)])
        }
    }
}

/// Scales by rows, and as CUTLASS stores them: atoms of 128 rows and 4 blocks along K, 512 bytes each, K first. What
/// is beyond the matrix in the last atoms is as random as the rest.
fn scales(
    random: &mut Random,
    rows: usize,
    blocks: usize,
    mut scale: impl FnMut(&mut Random) -> u8,
) -> (Vec<u8>, Vec<u8>) {
    let atoms = blocks.div_ceil(4);
    let mut stored = vec![0; rows.div_ceil(128) * atoms * 512];
    for byte in &mut stored {
        *byte = scale(random);
    }
    let mut plain = Vec::with_capacity(rows * blocks);
    for row in 0..rows {
        for block in 0..blocks {
            let atom = row / 128 * atoms + block / 4;
            plain.push(stored[atom * 512 + row % 32 * 16 + row % 128 / 32 * 4 + block % 4]);
        }
    }
    (plain, stored)
}

fn permuted(bits: &[u16], rows: usize, columns: usize, by_columns: bool) -> Vec<u16> {
    if !by_columns {
        return bits.to_vec();
    }
    (0..rows * columns).map(|at| bits[at % rows * columns + at / rows]).collect()
}
