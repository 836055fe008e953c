//! Layers as the configuration beside the tensors says that they compute.

use std::sync::Arc;

use super::CheckpointError;
use super::arithmetic::{Arithmetic, Objection};
use super::layer::MlpLayer;
use super::open::Checkpoint;
use super::options::LayerOptions;
use super::patterns::{Names, join};
use crate::error::{Error, NoDown, Result};
use crate::glu::Glu;
use crate::matrix::Nvfp4Matrix;

/// What the errors of [`Checkpoint::glu`] call the layer.
const ALL: &str = "*";

impl Checkpoint {
    /// The MLP layer below `prefix`, such as `model.layers.0.mlp` or
    /// `model.layers.0.mlp.experts.7`: `gate_proj` and `up_proj` (or Mixtral's `w1` and `w3`), or a
    /// fused `gate_up_proj` of 2N rows, gate first; `down_proj` (`w2`); and their biases, where there are any.
    /// Tensors are named as [`super::Convention`] says, and may lie in different shards.
    ///
    /// What the configuration says of the arithmetic is in [`MlpLayer::scheme`], [`MlpLayer::glu`], the global
    /// scale of [`MlpLayer::gate_proj`] and [`MlpLayer::down_multiplier`]; what is not understood is refused,
    /// and [`Checkpoint::layer_with`] can answer it.
    ///
    /// Gate and up are read without the down projection where that is not there, stored in another format,
    /// damaged or not understood: [`MlpLayer::no_down`] says why.
    ///
    /// Expert e of `experts` is `experts.e` whether its projections are named `experts.e.gate_proj`,
    /// `experts.gate_proj.e`, or are the e-th matrices of a stack `experts.gate_proj` or
    /// `experts.gate_up_proj` \[E, N, K\].
    ///
    /// Codes and scales are read here, into memory of the layer's own, and every scale byte is checked. A checkpoint that
    /// is mapped or was read as a whole shares its memory with the layer.
    ///
    /// # Errors
    /// [`CheckpointError::MissingLayer`], [`CheckpointError::MissingTensor`],
    /// [`CheckpointError::MissingShard`]; [`CheckpointError::NoGate`];
    /// [`CheckpointError::Changed`] and [`crate::Error::Io`] when tensors cannot be read;
    /// [`CheckpointError::Scheme`] when the tensors or the configuration beside them are those of
    /// another format; [`CheckpointError::Activation`] and [`CheckpointError::NotUnderstood`] when a
    /// tensor or a key may change what the layer computes and is not understood;
    /// [`CheckpointError::Dtype`], [`CheckpointError::Shape`], [`CheckpointError::Matrix`],
    /// [`CheckpointError::NonFinite`] when tensors are damaged.
    pub fn layer(&self, prefix: &str) -> Result<MlpLayer> {
        self.layer_with(prefix, &LayerOptions::default())
    }

    /// [`Checkpoint::layer`] of which every projection is needed.
    ///
    /// # Errors
    /// Those of [`Checkpoint::layer`], and [`CheckpointError::NoDown`] without a down projection.
    pub fn mlp(&self, prefix: &str) -> Result<MlpLayer> {
        self.mlp_with(prefix, &LayerOptions::default())
    }

    /// [`Checkpoint::mlp`], where `options` say what the configuration does not or not rightly.
    ///
    /// # Errors
    /// Those of [`Checkpoint::mlp`].
    pub fn mlp_with(&self, prefix: &str, options: &LayerOptions) -> Result<MlpLayer> {
        let layer = self.layer_with(prefix, options)?;
        match &layer.no_down {
            None => Ok(layer),
            Some(reason) => {
                let (path, layer) = (self.path().to_owned(), prefix.to_owned());
                Err(CheckpointError::NoDown { path, layer, reason: reason.clone() }.into())
            }
        }
    }

