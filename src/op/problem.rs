//! What executors see of an operation.

use super::{ActivationsView, DualGemm, Gemm, checks};
use crate::dtype::Values;
#[cfg(feature = "cuda")]
use crate::dtype::each_type;
use crate::error::{Buffer, Operand, Result};
use crate::glu::Glu;
use crate::matrix::Nvfp4View;
use crate::shape::GemmShape;

/// One validated problem: a [`DualGemm`] or a [`Gemm`].
pub trait Operation: sealed::Sealed + Sync {}

impl Operation for DualGemm<'_> {}
impl Operation for Gemm<'_> {}

pub(super) mod sealed {
    /// What only this crate can see through.
    pub trait Sealed {
        /// What an executor sees of it.
        fn problem(&self) -> super::Problem<'_>;
    }
}

/// A validated operation: a dual GEMM, or a GEMM, whose one weight stands here twice.
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a> {
    pub shape: GemmShape,
    pub a: ActivationsView<'a>,
    /// Each \[batch, N, K\].
    pub weights: [Nvfp4View<'a>; 2],
    /// \[batch, M\], in place of the global scale of A.
    pub row_scales: Option<&'a [f32]>,
    /// Each \[batch, N\], finite.
    pub biases: Option<[&'a [f32]; 2]>,
    pub join: Join<'a>,
}

/// What becomes of the products `x = alpha·acc + bias`.
#[derive(Debug, Clone, Copy)]
pub enum Join<'a> {
    /// `glu(x1, x2)`, of a dual GEMM.
    Glu(Glu),
    /// `x + R`, of a GEMM. R is \[batch, M, N\].
    Add(Option<Values<'a>>),
}

impl Problem<'_> {
    /// `[alpha1, alpha2]` of a row of A, which counts through all batches; exact in f64.
    pub fn alphas(&self, row: usize) -> [f64; 2] {
        let a = self.row_scales.map_or(self.a.global_scale(), |scales| scales[row]);
        self.weights.map(|weight| f64::from(a) * f64::from(weight.global_scale()))
    }

    /// The problem of one of the batches.
    #[cfg(feature = "cuda")]
    pub fn of_batch(&self, l: usize) -> Problem<'_> {
        let GemmShape { m, n, .. } = self.shape;
        Problem {
            shape: GemmShape { batch: 1, ..self.shape },
            a: match self.a {
                ActivationsView::Nvfp4(a) => a.slice(l).into(),
                ActivationsView::F16(a) => a.slice(l).into(),
                ActivationsView::Bf16(a) => a.slice(l).into(),
            },
            weights: self.weights.map(|weight| weight.slice(l)),
            row_scales: self.row_scales.map(|scales| &scales[l * m..][..m]),
            biases: self.biases.map(|both| both.map(|bias| &bias[l * n..][..n])),
            join: match self.join {
                Join::Add(Some(residual)) => Join::Add(Some(
                    each_type!(Values, residual, values => Values::of(&values[l * m * n..][..m * n])),
                )),
                join => join,
            },
        }
    }

    /// The shape of a dual GEMM that is as much work.
    pub fn work(&self) -> GemmShape {
        match self.join {
            Join::Glu(_) => self.shape,
            Join::Add(_) => GemmShape { n: self.shape.n.div_ceil(2), ..self.shape },
        }
    }

    /// Elements of C.
    pub fn c_len(&self) -> usize {
        self.shape.batch * self.shape.m * self.shape.n
    }

    pub fn check_c(&self, actual: usize) -> Result<()> {
        let GemmShape { m, n, batch, .. } = self.shape;
        checks::length(Operand::C, Buffer::Values, actual, (batch, m, n))
    }
}
