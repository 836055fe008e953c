//! How far off results of a B200 are where its tensor cores truncate, and what ways of adding up would do about it.
//!
//! `cargo run --release -p emulator --example accuracy [-- K...]`
//!
//! An M x N x K dual GEMM of NVFP4, `silu(A·B1)·(A·B2)` in binary16, is computed with the arithmetic of the emulator's
//! `tcgen05.mma` (K = 64 each) as MMA-Sim has it, and compared with sums of integers. Printed are shares of elements that are
//! more than one unit in the last place away: of `A·B1` alone, a GEMM, and of the dual GEMM. `expected` is
//! what a chain of K/64 truncations does to sums of random signs, by the formula in docs/accuracy.md, which has the results.

use std::process::ExitCode;

use emulator::tensor::block_scaled::{self, Right, RightScales, Scratch};
use emulator::tensor::numbers::{Format, ScaleFormat};
use emulator::tensor::rounding::{Mode, Output};
use half::f16;

const M: usize = 64;
const N: usize = 256;
const SEEDS: u64 = 4;
/// K of an instruction, of a block, and of a stage of the kernels.
const INSTRUCTION: usize = 64;
const BLOCK: usize = 16;
const TILE: usize = 256;
const TRUNCATED: Mode = block_scaled::MMA_SIM;

/// How the instructions of an element are added up. Partial sums are added in binary32.
#[derive(Clone, Copy)]
enum Way {
    /// In one accumulator.
    Chain(Mode),
    /// In so many accumulators, which take tiles of K in turn.
    InTurn(usize),
    /// In so many accumulators, each a part of K.
    Parts(usize),
    /// In one accumulator, which is added to a sum in registers after so many tiles of K.
    Promoted(usize),
}

const WAYS: [(&str, Way); 11] = [
    ("one accumulator", Way::Chain(TRUNCATED)),
    ("one, each instruction rounded to nearest", Way::Chain(Mode::Exact)),
    ("2 accumulators, tiles in turn", Way::InTurn(2)),
    ("2 accumulators, halves of K", Way::Parts(2)),
    ("4 accumulators, tiles in turn", Way::InTurn(4)),
    ("4 accumulators, quarters of K", Way::Parts(4)),
    ("promoted every 16 tiles (4096)", Way::Promoted(16)),
    ("promoted every 8 tiles (2048)", Way::Promoted(8)),
    ("promoted every 4 tiles (1024)", Way::Promoted(4)),
    ("promoted every 2 tiles (512)", Way::Promoted(2)),
    ("promoted every tile (256)", Way::Promoted(1)),
];

impl Way {
    /// Which partial sum an instruction, of `count`, is added to.
    fn place(self, instruction: usize, count: usize) -> usize {
        let per_tile = TILE / INSTRUCTION;
        let tile = instruction / per_tile;
        match self {
            Way::Chain(_) => 0,
            Way::InTurn(of) => tile % of,
            Way::Parts(of) => tile / count.div_ceil(per_tile).div_ceil(of),
            Way::Promoted(tiles) => tile / tiles,
        }
    }

    fn mode(self) -> Mode {
        if let Way::Chain(mode) = self { mode } else { TRUNCATED }
    }
}

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

    /// Nearly normal: twelve uniform numbers less 6.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| (self.next() >> 11) as f64 * 2f64.powi(-53)).sum::<f64>() - 6.0
    }
}

#[derive(Clone, Copy)]
enum Data {
    /// All codes, all scale bytes.
    Full,
    /// Codes of up to 1.5, scale factors below 1.
    Contest,
    /// Normally distributed numbers, quantized block by block.
    Normal,
}

/// Rows of codes and scale factors.
struct Matrix {
    /// `[row][instruction]`
    codes: Vec<Vec<[u8; 32]>>,
    scales: Vec<Vec<[u8; 4]>>,
}

/// The code of the scale factor, of 0 to 126, that is nearest.
fn nearest_scale(value: f64) -> u8 {
    let distance = |code: &u8| (ScaleFormat::UE4M3.decode(*code) - value).abs();
    (0..127).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
}

