//! An adapter of PEFT, such as LoRA, that lies beside the weights and is not merged into them.

use std::path::Path;

use serde_json::{Map, Value};

use super::json::{is_there, read_json};
use super::options::LayerOptions;
use super::patterns::join;
use crate::error::Result;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

/// Keys that name modules or parameters which an adapter changes.
const NAMED: [&str; 3] = ["target_modules", "target_parameters", "modules_to_save"];

/// `adapter_config.json`, beside which there are weights.
#[derive(Debug)]
pub(super) struct Adapter {
    config: Map<String, Value>,
    weights: &'static str,
}

impl Adapter {
    /// Reads it where it exists.
    pub fn read(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(CONFIG);
        if !is_there(&path)? {
            return Ok(None);
        }
        for weights in WEIGHTS {
            if is_there(&directory.join(weights))?
                && let Value::Object(config) = read_json(&path)?
            {
                return Ok(Some(Adapter { config, weights }));
            }
        }
        Ok(None)
    }

    /// Why modules of the layer at `prefix` are other functions with it, if they may be.
    pub fn objection(
        &self,
        prefix: &str,
        modules: &[&str],
        options: &LayerOptions,
    ) -> Option<String> {
        if options.ignores(CONFIG) {
            return None;
        }
        let modules: Vec<String> = modules.iter().map(|module| join(prefix, module)).collect();
        let around = std::iter::successors(Some(prefix), |name| Some(name.rsplit_once('.')?.0));
        // As PEFT has it: the whole name or its end. What is saved with it may be a module around.
        let is = |name: &str, target: &str| {
            let tail = name.strip_suffix(target);
            tail.is_some_and(|head| head.is_empty() || head.ends_with('.'))
        };
        let meant = |target: &Value| {
            target.as_str().is_none_or(|target| {
                let target = target.strip_suffix(".weight").unwrap_or(target);
                modules.iter().any(|m| is(m, target)) || around.clone().any(|a| is(a, target))
            })
        };
        let key = NAMED.iter().find(|key| match self.config.get(**key) {
            None | Some(Value::Null) => false,
            Some(Value::Array(list)) => list.iter().any(meant),
            // A regular expression, or "all-linear".
            Some(_) => true,
        });
        let nothing = NAMED.iter().all(|key| self.config.get(*key).is_none_or(Value::is_null));
        let what = match (key, nothing) {
            (Some(key), _) => format!("whose {key} is {}", self.config[*key]),
            (None, true) => "which does not say what it changes".to_owned(),
            (None, false) => return None,
        };
        Some(format!(
            "{} is beside the weights with {CONFIG}, {what}: merge it before quantizing \
             (--ignore-key {CONFIG}, LayerOptions::ignore, to read the layer without it)",
            self.weights
        ))
    }
}
