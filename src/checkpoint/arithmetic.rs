//! What a model's configuration says of the arithmetic of its MLPs.

use serde_json::{Map, Value};

use super::activation::{self, Unknown};
use super::bias;
use super::clamp::{self, Clamp};
use super::keys::{self, Remedy, Scan};
use super::modality::{self, Modality};
use super::options::LayerOptions;
use super::place::{Kind, Place};
use crate::glu::Glu;

/// Objects of a configuration that hold that of the language model.
pub(super) const TEXT: [&str; 9] = [
    "text_config",
    "llm_config",
    "language_config",
    "language_model_config",
    "lm_config",
    "llm_cfg",
    "text_cfg",
    "thinker_config",
    "decoder_config",
];

/// The same for pictures and sounds.
const VISION: [&str; 6] = [
    "vision_config",
    "visual_config",
    "vision_tower_config",
    "vit_config",
    "vision_cfg",
    "vision_encoder",
];
const AUDIO: [&str; 4] = ["audio_config", "audio_encoder_config", "speech_config", "audio_cfg"];

/// Parts of models with several language models, whose objects have the name of the part.
const NAMED: [&str; 3] = ["thinker", "talker", "code_predictor"];

/// How to answer what is not known of a gate.
const GATE: &str = "give the GLU yourself (--glu, LayerOptions::glu)";

/// Keys that [`Model::at`] reads itself.
const KNOWN: [&str; 2] = ["mlp_multipliers", "activation_sparsity_pattern"];

/// `config.json`, and Mistral's `params.json`.
#[derive(Debug, Default)]
pub(super) struct Model {
    files: Vec<(&'static str, Map<String, Value>)>,
}

/// What a layer computes beside its products.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Arithmetic {
    /// The gate, if anything is said of it.
    pub gate: Option<Glu>,
    /// Factor on the gate projection's product.
    pub gate_multiplier: f32,
    /// Factor on the down projection's product.
    pub down_multiplier: f32,
}

/// Why a configuration is not followed.
#[derive(Debug, PartialEq)]
pub(super) enum Objection {
    /// The activation is one that no gate computes.
    Activation(String),
    /// Something else, in words.
    Other(String),
}

