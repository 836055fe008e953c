//! The inner loops, one file an instruction set.

#[cfg(target_arch = "x86_64")]
pub(super) mod amx;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(super) mod i8mm;
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
pub(super) mod portable;
#[cfg(target_arch = "x86_64")]
mod strip_rows;
#[cfg(target_arch = "aarch64")]
mod unpack128;
#[cfg(target_arch = "x86_64")]
mod unpack256;
#[cfg(target_arch = "x86_64")]
mod unpack512;
pub(super) mod w4a16;
