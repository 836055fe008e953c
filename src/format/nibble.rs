//! Nibble packing: two codes per byte, the even k in the low nibble (PTX `cvt.rn.satfinite.e2m1x2`).

use rayon::prelude::*;

use crate::error::{Buffer, Error, Operand, Result};
use crate::format::kernels::{self, PIECE, Path, THREAD_BYTES};
use crate::memory;

/// Packs one code per byte into two codes per byte.
///
/// # Errors
/// [`Error::Length`] for an odd count, [`Error::Code`] for a byte above 15, [`Error::OutOfMemory`].
pub fn pack(codes: &[u8]) -> Result<Vec<u8>> {
    let mut out = memory::filled(0, codes.len() / 2, Operand::Matrix)?;
    pack_into(codes, &mut out)?;
    Ok(out)
}

/// [`pack`] into a buffer of half the length.
///
/// # Errors
/// Those of [`pack`], and [`Error::Length`] unless `packed` has half the length of `codes`.
pub fn pack_into(codes: &[u8], packed: &mut [u8]) -> Result<()> {
    check_lengths(codes.len(), packed.len(), packed.len() * 2, Buffer::UnpackedCodes)?;
    let (path, whole) = (Path::best(), packed.len());
    let fits = if codes.len() <= THREAD_BYTES {
        kernels::pack(path, whole, codes, packed)
    } else {
        // Every piece is packed, so that `packed` does not depend on which thread is first.
        codes
            .par_chunks(PIECE)
            .zip(packed.par_chunks_mut(PIECE / 2))
            .map(|(codes, packed)| kernels::pack(path, whole, codes, packed))
            .reduce(|| true, |a, b| a & b)
    };
    match if fits { None } else { codes.iter().position(|&c| c > 15) } {
        None => Ok(()),
        Some(index) => Err(Error::Code { operand: Operand::Matrix, code: codes[index], index }),
    }
}

/// Unpacks two codes per byte into one code per byte, in a vector of twice the length. Without memory for that the
/// process aborts; [`unpack_into`] allocates nothing.
pub fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut codes = vec![0; packed.len() * 2];
    unpack_pieces(packed, &mut codes);
    codes
}

/// [`unpack`] into a buffer of twice the length.
///
/// # Errors
/// [`Error::Length`] unless `codes` has twice the length of `packed`.
pub fn unpack_into(packed: &[u8], codes: &mut [u8]) -> Result<()> {
    check_lengths(codes.len(), packed.len(), packed.len() * 2, Buffer::UnpackedCodes)?;
    unpack_pieces(packed, codes);
    Ok(())
}

fn unpack_pieces(packed: &[u8], codes: &mut [u8]) {
    let (path, whole) = (Path::best(), codes.len());
    if packed.len() <= THREAD_BYTES {
        kernels::unpack(path, whole, packed, codes);
    } else {
        packed
            .par_chunks(PIECE / 2)
            .zip(codes.par_chunks_mut(PIECE))
            .for_each(|(packed, codes)| kernels::unpack(path, whole, packed, codes));
    }
}

fn check_lengths(actual: usize, packed: usize, expected: usize, buffer: Buffer) -> Result<()> {
    if actual == expected {
        return Ok(());
    }
    let operand = Operand::Matrix;
    Err(Error::Length { operand, buffer, expected, actual, batch: 1, rows: 1, cols: 2 * packed })
}
