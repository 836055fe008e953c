//! The bound by K of hardware that truncates its sums (`oracle::Bound`): it holds for such sums, of which 0.1 % does not, and
//! real errors are beyond it. Sums here are integers of which 24 bits are kept after every 64 products.

use std::sync::LazyLock;

use nvfp4_dual_gemm::format::BLOCK;
use nvfp4_dual_gemm::oracle::{self, Bound, Comparison};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{GemmShape, Nvfp4Matrix, f16};

const M: usize = 128;
const N: usize = 64;
const K: usize = 7168;
/// A k-tile of the kernels.
const TILE: usize = 256;

/// What a chain of instructions does.
#[derive(Clone, Copy)]
struct Chain {
    /// Products that are added before what does not fit is dropped.
    products: usize,
    /// Bits that are kept.
    bits: u32,
}

const B200: Chain = Chain { products: 64, bits: 24 };

/// Twice the code times 2^9 the scale factor, row-major.
fn integers(matrix: &Nvfp4Matrix) -> Vec<i64> {
    const TWICE: [i64; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];
    let scale = |byte: u8| {
        let (exponent, mantissa) = (i64::from(byte >> 3), i64::from(byte & 7));
        if exponent == 0 { mantissa } else { (8 + mantissa) << (exponent - 1) }
    };
    let blocks = matrix.codes().chunks(BLOCK / 2).zip(matrix.scales());
    let elements = blocks.flat_map(|(codes, &byte)| {
        let codes = codes.iter().flat_map(|pair| [pair & 15, pair >> 4]);
        codes.map(move |code| TWICE[usize::from(code)] * scale(byte))
    });
    elements.collect()
}

fn sum(row: &[i64], column: &[i64], chain: Chain) -> i64 {
    let mut sum = 0i64;
    for (row, column) in row.chunks(chain.products).zip(column.chunks(chain.products)) {
        sum += row.iter().zip(column).map(|(x, y)| x * y).sum::<i64>();
        let magnitude = sum.unsigned_abs();
        let below = (u64::BITS - magnitude.leading_zeros()).saturating_sub(chain.bits);
        sum = sum.signum() * (magnitude >> below << below) as i64;
    }
    sum
}

/// Inputs of the gate and of the product, without the rest that an epilogue does.
fn inputs(operands: &Operands, chain: Chain) -> Vec<[f64; 2]> {
    let Operands { a, b1, b2 } = operands;
    let (tokens, weights) = (integers(a), [b1, b2].map(integers));
    let k = a.cols();
    let alphas = [b1, b2].map(|weights| {
        f64::from(a.global_scale()) * f64::from(weights.global_scale()) * 2f64.powi(-20)
    });
    let element = |m: usize, n: usize| {
        let one = |side: usize| {
            let sum = sum(&tokens[m * k..][..k], &weights[side][n * k..][..k], chain);
            sum as f64 * alphas[side]
        };
        [one(0), one(1)]
    };
    (0..M * N).map(|i| element(i / N, i % N)).collect()
}

fn gated(inputs: &[[f64; 2]]) -> Vec<f16> {
    inputs.iter().map(|[x1, x2]| f16::from_f64(x1 / (1.0 + (-x1).exp()) * x2)).collect()
}

fn operands(k: usize) -> Operands {
    Operands::generate(GemmShape { m: M, n: N, k, batch: 1 }, Data::Full, 20).unwrap()
}

/// Operands of K, and what is exactly made of them.
static GIVEN: LazyLock<(Operands, Vec<f16>)> = LazyLock::new(|| {
    let operands = operands(K);
    let exact = oracle::exact::<f16>(&operands.gemm().unwrap()).unwrap();
    (operands, exact)
});

/// Held to the bound of a B200.
fn compared(c: &[f16]) -> Comparison {
    oracle::compare(c, &GIVEN.1).within(Bound::on((10, 0), K, 2))
}

