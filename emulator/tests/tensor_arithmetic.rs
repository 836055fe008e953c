//! The arithmetic of the tensor cores against integers: every product, sum and rounding here is computed in i128 from
//! the bits of the codes.

use emulator::tensor::block_scaled::{self, RightScales, Scratch};
use emulator::tensor::dense::{self, Left, Scales, Setup};
use emulator::tensor::numbers::{Format, ScaleFormat};
use emulator::tensor::rounding::{Mode, Output};

/// splitmix64
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A finite float with these fields in units of its smallest number.
fn fixed(code: u64, exponent_bits: u32, mantissa_bits: u32) -> i128 {
    let mantissa = i128::from(code & ((1 << mantissa_bits) - 1));
    let exponent = code >> mantissa_bits & ((1 << exponent_bits) - 1);
    let magnitude = match exponent {
        0 => mantissa,
        _ => (mantissa | 1 << mantissa_bits) << (exponent - 1),
    };
    if code >> (mantissa_bits + exponent_bits) & 1 != 0 { -magnitude } else { magnitude }
}

/// E2M1 in halves.
fn e2m1(code: u8) -> i128 {
    fixed(u64::from(code), 2, 1)
}

/// UE4M3 in units of 2^-9.
fn ue4m3(code: u8) -> i128 {
    fixed(u64::from(code & 0x7F), 4, 3)
}

/// value * 2^-point as binary32, to nearest even; no overflow.
fn nearest(value: i128, point: i32) -> f32 {
    round(value, point, true)
}

/// The same, or toward zero.
fn round(value: i128, point: i32, to_nearest: bool) -> f32 {
    if value == 0 {
        return 0.0;
    }
    let magnitude = value.unsigned_abs();
    let leading = 127 - magnitude.leading_zeros() as i32;
    // Weight of the last place of the result.
    let last = (leading - point - 23).max(-149);
    let drop = last + point;
    let mut kept = if drop <= 0 { magnitude << -drop } else { magnitude >> drop };
    if drop > 0 && to_nearest {
        let rest = magnitude & ((1 << drop) - 1);
        let half = 1u128 << (drop - 1);
        if rest > half || rest == half && kept & 1 == 1 {
            kept += 1;
        }
    }
    // A binary32 by now: the conversion is exact.
    let result = (kept as f64 * 2f64.powi(last)) as f32;
    if value < 0 { -result } else { result }
}

/// A binary32 that is a multiple of 2^-60, in these units.
fn accumulator(value: f32) -> i128 {
    (f64::from(value) * 2f64.powi(60)) as i128
}

/// Multiples of 2^-50 below 2^30: many sums with products do not fit in binary64.
fn random_accumulator(random: &mut Random) -> f32 {
    let mantissa = (1 << 23 | random.below(1 << 23)) as f64;
    let magnitude = (mantissa * 2f64.powi(random.below(56) as i32 - 50)) as f32;
    match random.below(16) {
        0 => 0.0,
        n if n % 2 == 0 => magnitude,
        _ => -magnitude,
    }
}

struct Fp4 {
    a: Vec<[u8; 32]>,
    b: Vec<[u8; 32]>,
    a_scales: Vec<[u8; 4]>,
    b_scales: Vec<[u8; 4]>,
    c: Vec<f32>,
}

fn code(slice: &[u8; 32], k: usize) -> u8 {
    slice[k / 2] >> (4 * (k % 2)) & 15
}

impl Fp4 {
    fn random(m: usize, n: usize, seed: u64, scale: impl Fn(&mut Random) -> u8) -> Self {
        let mut random = Random(seed);
        let slices = |count: usize, random: &mut Random| -> Vec<[u8; 32]> {
            let slice = |row| {
                // Some rows are zero, or zero in part.
                let mut slice: [u8; 32] = std::array::from_fn(|_| random.next() as u8);
                match row % 7 {
                    3 => slice.fill(if row % 2 == 0 { 0x88 } else { 0 }),
                    5 => slice[8..24].fill(0x80),
                    _ => {}
                }
                slice
            };
            (0..count).map(slice).collect()
        };
        let (a, b) = (slices(m, &mut random), slices(n, &mut random));
        let scales = |count: usize, random: &mut Random| -> Vec<[u8; 4]> {
            (0..count).map(|_| std::array::from_fn(|_| scale(random))).collect()
        };
        let (a_scales, b_scales) = (scales(m, &mut random), scales(n, &mut random));
        let c = (0..m * n).map(|_| random_accumulator(&mut random)).collect();
        Self { a, b, a_scales, b_scales, c }
    }

