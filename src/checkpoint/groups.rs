//! The groups of a compressed-tensors configuration, and which of them a module belongs to.

use std::collections::BTreeMap;

use serde_json::Value;

use super::patterns::{Match, Names, Patterns};
use super::verdict::{Refusal, Scheme, Stated, Verdict, agree};
use crate::format::BLOCK;

/// Format name of NVFP4 in compressed-tensors.
const PACKED: &str = "nvfp4-pack-quantized";

/// `config_groups`.
#[derive(Debug)]
pub(super) struct Groups(Vec<Group>);

#[derive(Debug)]
struct Group {
    name: String,
    targets: Patterns,
    /// What its modules are.
    verdict: Verdict,
}

impl Groups {
    /// `file` is for errors, `format` that of the whole configuration. ModelOpt writes groups without
    /// a format.
    pub fn new(file: &str, groups: &BTreeMap<String, Value>, format: Option<&str>) -> Self {
        Groups(groups.iter().map(|(name, group)| Group::new(file, name, group, format)).collect())
    }

    /// What a module is: by the groups that name it, or else by those that name its class, or else by all.
    /// Several have to agree.
    ///
    /// # Errors
    /// A pattern that cannot be read.
    pub fn verdict(&self, names: &Names) -> Result<Verdict, String> {
        let mut found: Vec<(Option<Match>, &Group)> = Vec::new();
        for group in &self.0 {
            found.push((group.targets.find(names)?, group));
        }
        let best = found.iter().map(|(level, _)| *level).max().flatten();
        let mut groups = found.iter().filter(|(level, _)| *level == best).map(|(_, group)| group);
        Ok(groups.try_fold(None, |all, group| {
            let both = group.verdict.clone().and_then(|own| agree(all, own));
            both.map_err(|mut refusal| {
                if best.is_none() {
                    let name = &group.name;
                    refusal.evidence += &format!(" (group {name:?}, and no group's targets match)");
                }
                refusal
            })
        }))
    }
}

impl Group {
    fn new(file: &str, name: &str, group: &Value, format: Option<&str>) -> Self {
        let name = name.to_owned();
        if let Some(targets) = group.as_array() {
            // The short form: the group's name is that of a preset.
            let evidence = format!("{file} has config_groups.{name}");
            let verdict = match name.as_str() {
                "NVFP4" => Ok(Some(Stated { scheme: Scheme::W4A4, evidence })),
                "NVFP4A16" => Ok(Some(Stated { scheme: Scheme::W4A16, evidence })),
                _ => Err(Refusal { scheme: name.clone(), evidence }),
            };
            return Group { targets: Patterns::new(targets), name, verdict };
        }
        let targets = match group.get("targets") {
            None | Some(Value::Null) => Patterns::new(&[Value::from("Linear")]),
            Some(Value::Array(list)) => Patterns::new(list),
            Some(one) => Patterns::new([one]),
        };
        let verdict = verdict(file, &name, group, format);
        Group { name, targets, verdict }
    }
}

/// What a group says: NVFP4 weights, with or without 4-bit activations.
fn verdict(file: &str, name: &str, group: &Value, format: Option<&str>) -> Verdict {
    let at = format!("config_groups.{name}");
    let refuse = |scheme: &str, evidence: String| {
        Err(Refusal { scheme: scheme.to_owned(), evidence: format!("{file} {evidence}") })
    };
    let stated = |key: &str| group.get(key).filter(|value| !value.is_null());
    let own = group.get("format").and_then(Value::as_str);
    if let Some(refusal) = own.or(format).and_then(|format| by_format(file, format)) {
        return Err(refusal);
    }
    let (weights, input) = (stated("weights"), stated("input_activations"));
    if let Some(weights) = weights
        && let Some(refusal) = numbers(file, &at, "weights", weights, input)
    {
        return Err(refusal);
    }
    if let Some(input) = input {
        // The default of compressed-tensors is 8 bits.
        if input.get("num_bits").is_none_or(Value::is_null) {
            let evidence = format!("says {at}.input_activations {input}, without num_bits");
            return refuse("NVFP4 weights with unknown activations", evidence);
        }
        if let Some(refusal) = numbers(file, &at, "input_activations", input, Some(input)) {
            return Err(refusal);
        }
    }
    if stated("output_activations").is_some() {
        return refuse("NVFP4 with quantized outputs", format!("has {at}.output_activations"));
    }
    if group.get("has_zero_point").and_then(Value::as_bool) == Some(true) {
        return refuse("an asymmetric format", format!("says {at}.has_zero_point true"));
    }
    let (scheme, evidence) = match (weights, input) {
        (_, Some(_)) => (Scheme::W4A4, format!("has input_activations of 4 bits in {at}")),
        (Some(_), None) => (Scheme::W4A16, format!("has no input_activations in {at}")),
        (None, None) => {
            let evidence = format!("has neither weights nor input_activations in {at}");
            return refuse("of an unknown scheme", evidence);
        }
    };
    Ok(Some(Stated { scheme, evidence: format!("{file} {evidence}") }))
}

/// Why a format is not NVFP4's, if it is not. `mixed-precision` leaves it to the groups.
pub(super) fn by_format(file: &str, format: &str) -> Option<Refusal> {
    let scheme = match format {
        PACKED | "mixed-precision" => return None,
        "mxfp4-pack-quantized" => "MXFP4",
        other => other,
    };
    let (scheme, evidence) = (scheme.to_owned(), format!("{file} says format {format:?}"));
    Some(Refusal { scheme, evidence })
}

/// `weights` or `input_activations`: 4-bit floats, symmetric, 16 to a scale.
fn numbers(file: &str, at: &str, what: &str, of: &Value, input: Option<&Value>) -> Option<Refusal> {
    let refuse = |scheme: String, key: &str| {
        let value = of.get(key).cloned().unwrap_or_default();
        let evidence = format!("{file} says {at}.{what}.{key} {value}");
        Some(Refusal { scheme, evidence })
    };
    let bits = |of: &Value| of.get("num_bits").and_then(Value::as_u64);
    if of.get("num_bits").is_some_and(|b| !b.is_null()) && bits(of) != Some(4) {
        let shown = |bits: Option<u64>| bits.map_or("?".to_owned(), |bits| bits.to_string());
        let scheme = match what {
            "weights" => format!("W{}A{}", shown(bits(of)), shown(input.map_or(Some(16), bits))),
            _ => format!("W4A{}_NVFP4", shown(bits(of))),
        };
        return refuse(scheme, "num_bits");
    }
    let text = |key: &str| of.get(key).and_then(Value::as_str);
    if text("type").is_some_and(|kind| kind != "float") {
        return refuse("INT4".to_owned(), "type");
    }
    if of.get("symmetric").and_then(Value::as_bool) == Some(false) {
        return refuse("an asymmetric format".to_owned(), "symmetric");
    }
    if text("strategy").is_some_and(|s| !matches!(s, "tensor_group" | "group")) {
        return refuse("FP4 without groups of 16".to_owned(), "strategy");
    }
    group_size(file, of)
}

/// `"group_size": 16`, or nothing.
pub(super) fn group_size(file: &str, config: &Value) -> Option<Refusal> {
    let size = config.get("group_size").filter(|g| !g.is_null())?;
    (size.as_u64() != Some(BLOCK as u64)).then(|| Refusal {
        scheme: format!("FP4 with groups of {size}"),
        evidence: format!("{file} says group_size {size}, and NVFP4 has 16"),
    })
}
