//! A gated MLP: `y = down_proj(glu(gate_proj(x), up_proj(x)))`, with weights that are kept.

use std::sync::Arc;

use super::{
    Activations, ActivationsView, Calibration, DualGemm, Gemm, InputScale, Precision, checks,
};
use crate::dtype::Element;
use crate::error::{Error, Operand, Result};
use crate::glu::Glu;
use crate::matrix::{Nvfp4Matrix, check_global_scale};

/// The weights of a gated MLP and what is known about its activations. Clones share the memory.
///
/// ```text
/// h = glu(x·gate_projᵀ + gate_bias, x·up_projᵀ + up_bias)      [rows, N] from [rows, K]
/// y = h·down_projᵀ + down_bias                                 [rows, H]
/// ```
///
/// gate_proj and up_proj are \[N, K\], down_proj is \[H, N\]. Without a down projection ([`MlpWeights::with_down`]) h is the
/// result. Biases are optional.
#[derive(Debug, Clone, PartialEq)]
pub struct MlpWeights {
    gate_proj: Nvfp4Matrix,
    up_proj: Nvfp4Matrix,
    /// Of gate_proj and up_proj, \[N\].
    biases: Option<[Arc<[f32]>; 2]>,
    glu: Glu,
    calibration: Calibration,
    down: Option<Down>,
    precision: Precision,
}

/// The down projection, with its multiplier folded in.
#[derive(Debug, Clone, PartialEq)]
struct Down {
    proj: Nvfp4Matrix,
    bias: Option<Arc<[f32]>>,
    multiplier: f32,
    calibration: Calibration,
}

impl MlpWeights {
    /// Takes the weights of both projections, each \[N, K\] with batch 1, and joins their products by SwiGLU.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when they differ in shape or are a batch, [`Error::ZeroDimension`] without rows.
    pub fn new(gate_proj: Nvfp4Matrix, up_proj: Nvfp4Matrix) -> Result<Self> {
        let expected = (1, gate_proj.rows(), gate_proj.cols());
        let both = [(Operand::B1, &gate_proj, Operand::A), (Operand::B2, &up_proj, Operand::B1)];
        for (operand, matrix, other) in both {
            check_shape(operand, matrix, other, expected)?;
        }
        let (glu, calibration) = (Glu::default(), Calibration::default());
        let precision = Precision::default();
        Ok(MlpWeights { gate_proj, up_proj, biases: None, glu, calibration, down: None, precision })
    }

    /// The same weights with another function to join the products.
    ///
    /// # Errors
    /// [`Error::GluParameter`].
    pub fn with_glu(mut self, glu: Glu) -> Result<Self> {
        glu.validate()?;
        self.glu = glu;
        Ok(self)
    }

    /// The same weights with the precision that they are meant for: [`Precision::W4A16`](const@crate::Precision::W4A16) of a weight-only checkpoint.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// The same weights with biases of gate_proj and up_proj, each \[N\]. Those of f16 and bf16 are widened to f32
    /// without a loss.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::BiasNonFinite`].
    pub fn with_biases(
        mut self,
        gate: impl Into<Arc<[f32]>>,
        up: impl Into<Arc<[f32]>>,
    ) -> Result<Self> {
        let (gate, up, n) = (gate.into(), up.into(), self.intermediate_features());
        checks::bias(Operand::B1, &gate, 1, n)?;
        checks::bias(Operand::B2, &up, 1, n)?;
        self.biases = Some([gate, up]);
        Ok(self)
    }

    /// The same weights with the global scale (a multiplier) that a calibration found for the input.
    ///
    /// # Errors
    /// [`Error::GlobalScale`] when it is not finite and > 0.
    pub fn with_input_scale(self, scale: f32) -> Result<Self> {
        check_global_scale(scale).map_err(|e| e.with_operand(Operand::A))?;
        Ok(self.with_calibration(Calibration::Scale(scale)))
    }

    pub(crate) fn with_calibration(mut self, calibration: Calibration) -> Self {
        self.calibration = calibration;
        self
    }