    /// The cells after the instruction.
    fn run(&self, count: usize, format: ScaleFormat, accumulate: bool, mode: Mode) -> Vec<u32> {
        let n = self.b.len();
        let right = block_scaled::Right::new(&self.b);
        let scales = RightScales::new(self.b_scales.clone(), count, format);
        let mut cells: Vec<u32> = self.c.iter().map(|value| value.to_bits()).collect();
        let mut scratch = Scratch::default();
        for ((a, codes), row) in self.a.iter().zip(&self.a_scales).zip(cells.chunks_mut(n)) {
            let a = block_scaled::decode(a);
            let right = (&right, &scales);
            block_scaled::row(&a, *codes, right, 0, row, accumulate, mode, &mut scratch);
        }
        cells
    }

    /// Sum over a group of 16, in quarters.
    fn dot(&self, m: usize, n: usize, group: usize) -> i128 {
        (16 * group..16 * group + 16)
            .map(|k| e2m1(code(&self.a[m], k)) * e2m1(code(&self.b[n], k)))
            .sum()
    }
}

#[test]
fn nvfp4_is_exact_and_rounded_once() {
    for (seed, columns) in [(1, 8), (2, 48), (3, 128), (4, 256)] {
        // All codes of UE4M3 but NaN.
        let case = Fp4::random(40, columns, seed, |random| random.below(0x7F) as u8);
        for accumulate in [false, true] {
            let cells = case.run(4, ScaleFormat::UE4M3, accumulate, Mode::Exact);
            for (at, cell) in cells.iter().enumerate() {
                let (m, n) = (at / columns, at % columns);
                // Quarters times 2^-18: units of 2^-20.
                let term = |group: usize| {
                    let scales = ue4m3(case.a_scales[m][group]) * ue4m3(case.b_scales[n][group]);
                    case.dot(m, n, group) * scales
                };
                let sum: i128 = (0..4).map(term).sum();
                let added = if accumulate { accumulator(case.c[at]) } else { 0 };
                let expected = nearest((sum << 40) + added, 60);
                assert_eq!(f32::from_bits(*cell), expected, "row {m}, column {n}");
            }
        }
    }
}

#[test]
fn a_tie_that_only_the_whole_sum_can_tell() {
    let mut case = Fp4::random(1, 8, 5, |_| 0);
    // First group: 4 * 4 + 4 * 4, scaled by 2^8 twice: 2^21. Second group: 1 * 1 * 2^-3. The last place is 2^-2.
    let mut slice = [0; 32];
    slice[0] = 0x66;
    slice[8] = 0x02;
    case.a = vec![slice];
    case.b = vec![slice; 8];
    case.a_scales = vec![[0x78, 0x20, 0, 0]];
    case.b_scales = vec![[0x78, 0x38, 0, 0]; 8];
    for (added, expected) in [
        (0.0f32, 2_097_152f32),
        (1e-12, 2_097_152.0 + 0.25),
        (-1e-12, 2_097_152.0),
        (0.125, 2_097_152.0 + 0.25),
        (-0.125, 2_097_152.0),
    ] {
        case.c = vec![added; 8];
        let cells = case.run(4, ScaleFormat::UE4M3, true, Mode::Exact);
        assert_eq!(f32::from_bits(cells[0]), expected, "{added}");
    }
}

#[test]
fn nan_scales_spoil_their_rows_and_columns_only() {
    let mut case = Fp4::random(20, 40, 6, |random| random.below(0x7F) as u8);
    case.a_scales[3][1] = 0x7F;
    case.b_scales[9][2] = 0xFF;
    for mode in [Mode::Exact, Mode::Aligned { fraction: 35, mantissa: 23 }] {
        let cells = case.run(4, ScaleFormat::UE4M3, true, mode);
        for (at, cell) in cells.iter().enumerate() {
            let nan = at / 40 == 3 || at % 40 == 9;
            assert_eq!(*cell == 0x7FFF_FFFF, nan, "row {}, column {}", at / 40, at % 40);
        }
    }
}

