//! Which instruction set the CPU's code uses: one choice for the kernels of the GEMM and for those of the
//! formats.

pub(crate) mod detect;

use std::fmt;
use std::str::FromStr;
use std::sync::{LazyLock, OnceLock};

use crate::error::{Error, Result};

/// Environment variable that forces an instruction set, of the GEMM's kernels and of the formats' ([`crate::format::isa`]).
/// It is read once, when it is first needed.
pub const ISA_VARIABLE: &str = "NVFP4_CPU_ISA";

/// Environment variable that switches AMX off: `off` or `on`. It is read once, too.
pub const AMX_VARIABLE: &str = "NVFP4_CPU_AMX";

/// An instruction set that kernels are written for, the fastest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Isa {
    /// AMX tiles in bf16, with AVX-512 around them; below 17 rows of A (5 where A is bf16), where tiles are too empty, and
    /// where A is f16, the kernels of [`Isa::Avx512`].
    Amx,
    /// AVX-512 F, BW, DQ, VL and VNNI, and what [`Isa::Avx2`] needs. The formats do without VNNI.
    Avx512,
    /// AVX-VNNI, and what [`Isa::Avx2`] needs. The formats and 16-bit activations do without AVX-VNNI.
    AvxVnni,
    /// AVX2, BMI2, FMA and F16C.
    Avx2,
    /// On aarch64: what [`Isa::Neon`] needs and FEAT_I8MM, whose `smmla` multiplies matrices of bytes.
    I8mm,
    /// On aarch64: NEON with FEAT_DotProd, whose `sdot` sums four products of bytes. The formats do without it.
    Neon,
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
    pub const ALL: [Isa; 7] =
        [Isa::Amx, Isa::Avx512, Isa::AvxVnni, Isa::Avx2, Isa::I8mm, Isa::Neon, Isa::Portable];

    /// Whether this machine has it for the kernels of the GEMM, and AMX is not switched off by
    /// [`AMX_VARIABLE`].
    ///
    /// # Errors
    /// [`Error::BackendUnavailable`] with what is missing, [`Error::Environment`].
    pub fn check(self) -> Result<()> {
        let missing = match self {
            Isa::Portable => None,
            Isa::Avx2 => detect::avx2(),
            Isa::AvxVnni => detect::avx_vnni(),
            Isa::I8mm => detect::i8mm(),
            Isa::Neon => detect::dotprod(),
            Isa::Avx512 => detect::avx512_vnni(),
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
        if let Some(isa) = forced()? {
            isa.check()?;
            return Ok(Choice { isa, reason: format!("forced by {ISA_VARIABLE}={isa}") });
        }
        amx_switched_off()?; // a wrong value is an error, not a slow run
        let isa = Isa::ALL.into_iter().find(|isa| isa.check().is_ok()).unwrap_or(Isa::Portable);
        Ok(Choice { isa, reason: format!("{isa} is the fastest that this CPU has") })
    }
}

/// All names, for messages.
static NAMES: LazyLock<String> = LazyLock::new(|| Isa::ALL.map(|isa| isa.to_string()).join(", "));

/// The one that `NVFP4_CPU_ISA` names, whether this machine has it or not.
pub(crate) fn forced() -> Result<Option<Isa>> {
    let Some(value) = &variables().isa else { return Ok(None) };
    value.parse().map(Some).map_err(|_| Error::Environment {
        variable: ISA_VARIABLE,
        value: value.clone(),
        expected: &NAMES,
    })
}

fn amx_switched_off() -> Result<bool> {
    match variables().amx.as_deref() {
        None | Some("on") => Ok(false),
        Some("off") => Ok(true),
        Some(value) => Err(Error::Environment {
            variable: AMX_VARIABLE,
            value: value.to_owned(),
            expected: "on, off",
        }),
    }
}

/// The values of both variables, where they are set and not empty.
struct Variables {
    isa: Option<String>,
    amx: Option<String>,
}

fn variables() -> &'static Variables {
    static VARIABLES: OnceLock<Variables> = OnceLock::new();
    let value = |name: &str| {
        let value = std::env::var_os(name)?.to_string_lossy().into_owned();
        (!value.is_empty()).then_some(value)
    };
    VARIABLES.get_or_init(|| Variables { isa: value(ISA_VARIABLE), amx: value(AMX_VARIABLE) })
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Isa::Amx => "amx",
            Isa::Avx512 => "avx512",
            Isa::AvxVnni => "avxvnni",
            Isa::Avx2 => "avx2",
            Isa::I8mm => "i8mm",
            Isa::Neon => "neon",
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
            .ok_or_else(|| format!("{s} is none of {}", *NAMES))
    }
}
