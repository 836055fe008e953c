//! The GEMM: activations, one weight, and what is added to the product.

use super::problem::sealed::Sealed;
use super::problem::{Join, Problem};
use super::{ActivationsView, checks};
use crate::dtype::Values;
use crate::error::{Buffer, Operand, Result};
use crate::matrix::Nvfp4View;
use crate::shape::GemmShape;

/// One validated GEMM: `C = alpha·A·Wᵀ + bias + R` with `alpha = global(A)·global(W)`, where the global scale of 16-bit
/// activations is 1. Bias and residual are left out unless they are given.
///
/// Engines compute `(alpha·acc + bias) + R` in f32 and round once, to the type of C.
///
/// ```
/// use nvfp4_dual_gemm::{Gemm, Nvfp4Matrix, ValuesView, f16};
/// # fn main() -> nvfp4_dual_gemm::Result<()> {
/// let x = [f16::ONE; 2 * 32];
/// let w = Nvfp4Matrix::quantize(&[0.5f32; 3 * 32], 1, 3, 32)?;
/// let gemm = Gemm::new(ValuesView::new(1, 2, 32, &x)?, &w)?.with_bias(&[1.0, 2.0, 3.0])?;
/// let y: Vec<f32> = nvfp4_dual_gemm::oracle::exact(&gemm)?;
/// assert_eq!(y, [17.0, 18.0, 19.0, 17.0, 18.0, 19.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Gemm<'a> {
    a: ActivationsView<'a>,
    w: Nvfp4View<'a>,
    bias: Option<&'a [f32]>,
    residual: Option<Values<'a>>,
    row_scales: Option<&'a [f32]>,
    shape: GemmShape,
}

impl<'a> Gemm<'a> {
    /// Takes activations A (M×K) and the weight W (N×K) with the same batch count. A may have no rows; any N > 0 will do.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) when K or the batch counts disagree,
    /// [`Error::ZeroDimension`](crate::Error::ZeroDimension) when N is 0, [`Error::Alpha`](crate::Error::Alpha) when the product of
    /// the global scales is not a normal f32, [`Error::SizeOverflow`](crate::Error::SizeOverflow) when C is too large.
    pub fn new(a: impl Into<ActivationsView<'a>>, w: impl Into<Nvfp4View<'a>>) -> Result<Self> {
        let (a, w) = (a.into(), w.into());
        let shape = GemmShape { m: a.rows(), n: w.rows(), k: a.cols(), batch: a.batch() };
        checks::weights(&a, &w, Operand::W, (Operand::A, w.rows()))?;
        checks::size_of_c(shape)?;
        Ok(Gemm { a, w, bias: None, residual: None, row_scales: None, shape })
    }

    /// Adds `bias` \[batch, N\] to each row of the product.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length); [`Error::BiasNonFinite`](crate::Error::BiasNonFinite) with the index.
    pub fn with_bias(mut self, bias: &'a [f32]) -> Result<Self> {
        checks::bias(Operand::W, bias, self.shape.batch, self.shape.n)?;
        self.bias = Some(bias);
        Ok(self)
    }

    /// Adds R \[batch, M, N\], values of any type, which are not looked at: what is not finite makes C so. A CUDA device
    /// takes values of the type of C alone.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length).
    pub fn with_residual(mut self, residual: impl Into<Values<'a>>) -> Result<Self> {
        let (residual, GemmShape { m, n, batch, .. }) = (residual.into(), self.shape);
        checks::length(Operand::R, Buffer::Values, residual.len(), (batch, m, n))?;
        self.residual = Some(residual);
        Ok(self)
    }

    /// Gives each row of A a global scale of its own, \[batch, M\], in place of that of the matrix.
    ///
    /// # Errors
    /// [`Error::NotQuantized`](crate::Error::NotQuantized) for activations of 16 bits, which have no global scale;
    /// [`Error::Length`](crate::Error::Length); [`Error::GlobalScale`](crate::Error::GlobalScale) for one that is not finite and > 0;
    /// [`Error::Alpha`](crate::Error::Alpha).
    pub fn with_row_scales(mut self, row_scales: &'a [f32]) -> Result<Self> {
        self.a.nvfp4()?;
        checks::row_scales(row_scales, self.shape, &[(Operand::W, self.w.global_scale())])?;
        self.row_scales = Some(row_scales);
        Ok(self)
    }

    /// The sizes. [`GemmShape::flops`] and [`GemmShape::bytes`] are those of two weights: see [`Gemm::flops`].
    pub fn shape(&self) -> GemmShape {
        self.shape
    }

    /// Floating-point operations, a multiply-add counted as two: `2·L·M·N·K`.
    pub fn flops(&self) -> f64 {
        self.shape.flops() / 2.0
    }

    /// Activations, M×K.
    pub fn a(&self) -> ActivationsView<'a> {
        self.a
    }

    /// Weights, N×K.
    pub fn w(&self) -> Nvfp4View<'a> {
        self.w
    }

    /// What is added to the columns, \[batch, N\].
    pub fn bias(&self) -> Option<&'a [f32]> {
        self.bias
    }

    /// R, \[batch, M, N\].
    pub fn residual(&self) -> Option<Values<'a>> {
        self.residual
    }

    /// The global scales of the rows of A, where each has its own ([`Gemm::with_row_scales`]).
    pub fn row_scales(&self) -> Option<&'a [f32]> {
        self.row_scales
    }

    /// `global(A)·global(W)`, exact in f64. The oracle multiplies its exact sums by this number; the engines round it to
    /// f32 first, with a relative error of up to 2^-24.
    pub fn alpha(&self) -> f64 {
        f64::from(self.a.global_scale()) * f64::from(self.w.global_scale())
    }
}

impl Sealed for Gemm<'_> {
    fn problem(&self) -> Problem<'_> {
        Problem {
            shape: self.shape,
            a: self.a,
            weights: [self.w; 2],
            row_scales: self.row_scales,
            biases: self.bias.map(|bias| [bias; 2]),
            join: Join::Add(self.residual),
        }
    }
}
