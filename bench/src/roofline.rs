//! What the machine could do at best, measured on the spot.
//!
//! Time can not be less than packed bytes over DRAM read bandwidth, nor less than operations over
//! the peak of the fastest unit that the instruction set offers. The peaks are those of loops that
//! stay in registers, so no kernel reaches them; both are the best of several passes.

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;
use serde::Serialize;

use nvfp4_dual_gemm::GemmShape;
use nvfp4_dual_gemm::Isa;
use nvfp4_harness::system;

/// A buffer that no cache holds: read through, it measures DRAM or empties the caches.
pub struct Memory {
    words: Vec<u64>,
}

impl Memory {
    /// Twice the last cache, within 256 MiB and 1 GiB and an eighth of the free memory.
    pub fn allocate() -> Self {
        let last = system::cache_size(3).or_else(|| system::cache_size(2)).unwrap_or(32 << 20);
        let room = system::memory().map_or(usize::MAX, |(_, available)| available / 8);
        let bytes = (2 * last).clamp(256 << 20, 1 << 30).min(room).max(1 << 20);
        // Ones, not zeros: untouched zero pages would all be the same physical one.
        Memory { words: vec![1; bytes / 8] }
    }

    /// Size of the buffer.
    pub fn bytes(&self) -> usize {
        8 * self.words.len()
    }

    /// Reads all of it, on all threads.
    pub fn read(&self) -> u64 {
        let piece = self.words.len().div_ceil(rayon::current_num_threads()).max(1);
        let sums = self.words.par_chunks(piece).map(|words| {
            let mut sums = [0u64; 32];
            let mut lines = words.chunks_exact(32);
            for line in &mut lines {
                for (sum, &word) in sums.iter_mut().zip(line) {
                    *sum = sum.wrapping_add(word);
                }
            }
            sums.iter().chain(lines.remainder()).fold(0u64, |a, &b| a.wrapping_add(b))
        });
        black_box(sums.sum())
    }

    /// Bytes per second, the best of seven passes.
    pub fn bandwidth(&self) -> f64 {
        let pass = || {
            let start = Instant::now();
            self.read();
            self.bytes() as f64 / start.elapsed().as_secs_f64()
        };
        (0..7).map(|_| pass()).fold(0.0, f64::max)
    }
}

/// Peak of one execution unit over all threads.
#[derive(Debug, Clone, Serialize)]
pub struct Peak {
    /// Its name.
    pub unit: &'static str,
    /// On all threads at once.
    pub gflop_per_s: f64,
}

/// The fastest unit that an instruction set offers for sums of products.
pub fn peak(isa: Isa) -> Peak {
    units(isa)
        .into_iter()
        .map(|unit| Peak { unit: unit.name, gflop_per_s: unit.rate() / 1e9 })
        .max_by(|a, b| a.gflop_per_s.total_cmp(&b.gflop_per_s))
        .unwrap_or(Peak { unit: "f32 multiply and add", gflop_per_s: portable().rate() / 1e9 })
}

/// The least time in seconds, and whether memory sets it.
pub fn floor(problem: &GemmShape, c_size: usize, bytes_per_s: f64, flop_per_s: f64) -> (f64, bool) {
    let memory = problem.bytes(c_size) / bytes_per_s;
    let compute = problem.flops() / flop_per_s;
    (memory.max(compute), memory > compute)
}

/// A loop of `run(iterations)`, each worth `flops`.
struct Unit {
    name: &'static str,
    flops: f64,
    run: fn(u64),
}

impl Unit {
    /// Operations per second on all threads at once, the best of five passes of about 10 ms.
    fn rate(&self) -> f64 {
        let time = |iterations: u64| {
            let start = Instant::now();
            rayon::broadcast(|_| (self.run)(iterations));
            start.elapsed().as_secs_f64()
        };
        let mut iterations = 1 << 10;
        while time(iterations) < 5e-3 && iterations < 1 << 40 {
            iterations *= 2;
        }
        let best = (0..5).map(|_| time(2 * iterations)).fold(f64::MAX, f64::min);
        let threads = rayon::current_num_threads() as f64;
        threads * 2.0 * iterations as f64 * self.flops / best
    }
}