    /// The same weights with the down projection \[H, N\], in place of an earlier one and of all that belonged to it. It
    /// has blocks of 16 along N, so that N is a multiple of 16.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when its K is not N or it is a batch, [`Error::ZeroDimension`] without rows.
    pub fn with_down(mut self, down_proj: Nvfp4Matrix) -> Result<Self> {
        let expected = (1, down_proj.rows(), self.intermediate_features());
        check_shape(Operand::Down, &down_proj, Operand::H, expected)?;
        let (bias, calibration) = (None, Calibration::default());
        self.down = Some(Down { proj: down_proj, bias, multiplier: 1.0, calibration });
        Ok(self)
    }

    /// The same weights with a bias of the down projection, \[H\]. A multiplier, whether it was given before or is
    /// given afterwards, applies to it.
    ///
    /// # Errors
    /// [`Error::NoDownProjection`], [`Error::Length`], [`Error::BiasNonFinite`] also of the product with the multiplier.
    pub fn with_down_bias(mut self, bias: impl Into<Arc<[f32]>>) -> Result<Self> {
        let (bias, down) = (bias.into(), self.down_mut("the bias")?);
        checks::bias(Operand::Down, &bias, 1, down.proj.rows())?;
        down.bias = Some(scaled(bias, down.multiplier)?);
        Ok(self)
    }

    /// The same weights with the global scale (a multiplier) that a calibration found for the input of the down
    /// projection.
    ///
    /// # Errors
    /// [`Error::NoDownProjection`], [`Error::GlobalScale`] when it is not finite and > 0.
    pub fn with_down_input_scale(self, scale: f32) -> Result<Self> {
        check_global_scale(scale).map_err(|e| e.with_operand(Operand::H))?;
        self.with_down_calibration(Calibration::Scale(scale))
    }

    pub(crate) fn with_down_calibration(mut self, calibration: Calibration) -> Result<Self> {
        self.down_mut("the input scale")?.calibration = calibration;
        Ok(self)
    }

    /// The same weights with a result that is `multiplier` times as large, as models with scaled projections have it
    /// (Falcon-H1). It becomes part of the global scale and of the bias of the down projection, each rounded to f32.
    ///
    /// # Errors
    /// [`Error::NoDownProjection`]; [`Error::Multiplier`] when its product with the global scale is not a normal f32 > 0;
    /// [`Error::BiasNonFinite`] of its product with a bias.
    pub fn with_down_multiplier(mut self, multiplier: f32) -> Result<Self> {
        let down = self.down_mut("the multiplier")?;
        let global_scale = down.proj.global_scale();
        let product = global_scale * multiplier;
        if !(product.is_normal() && product > 0.0) {
            return Err(Error::Multiplier { operand: Operand::Down, global_scale, multiplier });
        }
        down.proj = down.proj.clone().with_global_scale(product)?;
        down.bias = down.bias.take().map(|bias| scaled(bias, multiplier)).transpose()?;
        down.multiplier *= multiplier;
        Ok(self)
    }

    fn down_mut(&mut self, what: &'static str) -> Result<&mut Down> {
        self.down.as_mut().ok_or(Error::NoDownProjection { what })
    }

    pub(super) fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    pub(super) fn down_calibration(&self) -> Option<&Calibration> {
        self.down.as_ref().map(|down| &down.calibration)
    }

    /// Weights of gate_proj, B1.
    pub fn gate_proj(&self) -> &Nvfp4Matrix {
        &self.gate_proj
    }

    /// Weights of up_proj, B2.
    pub fn up_proj(&self) -> &Nvfp4Matrix {
        &self.up_proj
    }

    /// Weights of the down projection, if there is one; a multiplier is part of its global scale.
    pub fn down_proj(&self) -> Option<&Nvfp4Matrix> {
        self.down.as_ref().map(|down| &down.proj)
    }

    /// Biases of gate_proj and up_proj, \[N\] each.
    pub fn biases(&self) -> Option<[&[f32]; 2]> {
        self.biases.as_ref().map(|[gate, up]| [&gate[..], &up[..]])
    }

