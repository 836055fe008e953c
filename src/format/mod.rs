//! Number formats and byte layouts of NVFP4.
//!
//! `value = e2m1(code) · ue4m3(scale of its block of 16) · global`

use crate::simd::Isa;

pub mod e2m1;
mod kernels;
pub mod nibble;
pub mod quantize;
mod saturation;
pub mod scale_layout;
pub mod ue4m3;

pub use saturation::Saturation;

/// The instruction set that the functions of this module use: the fastest that this CPU has and that
/// [`NVFP4_CPU_ISA`](crate::simd::ISA_VARIABLE) does not forbid. Where that is `amx` or `i8mm`, which they have no use
/// for, it is [`Isa::Avx512`] or [`Isa::Neon`]. Results do not depend on it.
pub fn isa() -> Isa {
    kernels::Path::best().isa()
}

pub use crate::shape::BLOCK;
