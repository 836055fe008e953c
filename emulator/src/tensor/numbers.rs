//! The number formats of operands and scale factors, as values.
//!
//! PTX ISA, "Alternate floating-point data formats" and "Packed data types"; OCP Microscaling Formats 1.0.

use half::{bf16, f16};

/// The format of an element of A or B.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// 4 bits, no infinity, no NaN.
    E2M1,
    /// 6 bits, no infinity, no NaN.
    E2M3,
    /// 6 bits, no infinity, no NaN.
    E3M2,
    /// 8 bits, NaN 0x7F, no infinity.
    E4M3,
    /// 8 bits, as in IEEE 754.
    E5M2,
    /// binary16
    F16,
    /// The upper half of binary32.
    BF16,
    /// The upper 19 bits of binary32; the lower 13 are ignored.
    TF32,
    /// Unsigned integer.
    U8,
    /// Two's complement.
    S8,
}

impl Format {
    /// Bits of an element.
    pub fn bits(self) -> u32 {
        match self {
            Self::E2M1 => 4,
            Self::E2M3 | Self::E3M2 => 6,
            Self::E4M3 | Self::E5M2 | Self::U8 | Self::S8 => 8,
            Self::F16 | Self::BF16 => 16,
            Self::TF32 => 32,
        }
    }

    /// As in PTX.
    pub fn name(self) -> &'static str {
        match self {
            Self::E2M1 => "e2m1",
            Self::E2M3 => "e2m3",
            Self::E3M2 => "e3m2",
            Self::E4M3 => "e4m3",
            Self::E5M2 => "e5m2",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::TF32 => "tf32",
            Self::U8 => "u8",
            Self::S8 => "s8",
        }
    }

    /// Exponent of the smallest normal number: below it the significand loses its leading one.
    pub fn min_exponent(self) -> i32 {
        match self {
            Self::E2M1 | Self::E2M3 | Self::U8 | Self::S8 => 0,
            Self::E3M2 => -2,
            Self::E4M3 => -6,
            Self::E5M2 | Self::F16 => -14,
            Self::BF16 | Self::TF32 => -126,
        }
    }

    /// The value of a code. Exact: every format is contained in binary64.
    pub fn decode(self, code: u32) -> f64 {
        match self {
            Self::E2M1 => small(code, 2, 1, 1),
            Self::E2M3 => small(code, 2, 3, 1),
            Self::E3M2 => small(code, 3, 2, 3),
            Self::E4M3 if code & 0x7F == 0x7F => f64::NAN,
            Self::E4M3 => small(code, 4, 3, 7),
            Self::E5M2 => f16::from_bits((code as u16) << 8).to_f64(),
            Self::F16 => f16::from_bits(code as u16).to_f64(),
            Self::BF16 => bf16::from_bits(code as u16).to_f64(),
            Self::TF32 => f64::from(f32::from_bits(code & !0x1FFF)),
            Self::U8 => f64::from(code as u8),
            Self::S8 => f64::from(code as u8 as i8),
        }
    }

    /// Elements of a K slice of 32 bytes: 64 of 4 bits where they are packed, else 32, 16 or 8.
    ///
    /// Elements of 4 and 6 bits that stand beside others (`kind::f8f6f4`, `kind::mxf8f6f4`) come 16 to 16 bytes, the
    /// rest of which is padding (PTX ISA, "Packing formats of elements in shared memory").
    pub fn unpack(self, slice: &[u8; 32], into: &mut Vec<f64>) {
        match self {
            Self::E2M1 | Self::E2M3 | Self::E3M2 => {
                let bits = self.bits() as usize;
                for chunk in slice.chunks_exact(16) {
                    let mut low = [0; 16];
                    low.copy_from_slice(chunk);
                    let packed = u128::from_le_bytes(low);
                    let mask = (1 << bits) - 1;
                    into.extend((0..16).map(|k| self.decode((packed >> (bits * k)) as u32 & mask)));
                }
            }
            Self::E4M3 | Self::E5M2 | Self::U8 | Self::S8 => {
                into.extend(slice.iter().map(|code| self.decode(u32::from(*code))));
            }
            Self::F16 | Self::BF16 => {
                let codes =
                    slice.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
                into.extend(codes.map(|code| self.decode(u32::from(code))));
            }
            Self::TF32 => {
                let codes = slice.chunks_exact(4);
                let codes =
                    codes.map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]));
                into.extend(codes.map(|code| self.decode(code)));
            }
        }
    }
}

