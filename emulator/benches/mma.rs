//! Milliseconds of the arithmetic of one MMA instruction, on one thread: best and median of many runs.
//!
//! `cargo bench -p emulator --bench mma`

use std::hint::black_box;
use std::time::Instant;

use emulator::tensor::block_scaled::{self, RightScales, Scratch};
use emulator::tensor::dense::{self, Left, Setup};
use emulator::tensor::numbers::{Format, ScaleFormat};
use emulator::tensor::rounding::{Mode, Output};

const M: usize = 128;

fn random(state: &mut u64) -> u8 {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 56) as u8
}

fn slices(count: usize, seed: u64) -> Vec<[u8; 32]> {
    let mut state = seed;
    (0..count).map(|_| std::array::from_fn(|_| random(&mut state))).collect()
}

fn measure(name: &str, runs: usize, mut run: impl FnMut()) {
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{name}: best {:.3} ms, median {:.3} ms", times[0], times[runs / 2]);
}

fn fp4(n: usize, mode: Mode, runs: usize) {
    let (a, b) = (slices(M, 1), slices(n, 2));
    let mut state = 3;
    let mut scale = || std::array::from_fn(|_| 0x28 + random(&mut state) % 32);
    let left: Vec<[u8; 4]> = (0..M).map(|_| scale()).collect();
    let right: Vec<[u8; 4]> = (0..n).map(|_| scale()).collect();
    let mut cells = vec![0u32; M * n];
    let mut scratch = Scratch::default();
    measure(&format!("mxf4nvf4 {M}x{n}x64 {mode:?}"), runs, || {
        let decoded = block_scaled::Right::new(black_box(&b));
        let scales = RightScales::new(right.clone(), 4, ScaleFormat::UE4M3);
        for ((row, codes), cells) in a.iter().zip(&left).zip(cells.chunks_exact_mut(n)) {
            let row = block_scaled::decode(row);
            block_scaled::row(
                &row,
                *codes,
                (&decoded, &scales),
                0,
                cells,
                true,
                mode,
                &mut scratch,
            );
        }
        black_box(&cells);
    });
}

fn halves(n: usize, mode: Mode, runs: usize) {
    let mut state = 1;
    // Normal numbers between 2^-8 and 2^8.
    let mut element = || {
        let (low, high) = (random(&mut state), random(&mut state));
        let code = u16::from_le_bytes([low, high]);
        let code = code & 0x83FF | (u16::from(random(&mut state) % 16) + 8) << 10;
        Format::F16.decode(u32::from(code))
    };
    let a: Vec<Vec<f64>> = (0..M).map(|_| (0..16).map(|_| element()).collect()).collect();
    let b: Vec<f64> = (0..n * 16).map(|_| element()).collect();
    let mut cells = vec![0u32; M * n];
    let setup = Setup { accumulate: true, shift: 0, output: Output::F32, mode };
    measure(&format!("f16 {M}x{n}x16 {mode:?}"), runs, || {
        let right = dense::Right::new(black_box(&b), 16, Format::F16);
        for (row, cells) in a.iter().zip(cells.chunks_exact_mut(n)) {
            let left = Left::new(row.clone(), Format::F16);
            dense::row(&left, &right, None, 0, cells, setup);
        }
        black_box(&cells);
    });
}

fn main() {
    let aligned = |fraction| Mode::Aligned { fraction, mantissa: 23 };
    fp4(128, Mode::Exact, 500);
    fp4(256, Mode::Exact, 500);
    fp4(128, aligned(35), 20);
    halves(128, Mode::Exact, 500);
    halves(128, aligned(25), 20);
}
