//! The commands, a file each: arguments, work, report.

#[cfg(feature = "bench")]
pub mod bench;
pub mod doctor;
pub mod generate;
pub mod mlp;
pub mod quantize;
pub mod run;
pub mod verify;
