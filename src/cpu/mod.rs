//! The fused CPU kernels.
//!
//! C is computed in strips of 16 columns. For each strip and each piece of K, the 16 rows of B1 and
//! the 16 rows of B2 are decoded from their packed form into a few KiB of cache; every row of A then
//! sweeps over the piece, so A is read once for both weights, and the gate is applied while both
//! sums are at hand. No dequantized copy of a weight ever exists. A GEMM runs in the same loops: its one weight stands for
//! both, which have every other strip of its rows.
//!
//! * `integer`: blocks of 16 doubled codes are multiplied and summed exactly in integers (VNNI,
//!   `vpmaddubsw`, `smmla`, `sdot` or plain Rust) and scaled into an f32 accumulator: one rounding a block.
//! * `w4a16`: 16-bit activations times weights that are widened to f32, or to bf16 with AMX.
//! * `amx`: `e2m1·scale` is exact in bf16, so tiles of bf16 are multiplied with f32 accumulation.
//!
//! The order of additions depends on K alone, so results do not depend on the number of threads.

mod epilogue;
mod integer;
mod kernels;
mod schedule;
mod scratch;

pub(crate) use schedule::is_small;
pub(crate) use scratch::Scratch;

use crate::dtype::Element;
use crate::error::Result;
use crate::matrix::ValuesView;
use crate::op::{ActivationsView, Operation, Problem};
use crate::simd::Isa;
use kernels::w4a16;

/// Computes C \[batch, M, N\] with the kernels of one instruction set, on the calling thread where the
/// problem is small, and else by rayon's current pool; nothing where M is 0.
///
/// Buffers come from `scratch`, whatever the size of the problem: 16 MiB of repacked activations, 32 MiB of accumulators (64 KiB a
/// thread where that is more) and about 100 KiB a thread, in all below 64 MiB up to 150 threads.
///
/// # Errors
/// [`crate::Error::BackendUnavailable`] when the machine does not have it, [`crate::Error::Length`]
/// when `c` has not `batch·M·N` elements.
pub(crate) fn run<T: Element>(
    operation: &impl Operation,
    isa: Isa,
    scratch: &Scratch,
    c: &mut [T],
) -> Result<()> {
    let problem = &operation.problem();
    isa.check()?;
    problem.check_c(c.len())?;
    if c.is_empty() {
        return Ok(());
    }
    let a = match problem.a {
        ActivationsView::Nvfp4(a) => a,
        ActivationsView::F16(a) => {
            run_values(a, isa, problem, scratch, c);
            return Ok(());
        }
        #[cfg(target_arch = "x86_64")]
        ActivationsView::Bf16(a) if isa == Isa::Amx && problem.shape.m >= w4a16::amx::MIN_ROWS => {
            // SAFETY: `isa.check()` found AMX-BF16 and the AVX-512 features, and has asked the
            // system for tile state.
            schedule::run(&unsafe { w4a16::amx::AmxBf16::new() }, a, problem, scratch, c);
            return Ok(());
        }
        ActivationsView::Bf16(a) => {
            run_values(a, isa, problem, scratch, c);
            return Ok(());
        }
    };
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Amx if problem.shape.m >= kernels::amx::MIN_ROWS => {
            // SAFETY: `isa.check()` found AMX-BF16 and the AVX-512 features, and has asked the
            // system for tile state.
            schedule::run(&unsafe { kernels::amx::Amx::new() }, a, problem, scratch, c);
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Amx | Isa::Avx512 => {
            // SAFETY: `isa.check()` found the AVX-512 features.
            schedule::run(&unsafe { kernels::avx512::Avx512::new() }, a, problem, scratch, c);
        }
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni => {
            // SAFETY: `isa.check()` found AVX2, FMA, F16C and AVX-VNNI.
            schedule::run(&unsafe { kernels::avx2::Avx2::<true>::new() }, a, problem, scratch, c);
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            // SAFETY: `isa.check()` found AVX2, FMA and F16C.
            schedule::run(&unsafe { kernels::avx2::Avx2::<false>::new() }, a, problem, scratch, c);
        }
        #[cfg(target_arch = "aarch64")]
        Isa::I8mm => {
            // SAFETY: `isa.check()` found NEON and FEAT_I8MM.
            schedule::run(&unsafe { kernels::i8mm::I8mm::new() }, a, problem, scratch, c);
        }
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => {
            // SAFETY: `isa.check()` found NEON and FEAT_DotProd.
            schedule::run(&unsafe { kernels::neon::Neon::new() }, a, problem, scratch, c);
        }
        _ => schedule::run(&kernels::portable::Portable, a, problem, scratch, c),
    }
    Ok(())
}

/// With values of any 16-bit type, on an instruction set that was checked.
fn run_values<A: Element, T: Element>(
    a: ValuesView<'_, A>,
    isa: Isa,
    problem: &Problem<'_>,
    scratch: &Scratch,
    c: &mut [T],
) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Amx | Isa::Avx512 => {
            // SAFETY: `isa.check()` found the AVX-512 features, and FMA.
            schedule::run(&unsafe { w4a16::avx512::Avx512::new() }, a, problem, scratch, c);
        }
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni | Isa::Avx2 => {
            // SAFETY: `isa.check()` found AVX2, FMA and F16C.
            schedule::run(&unsafe { w4a16::avx2::Avx2::new() }, a, problem, scratch, c);
        }
        #[cfg(target_arch = "aarch64")]
        Isa::I8mm | Isa::Neon => {
            // SAFETY: `isa.check()` found NEON.
            schedule::run(&unsafe { w4a16::neon::Neon::new() }, a, problem, scratch, c);
        }
        _ => schedule::run(&w4a16::portable::Portable::new(), a, problem, scratch, c),
    }
}