impl Model {
    /// Takes the files in the order in which they count.
    pub fn new(files: Vec<(&'static str, Map<String, Value>)>) -> Self {
        Model { files }
    }

    /// The arithmetic of the layer at `prefix`, or what all layers of the language model have in
    /// common.
    pub fn at(
        &self,
        prefix: Option<&str>,
        options: &LayerOptions,
    ) -> Result<Arithmetic, Objection> {
        let place = prefix.map(Place::of).unwrap_or_default();
        let mut all = Arithmetic { gate: options.glu, gate_multiplier: 1.0, down_multiplier: 1.0 };
        for (file, config) in &self.files {
            let chain = chain(config, prefix.unwrap_or_default());
            let says = |reason: String| Objection::Other(format!("{file}: {reason}"));
            if options.glu.is_none() {
                let own = gate(&chain, &place).map_err(|objection| match objection {
                    Objection::Other(reason) => says(format!("{reason}; {GATE}")),
                    activation => activation,
                })?;
                if own.zip(all.gate).is_some_and(|(own, other)| own != other) {
                    let reason = "its gate is another than that of the other configuration";
                    return Err(says(format!("{reason}; {GATE}")));
                }
                all.gate = all.gate.or(own);
            }
            let ignore = |key: &str| {
                format!("say that it is to be ignored (--ignore-key {key}, LayerOptions::ignore)")
            };
            let key = "mlp_multipliers";
            if !options.ignores(key) {
                let found = multipliers(&chain);
                let found = found.map_err(|reason| says(format!("{reason}; {}", ignore(key))))?;
                if let Some((gate, down)) = found {
                    (all.gate_multiplier, all.down_multiplier) = (gate, down);
                }
            }
            let key = "activation_sparsity_pattern";
            if !options.ignores(key) {
                let found = sparsity(&chain, &place);
                found.map_err(|reason| says(format!("{reason}; {}", ignore(key))))?;
            }
            let skip = |object: &Map<String, Value>, key: &str, remedy: Remedy| {
                let answered = remedy == Remedy::Glu && options.glu.is_some();
                // What stands elsewhere has not been looked at.
                let seen = chain.iter().any(|config| std::ptr::eq(*config, object));
                let known = KNOWN.contains(&key)
                    || clamp::KEYS.contains(&key)
                    || activation::KEYS.contains(&key);
                let same = || {
                    let named = object.get(key).and_then(|v| activation::named(v, place.layer));
                    named.is_some_and(|named| says_the_same(named, all.gate.unwrap_or_default()))
                };
                answered || (seen && known) || options.ignores(key) || same()
            };
            let scan = Scan { skip: &skip, model: true, layer: place.layer };
            let found = chain.iter().find_map(|config| scan.first(config));
            if let Some((key, value, remedy)) = found {
                let last = key.rsplit('.').next().unwrap_or(&key);
                let remedy = match remedy {
                    Remedy::Glu => format!("{GATE}, or {}", ignore(last)),
                    Remedy::Ignore => ignore(last),
                };
                return Err(says(format!("{key} is {value}, which is not understood; {remedy}")));
            }
        }
        Ok(all)
    }

    /// What the configuration says of the biases of the layer at `prefix` that its tensors do not; `found` is
    /// whether each projection has one. Experts are passed over: their classes read other keys.
    pub fn objection_to_biases(
        &self,
        prefix: &str,
        found: &[(&str, bool)],
        options: &LayerOptions,
    ) -> Option<String> {
        if Place::of(prefix).kind != Some(Kind::Dense) {
            return None;
        }
        self.files.iter().find_map(|(file, config)| {
            let (key, on) = bias::stated(&chain(config, prefix))?;
            if options.ignores(key) {
                return None;
            }
            let (projection, has) = found.iter().find(|(_, has)| *has != on)?;
            let a = if *has { "a" } else { "no" };
            Some(format!(
                "{file}: {key} is {on}, and the {projection} projection has {a} bias; say that it is to be \
                 ignored (--ignore-key {key}, LayerOptions::ignore)"
            ))
        })
    }

    /// Whether a fused weight of this model has rows of gate and up in turns, or up first.
    pub fn fused_rows(&self, prefix: &str) -> Option<String> {
        self.files.iter().find_map(|(file, config)| {
            let chain = chain(config, prefix);
            let kind = chain.iter().find_map(|config| activation::model_type(config))?;
            let order = match kind {
                "gpt_oss" => "has rows of gate and up in turns",
                "phi4_multimodal_audio" => "has the rows of up first",
                _ => return None,
            };
            Some(format!("{file} says model_type {kind:?}, whose fused weight {order}"))
        })
    }
}

/// Whether a name of an activation is that of `gate`; limits are said elsewhere.
fn says_the_same(named: Glu, gate: Glu) -> bool {
    named == gate || (named == Glu::Swiglu && matches!(gate, Glu::ClampedSwiglu { .. }))
}

/// The objects of a configuration that speak of a module, the innermost first. What is said of the
/// whole model counts for its language model alone.
fn chain<'a>(root: &'a Map<String, Value>, prefix: &str) -> Vec<&'a Map<String, Value>> {
    let mut chain = vec![root];
    let child = |config: &'a Map<String, Value>, keys: &[&str]| {
        keys.iter().find_map(|key| config.get(*key).and_then(Value::as_object))
    };
    for part in prefix.split('.').filter(|part| NAMED.contains(part)) {
        let named = chain.last().and_then(|config| child(config, &[&format!("{part}_config")]));
        chain.extend(named);
    }
    let modality = modality::of(prefix);
    let keys: &[&str] = match modality {
        Modality::Text => &TEXT,
        Modality::Vision => &VISION,
        Modality::Audio => &AUDIO,
    };
    let through: &[&str] = if modality == Modality::Text { &TEXT } else { &["thinker_config"] };
    let mut found = false;
    while let Some(config) = chain.last().copied() {
        if let Some(inner) = child(config, keys) {
            found = true;
            chain.push(inner);
        } else if let Some(inner) = child(config, through).filter(|_| !found) {
            chain.push(inner);
        } else {
            break;
        }
    }
    chain.reverse();
    if modality != Modality::Text {
        chain.truncate(usize::from(found));
    }
    chain
}

