//! What the configurations beside the tensors say of the quantization, module by module.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::groups::{Groups, by_format, group_size};
use super::patterns::{self, Names, Patterns};
use super::verdict::{Refusal, Scheme, Stated, Verdict, agree};

/// One file's account of the quantization.
#[derive(Debug)]
pub(super) struct Statement {
    file: &'static str,
    /// Modules that are said not to be quantized.
    ignore: Patterns,
    /// Whether the list means what is below its modules, too.
    ignore_below: bool,
    /// ModelOpt's `quantized_layers`, by normalized name.
    layers: BTreeMap<String, Verdict>,
    /// ModelOpt's `moe_quant_algo`: that of the experts which `layers` does not name.
    experts: Option<Verdict>,
    /// That of all other modules.
    rule: Rule,
    /// What `quant_algo` names, with which groups have to agree.
    algorithm: Option<Stated>,
    /// What the whole of it may have been written for.
    origin: Origin,
}

/// Key of a file's `__metadata__` under which [`super::quantize_file`] says what the file is where there is no
/// configuration: a `quantization_config` of its convention.
pub(super) const OWN: &str = "nvfp4_quantize";

/// Where a statement may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// It names an algorithm of ModelOpt, or the layers of one.
    ModelOpt,
    /// A bare method that stores no such tensors as NVFP4's: that of the checkpoint which was quantized
    /// anew.
    Source,
    /// Anything else.
    Other,
}

/// Methods whose names say all of it, with other tensors than `weight` in bytes, `weight_scale` and
/// `weight_scale_2`.
const BARE: [&str; 6] = ["fp8", "fbgemm_fp8", "mxfp4", "gptq", "awq", "bitsandbytes"];

/// Algorithms of ModelOpt that are NVFP4 in every layer.
const NVFP4: [&str; 3] = ["NVFP4", "NVFP4_AWQ", "W4A16_NVFP4"];

/// That which leaves it to the layers.
const MIXED: &str = "MIXED_PRECISION";

#[derive(Debug)]
enum Rule {
    /// The same for every module.
    All(Verdict),
    /// Nothing but `quantized_layers`.
    Layers,
    /// `config_groups`.
    Groups(Groups),
}

impl Statement {
    /// What `config` of a `file` says.
    pub fn new(file: &'static str, config: &Value) -> Self {
        match config.as_object() {
            Some(config) => Self::of(file, config),
            None => {
                let scheme = "of an unknown scheme".to_owned();
                let evidence = format!("{file} says {config} of it");
                Statement {
                    file,
                    ignore: Patterns::default(),
                    ignore_below: false,
                    layers: BTreeMap::new(),
                    experts: None,
                    rule: Rule::All(Err(Refusal { scheme, evidence })),
                    algorithm: None,
                    origin: Origin::Other,
                }
            }
        }
    }

    /// What a file says of itself in its `__metadata__`, if it is one of ours that does.
    pub fn of_metadata(metadata: &BTreeMap<String, String>) -> Option<Self> {
        let text = metadata.get(OWN)?;
        // A string is none that is understood, and is refused with its beginning.
        let config = serde_json::from_str(text)
            .unwrap_or_else(|_| Value::String(text.chars().take(40).collect()));
        Some(Self::new("__metadata__.nvfp4_quantize", &config))
    }

