//! Matrices of values in a float type, as activations that are not quantized are.

use crate::dtype::Element;
use crate::error::{Buffer, Operand, Result};
use crate::format::quantize;
use crate::shape::MatrixShape;

/// A borrowed matrix (or `batch` of them) of finite values \[batch, rows, cols\], row-major.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValuesView<'a, T> {
    shape: MatrixShape,
    values: &'a [T],
}

impl<'a, T: Element> ValuesView<'a, T> {
    /// Takes `values` \[batch, rows, cols\]. This is the one place where they are looked at for NaN and infinities:
    /// what multiplies them relies on it. There may be no rows.
    ///
    /// # Errors
    /// `batch` or `cols` zero, `cols` no multiple of 16 (weights have blocks of 16 along it), sizes that overflow, a
    /// length that disagrees with the shape, and [`Error::NonFinite`](crate::Error::NonFinite) with the place of the
    /// first NaN or infinity.
    pub fn new(batch: usize, rows: usize, cols: usize, values: &'a [T]) -> Result<Self> {
        let shape = MatrixShape::new(batch, rows, cols)?;
        shape.check_length(Buffer::Values, 1, values.len(), Operand::Matrix)?;
        quantize::check_finite(values, rows, cols)?;
        Ok(ValuesView { shape, values })
    }

    /// Number of matrices, L.
    pub fn batch(&self) -> usize {
        self.shape.batch
    }

    /// Rows, M.
    pub fn rows(&self) -> usize {
        self.shape.rows
    }

    /// Columns, K.
    pub fn cols(&self) -> usize {
        self.shape.cols
    }

    /// The values \[batch, rows, cols\].
    pub fn values(&self) -> &'a [T] {
        self.values
    }

    /// One row; `row` counts through all batches.
    pub(crate) fn row(&self, row: usize) -> &'a [T] {
        &self.values[row * self.shape.cols..][..self.shape.cols]
    }

    /// One of the matrices of a batch.
    pub(crate) fn slice(&self, l: usize) -> ValuesView<'a, T> {
        let MatrixShape { rows, cols, .. } = self.shape;
        let values = &self.values[l * rows * cols..][..rows * cols];
        ValuesView { shape: MatrixShape { batch: 1, rows, cols }, values }
    }
}
