//! Which instruction set the kernels use.

use std::fmt;
use std::str::FromStr;

use super::detect;
use crate::error::{Error, Result};

/// Environment variable that forces an instruction set.
pub const ISA_VARIABLE: &str = "NVFP4_CPU_ISA";

/// Environment variable that switches AMX off: `off` or `on`.
pub const AMX_VARIABLE: &str = "NVFP4_CPU_AMX";

/// An instruction set that kernels are written for, the fastest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    /// AMX tiles in bf16, with AVX-512 around them; below 17 rows of A, where tiles are too empty, the
    /// kernels of [`Isa::Avx512`].
    Amx,
    /// AVX-512 F, BW, VL and VNNI.
    Avx512,
    /// AVX2, FMA and F16C.
    Avx2,
    /// Plain Rust.
    Portable,
}

/// The instruction set that will be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The instruction set.
    pub isa: Isa,
    /// One sentence.
    pub reason: String,
}

impl Isa {
    /// All of them, the fastest first.
    pub const ALL: [Isa; 4] = [Isa::Amx, Isa::Avx512, Isa::Avx2, Isa::Portable];

    /// Whether this machine has it, and AMX is not switched off by [`AMX_VARIABLE`].
    ///
    /// # Errors
    /// [`Error::BackendUnavailable`] with what is missing, [`Error::Environment`].
    pub fn check(self) -> Result<()> {
        let missing = match self {
            Isa::Portable => None,
            Isa::Avx2 => detect::avx2(),
            Isa::Avx512 => detect::avx512(),
            Isa::Amx if amx_switched_off()? => Some(format!("switched off by {AMX_VARIABLE}=off")),
            Isa::Amx => detect::amx(),
        };
        match missing {
            None => Ok(()),
            Some(reason) => {
                Err(Error::BackendUnavailable { backend: format!("cpu ({self})"), reason })
            }
        }
    }

    /// Those that this machine has, the fastest first; never empty.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.check().is_ok()).collect()
    }

    /// The one that `NVFP4_CPU_ISA` forces, or else the fastest.
    ///
    /// # Errors
    /// [`Error::Environment`] for an unknown value, [`Error::BackendUnavailable`] when the forced
    /// one is not available.
    pub fn choose() -> Result<Choice> {
        match variable(ISA_VARIABLE) {
            Some(value) => {
                let isa: Isa = value.parse().map_err(|_| Error::Environment {
                    variable: ISA_VARIABLE,
                    value: value.clone(),
                    expected: "amx, avx512, avx2, portable",
                })?;
                isa.check()?;
                Ok(Choice { isa, reason: format!("forced by {ISA_VARIABLE}={value}") })
            }
            None => {
                amx_switched_off()?; // a wrong value is an error, not a slow run
                let isa = Isa::available().first().copied().unwrap_or(Isa::Portable);
                Ok(Choice { isa, reason: format!("{isa} is the fastest that this CPU has") })
            }
        }
    }
}

fn amx_switched_off() -> Result<bool> {
    match variable(AMX_VARIABLE) {
        Some(value) => match value.as_str() {
            "off" => Ok(true),
            "on" => Ok(false),
            _ => Err(Error::Environment { variable: AMX_VARIABLE, value, expected: "on, off" }),
        },
        None => Ok(false),
    }
}

/// The value of a variable, if it is set and not empty.
fn variable(name: &str) -> Option<String> {
    let value = std::env::var_os(name)?.to_string_lossy().into_owned();
    (!value.is_empty()).then_some(value)
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Isa::Amx => "amx",
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Portable => "portable",
        })
    }
}

impl FromStr for Isa {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Isa::ALL
            .into_iter()
            .find(|isa| isa.to_string() == s)
            .ok_or_else(|| format!("{s} is none of amx, avx512, avx2, portable"))
    }
}