    fn of(file: &'static str, config: &Map<String, Value>) -> Self {
        // The whole of a ModelOpt `hf_quant_config.json` may stand within another object.
        let nested = config.get("quantization").and_then(Value::as_object);
        let get = |key: &str| {
            let stated = |object: &'_ Map<String, Value>| object.get(key).cloned();
            let inner = nested.and_then(stated).filter(|v| !v.is_null());
            inner.or_else(|| stated(config)).filter(|v| !v.is_null())
        };
        let text = |key: &str| get(key).and_then(|value| value.as_str().map(str::to_owned));
        let list = |key: &str| match get(key) {
            Some(Value::Array(list)) => list,
            Some(other) => vec![other],
            None => Vec::new(),
        };
        let ignored: Vec<Value> =
            ["ignore", "exclude_modules"].iter().flat_map(|key| list(key)).collect();
        let ignore = Patterns::new(&ignored);

        let groups = || -> Option<BTreeMap<String, Value>> {
            let groups = get("config_groups")?.as_object()?.clone();
            (!groups.is_empty()).then(|| groups.into_iter().collect())
        };
        let algorithm = text("quant_algo").map(|algo| algo.to_uppercase());
        let method = text("quant_method").unwrap_or_else(|| {
            match algorithm.is_none() && (get("format").is_some() || get("config_groups").is_some())
            {
                true => "compressed-tensors".to_owned(),
                false => "modelopt".to_owned(),
            }
        });
        let all = |scheme: String, evidence: String| {
            Rule::All(Err(Refusal { scheme, evidence: format!("{file} {evidence}") }))
        };
        let layers = get("quantized_layers").and_then(|l| l.as_object().cloned());
        let layers = layers.map(|layers| layers_of(file, &layers)).unwrap_or_default();
        let size = serde_json::json!({ "group_size": get("group_size").unwrap_or_default() });
        let experts = text("moe_quant_algo").map(|algorithm| {
            let evidence = format!("{file} says moe_quant_algo {algorithm:?}");
            match modelopt(file, Some(&algorithm.to_uppercase()), &size) {
                Ok(stated) => Ok(stated.map(|stated| Stated { evidence, ..stated })),
                Err(refusal) => Err(Refusal { evidence, ..refusal }),
            }
        });
        let method = method.to_lowercase();
        let origin = match &algorithm {
            Some(_) => Origin::ModelOpt,
            None if !layers.is_empty() || experts.is_some() => Origin::ModelOpt,
            None if BARE.contains(&method.as_str()) => Origin::Source,
            None => Origin::Other,
        };
        let is_modelopt = matches!(method.as_str(), "modelopt" | "modelopt_fp4" | "modelopt_mixed");
        let named = algorithm.as_deref().filter(|algo| NVFP4.contains(algo));
        let rule = match (algorithm.as_deref(), method.as_str()) {
            (Some(other), _) if named.is_none() && other != MIXED => {
                Rule::All(modelopt(file, Some(other), &Value::Null))
            }
            _ if is_modelopt && !layers.is_empty() => Rule::Layers,
            (algorithm, _) if is_modelopt => match (groups(), algorithm) {
                // Its groups say 8 bits and groups of 128 whatever the tensors are.
                (_, Some("NVFP4_AWQ")) => Rule::All(modelopt(file, algorithm, &size)),
                (Some(groups), _) => Rule::Groups(Groups::new(file, &groups, None)),
                (None, Some(MIXED)) => {
                    let evidence = "does not say which layer is what".to_owned();
                    all(MIXED.to_owned(), evidence)
                }
                (None, algorithm) => match text("qformat_weight") {
                    // Mistral's own way to name a format.
                    Some(format) => {
                        all(format.to_uppercase(), format!("says qformat_weight {format:?}"))
                    }
                    None => Rule::All(modelopt(file, algorithm, &size)),
                },
            },
            (_, "compressed-tensors") => match (groups(), text("format")) {
                (Some(groups), format) => {
                    Rule::Groups(Groups::new(file, &groups, format.as_deref()))
                }
                (None, Some(format)) if format == "mixed-precision" => {
                    let evidence = "has no config_groups that say which layer is what".to_owned();
                    all(format, evidence)
                }
                (None, _) if algorithm.as_deref() == Some(MIXED) => {
                    let evidence = "does not say which layer is what".to_owned();
                    all(MIXED.to_owned(), evidence)
                }
                (None, format) => Rule::All(match format.and_then(|f| by_format(file, &f)) {
                    Some(refusal) => Err(refusal),
                    None => modelopt(file, named, &size),
                }),
            },
            (_, other) => all(other.to_uppercase(), format!("says quant_method {other:?}")),
        };
        let ignore_below = is_modelopt || origin == Origin::ModelOpt;
        // What is wrong with the numbers beside it has been said.
        let algorithm = modelopt(file, named, &Value::Null).unwrap_or_default();
        Statement { file, ignore, ignore_below, layers, experts, rule, algorithm, origin }
    }

    /// What the layer made of these modules is.
    pub fn verdict(&self, modules: &[Names]) -> Verdict {
        self.find(modules).unwrap_or_else(|pattern| {
            let evidence =
                format!("{} has the pattern {pattern:?}, which cannot be read", self.file);
            Err(Refusal { scheme: "of an unknown scheme".to_owned(), evidence })
        })
    }

