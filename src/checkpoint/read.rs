//! Finding and reading the projections of one MLP layer.

use super::down::Site;
use super::layer::MlpLayer;
use super::open::Checkpoint;
use super::options::LayerOptions;
use super::patterns::Names;
use super::projection::{Part, Projection};
use super::stack::{FUSED_STACKS, Stack, join};
use super::verdict::{Refusal, Scheme, Stated, Verdict};
use super::{CheckpointError, beside, scheme};
use crate::error::{Error, Operand, Result};
use crate::op::WeightOnly;

/// Names of the projections of one MLP.
pub(super) struct Pair {
    pub gate: &'static str,
    pub up: &'static str,
    pub down: &'static str,
    /// Which of the first two an MLP without a gate has.
    pub single: &'static str,
}

/// Names of separate projections: Llama and most others, then Mixtral.
pub(super) const PAIRS: [Pair; 2] = [
    Pair { gate: "gate_proj", up: "up_proj", down: "down_proj", single: "up_proj" },
    Pair { gate: "w1", up: "w3", down: "w2", single: "w1" },
];

/// Name of one weight that holds the rows of both, gate first.
pub(super) const FUSED: &str = "gate_up_proj";

/// Name of the down projection beside it.
pub(super) const FUSED_DOWN: &str = "down_proj";

/// The full name that a projection of a layer has in one order of names, if there can be one.
type Naming<'a> = dyn Fn(&str) -> Option<String> + 'a;

