//! CUTLASS's own kernels for sm_100a: the programs around them, their operands, and what they have to compute.

// Each test program uses a part of this.
#![allow(dead_code)]

pub mod build;
pub mod numbers;
pub mod operands;
pub mod quantized;
pub mod run;
pub mod text;

use std::path::PathBuf;
use std::process::Command;

use crate::support::Outcome;

/// The folder with the library, as the command makes it.
pub fn library() -> Outcome<PathBuf> {
    let output = Command::new(env!("CARGO_BIN_EXE_emulator")).arg("path").output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}
