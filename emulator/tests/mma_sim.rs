//! The rules of MMA-Sim (arXiv 2511.10909; version 2.1.1) one at a time, each on numbers that are worked out by hand so that
//! breaking the rule gives another result.

use emulator::tensor::block_scaled::{self, Right, RightScales, Scratch};
use emulator::tensor::dense::{self, Left, Setup};
use emulator::tensor::numbers::{Format, ScaleFormat};
use emulator::tensor::rounding::Output;

/// Codes of E2M1.
const HALF: u8 = 1;
const ONE: u8 = 2;
const FOUR: u8 = 6;
const SIX: u8 = 7;
const MINUS: u8 = 8;

/// One element of D with K = 64: 16 products to each of four groups, and their scale factors.
struct Fp4 {
    a: [u8; 64],
    b: [u8; 64],
    scales: [(u8, u8); 4],
    format: ScaleFormat,
}

/// UE4M3 of a power of two from 2^-9 to 2^8.
fn ue4m3(exponent: i32) -> u8 {
    if exponent < -6 { 1 << (exponent + 9) } else { ((exponent + 7) as u8) << 3 }
}

/// UE8M0 of a power of two.
fn ue8m0(exponent: i32) -> u8 {
    (exponent + 127) as u8
}

impl Fp4 {
    /// Nothing but zeros, scaled by 1.
    fn new(format: ScaleFormat) -> Self {
        let one = match format {
            ScaleFormat::UE4M3 => ue4m3(0),
            ScaleFormat::UE8M0 => ue8m0(0),
        };
        Self { a: [0; 64], b: [0; 64], scales: [(one, one); 4], format }
    }

    /// The first products of a group, and the exponents of its scale factors.
    fn group(mut self, group: usize, products: &[(u8, u8)], exponents: (i32, i32)) -> Self {
        for (k, (a, b)) in products.iter().enumerate() {
            (self.a[16 * group + k], self.b[16 * group + k]) = (*a, *b);
        }
        let code = |exponent| match self.format {
            ScaleFormat::UE4M3 => ue4m3(exponent),
            ScaleFormat::UE8M0 => ue8m0(exponent),
        };
        self.scales[group] = (code(exponents.0), code(exponents.1));
        self
    }

    fn run(&self, accumulator: f32) -> u32 {
        let packed =
            |codes: &[u8; 64]| std::array::from_fn(|i| codes[2 * i] | codes[2 * i + 1] << 4);
        let right = Right::new(&[packed(&self.b)]);
        let right_scales = RightScales::new(vec![self.scales.map(|pair| pair.1)], 4, self.format);
        let left = block_scaled::decode(&packed(&self.a));
        let mut cell = [accumulator.to_bits()];
        block_scaled::row(
            &left,
            self.scales.map(|pair| pair.0),
            (&right, &right_scales),
            0,
            &mut cell,
            true,
            block_scaled::MMA_SIM,
            &mut Scratch::default(),
        );
        cell[0]
    }
}

fn check(case: &Fp4, accumulator: f32, expected: f32) {
    let result = case.run(accumulator);
    assert_eq!(result, expected.to_bits(), "{} where {expected} belongs", f32::from_bits(result));
}

fn power(exponent: i32) -> f32 {
    2f64.powi(exponent) as f32
}

