//! What a configuration says that the modules of a layer are.

use std::fmt;

use crate::op::Precision;

/// How a layer is meant to be computed, by the configuration of its checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Scheme {
    /// NVFP4 weights and NVFP4 activations; also where nothing is said.
    #[default]
    W4A4,
    /// Weight-only: NVFP4 weights, and activations of 16 bits as they are. `W4A16_NVFP4` of ModelOpt,
    /// `NVFP4A16` of compressed-tensors.
    W4A16,
}

/// The precision that a layer of the scheme runs in unless another is asked for.
impl From<Scheme> for Precision {
    fn from(scheme: Scheme) -> Self {
        match scheme {
            Scheme::W4A4 => Precision::default(),
            Scheme::W4A16 => Precision::W4A16,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scheme::W4A4 => "W4A4",
            Scheme::W4A16 => "W4A16",
        })
    }
}

/// A scheme that is not NVFP4's: its name, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub scheme: String,
    pub evidence: String,
}

/// A scheme that is read, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stated {
    pub scheme: Scheme,
    pub evidence: String,
}

/// What is said of modules, if anything is; or why they must not be read.
pub(super) type Verdict = Result<Option<Stated>, Refusal>;

/// What two statements say together. The modules of one MLP have one input each for gate and up, and one
/// precision for the layer, so that both have to say the same.
pub(super) fn agree(one: Option<Stated>, other: Option<Stated>) -> Verdict {
    let (one, other) = match (one, other) {
        (Some(one), Some(other)) => (one, other),
        (one, other) => return Ok(one.or(other)),
    };
    if one.scheme == other.scheme {
        return Ok(Some(one));
    }
    let (weight_only, full) = match one.scheme {
        Scheme::W4A16 => (one, other),
        Scheme::W4A4 => (other, one),
    };
    Err(Refusal {
        scheme: "W4A16_NVFP4 in part".to_owned(),
        evidence: format!("{}, and {}", weight_only.evidence, full.evidence),
    })
}
