//! Reductions into global memory (PTX ISA, "cp.reduce.async.bulk").

use crate::fault::{Fault, FaultKind, Result};
use crate::machine::global::{Allocation, GlobalMemory};
use crate::tma::reduce::{Reduction, bits};

/// Reduces elements into global memory, each atomically.
pub fn global(
    reduction: Reduction,
    memory: &GlobalMemory,
    allocation: &Allocation,
    address: u64,
    from: &[u8],
) -> Result<()> {
    // Bytes that nobody wrote are found before anything changes.
    let mut old = vec![0; from.len()];
    allocation.read(address, &mut old, true)?;
    let size = reduction.number().bytes();
    if !address.is_multiple_of(size as u64) || !from.len().is_multiple_of(size) {
        let message = format!("a reduction of {} bytes at {address:#x}", from.len());
        return Err(Fault::new(FaultKind::Misaligned, message));
    }
    for (index, element) in from.chunks_exact(size).enumerate() {
        let at = address + (index * size) as u64;
        let new = bits(element);
        match size {
            2 => {
                allocation.update(at, 2, |half| reduction.apply(half, new))?;
            }
            4 => {
                memory.update(at, |word| reduction.apply(u64::from(word), new) as u32)?;
            }
            _ => {
                memory.update_double(at, |double| reduction.apply(double, new))?;
            }
        }
    }
    Ok(())
}