    /// Bias of the down projection, \[H\], times its multiplier.
    pub fn down_bias(&self) -> Option<&[f32]> {
        self.down.as_ref()?.bias.as_deref()
    }

    /// The function that joins both products.
    pub fn glu(&self) -> Glu {
        self.glu
    }

    /// The precision that they are meant for; by default W4A4 with the calibrated scale.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The same weights without the down projection, whose result is h.
    pub fn gate_up(&self) -> MlpWeights {
        MlpWeights { down: None, ..self.clone() }
    }

    /// The calibrated global scale (multiplier) of the input, if there is one.
    ///
    /// # Errors
    /// `CheckpointError::InputScale` for one that was stored and is not finite and > 0.
    pub fn input_scale(&self) -> Result<Option<f32>> {
        self.calibration.scale()
    }

    /// The calibrated global scale (multiplier) of the input of the down projection, if there is one.
    ///
    /// # Errors
    /// Those of [`MlpWeights::input_scale`].
    pub fn down_input_scale(&self) -> Result<Option<f32>> {
        self.down.as_ref().map_or(Ok(None), |down| down.calibration.scale())
    }

    /// K: length of a row of x.
    pub fn in_features(&self) -> usize {
        self.gate_proj.cols()
    }

    /// N: length of a row of h.
    pub fn intermediate_features(&self) -> usize {
        self.gate_proj.rows()
    }

    /// Length of a row of the result: H with a down projection, else N.
    pub fn out_features(&self) -> usize {
        self.down.as_ref().map_or(self.intermediate_features(), |down| down.proj.rows())
    }

    /// The one global scale that `scale` means for x; `None` where it depends on the values.
    ///
    /// # Errors
    /// Those of [`MlpWeights::input_scale`] where that is asked for; [`Error::GlobalScale`] of a fixed one.
    pub(crate) fn known_scale(&self, scale: InputScale) -> Result<Option<f32>> {
        known(scale, Operand::A, || self.input_scale())
    }

    /// The one global scale that `scale`, which is that of x, means for h; `None` where it depends on the values
    /// ([`InputScale::of_down`]).
    ///
    /// # Errors
    /// Those of [`MlpWeights::down_input_scale`] where that is asked for.
    pub(crate) fn known_down_scale(&self, scale: InputScale) -> Result<Option<f32>> {
        known(scale.of_down(), Operand::H, || self.down_input_scale())
    }

    /// Finds what would fail in each call: scales that cannot be used, and alphas that are known beforehand and are not
    /// normal.
    ///
    /// # Errors
    /// [`Error::GlobalScale`], [`Error::Alpha`], those of [`MlpWeights::input_scale`] and
    /// [`MlpWeights::down_input_scale`] where the calibrated scales are asked for.
    pub fn check(&self, precision: Precision) -> Result<()> {
        let (of_x, of_h) = match precision {
            Precision::W4A16 { .. } => (Some(1.0), Some(1.0)),
            Precision::W4A4 { scale } => match self.down {
                Some(_) => (self.known_scale(scale)?, self.known_down_scale(scale)?),
                None => (self.known_scale(scale)?, None),
            },
        };
        if let Some(scale) = of_x {
            checks::alpha(Operand::B1, scale, self.gate_proj.global_scale())?;
            checks::alpha(Operand::B2, scale, self.up_proj.global_scale())?;
        }
        if let (Some(scale), Some(down)) = (of_h, &self.down) {
            checks::alpha(Operand::Down, scale, down.proj.global_scale())?;
        }
        Ok(())
    }

    /// Quantizes activations `x` \[rows, K\] for these weights.
    ///
    /// # Errors
    /// Those of [`Nvfp4Matrix::quantize_with_global`], about operand a, and of [`MlpWeights::input_scale`] where that
    /// is asked for.
    pub fn quantize<T: Element>(
        &self,
        x: &[T],
        rows: usize,
        scale: InputScale,
    ) -> Result<Activations> {
        let known = self.known_scale(scale)?;
        Activations::quantize(x, rows, self.in_features(), scale, known)
    }

