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
        declared.extend(declare(weight.module, n, k, convention));
        if weight.input_global.is_some() {
            declared.push(scalar(weight.module, convention.input_global(), convention));
        }
    }
    let mut writer = Writer::create(path, declared, &pytorch(&BTreeMap::new()))?;
    for weight in weights {
        write(&mut writer, path, weight, convention)?;
    }
    writer.finish()
}

/// `__metadata__` of a file that Hugging Face's `transformers` reads: it wants `format`.
pub(super) fn pytorch(metadata: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut metadata = metadata.clone();
    metadata.entry("format".to_owned()).or_insert("pt".to_owned());
    metadata
}

/// The tensors of a weight \[n, k\], without its activation scale.
pub(super) fn declare(module: &str, n: usize, k: usize, convention: Convention) -> [Declared; 3] {
    let name = |last: &str| format!("{module}.{last}");
    [
        Declared::new(name(convention.codes()), Dtype::U8, [n, k / 2]),
        Declared::new(name(convention.scales()), Dtype::F8_E4M3, [n, k / BLOCK]),
        scalar(module, convention.weight_global(), convention),
    ]
}

/// Shapes as the two libraries write them.
fn scalar(module: &str, last: &str, convention: Convention) -> Declared {
    let shape = match convention {
        Convention::ModelOpt => vec![],
        Convention::CompressedTensors => vec![1],
    };
    Declared::new(format!("{module}.{last}"), Dtype::F32, shape)
}

/// Writes the tensors of a weight that has been declared.
pub(super) fn write(
    writer: &mut Writer,
    path: &Path,
    weight: &Weight<'_>,
    convention: Convention,
) -> Result<()> {
    let Weight { module, matrix, input_global } = weight;
    let name = |last: &str| format!("{module}.{last}");
    let stored = |last: &str, multiplier: f32| {
        let stored = convention.stored(multiplier);
        let back = convention.multiplier(stored);
        if stored.is_finite() && stored > 0.0 && back.is_finite() && back > 0.0 {
            return Ok(stored.to_le_bytes());
        }
        let reason = format!("the global scale {multiplier:e} cannot be stored as {stored:e}");
        Err(fault(path, &name(last), reason))
    };
    writer.write(&name(convention.codes()), matrix.codes())?;
    writer.write(&name(convention.scales()), matrix.scales())?;
    let last = convention.weight_global();
    writer.write(&name(last), &stored(last, matrix.global_scale())?)?;
    if let Some(global) = *input_global {
        let last = convention.input_global();
        writer.write(&name(last), &stored(last, global)?)?;
    }
    Ok(())
}

fn fault(path: &Path, tensor: &str, reason: String) -> Error {
    let (path, tensor) = (path.to_owned(), tensor.to_owned());
    CheckpointError::Write { path, tensor, reason }.into()
}
