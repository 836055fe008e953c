//! Keys of a configuration that look as if they changed an MLP's arithmetic, and are not known.

use serde_json::{Map, Value};

use super::arithmetic::TEXT;

/// What can be done about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Giving the gate answers it.
    Glu,
    /// It has to be named.
    Ignore,
}

/// What a key that is not known has in it, and what answers it.
const PATTERNS: [(&str, Remedy); 29] = [
    ("swiglu", Remedy::Glu),
    ("geglu", Remedy::Glu),
    ("reglu", Remedy::Glu),
    ("glu_limit", Remedy::Glu),
    ("glu_alpha", Remedy::Glu),
    ("glu_beta", Remedy::Glu),
    ("clamp", Remedy::Glu),
    ("softcap", Remedy::Glu),
    ("act_limit", Remedy::Glu),
    ("act_clip", Remedy::Glu),
    ("act_alpha", Remedy::Glu),
    ("act_beta", Remedy::Glu),
    ("activation_limit", Remedy::Glu),
    ("activation_clip", Remedy::Glu),
    ("activation_alpha", Remedy::Glu),
    ("activation_beta", Remedy::Glu),
    ("activation_scale", Remedy::Glu),
    ("gate_limit", Remedy::Glu),
    ("mlp_limit", Remedy::Glu),
    ("multiplier", Remedy::Ignore),
    ("sparsity", Remedy::Ignore),
    ("transform", Remedy::Ignore),
    ("hadamard", Remedy::Ignore),
    ("rotat", Remedy::Ignore),
    ("quarot", Remedy::Ignore),
    ("spinquant", Remedy::Ignore),
    ("flatquant", Remedy::Ignore),
    ("ostquant", Remedy::Ignore),
    ("clipped_linear", Remedy::Ignore),
];

/// Words of keys about something else than gate and up: attention, embeddings, logits, the residual
/// stream, routing, state spaces, other modalities, training.
const ELSEWHERE: [&str; 36] = [
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
    "fusion",
];

/// Words of the MLP: of it, of its parts, and of its functions.
const MLP: [&str; 23] = [
    "mlp",
    "mlps",
    "ffn",
    "ff",
    "ffw",
    "feedforward",
    "feed",
    "moe",
    "expert",
    "experts",
    "intermediate",
    "linear",
    "gate",
    "up",
    "glu",
    "act",
    "activation",
    "activations",
    "silu",
    "swish",
    "gelu",
    "relu",
    "sigmoid",
];

/// What a number does to the values in an MLP.
const EFFECTS: [&str; 11] = [
    "limit",
    "limits",
    "cap",
    "threshold",
    "offset",
    "shift",
    "alpha",
    "beta",
    "scale",
    "scaling",
    "scaler",
];
const CLIPS: [&str; 5] = ["clip", "clips", "clipped", "clipping", "clamp"];

/// Words of keys with an activation, a limit or a scale that is not of gate and up: that of another
/// part, of the choice of experts, of norms and of training.
const OTHERS: [&str; 51] = [
    "layernorm",
    "pooler",
    "pooling",
    "projector",
    "projection",
    "classifier",
    "summary",
    "head",
    "adapter",
    "lora",
    "feat",
    "mask",
    "memory",
    "prompt",
    "segmentation",
    "readout",
    "encoder",
    "csp",
    "nemo",
    "altup",
    "rel",
    "weight",
    "weights",
    "score",
    "scores",
    "aux",
    "balance",
    "group",
    "groups",
    "device",
    "devices",
    "node",
    "token",
    "tokens",
    "capacity",
    "norm",
    "std",
    "init",
    "lr",
    "frames",
    "skip",
    "time",
    "checkpoint",
    "checkpointing",
    "recompute",
    "offload",
    "offloading",
    "dtype",
    "quant",
    "quantization",
    "jitter",
];

/// Whole keys that say whether the MLP has a gate, as those with the word `gated` do.
const GATED: [&str; 4] = ["swiglu", "use_swiglu", "use_swiglu_ffn", "is_glu"];

/// Objects that are no part of the decoder's layers, beside [`FOREIGN`] and those with a `model_type` of
/// their own.
const PARTS: [&str; 14] = [
    "former",
    "resampler",
    "perceiver",
    "connector",
    "adapter",
    "bridge",
    "codec",
    "encoder",
    "backbone",
    "pool",
    "head",
    "loss",
    "train",
    "optim",
];