#[test]
fn mxf4_with_near_and_far_exponents() {
    // Far: the blocks do not overlap in 64 bits.
    for (seed, spread) in [(7, 6), (8, 36)] {
        let scale = |random: &mut Random| (127 - spread / 2 + random.below(spread)) as u8;
        let case = Fp4::random(30, 64, seed, scale);
        let cells = case.run(2, ScaleFormat::UE8M0, true, Mode::Exact);
        for (at, cell) in cells.iter().enumerate() {
            let (m, n) = (at / 64, at % 64);
            let term = |block: usize| {
                let dot = case.dot(m, n, 2 * block) + case.dot(m, n, 2 * block + 1);
                let scales = [case.a_scales[m][block], case.b_scales[n][block]];
                let exponent: i32 = scales.iter().map(|code| i32::from(*code) - 127).sum();
                // Units of 2^-60: a quarter is 2^58.
                dot << (58 + exponent)
            };
            let sum = term(0) + term(1);
            let expected = nearest(sum + accumulator(case.c[at]), 60);
            assert_eq!(f32::from_bits(*cell), expected, "row {m}, column {n}");
        }
    }
}

/// What MMA-Sim does, on integers: terms in units of 2^-80 with the exponents that they are aligned by.
fn aligned(terms: &[(i128, i32)], fraction: i32) -> f32 {
    let largest = terms.iter().map(|term| term.1).max().unwrap_or(0);
    let unit = largest - fraction + 80;
    let kept = |(value, _): &(i128, i32)| {
        let magnitude = value.unsigned_abs();
        let kept = if unit <= 0 { magnitude << -unit } else { magnitude >> unit } as i128;
        if *value < 0 { -kept } else { kept }
    };
    round(terms.iter().map(kept).sum(), fraction - largest, false)
}

fn aligned_accumulator(value: f32, zero: i32) -> (i128, i32) {
    match value {
        0.0 => (0, zero),
        _ => (accumulator(value) << 20, (value.to_bits() >> 23 & 0xFF) as i32 - 127),
    }
}

#[test]
fn nvfp4_as_mma_sim_has_it() {
    let case = Fp4::random(30, 40, 9, |random| random.below(0x7F) as u8);
    let exponent = |code: u8| (i32::from(code & 0x7F) >> 3).max(1) - 7;
    let mode = Mode::Aligned { fraction: 35, mantissa: 23 };
    let cells = case.run(4, ScaleFormat::UE4M3, true, mode);
    let exact = case.run(4, ScaleFormat::UE4M3, true, Mode::Exact);
    for (at, cell) in cells.iter().enumerate() {
        let (m, n) = (at / 40, at % 40);
        let mut terms = vec![aligned_accumulator(case.c[at], -139)];
        for group in 0..4 {
            let (a, b) = (case.a_scales[m][group], case.b_scales[n][group]);
            let some = (16 * group..16 * group + 16)
                .any(|k| e2m1(code(&case.a[m], k)) * e2m1(code(&case.b[n], k)) != 0);
            // Units of 2^-20.
            let value = case.dot(m, n, group) * ue4m3(a) * ue4m3(b);
            let zero = !some || ue4m3(a) * ue4m3(b) == 0;
            terms.push((value << 60, if zero { -139 } else { exponent(a) + exponent(b) }));
        }
        assert_eq!(f32::from_bits(*cell), aligned(&terms, 35), "row {m}, column {n}");
    }
    assert_ne!(cells, exact, "the case does not tell the modes apart");
}

/// A float format by its fields; its smallest number is 2^-point.
#[derive(Clone, Copy)]
struct Fields {
    format: Format,
    exponent: u32,
    mantissa: u32,
    point: u32,
}

const F16: Fields = Fields { format: Format::F16, exponent: 5, mantissa: 10, point: 24 };
const E4M3: Fields = Fields { format: Format::E4M3, exponent: 4, mantissa: 3, point: 9 };
const E5M2: Fields = Fields { format: Format::E5M2, exponent: 5, mantissa: 2, point: 16 };
const E3M2: Fields = Fields { format: Format::E3M2, exponent: 3, mantissa: 2, point: 4 };

impl Fields {
    /// A finite code; exponents from nearly the whole range, or from four only.
    fn random(&self, random: &mut Random, near: bool) -> u64 {
        let top = (1 << self.exponent) - 1;
        let exponent = if near { top / 2 + random.below(4) } else { random.below(top) };
        let sign = random.below(2) << (self.exponent + self.mantissa);
        if random.below(9) == 0 {
            return sign;
        }
        sign | exponent << self.mantissa | random.below(1 << self.mantissa)
    }

    fn exponent_of(&self, code: u64) -> i32 {
        let bits = code & ((1 << (self.exponent + self.mantissa)) - 1);
        let bias = (1 << (self.exponent - 1)) - 1;
        ((bits >> self.mantissa) as i32).max(1) - bias
    }

    fn fixed(&self, code: u64) -> i128 {
        fixed(code, self.exponent, self.mantissa)
    }
}

