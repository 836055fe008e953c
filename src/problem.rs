//! The problem: three operands that fit each other, and a gate.

use crate::backend::{self, Backend};
use crate::element::Element;
use crate::error::{Buffer, Error, Operand, Result};
use crate::gate::Gate;
use crate::matrix::Nvfp4View;
use crate::memory;

/// Size of a dual GEMM: for each of `batch` matrices, C is `m`×`n` and the dot products have length
/// `k`. `m` may be 0, the others not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Problem {
    /// Rows of A and C (tokens).
    pub m: usize,
    /// Rows of B1 and B2, columns of C.
    pub n: usize,
    /// Length of each dot product.
    pub k: usize,
    /// Number of independent problems, L.
    pub batch: usize,
}

impl Problem {
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

/// One validated dual GEMM: `C = gate(alpha1·A·B1ᵀ, alpha2·A·B2ᵀ)` with
/// `alpha1 = global(A)·global(B1)` and `alpha2 = global(A)·global(B2)`, which stay separate.
///
/// ```
/// use nvfp4_dual_gemm::{Backend, DualGemm, Nvfp4Matrix, f16};
/// # fn main() -> nvfp4_dual_gemm::Result<()> {
/// let a = Nvfp4Matrix::quantize(&[1.0f32; 2 * 32], 1, 2, 32)?;
/// let gate = Nvfp4Matrix::quantize(&[0.5f32; 3 * 32], 1, 3, 32)?;
/// let up = Nvfp4Matrix::quantize(&[0.25f32; 3 * 32], 1, 3, 32)?;
/// let c: Vec<f16> = DualGemm::new(&a, &gate, &up)?.run(Backend::Auto)?;
/// assert_eq!(c.len(), 2 * 3);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct DualGemm<'a> {
    a: Nvfp4View<'a>,
    b1: Nvfp4View<'a>,
    b2: Nvfp4View<'a>,
    gate: Gate,
    problem: Problem,
}

impl<'a> DualGemm<'a> {
    /// Takes activations A (M×K), gate weights B1 and up weights B2 (each N×K), all with the same
    /// batch count. The gate is [`Gate::Silu`].
    ///
    /// A may have no rows (a step without tokens): C is empty then. Weights without elements (N, K or
    /// the batch count, which is theirs, too, is 0) are an error.
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
        let problem = Problem { m: a.rows(), n: b1.rows(), k: a.cols(), batch: a.batch() };
        let shape = |v: &Nvfp4View<'_>| (v.batch(), v.rows(), v.cols());
        for (operand, b, other, rows) in
            [(Operand::B1, &b1, Operand::A, b1.rows()), (Operand::B2, &b2, Operand::B1, b1.rows())]
        {
            let expected = (problem.batch, rows, problem.k);
            let actual = shape(b);
            if actual != expected {
                return Err(Error::ShapeMismatch { operand, other, expected, actual });
            }
            b.check_rows(operand)?;
            let (global_a, global_b) = (a.global_scale(), b.global_scale());
            if !((f64::from(global_a) * f64::from(global_b)) as f32).is_normal() {
                return Err(Error::Alpha { operand, global_a, global_b });
            }
        }
        let Problem { m, n, batch, .. } = problem;
        batch
            .checked_mul(m)
            .and_then(|v| v.checked_mul(n))
            .and_then(|v| v.checked_mul(8))
            .filter(|&bytes| isize::try_from(bytes).is_ok())
            .ok_or(Error::SizeOverflow { operand: Operand::C, batch, rows: m, cols: n })?;
        Ok(DualGemm { a, b1, b2, gate: Gate::default(), problem })
    }

    /// The same problem with another gate.
    ///
    /// # Errors
    /// [`Error::GateParameter`].
    pub fn with_gate(mut self, gate: Gate) -> Result<Self> {
        gate.validate()?;
        self.gate = gate;
        Ok(self)
    }

    /// The size of the problem.
    pub fn problem(&self) -> Problem {
        self.problem
    }

    /// Activations.
    pub fn a(&self) -> Nvfp4View<'a> {
        self.a
    }

    /// Gate weights.
    pub fn b1(&self) -> Nvfp4View<'a> {
        self.b1
    }

    /// Up weights.
    pub fn b2(&self) -> Nvfp4View<'a> {
        self.b2
    }

    /// The gate.
    pub fn gate(&self) -> Gate {
        self.gate
    }

    /// `global(A)·global(B1)`, exact in f64. The oracle multiplies its exact sums with this number;
    /// the CPU and CUDA backends compute in f32 and round it to that first, which is a relative error of
    /// up to 2^-24.
    pub fn alpha1(&self) -> f64 {
        f64::from(self.a.global_scale()) * f64::from(self.b1.global_scale())
    }

    /// `global(A)·global(B2)`, exact in f64; as precise in backends as [`DualGemm::alpha1`].
    pub fn alpha2(&self) -> f64 {
        f64::from(self.a.global_scale()) * f64::from(self.b2.global_scale())
    }

    /// Computes C \[batch, M, N\] row-major.
    ///
    /// # Errors
    /// [`Error::BackendUnavailable`], [`Error::OutOfMemory`], [`Error::Environment`].
    pub fn run<T: Element>(&self, backend: Backend) -> Result<Vec<T>> {
        let mut c = memory::filled(T::default(), self.c_len(), Operand::C)?;
        self.run_into(backend, &mut c)?;
        Ok(c)
    }

    /// Computes C into `c` \[batch, M, N\] row-major.
    ///
    /// # Errors
    /// Those of [`DualGemm::run`], and [`Error::Length`].
    pub fn run_into<T: Element>(&self, backend: Backend, c: &mut [T]) -> Result<()> {
        self.check_c(c.len())?;
        backend::run(self, backend, c)
    }

    /// Elements of C; `new` has made sure that they can be counted.
    pub(crate) fn c_len(&self) -> usize {
        self.problem.batch * self.problem.m * self.problem.n
    }

    pub(crate) fn check_c(&self, actual: usize) -> Result<()> {
        let Problem { m, n, batch, .. } = self.problem;
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
