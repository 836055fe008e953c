//! What a layer is, without reading it.

use super::beside;
use super::down::Site;
use super::open::Checkpoint;
use super::patterns;
use super::projection::Names;
use super::read::{FUSED, FUSED_DOWN, PAIRS, expert};
use super::stack::{Stack, join};
use super::tensors::dimensions;
use super::verdict::Scheme;
use crate::error::{NoDown, Result};

/// The precision and the sizes of a layer, by headers and configuration alone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerOutline {
    /// How the layer is meant to be computed.
    pub scheme: Scheme,
    /// K: length of a row of x.
    pub in_features: usize,
    /// N: rows of gate_proj and of up_proj.
    pub intermediate_features: usize,
    /// Rows of down_proj, where it can be read.
    pub out_features: Option<usize>,
    /// Why there are none.
    pub no_down: Option<NoDown>,
}

/// Where the weights of a layer are.
struct Sites {
    /// Gate and up, or both in one, by their modules.
    gate_up: Vec<(String, Names)>,
    fused: bool,
    down: Site,
}

impl Checkpoint {
    /// What [`Checkpoint::layer`] would read at `prefix`, as far as headers and the configuration tell: no weight is read,
    /// and of the keys of the configuration only those of the scheme.
    ///
    /// # Errors
    /// Those of [`Checkpoint::layer`] about missing tensors, their types and shapes, and about the scheme.
    pub fn outline(&self, prefix: &str) -> Result<LayerOutline> {
        let Sites { gate_up, fused, down } = self.sites(prefix)?;
        let modules: Vec<&str> = gate_up.iter().map(|(module, _)| module.as_str()).collect();
        let stated = self
            .verdict(&patterns::Names::each(&modules), &modules)
            .map_err(|refusal| self.refused(prefix, refusal))?;
        let Some((_, first)) = gate_up.first() else { return Err(self.no_layer(prefix)) };
        let [_, rows, in_features] =
            dimensions(&self.tensor(&first.codes)?, &self.tensor(&first.scales)?)?;
        let intermediate_features = if fused { rows / 2 } else { rows };
        let stacks: Vec<&Names> = match &down {
            Site::Module(_) => Vec::new(),
            Site::Stack { .. } => gate_up.iter().map(|(_, names)| names).collect(),
        };
        let layer = beside::Layer { prefix, modules: &modules, stacks: &stacks };
        let (out_features, no_down) =
            match self.outline_of_down(first.convention, &layer, &down, intermediate_features) {
                Ok(rows) => (Some(rows), None),
                Err(reason) => (None, Some(reason)),
            };
        let scheme = stated.map(|stated| stated.scheme).unwrap_or_default();
        Ok(LayerOutline { scheme, in_features, intermediate_features, out_features, no_down })
    }

    fn sites(&self, prefix: &str) -> Result<Sites> {
        let expert = expert(prefix);
        for swapped in [false, true] {
            let module = |name: &str| match (swapped, expert) {
                (false, _) => Some(join(prefix, name)),
                (true, Some((parent, e))) => Some(join(parent, &format!("{name}.{e}"))),
                (true, None) => None,
            };
            let there = |name: &str| module(name).filter(|module| self.has_module(module));
            let named = |module: String| (module.clone(), self.names_of(&module));
            let down = |name: &str| Site::Module(module(name).unwrap_or_default());
            for pair in PAIRS {
                if let (Some(gate), Some(up)) = (there(pair.gate), there(pair.up)) {
                    let (gate_up, down) = (vec![named(gate), named(up)], down(pair.down));
                    return Ok(Sites { gate_up, fused: false, down });
                }
            }
            if let Some(fused) = there(FUSED) {
                let (gate_up, down) = (vec![named(fused)], down(FUSED_DOWN));
                return Ok(Sites { gate_up, fused: true, down });
            }
        }
        let stack = expert.and_then(|(parent, e)| Some((parent, e, self.stack(parent)?)));
        let Some((parent, e, stack)) = stack else { return Err(self.no_layer(prefix)) };
        let down = Site::Stack { base: join(parent, stack.down()), expert: e.parse().unwrap_or(0) };
        match stack {
            Stack::Fused(module, names) => {
                Ok(Sites { gate_up: vec![(module, names)], fused: true, down })
            }
            Stack::Split(both) => Ok(Sites { gate_up: both.into(), fused: false, down }),
            Stack::NoGate { .. } => Err(self.no_layer(prefix)),
        }
    }
}
