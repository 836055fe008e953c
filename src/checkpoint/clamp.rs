//! The limits of clamped SwiGLU: which keys hold them, and what they mean by the `model_type`.

use serde_json::{Map, Value};

use super::keys::is_on;
use super::place::{Kind, Place};
use crate::glu::Glu;

/// Keys of limits and of the parameters that go with them.
pub(super) const KEYS: [&str; 7] = [
    "swiglu_limit",
    "swiglu_alpha",
    "swiglu_beta",
    "swiglu_limits",
    "swiglu_limits_shared",
    "expert_swiglu_limit_list",
    "share_expert_swiglu_limit_list",
];

/// How the MLPs of a family of models clamp. Sources: the models of `transformers` and vLLM.
struct Family {
    /// `model_type`, of the whole model or of its language model.
    models: &'static [&'static str],
    /// Limit where the configuration has none, for models that always clamp.
    limit: Option<f64>,
    /// Slope of the sigmoid, and offset of the up projection.
    alpha: f64,
    beta: f64,
    /// Whether `swiglu_alpha` and `swiglu_beta` are read.
    parameters: bool,
    /// Whether routed experts alone are clamped.
    routed_only: bool,
    /// Keys with a limit for each layer: of routed experts, of shared ones, of dense layers.
    lists: [&'static str; 3],
    /// Whether `silu(gate)` is clamped instead of `gate`, which no gate computes.
    after_activation: bool,
}

/// Plain SwiGLU, unless `swiglu_limit` or an entry of its list says otherwise.
const NO_CLAMP: Family = Family {
    models: &[],
    limit: None,
    alpha: 1.0,
    beta: 0.0,
    parameters: false,
    routed_only: false,
    lists: ["swiglu_limits"; 3],
    after_activation: false,
};

const FAMILIES: [Family; 7] = [
    Family {
        models: &["deepseek_v4", "glm5_next", "glm5_next_text", "glm5_next_vision"],
        limit: Some(10.0),
        ..NO_CLAMP
    },
    Family {
        models: &["exaone_moe", "deepseek_v3", "deepseek_v32", "glm4_moe", "glm_moe_dsa"],
        ..NO_CLAMP
    },
    Family {
        models: &["hy_v4", "hy_v4_vl", "hy_v4_vl_text"],
        limit: Some(10.0),
        routed_only: true,
        ..NO_CLAMP
    },
    Family {
        models: &["gpt_oss", "openai_privacy_filter"],
        limit: Some(7.0),
        alpha: 1.702,
        beta: 1.0,
        parameters: true,
        ..NO_CLAMP
    },
    Family {
        models: &["minimax_m3", "minimax_m3_vl", "minimax_m3_vl_text"],
        limit: Some(7.0),
        alpha: 1.702,
        beta: 1.0,
        parameters: true,
        ..NO_CLAMP
    },
    Family {
        models: &["step3p5", "step3p7", "step3p7_text", "step5"],
        lists: ["swiglu_limits", "swiglu_limits_shared", "swiglu_limits_shared"],
        after_activation: true,
        ..NO_CLAMP
    },
    Family {
        models: &["bailing_moe_v3", "bailing_hybrid"],
        lists: ["expert_swiglu_limit_list", "share_expert_swiglu_limit_list", ""],
        after_activation: true,
        ..NO_CLAMP
    },
];

/// What a configuration says of clamping at one place.
#[derive(Debug, PartialEq)]
pub(super) enum Clamp {
    /// Nothing is clamped.
    Off,
    /// This gate, in place of SiLU.
    Glu(Glu),
}

/// Whether the activation of this model is said by its clamp alone.
pub(super) fn is_implied(model_type: &str) -> bool {
    family(model_type).is_some_and(|family| family.limit.is_some())
}

fn family(model_type: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.models.contains(&model_type))
}

