//! Reading the down projection of a layer, where it can be read.

use super::beside;
use super::convention::Convention;
use super::layer::{Damaged, MlpLayer};
use super::open::Checkpoint;
use super::options::LayerOptions;
use super::patterns;
use super::projection::{Names, Part};
use super::scheme;
use super::tensors::dimensions;
use super::verdict::Refusal;
use crate::error::{Error, NoDown, Operand, Result};

/// Where the down projection of a layer would be.
pub(super) enum Site {
    /// A module.
    Module(String),
    /// A stack of experts.
    Stack { base: String, expert: usize },
}

impl Site {
    fn module(&self) -> &str {
        match self {
            Site::Module(module) | Site::Stack { base: module, .. } => module,
        }
    }
}

impl Checkpoint {
    /// Adds the down projection to a layer of which gate and up were read, or why there is none: without it
    /// they can be used all the same.
    pub(super) fn add_down(
        &self,
        layer: &mut MlpLayer,
        gate_up: &beside::Layer<'_>,
        site: Site,
        options: &LayerOptions,
    ) {
        layer.no_down = match options.gate_up_only {
            true => Some(NoDown::NotAsked),
            false => self.down(layer, gate_up, &site).err(),
        };
        if let Some(NoDown::Damaged { reason }) = &layer.no_down {
            let (path, prefix) = (self.path().to_owned(), gate_up.prefix.to_owned());
            layer.damaged = Some(Damaged { path, layer: prefix, reason: reason.clone() });
        }
    }

    fn down(
        &self,
        layer: &mut MlpLayer,
        gate_up: &beside::Layer<'_>,
        site: &Site,
    ) -> Result<(), NoDown> {
        let names = self.down_names(layer.convention, gate_up, site)?;
        self.read_down(layer, &names, site).map_err(damaged)
    }

    /// H, by headers and the configuration alone, of a down projection that fits `inner` rows of gate.
    pub(super) fn outline_of_down(
        &self,
        convention: Convention,
        gate_up: &beside::Layer<'_>,
        site: &Site,
        inner: usize,
    ) -> Result<usize, NoDown> {
        let names = self.down_names(convention, gate_up, site)?;
        let codes = self.tensor(&names.codes).map_err(damaged)?;
        let scales = self.tensor(&names.scales).map_err(damaged)?;
        let [_, rows, cols] = dimensions(&codes, &scales).map_err(damaged)?;
        match cols == inner {
            true => Ok(rows),
            false => Err(damaged(codes.wrong_shape(expected_k(inner)))),
        }
    }

    /// Its tensors, where there is nothing against reading them.
    fn down_names(
        &self,
        convention: Convention,
        gate_up: &beside::Layer<'_>,
        site: &Site,
    ) -> Result<Names, NoDown> {
        let module = site.module();
        let format = |Refusal { scheme, evidence }| NoDown::Format {
            module: module.to_owned(),
            scheme,
            evidence,
        };
        let not_understood = |reason| NoDown::NotUnderstood { reason };
        let names = match site {
            Site::Module(module) => self.has_module(module).then(|| self.names_of(module)),
            Site::Stack { base, .. } => self.stack_names(base),
        };
        let (modules, stacks) = match (&names, site) {
            (Some(_), Site::Module(module)) => (vec![module.as_str()], vec![]),
            (Some(names), Site::Stack { .. }) => (vec![module], vec![names]),
            (None, _) => (vec![], vec![]),
        };
        let own = beside::Layer { prefix: gate_up.prefix, modules: &modules, stacks: &stacks };
        let missing = |e: Error| NoDown::Missing { reason: e.to_string() };
        if let Site::Module(module) = site {
            self.require(&format!("{module}.")).map_err(missing)?;
        }
        beside::require_down(self, &own).map_err(missing)?;
        // What the tensors are comes first: one that was left in another format is listed as such, too.
        let of_tensors = beside::comfy(self, &modules)
            .or_else(|| modules.iter().find_map(|module| scheme::refusal(self, module)))
            .or_else(|| self.stack_refusal(&stacks));
        if let Some(refusal) = of_tensors {
            return Err(format(refusal));
        }
        if names.is_some() {
            // What is said of gate and up has been read, so that all three have to agree.
            let all: Vec<&str> = gate_up.modules.iter().copied().chain([module]).collect();
            self.stated(&patterns::Names::each(&all), &all).map_err(format)?;
        }
        if let Some(reason) = beside::objection_to_down(self, &own) {
            return Err(not_understood(reason));
        }
        let Some(names) = names else {
            return Err(NoDown::Absent { module: module.to_owned() });
        };
        if names.convention != convention {
            let of =
                |convention: Convention, what: &str| format!("{what} is stored as {convention}");
            let evidence = format!("{}, {}", of(names.convention, "it"), of(convention, "gate"));
            return Err(format(Refusal { scheme: "of another convention".to_owned(), evidence }));
        }
        Ok(names)
    }

    fn read_down(&self, layer: &mut MlpLayer, names: &Names, site: &Site) -> Result<()> {
        let expert = match site {
            Site::Module(_) => None,
            Site::Stack { expert, .. } => Some(*expert),
        };
        let down = self.projection(names, Part { expert, fused: false })?;
        let weight = down.whole(Operand::Matrix)?;
        let inner = layer.gate_proj.rows();
        if weight.cols() != inner {
            return Err(down.codes.wrong_shape(expected_k(inner)));
        }
        layer.down_proj = Some(weight);
        layer.down_input_global = down.input_global[0];
        layer.down_bias = down.bias.map(Into::into);
        layer.unusable_down_scale = down.unusable_scale;
        Ok(())
    }
}

fn damaged(error: Error) -> NoDown {
    NoDown::Damaged { reason: error.to_string() }
}

fn expected_k(inner: usize) -> String {
    format!("K = {inner}, as many columns as gate has rows")
}