    /// Quantizes the input `h` \[rows, N\] of the down projection; `scale` is that of x ([`InputScale::of_down`]).
    ///
    /// # Errors
    /// Those of [`MlpWeights::quantize`], about operand h, and [`Error::NoDownProjection`].
    pub fn quantize_down<T: Element>(
        &self,
        h: &[T],
        rows: usize,
        scale: InputScale,
    ) -> Result<Activations> {
        if self.down.is_none() {
            return Err(Error::NoDownProjection { what: "quantizing h" });
        }
        let known = self.known_down_scale(scale)?;
        Activations::quantize(h, rows, self.intermediate_features(), scale.of_down(), known)
            .map_err(of_down)
    }

    /// The dual GEMM of these weights and `x`: h.
    ///
    /// # Errors
    /// Those of [`DualGemm::new`].
    pub fn gemm<'a>(&'a self, x: &'a Activations) -> Result<DualGemm<'a>> {
        let gemm = self.gate_up_gemm(&x.matrix)?;
        match &x.row_scales {
            Some(scales) => gemm.with_row_scales(scales),
            None => Ok(gemm),
        }
    }

    /// [`MlpWeights::gemm`] of activations of any type.
    ///
    /// # Errors
    /// Those of [`DualGemm::new`].
    pub fn gate_up_gemm<'a>(&'a self, x: impl Into<ActivationsView<'a>>) -> Result<DualGemm<'a>> {
        let gemm = DualGemm::new(x, &self.gate_proj, &self.up_proj)?.with_glu(self.glu)?;
        match self.biases() {
            Some(biases) => gemm.with_biases(biases),
            None => Ok(gemm),
        }
    }

    /// The GEMM of the down projection and its input `h`: y.
    ///
    /// # Errors
    /// [`Error::NoDownProjection`], and those of [`Gemm::new`], about operands h and down.
    pub fn down_gemm<'a>(&'a self, h: impl Into<ActivationsView<'a>>) -> Result<Gemm<'a>> {
        let down = self.down.as_ref().ok_or(Error::NoDownProjection { what: "its GEMM" })?;
        let gemm = Gemm::new(h, &down.proj).map_err(of_down)?;
        match &down.bias {
            Some(bias) => gemm.with_bias(bias).map_err(of_down),
            None => Ok(gemm),
        }
    }
}

fn check_shape(
    operand: Operand,
    matrix: &Nvfp4Matrix,
    other: Operand,
    expected: (usize, usize, usize),
) -> Result<()> {
    let actual = (matrix.batch(), matrix.rows(), matrix.cols());
    if actual != expected {
        return Err(Error::ShapeMismatch { operand, other, expected, actual });
    }
    matrix.view().check_rows(operand)
}

fn known(
    scale: InputScale,
    operand: Operand,
    calibrated: impl FnOnce() -> Result<Option<f32>>,
) -> Result<Option<f32>> {
    match scale {
        InputScale::Calibrated => calibrated(),
        InputScale::Dynamic | InputScale::PerRow => Ok(None),
        InputScale::Fixed(scale) => {
            check_global_scale(scale).map_err(|e| e.with_operand(operand))?;
            Ok(Some(scale))
        }
    }
}

/// A bias of the down projection times its multiplier.
fn scaled(bias: Arc<[f32]>, multiplier: f32) -> Result<Arc<[f32]>> {
    if multiplier == 1.0 {
        return Ok(bias);
    }
    let bias: Arc<[f32]> = bias.iter().map(|bias| bias * multiplier).collect();
    checks::bias(Operand::Down, &bias, 1, bias.len())?;
    Ok(bias)
}

/// In the words of the whole MLP.
pub(crate) fn of_down(error: Error) -> Error {
    error.map_operand(|operand| match operand {
        Operand::A | Operand::Matrix => Operand::H,
        Operand::W => Operand::Down,
        other => other,
    })
}
