//! The gate and up projections of one MLP layer.

use super::convention::Convention;
use super::open::Checkpoint;
use super::patterns::Names;
use super::projection::{Part, Projection};
use super::stack::{Stack, join};
use super::{CheckpointError, beside, scheme, sidecar::Refusal};
use crate::dtype::Element;
use crate::error::{Error, Operand, Result};
use crate::glu::Glu;
use crate::matrix::Nvfp4Matrix;
use crate::op::{Activations, Calibration, InputScale, MlpWeights, UnusableScale};

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

/// The weights of gate_proj and up_proj of one layer, and what its checkpoint says of the arithmetic.
///
/// The two global scales stay apart: they differ in most checkpoints, and merging them changes the
/// ratio of gate and up. A fused weight has two, or one, which then stands in both.
///
/// It owns its memory; that of a mapped checkpoint is shared with it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MlpLayer {
    /// Weights of gate_proj, B1, \[N, K\].
    pub gate_proj: Nvfp4Matrix,
    /// Weights of up_proj, B2, \[N, K\].
    pub up_proj: Nvfp4Matrix,
    /// Calibrated global scale (multiplier) of the input, as stored with the gate projection.
    pub gate_input_global: Option<f32>,
    /// Calibrated global scale (multiplier) of the input, as stored with the up projection.
    pub up_input_global: Option<f32>,
    /// How the layer was stored.
    pub convention: Convention,
    /// A stored global scale of the input that is in neither of the two: it is not finite and > 0.
    pub(super) unusable_scale: Option<UnusableScale>,
    /// Function that joins the two products, by the configuration or by [`super::LayerOptions`]; SwiGLU
    /// where nothing is said.
    pub glu: Glu,
    /// Factor on the down projection's product (Falcon-H1; 1 elsewhere). It does not act on C: whoever
    /// computes the down projection multiplies by it. The factor on the gate projection is folded into
    /// the global scale of [`MlpLayer::gate_proj`].
    pub down_multiplier: f32,
}

impl MlpLayer {
    fn calibration(&self) -> Calibration {
        if let Some(unusable) = &self.unusable_scale {
            return Calibration::Unusable(unusable.clone());
        }
        match (self.gate_input_global, self.up_input_global) {
            (Some(gate), Some(up)) => Calibration::Scale(gate.max(up)),
            (one, other) => one.or(other).map_or(Calibration::Missing, Calibration::Scale),
        }
    }

    /// The calibrated global scale for the one input that both projections share: the larger of the
    /// two multipliers (the smaller of two divisors), so that nothing saturates that either allows
    /// for. ModelOpt does the same when it exports layers that are going to be fused
    /// (`export/quant_utils.py`, `preprocess_linear_fusion`). `None` if neither is stored.
    ///
    /// # Errors
    /// [`CheckpointError::InputScale`] when one is stored that is not finite and > 0, as for an
    /// expert that no token of the calibration reached.
    pub fn input_global_scale(&self) -> Result<Option<f32>> {
        self.calibration().scale()
    }

    /// The weights, with the calibrated scale of the input, for [`Engine::load`](crate::Engine::load). The memory is
    /// shared.
    ///
    /// # Errors
    /// Those of [`MlpWeights::new`] and [`MlpWeights::with_glu`], for fields that were changed.
    pub fn weights(&self) -> Result<MlpWeights> {
        let weights = MlpWeights::new(self.gate_proj.clone(), self.up_proj.clone())?;
        Ok(weights.with_glu(self.glu)?.with_calibration(self.calibration()))
    }

    /// Quantizes activations `x` \[rows, K\] for this layer with the calibrated scale.
    ///
    /// # Errors
    /// Those of [`MlpWeights::quantize`].
    pub fn quantize_input<T: Element>(&self, x: &[T], rows: usize) -> Result<Activations> {
        self.quantize_input_with(x, rows, InputScale::Calibrated)
    }

    /// [`MlpLayer::quantize_input`] with another scale.
    ///
    /// # Errors
    /// Those of [`MlpWeights::quantize`].
    pub fn quantize_input_with<T: Element>(
        &self,
        x: &[T],
        rows: usize,
        scale: InputScale,
    ) -> Result<Activations> {
        self.weights()?.quantize(x, rows, scale)
    }
}

impl TryFrom<MlpLayer> for MlpWeights {
    type Error = Error;

    fn try_from(layer: MlpLayer) -> Result<Self> {
        layer.weights()
    }
}

impl TryFrom<&MlpLayer> for MlpWeights {
    type Error = Error;

    fn try_from(layer: &MlpLayer) -> Result<Self> {
        layer.weights()
    }
}

/// The full name that a projection of a layer has in one order of names, if there can be one.
type Naming<'a> = dyn Fn(&str) -> Option<String> + 'a;

