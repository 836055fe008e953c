//! Keys of a configuration that look as if they changed an MLP's arithmetic, and are not known.

use serde_json::{Map, Value};

/// What can be done about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Giving the gate answers it.
    Gate,
    /// It has to be named.
    Ignore,
}

/// What a key that is not known has in it, and what answers it.
const PATTERNS: [(&str, Remedy); 25] = [
    ("swiglu", Remedy::Gate),
    ("geglu", Remedy::Gate),
    ("reglu", Remedy::Gate),
    ("glu_limit", Remedy::Gate),
    ("glu_alpha", Remedy::Gate),
    ("glu_beta", Remedy::Gate),
    ("clamp", Remedy::Gate),
    ("softcap", Remedy::Gate),
    ("act_limit", Remedy::Gate),
    ("act_clip", Remedy::Gate),
    ("act_alpha", Remedy::Gate),
    ("act_beta", Remedy::Gate),
    ("activation_limit", Remedy::Gate),
    ("activation_clip", Remedy::Gate),
    ("activation_alpha", Remedy::Gate),
    ("activation_beta", Remedy::Gate),
    ("activation_scale", Remedy::Gate),
    ("gate_limit", Remedy::Gate),
    ("mlp_limit", Remedy::Gate),
    ("multiplier", Remedy::Ignore),
    ("sparsity", Remedy::Ignore),
    ("transform", Remedy::Ignore),
    ("hadamard", Remedy::Ignore),
    ("rotat", Remedy::Ignore),
    ("clipped_linear", Remedy::Ignore),
];

/// Words of keys about something else than gate and up: attention, embeddings, logits, the residual
/// stream, routing, state spaces, other modalities, training.
const ELSEWHERE: [&str; 35] = [
    "attention",
    "attn",
    "qkv",
    "kqv",
    "kv",
    "qk",
    "query",
    "rope",
    "rotary",
    "position",
    "embedding",
    "embeddings",
    "embed",
    "emb",
    "logit",
    "logits",
    "router",
    "routed",
    "routing",
    "residual",
    "vision",
    "visual",
    "image",
    "video",
    "audio",
    "speech",
    "ssm",
    "mamba",
    "conv",
    "loss",
    "initializer",
    "gradient",
    "grad",
    "dropout",
    "tokenizer",
];

/// Words of keys whose multiplier or limit is one of sizes.
const SIZES: [&str; 9] =
    ["depth", "depthwise", "width", "channel", "dim", "size", "vocab", "len", "length"];

/// Whole keys that are known to be inert: the multipliers of keys and of the head in Falcon-H1, that of
/// the logits in Muse and Grok, the count of experts of pruned models, and a plain statement that the MLP is a
/// SwiGLU.
const INERT: [&str; 10] = [
    "key_multiplier",
    "output_multiplier",
    "output_multiplier_scale",
    "lm_head_multiplier",
    "moe_sparsity_config",
    "swiglu",
    "use_swiglu",
    "fuse_swiglu",
    "use_swiglu_ffn",
    "fused_swiglu",
];

/// Objects that say nothing of an MLP of the language model.
const FOREIGN: [&str; 25] = [
    "label",
    "auto_map",
    "task_specific",
    "rope",
    "rotary",
    "vision",
    "visual",
    "vit",
    "image",
    "video",
    "audio",
    "speech",
    "attn",
    "attention",
    "quant",
    "compression",
    "tokenizer",
    "generation",
    "projector",
    "ssm",
    "mamba",
    "talker",
    "embd",
    "embed",
    "img",
];

/// Whether a key of an object needs no answer.
type Skip<'a> = dyn Fn(&Map<String, Value>, &str, Remedy) -> bool + 'a;

/// The first unknown key in `config`, which stands at `path`, that switches something on; with what
/// answers it. `skip` says which keys are looked at elsewhere or have been answered.
pub(super) fn suspicious<'a>(
    config: &'a Map<String, Value>,
    path: &str,
    skip: &Skip<'_>,
) -> Option<(String, &'a Value, Remedy)> {
    for (key, value) in config {
        let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if let Some(remedy) = pattern(key) {
            if is_on(value, key.contains("multiplier")) && !skip(config, key, remedy) {
                return Some((at, value, remedy));
            }
            continue;
        }
        if FOREIGN.iter().any(|word| key.contains(word)) {
            continue;
        }
        let inner = match value {
            Value::Array(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        let mut objects = inner.iter().filter_map(Value::as_object);
        if let Some(found) = objects.find_map(|object| suspicious(object, &at, skip)) {
            return Some(found);
        }
    }
    None
}

/// What answers a key of this kind, if it is of this kind.
fn pattern(key: &str) -> Option<Remedy> {
    let key = key.to_lowercase();
    let has = |words: &[&str]| key.split('_').any(|word| words.contains(&word));
    if INERT.contains(&key.as_str()) || has(&ELSEWHERE) {
        return None;
    }
    // A transformer is no transform.
    let bare = key.replace("transformer", "");
    let &(word, remedy) = PATTERNS.iter().find(|(word, _)| bare.contains(word))?;
    let size = matches!(word, "multiplier" | "clamp") && has(&SIZES);
    (!size).then_some(remedy)
}

/// Whether a value switches anything on. A `factor` of 1 does not.
pub(super) fn is_on(value: &Value, factor: bool) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(n) => n.as_f64().is_none_or(|n| n != 0.0 && !(factor && n == 1.0)),
        Value::String(text) => !matches!(text.to_lowercase().as_str(), "" | "none" | "false"),
        Value::Array(list) => list.iter().any(|value| is_on(value, factor)),
        Value::Object(object) => object.values().any(|value| is_on(value, factor)),
    }
}