#[test]
fn the_accumulator_is_truncated_toward_zero_once_an_instruction() {
    let nvfp4 = || Fp4::new(ScaleFormat::UE4M3);
    // 1/4 * 2^-9 * 2^-9 = 2^-20; 1 * 2^-9 * 2^-9 = 2^-18. The last place of 8 is 2^-20, that of 16 is 2^-19.
    let least = &[(HALF, HALF)];
    let less = &[(HALF | MINUS, HALF)];
    check(&nvfp4().group(0, least, (-9, -9)), 8.0, 8.0 + power(-20));
    check(&nvfp4().group(0, least, (-9, -9)), 16.0, 16.0);
    // Toward zero, not down: 16 - 2^-20 is a number, and 32 - 2^-20 lies between two.
    check(&nvfp4().group(0, less, (-9, -9)), 16.0, 16.0 - power(-20));
    check(&nvfp4().group(0, less, (-9, -9)), 32.0, 32.0 - power(-19));
    check(&nvfp4().group(0, least, (-9, -9)), -32.0, -32.0 + power(-19));
    // Not to nearest: three quarters of the last place of 32 are dropped.
    let three = &[(HALF, HALF), (HALF, HALF), (HALF, HALF)];
    check(&nvfp4().group(0, three, (-9, -9)), 32.0, 32.0);
    // Groups are added before that: four times a quarter of the last place are one.
    let four = (0..4).fold(nvfp4(), |case, group| case.group(group, least, (-9, -9)));
    check(&four, 32.0, 32.0 + power(-18));
}

#[test]
fn products_of_a_group_are_added_before_they_are_scaled() {
    // 6 * 6 - 6 * 6 + 1/4, all times 2^16.
    let products = &[(SIX, SIX), (SIX | MINUS, SIX), (HALF, HALF)];
    let case = Fp4::new(ScaleFormat::UE4M3).group(3, products, (8, 8));
    check(&case, 0.0, power(14));
    // 16 times 36 at 2^16.
    let case = Fp4::new(ScaleFormat::UE4M3).group(1, &[(SIX, SIX); 16], (8, 8));
    check(&case, 0.0, 9.0 * power(22));
}

#[test]
fn terms_keep_35_bits_below_the_largest_exponent_of_scales() {
    // Exponents add up to 16, whatever the products are: multiples of 2^-19 stay.
    let nvfp4 = || Fp4::new(ScaleFormat::UE4M3);
    let cancel = &[(ONE, ONE), (ONE | MINUS, ONE)];
    let with = |exponents| nvfp4().group(0, cancel, (8, 8)).group(1, &[(HALF, HALF)], exponents);
    check(&with((-9, -8)), 0.0, power(-19));
    check(&with((-9, -9)), 0.0, 0.0);
    // A product of 16 does not raise the exponent of its group: 16 * 2^15 - 16 * 2^15 has 15.
    let large = |sign| [(FOUR | sign, FOUR)];
    let case = nvfp4().group(0, &large(0), (8, 7)).group(1, &large(MINUS), (7, 8));
    check(&case.group(2, &[(HALF, HALF)], (-9, -9)), 0.0, power(-20));
    // The accumulator's exponent counts as well: 2^24 - 2^24 keeps 2^-11.
    let all = &[(SIX | MINUS, SIX); 7];
    let of_256 = [all.as_slice(), &[(ONE | MINUS, FOUR)]].concat();
    let with = |exponents| {
        nvfp4().group(0, &of_256, (8, 8)).group(1, &[(HALF, HALF)], exponents).run(power(24))
    };
    assert_eq!(f32::from_bits(with((-5, -4))), power(-11));
    assert_eq!(with((-5, -5)), 0);
    // It is truncated like the others, from 2^-23 on to 2^-19.
    check(&nvfp4().group(0, cancel, (8, 8)), 1.0 + power(-19) + power(-20), 1.0 + power(-19));
    check(&nvfp4().group(0, cancel, (6, 6)), 1.0 + power(-23), 1.0 + power(-23));
}

#[test]
fn groups_of_zeros_have_no_exponent_of_their_scales() {
    let least = &[(HALF, HALF)];
    let nvfp4 = |first: &[(u8, u8)]| {
        Fp4::new(ScaleFormat::UE4M3).group(0, first, (8, 8)).group(1, least, (-9, -9))
    };
    // One factor of each product is zero, or both are.
    check(&nvfp4(&[]), 0.0, power(-20));
    check(&nvfp4(&[(SIX, 0), (0, SIX), (MINUS, ONE)]), 0.0, power(-20));
    // Products that cancel are none.
    check(&nvfp4(&[(ONE, ONE), (ONE, ONE | MINUS)]), 0.0, 0.0);
    // A scale factor of zero makes a zero of its group.
    let mut case = nvfp4(&[(ONE, ONE)]);
    case.scales[0].1 = 0;
    check(&case, 0.0, power(-20));
}

