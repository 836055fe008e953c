//! A whole MLP, exact but for the roundings that its precision has.

use half::{bf16, f16};

use super::exact_rows;
use crate::dtype::Element;
use crate::error::{Buffer, Error, Operand, Result};
use crate::format::{BLOCK, e2m1, quantize, ue4m3};
use crate::matrix::{Nvfp4Matrix, ValuesView};
use crate::memory;
use crate::op::{
    Activations, ActivationsView, DType16, DualGemm, Gemm, InputScale, MlpWeights, Precision,
};
use crate::shape::MatrixShape;

/// y \[rows, out_features\] of x \[rows, in_features\]: the values of [`ExactMlp`].
///
/// # Errors
/// Those of [`ExactMlp::rows`].
pub fn mlp<X: Element, T: Element>(
    weights: &MlpWeights,
    x: &[X],
    rows: usize,
    precision: Precision,
) -> Result<Vec<T>> {
    let all: Vec<usize> = (0..rows).collect();
    ExactMlp::new(weights, precision).rows(x, rows, &all).map(|rows| rows.values)
}

/// A whole MLP from end to end.
///
/// 1. x is quantized or rounded to 16 bits, as the precision says.
/// 2. `h = glu(...)` is computed exactly, and rounded once, to f32; without a down projection to the type of y, and is the
///    result.
/// 3. h is quantized from f32 with its own scale ([`InputScale::of_down`]), or rounded to the 16-bit type of x.
/// 4. y is computed exactly from that, and rounded once.
#[derive(Debug, Clone, Copy)]
pub struct ExactMlp<'a> {
    weights: &'a MlpWeights,
    precision: Precision,
    round_first: Option<DType16>,
}

/// Rows of y.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MlpRows<T> {
    /// The exact ones, \[rows, out_features\].
    pub values: Vec<T>,
    /// How much further off than its own roundings explain each may be: step 3 makes steps, and an h that is next to one
    /// may come out on the other side where it was computed in f32. Of a value it is `Σ d·|w|` over its terms, with d what
    /// becomes of an error of h of `2^-18·(|h| + rms)`, rms being that of its row: several times what sums in f32 have.
    /// 0 for most rows of some thousand terms. For [`compare_within`](super::compare_within).
    pub slack: Vec<f32>,
}

impl<'a> ExactMlp<'a> {
    /// The MLP of these weights.
    pub fn new(weights: &'a MlpWeights, precision: Precision) -> Self {
        ExactMlp { weights, precision, round_first: None }
    }

    /// Rounds h to this type before it is quantized to NVFP4, as what keeps h in 16 bits between two kernels does.
    pub fn round_first(mut self, dtype: Option<DType16>) -> Self {
        self.round_first = dtype;
        self
    }

    /// Some rows of y, of x \[rows, in_features\].
    ///
    /// The cost is that of the rows asked for, but for a scale of h that depends on all of its values
    /// ([`InputScale::Dynamic`], or [`InputScale::Calibrated`] without such a scale), for which all of h is computed.
    ///
    /// # Errors
    /// [`Error::Length`] of x; [`Error::RowOutOfRange`]; [`Error::NonFinite`] for a NaN, an infinity or what overflows the
    /// 16-bit type, in x (operand a) or h; those of [`MlpWeights::check`]; [`Error::OutOfMemory`].
    pub fn rows<X: Element, T: Element>(
        &self,
        x: &[X],
        rows: usize,
        only: &[usize],
    ) -> Result<MlpRows<T>> {
        let (weights, precision) = (self.weights, self.precision);
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
        let Some(down) = weights.down_proj() else {
            let values = exact_rows(&gate_up, &named(only))?;
            let slack = memory::filled(0.0, values.len(), Operand::C)?;
            return Ok(MlpRows { values, slack });
        };
        // Rows of h that are computed, and which of them are those of y.
        let (of_h, of_y): (Vec<usize>, Vec<usize>) = match precision {
            Precision::W4A4 { scale }
                if scale != InputScale::PerRow && weights.known_down_scale(scale)?.is_none() =>
            {
                ((0..rows).collect(), only.to_vec())
            }
            _ => (only.to_vec(), (0..only.len()).collect()),
        };
        let mut h = exact_rows::<f32>(&gate_up, &named(&of_h))?;
        let n = weights.intermediate_features();
        let dtype = match precision {
            Precision::W4A4 { .. } => self.round_first,
            Precision::W4A16 { round } => Some(round.of(X::DTYPE)),
        };
        let unrounded = match dtype {
            Some(dtype) => {
                let rounded = Input::rounded(&h, of_h.len(), n, dtype)
                    .and_then(|rounded| rounded.widened())
                    .map_err(|e| e.with_operand(Operand::H))?;
                std::mem::replace(&mut h, rounded)
            }
            None => h.clone(),
        };
        let input = match precision {
            Precision::W4A4 { scale } => {
                Input::Nvfp4(weights.quantize_down(&h, of_h.len(), scale)?)
            }
            Precision::W4A16 { round } => Input::rounded(&h, of_h.len(), n, round.of(X::DTYPE))?,
        };
        let values = exact_rows(&input.down(weights)?, &named(&of_y))?;
        let mut slack = Vec::new();
        for &row in &of_y {
            let h = &unrounded[row * n..][..n];
            slack.extend(slack_of(down, &steps(h, dtype, input.row_scale(row))));
        }
        Ok(MlpRows { values, slack })
    }
}

