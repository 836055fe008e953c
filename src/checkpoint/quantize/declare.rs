//! What is said of the quantization beside the tensors: `quantization_config` in `config.json`, and
//! ModelOpt's `hf_quant_config.json`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::fused;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::convention::Convention;
use crate::checkpoint::file::{SafetensorsFile, Tensor};
use crate::checkpoint::json::{is_there, read_json};
use crate::checkpoint::quantization::OWN;
use crate::error::Result;
use crate::format::BLOCK;

/// ModelOpt's own file.
pub(super) const MODELOPT: &str = "hf_quant_config.json";

/// `config.json` of the input, which must not be quantized already.
#[derive(Debug)]
pub(super) struct Config {
    text: String,
    pub json: Value,
}

impl Config {
    /// Reads it where it exists.
    pub fn unquantized(directory: &Path) -> Result<Option<Self>> {
        let fault =
            |path: PathBuf, reason: &str| CheckpointError::Json { path, reason: reason.into() };
        let own = directory.join(MODELOPT);
        if is_there(&own)? {
            return Err(fault(own, "says that the checkpoint is quantized already").into());
        }
        let mistral = directory.join("params.json");
        if is_there(&mistral)?
            && read_json(&mistral)?.get("quantization").is_some_and(|q| !q.is_null())
        {
            return Err(fault(mistral, "has a quantization already").into());
        }
        let path = directory.join("config.json");
        if !is_there(&path)? {
            return Ok(None);
        }
        let json = read_json(&path)?;
        let text = json.get("text_config");
        for key in ["quantization_config", "compression_config", "quantization"] {
            let found = [json.get(key), text.and_then(|t| t.get(key))];
            if let Some(found) = found.into_iter().flatten().find(|q| !q.is_null()) {
                let reason = match found.get("quant_method").and_then(Value::as_str) {
                    Some(method) => format!(
                        "has a {key} already, of {method}: dequantize the checkpoint to BF16 first"
                    ),
                    None => format!("has a {key} already"),
                };
                return Err(fault(path, &reason).into());
            }
        }
        let text = std::fs::read_to_string(&path).map_err(|e| super::io(&path, e))?;
        Ok(Some(Config { text, json }))
    }

    /// The text with a `quantization_config`. All else stays as it is written: no number takes another
    /// form, and Python's `Infinity` survives.
    pub fn with(&self, quantization: &Value) -> String {
        let end = self.text.trim_end().strip_suffix('}').map(str::trim_end);
        let (Some(end), None) = (end, self.json.get("quantization_config")) else {
            let mut json = self.json.clone();
            json["quantization_config"] = quantization.clone();
            return format!("{json:#}\n");
        };
        let comma = if end.ends_with('{') { "" } else { "," };
        let quantization = format!("{quantization:#}").replace('\n', "\n  ");
        format!("{end}{comma}\n  \"quantization_config\": {quantization}\n}}\n")
    }
}

/// Refuses files that are a result already, part of which would then be declared wrongly.
///
/// # Errors
/// [`CheckpointError::Json`].
pub(super) fn refuse_own(files: &[SafetensorsFile]) -> Result<()> {
    match files.iter().find(|file| file.metadata().contains_key(OWN)) {
        Some(file) => {
            let path = file.path().to_owned();
            let reason = format!("says in its __metadata__ ({OWN}) that it is quantized already");
            Err(CheckpointError::Json { path, reason }.into())
        }
        None => Ok(()),
    }
}

/// What the result is declared to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scheme {
    pub convention: Convention,
    /// Whether every quantized layer has the scale of its input: else only weights are quantized.
    pub calibrated: bool,
}

impl Scheme {
    /// Its name in the terms of the convention.
    pub fn name(self) -> &'static str {
        match (self.convention, self.calibrated) {
            (_, true) => "NVFP4",
            (Convention::ModelOpt, false) => "W4A16_NVFP4",
            (Convention::CompressedTensors, false) => "NVFP4A16",
        }
    }

    /// `quantization_config` as ModelOpt's export writes it (`convert_hf_quant_config_format`), or as
    /// llm-compressor does for the presets of that name.
    pub fn config(self, ignored: &BTreeSet<String>) -> Value {
        match self.convention {
            Convention::ModelOpt => {
                let args = json!({ "dynamic": false, "num_bits": 4, "type": "float", "group_size": BLOCK });
                let mut group = json!({ "weights": args, "targets": ["Linear"] });
                if self.calibrated {
                    group["input_activations"] = args;
                }
                json!({
                    "config_groups": { "group_0": group }, "ignore": ignored,
                    "quant_algo": self.name(), "producer": producer(), "quant_method": "modelopt",
                })
            }
            Convention::CompressedTensors => {
                let args = json!({
                    "num_bits": 4, "type": "float", "symmetric": true, "strategy": "tensor_group",
                    "group_size": BLOCK, "dynamic": false, "scale_dtype": "torch.float8_e4m3fn",
                });
                // Block scales of the input are made as it comes, under a global scale that is stored.
                let input = self.calibrated.then(|| {
                    let mut input = args.clone();
                    input["dynamic"] = json!("local");
                    input["observer"] = json!("static_minmax");
                    input
                });
                let format = "nvfp4-pack-quantized";
                let group = json!({
                    "targets": ["Linear"], "weights": args, "input_activations": input,
                    "output_activations": null, "format": format,
                });
                json!({
                    "config_groups": { "group_0": group }, "ignore": ignored, "format": format,
                    "quant_method": "compressed-tensors", "quantization_status": "compressed",
                    "kv_cache_scheme": null, "global_compression_ratio": null,
                })
            }
        }
    }

    /// `hf_quant_config.json`, for ModelOpt.
    pub fn own(self, ignored: &BTreeSet<String>) -> Option<Value> {
        let own = json!({
            "producer": producer(),
            "quantization": {
                "quant_algo": self.name(), "kv_cache_quant_algo": null, "group_size": BLOCK,
                "exclude_modules": ignored,
            },
        });
        (self.convention == Convention::ModelOpt).then_some(own)
    }
}

