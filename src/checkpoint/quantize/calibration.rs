//! The inputs of layers, as samples showed them.

use std::collections::BTreeMap;
use std::path::Path;

use super::fused;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::file::SafetensorsFile;
use crate::error::{Error, Operand, Result};
use crate::format::quantize;

/// Name of the samples of a checkpoint with one layer.
const SINGLE: &str = "x";

/// How many names an error lists.
const LISTED: usize = 6;

/// Largest magnitudes of the inputs of layers, from which the global scales of activations follow:
/// amax/2688.
///
/// The input of module `P.gate_proj` is looked for under these names, the first one that exists:
///
/// 1. `P.gate_proj.input` or `P.gate_proj`: of that module;
/// 2. `P.input` or `P`: of all modules below `P` that share one input (gate and up, fused or not; q, k
///    and v);
/// 3. `Q.input` or `Q` where `P` is `Q.experts.N`: of all experts of a layer;
/// 4. `x`, where all weights that are quantized share one input, but for down projections.
///
/// The input of a down projection is that of no other module, so that it has the first two names alone.
///
/// An expert that no token reached has samples with the largest magnitude 0. It gets the largest among
/// the same inputs of the layer's other experts, and where all have none, that of the next name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Calibration {
    inputs: BTreeMap<String, Input>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Input {
    amax: f32,
    /// K, where it is known.
    cols: Option<usize>,
}

impl Calibration {
    /// Takes the largest magnitudes of named inputs.
    ///
    /// # Errors
    /// [`CheckpointError::Calibration`] for one that is not a finite number > 0, or 0 for an expert.
    pub fn new<N: Into<String>>(amax: impl IntoIterator<Item = (N, f32)>) -> Result<Self> {
        let mut inputs = BTreeMap::new();
        for (name, amax) in amax {
            let name = name.into();
            check(&name, amax)?;
            inputs.insert(name, Input { amax, cols: None });
        }
        Ok(Calibration { inputs })
    }

