//! What a model's configuration says of the biases of its MLPs.

use serde_json::{Map, Value};

use super::activation;

/// Models that have another key for them. Sources: the classes of `transformers`.
const OTHERS: [(&str, &[&str]); 2] = [
    (
        "use_bias",
        &[
            "ernie4_5",
            "ernie4_5_moe",
            "ernie4_5_vl_moe",
            "ernie4_5_vl_moe_text",
            "paddleocr_vl_text",
        ],
    ),
    ("add_bias_linear", &["zamba2"]),
];

/// Words of the MLP in keys such as `mlp_bias` and `use_ffn_bias`.
const MLP: [&str; 6] = ["mlp", "ffn", "ff", "ffw", "feed", "feedforward"];

/// Words of parts that are no projection: routers, norms, experts' scores.
const ELSEWHERE: [&str; 7] = ["router", "norm", "expert", "experts", "score", "gate", "correction"];

/// The key that says it, and what it says: the first in the objects of a configuration, the innermost of
/// which comes first.
pub(super) fn stated<'a>(chain: &[&'a Map<String, Value>]) -> Option<(&'a str, bool)> {
    let kind = chain.iter().find_map(|config| activation::model_type(config)).unwrap_or_default();
    let is_own = |key: &str| {
        let key = key.to_lowercase();
        let has = |list: &[&str]| key.split('_').any(|word| list.contains(&word));
        let other = OTHERS.iter().find(|(other, _)| *other == key);
        other.is_some_and(|(_, models)| models.contains(&kind))
            || (has(&["bias", "biases"]) && has(&MLP) && !has(&ELSEWHERE))
    };
    chain.iter().find_map(|config| {
        config
            .iter()
            .find_map(|(key, value)| Some((key.as_str(), value.as_bool()?)).filter(|_| is_own(key)))
    })
}