pub(super) fn producer() -> Value {
    json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") })
}

/// The name of a weight without `.weight`.
pub(super) fn module(name: &str) -> &str {
    name.strip_suffix(".weight").unwrap_or(name)
}

/// Collects what the target `Linear` must not be taken for.
#[derive(Debug, Default)]
pub(super) struct Ignored {
    modules: BTreeSet<String>,
    /// Modules whose parameters are stacks, such as `experts`.
    stacks: BTreeSet<String>,
    /// Parts of names, such as `visual`.
    towers: BTreeSet<String>,
}

impl Ignored {
    /// A tensor that is copied. Embeddings and convolutions do no harm in the list.
    pub fn add(&mut self, tensor: &Tensor<'_>, tower: Option<&str>) {
        self.towers.extend(tower.map(str::to_owned));
        let (name, dims) = (tensor.name(), tensor.shape().len());
        if name.ends_with(".weight") && dims >= 2 {
            self.modules.insert(module(name).to_owned());
        } else if dims >= 3 {
            self.modules.insert(name.to_owned());
            self.stacks.extend(name.rsplit_once('.').map(|(stack, _)| stack.to_owned()));
        }
    }

    /// The list, of names and of patterns in the convention's notation.
    pub fn list(mut self, convention: Convention, quantized: &BTreeSet<&str>) -> BTreeSet<String> {
        // A head that is tied to the embedding has no tensor, but the module exists.
        if !quantized.iter().any(|m| *m == "lm_head" || m.ends_with(".lm_head")) {
            self.modules.insert("lm_head".to_owned());
        }
        let mut list = self.modules;
        for stack in self.stacks {
            let below = format!("{stack}.");
            if quantized.iter().any(|m| m.starts_with(&below)) {
                continue;
            }
            list.insert(match convention {
                Convention::ModelOpt => format!("{stack}.*"),
                Convention::CompressedTensors => format!("re:{}[.].*", escape(&stack)),
            });
            list.insert(stack);
        }
        // Libraries give these parts other prefixes than the tensors have.
        for tower in self.towers {
            match convention {
                Convention::ModelOpt => {
                    list.extend([format!("{tower}.*"), format!("*.{tower}.*")]);
                }
                Convention::CompressedTensors => {
                    list.insert(format!("re:(.*[.])?{}[.].*", escape(&tower)));
                }
            }
        }
        list
    }
}

/// Names with dots as a regular expression; they have no other special characters that matter.
fn escape(name: &str) -> String {
    let special = |c: char| !(c.is_alphanumeric() || c == '_' || c == '-');
    name.chars().map(|c| if special(c) { format!("[{c}]") } else { c.to_string() }).collect()
}

/// What engines will make of the choice of modules, where that may surprise.
pub(super) fn notes(
    convention: Convention,
    quantized: &BTreeSet<&str>,
    exists: impl Fn(&str) -> bool,
    ignored: &BTreeSet<String>,
) -> Vec<String> {
    let mut notes = Vec::new();
    let left = |module: &str| !quantized.contains(module) && exists(&format!("{module}.weight"));
    let split = quantized.iter().filter_map(|m| {
        fused::group(m).into_iter().find(|other| left(other)).map(|other| (*m, other))
    });
    note(&mut notes, split.collect(), |(module, other), more| {
        format!(
            "{module} is quantized and {other} is not{more}: engines that fuse the two, vLLM among them, \
             refuse such a checkpoint"
        )
    });
    let down = quantized
        .iter()
        .filter_map(|m| fused::down_of_expert(m).filter(|down| left(down)).map(|down| (*m, down)));
    note(&mut notes, down.collect(), |(_, down), more| {
        format!(
            "{down} is not quantized{more}: engines that run experts as one, vLLM among them, want all \
             three projections of an expert in one format (--include)"
        )
    });
    if convention == Convention::ModelOpt {
        let inside = |m: &&str| ignored.iter().find(|i| m.contains(i.as_str())).cloned();
        let hidden = quantized.iter().filter_map(|m| Some((*m, inside(m)?)));
        note(&mut notes, hidden.collect(), |(module, other), more| {
            format!(
                "{other} is left alone, and its name is a part of that of {module}{more}: vLLM takes both \
                 for left alone"
            )
        });
    }
    notes
}

/// One note of the first of several alike.
fn note(
    notes: &mut Vec<String>,
    found: Vec<(&str, String)>,
    text: impl Fn(&(&str, String), String) -> String,
) {
    let more = match found.len() {
        0 | 1 => String::new(),
        n => format!(" (and so for {} more)", n - 1),
    };
    notes.extend(found.first().map(|first| text(first, more)));
}
