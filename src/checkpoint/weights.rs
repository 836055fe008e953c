//! Writing NVFP4 weights under the names of a convention.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;

use super::CheckpointError;
use super::convention::Convention;
use super::writer::{Declared, Writer};
use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::matrix::Nvfp4View;

/// One weight of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weight<'a> {
    /// Name of the module, such as `model.layers.0.mlp.gate_proj`.
    pub module: &'a str,
    /// The weight \[N, K\], batch 1.
    pub matrix: Nvfp4View<'a>,
    /// Calibrated global scale (multiplier) of the module's input, if there is one.
    pub input_global: Option<f32>,
}

/// Writes a safetensors file of NVFP4 weights.
///
/// compressed-tensors stores divisors, and not every f32 is the reciprocal of one: a global scale
/// may come back one unit in the last place apart (see [`Convention::stored`]).
///
/// # Errors
/// [`Error::Io`]; [`CheckpointError::Write`] for a module that occurs twice, a batch other than 1, or
/// a global scale that has no finite divisor.
pub fn write_weights(
    path: impl AsRef<Path>,
    convention: Convention,
    weights: &[Weight<'_>],
) -> Result<()> {
    let path = path.as_ref();
    let mut declared = Vec::new();
    for weight in weights {
        let (n, k) = (weight.matrix.rows(), weight.matrix.cols());
        if weight.matrix.batch() != 1 {
            let reason =
                format!("a weight has batch 1, and this one has {}", weight.matrix.batch());
            return Err(fault(path, weight.module, reason));
        }
        let input = weight.input_global.is_some();
        declared.extend(declare(weight.module, n, k, convention, input));
    }
    let mut writer = Writer::create(path, declared, &pytorch(&BTreeMap::new()))?;
    for Weight { module, matrix, input_global } in weights {
        let stored = |last: &str, multiplier: f32| {
            let stored = convention.stored(multiplier);
            let back = convention.multiplier(stored);
            if stored.is_finite() && stored > 0.0 && back.is_finite() && back > 0.0 {
                return Ok(stored);
            }
            let reason = format!("the global scale {multiplier:e} cannot be stored as {stored:e}");
            Err(fault(path, &format!("{module}.{last}"), reason))
        };
        let globals = Globals {
            weight: stored(convention.weight_global(), matrix.global_scale())?,
            input: input_global.map(|g| stored(convention.input_global(), g)).transpose()?,
        };
        write(&mut writer, module, *matrix, globals, convention)?;
    }
    writer.finish()
}

/// `__metadata__` of a file that Hugging Face's `transformers` reads: it wants `format`.
pub(super) fn pytorch(metadata: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut metadata = metadata.clone();
    metadata.entry("format".to_owned()).or_insert("pt".to_owned());
    metadata
}

/// Global scales as a convention stores them: finite, > 0, and so their multipliers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Globals {
    pub weight: f32,
    pub input: Option<f32>,
}

/// The tensors of a weight \[n, k\], with or without the scale of its input.
pub(super) fn declare(
    module: &str,
    n: usize,
    k: usize,
    convention: Convention,
    input: bool,
) -> Vec<Declared> {
    let name = |last: &str| format!("{module}.{last}");
    // Shapes as the two libraries write them.
    let scalar = match convention {
        Convention::ModelOpt => vec![],
        Convention::CompressedTensors => vec![1],
    };
    let mut declared = vec![
        Declared::new(name(convention.codes()), Dtype::U8, [n, k / 2]),
        Declared::new(name(convention.scales()), Dtype::F8_E4M3, [n, k / BLOCK]),
        Declared::new(name(convention.weight_global()), Dtype::F32, scalar.clone()),
    ];
    if input {
        declared.push(Declared::new(name(convention.input_global()), Dtype::F32, scalar));
    }
    declared
}

/// Writes the tensors of a weight that has been declared.
pub(super) fn write(
    writer: &mut Writer,
    module: &str,
    matrix: Nvfp4View<'_>,
    globals: Globals,
    convention: Convention,
) -> Result<()> {
    let name = |last: &str| format!("{module}.{last}");
    writer.write(&name(convention.codes()), matrix.codes())?;
    writer.write(&name(convention.scales()), matrix.scales())?;
    let weight = (convention.weight_global(), Some(globals.weight));
    for (last, stored) in [weight, (convention.input_global(), globals.input)] {
        let Some(stored) = stored else { continue };
        writer.write(&name(last), &stored.to_le_bytes())?;
    }
    Ok(())
}

fn fault(path: &Path, tensor: &str, reason: String) -> Error {
    let (path, tensor) = (path.to_owned(), tensor.to_owned());
    CheckpointError::Write { path, tensor, reason }.into()
}
