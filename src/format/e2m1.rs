//! E2M1: the 4-bit element type. Bit 3 is the sign, codes 0..=7 are 0, 0.5, 1, 1.5, 2, 3, 4, 6.

use float4::F4E2M1;

/// Largest magnitude.
pub const MAX: f32 = 6.0;

/// Value of each code.
pub const VALUES: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// Twice the value of each code: an integer in \[-12, 12\].
pub const DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// The upper byte of the f32 of each code.
#[cfg(target_arch = "aarch64")]
pub(crate) const UPPER: [u8; 16] = bytes_of_values(24);

/// The next one; the lower two are zero.
#[cfg(target_arch = "aarch64")]
pub(crate) const LOWER: [u8; 16] = bytes_of_values(16);

#[cfg(target_arch = "aarch64")]
const fn bytes_of_values(shift: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    let mut code = 0;
    while code < 16 {
        bytes[code] = (VALUES[code].to_bits() >> shift) as u8;
        code += 1;
    }
    bytes
}

/// Rounds to nearest, ties to the even code, saturating. A value that becomes zero keeps its sign. The type has no NaN:
/// NaN of either sign becomes +6, code 7, as in CUDA's conversions. The quantizer refuses NaN beforehand.
pub fn encode(value: f32) -> u8 {
    F4E2M1::from_f64(f64::from(value)).to_bits()
}

/// The value of the low four bits.
pub fn decode(code: u8) -> f32 {
    VALUES[usize::from(code & 15)]
}