/// By how much what a row h becomes in 16 bits or in NVFP4 may change with an error of h. `scale` is the global scale of
/// NVFP4.
fn steps(h: &[f32], dtype: Option<DType16>, scale: Option<f32>) -> Vec<f32> {
    let rms = (h.iter().map(|h| f64::from(*h).powi(2)).sum::<f64>() / h.len() as f64).sqrt() as f32;
    let become_of = |factor: f32| -> Vec<f32> {
        let moved = |h: f32| (h.abs() + factor * (h.abs() + rms)).max(0.0).copysign(h);
        let mut values: Vec<f32> = h.iter().map(|&h| moved(h)).collect();
        match dtype {
            Some(DType16::F16) => values.iter_mut().for_each(|v| *v = f16::from_f32(*v).to_f32()),
            Some(DType16::Bf16) => values.iter_mut().for_each(|v| *v = bf16::from_f32(*v).to_f32()),
            None => {}
        }
        if let Some(scale) = scale {
            let (mut codes, mut scales) = (vec![0; h.len() / 2], vec![0; h.len() / BLOCK]);
            quantize::quantize_into(&values, scale, &mut codes, &mut scales);
            quantize::dequantize_into(&codes, &scales, scale, &mut values);
        }
        values
    };
    let error = 2f32.powi(-18);
    let (less, as_is, more) = (become_of(-error), become_of(0.0), become_of(error));
    let step = |((less, as_is), more): ((&f32, &f32), &f32)| {
        (less - as_is).abs().max((more - as_is).abs())
    };
    less.iter().zip(&as_is).zip(&more).map(step).collect()
}

/// `Σ step·|w|` for each row of the weight, in f64, rounded up.
fn slack_of(down: &Nvfp4Matrix, steps: &[f32]) -> Vec<f32> {
    let view = down.view();
    let steps: Vec<(usize, f64)> =
        steps.iter().map(|&step| f64::from(step)).enumerate().filter(|(_, s)| *s > 0.0).collect();
    let of_row = |row: usize| {
        let (codes, scales) = (view.row_codes(row), view.row_scales(row));
        let term = |&(k, step): &(usize, f64)| {
            let code = codes[k / 2] >> (4 * (k % 2));
            let w = e2m1::decode(code).abs() * ue4m3::decode(scales[k / BLOCK]);
            step * f64::from(w) * f64::from(view.global_scale())
        };
        let sum = steps.iter().map(term).sum::<f64>();
        if sum == 0.0 { 0.0 } else { (sum as f32).next_up() }
    };
    (0..view.rows()).map(of_row).collect()
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

    /// The global scale of a row in NVFP4.
    fn row_scale(&self, row: usize) -> Option<f32> {
        match self {
            Input::Nvfp4(h) => match h.row_scales() {
                Some(scales) => Some(scales[row]),
                None => Some(h.matrix().global_scale()),
            },
            Input::F16(..) | Input::Bf16(..) => None,
        }
    }

    /// 16-bit values as f32.
    fn widened(&self) -> Result<Vec<f32>> {
        fn widen<T: Element>(values: &[T]) -> Result<Vec<f32>> {
            let mut out = memory::filled(0.0, values.len(), Operand::Matrix)?;
            T::widen(values, &mut out);
            Ok(out)
        }
        match self {
            Input::Nvfp4(matrix) => Ok(matrix.matrix().dequantize()),
            Input::F16(values, _) => widen(values),
            Input::Bf16(values, _) => widen(values),
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
