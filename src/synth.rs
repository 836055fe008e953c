//! Synthetic operands, a pure function of seed, operand and position.

use rayon::prelude::*;
use std::fmt;
use std::str::FromStr;

use crate::dtype::Element;
use crate::error::{Operand, Result};
use crate::format::{BLOCK, ue4m3};
use crate::matrix::{Nvfp4Matrix, Nvfp4View};
use crate::memory;
use crate::op::DualGemm;
use crate::shape::GemmShape;
use crate::shape::MatrixShape;

/// What the operands look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Data {
    /// Like the generator of GPU MODE's `nvfp4_dual_gemm` contest: codes masked to ±{0, .5, 1, 1.5},
    /// scales uniform in \[0, 1) and then rounded to UE4M3, global scales 1.
    #[default]
    Contest,
    /// All 16 codes, all 127 scale bytes, and three different global scales that bring the inputs of
    /// the gate to a standard deviation of about 3 (gate) and 2 (up).
    Full,
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Data::Contest => "contest",
            Data::Full => "full",
        })
    }
}

impl FromStr for Data {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "contest" => Ok(Data::Contest),
            "full" => Ok(Data::Full),
            _ => Err(format!("{s} is none of contest, full")),
        }
    }
}

const fn problem(m: usize, n: usize, k: usize) -> GemmShape {
    GemmShape { m, n, k, batch: 1 }
}

/// The ten test shapes of GPU MODE's `nvfp4_dual_gemm` contest, in its order; the first and the third
/// are the same (`problems/nvidia/nvfp4_dual_gemm/task.yml` of gpu-mode/reference-kernels).
pub const CONTEST_TESTS: [GemmShape; 10] = [
    problem(1536, 512, 7168),
    problem(256, 512, 256),
    problem(1536, 512, 7168),
    problem(3072, 1024, 1536),
    problem(7168, 1024, 256),
    problem(7168, 2304, 2048),
    problem(4608, 384, 7168),
    problem(7168, 384, 2304),
    problem(512, 768, 7168),
    problem(4096, 768, 512),
];

/// The four benchmark shapes of the same contest.
pub const CONTEST_BENCHMARKS: [GemmShape; 4] = [
    problem(256, 4096, 7168),
    problem(512, 4096, 7168),
    problem(256, 3072, 4096),
    problem(512, 3072, 7168),
];

/// The seed of all of the contest's tests and benchmarks.
pub const CONTEST_SEED: u64 = 1111;

/// The three operands of a problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Operands {
    /// Activations, M×K.
    pub a: Nvfp4Matrix,
    /// Gate weights, N×K.
    pub b1: Nvfp4Matrix,
    /// Up weights, N×K.
    pub b2: Nvfp4Matrix,
}

impl Operands {
    /// Makes operands; the same arguments give the same bytes on every machine.
    ///
    /// # Errors
    /// The shape errors of [`crate::Nvfp4View::new`] and [`DualGemm::new`], and
    /// [`crate::Error::OutOfMemory`].
    pub fn generate(problem: GemmShape, data: Data, seed: u64) -> Result<Self> {
        let GemmShape { m, n, k, batch } = problem;
        // For `full`, a product of two terms has standard deviation `sigma²`, with sigma² the mean
        // square of e2m1 (9.125) times that of ue4m3 over all bytes.
        let mean_square_scale =
            (0..127u8).map(|b| f64::from(ue4m3::decode(b)).powi(2)).sum::<f64>() / 127.0;
        let sigma = (9.125 * mean_square_scale).sqrt();
        let global = |share: f64| match data {
            Data::Contest => 1.0,
            Data::Full => (share / sigma) as f32,
        };
        let root_k = (k as f64).sqrt();
        let make = |operand: Operand, rows: usize, seed: u64, share: f64| {
            matrix(batch, rows, k, data, seed, global(share))
                .and_then(|matrix| matrix.view().check_rows(operand).map(|()| matrix))
                .map_err(|e| e.with_operand(operand))
        };
        Ok(Operands {
            a: make(Operand::A, m, stream(seed, 1), 0.5)?,
            b1: make(Operand::B1, n, stream(seed, 2), 6.0 / root_k)?,
            b2: make(Operand::B2, n, stream(seed, 3), 4.0 / root_k)?,
        })
    }

    /// With the names that tensors of a file have (`checkpoint::tensors`).
    pub fn named(&self) -> [(&'static str, Nvfp4View<'_>); 3] {
        [("a", self.a.view()), ("b1", self.b1.view()), ("b2", self.b2.view())]
    }

    /// The validated problem over these operands.
    ///
    /// # Errors
    /// Those of [`DualGemm::new`].
    pub fn gemm(&self) -> Result<DualGemm<'_>> {
        DualGemm::new(&self.a, &self.b1, &self.b2)
    }
}

/// Values with a distribution close to the normal one of mean 0 and standard deviation 1, for 16-bit activations, biases
/// and residuals: the sum of twelve uniform numbers less 6, rounded to `T`. The same arguments give the same bits on every
/// machine.
pub fn values<T: Element>(len: usize, seed: u64) -> Vec<T> {
    let uniforms = |bits: u64| (0..4).map(|i| (bits >> (16 * i) & 0xffff) as u32).sum::<u32>();
    let value = |i: u64| (0..3).map(|j| uniforms(mix(seed, 3 * i + j))).sum::<u32>();
    // Twelve numbers below 2^16: every sum is exact.
    let rounded = |i: u64| T::from_f32(value(i) as f32 / 65536.0 - 6.0);
    (0..len as u64).into_par_iter().map(rounded).collect()
}

fn matrix(
    batch: usize,
    rows: usize,
    cols: usize,
    data: Data,
    seed: u64,
    global: f32,
) -> Result<Nvfp4Matrix> {
    let shape = MatrixShape::new(batch, rows, cols)?;
    let mask = match data {
        Data::Contest => 0xbbbb_bbbb_bbbb_bbbb,
        Data::Full => u64::MAX,
    };
    let blocks = shape.elements() / BLOCK;
    let mut codes = memory::filled(0, blocks * BLOCK / 2, Operand::Matrix)?;
    let mut scales = memory::filled(0, blocks, Operand::Matrix)?;
    codes.par_chunks_exact_mut(BLOCK / 2).zip(&mut scales).enumerate().for_each(
        |(i, (codes, scale))| {
            let i = i as u64;
            codes.copy_from_slice(&(mix(seed, 2 * i) & mask).to_le_bytes());
            let bits = mix(seed, 2 * i + 1) >> 40;
            *scale = match data {
                Data::Contest => ue4m3::encode(bits as f32 * 2f32.powi(-24)),
                Data::Full => ((bits * 127) >> 24) as u8,
            };
        },
    );
    Nvfp4Matrix::new(batch, rows, cols, codes, scales, global)
}

fn stream(seed: u64, operand: u64) -> u64 {
    mix(seed ^ operand.wrapping_mul(0xd1b5_4a32_d192_ed03), 0)
}

/// The output function of SplitMix64 (Steele, Lea, Flood 2014) at position `index` of the stream:
/// random access, so that operands can be made in parallel.
fn mix(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