fn nearest_code(value: f64) -> u8 {
    let distance = |code: &u8| (Format::E2M1.decode(u32::from(*code)) - value).abs();
    (0..16).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
}

/// Sixteen codes and their scale factor.
fn block(data: Data, random: &mut Random) -> ([u8; BLOCK], u8) {
    let bits = random.next();
    let mut codes = std::array::from_fn(|i| (bits >> (4 * i)) as u8 & 15);
    match data {
        Data::Full => (codes, (random.next() % 127) as u8),
        Data::Contest => {
            codes = codes.map(|code| code & 0b1011);
            (codes, nearest_scale((random.next() >> 11) as f64 * 2f64.powi(-53)))
        }
        Data::Normal => {
            let values: [f64; BLOCK] = std::array::from_fn(|_| random.normal());
            let largest = values.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
            // A global scale that puts the usual factor in the middle of the format.
            let scale = nearest_scale(largest / 6.0 * 64.0);
            let step = ScaleFormat::UE4M3.decode(scale) / 64.0;
            (values.map(|value| nearest_code(value / step)), scale)
        }
    }
}

impl Matrix {
    fn random(rows: usize, k: usize, data: Data, random: &mut Random) -> Self {
        let (mut codes, mut scales) = (Vec::new(), Vec::new());
        for _ in 0..rows {
            let mut row = (Vec::new(), Vec::new());
            for _ in 0..k / INSTRUCTION {
                let (mut slice, mut factors) = ([0; 32], [0; 4]);
                for (part, factor) in slice.chunks_exact_mut(8).zip(&mut factors) {
                    let (codes, scale) = block(data, random);
                    for (byte, pair) in part.iter_mut().zip(codes.chunks_exact(2)) {
                        *byte = pair[0] | pair[1] << 4;
                    }
                    *factor = scale;
                }
                row.0.push(slice);
                row.1.push(factors);
            }
            codes.push(row.0);
            scales.push(row.1);
        }
        Self { codes, scales }
    }

    /// Twice the elements times 2^9 the scale factors.
    fn integers(&self, row: usize) -> Vec<i64> {
        let mut integers = Vec::new();
        for (slice, factors) in self.codes[row].iter().zip(&self.scales[row]) {
            for (part, factor) in block_scaled::decode(slice).chunks_exact(BLOCK).zip(factors) {
                let factor = (ScaleFormat::UE4M3.decode(*factor) * 512.0) as i64;
                integers.extend(part.iter().map(|value| i64::from(*value) * factor));
            }
        }
        integers
    }
}

/// M x N sums, exact, in units of 2^-20. They are below 2^53 where it matters.
fn exact(a: &Matrix, b: &Matrix) -> Vec<f64> {
    let columns: Vec<_> = (0..N).map(|n| b.integers(n)).collect();
    let mut sums = Vec::with_capacity(M * N);
    for m in 0..M {
        let row = a.integers(m);
        for column in &columns {
            let sum: i64 = row.iter().zip(column).map(|(a, b)| a * b).sum();
            sums.push(sum as f64 * 2f64.powi(-20));
        }
    }
    sums
}

/// M x N sums as a kernel makes them.
fn computed(a: &Matrix, b: &Matrix, way: Way) -> Vec<f32> {
    let count = a.codes[0].len();
    let mut sums = vec![0f32; M * N];
    let parts = (0..count).map(|i| way.place(i, count)).max().unwrap_or(0) + 1;
    let mut cells = vec![vec![0u32; M * N]; parts];
    let mut begun = vec![false; parts];
    let mut scratch = Scratch::default();
    for i in 0..count {
        let slices: Vec<_> = b.codes.iter().map(|row| row[i]).collect();
        let factors = b.scales.iter().map(|row| row[i]).collect();
        let right = Right::new(&slices);
        let right_scales = RightScales::new(factors, 4, ScaleFormat::UE4M3);
        let part = way.place(i, count);
        for (m, into) in cells[part].chunks_exact_mut(N).enumerate() {
            let left = block_scaled::decode(&a.codes[m][i]);
            let with = (&right, &right_scales);
            let factors = a.scales[m][i];
            block_scaled::row(&left, factors, with, 0, into, begun[part], way.mode(), &mut scratch);
        }
        begun[part] = true;
    }
    for part in cells {
        for (sum, cell) in sums.iter_mut().zip(part) {
            *sum += Output::F32.decode(cell) as f32;
        }
    }
    sums
}

