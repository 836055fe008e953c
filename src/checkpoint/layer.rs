//! One MLP layer of a checkpoint.

use std::iter::repeat_n;
use std::path::PathBuf;
use std::sync::Arc;

use super::CheckpointError;
use super::convention::Convention;
use super::verdict::Scheme;
use crate::dtype::Element;
use crate::error::{Error, NoDown, Result};
use crate::glu::Glu;
use crate::matrix::Nvfp4Matrix;
use crate::op::{
    Activations, Calibration, InputScale, MlpWeights, Precision, UnusableScale, WeightOnly,
};

/// The weights and biases of the projections of one layer, and what its checkpoint says of the arithmetic:
/// `y = down(glu(x·gateᵀ + b_gate, x·upᵀ + b_up)) + b_down`, with K values in a row of x, N between, and H in
/// a row of y (K in most models).
///
/// The global scales of gate and up stay apart: they differ in most checkpoints, and merging them changes the
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
    /// Weights of down_proj, \[H, N\], if they could be read.
    pub down_proj: Option<Nvfp4Matrix>,
    /// Why there is no [`MlpLayer::down_proj`].
    pub no_down: Option<NoDown>,
    /// Calibrated global scale (multiplier) of the input, as stored with the gate projection.
    pub gate_input_global: Option<f32>,
    /// Calibrated global scale (multiplier) of the input, as stored with the up projection.
    pub up_input_global: Option<f32>,
    /// Calibrated global scale (multiplier) of the input of the down projection.
    pub down_input_global: Option<f32>,
    /// Bias of gate_proj, \[N\], finite: what is stored as F16, BF16 or F32, exactly.
    pub gate_bias: Option<Arc<[f32]>>,
    /// Bias of up_proj, \[N\].
    pub up_bias: Option<Arc<[f32]>>,
    /// Bias of down_proj, \[H\].
    pub down_bias: Option<Arc<[f32]>>,
    /// How the layer was stored.
    pub convention: Convention,
    /// How the layer is meant to be computed.
    pub scheme: Scheme,
    /// Whether the checkpoint says so; where it says nothing, [`MlpLayer::scheme`] is W4A4.
    pub scheme_stated: bool,
    /// A stored global scale of the input that is in neither of the two: it is not finite and > 0.
    pub(super) unusable_scale: Option<UnusableScale>,
    /// The same of the input of the down projection.
    pub(super) unusable_down_scale: Option<UnusableScale>,
    /// What says that the layer is weight-only.
    pub(super) weight_only: Option<WeightOnly>,
    /// What is wrong with the down projection, where something is.
    pub(super) damaged: Option<Damaged>,
    /// Function that joins the two products, by the configuration or by [`super::LayerOptions`]; SwiGLU
    /// where nothing is said.
    pub glu: Glu,
    /// Factor on the down projection's product and on its bias (Falcon-H1; 1 elsewhere), which is in neither of
    /// the two here, and in both of [`MlpLayer::weights`]. The factor on the gate projection is folded
    /// into the global scale of [`MlpLayer::gate_proj`] and into [`MlpLayer::gate_bias`].
    pub down_multiplier: f32,
}

/// A down projection that is there in NVFP4 and cannot be used.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Damaged {
    pub path: PathBuf,
    pub layer: String,
    pub reason: String,
}

impl MlpLayer {
    /// Gate and up alone, without anything else.
    pub(super) fn new(
        gate_proj: Nvfp4Matrix,
        up_proj: Nvfp4Matrix,
        convention: Convention,
    ) -> Self {
        MlpLayer {
            gate_proj,
            up_proj,
            down_proj: None,
            no_down: None,
            gate_input_global: None,
            up_input_global: None,
            down_input_global: None,
            gate_bias: None,
            up_bias: None,
            down_bias: None,
            convention,
            scheme: Scheme::default(),
            scheme_stated: false,
            unusable_scale: None,
            unusable_down_scale: None,
            weight_only: None,
            damaged: None,
            glu: Glu::default(),
            down_multiplier: 1.0,
        }
    }