/// A sign, an exponent and a mantissa, without infinities and NaN.
fn small(code: u32, exponent_bits: u32, mantissa_bits: u32, bias: i32) -> f64 {
    let mantissa = code & ((1 << mantissa_bits) - 1);
    let exponent = code >> mantissa_bits & ((1 << exponent_bits) - 1);
    let negative = code >> (mantissa_bits + exponent_bits) & 1 != 0;
    let (significand, power) = match exponent {
        0 => (mantissa, 1 - bias),
        _ => (mantissa | 1 << mantissa_bits, exponent as i32 - bias),
    };
    let magnitude = f64::from(significand) * power_of_two(power - mantissa_bits as i32);
    if negative { -magnitude } else { magnitude }
}

/// 2^exponent for exponents of normal numbers.
pub fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// How scale factors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScaleFormat {
    /// e4m3 without its sign, which is ignored; NaN 0x7F.
    UE4M3,
    /// 2^(code - 127); NaN 0xFF.
    UE8M0,
}

impl ScaleFormat {
    /// The value of a code.
    pub fn decode(self, code: u8) -> f64 {
        match self {
            Self::UE4M3 => Format::E4M3.decode(u32::from(code & 0x7F)),
            Self::UE8M0 if code == 0xFF => f64::NAN,
            Self::UE8M0 => power_of_two(i32::from(code) - 127),
        }
    }

    /// Exponent of the smallest normal number.
    pub fn min_exponent(self) -> i32 {
        match self {
            Self::UE4M3 => -6,
            Self::UE8M0 => -127,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e2m1_is_the_table() {
        let magnitudes = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        for code in 0..16u32 {
            let sign = if code & 8 != 0 { -1.0 } else { 1.0 };
            assert_eq!(Format::E2M1.decode(code), sign * magnitudes[code as usize % 8]);
        }
    }

    #[test]
    fn limits_of_the_small_formats() {
        // OCP Microscaling Formats 1.0, tables 1 to 4: largest, smallest normal, smallest.
        let limits = [
            (Format::E2M3, 0x1F, 7.5, 0x08, 1.0, 0.125),
            (Format::E3M2, 0x1F, 28.0, 0x04, 0.25, 0.0625),
            (Format::E4M3, 0x7E, 448.0, 0x08, 0.015625, 0.001953125),
            (Format::E5M2, 0x7B, 57344.0, 0x04, 6.103515625e-5, 1.52587890625e-5),
        ];
        for (format, largest, value, normal, normal_value, least) in limits {
            assert_eq!(format.decode(largest), value);
            assert_eq!(format.decode(normal), normal_value);
            assert_eq!(normal_value, power_of_two(format.min_exponent()));
            assert_eq!(format.decode(1), least);
        }
        assert!(Format::E4M3.decode(0x7F).is_nan());
        assert!(Format::E4M3.decode(0xFF).is_nan());
        assert_eq!(Format::E5M2.decode(0x7C), f64::INFINITY);
        assert_eq!(Format::TF32.decode(0x3F80_1FFF), 1.0);
        assert_eq!(Format::S8.decode(0xFF), -1.0);
    }

    #[test]
    fn scales() {
        assert_eq!(ScaleFormat::UE4M3.decode(0x38), 1.0);
        assert_eq!(ScaleFormat::UE4M3.decode(0xB8), 1.0);
        assert_eq!(ScaleFormat::UE4M3.decode(0x7E), 448.0);
        assert!(ScaleFormat::UE4M3.decode(0x7F).is_nan());
        assert_eq!(ScaleFormat::UE8M0.decode(127), 1.0);
        assert_eq!(ScaleFormat::UE8M0.decode(0), 2f64.powi(-127));
        assert!(ScaleFormat::UE8M0.decode(0xFF).is_nan());
    }

    #[test]
    fn padded_slices() {
        let mut slice = [0xFF; 32];
        slice[0] = 0x21;
        slice[16] = 0x07;
        let mut values = Vec::new();
        Format::E2M1.unpack(&slice, &mut values);
        assert_eq!(values.len(), 32);
        assert_eq!([values[0], values[1], values[16], values[17]], [0.5, 1.0, 6.0, 0.0]);
    }
}