fn deviation(values: &[f64]) -> f64 {
    (values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64).sqrt()
}

/// More than one unit in the last place of binary16 apart.
fn far(actual: f16, exact: f16) -> bool {
    let ordinal = |value: f16| {
        let magnitude = i32::from(value.to_bits() & 0x7FFF);
        if value.is_sign_negative() { -magnitude } else { magnitude }
    };
    ordinal(actual).abs_diff(ordinal(exact)) > 1
}

/// Elements that are far off, of a GEMM and of the dual GEMM.
fn count(sums: [&[f32]; 2], exact: [&[f64]; 2], alphas: [f32; 2]) -> [usize; 2] {
    let mut far_off = [0; 2];
    for i in 0..M * N {
        let x = [0, 1].map(|side| exact[side][i] * f64::from(alphas[side]));
        let y = [0, 1].map(|side| sums[side][i] * alphas[side]);
        far_off[0] += usize::from(far(f16::from_f32(y[0]), f16::from_f64(x[0])));
        let silu = x[0] / (1.0 + (-x[0]).exp());
        let silu32 = y[0] / (1.0 + (-y[0]).exp());
        far_off[1] += usize::from(far(f16::from_f32(silu32 * y[1]), f16::from_f64(silu * x[1])));
    }
    far_off
}

fn main() -> ExitCode {
    let mut depths = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.parse::<usize>() {
            Ok(k) if k > 0 && k % INSTRUCTION == 0 => depths.push(k),
            _ => {
                eprintln!("{argument} is no K: a multiple of {INSTRUCTION}");
                return ExitCode::FAILURE;
            }
        }
    }
    if depths.is_empty() {
        depths = vec![1024, 2048, 4096, 7168, 14336, 28672];
    }
    let samples = (M * N) as u64 * SEEDS;
    println!("shares of {samples} elements beyond 1 ULP of binary16, in %: GEMM, dual GEMM");
    for (name, data) in [
        ("all codes and scale bytes", Data::Full),
        ("contest", Data::Contest),
        ("normal", Data::Normal),
    ] {
        // What nothing has to be done about is not computed in every way.
        let ways = if matches!(data, Data::Full) { WAYS.as_slice() } else { &WAYS[..2] };
        for &k in &depths {
            let expected = 2f64.powi(-13) / (48f64.sqrt() * 2f64.ln() * std::f64::consts::PI)
                * (k as f64 / INSTRUCTION as f64);
            println!("\n{name}, K = {k}: expected {:.3} {:.3}", 100.0 * expected, 200.0 * expected);
            let mut totals = [[0; 2]; WAYS.len()];
            for seed in 0..SEEDS {
                let mut random = Random(seed << 32 | k as u64);
                let a = Matrix::random(M, k, data, &mut random);
                let weights = [(); 2].map(|()| Matrix::random(N, k, data, &mut random));
                let exact = [exact(&a, &weights[0]), exact(&a, &weights[1])];
                // Standard deviations of 3 and 2.
                let alphas = [3.0 / deviation(&exact[0]), 2.0 / deviation(&exact[1])];
                for (total, (_, way)) in totals.iter_mut().zip(ways) {
                    let sums = [0, 1].map(|side| computed(&a, &weights[side], *way));
                    let alphas = alphas.map(|alpha| alpha as f32);
                    let far_off = count([&sums[0], &sums[1]], [&exact[0], &exact[1]], alphas);
                    total[0] += far_off[0];
                    total[1] += far_off[1];
                }
            }
            for ([one, dual], (name, _)) in totals.into_iter().zip(ways) {
                let share = |count: usize| 100.0 * count as f64 / samples as f64;
                println!("  {name:42} {:6.3} {:6.3}", share(one), share(dual));
            }
        }
    }
    ExitCode::SUCCESS
}
