//! The JSON files beside the tensors: ModelOpt's `hf_quant_config.json`, `config.json` of
//! `transformers`, and Mistral's `params.json`.

use std::path::Path;

use serde_json::{Map, Value};

use super::adapter::Adapter;
use super::arithmetic::Model;
use super::json::{is_there, read_json};
use super::keys::{Remedy, Scan};
use super::options::LayerOptions;
use super::patterns::Names;
use super::quantization::Statement;
use super::transforms::{self, Side};
use super::verdict::{Verdict, agree};
use crate::error::Result;

/// Objects of a configuration that hold that of the quantization.
const QUANTIZATION: [&str; 3] = ["quantization_config", "compression_config", "quantization"];

/// What the files of one directory say.
#[derive(Debug, Default)]
pub(super) struct Sidecar {
    /// Of the scheme, in the order in which they count.
    statements: Vec<Statement>,
    /// The objects that say it, with their files.
    quantization: Vec<(&'static str, Map<String, Value>)>,
    /// Of the arithmetic.
    pub model: Model,
    /// What is added to the weights while the model runs.
    adapter: Option<Adapter>,
}

impl Sidecar {
    /// Reads the files that exist.
    pub fn read(directory: &Path) -> Result<Self> {
        let mut files = Vec::new();
        for name in ["hf_quant_config.json", "config.json", "params.json"] {
            let path = directory.join(name);
            if is_there(&path)?
                && let Value::Object(json) = read_json(&path)?
            {
                files.push((name, json));
            }
        }
        let mut quantization: Vec<(&'static str, Value)> = Vec::new();
        for (name, json) in &files {
            let own = QUANTIZATION.iter().filter_map(|key| json.get(*key));
            let own: Vec<_> = own.filter(|value| says_something(value)).cloned().collect();
            let bare = json.contains_key("quant_algo") || json.contains_key("config_groups");
            if own.is_empty() && bare {
                quantization.push((name, Value::Object(json.clone())));
            }
            quantization.extend(own.into_iter().map(|value| (*name, value)));
        }
        if quantization.is_empty() {
            // A stale one may stand within the part that was quantized before.
            let inner = files.iter().filter_map(|(name, json)| Some((*name, nested(json)?)));
            quantization.extend(inner);
        }
        let statements =
            quantization.iter().map(|(name, config)| Statement::new(name, config)).collect();
        let objects = quantization.into_iter().filter_map(|(name, value)| match value {
            Value::Object(object) => Some((name, object)),
            _ => None,
        });
        let quantization = objects.collect();
        files.retain(|(name, _)| *name != "hf_quant_config.json");
        let adapter = Adapter::read(directory)?;
        Ok(Sidecar { statements, quantization, model: Model::new(files), adapter })
    }

    /// What the layer made of these modules is.
    pub fn verdict(&self, modules: &[Names]) -> Verdict {
        let stale = |one: &Statement| {
            self.statements.iter().any(|other| one.is_stale_beside(other, modules))
        };
        let mut statements = self.statements.iter().filter(|statement| !stale(statement));
        statements.try_fold(None, |all, statement| agree(all, statement.verdict(modules)?))
    }

    /// What the quantization does to gate and up of the layer at `prefix` beside storing numbers in fewer
    /// bits, and what else is not in their weights.
    pub fn objection(
        &self,
        prefix: &str,
        modules: &[Names],
        options: &LayerOptions,
    ) -> Option<String> {
        let names = ["gate_proj", "up_proj", "gate_up_proj", "w1", "w3"];
        let adapted = self.adapter.as_ref().and_then(|a| a.objection(prefix, &names, options));
        adapted.or_else(|| self.quantized(prefix, modules, Side::GateUp, options))
    }

    /// The same of its down projection.
    pub fn objection_to_down(
        &self,
        prefix: &str,
        down: &[Names],
        options: &LayerOptions,
    ) -> Option<String> {
        let names = ["down_proj", "w2"];
        let adapted = self.adapter.as_ref().and_then(|a| a.objection(prefix, &names, options));
        adapted.or_else(|| self.quantized(prefix, down, Side::Down, options))
    }

    fn quantized(
        &self,
        prefix: &str,
        modules: &[Names],
        side: Side,
        options: &LayerOptions,
    ) -> Option<String> {
        let around = Names::each(&around(prefix));
        self.quantization.iter().find_map(|(file, config)| {
            let inner = config.get("quantization").and_then(Value::as_object);
            let mut both = std::iter::once(config).chain(inner);
            both.find_map(|config| objection(file, config, modules, &around, side, options))
        })
    }
}

fn objection(
    file: &str,
    config: &Map<String, Value>,
    modules: &[Names],
    around: &[Names],
    side: Side,
    options: &LayerOptions,
) -> Option<String> {
    let ignore = |key: &str| {
        format!("(--ignore-key {key}, LayerOptions::ignore, to read the layer all the same)")
    };
    let transform = "transform_config";
    if !options.ignores(transform)
        && let Some(reason) =
            modules.iter().find_map(|m| transforms::objection(file, config, m, around, side))
    {
        return Some(format!("{reason} {}", ignore(transform)));
    }
    let stored = config.get("sparsity_config").and_then(|sparse| sparse.get("format"));
    let dense = stored.is_none_or(|format| format.is_null() || format == "dense");
    let skip = |_: &Map<String, Value>, key: &str, _: Remedy| {
        key == transform || (key == "sparsity_config" && dense) || options.ignores(key)
    };
    let (key, value, _) = Scan { skip: &skip, model: false, layer: None }.first(config)?;
    let last = key.rsplit('.').next().unwrap_or(&key);
    Some(format!("{file}: {key} is {value}, which is not understood {}", ignore(last)))
}

/// The MLP, and for an expert the modules around it that have the same input.
fn around(prefix: &str) -> Vec<&str> {
    let mut all = vec![prefix];
    let mut rest = prefix;
    while let Some((parent, last)) = rest.rsplit_once('.')
        && (last == "experts" || (parent.ends_with("experts") && last.parse::<usize>().is_ok()))
    {
        all.push(parent);
        rest = parent;
    }
    all
}

/// Whether an object of a configuration has anything in it.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Object(object) => object.values().any(says_something),
        _ => true,
    }
}

/// The `quantization_config` of a part of the model.
fn nested(config: &Map<String, Value>) -> Option<Value> {
    let parts = super::arithmetic::TEXT.iter().filter_map(|key| config.get(*key)?.as_object());
    parts.into_iter().find_map(|part| {
        let own = QUANTIZATION.iter().find_map(|key| part.get(*key).filter(|v| says_something(v)));
        own.cloned().or_else(|| nested(part))
    })
}