impl Checkpoint {
    /// The layer at `prefix` as its tensors say, without what a configuration adds.
    pub(super) fn stored(&self, prefix: &str, options: &LayerOptions) -> Result<MlpLayer> {
        let expert = expert(prefix);
        let direct = |name: &str| Some(join(prefix, name));
        let swapped = |name: &str| expert.map(|(parent, e)| join(parent, &format!("{name}.{e}")));
        let orders: [&Naming<'_>; 2] = [&direct, &swapped];
        for module in orders {
            if let Some(layer) = self.in_modules(prefix, module, options)? {
                return Ok(layer);
            }
        }
        if let Some((parent, e)) = expert
            && let Some(stack) = self.stack(parent)
        {
            let index = e.parse().unwrap_or(usize::MAX); // beyond any stack
            return self.in_stack(prefix, parent, index, &stack, options);
        }
        Err(self.no_layer(prefix))
    }

    /// The layer whose projections are modules, if there are any under such names.
    fn in_modules(
        &self,
        prefix: &str,
        module: &Naming<'_>,
        options: &LayerOptions,
    ) -> Result<Option<MlpLayer>> {
        let has = |name: &str| module(name).is_some_and(|module| self.has_module(&module));
        for pair in PAIRS {
            let absent = if pair.single == pair.up { pair.gate } else { pair.up };
            if has(pair.single) && has(pair.down) && !has(absent) {
                return Err(self.no_gate(prefix, [pair.single, pair.down], absent));
            }
            if let (Some(gate), Some(up)) = (module(pair.gate), module(pair.up))
                && (has(pair.gate) || has(pair.up))
            {
                let down = module(pair.down).unwrap_or_default();
                return self.split(prefix, [&gate, &up], down, options).map(Some);
            }
        }
        match module(FUSED).filter(|fused| self.has_module(fused)) {
            Some(fused) => {
                let down = module(FUSED_DOWN).unwrap_or_default();
                self.fused(prefix, &fused, down, options).map(Some)
            }
            None => Ok(None),
        }
    }

    fn in_stack(
        &self,
        prefix: &str,
        parent: &str,
        expert: usize,
        stack: &Stack,
        options: &LayerOptions,
    ) -> Result<MlpLayer> {
        let (modules, names) = match stack {
            Stack::Fused(module, names) => (vec![module.as_str()], vec![names]),
            Stack::Split([(gate, g), (up, u)]) => (vec![gate.as_str(), up.as_str()], vec![g, u]),
            Stack::NoGate { present, absent } => return Err(self.no_gate(prefix, *present, absent)),
        };
        self.require_stacks(parent)?;
        let gate_up = beside::Layer { prefix, modules: &modules, stacks: &names };
        let stated = self.refuse(&gate_up)?;
        if let Some(refusal) = self.stack_refusal(&names) {
            return Err(self.refused(prefix, refusal));
        }
        let part = Part { expert: Some(expert), fused: names.len() == 1 };
        let mut layer = match names.as_slice() {
            [gate, up] => {
                self.join_pair(prefix, self.projection(gate, part)?, self.projection(up, part)?)?
            }
            [both, ..] => of_fused(self.projection(both, part)?)?,
            [] => return Err(self.no_layer(prefix)),
        };
        self.declare(prefix, &mut layer, stated);
        let down = join(parent, stack.down());
        self.add_down(&mut layer, &gate_up, Site::Stack { base: down, expert }, options);
        Ok(layer)
    }

    fn split(
        &self,
        prefix: &str,
        [gate, up]: [&str; 2],
        down: String,
        options: &LayerOptions,
    ) -> Result<MlpLayer> {
        for module in [gate, up] {
            self.require(&format!("{module}."))?;
        }
        let gate_up = beside::Layer { prefix, modules: &[gate, up], stacks: &[] };
        let stated = self.refuse(&gate_up)?;
        let part = Part { expert: None, fused: false };
        let read = |module: &str| self.projection(&self.names_of(module), part);
        let mut layer = self.join_pair(prefix, read(gate)?, read(up)?)?;
        self.declare(prefix, &mut layer, stated);
        self.add_down(&mut layer, &gate_up, Site::Module(down), options);
        Ok(layer)
    }

    /// Says what the configuration has said, or the file.
    fn declare(&self, prefix: &str, layer: &mut MlpLayer, stated: Option<Stated>) {
        let Some(Stated { scheme, evidence }) = stated else { return };
        (layer.scheme, layer.scheme_stated) = (scheme, true);
        if scheme == Scheme::W4A16 {
            let (path, layer_name) = (self.path().to_owned(), prefix.to_owned());
            layer.weight_only = Some(WeightOnly { path, layer: layer_name, evidence });
        }
    }

    fn join_pair(
        &self,
        prefix: &str,
        gate: Projection<'_>,
        up: Projection<'_>,
    ) -> Result<MlpLayer> {
        if gate.convention != up.convention {
            let layer = prefix.to_owned();
            let scheme = "a mixture of conventions".to_owned();
            let of =
                |p: &Projection<'_>| format!("{} is stored as {}", p.codes.name(), p.convention);
            let evidence = format!("{}, {}", of(&gate), of(&up));
            let path = self.path().to_owned();
            return Err(CheckpointError::Scheme { path, layer, scheme, evidence }.into());
        }
        let (gate_proj, up_proj) = (gate.whole(Operand::B1)?, up.whole(Operand::B2)?);
        if (up_proj.rows(), up_proj.cols()) != (gate_proj.rows(), gate_proj.cols()) {
            let (n, k) = (gate_proj.rows(), gate_proj.cols());
            let expected = format!("N = {n} and K = {k} as in {}", gate.codes.name());
            return Err(up.codes.wrong_shape(expected));
        }
        let mut layer = MlpLayer::new(gate_proj, up_proj, gate.convention);
        layer.gate_input_global = gate.input_global[0];
        layer.up_input_global = up.input_global[0];
        layer.gate_bias = gate.bias.map(Into::into);
        layer.up_bias = up.bias.map(Into::into);
        layer.unusable_scale = gate.unusable_scale.or(up.unusable_scale);
        Ok(layer)
    }

    fn fused(
        &self,
        prefix: &str,
        module: &str,
        down: String,
        options: &LayerOptions,
    ) -> Result<MlpLayer> {
        self.require(&format!("{module}."))?;
        let gate_up = beside::Layer { prefix, modules: &[module], stacks: &[] };
        let stated = self.refuse(&gate_up)?;
        let part = Part { expert: None, fused: true };
        let mut layer = of_fused(self.projection(&self.names_of(module), part)?)?;
        self.declare(prefix, &mut layer, stated);
        self.add_down(&mut layer, &gate_up, Site::Module(down), options);
        Ok(layer)
    }

    /// Whether any tensor belongs to a module, be it in a file that is missing.
    pub(super) fn has_module(&self, module: &str) -> bool {
        self.below(module).next().is_some() || self.require(&format!("{module}.")).is_err()
    }

    /// What the configuration says of the modules of a layer. Fails when they are recognized as another
    /// scheme, or when there is something beside them that is not known.
    fn refuse(&self, layer: &beside::Layer<'_>) -> Result<Option<Stated>> {
        let &beside::Layer { prefix, modules, .. } = layer;
        let stated = self.verdict(&Names::each(modules), modules);
        let stated = stated.map_err(|refusal| self.refused(prefix, refusal))?;
        let fused = modules.iter().any(|module| FUSED_STACKS.iter().any(|f| module.contains(f)));
        let objection = fused.then(|| self.sidecar.model.fused_rows(prefix)).flatten();
        if let Some(reason) = objection {
            return Err(self.not_understood(prefix, reason));
        }
        beside::check(self, layer)?;
        Ok(stated)
    }

    /// What the tensors of `modules` and the configuration say of the scheme; `names` are those under which
    /// the configuration may speak of it.
    pub(super) fn verdict(&self, names: &[Names], modules: &[&str]) -> Verdict {
        let of_tensors = |found: Option<Refusal>| found.map_or(Ok(()), Err);
        of_tensors(beside::comfy(self, modules))?;
        let stated = self.stated(names, modules)?;
        of_tensors(modules.iter().find_map(|module| scheme::refusal(self, module)))?;
        Ok(stated)
    }

    pub(super) fn refused(&self, prefix: &str, refusal: Refusal) -> Error {
        let Refusal { scheme, evidence } = refusal;
        let (path, layer) = (self.path().to_owned(), prefix.to_owned());
        CheckpointError::Scheme { path, layer, scheme, evidence }.into()
    }

    fn no_gate(&self, prefix: &str, [single, down]: [&str; 2], absent: &str) -> Error {
        CheckpointError::NoGate {
            path: self.path().to_owned(),
            layer: prefix.to_owned(),
            present: format!("{single} and {down}"),
            absent: absent.to_owned(),
        }
        .into()
    }
}

fn of_fused(mut both: Projection<'_>) -> Result<MlpLayer> {
    let [gate_proj, up_proj] = both.halves()?;
    let mut layer = MlpLayer::new(gate_proj, up_proj, both.convention);
    [layer.gate_input_global, layer.up_input_global] = both.input_global;
    if let Some(mut gate) = both.bias.take() {
        let up = gate.split_off(gate.len() / 2);
        (layer.gate_bias, layer.up_bias) = (Some(gate.into()), Some(up.into()));
    }
    layer.unusable_scale = both.unusable_scale;
    Ok(layer)
}

/// The module of the experts and the number of one, as text, if `prefix` is that of an expert.
pub(super) fn expert(prefix: &str) -> Option<(&str, &str)> {
    let (parent, number) = prefix.rsplit_once('.').unwrap_or(("", prefix));
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    digits.then_some((parent, number))
}
