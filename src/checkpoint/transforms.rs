//! Transforms that a compressed-tensors configuration applies to activations while the model runs.

use serde_json::{Map, Value};

use super::patterns::{Match, Names, Patterns};

/// Locations at which the output of a module is transformed.
const OUTPUTS: [&str; 2] = ["output", "weight_output"];

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
/// A transform at `weight_input` is folded into the stored weight. It is let be if the same scheme
/// transforms the outputs of modules, whose sum this module's input then is.
/// At `weight_output` the gate would see a transformed product, which only a transform at `output`
/// could undo.
///
/// `around` are the names of the MLP and of the mixture that it belongs to, whose input is that of gate
/// and up.
pub(super) fn objection(
    file: &str,
    quantization: &Map<String, Value>,
    names: &Names,
    around: &[Names],
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
            let undone = || applied.iter().any(|a| OUTPUTS.contains(&self::location(a)));
            if matches!(location, "k_cache" | "q_attn") || location == "weight_input" && undone() {
                continue;
            }
            let list = |key: &str| match apply.get(key) {
                Some(Value::Array(list)) => Patterns::new(list),
                Some(Value::Null) | None => Patterns::default(),
                Some(one) => Patterns::new([one]),
            };
            let (targets, ignore) = (list("targets"), list("ignore"));
            let input = location == "input";
            if let Some(class) = targets.classes().find(|class| input && !is_elsewhere(class)) {
                return Some(format!(
                    "{file} has transform_config.config_groups.{name}, which transforms the input of \
                     every {class}, and what that is is not known"
                ));
            }
            let found = hit(&targets, &ignore, names).and_then(|own| {
                let outer = around.iter().filter(|_| input);
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
