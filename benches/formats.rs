//! Throughput of the format kernels next to memcpy, as a Markdown table.
//!
//! `cargo bench --bench formats` — counted are the bytes that an operation must read plus those that it
//! must write; the quantizer reads its input twice (once for the largest magnitude), and both reads
//! count. memcpy copies half as many bytes as the operation counts, so both move the same number,
//! with the same number of threads, in turns with the operation. Each figure is the median of its runs.
//! With `-- WORD`, only the operations whose name has that word.

use std::hint::black_box;
use std::time::Instant;

use nvfp4_dual_gemm::format::scale_layout::ScaleLayout;
use nvfp4_dual_gemm::format::{BLOCK, nibble, quantize, ue4m3};
use nvfp4_dual_gemm::{Element, Nvfp4View, bf16, f16};
use rayon::prelude::*;

const RUNS: usize = 15;

fn main() {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    println!("| operation | shape | threads | GB/s | memcpy GB/s | ratio |");
    println!("|---|---|---:|---:|---:|---:|");
    let mut counts = vec![1, threads];
    counts.dedup();
    for threads in counts {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| all(threads));
    }
}

fn all(threads: usize) {
    for (rows, k) in [(4096, 7168), (28672, 8192)] {
        let n = rows * k;
        let mut bench = Bench { shape: format!("{rows}x{k}"), threads };
        let mut codes = vec![0u8; n];
        codes.par_iter_mut().enumerate().for_each(|(i, c)| *c = ((i * 7) >> 3) as u8 & 15);
        let mut packed = vec![1u8; n / 2];
        bench.run("pack nibbles", n + n / 2, || {
            nibble::pack_into(black_box(&codes), &mut packed).unwrap();
        });
        bench.run("unpack nibbles", n + n / 2, || {
            nibble::unpack_into(black_box(&packed), &mut codes).unwrap();
        });
        drop(codes);

        let blocks = n / BLOCK;
        let scales: Vec<u8> = (0..blocks).map(|i| (i * 11 % 127) as u8).collect();
        let layout = ScaleLayout::new(1, rows, k).unwrap();
        let mut swizzled = vec![1u8; layout.swizzled_len()];
        let mut back = vec![1u8; blocks];
        bench.shape = format!("{rows}x{}", k / BLOCK);
        bench.run("swizzle scales", blocks + swizzled.len(), || {
            layout.swizzle_into(black_box(&scales), &mut swizzled).unwrap();
        });
        bench.run("unswizzle scales", blocks + swizzled.len(), || {
            layout.unswizzle_into(black_box(&swizzled), &mut back).unwrap();
        });
        bench.run("find invalid scale", blocks, || {
            assert_eq!(ue4m3::find_invalid(black_box(&scales)), None);
        });

        bench.shape = format!("{rows}x{k}");
        let view = Nvfp4View::new(1, rows, k, &packed, &scales, 0.01).unwrap();
        dequantize::<f32>(&bench, view);
        dequantize::<f16>(&bench, view);
        dequantize::<bf16>(&bench, view);
        drop((scales, swizzled, back));
        // The biggest shape as f32 would take most of a small machine's memory.
        if n <= 1 << 26 {
            quantize::<f32>(&bench, n, k);
        }
        quantize::<f16>(&bench, n, k);
        quantize::<bf16>(&bench, n, k);
    }
}

fn dequantize<T: Element>(bench: &Bench, view: Nvfp4View<'_>) {
    let n = view.rows() * view.cols();
    let mut out = vec![T::from_f32(1.0); n];
    let moved = n / 2 + n / BLOCK + size_of_val(&out[..]);
    bench.run(&format!("dequantize to {}", T::DTYPE), moved, || {
        black_box(view).dequantize_into(&mut out).unwrap();
    });
}

fn quantize<T: Element>(bench: &Bench, n: usize, k: usize) {
    // A sum of four uniform numbers is near enough to a normal distribution.
    let values: Vec<T> = (0..n as u64)
        .into_par_iter()
        .map(|i| {
            let z = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let sum: u64 = (0..4).map(|j| z >> (16 * j) & 0xffff).sum();
            T::from_f32((sum as f32 - 131_070.0) * 5e-7)
        })
        .collect();
    let read = size_of_val(&values[..]);
    bench.run(&format!("largest magnitude of {}", T::DTYPE), read, || {
        black_box(quantize::global_scale(black_box(&values), n / k, k).unwrap());
    });
    let (mut codes, mut scales) = (vec![1u8; n / 2], vec![1u8; n / BLOCK]);
    let moved = 2 * read + codes.len() + scales.len();
    bench.run(&format!("quantize {}, both passes", T::DTYPE), moved, || {
        quantize::two_level(black_box(&values), 1, n / k, k, &mut codes, &mut scales).unwrap();
    });
}

struct Bench {
    shape: String,
    threads: usize,
}

impl Bench {
    fn run(&self, name: &str, bytes: usize, mut operation: impl FnMut()) {
        let word = std::env::args().skip(1).find(|a| !a.starts_with('-'));
        if word.is_some_and(|word| !name.contains(&word)) {
            return;
        }
        let source = vec![1u8; bytes / 2];
        let mut target = vec![2u8; bytes / 2];
        let (mut own, mut copies) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            own.push(seconds(&mut operation));
            copies.push(seconds(|| copy(black_box(&source), &mut target, self.threads)));
        }
        let rate = |times: &mut Vec<f64>| {
            times.sort_by(f64::total_cmp);
            bytes as f64 * 1e-9 / times[times.len() / 2]
        };
        let (own, copy) = (rate(&mut own), rate(&mut copies));
        let (shape, threads) = (&self.shape, self.threads);
        println!("| {name} | {shape} | {threads} | {own:.1} | {copy:.1} | {:.2} |", own / copy);
    }
}

fn copy(source: &[u8], target: &mut [u8], threads: usize) {
    let piece = source.len().div_ceil(threads).max(1);
    source
        .par_chunks(piece)
        .zip(target.par_chunks_mut(piece))
        .for_each(|(source, target)| target.copy_from_slice(source));
}

fn seconds(mut operation: impl FnMut()) -> f64 {
    let start = Instant::now();
    operation();
    start.elapsed().as_secs_f64()
}
