//! The dual GEMM: three operands that fit together, and a GLU.

use crate::error::{Buffer, Error, Operand, Result};
use crate::glu::Glu;
use crate::matrix::Nvfp4View;
use crate::shape::GemmShape;

/// One validated dual GEMM: `C = glu(alpha1·A·B1ᵀ, alpha2·A·B2ᵀ)` with
/// `alpha1 = global(A)·global(B1)` and `alpha2 = global(A)·global(B2)`, which stay separate.
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
    a: Nvfp4View<'a>,
    b1: Nvfp4View<'a>,
    b2: Nvfp4View<'a>,
    row_scales: Option<&'a [f32]>,
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
    /// [`Error::ShapeMismatch`] when K, N or the batch counts disagree; [`Error::ZeroDimension`] when
    /// N is 0; [`Error::Alpha`] when a product of global scales is not a normal f32;
    /// [`Error::SizeOverflow`] when C is too large.
    pub fn new(
        a: impl Into<Nvfp4View<'a>>,
        b1: impl Into<Nvfp4View<'a>>,
        b2: impl Into<Nvfp4View<'a>>,
    ) -> Result<Self> {
        let (a, b1, b2) = (a.into(), b1.into(), b2.into());
        let shape = GemmShape { m: a.rows(), n: b1.rows(), k: a.cols(), batch: a.batch() };
        let sizes = |v: &Nvfp4View<'_>| (v.batch(), v.rows(), v.cols());
        for (operand, b, other, rows) in
            [(Operand::B1, &b1, Operand::A, b1.rows()), (Operand::B2, &b2, Operand::B1, b1.rows())]
        {
            let expected = (shape.batch, rows, shape.k);
            let actual = sizes(b);
            if actual != expected {
                return Err(Error::ShapeMismatch { operand, other, expected, actual });
            }
            b.check_rows(operand)?;
            check_alpha(operand, a.global_scale(), b.global_scale())?;
        }
        let GemmShape { m, n, batch, .. } = shape;
        batch
            .checked_mul(m)
            .and_then(|v| v.checked_mul(n))
            .and_then(|v| v.checked_mul(8))
            .filter(|&bytes| isize::try_from(bytes).is_ok())
            .ok_or(Error::SizeOverflow { operand: Operand::C, batch, rows: m, cols: n })?;
        Ok(DualGemm { a, b1, b2, row_scales: None, glu: Glu::default(), shape })
    }

    /// The same operands with another GLU.
    ///
    /// # Errors
    /// [`Error::GluParameter`].
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
    /// [`Error::Length`]; [`Error::GlobalScale`] for one that is not finite and > 0; [`Error::Alpha`].
    pub fn with_row_scales(mut self, row_scales: &'a [f32]) -> Result<Self> {
        let GemmShape { m, batch, .. } = self.shape;
        let (operand, expected, actual) = (Operand::A, batch * m, row_scales.len());
        if actual != expected {
            let buffer = Buffer::RowScales;
            return Err(Error::Length {
                operand,
                buffer,
                expected,
                actual,
                batch,
                rows: m,
                cols: 1,
            });
        }
        for &value in row_scales {
            if !(value.is_finite() && value > 0.0) {
                return Err(Error::GlobalScale { operand, value });
            }
            check_alpha(Operand::B1, value, self.b1.global_scale())?;
            check_alpha(Operand::B2, value, self.b2.global_scale())?;
        }
        self.row_scales = Some(row_scales);
        Ok(self)
    }

    /// The sizes.
    pub fn shape(&self) -> GemmShape {
        self.shape
    }

    /// Activations, M×K.
    pub fn a(&self) -> Nvfp4View<'a> {
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

    /// `[alpha1, alpha2]` of a row of A, which counts through all batches; exact in f64.
    pub fn alphas(&self, row: usize) -> [f64; 2] {
        match self.row_scales {
            None => [self.alpha1(), self.alpha2()],
            Some(scales) => {
                [&self.b1, &self.b2].map(|b| f64::from(scales[row]) * f64::from(b.global_scale()))
            }
        }
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

    /// Elements of C; `new` has made sure that they can be counted.
    pub(crate) fn c_len(&self) -> usize {
        self.shape.batch * self.shape.m * self.shape.n
    }

    pub(crate) fn check_c(&self, actual: usize) -> Result<()> {
        let GemmShape { m, n, batch, .. } = self.shape;
        let expected = self.c_len();
        if actual != expected {
            return Err(Error::Length {
                operand: Operand::C,
                buffer: Buffer::Values,
                expected,
                actual,
                batch,
                rows: m,
                cols: n,
            });
        }
        Ok(())
    }
}

/// Engines multiply by the product as an f32.
fn check_alpha(operand: Operand, global_a: f32, global_b: f32) -> Result<()> {
    if ((f64::from(global_a) * f64::from(global_b)) as f32).is_normal() {
        return Ok(());
    }
    Err(Error::Alpha { operand, global_a, global_b })
}
