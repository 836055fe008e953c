//! An operand read from shared memory: for each row of A (column of B) its K slice of 32 bytes.

use crate::fault::Result;
use crate::machine::shared::{Proxy, SharedMemory};
use crate::tensor::descriptor::Descriptor;

/// A K slice.
pub type Slice = [u8; 32];

/// Reads `rows` slices of a K-major operand.
pub fn read_k_major(shared: &SharedMemory, from: &Descriptor, rows: u32) -> Result<Vec<Slice>> {
    let mut slices = vec![[0; 32]; rows as usize];
    for (row, slice) in (0..).zip(&mut slices) {
        for (unit, half) in (0..).zip(slice.chunks_exact_mut(16)) {
            half.copy_from_slice(shared.read(from.unit_of_row(row, unit), 16, Proxy::Async)?);
        }
    }
    Ok(slices)
}

/// Reads `rows` slices of an MN-major operand whose elements have `bytes` bytes.
pub fn read_mn_major(
    shared: &SharedMemory,
    from: &Descriptor,
    rows: u32,
    bytes: u32,
) -> Result<Vec<Slice>> {
    let mut slices = vec![[0; 32]; rows as usize];
    let (each, size) = (16 / bytes, bytes as usize);
    for k in 0..32 / bytes {
        let at = (k * bytes) as usize;
        for unit in 0..rows.div_ceil(each) {
            let elements = shared.read(from.unit_of_column(unit, k), 16, Proxy::Async)?;
            let rows = slices.iter_mut().skip((unit * each) as usize);
            for (slice, element) in rows.zip(elements.chunks_exact(size)) {
                slice[at..at + size].copy_from_slice(element);
            }
        }
    }
    Ok(slices)
}
