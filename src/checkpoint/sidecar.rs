//! What the JSON files beside the tensors say of the quantisation: ModelOpt's
//! `hf_quant_config.json`, and `quantization_config` in `config.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::json::read_json;
use crate::error::Result;
use crate::format::BLOCK;

/// Format name of NVFP4 in compressed-tensors.
const PACKED: &str = "nvfp4-pack-quantized";

/// A scheme that is not NVFP4: its name, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub scheme: String,
    pub evidence: String,
}

/// What the files of one directory say.
#[derive(Debug, Default)]
pub(super) struct Sidecar {
    /// For every layer.
    all: Option<Refusal>,
    /// By name of the module, in mixed checkpoints.
    modules: BTreeMap<String, Refusal>,
    /// Name of the activation function of the MLPs.
    pub activation: Option<String>,
}

impl Sidecar {
    /// Reads the files that exist.
    pub fn read(directory: &Path) -> Result<Self> {
        let mut sidecar = Sidecar::default();
        for (name, key) in
            [("hf_quant_config.json", "quantization"), ("config.json", "quantization_config")]
        {
            let path = directory.join(name);
            if path.exists() {
                let json = read_json(&path)?;
                if name == "config.json" {
                    sidecar.activation = activation(&json);
                }
                if let Some(config) = json.get(key).filter(|c| !c.is_null()) {
                    sidecar.add(name, config);
                }
            }
        }
        Ok(sidecar)
    }

    /// Why the layer made of these modules must not be read, if it must not.
    pub fn refusal(&self, modules: &[String]) -> Option<&Refusal> {
        modules.iter().find_map(|m| self.modules.get(m)).or(self.all.as_ref())
    }

    fn add(&mut self, file: &str, config: &Value) {
        let method = match config.get("quant_method").and_then(Value::as_str) {
            Some(method) => method,
            None if config.get("format").is_some() => "compressed-tensors",
            None => "modelopt",
        };
        let all = match method {
            "modelopt" | "modelopt_fp4" => {
                if let Some(layers) = config.get("quantized_layers").and_then(Value::as_object) {
                    for (module, layer) in layers {
                        if let Some(refusal) = modelopt(file, layer) {
                            self.modules.insert(module.clone(), refusal);
                        }
                    }
                    return;
                }
                modelopt(file, config)
            }
            "compressed-tensors" => compressed_tensors(file, config),
            other => Some(Refusal {
                scheme: other.to_uppercase(),
                evidence: format!("{file} says quant_method {other:?}"),
            }),
        };
        if self.all.is_none() {
            self.all = all;
        }
    }
}

/// `hidden_activation` (Gemma) or `hidden_act`, of the text model where there are several.
fn activation(config: &Value) -> Option<String> {
    let text = config.get("text_config").unwrap_or(config);
    let name = ["hidden_activation", "hidden_act"].iter().find_map(|k| text.get(k)?.as_str());
    name.map(str::to_owned)
}

/// `{"quant_algo": "NVFP4", "group_size": 16}`
fn modelopt(file: &str, config: &Value) -> Option<Refusal> {
    let algo = config.get("quant_algo").and_then(Value::as_str);
    // AWQ's scale may be folded into the norm before the layer; where it is not, its tensor tells.
    if let Some(algo) = algo.filter(|a| !matches!(*a, "NVFP4" | "NVFP4_AWQ")) {
        let evidence = format!("{file} says quant_algo {algo:?}");
        return Some(Refusal { scheme: algo.to_owned(), evidence });
    }
    group_size(file, config)
}

/// `{"format": "nvfp4-pack-quantized", "config_groups": {name: {"weights": {..}, ..}}}`
fn compressed_tensors(file: &str, config: &Value) -> Option<Refusal> {
    let groups: Vec<&Value> = config
        .get("config_groups")
        .and_then(Value::as_object)
        .map(|groups| groups.values().collect())
        .unwrap_or_default();
    let format = config.get("format").and_then(Value::as_str).unwrap_or(PACKED);
    if format == "mixed-precision" {
        // Which group a layer belongs to is a matter of patterns; its tensors tell.
        return None;
    }
    if format != PACKED {
        let scheme = match format {
            "mxfp4-pack-quantized" => "MXFP4".to_owned(),
            other => other.to_owned(),
        };
        return Some(Refusal { scheme, evidence: format!("{file} says format {format:?}") });
    }
    let weights = groups.iter().filter_map(|g| g.get("weights"));
    if let Some(refusal) = weights.clone().find_map(|w| group_size(file, w)) {
        return Some(refusal);
    }
    let inputs = |group: &&Value| group.get("input_activations").filter(|i| !i.is_null()).cloned();
    let inputs: Vec<Value> = groups.iter().filter_map(inputs).collect();
    if !groups.is_empty() && inputs.is_empty() {
        let evidence = format!("{file} has no input_activations");
        return Some(Refusal { scheme: "W4A16_NVFP4 (NVFP4A16)".to_owned(), evidence });
    }
    let bits = |input: &Value| input.get("num_bits").and_then(Value::as_u64).filter(|&b| b != 4);
    inputs.iter().find_map(bits).map(|bits| Refusal {
        scheme: format!("W4A{bits}_NVFP4"),
        evidence: format!("{file} says input_activations.num_bits {bits}"),
    })
}

fn group_size(file: &str, config: &Value) -> Option<Refusal> {
    let size = config.get("group_size").filter(|g| !g.is_null())?;
    (size.as_u64() != Some(BLOCK as u64)).then(|| Refusal {
        scheme: format!("FP4 with groups of {size}"),
        evidence: format!("{file} says group_size {size}, and NVFP4 has 16"),
    })
}