struct Dense {
    fields: [Fields; 2],
    k: usize,
    n: usize,
    a: Vec<Vec<u64>>,
    b: Vec<Vec<u64>>,
    c: Vec<f32>,
}

impl Dense {
    fn random(fields: [Fields; 2], k: usize, near: bool, seed: u64) -> Self {
        let (m, n) = (24, 40);
        let mut random = Random(seed);
        let mut matrix = |rows: usize, fields: Fields| -> Vec<Vec<u64>> {
            let mut row = || (0..k).map(|_| fields.random(&mut random, near)).collect();
            (0..rows).map(|_| row()).collect()
        };
        let (a, b) = (matrix(m, fields[0]), matrix(n, fields[1]));
        let c = (0..m * n).map(|_| random_accumulator(&mut random)).collect();
        Self { fields, k, n, a, b, c }
    }

    fn run(&self, scales: Option<(&[u8], &[u8])>, setup: Setup, cells: &mut [u32]) {
        let decode = |codes: &[u64], fields: Fields| -> Vec<f64> {
            codes.iter().map(|code| fields.format.decode(*code as u32)).collect()
        };
        let b: Vec<f64> = self.b.iter().flat_map(|codes| decode(codes, self.fields[1])).collect();
        let right = dense::Right::new(&b, self.k, self.fields[1].format);
        for (m, (a, row)) in self.a.iter().zip(cells.chunks_mut(self.n)).enumerate() {
            let left = Left::new(decode(a, self.fields[0]), self.fields[0].format);
            let format = ScaleFormat::UE8M0;
            let scales = scales.map(|(left, right)| Scales { left: left[m], right, format });
            dense::row(&left, &right, scales, 0, row, setup);
        }
    }

    fn cells(&self) -> Vec<u32> {
        self.c.iter().map(|value| value.to_bits()).collect()
    }

    fn dot(&self, m: usize, n: usize) -> i128 {
        let pairs = self.a[m].iter().zip(&self.b[n]);
        pairs.map(|(a, b)| self.fields[0].fixed(*a) * self.fields[1].fixed(*b)).sum()
    }

    fn point(&self) -> u32 {
        self.fields[0].point + self.fields[1].point
    }
}

const F32: Setup = Setup { accumulate: true, shift: 0, output: Output::F32, mode: Mode::Exact };

#[test]
fn dense_kinds_are_exact_and_rounded_once() {
    let cases = [([F16, F16], 16), ([E4M3, E5M2], 32), ([E5M2, E5M2], 32), ([E3M2, E4M3], 32)];
    for (seed, (fields, k)) in (10..).zip(cases) {
        for near in [true, false] {
            let case = Dense::random(fields, k, near, seed);
            let mut cells = case.cells();
            case.run(None, F32, &mut cells);
            for (at, cell) in cells.iter().enumerate() {
                let (m, n) = (at / case.n, at % case.n);
                let sum = (case.dot(m, n) << (60 - case.point())) + accumulator(case.c[at]);
                let name = fields[0].format.name();
                assert_eq!(f32::from_bits(*cell), nearest(sum, 60), "{name} {near} {m} {n}");
            }
        }
    }
}

#[test]
fn half_accumulators() {
    let case = Dense::random([F16, F16], 16, true, 20);
    let mut random = Random(21);
    let before: Vec<u32> = case.c.iter().map(|_| F16.random(&mut random, true) as u32).collect();
    let mut cells = before.clone();
    case.run(None, Setup { output: Output::F16, ..F32 }, &mut cells);
    for (at, cell) in cells.iter().enumerate() {
        let (m, n) = (at / case.n, at % case.n);
        // Units of 2^-48.
        let value = case.dot(m, n) + (F16.fixed(u64::from(before[at])) << 24);
        // The largest code whose value is not above, then the nearer of it and the next.
        let magnitude = value.unsigned_abs();
        let of = |code: u64| (F16.fixed(code) as u128) << 24;
        let low = (0..0x7C00u64).rev().find(|code| of(*code) <= magnitude).unwrap_or(0);
        let (down, up) = (magnitude - of(low), of(low + 1) - magnitude);
        let code = if down > up || down == up && low & 1 == 1 { low + 1 } else { low };
        let sign = if value < 0 { 0x8000 } else { 0 };
        assert_eq!(u64::from(*cell), code | sign, "{m} {n}");
    }
}