    /// Whether this is left of the checkpoint that was quantized anew, if `other` says what became of the
    /// modules.
    pub fn is_stale_beside(&self, other: &Statement, modules: &[Names]) -> bool {
        self.origin == Origin::Source
            && other.origin == Origin::ModelOpt
            && other.verdict(modules).is_ok()
    }

    fn find(&self, modules: &[Names]) -> Result<Verdict, String> {
        let stated: Vec<_> = modules.iter().map(|names| self.layer(names)).collect();
        let any = stated.iter().any(Option::is_some);
        let mut named = stated.iter().flatten().cloned();
        let mut all = match named.try_fold(None, |all, own| own.and_then(|own| agree(all, own))) {
            Ok(all) => all,
            Err(refusal) => return Ok(Err(refusal)),
        };
        for (names, _) in modules.iter().zip(&stated).filter(|(_, stated)| stated.is_none()) {
            let verdict = match (&self.experts, &self.rule) {
                (Some(verdict), _) if names.is_expert() => verdict.clone(),
                (_, Rule::All(verdict)) => verdict.clone(),
                // Its neighbor is spelled as is known.
                (_, Rule::Layers) if any => Err(Refusal {
                    scheme: "quantized in part".to_owned(),
                    evidence: format!(
                        "{} does not name {} among quantized_layers",
                        self.file,
                        names.own()
                    ),
                }),
                // The name is spelled in a way that is not known: then all have to agree.
                (_, Rule::Layers) => {
                    let mut layers = self.layers.values().cloned();
                    let all = layers.try_fold(None, |all, own| own.and_then(|own| agree(all, own)));
                    all.map_err(|mut refusal| {
                        refusal.evidence += " of some layers, and does not name this one";
                        refusal
                    })
                }
                (_, Rule::Groups(groups)) => {
                    groups.verdict(names)?.and_then(|own| agree(own, self.algorithm.clone()))
                }
            };
            all = match verdict.and_then(|own| agree(all, own)) {
                Ok(all) => all,
                Err(refusal) => return Ok(Err(refusal)),
            };
            if self.ignore.find(names)?.is_some()
                || (self.ignore_below && self.ignore.has_above(names))
            {
                // Packed all the same; what its activations are is then not said.
                let evidence =
                    format!("{} lists it among the modules that are left alone", self.file);
                let scheme = "packed, but said not to be quantized".to_owned();
                return Ok(Err(Refusal { scheme, evidence }));
            }
        }
        Ok(Ok(all))
    }

    /// What `quantized_layers` says of a module: of itself, or of the one around it.
    fn layer(&self, names: &Names) -> Option<Verdict> {
        let mut own = names.entries(&self.layers).cloned();
        if let Some(first) = own.next() {
            let agreed = own.fold(first, |all, other| agree(all?, other?));
            return Some(agreed);
        }
        names.entries_above(&self.layers).cloned()
    }
}

/// `quantized_layers`.
fn layers_of(file: &str, layers: &Map<String, Value>) -> BTreeMap<String, Verdict> {
    let verdict = |layer: &Value| {
        let algorithm = layer.get("quant_algo").and_then(Value::as_str).map(str::to_uppercase);
        modelopt(file, Some(algorithm.as_deref().unwrap_or("null")), layer)
    };
    layers.iter().map(|(name, layer)| (patterns::key(name), verdict(layer))).collect()
}

/// `{"quant_algo": "NVFP4", "group_size": 16}`. The scale of NVFP4_AWQ is folded into the norm before
/// gate and up, and then nothing is left of it; where it is not, it is a tensor beside the weight.
fn modelopt(file: &str, algorithm: Option<&str>, config: &Value) -> Verdict {
    let size = || group_size(file, config).map_or(Ok(()), Err);
    let Some(algorithm) = algorithm else { return size().map(|()| None) };
    let evidence = format!("{file} says quant_algo {algorithm:?}");
    let scheme = match algorithm {
        "NVFP4" => size().map(|()| Scheme::W4A4)?,
        "NVFP4_AWQ" => Scheme::W4A4,
        "W4A16_NVFP4" => size().map(|()| Scheme::W4A16)?,
        other => return Err(Refusal { scheme: other.to_owned(), evidence }),
    };
    Ok(Some(Stated { scheme, evidence }))
}
