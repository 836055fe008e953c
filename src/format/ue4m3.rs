//! UE4M3: the scale factor type, E4M3FN (bias 7, largest 448, NaN 0x7f) with the sign bit 0.

use float8::F8E4M3;

/// Largest value.
pub const MAX: f32 = 448.0;

/// The byte of the smallest subnormal, 2^-9.
pub const MIN_SUBNORMAL: u8 = 1;

/// Rounds a value >= 0 to nearest, ties to even, saturating. The value must not be NaN.
pub fn encode(value: f32) -> u8 {
    F8E4M3::from_f32(value).to_bits()
}

/// The value of a valid byte.
pub fn decode(byte: u8) -> f32 {
    F8E4M3::from_bits(byte).to_f32()
}

/// Whether the byte is a UE4M3 number: not NaN, sign bit 0.
pub const fn is_valid(byte: u8) -> bool {
    byte < 0x7f
}

/// Index of the first byte that is not valid.
pub fn find_invalid(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&b| !is_valid(b))
}

/// The value times 2^9, an integer up to 229376.
pub const fn times_512(byte: u8) -> i64 {
    let exponent = byte >> 3;
    let mantissa = (byte & 7) as i64;
    if exponent == 0 { mantissa } else { (8 + mantissa) << (exponent - 1) }
}