#[test]
fn sums_of_a_b200_are_within_the_bound() {
    let right = compared(&gated(&inputs(&GIVEN.0, B200)));
    assert!(right.passes() && right.beyond_one_ulp > 10, "{right:?}");

    let operands = operands(2 * K);
    let exact = oracle::exact::<f16>(&operands.gemm().unwrap()).unwrap();
    let right = oracle::compare(&gated(&inputs(&operands, B200)), &exact);
    assert!(right.within(Bound::on((10, 0), 2 * K, 2)).passes(), "{right:?}");
    assert!(!right.passes(), "0.1 % would do: {right:?}");
}

/// A change of one operand: its codes, row-major, and its scale bytes.
type Change = fn(&mut [u8], &mut [u8]);

fn changed(matrix: &Nvfp4Matrix, change: Change) -> Nvfp4Matrix {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let (mut codes, mut scales, global) = matrix.clone().into_parts();
    change(&mut codes, &mut scales);
    Nvfp4Matrix::new(1, rows, cols, codes, scales, global).unwrap()
}

/// One block of the first row, of those that matter most, at half its value.
fn half_a_scale(_: &mut [u8], scales: &mut [u8]) {
    let largest = (0..K / BLOCK).max_by_key(|&block| scales[block]).unwrap();
    scales[largest] -= 8;
}

/// The byte before it.
fn a_scale_before(_: &mut [u8], scales: &mut [u8]) {
    let largest = (0..K / BLOCK).max_by_key(|&block| scales[block]).unwrap();
    scales[largest] -= 1;
}

fn no_tile_5(codes: &mut [u8], _: &mut [u8]) {
    codes.chunks_mut(K / 2).for_each(|row| row[5 * TILE / 2..6 * TILE / 2].fill(0));
}

#[test]
fn wrong_operands_are_beyond_it() {
    let changes: [(&str, Change); 3] = [
        ("a k-tile that is left out", no_tile_5),
        ("a wrong scale byte of a block", half_a_scale),
        ("one that is the byte before", a_scale_before),
    ];
    for (name, change) in changes {
        for which in ["A", "B1"] {
            let mut operands = GIVEN.0.clone();
            let matrix = if which == "A" { &mut operands.a } else { &mut operands.b1 };
            *matrix = changed(matrix, change);
            let wrong = compared(&gated(&inputs(&operands, B200)));
            assert!(!wrong.passes(), "{name}, {which}: {wrong:?}");
        }
    }
}

#[test]
fn wrong_arithmetic_is_beyond_it() {
    for (name, chain) in [
        ("truncated four times as often", Chain { products: 16, ..B200 }),
        ("two bits less", Chain { bits: 22, ..B200 }),
    ] {
        let wrong = compared(&gated(&inputs(&GIVEN.0, chain)));
        assert!(!wrong.passes(), "{name}: {wrong:?}");
    }
    let right = inputs(&GIVEN.0, B200);
    let half = |x: f64| f16::from_f64(x).to_f64();
    let truncated = |x: f64| f64::from_bits(x.to_bits() >> 41 << 41);
    let changes = [
        ("alpha1 is off by a thousandth", map(&right, |[x1, x2]| [x1 * 1.001, x2])),
        ("alpha2 is off by a thousandth", map(&right, |[x1, x2]| [x1, x2 * 1.001])),
        ("the input of the gate is rounded to f16", map(&right, |[x1, x2]| [half(x1), x2])),
        ("both inputs are truncated to 12 bits", map(&right, |pair| pair.map(truncated))),
    ];
    for (name, inputs) in changes {
        let wrong = compared(&gated(&inputs));
        assert!(!wrong.passes(), "{name}: {wrong:?}");
    }
}

fn map(inputs: &[[f64; 2]], change: impl Fn([f64; 2]) -> [f64; 2]) -> Vec<[f64; 2]> {
    inputs.iter().map(|&pair| change(pair)).collect()
}
