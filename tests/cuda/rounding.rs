//! Long sums on Hopper, whose tensor cores truncate: each kernel at the K where a plain sum of theirs would be too far
//! off. The emulator rounds as measured on an H100 (`EMULATOR_ROUNDING=mma-sim`).

use nvfp4_dual_gemm::cuda::{
    DeviceBuffer, DeviceMatrix, Kernel, Options, Stream, WeightFormat, Weights,
};
use nvfp4_dual_gemm::format::BLOCK;
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{Nvfp4Matrix, oracle};

use crate::bound::bound;
use crate::harness::{Arch, Needs, Test, device, nvfp4_kernels};
use crate::problem;

const K: usize = 7168;
/// K of one instruction, and of a group, which one warpgroup multiplies before the next has its turn.
const INSTRUCTION: usize = 16;
const GROUP: usize = 64;
/// K that a block takes where it keeps its tokens, those of up to eight rows.
const RESIDENT_K: usize = 4096;
/// Bits of an accumulator's significand.
const SIGNIFICAND: u32 = 24;

pub fn all() -> Vec<Test> {
    let hopper = |kernel: &Kernel| kernel.info().compute_capability == (9, 0);
    let test = |kernel: Kernel| {
        let name = format!("long_sums_lose_less_than_the_tensor_cores_drop::{kernel}");
        // A device that has room for no more: blocks that share K add up sums of their own, which are shorter.
        let blocks = if kernel.info().tile.0 > 8 { 1 } else { K.div_ceil(RESIDENT_K) };
        Test::new(name, Needs::Emulator, move || long_sums(kernel, blocks))
            .on(Arch::H100)
            .with("EMULATOR_ROUNDING", "mma-sim")
            .with("EMULATOR_SMS", blocks.to_string())
    };
    nvfp4_kernels().filter(hopper).map(test).collect()
}

fn long_sums(kernel: Kernel, blocks: usize) {
    let device = device();
    let stream = Stream::new(&device).unwrap();
    let info = kernel.info();
    let (tile_m, tile_n) = (info.tile.0 as usize, info.tile.1 as usize);
    // As many rows as a tile has anyway; fewer elements than these would be no sample.
    let (m, n) = (tile_m.max(128), 64);
    let operands = Operands::generate(problem(m, n, K, 1), Data::Full, 20).unwrap();
    let a = DeviceMatrix::upload(&operands.a, &stream).unwrap();
    let weights =
        Weights::prepare(&operands.b1, &operands.b2, WeightFormat::Separate, &stream).unwrap();
    let c = DeviceBuffer::<f32>::from_host(&vec![f32::NAN; m * n], &stream).unwrap();
    let options = Options::default().kernel(kernel);
    let plan = bound(&weights, &a, &c, &options).unwrap();
    assert_eq!(
        plan.launch_shape().cluster,
        [blocks as u32, 1, 1],
        "K is shared by other than {blocks} blocks"
    );
    plan.launch(&stream).unwrap();
    let actual = c.to_vec(&stream).unwrap();

    let exact = oracle::exact::<f32>(&operands.gemm().unwrap()).unwrap();
    let comparison = oracle::compare(&actual, &exact);
    assert!(comparison.passes(), "{comparison:?}");

    // The same sums without what the kernel does about it: too far off, so that this test would notice.
    let warpgroups = info.threads as usize / 128 - 1;
    let accumulators = blocks * (warpgroups * 32 / tile_n);
    let plain = Truncated::new(&operands, accumulators).c();
    let (error, plain_error) =
        (root_mean_square(&actual, &exact), root_mean_square(&plain, &exact));
    assert!(
        error < 0.7 * plain_error,
        "off by {error:e}, plain sums of {} products by {plain_error:e}",
        K / accumulators
    );
    let plain_comparison = oracle::compare(&plain, &exact);
    // Four sums of a quarter are at the bound, now above and now below.
    if accumulators < 4 {
        assert!(!plain_comparison.passes(), "no problem for plain sums: {plain_comparison:?}");
    }
}

fn root_mean_square(actual: &[f32], exact: &[f32]) -> f64 {
    let squares = actual.iter().zip(exact).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2));
    (squares.sum::<f64>() / exact.len() as f64).sqrt()
}

/// What tensor cores make of the operands that add 16 products at a time to an accumulator and drop what is below its
/// 24 bits (MMA-Sim, arXiv 2511.10909, has a little more of it: products are truncated, too). In integers.
struct Truncated {
    /// Gate and up, M x N each.
    sums: [Vec<f64>; 2],
    alphas: [f64; 2],
}

impl Truncated {
    /// `accumulators` take groups of K in turn and are added up without loss.
    fn new(operands: &Operands, accumulators: usize) -> Self {
        let Operands { a, b1, b2 } = operands;
        let tokens = integers(a);
        let product = |weights: &Nvfp4Matrix| {
            let weights = integers(weights);
            let dot = |row: &[i64], column: &[i64]| -> f64 {
                let mut sums = vec![0i64; accumulators];
                let instructions = row.chunks(INSTRUCTION).zip(column.chunks(INSTRUCTION));
                for (i, (row, column)) in instructions.enumerate() {
                    let sum = &mut sums[i / (GROUP / INSTRUCTION) % accumulators];
                    *sum += row.iter().zip(column).map(|(x, y)| x * y).sum::<i64>();
                    let magnitude = sum.unsigned_abs();
                    let below = (u64::BITS - magnitude.leading_zeros()).saturating_sub(SIGNIFICAND);
                    *sum = sum.signum() * (magnitude >> below << below) as i64;
                }
                // Of integers below 2^53.
                sums.iter().map(|&sum| sum as f64).sum()
            };
            let rows = tokens.chunks(K);
            rows.flat_map(|row| weights.chunks(K).map(move |column| dot(row, column))).collect()
        };
        // Codes are counted in halves, scale factors in 2^-9, of both factors.
        let alpha = |weights: &Nvfp4Matrix| {
            f64::from(a.global_scale()) * f64::from(weights.global_scale()) * 2f64.powi(-20)
        };
        Truncated { sums: [product(b1), product(b2)], alphas: [alpha(b1), alpha(b2)] }
    }

    fn c(&self) -> Vec<f32> {
        let [gate, up] = &self.sums;
        let silu = |x: f64| x / (1.0 + (-x).exp());
        let element = |(x1, x2): (&f64, &f64)| silu(x1 * self.alphas[0]) * (x2 * self.alphas[1]);
        gate.iter().zip(up).map(|pair| element(pair) as f32).collect()
    }
}

/// Twice the code times 2^9 the scale factor, row-major.
fn integers(matrix: &Nvfp4Matrix) -> Vec<i64> {
    const TWICE: [i64; 8] = [0, 1, 2, 3, 4, 6, 8, 12];
    let code =
        |code: u8| if code & 8 == 0 { TWICE[code as usize] } else { -TWICE[code as usize & 7] };
    let scale = |byte: u8| {
        let (exponent, mantissa) = (i64::from(byte >> 3), i64::from(byte & 7));
        if exponent == 0 { mantissa } else { (8 + mantissa) << (exponent - 1) }
    };
    let blocks = matrix.codes().chunks(BLOCK / 2).zip(matrix.scales());
    blocks
        .flat_map(|(codes, &factor)| {
            let codes = codes.iter().flat_map(|byte| [byte & 15, byte >> 4]);
            codes.map(move |nibble| code(nibble) * scale(factor))
        })
        .collect()
}
