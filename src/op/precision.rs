//! In which precision a layer computes.

use std::fmt;
use std::str::FromStr;

use super::InputScale;
use crate::dtype::DType;

/// The precision in which a layer computes.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Precision {
    /// NVFP4 weights, and activations that are quantized to NVFP4.
    W4A4 {
        /// The global scale with which the activations are quantized.
        scale: InputScale,
    },
    /// NVFP4 weights, and activations in 16 bits: f16 and bf16 as they are, f32 rounded to nearest even. What the GLU
    /// gives is rounded to the same type for the down projection. A value that overflows f16 is refused, but for such an h
    /// on a device, which goes into y: x in bf16 keeps clear of that.
    W4A16 {
        /// What activations in f32 are rounded to. The default of the type is bf16, which has the range of f32.
        round: DType16,
    },
}

impl Precision {
    /// 16-bit activations; f32 is rounded to bf16.
    pub const W4A16: Precision = Precision::W4A16 { round: DType16::Bf16 };
}

impl Default for Precision {
    fn default() -> Self {
        Precision::W4A4 { scale: InputScale::default() }
    }
}

/// `W4A4` or `W4A16`.
impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Precision::W4A4 { .. } => "W4A4",
            Precision::W4A16 { .. } => "W4A16",
        })
    }
}

/// A float type of 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DType16 {
    /// The upper half of binary32.
    #[default]
    Bf16,
    /// IEEE binary16.
    F16,
}

impl DType16 {
    /// The type of W4A16 activations of values in `dtype`: their own, where it has 16 bits, and else this one.
    pub fn of(self, dtype: DType) -> DType16 {
        match dtype {
            DType::F16 => DType16::F16,
            DType::Bf16 => DType16::Bf16,
            DType::F32 => self,
        }
    }
}

impl From<DType16> for DType {
    fn from(dtype: DType16) -> Self {
        match dtype {
            DType16::Bf16 => DType::Bf16,
            DType16::F16 => DType::F16,
        }
    }
}

impl fmt::Display for DType16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        DType::from(*self).fmt(f)
    }
}

impl FromStr for DType16 {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "bf16" => Ok(DType16::Bf16),
            "f16" => Ok(DType16::F16),
            _ => Err(format!("{s} is none of bf16, f16")),
        }
    }
}