#[test]
fn zeros_are_aligned_by_2_to_the_minus_139() {
    // 2^-149, the least of binary32, and a little less than that, which a multiple of 2^-174 can be.
    let mx = |less: (i32, i32)| {
        let case = Fp4::new(ScaleFormat::UE8M0).group(0, &[(ONE, ONE)], (-100, -49));
        case.group(1, &[(ONE | MINUS, ONE)], less)
    };
    check(&mx((-100, -74)), 0.0, 0.0);
    check(&mx((-100, -75)), 0.0, power(-149));
}

#[test]
fn what_is_dropped_wholly_is_a_positive_zero() {
    let case = Fp4::new(ScaleFormat::UE8M0).group(0, &[(ONE | MINUS, ONE)], (-100, -50));
    check(&case, 0.0, 0.0);
    check(&case, -0.0, 0.0);
}

/// One element of D of `kind::f16`: K = 16.
fn dense(format: Format, products: &[(f64, f64)], accumulator: u32, output: Output) -> u32 {
    let (mut a, mut b) = (vec![0.0; 16], vec![0.0; 16]);
    for (k, product) in products.iter().enumerate() {
        (a[k], b[k]) = *product;
    }
    let setup = Setup { accumulate: true, shift: 0, output, mode: dense::MMA_SIM };
    let mut cell = [accumulator];
    let right = dense::Right::new(&b, 16, format);
    dense::row(&Left::new(a, format), &right, None, 0, &mut cell, setup);
    cell[0]
}

#[test]
fn dense_terms_keep_25_bits_below_the_largest_product() {
    let two = |exponent: i32| 2f64.powi(exponent);
    let bf16 = |products: &[_], accumulator: f32| {
        f32::from_bits(dense(Format::BF16, products, accumulator.to_bits(), Output::F32))
    };
    let cancel = [(two(40), 1.0), (two(40), -1.0)];
    let with = |exponent| bf16(&[cancel[0], cancel[1], (two(exponent), 1.0)], 0.0);
    assert_eq!((with(15), with(14)), (power(15), 0.0));
    // A product of two significands of 1.5 has exponent 80 and not 81.
    let product = (1.5 * two(40), 1.5 * two(40));
    let negative = (-product.0, product.1);
    assert_eq!(bf16(&[product, negative, (two(55), 1.0)], 0.0), power(55));
    assert_eq!(bf16(&[product, negative, (two(54), 1.0)], 0.0), 0.0);
    // Toward zero.
    assert_eq!(bf16(&[(-two(-25), 1.0)], 1.0), 1.0 - power(-24));
    assert_eq!(bf16(&[(two(-24), 1.5)], 1.0), 1.0);
}

#[test]
fn dense_zeros_are_aligned_by_2_to_the_minus_133_and_in_binary16_by_2_to_the_minus_21() {
    let two = |exponent: i32| 2f64.powi(exponent);
    let bf16 = |products: &[_]| f32::from_bits(dense(Format::BF16, products, 0, Output::F32));
    // A zero times something large is like any other zero.
    assert_eq!(bf16(&[(0.0, two(120)), (two(-30), two(-30))]), power(-60));
    // 2^-149 less 2^-158, or less what is no multiple of that.
    let with = |exponent| bf16(&[(two(-100), two(-49)), (-two(-100), two(exponent + 100))]);
    assert_eq!((with(-158), with(-159)), (0.0, power(-149)));
    // Half of 2^-24, the least of binary16, goes to 0 unless there is more of it.
    let f16 = |products: &[_]| dense(Format::F16, products, 0, Output::F16);
    let with = |exponent: i32| f16(&[(two(-12), two(-13)), (two(-23), two(exponent + 23))]);
    assert_eq!((with(-46), with(-47)), (1, 0));
}
