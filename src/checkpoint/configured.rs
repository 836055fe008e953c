//! Layers as the configuration beside the tensors says that they compute.

use super::CheckpointError;
use super::arithmetic::{Arithmetic, Objection};
use super::layer::MlpLayer;
use super::open::Checkpoint;
use super::options::LayerOptions;
use super::patterns::{Names, join};
use crate::error::{Error, Result};
use crate::glu::Glu;
use crate::matrix::Nvfp4Matrix;

/// What the errors of [`Checkpoint::glu`] call the layer.
const ALL: &str = "*";

impl Checkpoint {
    /// The MLP layer below `prefix`, such as `model.layers.0.mlp` or
    /// `model.layers.0.mlp.experts.7`: `gate_proj` and `up_proj` (or Mixtral's `w1` and `w3`), or a
    /// fused `gate_up_proj` of 2N rows, gate first. Tensors are named as [`super::Convention`] says, and
    /// may lie in different shards.
    ///
    /// What the configuration says of the arithmetic is in [`MlpLayer::glu`] and in the global
    /// scale of [`MlpLayer::gate_proj`]; what is not understood is refused, and
    /// [`Checkpoint::layer_with`] can answer it.
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
    /// [`CheckpointError::Dtype`], [`CheckpointError::Shape`], [`CheckpointError::Matrix`] when tensors
    /// are damaged.
    pub fn layer(&self, prefix: &str) -> Result<MlpLayer> {
        self.layer_with(prefix, &LayerOptions::default())
    }

    /// [`Checkpoint::layer`], where `options` say what the configuration does not or not rightly.
    ///
    /// # Errors
    /// Those of [`Checkpoint::layer`].
    pub fn layer_with(&self, prefix: &str, options: &LayerOptions) -> Result<MlpLayer> {
        let prefix = prefix.strip_suffix('.').unwrap_or(prefix);
        let layer = self.stored(prefix)?;
        let modules = ["gate_proj", "up_proj", "w1", "w3"].map(|name| join(prefix, name));
        let names = Names::each(&modules.each_ref().map(String::as_str));
        if let Some(reason) = self.sidecar.objection(prefix, &names, options) {
            return Err(self.not_understood(prefix, reason));
        }
        let Arithmetic { gate, gate_multiplier, down_multiplier } =
            self.sidecar.model.at(Some(prefix), options).map_err(|o| self.object(prefix, o))?;
        Ok(MlpLayer {
            gate_proj: self.scaled(prefix, layer.gate_proj, gate_multiplier)?,
            glu: gate.unwrap_or_default(),
            down_multiplier,
            ..layer
        })
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
        if by == 1.0 {
            return Ok(weight);
        }
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
