//! The operand A of a GEMM: quantized to NVFP4, or 16-bit values as they are.

use half::{bf16, f16};

use super::InputScale;
use crate::dtype::{DType, Element};
use crate::error::{Buffer, Error, Operand, Result};
use crate::format::{self, quantize};
use crate::matrix::{Nvfp4Matrix, Nvfp4View, ValuesView};
use crate::memory;
use crate::shape::MatrixShape;

/// Activations A \[batch, M, K\], borrowed. An [`Nvfp4View`] or a [`ValuesView`] of f16 or bf16 is one by `From`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum ActivationsView<'a> {
    /// Quantized (W4A4).
    Nvfp4(Nvfp4View<'a>),
    /// As they are (W4A16).
    F16(ValuesView<'a, f16>),
    /// As they are (W4A16).
    Bf16(ValuesView<'a, bf16>),
}

/// Calls with the view inside, whatever its type.
macro_rules! each_view {
    ($activations:expr, $view:ident => $body:expr) => {
        match $activations {
            ActivationsView::Nvfp4($view) => $body,
            ActivationsView::F16($view) => $body,
            ActivationsView::Bf16($view) => $body,
        }
    };
}

impl<'a> ActivationsView<'a> {
    /// Number of matrices, L.
    pub fn batch(&self) -> usize {
        each_view!(self, view => view.batch())
    }

    /// Rows, M.
    pub fn rows(&self) -> usize {
        each_view!(self, view => view.rows())
    }

    /// Columns, K.
    pub fn cols(&self) -> usize {
        each_view!(self, view => view.cols())
    }

    /// The multiplier of the whole tensor: that of NVFP4, and 1 for values.
    pub fn global_scale(&self) -> f32 {
        match self {
            ActivationsView::Nvfp4(view) => view.global_scale(),
            _ => 1.0,
        }
    }

    /// The type of values that are not quantized.
    pub fn dtype(&self) -> Option<DType> {
        match self {
            ActivationsView::Nvfp4(_) => None,
            ActivationsView::F16(_) => Some(DType::F16),
            ActivationsView::Bf16(_) => Some(DType::Bf16),
        }
    }

    /// The NVFP4 matrix, for what takes no other activations.
    ///
    /// # Errors
    /// [`Error::NotQuantized`].
    pub fn nvfp4(&self) -> Result<Nvfp4View<'a>> {
        let actual = match self {
            ActivationsView::Nvfp4(view) => return Ok(*view),
            ActivationsView::F16(_) => DType::F16,
            ActivationsView::Bf16(_) => DType::Bf16,
        };
        Err(Error::NotQuantized { operand: Operand::A, actual })
    }
}

impl<'a> From<Nvfp4View<'a>> for ActivationsView<'a> {
    fn from(view: Nvfp4View<'a>) -> Self {
        ActivationsView::Nvfp4(view)
    }
}

impl<'a> From<&Nvfp4View<'a>> for ActivationsView<'a> {
    fn from(view: &Nvfp4View<'a>) -> Self {
        ActivationsView::Nvfp4(*view)
    }
}

impl<'a> From<&'a Nvfp4Matrix> for ActivationsView<'a> {
    fn from(matrix: &'a Nvfp4Matrix) -> Self {
        ActivationsView::Nvfp4(matrix.view())
    }
}

impl<'a> From<ValuesView<'a, f16>> for ActivationsView<'a> {
    fn from(view: ValuesView<'a, f16>) -> Self {
        ActivationsView::F16(view)
    }
}

impl<'a> From<ValuesView<'a, bf16>> for ActivationsView<'a> {
    fn from(view: ValuesView<'a, bf16>) -> Self {
        ActivationsView::Bf16(view)
    }
}

/// Quantized activations, \[rows, K\].
#[derive(Debug, Clone, PartialEq)]
pub struct Activations {
    pub(super) matrix: Nvfp4Matrix,
    pub(super) row_scales: Option<Vec<f32>>,
}

impl Activations {
    /// Quantizes `x` \[rows, cols\] with the global scale that is `known`, or else the one that `scale` means.
    pub(super) fn quantize<T: Element>(
        x: &[T],
        rows: usize,
        cols: usize,
        scale: InputScale,
        known: Option<f32>,
    ) -> Result<Self> {
        let matrix = match (scale, known) {
            (InputScale::PerRow, _) => return Activations::by_rows(x, rows, cols),
            (_, Some(global)) => Nvfp4Matrix::quantize_with_global(x, 1, rows, cols, global),
            (_, None) => Nvfp4Matrix::quantize(x, 1, rows, cols),
        };
        let matrix = matrix.map_err(|e| e.with_operand(Operand::A))?;
        Ok(Activations { matrix, row_scales: None })
    }

    fn by_rows<T: Element>(x: &[T], rows: usize, cols: usize) -> Result<Self> {
        let at = |e: Error| e.with_operand(Operand::A);
        let shape = MatrixShape::new(1, rows, cols).map_err(at)?;
        shape.check_length(Buffer::Values, 1, x.len(), Operand::A)?;
        quantize::check_finite(x, rows, cols).map_err(at)?;
        let mut row_scales = memory::filled(1.0, rows, Operand::A)?;
        let mut codes = memory::filled(0, shape.elements() / 2, Operand::A)?;
        let mut scales = memory::filled(0, shape.elements() / format::BLOCK, Operand::A)?;
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