/// Words of keys whose multiplier or limit is one of sizes.
const SIZES: [&str; 9] =
    ["depth", "depthwise", "width", "channel", "dim", "size", "vocab", "len", "length"];

/// Whole keys that are known to be inert: the multipliers of keys and of the head in Falcon-H1, that of
/// the logits in Muse and Grok, those of the sum after the MLP in MiniMax, the count of experts of pruned models, and a plain statement that the MLP is a
/// SwiGLU.
const INERT: [&str; 12] = [
    "mlp_alpha_factor",
    "mlp_beta_factor",
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

/// What is looked for, and where.
pub(super) struct Scan<'a> {
    /// Keys that are looked at elsewhere, or have been answered.
    pub skip: &'a Skip<'a>,
    /// Whether it is the configuration of a model and not that of its quantization, whose activations
    /// and scales are those of the format.
    pub model: bool,
    /// Number of the layer, if one is read.
    pub layer: Option<usize>,
}

impl Scan<'_> {
    /// The first unknown key in `config` that switches something on; with what answers it.
    pub fn first<'a>(&self, config: &'a Map<String, Value>) -> Option<(String, &'a Value, Remedy)> {
        self.within(config, "", self.model)
    }

    /// The same in the object at `path`; `own` is whether it speaks of the layers themselves.
    fn within<'a>(
        &self,
        config: &'a Map<String, Value>,
        path: &str,
        own: bool,
    ) -> Option<(String, &'a Value, Remedy)> {
        for (key, value) in config {
            let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let known = pattern(key);
            let remedy = match known {
                Some(_) => known.filter(|_| is_on(value, key.contains("multiplier"))),
                None if own => of_mlp(key, value),
                None => None,
            };
            if let Some(remedy) = remedy
                && !(self.skip)(config, key, remedy)
            {
                return Some((at, value, remedy));
            }
            if known.is_some() || FOREIGN.iter().any(|word| key.contains(word)) {
                continue;
            }
            // Objects of the language model are looked at for themselves.
            let part = PARTS.iter().any(|word| key.contains(word)) || TEXT.contains(&key.as_str());
            let inner = match value {
                Value::Array(list) => self.of_layer(key, list),
                one => std::slice::from_ref(one),
            };
            let found = inner.iter().filter_map(Value::as_object).find_map(|object| {
                let own = own && !part && !object.contains_key("model_type");
                self.within(object, &at, own)
            });
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The entry of the layer in a list with one for each, or all entries.
    fn of_layer<'a>(&self, key: &str, list: &'a [Value]) -> &'a [Value] {
        let each = key.contains("block") || key.contains("layer");
        let own = self.layer.filter(|_| each).and_then(|layer| list.get(layer));
        own.map_or(list, std::slice::from_ref)
    }
}

/// What answers a key by which an MLP may have another activation, limits, a scale or no gate, if this
/// is one and its value says so.
fn of_mlp(key: &str, value: &Value) -> Option<Remedy> {
    let key = key.to_lowercase();
    let words: Vec<&str> = key.split('_').collect();
    let has = |list: &[&str]| words.iter().any(|word| list.contains(word));
    if has(&ELSEWHERE) || has(&OTHERS) {
        return None;
    }
    let gated = key == "gated" || (has(&["gated"]) && has(&MLP)) || has(&["glu"]);
    if let Value::Bool(on) = value
        && (gated || GATED.contains(&key.as_str()))
    {
        return (!on).then_some(Remedy::Ignore);
    }
    if INERT.contains(&key.as_str()) || !is_on(value, false) {
        return None;
    }
    let first = value.as_array().and_then(|list| list.iter().find(|v| !v.is_null()));
    let number = first.unwrap_or(value).is_number();
    let names =
        has(&["act", "glu"]) || ["act_fn", "actfn", "activation"].iter().any(|w| key.contains(w));
    if names && !number {
        return Some(Remedy::Glu);
    }
    if has(&CLIPS) && !has(&SIZES) && (number || has(&MLP)) {
        return Some(Remedy::Glu);
    }
    let scale = has(&["scale", "scaling", "scaler"]);
    // Which layers have experts is counted with offsets, too.
    let count = has(&["layer", "layers", "period", "step"]);
    let effect = !count && number && is_on(value, scale) && has(&MLP) && has(&EFFECTS);
    effect.then_some(if scale { Remedy::Ignore } else { Remedy::Glu })
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
