//! Floating-point formats of 16 bits and fewer, and tf32.

use super::round::{Mode, power_of_two, to_grid};

/// What the bit patterns above the finite numbers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specials {
    /// Infinity and NaN as in IEEE 754.
    Ieee,
    /// No infinity; all ones is NaN (e4m3).
    OnlyNan,
    /// Every pattern is a number.
    None,
}

/// A format with a sign, `exponent` and `fraction` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Bits of the exponent.
    pub exponent: u32,
    /// Bits after the leading one.
    pub fraction: u32,
    /// What is added to exponents.
    pub bias: i32,
    /// The patterns above.
    pub specials: Specials,
}

/// IEEE 754 half precision.
pub const F16: Format = Format { exponent: 5, fraction: 10, bias: 15, specials: Specials::Ieee };
/// The high half of a single.
pub const BF16: Format = Format { exponent: 8, fraction: 7, bias: 127, specials: Specials::Ieee };
/// 19 bits of a single.
pub const TF32: Format = Format { exponent: 8, fraction: 10, bias: 127, specials: Specials::Ieee };
/// Up to 448.
pub const E4M3: Format = Format { exponent: 4, fraction: 3, bias: 7, specials: Specials::OnlyNan };
/// Up to 57344.
pub const E5M2: Format = Format { exponent: 5, fraction: 2, bias: 15, specials: Specials::Ieee };
/// Up to 6.
pub const E2M1: Format = Format { exponent: 2, fraction: 1, bias: 1, specials: Specials::None };
/// Up to 7.5.
pub const E2M3: Format = Format { exponent: 2, fraction: 3, bias: 1, specials: Specials::None };
/// Up to 28.
pub const E3M2: Format = Format { exponent: 3, fraction: 2, bias: 3, specials: Specials::None };

impl Format {
    /// The bits of the exponent.
    pub fn exponent_mask(self) -> u32 {
        ((1 << self.exponent) - 1) << self.fraction
    }

    fn sign_bit(self) -> u32 {
        1 << (self.exponent + self.fraction)
    }

    /// The pattern of the greatest number.
    fn most(self) -> u32 {
        match self.specials {
            Specials::Ieee => self.exponent_mask() - 1,
            Specials::OnlyNan => self.sign_bit() - 2,
            Specials::None => self.sign_bit() - 1,
        }
    }

    /// The pattern of a NaN; of the greatest number where there is none.
    pub fn nan(self) -> u32 {
        self.sign_bit() - 1
    }

    /// The value of a pattern.
    pub fn decode(self, bits: u32) -> f64 {
        let size = bits & (self.sign_bit() - 1);
        let field = (size >> self.fraction) as i32;
        let fraction = f64::from(size & ((1 << self.fraction) - 1));
        let step = power_of_two(field.max(1) - self.bias - self.fraction as i32);
        let value = if size > self.most() {
            match self.specials {
                Specials::Ieee if fraction == 0.0 => f64::INFINITY,
                _ => f64::NAN,
            }
        } else if field == 0 {
            fraction * step
        } else {
            (fraction + power_of_two(self.fraction as i32)) * step
        };
        if bits & self.sign_bit() != 0 { -value } else { value }
    }

    /// The pattern of a value that is exact or was rounded to odd. What is too great becomes infinity, or the
    /// greatest number if `saturate` or where the mode or the format says so; NaN becomes [`Format::nan`].
    pub fn encode(self, value: f64, mode: Mode, saturate: bool) -> u32 {
        if value.is_nan() {
            return self.nan();
        }
        let sign = if value.is_sign_negative() { self.sign_bit() } else { 0 };
        let most = self.decode(self.most());
        let rounded = if value.is_finite() {
            to_grid(value, self.fraction as i32, 1 - self.bias, mode)
        } else {
            value
        };
        if rounded.abs() > most {
            let stops = match mode {
                Mode::Zero => true,
                Mode::Down => value > 0.0,
                Mode::Up => value < 0.0,
                Mode::Nearest | Mode::Away => false,
            };
            let beyond = match self.specials {
                _ if saturate || stops && value.is_finite() => self.most(),
                Specials::Ieee => self.exponent_mask(),
                Specials::OnlyNan => self.nan(),
                Specials::None => self.most(),
            };
            return sign | beyond;
        }
        // Exact from here on: the number is on the grid.
        let size = rounded.abs();
        let exponent = (size.to_bits() >> 52) as i32 - 1023;
        let least = 1 - self.bias;
        let step = power_of_two(self.fraction as i32 - exponent.max(least));
        let steps = (size * step) as u32;
        let field =
            if steps >> self.fraction == 0 { 0 } else { exponent.max(least) + self.bias - 1 };
        sign | (((field.max(0) as u32) << self.fraction) + steps)
    }
}

/// A scale `2^(bits - 127)`; all ones is NaN.
pub fn decode_ue8m0(bits: u8) -> f64 {
    if bits == 0xFF { f64::NAN } else { power_of_two(i32::from(bits) - 127) }
}

/// The exponent of a single, rounded towards zero or up. Signs are dropped; `saturate` keeps infinity and what is too
/// great at the greatest scale.
pub fn encode_ue8m0(value: f32, mode: Mode, saturate: bool) -> u8 {
    if value.is_nan() {
        return 0xFF;
    }
    let most = if saturate { 0xFE } else { 0xFF };
    let value = f64::from(value.abs());
    if value.is_infinite() {
        return most;
    }
    if value <= power_of_two(-127) {
        return 0;
    }
    let bits = value.to_bits();
    let exponent = (bits >> 52) as i32 - 1023 + 127;
    let above = mode == Mode::Up && bits & ((1 << 52) - 1) != 0;
    let exponent = exponent + i32::from(above);
    if exponent > 0xFE { most } else { exponent as u8 }
}
