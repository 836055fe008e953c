//! The two ways in which NVFP4 weights are named and scaled in checkpoints.

use std::fmt;
use std::str::FromStr;

/// Names and meaning of the tensors of one NVFP4 weight \[N, K\] (out, in).
///
/// | | ModelOpt | compressed-tensors |
/// |---|---|---|
/// | codes, U8 \[N, K/2\] or F4 \[N, K\] | `weight` | `weight_packed` |
/// | scales, F8_E4M3 \[N, K/16\] row-major | `weight_scale` | `weight_scale` |
/// | weight global, F32 \[\] or \[1\] | `weight_scale_2`, a multiplier (amax/2688) | `weight_global_scale`, a divisor (2688/amax) |
/// | activation global, F32 \[\] or \[1\] | `input_scale`, a multiplier | `input_global_scale`, a divisor |
///
/// A weight-only layer has no activation global. A `bias`, F16, BF16 or F32 \[N\], has the same name in both.
///
/// This library computes with multipliers: a divisor d becomes `1/d`, rounded to f32.
/// Sources: ModelOpt `nvfp4_tensor.py`, compressed-tensors `compressors/nvfp4` and `generate_gparam`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Convention {
    /// NVIDIA ModelOpt, `quant_algo` NVFP4 in `hf_quant_config.json`.
    #[default]
    ModelOpt,
    /// compressed-tensors (llm-compressor, vLLM), format `nvfp4-pack-quantized`.
    CompressedTensors,
}

impl Convention {
    /// Last part of the name of the packed codes.
    pub const fn codes(self) -> &'static str {
        match self {
            Convention::ModelOpt => "weight",
            Convention::CompressedTensors => "weight_packed",
        }
    }

    /// Last part of the name of the block scales.
    pub const fn scales(self) -> &'static str {
        "weight_scale"
    }

    /// Last part of the name of the global scale of the weight.
    pub const fn weight_global(self) -> &'static str {
        match self {
            Convention::ModelOpt => "weight_scale_2",
            Convention::CompressedTensors => "weight_global_scale",
        }
    }

    /// Last part of the name of the global scale of the activations.
    pub const fn input_global(self) -> &'static str {
        match self {
            Convention::ModelOpt => "input_scale",
            Convention::CompressedTensors => "input_global_scale",
        }
    }

    /// The multiplier that a stored global scale means, in f32.
    pub fn multiplier(self, stored: f32) -> f32 {
        match self {
            Convention::ModelOpt => stored,
            Convention::CompressedTensors => 1.0 / stored,
        }
    }

    /// The number to store for a multiplier. `multiplier(stored(g))` is `g` itself where a divisor
    /// with that reciprocal exists, and else one unit in the last place beside it.
    pub fn stored(self, multiplier: f32) -> f32 {
        match self {
            Convention::ModelOpt => multiplier,
            Convention::CompressedTensors => {
                let divisor = 1.0 / multiplier;
                [divisor, divisor.next_down(), divisor.next_up()]
                    .into_iter()
                    .find(|d| 1.0 / d == multiplier)
                    .unwrap_or(divisor)
            }
        }
    }
}

impl fmt::Display for Convention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Convention::ModelOpt => "modelopt",
            Convention::CompressedTensors => "compressed-tensors",
        })
    }
}

impl FromStr for Convention {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "modelopt" => Ok(Convention::ModelOpt),
            "compressed-tensors" => Ok(Convention::CompressedTensors),
            _ => Err(format!("{s} is none of modelopt, compressed-tensors")),
        }
    }
}