/// The clamp at `place` by the objects of a configuration, the innermost first, and the innermost
/// `model_type`s.
///
/// # Errors
/// Why it cannot be told or computed.
pub(super) fn of(
    chain: &[&Map<String, Value>],
    model_types: &[&str],
    place: &Place,
) -> Result<Clamp, String> {
    let stated = |key: &str| chain.iter().find_map(|c| c.get(key).filter(|v| !v.is_null()));
    let family = model_types.iter().find_map(|kind| family(kind));
    let lists: Vec<&str> =
        KEYS[3..].iter().copied().filter(|k| stated(k).is_some_and(|v| is_on(v, false))).collect();
    let single = stated("swiglu_limit");
    let mut key = "swiglu_limit";
    let mut limit = single.map(|value| number(key, value)).transpose()?.flatten();
    let silent = !chain.iter().any(|config| config.contains_key("swiglu_limit"));
    let mut default = family.and_then(|family| family.limit).filter(|_| silent);
    if let Some(first) = lists.first() {
        let Some(family) = family else {
            return Err(format!("{first} is given, and how this model clamps is not known"));
        };
        if let Some(other) = lists.iter().find(|list| !family.lists.contains(list)) {
            return Err(format!("{other} is given, which this model is not known to read"));
        }
        if limit.is_some() {
            return Err(format!("both swiglu_limit and {first} are given"));
        }
        let Some(kind) = place.kind else {
            return Err(format!("{first} has a limit for each layer"));
        };
        let [routed, shared, dense] = family.lists;
        let own = match kind {
            Kind::Routed => routed,
            Kind::Shared => shared,
            Kind::Dense => dense,
        };
        if let Some(list) = stated(own) {
            (key, default) = (own, None);
            limit = in_list(own, list, place)?;
        }
    }
    let Some(limit) = limit.or(default) else {
        let left = ["swiglu_alpha", "swiglu_beta"].iter().find(|key| stated(key).is_some());
        return match (left, family) {
            (Some(key), None) => Err(format!("{key} is given, and no swiglu_limit")),
            (_, Some(family)) if (family.alpha, family.beta) != (1.0, 0.0) => {
                Err(format!("{key} is off, and without it no gate has the slope of this model"))
            }
            _ => Ok(Clamp::Off),
        };
    };
    let Some(family) = family else {
        return Err(format!("{key} is {limit}, and how this model clamps is not known"));
    };
    if family.after_activation {
        return Err(format!("{key} is {limit}: it clamps silu(gate), which no gate computes"));
    }
    if family.routed_only {
        match place.kind {
            Some(Kind::Routed) => {}
            Some(_) => return Ok(Clamp::Off),
            None => return Err(format!("{key} is {limit} for routed experts alone")),
        }
    }
    let parameter = |key: &str, default: f64| match stated(key) {
        None => Ok(default),
        Some(value) => {
            let value = value.as_f64().filter(|v| v.is_finite());
            let value = value.ok_or_else(|| format!("{key} is no number"))?;
            match family.parameters || value == default {
                true => Ok(value),
                false => Err(format!("{key} is {value}, which this model is not known to read")),
            }
        }
    };
    let (alpha, beta) =
        (parameter("swiglu_alpha", family.alpha)?, parameter("swiglu_beta", family.beta)?);
    let gate = Glu::ClampedSwiglu { limit: limit as f32, slope: alpha as f32, offset: beta as f32 };
    gate.validate().map_err(|error| format!("{key}: {error}"))?;
    Ok(Clamp::Glu(gate))
}

/// The entry of a layer.
fn in_list(key: &str, list: &Value, place: &Place) -> Result<Option<f64>, String> {
    let Some(list) = list.as_array() else { return number(key, list) };
    let Some(layer) = place.layer else {
        return Err(format!("{key} has a limit for each layer"));
    };
    let entry = list.get(layer);
    let entry =
        entry.ok_or_else(|| format!("{key} has {} limits, none for layer {layer}", list.len()))?;
    number(key, entry)
}

/// A limit; none where it is null, zero or infinite.
fn number(key: &str, value: &Value) -> Result<Option<f64>, String> {
    match value {
        Value::Null | Value::Bool(false) => Ok(None),
        Value::String(text) if text.to_lowercase().trim_start_matches('+').starts_with("inf") => {
            Ok(None)
        }
        _ => match value.as_f64() {
            Some(limit) if limit == 0.0 || limit == f64::INFINITY => Ok(None),
            Some(limit) if limit > 0.0 => Ok(Some(limit)),
            _ => Err(format!("{key} is {value}, which is no limit")),
        },
    }
}
