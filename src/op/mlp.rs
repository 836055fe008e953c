//! The input half of a gated MLP: `y = glu(x·gate_projᵀ, x·up_projᵀ)`, with weights that are kept.

use super::{DualGemm, InputScale};
use crate::dtype::Element;
use crate::error::{Buffer, Error, Operand, Result};
use crate::format::quantize;
use crate::glu::Glu;
use crate::matrix::{Nvfp4Matrix, check_global_scale};
use crate::memory;
use crate::shape::MatrixShape;

/// The weights of gate_proj and up_proj, \[N, K\] each, and what is known about their input. Clones share the memory.
#[derive(Debug, Clone, PartialEq)]
pub struct MlpWeights {
    gate_proj: Nvfp4Matrix,
    up_proj: Nvfp4Matrix,
    glu: Glu,
    calibration: Calibration,
}

/// The global scale that a calibration found for the input.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum Calibration {
    #[default]
    Missing,
    Scale(f32),
    /// There is one that nothing can be quantized with.
    #[cfg(feature = "checkpoint")]
    Unusable(UnusableScale),
    /// There is none, as activations are not meant to be quantized.
    #[cfg(feature = "checkpoint")]
    WeightOnly(WeightOnly),
}

/// A stored global scale that is not finite and > 0.
#[cfg(feature = "checkpoint")]
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct UnusableScale {
    pub path: std::path::PathBuf,
    pub tensor: String,
    pub stored: f32,
}

/// What says that a layer is weight-only.
#[cfg(feature = "checkpoint")]
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WeightOnly {
    pub path: std::path::PathBuf,
    pub layer: String,
    pub evidence: String,
}

impl Calibration {
    pub(crate) fn scale(&self) -> Result<Option<f32>> {
        match self {
            Calibration::Missing => Ok(None),
            Calibration::Scale(scale) => Ok(Some(*scale)),
            #[cfg(feature = "checkpoint")]
            Calibration::Unusable(UnusableScale { path, tensor, stored }) => {
                let (path, tensor, stored) = (path.clone(), tensor.clone(), *stored);
                Err(crate::error::CheckpointError::InputScale { path, tensor, stored }.into())
            }
            #[cfg(feature = "checkpoint")]
            Calibration::WeightOnly(WeightOnly { path, layer, evidence }) => {
                let (path, layer, evidence) = (path.clone(), layer.clone(), evidence.clone());
                Err(crate::error::CheckpointError::WeightOnly { path, layer, evidence }.into())
            }
        }
    }
}

impl MlpWeights {
    /// Takes the weights of both projections, each \[N, K\] with batch 1, and joins their products by SwiGLU.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when they differ in shape or are a batch, [`Error::ZeroDimension`] without rows.
    pub fn new(gate_proj: Nvfp4Matrix, up_proj: Nvfp4Matrix) -> Result<Self> {
        let shape = |matrix: &Nvfp4Matrix| (matrix.batch(), matrix.rows(), matrix.cols());
        let expected = (1, gate_proj.rows(), gate_proj.cols());
        let both = [(Operand::B1, &gate_proj, Operand::A), (Operand::B2, &up_proj, Operand::B1)];
        for (operand, matrix, other) in both {
            if shape(matrix) != expected {
                let actual = shape(matrix);
                return Err(Error::ShapeMismatch { operand, other, expected, actual });
            }
            matrix.view().check_rows(operand)?;
        }
        let (glu, calibration) = (Glu::default(), Calibration::default());
        Ok(MlpWeights { gate_proj, up_proj, glu, calibration })
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

    /// Weights of gate_proj, B1.
    pub fn gate_proj(&self) -> &Nvfp4Matrix {
        &self.gate_proj
    }

    /// Weights of up_proj, B2.
    pub fn up_proj(&self) -> &Nvfp4Matrix {
        &self.up_proj
    }

    /// The function that joins both products.
    pub fn glu(&self) -> Glu {
        self.glu
    }

    /// The calibrated global scale (multiplier) of the input, if there is one.
    ///
    /// # Errors
    /// `CheckpointError::InputScale` for one that was stored and is not finite and > 0.
    pub fn input_scale(&self) -> Result<Option<f32>> {
        self.calibration.scale()
    }

    /// K: length of a row of x.
    pub fn in_features(&self) -> usize {
        self.gate_proj.cols()
    }

    /// N: length of a row of y.
    pub fn out_features(&self) -> usize {
        self.gate_proj.rows()
    }

    /// The one global scale that `scale` means for these weights; `None` where it depends on the values.
    ///
    /// # Errors
    /// Those of [`MlpWeights::input_scale`] where that is asked for; [`Error::GlobalScale`] of a fixed one.
    pub(crate) fn known_scale(&self, scale: InputScale) -> Result<Option<f32>> {
        match scale {
            InputScale::Calibrated => self.input_scale(),
            InputScale::Dynamic | InputScale::PerRow => Ok(None),
            InputScale::Fixed(scale) => {
                check_global_scale(scale).map_err(|e| e.with_operand(Operand::A))?;
                Ok(Some(scale))
            }
        }
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
        let cols = self.in_features();
        let matrix = match (scale, self.known_scale(scale)?) {
            (InputScale::PerRow, _) => return Activations::by_rows(x, rows, cols),
            (_, Some(global)) => Nvfp4Matrix::quantize_with_global(x, 1, rows, cols, global),
            (_, None) => Nvfp4Matrix::quantize(x, 1, rows, cols),
        };
        let matrix = matrix.map_err(|e| e.with_operand(Operand::A))?;
        Ok(Activations { matrix, row_scales: None })
    }

    /// The dual GEMM of these weights and `x`.
    ///
    /// # Errors
    /// Those of [`DualGemm::new`].
    pub fn gemm<'a>(&'a self, x: &'a Activations) -> Result<DualGemm<'a>> {
        let gemm = DualGemm::new(&x.matrix, &self.gate_proj, &self.up_proj)?.with_glu(self.glu)?;
        match &x.row_scales {
            Some(scales) => gemm.with_row_scales(scales),
            None => Ok(gemm),
        }
    }
}

/// Quantized activations, \[rows, K\].
#[derive(Debug, Clone, PartialEq)]
pub struct Activations {
    matrix: Nvfp4Matrix,
    row_scales: Option<Vec<f32>>,
}

impl Activations {
    fn by_rows<T: Element>(x: &[T], rows: usize, cols: usize) -> Result<Self> {
        let at = |e: Error| e.with_operand(Operand::A);
        let shape = MatrixShape::new(1, rows, cols).map_err(at)?;
        shape.check_length(Buffer::Values, 1, x.len(), Operand::A)?;
        quantize::check_finite(x, rows, cols).map_err(at)?;
        let mut row_scales = memory::filled(1.0, rows, Operand::A)?;
        let mut codes = memory::filled(0, shape.elements() / 2, Operand::A)?;
        let mut scales = memory::filled(0, shape.elements() / crate::format::BLOCK, Operand::A)?;
        quantize::quantize_rows_into(x, cols, &mut row_scales, &mut codes, &mut scales);
        let matrix = Nvfp4Matrix::new(1, rows, cols, codes, scales, 1.0).map_err(at)?;
        Ok(Activations { matrix, row_scales: Some(row_scales) })
    }

    /// Codes and scale factors. The global scale is that of all rows, or 1 where each row has its own.
    pub fn matrix(&self) -> &Nvfp4Matrix {
        &self.matrix
    }

    /// The global scale of each row, where it has its own.
    pub fn row_scales(&self) -> Option<&[f32]> {
        self.row_scales.as_deref()
    }
}
