//! Vectors of a length that a caller names: where there is no memory for it, an `Err` and no abort.

use crate::error::{Error, Operand, Result};

/// `len` times `value`; about `operand` if that cannot be allocated.
pub(crate) fn filled<T: Clone>(value: T, len: usize, operand: Operand) -> Result<Vec<T>> {
    let mut out = Vec::new();
    out.try_reserve_exact(len)
        .map_err(|_| Error::OutOfMemory { operand, bytes: len.saturating_mul(size_of::<T>()) })?;
    out.resize(len, value);
    Ok(out)
}
