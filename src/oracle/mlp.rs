//! A whole MLP, exact but for the roundings that its precision has.

use half::{bf16, f16};

use super::exact_rows;
use crate::dtype::Element;
use crate::error::{Buffer, Error, Operand, Result};
use crate::matrix::ValuesView;
use crate::memory;
use crate::op::{
    Activations, ActivationsView, DType16, DualGemm, Gemm, InputScale, MlpWeights, Precision,
};
use crate::shape::MatrixShape;

/// y \[rows, out_features\] of x \[rows, in_features\]: see [`mlp_rows`].
///
/// # Errors
/// Those of [`mlp_rows`].
pub fn mlp<X: Element, T: Element>(
    weights: &MlpWeights,
    x: &[X],
    rows: usize,
    precision: Precision,
) -> Result<Vec<T>> {
    let all: Vec<usize> = (0..rows).collect();
    mlp_rows(weights, x, rows, precision, &all)
}

/// Some rows of y, \[only.len(), out_features\], of x \[rows, in_features\].
///
/// 1. x is quantized or rounded to 16 bits, as `precision` says.
/// 2. `h = glu(...)` is computed exactly, and rounded once, to f32; without a down projection to `T`, and is the result.
/// 3. h is quantized from f32 with its own scale ([`InputScale::of_down`]), or rounded to the 16-bit type of x.
/// 4. y is computed exactly from that, and rounded once.
///
/// The cost is that of the rows asked for, but for a scale of h that depends on all of its values
/// ([`InputScale::Dynamic`], or [`InputScale::Calibrated`] without such a scale), for which all of h is computed.
///
/// # Errors
/// [`Error::Length`] of x; [`Error::RowOutOfRange`]; [`Error::NonFinite`] for a NaN, an infinity or what overflows the
/// 16-bit type, in x (operand a) or h; those of [`MlpWeights::check`]; [`Error::OutOfMemory`].
pub fn mlp_rows<X: Element, T: Element>(
    weights: &MlpWeights,
    x: &[X],
    rows: usize,
    precision: Precision,
    only: &[usize],
) -> Result<Vec<T>> {
    if let Some(&row) = only.iter().find(|&&row| row >= rows) {
        let (operand, batch, batches) = (Operand::C, 0, 1);
        return Err(Error::RowOutOfRange { operand, batch, row, batches, rows });
    }
    let x = match precision {
        Precision::W4A4 { scale } => Input::Nvfp4(weights.quantize(x, rows, scale)?),
        Precision::W4A16 { round } => {
            Input::rounded(x, rows, weights.in_features(), round.of(X::DTYPE))
                .map_err(|e| e.with_operand(Operand::A))?
        }
    };
    let gate_up = x.gate_up(weights)?;
    let named = |rows: &[usize]| rows.iter().map(|&row| (0, row)).collect::<Vec<_>>();
    if weights.down_proj().is_none() {
        return exact_rows(&gate_up, &named(only));
    }
    let all: Vec<usize>;
    let (of_h, of_y): (&[usize], Vec<usize>) = match precision {
        Precision::W4A4 { scale }
            if scale != InputScale::PerRow && weights.known_down_scale(scale)?.is_none() =>
        {
            all = (0..rows).collect();
            (&all, only.to_vec())
        }
        _ => (only, (0..only.len()).collect()),
    };
    let h = exact_rows::<f32>(&gate_up, &named(of_h))?;
    let n = weights.intermediate_features();
    let h = match precision {
        Precision::W4A4 { scale } => Input::Nvfp4(weights.quantize_down(&h, of_h.len(), scale)?),
        Precision::W4A16 { round } => Input::rounded(&h, of_h.len(), n, round.of(X::DTYPE))
            .map_err(|e| e.with_operand(Operand::H))?,
    };
    exact_rows(&h.down(weights)?, &named(&of_y))
}

/// The input of a projection, in the form in which it is multiplied.
enum Input {
    Nvfp4(Activations),
    F16(Vec<f16>, usize),
    Bf16(Vec<bf16>, usize),
}

impl Input {
    /// `values` \[rows, cols\] in 16 bits.
    fn rounded<X: Element>(values: &[X], rows: usize, cols: usize, dtype: DType16) -> Result<Self> {
        Ok(match dtype {
            DType16::F16 => Input::F16(round(values, rows, cols)?, rows),
            DType16::Bf16 => Input::Bf16(round(values, rows, cols)?, rows),
        })
    }

    fn gate_up<'a>(&'a self, weights: &'a MlpWeights) -> Result<DualGemm<'a>> {
        match self {
            Input::Nvfp4(x) => weights.gemm(x),
            Input::F16(..) | Input::Bf16(..) => {
                weights.gate_up_gemm(self.values(weights.in_features())?)
            }
        }
    }

    fn down<'a>(&'a self, weights: &'a MlpWeights) -> Result<Gemm<'a>> {
        match self {
            Input::Nvfp4(h) => {
                let gemm = weights.down_gemm(h.matrix())?;
                match h.row_scales() {
                    Some(scales) => gemm.with_row_scales(scales),
                    None => Ok(gemm),
                }
            }
            Input::F16(..) | Input::Bf16(..) => {
                weights.down_gemm(self.values(weights.intermediate_features())?)
            }
        }
    }

    fn values(&self, cols: usize) -> Result<ActivationsView<'_>> {
        Ok(match self {
            Input::Nvfp4(matrix) => matrix.matrix().into(),
            Input::F16(values, rows) => ValuesView::new(1, *rows, cols, values)?.into(),
            Input::Bf16(values, rows) => ValuesView::new(1, *rows, cols, values)?.into(),
        })
    }
}

/// Rounds to nearest even; what is not finite, or not afterwards, is refused with its value as it was.
fn round<X: Element, T: Element>(values: &[X], rows: usize, cols: usize) -> Result<Vec<T>> {
    let shape = MatrixShape::new(1, rows, cols)?;
    shape.check_length(Buffer::Values, 1, values.len(), Operand::Matrix)?;
    let mut out = memory::filled(T::default(), values.len(), Operand::Matrix)?;
    for (i, (out, value)) in out.iter_mut().zip(values).enumerate() {
        let value = value.to_f32();
        *out = T::from_f32(value);
        if !out.to_f32().is_finite() {
            let operand = Operand::Matrix;
            let (row, col) = (i / cols, i % cols);
            return Err(Error::NonFinite { operand, value, batch: 0, row, col });
        }
    }
    Ok(out)
}