    /// [`Checkpoint::layer`], where `options` say what the configuration does not or not rightly.
    ///
    /// # Errors
    /// Those of [`Checkpoint::layer`].
    pub fn layer_with(&self, prefix: &str, options: &LayerOptions) -> Result<MlpLayer> {
        let prefix = prefix.strip_suffix('.').unwrap_or(prefix);
        let mut layer = self.stored(prefix, options)?;
        let each = |modules: &[&str]| {
            let modules: Vec<String> = modules.iter().map(|name| join(prefix, name)).collect();
            Names::each(&modules.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let names = each(&["gate_proj", "up_proj", "w1", "w3"]);
        if let Some(reason) = self.sidecar.objection(prefix, &names, options) {
            return Err(self.not_understood(prefix, reason));
        }
        let model = &self.sidecar.model;
        let Arithmetic { gate, gate_multiplier, down_multiplier } =
            model.at(Some(prefix), options).map_err(|o| self.object(prefix, o))?;
        let biases = [("gate", layer.gate_bias.is_some()), ("up", layer.up_bias.is_some())];
        if let Some(reason) = model.objection_to_biases(prefix, &biases, options) {
            return Err(self.not_understood(prefix, reason));
        }
        if layer.down_proj.is_some() {
            let down = each(&["down_proj", "w2"]);
            let objection = self.sidecar.objection_to_down(prefix, &down, options);
            let biases = [("down", layer.down_bias.is_some())];
            let objection =
                objection.or_else(|| model.objection_to_biases(prefix, &biases, options));
            if let Some(reason) = objection {
                layer.drop_down(NoDown::NotUnderstood { reason });
            }
        }
        if gate_multiplier != 1.0 {
            layer.gate_proj = self.scaled(prefix, layer.gate_proj, gate_multiplier)?;
            // The multiplier is that of the product and its bias.
            let bias: Option<Arc<[f32]>> = layer
                .gate_bias
                .map(|bias| bias.iter().map(|value| value * gate_multiplier).collect());
            if let Some(at) = bias.iter().flat_map(|b| b.iter()).position(|v| !v.is_finite()) {
                let reason = format!(
                    "with its multiplier {gate_multiplier:e}, the bias of gate is infinite at {at}"
                );
                return Err(self.not_understood(prefix, reason));
            }
            layer.gate_bias = bias;
        }
        layer.glu = gate.unwrap_or_default();
        layer.down_multiplier = down_multiplier;
        Ok(layer)
    }

    /// The gate that the configuration beside the tensors gives to the layer at `prefix`: its
    /// activation (`hidden_act`, `hidden_activation` and others, or what its `model_type` has), clamped
    /// by `swiglu_limit` and its kin. `None` where nothing is said. [`Checkpoint::layer`] has it too.
    ///
    /// # Errors
    /// [`CheckpointError::Activation`] for a function that no gate computes,
    /// [`CheckpointError::NotUnderstood`] for anything else that is not understood.
    pub fn glu_of(&self, prefix: &str) -> Result<Option<Glu>> {
        self.glu_at(Some(prefix.strip_suffix('.').unwrap_or(prefix)))
    }

    /// The gate that all MLPs of the language model have in common.
    ///
    /// # Errors
    /// Those of [`Checkpoint::glu_of`], and [`CheckpointError::NotUnderstood`] where it depends on the
    /// layer.
    pub fn glu(&self) -> Result<Option<Glu>> {
        self.glu_at(None)
    }

    fn glu_at(&self, prefix: Option<&str>) -> Result<Option<Glu>> {
        let options = LayerOptions::default();
        let found = self.sidecar.model.at(prefix, &options);
        Ok(found.map_err(|objection| self.object(prefix.unwrap_or(ALL), objection))?.gate)
    }

    /// The weight with a factor folded into its global scale, rounded to f32.
    fn scaled(&self, prefix: &str, weight: Nvfp4Matrix, by: f32) -> Result<Nvfp4Matrix> {
        let global = weight.global_scale() * by;
        weight.with_global_scale(global).map_err(|error| {
            self.not_understood(prefix, format!("with its multiplier {by:e}, gate has {error}"))
        })
    }

    fn object(&self, prefix: &str, objection: Objection) -> Error {
        match objection {
            Objection::Activation(activation) => {
                CheckpointError::Activation { path: self.path().to_owned(), activation }.into()
            }
            Objection::Other(reason) => self.not_understood(prefix, reason),
        }
    }

    pub(super) fn not_understood(&self, prefix: &str, reason: String) -> Error {
        let (path, layer) = (self.path().to_owned(), prefix.to_owned());
        CheckpointError::NotUnderstood { path, layer, reason }.into()
    }
}
