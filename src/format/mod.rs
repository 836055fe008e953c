//! Number formats and byte layouts of NVFP4.
//!
//! `value = e2m1(code) · ue4m3(scale of its block of 16) · global`

pub mod e2m1;
pub mod nibble;
pub mod quantize;
mod saturation;
pub mod scale_layout;
mod simd;
pub mod ue4m3;

pub use saturation::Saturation;

/// Consecutive k that share one scale factor.
pub const BLOCK: usize = 16;