    /// Reads samples: every tensor of a safetensors file is F32, F16 or BF16 [..., K], with as many
    /// rows as there are tokens.
    ///
    /// # Errors
    /// Those of [`SafetensorsFile::open`]; [`CheckpointError::Dtype`] for other types;
    /// [`CheckpointError::Matrix`] for NaN and infinity; [`CheckpointError::Calibration`] for samples
    /// that are all zero or none, but for those of an expert.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let mut inputs = BTreeMap::new();
        for tensor in SafetensorsFile::open(path)?.tensors() {
            let values = tensor.values::<f32>()?;
            let Some(&cols) = tensor.shape().last() else {
                return Err(tensor.wrong_shape("[..., K]"));
            };
            let amax = quantize::amax(&values);
            if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                let (batch, row, col) = (0, at / cols, at % cols);
                let (operand, value) = (Operand::A, values[at]);
                return Err(tensor.fault(Error::NonFinite { operand, value, batch, row, col }));
            }
            check(tensor.name(), amax)?;
            inputs.insert(tensor.name().to_owned(), Input { amax, cols: Some(cols) });
        }
        Ok(Calibration { inputs })
    }

    /// The largest magnitudes of the inputs of all `weights` (module and K), and those among the
    /// modules, experts without tokens, that have it of other experts.
    pub(super) fn resolve<'a>(
        &self,
        weights: &[(&'a str, usize)],
    ) -> Result<(BTreeMap<&'a str, f32>, Vec<&'a str>)> {
        let mut shared: Vec<_> =
            weights.iter().filter_map(|(m, _)| fused::shared_input(m)).collect();
        shared.dedup();
        let single = shared.len() == 1;
        let mut found = BTreeMap::new();
        let (mut missing, mut borrowed) = (Vec::new(), Vec::new());
        for &(module, k) in weights {
            match self.of(module, single)? {
                None => missing.push(module),
                Some((name, input, of_others)) => {
                    borrowed.extend(of_others.then_some(module));
                    if let Some(cols) = input.cols.filter(|&cols| cols != k) {
                        let reason = format!(
                            "its samples, tensor {name}, have {cols} columns, and K is {k}"
                        );
                        return Err(fault(module, reason));
                    }
                    found.insert(module, input.amax);
                }
            }
        }
        let Some(first) = missing.first() else { return Ok((found, borrowed)) };
        let names = names(first, single).into_iter().flatten().collect::<Vec<_>>().join(", ");
        let more = match missing.len() {
            1 => String::new(),
            n => {
                let listed = missing.iter().skip(1).take(LISTED - 1).copied().collect::<Vec<_>>();
                let rest = if n > LISTED { " and others" } else { "" };
                format!("; {n} layers have none, also {}{rest}", listed.join(", "))
            }
        };
        let reason =
            format!("there are no samples of its input, under none of the names {names}{more}");
        Err(fault(first, reason))
    }

    /// Whether there are samples of the input of a module under a name of its own.
    pub(super) fn knows(&self, module: &str) -> bool {
        names(module, false).iter().flatten().any(|name| self.inputs.contains_key(name))
    }

    /// The name and the input of a module, and whether that is of other experts.
    fn of(&self, module: &str, single: bool) -> Result<Option<(String, Input, bool)>> {
        let mut empty = None;
        for step in names(module, single) {
            let mut found: Vec<_> = step
                .into_iter()
                .filter_map(|name| self.inputs.get(&name).map(|&input| (name, input)))
                .collect();
            if let [(a, _), (b, _)] = &found[..] {
                return Err(fault(module, format!("there are samples both as {a} and as {b}")));
            }
            let Some((name, input)) = found.pop() else { continue };
            if input.amax > 0.0 {
                return Ok(Some((name, input, empty.is_some())));
            }
            if let Some(amax) = self.of_siblings(&name) {
                return Ok(Some((name, Input { amax, ..input }, true)));
            }
            empty.get_or_insert(name);
        }
        let Some(name) = empty else { return Ok(None) };
        let reason = format!(
            "the largest magnitude of its samples, tensor {name}, is 0, and so is that of the layer's \
             other experts: give samples of the layer's input under the name before `.experts`, or exclude \
             the layer"
        );
        Err(fault(module, reason))
    }

    /// The largest among the same inputs of the other experts of a layer.
    fn of_siblings(&self, name: &str) -> Option<f32> {
        let (start, end) = expert(name)?;
        let sibling = |other: &str| {
            expert(other).is_some_and(|(from, to)| {
                other[..from] == name[..start]
                    && other[to..].trim_end_matches(".input")
                        == name[end..].trim_end_matches(".input")
            })
        };
        let others = self.inputs.iter().filter(|(other, _)| sibling(other));
        others.map(|(_, input)| input.amax).filter(|&amax| amax > 0.0).reduce(f32::max)
    }
}

/// Names of samples, in steps; two of one step exclude each other.
fn names(module: &str, single: bool) -> Vec<Vec<String>> {
    let both = |name: &str| vec![format!("{name}.input"), name.to_owned()];
    let mut steps = vec![both(module)];
    if let Some(prefix) = fused::shared_input(module) {
        if !prefix.is_empty() {
            steps.push(both(prefix));
        }
        let expert = prefix.rsplit_once('.').filter(|(_, n)| n.parse::<usize>().is_ok());
        if let Some(layer) = expert.and_then(|(experts, _)| experts.strip_suffix(".experts")) {
            steps.push(both(layer));
        }
    }
    if single && fused::shared_input(module).is_some() {
        steps.push(vec![SINGLE.to_owned()]);
    }
    steps
}

/// Where the number of an expert starts and ends, `N` in `Q.experts.N`.
fn expert(name: &str) -> Option<(usize, usize)> {
    const PART: &str = "experts.";
    let at = match name.rfind(".experts.") {
        Some(dot) => dot + 1,
        None => name.starts_with(PART).then_some(0)?,
    };
    let start = at + PART.len();
    let digits = name[start..].bytes().take_while(u8::is_ascii_digit).count();
    let end = start + digits;
    (digits > 0 && (end == name.len() || name[end..].starts_with('.'))).then_some((start, end))
}

fn check(name: &str, amax: f32) -> Result<()> {
    let untouched = amax == 0.0 && expert(name).is_some();
    if amax.is_finite() && (amax > 0.0 || untouched) {
        return Ok(());
    }
    Err(fault(
        name,
        format!("the largest magnitude of its samples is {amax}, which gives no scale"),
    ))
}

fn fault(module: &str, reason: String) -> Error {
    CheckpointError::Calibration { module: module.to_owned(), reason }.into()
}
