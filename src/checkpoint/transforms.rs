//! Transforms that a compressed-tensors configuration applies to activations while the model runs.

use serde_json::{Map, Value};

use super::patterns::{Match, Names, Patterns};

/// Locations at which the output of a module is transformed.
const OUTPUTS: [&str; 2] = ["output", "weight_output"];

/// Locations at which the input of a module is transformed.
const INPUTS: [&str; 2] = ["input", "weight_input"];

/// Projections of an MLP that are looked at together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Gate and up, whose input is that of the MLP.
    GateUp,
    /// Down, whose output is that of the MLP.
    Down,
}

impl Side {
    /// Whether a transform at `location` is folded into the stored weight and undone by another of the
    /// same scheme: that of the residual stream, which every module around it reads or writes.
    fn is_folded(self, location: &str, applied: &[Value]) -> bool {
        let (own, others) = match self {
            Side::GateUp => ("weight_input", OUTPUTS),
            Side::Down => ("weight_output", INPUTS),
        };
        location == own && applied.iter().any(|a| others.contains(&self::location(a)))
    }

    /// The location at which a transform of the whole MLP acts on this side.
    fn of_mlp(self) -> &'static str {
        match self {
            Side::GateUp => "input",
            Side::Down => "output",
        }
    }
}

fn location(apply: &Value) -> &str {
    apply.get("location").and_then(Value::as_str).unwrap_or_default()
}

/// Whether modules of a class are neither an MLP nor one of its projections.
fn is_elsewhere(class: &str) -> bool {
    let ends = ["Norm", "Embedding", "Conv1d", "Conv2d", "Conv3d", "Router", "Linear", "LMHead"];
    class.contains("Attention") || ends.iter().any(|end| class.ends_with(end))
}

/// How targets speak of a module that is not among those to ignore.
fn hit(targets: &Patterns, ignore: &Patterns, names: &Names) -> Result<Option<Match>, String> {
    let ignored = ignore.find(names)?.is_some();
    Ok(targets.find(names)?.filter(|_| !ignored))
}

/// Why the modules with these names compute something else than a product, if `quantization`, the
/// object of a `file`, says so.
///
/// A transform at `weight_input` is folded into the stored weight. Of gate and up it is let be if the same
/// scheme transforms the outputs of modules, whose sum their input then is; of down, one at `weight_output`
/// if it transforms the inputs of the modules that read the sum.
/// At `weight_output` of gate and up the gate would see a transformed product, and at `weight_input` down
/// would expect one, which only a transform while the model runs could make up for.
///
/// `around` are the names of the MLP and of the mixture that it belongs to, whose input is that of gate
/// and up, and whose output is that of down.
pub(super) fn objection(
    file: &str,
    quantization: &Map<String, Value>,
    names: &Names,
    around: &[Names],
    side: Side,
) -> Option<String> {
    let config = quantization.get("transform_config").filter(|config| !config.is_null())?;
    let unknown = || Some(format!("{file} has a transform_config that is not understood"));
    let Some(config) = config.as_object() else { return unknown() };
    let groups = match config.get("config_groups") {
        None | Some(Value::Null) if config.values().all(Value::is_null) => return None,
        Some(Value::Object(groups)) => groups,
        _ => return unknown(),
    };
    for (name, scheme) in groups {
        let Some(applied) = scheme.get("apply").and_then(Value::as_array) else { return unknown() };
        for apply in applied {
            let location = location(apply);
            if matches!(location, "k_cache" | "q_attn") || side.is_folded(location, applied) {
                continue;
            }
            let list = |key: &str| match apply.get(key) {
                Some(Value::Array(list)) => Patterns::new(list),
                Some(Value::Null) | None => Patterns::default(),
                Some(one) => Patterns::new([one]),
            };
            let (targets, ignore) = (list("targets"), list("ignore"));
            let of_mlp = location == side.of_mlp();
            if let Some(class) = targets.classes().find(|class| of_mlp && !is_elsewhere(class)) {
                return Some(format!(
                    "{file} has transform_config.config_groups.{name}, which transforms the {location} of \
                     every {class}, and what that is is not known"
                ));
            }
            let found = hit(&targets, &ignore, names).and_then(|own| {
                let outer = around.iter().filter(|_| of_mlp);
                let mut hits = outer.map(|names| hit(&targets, &ignore, names));
                // The class `Linear` is not that of a module around one.
                let by_name = hits.try_fold(false, |any, level| {
                    Ok::<_, String>(any || level? > Some(Match::Class))
                })?;
                Ok(own.is_some() || by_name)
            });
            match found {
                Ok(false) => {}
                Ok(true) => {
                    return Some(format!(
                        "{file} has transform_config.config_groups.{name}, which transforms at \
                         {location}"
                    ));
                }
                Err(pattern) => {
                    return Some(format!(
                        "{file} has the pattern {pattern:?} in transform_config, which cannot be read"
                    ));
                }
            }
        }
    }
    None
}
