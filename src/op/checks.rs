//! Checks that all operations share.

use super::ActivationsView;
use crate::error::{Buffer, Error, Operand, Result};
use crate::matrix::Nvfp4View;
use crate::shape::GemmShape;

/// Weights `b` that fit activations `a` of the same batch count and K, and a weight before them.
pub(super) fn weights(
    a: &ActivationsView<'_>,
    b: &Nvfp4View<'_>,
    operand: Operand,
    (other, rows): (Operand, usize),
) -> Result<()> {
    let expected = (a.batch(), rows, a.cols());
    let actual = (b.batch(), b.rows(), b.cols());
    if actual != expected {
        return Err(Error::ShapeMismatch { operand, other, expected, actual });
    }
    b.check_rows(operand)?;
    alpha(operand, a.global_scale(), b.global_scale())
}

/// Engines multiply by the product as an f32.
pub(super) fn alpha(operand: Operand, global_a: f32, global_b: f32) -> Result<()> {
    if ((f64::from(global_a) * f64::from(global_b)) as f32).is_normal() {
        return Ok(());
    }
    Err(Error::Alpha { operand, global_a, global_b })
}

/// The elements of C can be counted, and their bytes, whatever their type.
pub(super) fn size_of_c(GemmShape { m, n, batch, .. }: GemmShape) -> Result<()> {
    batch
        .checked_mul(m)
        .and_then(|v| v.checked_mul(n))
        .and_then(|v| v.checked_mul(8))
        .filter(|&bytes| isize::try_from(bytes).is_ok())
        .map(|_| ())
        .ok_or(Error::SizeOverflow { operand: Operand::C, batch, rows: m, cols: n })
}

/// `actual` elements are batch × rows × cols.
pub(super) fn length(
    operand: Operand,
    buffer: Buffer,
    actual: usize,
    (batch, rows, cols): (usize, usize, usize),
) -> Result<()> {
    let expected = batch * rows * cols;
    if actual != expected {
        return Err(Error::Length { operand, buffer, expected, actual, batch, rows, cols });
    }
    Ok(())
}

/// One finite bias for each column of each batch.
pub(super) fn bias(operand: Operand, bias: &[f32], batch: usize, n: usize) -> Result<()> {
    length(operand, Buffer::Bias, bias.len(), (batch, 1, n))?;
    match bias.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::BiasNonFinite { operand, index, value: bias[index] }),
    }
}

/// One global scale for each row of A, with normal products with those of the weights.
pub(super) fn row_scales(
    row_scales: &[f32],
    GemmShape { m, batch, .. }: GemmShape,
    weights: &[(Operand, f32)],
) -> Result<()> {
    let operand = Operand::A;
    length(operand, Buffer::RowScales, row_scales.len(), (batch, m, 1))?;
    for &value in row_scales {
        if !(value.is_finite() && value > 0.0) {
            return Err(Error::GlobalScale { operand, value });
        }
        weights.iter().try_for_each(|&(operand, global)| alpha(operand, value, global))?;
    }
    Ok(())
}
