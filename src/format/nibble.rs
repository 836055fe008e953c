//! Nibble packing: two codes a byte, the even k in the low nibble (PTX `cvt.rn.satfinite.e2m1x2`).

use crate::error::{Buffer, Error, Operand, Result};

/// Packs one code a byte into two codes a byte.
///
/// # Errors
/// [`Error::Length`] for an odd count, [`Error::Code`] for a byte above 15.
pub fn pack(codes: &[u8]) -> Result<Vec<u8>> {
    let mut out = vec![0; codes.len() / 2];
    pack_into(codes, &mut out)?;
    Ok(out)
}

/// [`pack`] into a buffer of half the length.
///
/// # Errors
/// Those of [`pack`], and [`Error::Length`] when `packed` has not half the length of `codes`.
pub fn pack_into(codes: &[u8], packed: &mut [u8]) -> Result<()> {
    check_lengths(codes.len(), packed.len(), packed.len() * 2, Buffer::UnpackedCodes)?;
    for (i, (pair, out)) in codes.chunks_exact(2).zip(packed).enumerate() {
        if let Some(j) = pair.iter().position(|&c| c > 15) {
            let operand = Operand::Matrix;
            return Err(Error::Code { operand, code: pair[j], index: 2 * i + j });
        }
        *out = pair[0] | pair[1] << 4;
    }
    Ok(())
}

/// Unpacks two codes a byte into one code a byte.
pub fn unpack(packed: &[u8]) -> Vec<u8> {
    packed.iter().flat_map(|b| [b & 15, b >> 4]).collect()
}

/// [`unpack`] into a buffer of twice the length.
///
/// # Errors
/// [`Error::Length`] when `codes` has not twice the length of `packed`.
pub fn unpack_into(packed: &[u8], codes: &mut [u8]) -> Result<()> {
    check_lengths(codes.len(), packed.len(), packed.len() * 2, Buffer::UnpackedCodes)?;
    for (b, out) in packed.iter().zip(codes.chunks_exact_mut(2)) {
        out[0] = b & 15;
        out[1] = b >> 4;
    }
    Ok(())
}

fn check_lengths(actual: usize, packed: usize, expected: usize, buffer: Buffer) -> Result<()> {
    if actual == expected {
        return Ok(());
    }
    let operand = Operand::Matrix;
    Err(Error::Length { operand, buffer, expected, actual, batch: 1, rows: 1, cols: 2 * packed })
}
