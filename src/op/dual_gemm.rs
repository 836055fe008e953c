//! The dual GEMM: three operands that fit together, and a GLU.

use super::problem::sealed::Sealed;
use super::problem::{Join, Problem};
use super::{ActivationsView, checks};
use crate::error::{Operand, Result};
use crate::glu::Glu;
use crate::matrix::Nvfp4View;
use crate::shape::GemmShape;

/// One validated dual GEMM: `C = glu(alpha1·A·B1ᵀ + bias1, alpha2·A·B2ᵀ + bias2)` with
/// `alpha1 = global(A)·global(B1)` and `alpha2 = global(A)·global(B2)`, which stay separate. The global scale of 16-bit
/// activations is 1. Biases are left out unless they are given.
///
/// ```
/// use nvfp4_dual_gemm::{DualGemm, Engine, Nvfp4Matrix, f16};
/// # fn main() -> nvfp4_dual_gemm::Result<()> {
/// let a = Nvfp4Matrix::quantize(&[1.0f32; 2 * 32], 1, 2, 32)?;
/// let gate = Nvfp4Matrix::quantize(&[0.5f32; 3 * 32], 1, 3, 32)?;
/// let up = Nvfp4Matrix::quantize(&[0.25f32; 3 * 32], 1, 3, 32)?;
/// let gemm = DualGemm::new(&a, &gate, &up)?;
/// let c: Vec<f16> = Engine::auto()?.run(&gemm)?;
/// assert_eq!(c.len(), 2 * 3);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct DualGemm<'a> {
    a: ActivationsView<'a>,
    b1: Nvfp4View<'a>,
    b2: Nvfp4View<'a>,
    row_scales: Option<&'a [f32]>,
    biases: Option<[&'a [f32]; 2]>,
    glu: Glu,
    shape: GemmShape,
}

impl<'a> DualGemm<'a> {
    /// Takes activations A (M×K), the weights B1 of gate_proj and B2 of up_proj (each N×K), all with the same
    /// batch count. The GLU is [`Glu::Swiglu`].
    ///
    /// A may have no rows (a step without tokens); C is empty then. Weights without elements (N, K or the batch count
    /// is 0) are an error.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) when K, N or the batch counts disagree; [`Error::ZeroDimension`](crate::Error::ZeroDimension) when
    /// N is 0; [`Error::Alpha`](crate::Error::Alpha) when a product of global scales is not a normal f32;
    /// [`Error::SizeOverflow`](crate::Error::SizeOverflow) when C is too large.
    pub fn new(
        a: impl Into<ActivationsView<'a>>,
        b1: impl Into<Nvfp4View<'a>>,
        b2: impl Into<Nvfp4View<'a>>,
    ) -> Result<Self> {
        let (a, b1, b2) = (a.into(), b1.into(), b2.into());
        let shape = GemmShape { m: a.rows(), n: b1.rows(), k: a.cols(), batch: a.batch() };
        checks::weights(&a, &b1, Operand::B1, (Operand::A, shape.n))?;
        checks::weights(&a, &b2, Operand::B2, (Operand::B1, shape.n))?;
        checks::size_of_c(shape)?;
        let glu = Glu::default();
        Ok(DualGemm { a, b1, b2, row_scales: None, biases: None, glu, shape })
    }

    /// The same operands with another GLU.
    ///
    /// # Errors
    /// [`Error::GluParameter`](crate::Error::GluParameter).
    pub fn with_glu(mut self, glu: Glu) -> Result<Self> {
        glu.validate()?;
        self.glu = glu;
        Ok(self)
    }

    /// Gives each row of A a global scale of its own, \[batch, M\], in place of that of the matrix:
    /// `alpha1 = row_scale[row]·global(B1)`, `alpha2 = row_scale[row]·global(B2)`. The result of a row then does not
    /// depend on the other rows.
    ///
    /// # Errors
    /// [`Error::NotQuantized`](crate::Error::NotQuantized) for activations of 16 bits, which have no global scale;
    /// [`Error::Length`](crate::Error::Length); [`Error::GlobalScale`](crate::Error::GlobalScale) for one that is not finite and > 0; [`Error::Alpha`](crate::Error::Alpha).
    pub fn with_row_scales(mut self, row_scales: &'a [f32]) -> Result<Self> {
        self.a.nvfp4()?;
        let weights =
            [(Operand::B1, self.b1.global_scale()), (Operand::B2, self.b2.global_scale())];
        checks::row_scales(row_scales, self.shape, &weights)?;
        self.row_scales = Some(row_scales);
        Ok(self)
    }

    /// Adds biases, each \[batch, N\], to the products before the GLU: `glu(alpha1·acc1 + bias1, alpha2·acc2 + bias2)`.
    /// Those of f16 and bf16 are widened to f32 without a loss.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length); [`Error::BiasNonFinite`](crate::Error::BiasNonFinite) with the index.
    pub fn with_biases(mut self, biases: [&'a [f32]; 2]) -> Result<Self> {
        let GemmShape { n, batch, .. } = self.shape;
        checks::bias(Operand::B1, biases[0], batch, n)?;
        checks::bias(Operand::B2, biases[1], batch, n)?;
        self.biases = Some(biases);
        Ok(self)
    }

    /// The sizes.
    pub fn shape(&self) -> GemmShape {
        self.shape
    }

    /// Activations, M×K; [`ActivationsView::nvfp4`] for what takes no others.
    pub fn a(&self) -> ActivationsView<'a> {
        self.a
    }

    /// Weights of gate_proj, N×K.
    pub fn b1(&self) -> Nvfp4View<'a> {
        self.b1
    }

    /// Weights of up_proj, N×K.
    pub fn b2(&self) -> Nvfp4View<'a> {
        self.b2
    }

    /// The function that joins both products.
    pub fn glu(&self) -> Glu {
        self.glu
    }

    /// The global scales of the rows of A, where each has its own ([`DualGemm::with_row_scales`]).
    pub fn row_scales(&self) -> Option<&'a [f32]> {
        self.row_scales
    }

    /// What is added to both products, each \[batch, N\].
    pub fn biases(&self) -> Option<[&'a [f32]; 2]> {
        self.biases
    }

    /// `[alpha1, alpha2]` of a row of A, which counts through all batches; exact in f64.
    pub fn alphas(&self, row: usize) -> [f64; 2] {
        self.problem().alphas(row)
    }

    /// `global(A)·global(B1)`, exact in f64. The oracle multiplies its exact sums by this number. The CPU and CUDA
    /// engines compute in f32 and round it to f32 first, with a relative error of up to 2^-24.
    pub fn alpha1(&self) -> f64 {
        f64::from(self.a.global_scale()) * f64::from(self.b1.global_scale())
    }

    /// `global(A)·global(B2)`, exact in f64; engines use it as they use [`DualGemm::alpha1`].
    pub fn alpha2(&self) -> f64 {
        f64::from(self.a.global_scale()) * f64::from(self.b2.global_scale())
    }
}

impl Sealed for DualGemm<'_> {
    fn problem(&self) -> Problem<'_> {
        Problem {
            shape: self.shape,
            a: self.a,
            weights: [self.b1, self.b2],
            row_scales: self.row_scales,
            biases: self.biases,
            join: Join::Glu(self.glu),
        }
    }
}