fn portable() -> Unit {
    const LANES: usize = 4;
    const CHAINS: usize = 10;
    fn run(iterations: u64) {
        let (x, y) = (black_box([0.999f32; LANES]), black_box([0.001f32; LANES]));
        let mut sums = [[1.0f32; LANES]; CHAINS];
        for _ in 0..iterations {
            for sum in &mut sums {
                for lane in 0..LANES {
                    sum[lane] = sum[lane] * x[lane] + y[lane];
                }
            }
        }
        black_box(sums);
    }
    Unit { name: "f32 multiply and add", flops: (2 * LANES * CHAINS) as f64, run }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn units(_: Isa) -> Vec<Unit> {
    vec![portable()]
}

#[cfg(target_arch = "x86_64")]
fn units(isa: Isa) -> Vec<Unit> {
    match isa {
        Isa::Portable => vec![portable()],
        _ => x86::units(isa),
    }
}

#[cfg(target_arch = "aarch64")]
fn units(isa: Isa) -> Vec<Unit> {
    match isa {
        Isa::Portable => vec![portable()],
        _ => aarch64::units(isa),
    }
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use std::arch::aarch64::*;
    use std::arch::{asm, is_aarch64_feature_detected};
    use std::hint::black_box;

    use nvfp4_dual_gemm::Isa;

    use super::Unit;

    /// The units that this CPU has, each guarded by its own detection.
    pub fn units(isa: Isa) -> Vec<Unit> {
        let mut units = Vec::new();
        if is_aarch64_feature_detected!("neon") {
            // SAFETY: the CPU has NEON.
            let run = |n| unsafe { fma128(n) };
            units.push(Unit { name: "f32 FMA, 128 bits", flops: 16.0 * 4.0 * 2.0, run });
        }
        if is_aarch64_feature_detected!("dotprod") {
            // SAFETY: the CPU has FEAT_DotProd.
            let run = |n| unsafe { sdot128(n) };
            units.push(Unit { name: "int8 dot products", flops: 16.0 * 16.0 * 2.0, run });
        }
        if isa == Isa::I8mm && is_aarch64_feature_detected!("i8mm") {
            // SAFETY: the CPU has FEAT_I8MM.
            let run = |n| unsafe { smmla128(n) };
            units.push(Unit { name: "int8 matrix products", flops: 16.0 * 32.0 * 2.0, run });
        }
        units
    }

    #[target_feature(enable = "neon")]
    fn fma128(iterations: u64) {
        let (x, y) = (vdupq_n_f32(black_box(0.999)), vdupq_n_f32(black_box(0.001)));
        let mut sums = [x; 16];
        for _ in 0..iterations {
            for sum in &mut sums {
                *sum = vfmaq_f32(y, *sum, x);
            }
        }
        black_box(sums);
    }

    /// A function that repeats one instruction on sixteen sums.
    macro_rules! integer {
        ($name:ident, $features:literal, $instruction:literal) => {
            #[target_feature(enable = $features)]
            fn $name(iterations: u64) {
                let (x, y) = (vdupq_n_s8(black_box(3)), vdupq_n_s8(black_box(-2)));
                let mut sums = [vdupq_n_s32(0); 16];
                for _ in 0..iterations {
                    for sum in &mut sums {
                        // The intrinsic is not stable.
                        // SAFETY: the features of this function are those of the instruction, which
                        // touches its registers only.
                        unsafe {
                            asm!(
                                concat!($instruction, " {sum:v}.4s, {x:v}.16b, {y:v}.16b"),
                                sum = inlateout(vreg) *sum,
                                x = in(vreg) x,
                                y = in(vreg) y,
                                options(pure, nomem, nostack, preserves_flags),
                            );
                        }
                    }
                }
                black_box(sums);
            }
        };
    }

    integer!(sdot128, "neon,dotprod", "sdot");
    integer!(smmla128, "neon,i8mm", "smmla");
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use nvfp4_dual_gemm::Isa;

    use super::Unit;

    /// The units that this CPU has, each guarded by its own detection.
    pub fn units(isa: Isa) -> Vec<Unit> {
        let mut units = Vec::new();
        let (fma, vnni) = (is_x86_feature_detected!("fma"), is_x86_feature_detected!("avx512vnni"));
        if matches!(isa, Isa::AvxVnni | Isa::Avx2) && fma && is_x86_feature_detected!("avx2") {
            // SAFETY: the CPU has AVX2 and FMA.
            let run = |n| unsafe { fma256(n) };
            units.push(Unit { name: "f32 FMA, 256 bits", flops: 12.0 * 8.0 * 2.0, run });
        }
        if isa == Isa::AvxVnni && isa.check().is_ok() {
            // SAFETY: the CPU has AVX2 and AVX-VNNI.
            let run = |n| unsafe { vnni256(n) };
            units.push(Unit { name: "int8 VNNI, 256 bits", flops: 12.0 * 32.0 * 2.0, run });
        }
        if matches!(isa, Isa::Amx | Isa::Avx512) && is_x86_feature_detected!("avx512f") {
            // SAFETY: the CPU has AVX-512F.
            let run = |n| unsafe { fma512(n) };
            units.push(Unit { name: "f32 FMA, 512 bits", flops: 16.0 * 16.0 * 2.0, run });
            if vnni {
                // SAFETY: the CPU has AVX-512F and AVX-512 VNNI.
                let run = |n| unsafe { vnni512(n) };
                units.push(Unit { name: "int8 VNNI, 512 bits", flops: 16.0 * 64.0 * 2.0, run });
            }
        }
        if isa == Isa::Amx && isa.check().is_ok() {
            // SAFETY: `check` says that the CPU has AMX-BF16 and that the system lets this process
            // use it.
            let run = |n| unsafe { amx(n) };
            units.push(Unit { name: "bf16 AMX tiles", flops: 6.0 * 16.0 * 16.0 * 32.0 * 2.0, run });
        }
        units
    }

    #[target_feature(enable = "avx2,fma")]
    fn fma256(iterations: u64) {
        let (x, y) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
        let mut sums = [x; 12];
        for _ in 0..iterations {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, x, y);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f")]
    fn fma512(iterations: u64) {
        let (x, y) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
        let mut sums = [x; 16];
        for _ in 0..iterations {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, x, y);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2,avxvnni")]
    fn vnni256(iterations: u64) {
        let (x, y) = (_mm256_set1_epi8(black_box(3)), _mm256_set1_epi8(black_box(-2)));
        let mut sums = [x; 12];
        for _ in 0..iterations {
            for sum in &mut sums {
                *sum = _mm256_dpbusd_avx_epi32(*sum, x, y);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    fn vnni512(iterations: u64) {
        let (x, y) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(-2)));
        let mut sums = [x; 16];
        for _ in 0..iterations {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, x, y);
            }
        }
        black_box(sums);
    }

    /// Six independent chains of 16x16x32 products, all operands zero and in tile registers.
    ///
    /// # Safety
    /// The CPU has AMX-BF16, and the system has granted its use.
    unsafe fn amx(iterations: u64) {
        /// Palette 1; bytes a row (u16) of eight tiles from byte 16 on, their rows (u8) from 48 on.
        #[repr(align(64))]
        struct Config([u8; 64]);
        let mut config = Config([0; 64]);
        config.0[0] = 1;
        for tile in 0..8 {
            config.0[16 + 2 * tile] = 64;
            config.0[48 + tile] = 16;
        }
        let iterations = iterations.max(1);
        // SAFETY: the caller vouches for AMX; the configuration is valid, the block touches no
        // other memory and releases the tiles.
        unsafe {
            asm!(
                "ldtilecfg [{config}]",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "tilezero tmm4",
                "tilezero tmm5",
                "tilezero tmm6",
                "tilezero tmm7",
                "2:",
                "tdpbf16ps tmm0, tmm6, tmm7",
                "tdpbf16ps tmm1, tmm6, tmm7",
                "tdpbf16ps tmm2, tmm6, tmm7",
                "tdpbf16ps tmm3, tmm6, tmm7",
                "tdpbf16ps tmm4, tmm6, tmm7",
                "tdpbf16ps tmm5, tmm6, tmm7",
                "dec {n}",
                "jnz 2b",
                "tilerelease",
                config = in(reg) &raw const config,
                n = inout(reg) iterations => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}