/// The gate of a layer, if anything is said of it.
fn gate(chain: &[&Map<String, Value>], place: &Place) -> Result<Option<Glu>, Objection> {
    let model_types: Vec<&str> = chain.iter().filter_map(|c| activation::model_type(c)).collect();
    let clamp = clamp::of(chain, &model_types, place).map_err(Objection::Other)?;
    let implied = model_types.iter().any(|kind| clamp::is_implied(kind));
    let stated = stated(chain, place);
    match (clamp, stated) {
        (Clamp::Off, stated) => {
            let gate = stated?;
            if gate.is_none() && (!model_types.is_empty() || says_more(chain)) {
                let kind = model_types.first().map_or("no model_type".to_owned(), |kind| {
                    format!("model_type {kind:?}, which is not known,")
                });
                return Err(Objection::Other(format!("it has {kind} and names no activation")));
            }
            Ok(gate)
        }
        (Clamp::Glu(gate), Ok(None | Some(Glu::Swiglu))) => Ok(Some(gate)),
        // Named by the configuration for what its limits say: `swigluoai`.
        (Clamp::Glu(gate), Err(Objection::Activation(name)))
            if implied && name.to_lowercase().starts_with("swiglu") =>
        {
            Ok(Some(gate))
        }
        (Clamp::Glu(_), Ok(Some(_))) => {
            Err(Objection::Other("it clamps, and its activation is not silu".to_owned()))
        }
        (Clamp::Glu(_), Err(objection)) => Err(objection),
    }
}

/// Whether a configuration without a `model_type` is that of a model all the same.
fn says_more(chain: &[&Map<String, Value>]) -> bool {
    chain.is_empty() || chain.iter().any(|config| config.contains_key("architectures"))
}

/// The activation by name, or by the innermost `model_type`.
fn stated(chain: &[&Map<String, Value>], place: &Place) -> Result<Option<Glu>, Objection> {
    let mut inner_type = false;
    for config in chain {
        let found = activation::stated(config, place.layer).map_err(|unknown| match unknown {
            Unknown::Named(name) => Objection::Activation(name),
            Unknown::Conflict(reason) => Objection::Other(reason),
        })?;
        if found.is_some() {
            return Ok(found);
        }
        if let Some(kind) = activation::model_type(config).filter(|_| !inner_type) {
            inner_type = true;
            if let Some(default) = activation::default_of(kind) {
                return Ok(Some(default));
            }
        }
    }
    Ok(None)
}

/// Falcon-H1's `mlp_multipliers`: factors on the products of gate and down.
fn multipliers(chain: &[&Map<String, Value>]) -> Result<Option<(f32, f32)>, String> {
    let key = "mlp_multipliers";
    let stated = chain.iter().find_map(|config| config.get(key).filter(|v| keys::is_on(v, true)));
    let Some(value) = stated else { return Ok(None) };
    let kind = chain.iter().find_map(|config| activation::model_type(config));
    if kind.is_some_and(|kind| kind != "falcon_h1") {
        return Err(format!(
            "{key} is {value}, which is understood of model_type \"falcon_h1\" alone"
        ));
    }
    let numbers: Option<Vec<f64>> =
        value.as_array().and_then(|list| list.iter().map(Value::as_f64).collect());
    match numbers.as_deref() {
        Some(&[gate, down]) if [gate, down].iter().all(|m| m.is_finite() && *m > 0.0) => {
            Ok(Some((gate as f32, down as f32)))
        }
        _ => Err(format!("{key} is {value}, expected two numbers > 0, of gate and down")),
    }
}

/// Gemma 3n keeps the largest activations of some layers alone.
fn sparsity(chain: &[&Map<String, Value>], place: &Place) -> Result<(), String> {
    let key = "activation_sparsity_pattern";
    let kind = chain.iter().find_map(|config| activation::model_type(config));
    let sparse = |of: String| Err(format!("{key} is {of}: the smaller activations are left out"));
    match chain.iter().find_map(|config| config.get(key).filter(|value| !value.is_null())) {
        // The default of its class: 0.95 in the first ten layers.
        None if matches!(kind, Some("gemma3n" | "gemma3n_text")) => match place.layer {
            Some(layer) if layer >= 10 => Ok(()),
            _ => sparse("not given, which means 0.95 in the first ten layers".to_owned()),
        },
        None => Ok(()),
        Some(Value::Array(list)) => match place.layer.map(|layer| list.get(layer)) {
            Some(Some(own)) if keys::is_on(own, false) => sparse(own.to_string()),
            Some(Some(_)) => Ok(()),
            None if !list.iter().any(|value| keys::is_on(value, false)) => Ok(()),
            _ => sparse(format!("given for {} layers", list.len())),
        },
        Some(value) if keys::is_on(value, false) => sparse(value.to_string()),
        Some(_) => Ok(()),
    }
}
