//! UE4M3: the scale factor type, E4M3FN (bias 7, largest 448, NaN 0x7f) with the sign bit 0.

use float8::F8E4M3;
use rayon::prelude::*;

use crate::format::kernels::{self, Path, THREAD_BYTES};

/// Largest value.
pub const MAX: f32 = 448.0;

/// Value of each valid byte, and NaN for 0x7f.
pub(crate) const VALUES: [f32; 128] = {
    let mut values = [0.0; 128];
    let mut byte = 0;
    while byte < 128 {
        values[byte] = F8E4M3::from_bits(byte as u8).to_f32();
        byte += 1;
    }
    values
};

/// The byte of the smallest subnormal, 2^-9.
pub const MIN_SUBNORMAL: u8 = 1;

/// Rounds to nearest, ties to even, saturating at 448. The byte of a value that is not negative is a valid scale
/// factor. A negative value and −0 keep their sign bit, and NaN gives 0x7f or 0xff: bytes that [`is_valid`] refuses.
pub fn encode(value: f32) -> u8 {
    F8E4M3::from_f32(value).to_bits()
}

/// The value of a byte: that of E4M3FN, also for the bytes that [`is_valid`] refuses.
pub fn decode(byte: u8) -> f32 {
    F8E4M3::from_bits(byte).to_f32()
}

/// Whether the byte is a UE4M3 number: not NaN, sign bit 0.
pub const fn is_valid(byte: u8) -> bool {
    byte < 0x7f
}

/// Index of the first byte that is not valid.
pub fn find_invalid(bytes: &[u8]) -> Option<usize> {
    let path = Path::best();
    let find = |(piece, bytes): (usize, &[u8])| {
        if is_valid(kernels::max_byte(path, bytes)) {
            return None;
        }
        bytes.iter().position(|&b| !is_valid(b)).map(|i| piece * THREAD_BYTES + i)
    };
    if bytes.len() <= THREAD_BYTES {
        return find((0, bytes));
    }
    bytes.par_chunks(THREAD_BYTES).enumerate().find_map_first(find)
}

/// The value of a valid byte times 2^9, an integer up to 229376. Other bytes give a number that means
/// nothing.
pub const fn times_512(byte: u8) -> i64 {
    let exponent = byte >> 3;
    let mantissa = (byte & 7) as i64;
    if exponent == 0 { mantissa } else { (8 + mantissa) << (exponent - 1) }
}