impl Checkpoint {
    /// The layer at `prefix` as its tensors say, without what a configuration adds.
    pub(super) fn stored(&self, prefix: &str) -> Result<MlpLayer> {
        let prefix = prefix.strip_suffix('.').unwrap_or(prefix);
        let expert = expert(prefix);
        let direct = |name: &str| Some(join(prefix, name));
        let swapped = |name: &str| expert.map(|(parent, e)| join(parent, &format!("{name}.{e}")));
        let orders: [&Naming<'_>; 2] = [&direct, &swapped];
        for module in orders {
            if let Some(layer) = self.in_modules(prefix, module)? {
                return Ok(layer);
            }
        }
        if let Some((parent, e)) = expert
            && let Some(stack) = self.stack(parent)
        {
            let index = e.parse().unwrap_or(usize::MAX); // beyond any stack
            return self.in_stack(prefix, parent, index, &stack);
        }
        Err(self.no_layer(prefix))
    }

    /// The layer whose projections are modules, if there are any under such names.
    fn in_modules(&self, prefix: &str, module: &Naming<'_>) -> Result<Option<MlpLayer>> {
        let has = |name: &str| module(name).is_some_and(|module| self.has_module(&module));
        for pair in PAIRS {
            let absent = if pair.single == pair.up { pair.gate } else { pair.up };
            if has(pair.single) && has(pair.down) && !has(absent) {
                return Err(self.no_gate(prefix, [pair.single, pair.down], absent));
            }
            if let (Some(gate), Some(up)) = (module(pair.gate), module(pair.up))
                && (has(pair.gate) || has(pair.up))
            {
                return self.split(prefix, &gate, &up).map(Some);
            }
        }
        match module(FUSED).filter(|fused| self.has_module(fused)) {
            Some(fused) => self.fused(prefix, &fused).map(Some),
            None => Ok(None),
        }
    }

    fn in_stack(
        &self,
        prefix: &str,
        parent: &str,
        expert: usize,
        stack: &Stack,
    ) -> Result<MlpLayer> {
        let (modules, names) = match stack {
            Stack::Fused(module, names) => (vec![module.as_str()], vec![names]),
            Stack::Split([(gate, g), (up, u)]) => (vec![gate.as_str(), up.as_str()], vec![g, u]),
            Stack::NoGate { present, absent } => return Err(self.no_gate(prefix, *present, absent)),
        };
        self.require_stacks(parent)?;
        self.refuse(&beside::Layer { prefix, modules: &modules, stacks: &names })?;
        if let Some(refusal) = self.stack_refusal(&names) {
            return Err(self.refused(prefix, refusal));
        }
        let part = Part { expert: Some(expert), fused: names.len() == 1 };
        match names.as_slice() {
            [gate, up] => {
                self.join_pair(prefix, self.projection(gate, part)?, self.projection(up, part)?)
            }
            [both, ..] => of_fused(&self.projection(both, part)?),
            [] => Err(self.no_layer(prefix)),
        }
    }

    fn split(&self, prefix: &str, gate: &str, up: &str) -> Result<MlpLayer> {
        for module in [gate, up] {
            self.require(&format!("{module}."))?;
        }
        self.refuse(&beside::Layer { prefix, modules: &[gate, up], stacks: &[] })?;
        let part = Part { expert: None, fused: false };
        let read = |module: &str| self.projection(&self.names_of(module), part);
        self.join_pair(prefix, read(gate)?, read(up)?)
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
        Ok(MlpLayer {
            gate_proj,
            up_proj,
            gate_input_global: gate.input_global[0],
            up_input_global: up.input_global[0],
            convention: gate.convention,
            unusable_scale: gate.unusable_scale.or(up.unusable_scale),
            glu: Glu::Swiglu,
            down_multiplier: 1.0,
        })
    }

    fn fused(&self, prefix: &str, module: &str) -> Result<MlpLayer> {
        self.require(&format!("{module}."))?;
        self.refuse(&beside::Layer { prefix, modules: &[module], stacks: &[] })?;
        let part = Part { expert: None, fused: true };
        of_fused(&self.projection(&self.names_of(module), part)?)
    }

    /// Whether any tensor belongs to a module, be it in a file that is missing.
    fn has_module(&self, module: &str) -> bool {
        self.below(module).next().is_some() || self.require(&format!("{module}.")).is_err()
    }

    /// Fails when the modules of a layer are recognized as another scheme, or when there is something
    /// beside them that is not known.
    fn refuse(&self, layer: &beside::Layer<'_>) -> Result<()> {
        let &beside::Layer { prefix, modules, .. } = layer;
        let refusal = beside::comfy(self, modules)
            .or_else(|| self.sidecar.refusal(&Names::each(modules)))
            .or_else(|| modules.iter().find_map(|module| scheme::refusal(self, module)));
        if let Some(refusal) = refusal {
            return Err(self.refused(prefix, refusal));
        }
        let fused = modules.iter().any(|module| module.contains(FUSED));
        let objection = fused.then(|| self.sidecar.model.fused_rows(prefix)).flatten();
        match objection {
            Some(reason) => Err(self.not_understood(prefix, reason)),
            None => beside::check(self, layer),
        }
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

fn of_fused(both: &Projection<'_>) -> Result<MlpLayer> {
    let [gate_proj, up_proj] = both.halves()?;
    Ok(MlpLayer {
        gate_proj,
        up_proj,
        gate_input_global: both.input_global[0],
        up_input_global: both.input_global[1],
        convention: both.convention,
        unusable_scale: both.unusable_scale.clone(),
        glu: Glu::Swiglu,
        down_multiplier: 1.0,
    })
}

/// The module of the experts and the number of one, as text, if `prefix` is that of an expert.
pub(super) fn expert(prefix: &str) -> Option<(&str, &str)> {
    let (parent, number) = prefix.rsplit_once('.').unwrap_or(("", prefix));
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    digits.then_some((parent, number))
}