    /// Leaves gate and up alone.
    pub(super) fn drop_down(&mut self, why: NoDown) {
        (self.down_proj, self.down_bias) = (None, None);
        (self.down_input_global, self.unusable_down_scale) = (None, None);
        self.no_down = Some(why);
    }

    fn calibration(&self) -> Calibration {
        let scale = match (self.gate_input_global, self.up_input_global) {
            (Some(gate), Some(up)) => Some(gate.max(up)),
            (one, other) => one.or(other),
        };
        match (&self.weight_only, calibration(scale, self.unusable_scale.as_ref())) {
            (Some(said), Calibration::Missing) => Calibration::WeightOnly(said.clone()),
            (_, found) => found,
        }
    }

    /// Of a weight-only layer there is none: who wants its input in 4 bits has chosen a scale for that.
    fn down_calibration(&self) -> Calibration {
        calibration(self.down_input_global, self.unusable_down_scale.as_ref())
    }

    /// The calibrated global scale for the one input that both projections share: the larger of the
    /// two multipliers (the smaller of two divisors), so that nothing saturates that either allows
    /// for. ModelOpt does the same when it exports layers that are going to be fused
    /// (`export/quant_utils.py`, `preprocess_linear_fusion`). `None` if neither is stored.
    ///
    /// # Errors
    /// [`CheckpointError::InputScale`] when one is stored that is not finite and > 0, as for an
    /// expert that no token of the calibration reached; [`CheckpointError::WeightOnly`] when none is stored
    /// as the layer is weight-only.
    pub fn input_global_scale(&self) -> Result<Option<f32>> {
        self.calibration().scale()
    }

    /// The calibrated global scale of the input of the down projection; `None` if none is stored.
    ///
    /// # Errors
    /// [`CheckpointError::InputScale`].
    pub fn down_input_global_scale(&self) -> Result<Option<f32>> {
        self.down_calibration().scale()
    }

    /// The weights, with biases and the calibrated scale of the input, for
    /// [`Engine::load`](crate::Engine::load); with the down projection where there is one. The memory is shared.
    ///
    /// # Errors
    /// [`CheckpointError::NoDown`] for a down projection that is damaged ([`NoDown::Damaged`]): read the layer
    /// with [`super::LayerOptions::gate_up_only`] to do without it. [`Error::Multiplier`] and
    /// [`Error::BiasNonFinite`] for a [`MlpLayer::down_multiplier`] that goes beyond f32; others of
    /// [`MlpWeights`] for fields that were changed.
    pub fn weights(&self) -> Result<MlpWeights> {
        if let Some(Damaged { path, layer, reason }) = &self.damaged {
            let (path, layer, reason) = (path.clone(), layer.clone(), reason.clone());
            let reason = NoDown::Damaged { reason };
            return Err(CheckpointError::NoDown { path, layer, reason }.into());
        }
        let mut weights = MlpWeights::new(self.gate_proj.clone(), self.up_proj.clone())?
            .with_glu(self.glu)?
            .with_calibration(self.calibration());
        if self.scheme == Scheme::W4A16 {
            weights = weights.with_precision(Precision::W4A16);
        }
        if self.gate_bias.is_some() || self.up_bias.is_some() {
            let or_zeros = |bias: &Option<Arc<[f32]>>| {
                bias.clone().unwrap_or_else(|| repeat_n(0.0, self.gate_proj.rows()).collect())
            };
            weights = weights.with_biases(or_zeros(&self.gate_bias), or_zeros(&self.up_bias))?;
        }
        let Some(down) = &self.down_proj else { return Ok(weights) };
        weights =
            weights.with_down(down.clone())?.with_down_calibration(self.down_calibration())?;
        if let Some(bias) = &self.down_bias {
            weights = weights.with_down_bias(bias.clone())?;
        }
        match self.down_multiplier {
            1.0 => Ok(weights),
            multiplier => weights.with_down_multiplier(multiplier),
        }
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

fn calibration(scale: Option<f32>, unusable: Option<&UnusableScale>) -> Calibration {
    match (unusable, scale) {
        (Some(unusable), _) => Calibration::Unusable(unusable.clone()),
        (None, Some(scale)) => Calibration::Scale(scale),
        (None, None) => Calibration::Missing,
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
