//! Sizes, and nothing else: of a matrix, and of a GEMM.

use crate::error::{Buffer, Error, Operand, Result};

/// Elements that share one scale factor: 16 along K.
pub const BLOCK: usize = 16;

/// The shape of an operand: `batch` matrices of `rows`×`cols`, where `cols` is K.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct MatrixShape {
    pub batch: usize,
    pub rows: usize,
    pub cols: usize,
}

impl MatrixShape {
    /// Checks that batch and K are not zero, that K is a multiple of 16 and that sizes fit. There may
    /// be no rows: what a layer is given when there are no tokens.
    pub fn new(batch: usize, rows: usize, cols: usize) -> Result<Self> {
        let operand = Operand::Matrix;
        if batch == 0 || cols == 0 {
            return Err(Error::ZeroDimension { operand, batch, rows, cols });
        }
        if !cols.is_multiple_of(BLOCK) {
            return Err(Error::KNotMultiple { operand, k: cols, multiple: BLOCK });
        }
        // The largest buffer made of a shape is one f32 an element. Without rows, those of one row
        // have to fit, so that no product of two dimensions can overflow.
        batch
            .checked_mul(rows.max(1))
            .and_then(|n| n.checked_mul(cols))
            .and_then(|n| n.checked_mul(4))
            .filter(|&bytes| isize::try_from(bytes).is_ok())
            .ok_or(Error::SizeOverflow { operand, batch, rows, cols })?;
        Ok(MatrixShape { batch, rows, cols })
    }

    pub fn elements(self) -> usize {
        self.batch * self.rows * self.cols
    }

    pub fn check_length(
        self,
        buffer: Buffer,
        per: usize,
        actual: usize,
        operand: Operand,
    ) -> Result<()> {
        let MatrixShape { batch, rows, cols } = self;
        let expected = self.elements() / per;
        if actual != expected {
            return Err(Error::Length { operand, buffer, expected, actual, batch, rows, cols });
        }
        Ok(())
    }
}

/// Looks at the values of a layer: x \[rows, K\], operand a, and y \[rows, N\], operand c. Each is its columns and the
/// number of its elements.
pub(crate) fn check_values(
    rows: usize,
    (k, x): (usize, usize),
    (n, y): (usize, usize),
) -> Result<()> {
    let shape = MatrixShape::new(1, rows, k).map_err(|e| e.with_operand(Operand::A))?;
    shape.check_length(Buffer::Values, 1, x, Operand::A)?;
    let (operand, buffer, batch, cols) = (Operand::C, Buffer::Values, 1, n);
    let overflow = Error::SizeOverflow { operand, batch, rows, cols };
    let expected = rows.checked_mul(cols).ok_or(overflow)?;
    if y != expected {
        return Err(Error::Length { operand, buffer, expected, actual: y, batch, rows, cols });
    }
    Ok(())
}

/// Size of a dual GEMM: for each of `batch` matrices, C is `m`×`n` and the dot products have length
/// `k`. `m` may be 0, the others not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GemmShape {
    /// Rows of A and C (tokens).
    pub m: usize,
    /// Rows of B1 and B2, columns of C.
    pub n: usize,
    /// Length of each dot product.
    pub k: usize,
    /// Number of independent problems, L.
    pub batch: usize,
}

impl GemmShape {
    /// Floating-point operations of both GEMMs, a multiply-add counted as two: `4·L·M·N·K`.
    pub fn flops(&self) -> f64 {
        4.0 * self.batch as f64 * self.m as f64 * self.n as f64 * self.k as f64
    }

    /// Bytes (not bits, not KiB) that have to be read and written at least once: packed operands with
    /// one scale byte per 16 elements, and C with `c_size` bytes an element.
    pub fn bytes(&self, c_size: usize) -> f64 {
        let (m, n, k) = (self.m as f64, self.n as f64, self.k as f64);
        self.batch as f64 * ((m + 2.0 * n) * k * (0.5 + 1.0 / 16.0) + m * n * c_size as f64)
    }
}