#[test]
fn mxf8_scales_whole_sums() {
    for near in [true, false] {
        let case = Dense::random([E4M3, E5M2], 32, near, 30);
        let mut random = Random(31);
        let mut scales = |count: usize| -> Vec<u8> {
            (0..count).map(|_| 117 + random.below(16) as u8).collect()
        };
        let (left, right) = (scales(24), scales(40));
        let mut cells = case.cells();
        case.run(Some((&left, &right)), F32, &mut cells);
        for (at, cell) in cells.iter().enumerate() {
            let (m, n) = (at / case.n, at % case.n);
            let exponent = i32::from(left[m]) + i32::from(right[n]) - 254;
            let sum = case.dot(m, n) << (60 - case.point() as i32 + exponent);
            let expected = nearest(sum + accumulator(case.c[at]), 60);
            assert_eq!(f32::from_bits(*cell), expected, "{near} {m} {n}");
        }
    }
}

#[test]
fn f16_as_mma_sim_has_it() {
    let case = Dense::random([F16, F16], 16, false, 40);
    let mut cells = case.cells();
    let mode = Mode::Aligned { fraction: 25, mantissa: 23 };
    case.run(None, Setup { mode, ..F32 }, &mut cells);
    for (at, cell) in cells.iter().enumerate() {
        let (m, n) = (at / case.n, at % case.n);
        let mut terms = vec![aligned_accumulator(case.c[at], -133)];
        for (a, b) in case.a[m].iter().zip(&case.b[n]) {
            let value = F16.fixed(*a) * F16.fixed(*b);
            let exponent = F16.exponent_of(*a) + F16.exponent_of(*b);
            terms.push((value << 32, if value == 0 { -133 } else { exponent }));
        }
        assert_eq!(f32::from_bits(*cell), aligned(&terms, 25), "{m} {n}");
    }
}

#[test]
fn infinities_and_nan() {
    let mut case = Dense::random([F16, F16], 16, true, 50);
    case.a[0][3] = 0x7C00;
    case.b[0][3] = 0x0000;
    case.b[1][3] = 0x3C00;
    case.b[2][3] = 0xBC00;
    case.a[1][0] = 0x7E00;
    for mode in [Mode::Exact, Mode::Aligned { fraction: 25, mantissa: 23 }] {
        let mut cells = case.cells();
        case.run(None, Setup { mode, ..F32 }, &mut cells);
        assert_eq!(cells[0], 0x7FFF_FFFF, "infinity times zero");
        assert_eq!(f32::from_bits(cells[1]), f32::INFINITY);
        assert_eq!(f32::from_bits(cells[2]), f32::NEG_INFINITY);
        assert!(cells[40..80].iter().all(|cell| *cell == 0x7FFF_FFFF));
        assert!(cells[80..].iter().all(|cell| f32::from_bits(*cell).is_finite()));
    }
}

#[test]
fn bfloat16_over_its_whole_range() {
    // 2^120 - 2^120 + 2^-100: nothing is lost.
    let right = dense::Right::new(&[1.0; 16], 16, Format::BF16);
    let setup = Setup { accumulate: false, ..F32 };
    let mut a = vec![0.0; 16];
    a[0] = 2f64.powi(120);
    a[7] = 2f64.powi(-100);
    a[15] = -a[0];
    let mut cells = [3f32.to_bits()];
    let left = Left::new(a.clone(), Format::BF16);
    dense::row(&left, &right, None, 0, &mut cells, setup);
    assert_eq!(f32::from_bits(cells[0]), 2f32.powi(-100));
    // 2^120 + 2^96 is a tie, which 2^-100 decides.
    a[15] = 2f64.powi(96);
    for (last, expected) in [(1.0, 2f64.powi(120) + 2f64.powi(97)), (-1.0, 2f64.powi(120))] {
        a[7] = last * 2f64.powi(-100);
        let left = Left::new(a.clone(), Format::BF16);
        dense::row(&left, &right, None, 0, &mut cells, setup);
        assert_eq!(f64::from(f32::from_bits(cells[0])), expected);
    }
}

#[test]
fn integers_wrap_or_saturate() {
    let right = dense::Right::new(&[127.0; 32], 32, Format::S8);
    let left = Left::new(vec![127.0; 32], Format::S8);
    // 32 * 127 * 127 = 516128.
    for (saturate, expected) in [(true, i32::MAX), (false, i32::MIN + 516127)] {
        let mut cells = [i32::MAX as u32];
        let setup = Setup { output: Output::S32 { saturate }, ..F32 };
        dense::row(&left, &right, None, 0, &mut cells, setup);
        assert_eq!(cells[0] as i32, expected);
    }
}
