//! Bulk kernels over bytes and blocks, one set for each instruction set.
//!
//! [`portable`] is safe Rust that compilers vectorize; the AVX2 set is the same source compiled with
//! AVX2, and the AVX-512 and NEON sets replace all but the plain reductions by intrinsics. All sets give the same bits.
//! This module is serial; the callers split big buffers over threads with [`THREAD_BYTES`].

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod avx512;
#[cfg(all(target_arch = "aarch64", not(miri)))]
mod neon;
mod portable;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod swizzle;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86;

#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use half::{bf16, f16};

use crate::dtype::{Element, Values, ValuesMut};
use crate::simd::{self, Isa, detect};

/// Buffers up to this many bytes are worked on by the calling thread alone; bigger ones are cut into
/// pieces of about this size times four.
pub(crate) const THREAD_BYTES: usize = 64 << 10;

/// Elements of a piece that a thread takes at a time; a multiple of every kernel's group.
pub(crate) const PIECE: usize = 64 << 10;

/// Outputs from this many bytes on are written past the caches: they would not stay there, and lines
/// that are written whole need not be read first.
const STREAM_BYTES: usize = 8 << 20;

/// How far ahead [`prefetch`] asks for memory: the hardware's own prefetch stops at the end of a page.
const AHEAD_BYTES: usize = 8 << 10;

/// An instruction set that this machine has, and that there are kernels of: other values cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Path(Isa);

impl Path {
    /// The fastest one that is not faster than what [`simd::forced`] names. A name that means nothing is
    /// no name here: results do not depend on the path, and the GEMM's kernels refuse it.
    pub(crate) fn best() -> Path {
        static BEST: OnceLock<Path> = OnceLock::new();
        *BEST.get_or_init(|| {
            let forced = simd::forced().ok().flatten();
            // `Isa` is ordered from the fastest on.
            let allowed = |path: &Path| forced.is_none_or(|forced| path.0 >= forced);
            Path::available().find(allowed).unwrap_or(Path(Isa::Portable))
        })
    }

    /// All of them, the fastest first.
    pub(crate) fn available() -> impl Iterator<Item = Path> {
        let missing = |isa| match isa {
            Isa::Portable => None,
            _ if cfg!(miri) => Some("no vectors under Miri".to_owned()),
            Isa::Avx2 => detect::avx2(),
            Isa::Neon => detect::neon(),
            _ => detect::avx512(),
        };
        let isas = [Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Portable];
        isas.into_iter().filter(move |&isa| missing(isa).is_none()).map(Path)
    }

    pub(crate) fn isa(self) -> Isa {
        self.0
    }
}

/// Calls the kernel of a path.
macro_rules! on {
    ($path:expr, $kernel:ident($($arg:expr),*)) => {
        match $path.0 {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            // SAFETY: a `Path` to AVX2 is made only after its features were detected.
            Isa::Avx2 => unsafe { x86::avx2::$kernel($($arg),*) },
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            // SAFETY: a `Path` to AVX-512 is made only after its features were detected.
            Isa::Avx512 => unsafe { x86::avx512::$kernel($($arg),*) },
            #[cfg(all(target_arch = "aarch64", not(miri)))]
            // SAFETY: a `Path` to NEON is made only after it was detected.
            Isa::Neon => unsafe { neon::$kernel($($arg),*) },
            _ => portable::$kernel($($arg),*),
        }
    };
}

/// Asks for memory as long as `now` that lies `ahead` bytes beyond it.
#[inline(always)]
fn prefetch<T>(now: &[T], ahead: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    for offset in (0..size_of_val(now)).step_by(64) {
        let line = now.as_ptr().cast::<i8>().wrapping_add(ahead + offset);
        // SAFETY: a prefetch of an address that is not mapped does nothing, and every x86-64 has SSE.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = (now, ahead);
}

/// Packs pairs of codes; false when a code is above 15. `whole` is the number of bytes of the buffer
/// that `packed` is part of: when that is big, stores may go past the caches.
pub(crate) fn pack(path: Path, whole: usize, codes: &[u8], packed: &mut [u8]) -> bool {
    on!(path, pack(codes, packed, whole >= STREAM_BYTES))
}

/// Unpacks codes, two for each byte; `whole` as in [`pack`], of `codes`.
pub(crate) fn unpack(path: Path, whole: usize, packed: &[u8], codes: &mut [u8]) {
    on!(path, unpack(packed, codes, whole >= STREAM_BYTES));
}

/// Values between two calls of [`prefetch`] in kernels that only read.
const READ: usize = 2048;

/// Largest byte.
pub(crate) fn max_byte(path: Path, bytes: &[u8]) -> u8 {
    bytes.chunks(READ).fold(0, |max, bytes| {
        prefetch(bytes, AHEAD_BYTES);
        max.max(on!(path, max_byte(bytes)))
    })
}

/// Largest magnitude as f32; NaN or infinity when one of the values is.
pub(crate) fn amax(path: Path, values: Values<'_>) -> f32 {
    match values {
        Values::F32(v) => {
            let bits = v.chunks(READ).fold(0, |max, v| {
                prefetch(v, AHEAD_BYTES);
                max.max(on!(path, amax_bits_32(v)))
            });
            f32::from_bits(bits)
        }
        Values::F16(v) => {
            let bits = v.chunks(READ).fold(0, |max, v| {
                prefetch(v, AHEAD_BYTES);
                max.max(on!(path, amax_bits_f16(v)))
            });
            f16::from_bits(bits).to_f32()
        }
        Values::Bf16(v) => {
            let bits = v.chunks(READ).fold(0, |max, v| {
                prefetch(v, AHEAD_BYTES);
                max.max(on!(path, amax_bits_bf16(v)))
            });
            bf16::from_bits(bits).to_f32()
        }
    }
}

/// Codes and scale bytes of finite values; see [`super::quantize`].
pub(crate) fn quantize(
    path: Path,
    values: Values<'_>,
    global: f32,
    codes: &mut [u8],
    scales: &mut [u8],
) {
    match values {
        Values::F32(v) => on!(path, quantize_f32(v, global, codes, scales)),
        Values::F16(v) => on!(path, quantize_f16(v, global, codes, scales)),
        Values::Bf16(v) => on!(path, quantize_bf16(v, global, codes, scales)),
    }
}

/// `e2m1 · scale · global` in f32, then rounded to `T`; `whole` as in [`pack`], of `out`.
pub(crate) fn dequantize<T: Element>(
    path: Path,
    whole: usize,
    codes: &[u8],
    scales: &[u8],
    global: f32,
    out: &mut [T],
) {
    let stream = whole >= STREAM_BYTES;
    match ValuesMut::of(out) {
        ValuesMut::F32(out) => on!(path, dequantize_f32(codes, scales, global, out, stream)),
        ValuesMut::F16(out) => on!(path, dequantize_f16(codes, scales, global, out, stream)),
        ValuesMut::Bf16(out) => on!(path, dequantize_bf16(codes, scales, global, out, stream)),
    }
}

/// Copies the scale factors of one row tile (at most 128 rows of `cols` columns, row-major) into its
/// tiles of the 128x4 layout and zeroes the padding; `whole` as in [`pack`], of `tiles`.
pub(crate) fn swizzle_row_tile(
    path: Path,
    whole: usize,
    rows: &[u8],
    cols: usize,
    tiles: &mut [u8],
) {
    on!(path, swizzle_row_tile(rows, cols, tiles, whole >= STREAM_BYTES));
}

/// Inverse of [`swizzle_row_tile`]; `whole` as in [`pack`], of `rows`.
pub(crate) fn unswizzle_row_tile(
    path: Path,
    whole: usize,
    tiles: &[u8],
    cols: usize,
    rows: &mut [u8],
) {
    on!(path, unswizzle_row_tile(tiles, cols, rows, whole >= STREAM_BYTES));
}
