//! Shared-memory matrix descriptors of tcgen05 and wgmma (PTX ISA, "Shared memory descriptor" and "Matrix
//! Descriptor Format"; CUTLASS, `cute/arch/mma_sm100_desc.hpp`, `cute/arch/mma_sm90_desc.hpp`).

use crate::fault::{Fault, FaultKind, Result};

/// Whose descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// wgmma: bits 46 to 48 are zero.
    Sm90,
    /// tcgen05: bits 46 to 48 are 0b001.
    Sm100,
}

/// How 16-byte units are permuted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swizzle {
    /// Not at all.
    None,
    /// Within 32 bytes.
    B32,
    /// Within 64 bytes.
    B64,
    /// Within 128 bytes.
    B128,
    /// Within 128 bytes, in units of 32.
    B128Base32,
}

impl Swizzle {
    /// Bytes of a row of the pattern; 16 without one.
    pub fn width(self) -> u32 {
        match self {
            Self::None => 16,
            Self::B32 => 32,
            Self::B64 => 64,
            Self::B128 | Self::B128Base32 => 128,
        }
    }

    /// Where the byte at a linear address lies: the XOR is on the address in shared memory itself.
    pub fn apply(self, linear: u32) -> u32 {
        match self {
            Self::None => linear,
            Self::B32 => linear ^ (linear >> 7 & 1) << 4,
            Self::B64 => linear ^ (linear >> 7 & 3) << 4,
            Self::B128 => linear ^ (linear >> 7 & 7) << 4,
            Self::B128Base32 => linear ^ (linear >> 7 & 3) << 5,
        }
    }
}

/// A descriptor, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Offset in the thread block's own shared memory, in bytes.
    pub start: u32,
    /// Leading-dimension offset, in bytes.
    pub leading: u32,
    /// Stride-dimension offset, in bytes.
    pub stride: u32,
    /// Permutation.
    pub swizzle: Swizzle,
}

/// Addresses have 18 bits.
const ADDRESS_MASK: u32 = 0x3FFFF;

impl Descriptor {
    /// Takes the 64 bits apart; a field that is not legal is a fault that names it.
    pub fn parse(bits: u64, generation: Generation) -> Result<Self> {
        let field = |low: u32, count: u32| (bits >> low & ((1 << count) - 1)) as u32;
        let illegal = |name: &str, value: u32, wanted: &str| {
            let message =
                format!("matrix descriptor {bits:#018x}: {name} is {value}; it must be {wanted}");
            Err(Fault::new(FaultKind::Descriptor, message))
        };
        let (version, expected) = match generation {
            Generation::Sm90 => (field(46, 3), 0),
            Generation::Sm100 => (field(46, 3), 1),
        };
        if version != expected {
            let wanted = format!("{expected}");
            return illegal("the constant of bits 46 to 48", version, &wanted);
        }
        for (name, low, count) in [("bits 14 to 15", 14, 2), ("bits 30 to 31", 30, 2)] {
            if field(low, count) != 0 {
                return illegal(name, field(low, count), "0");
            }
        }
        if field(49, 3) != 0 {
            return illegal(
                "the base offset (bits 49 to 51)",
                field(49, 3),
                "0: patterns that do not begin at a multiple of their size are not implemented",
            );
        }
        if field(52, 1) != 0 {
            return illegal("the mode of the leading-dimension offset (bit 52)", 1, "0 on sm_100");
        }
        let zeros = match generation {
            Generation::Sm90 => field(53, 9),
            Generation::Sm100 => field(53, 8),
        };
        if zeros != 0 {
            return illegal("the constant from bit 53 on", zeros, "0");
        }
        let swizzle = match generation {
            Generation::Sm90 => match field(62, 2) {
                0 => Swizzle::None,
                1 => Swizzle::B128,
                2 => Swizzle::B64,
                _ => Swizzle::B32,
            },
            Generation::Sm100 => match field(61, 3) {
                0 => Swizzle::None,
                1 => Swizzle::B128Base32,
                2 => Swizzle::B128,
                4 => Swizzle::B64,
                6 => Swizzle::B32,
                other => {
                    return illegal("the swizzle (bits 61 to 63)", other, "0, 1, 2, 4 or 6");
                }
            },
        };
        Ok(Self {
            start: field(0, 14) << 4,
            leading: field(16, 14) << 4,
            stride: field(32, 14) << 4,
            swizzle,
        })
    }

    /// Address of a 16-byte unit of a K-major operand: row (of M or N) and unit of the K slice of 32 bytes.
    pub fn unit_of_row(&self, row: u32, unit: u32) -> u32 {
        let (rest, part) = (row / 8 * self.stride, row % 8);
        let linear = match self.swizzle {
            Swizzle::None => self.start + rest + unit * self.leading + part * 16,
            swizzle => self.start + rest + part * swizzle.width() + unit * 16,
        };
        self.swizzle.apply(linear & ADDRESS_MASK)
    }

    /// Address of a 16-byte unit of an MN-major operand: unit along M or N, and place along K.
    pub fn unit_of_column(&self, unit: u32, k: u32) -> u32 {
        let linear = match self.swizzle {
            Swizzle::None => unit * self.stride + k % 8 * 16 + k / 8 * self.leading,
            swizzle => {
                let units = swizzle.width() / 16;
                let atom = if swizzle == Swizzle::B128Base32 { 4 } else { 8 };
                unit % units * 16
                    + unit / units * self.leading
                    + k % atom * swizzle.width()
                    + k / atom * self.stride
            }
        };
        self.swizzle.apply((self.start + linear) & ADDRESS_MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As CUTLASS has them in stock kernels: 128-byte swizzle, 1024 bytes from eight rows to the next, version 1.
    const OPERAND: u64 = 0x4000_4040_0001_0000;

    #[test]
    fn descriptors_of_stock_kernels() -> Result<()> {
        let operand = Descriptor::parse(OPERAND | 0x40, Generation::Sm100)?;
        let expected =
            Descriptor { start: 0x400, leading: 16, stride: 1024, swizzle: Swizzle::B128 };
        assert_eq!(operand, expected);
        let scales = Descriptor::parse(0x0000_4008_0001_0000, Generation::Sm100)?;
        let expected = Descriptor { start: 0, leading: 16, stride: 128, swizzle: Swizzle::None };
        assert_eq!(scales, expected);
        let hopper = Descriptor::parse(0x4000_0040_0001_0000, Generation::Sm90)?;
        let expected = Descriptor { start: 0, leading: 16, stride: 1024, swizzle: Swizzle::B128 };
        assert_eq!(hopper, expected);
        Ok(())
    }

    #[test]
    fn illegal_fields_are_named() {
        let message = |bits, generation| {
            let fault = Descriptor::parse(bits, generation).err();
            fault
                .map(|fault| (fault.kind, fault.message))
                .unwrap_or((FaultKind::Trap, String::new()))
        };
        let cases = [
            (OPERAND & !(7 << 46), Generation::Sm100, "bits 46 to 48 is 0; it must be 1"),
            (OPERAND, Generation::Sm90, "bits 46 to 48 is 1; it must be 0"),
            (OPERAND | 3 << 49, Generation::Sm100, "base offset (bits 49 to 51) is 3"),
            (OPERAND | 1 << 52, Generation::Sm100, "(bit 52) is 1"),
            (OPERAND | 1 << 53, Generation::Sm100, "from bit 53 on is 1"),
            (OPERAND | 1 << 61, Generation::Sm100, "swizzle (bits 61 to 63) is 3"),
            (OPERAND | 1 << 63, Generation::Sm100, "is 6"),
            (OPERAND | 1 << 15, Generation::Sm100, "bits 14 to 15 is 2"),
        ];
        for (bits, generation, words) in cases {
            if words == "is 6" {
                assert!(Descriptor::parse(bits, generation).is_ok());
                continue;
            }
            let (kind, message) = message(bits, generation);
            assert_eq!(kind, FaultKind::Descriptor);
            assert!(message.contains(words), "{message}");
        }
    }

    /// Bit by bit, from the names of CuTe: Swizzle<bits, 4, shift> moves `bits` bits from 4 + shift down to 4.
    fn cute_swizzle(bits: u32, base: u32, shift: u32, address: u32) -> u32 {
        let mut result = address;
        for bit in 0..bits {
            if address >> (base + shift + bit) & 1 != 0 {
                result ^= 1 << (base + bit);
            }
        }
        result
    }

    #[test]
    fn swizzles_are_those_of_cute() {
        for address in (0..0x4000).step_by(4) {
            assert_eq!(Swizzle::B128.apply(address), cute_swizzle(3, 4, 3, address));
            assert_eq!(Swizzle::B64.apply(address), cute_swizzle(2, 4, 3, address));
            assert_eq!(Swizzle::B32.apply(address), cute_swizzle(1, 4, 3, address));
            assert_eq!(Swizzle::B128Base32.apply(address), cute_swizzle(2, 5, 2, address));
        }
    }

    #[test]
    fn k_major_units_by_the_formula_of_the_layout() {
        // CuTe, mma_traits_sm100.hpp, in units of 16 bytes: ((8,n),2):((W,SBO),1), without swizzle ((8,n),2):((1,SBO),LBO).
        let swizzles = [(Swizzle::B128, 8, 3), (Swizzle::B64, 4, 2), (Swizzle::B32, 2, 1)];
        for (swizzle, units, bits) in swizzles {
            let descriptor = Descriptor { start: 0x1000, leading: 16, stride: 0x800, swizzle };
            for row in 0..64 {
                for unit in 0..2 {
                    let place = (row % 8) * units + (row / 8) * 0x80 + unit;
                    let address = cute_swizzle(bits, 4, 3, 0x1000 + 16 * place);
                    assert_eq!(descriptor.unit_of_row(row, unit), address);
                }
            }
        }
        let plain =
            Descriptor { start: 0x420, leading: 0x90, stride: 0x200, swizzle: Swizzle::None };
        assert_eq!(plain.unit_of_row(0, 0), 0x420);
        assert_eq!(plain.unit_of_row(3, 1), 0x420 + 0x90 + 0x30);
        assert_eq!(plain.unit_of_row(9, 0), 0x420 + 0x200 + 0x10);
    }

    #[test]
    fn mn_major_units() {
        // ((8,n),(8,k)):((1,LBO),(8,SBO)): 64 elements of 16 bits to a row of K, then the next 64 LBO further.
        let descriptor =
            Descriptor { start: 0x2000, leading: 0x4000, stride: 0x400, swizzle: Swizzle::B128 };
        assert_eq!(descriptor.unit_of_column(0, 0), 0x2000);
        assert_eq!(descriptor.unit_of_column(3, 0), 0x2030);
        assert_eq!(descriptor.unit_of_column(3, 1), 0x2080 + 0x20);
        assert_eq!(descriptor.unit_of_column(8, 0), 0x6000);
        assert_eq!(descriptor.unit_of_column(0, 9), 0x2400 + 0x80 + 0x10);
        let plain =
            Descriptor { start: 0x2000, leading: 0x100, stride: 0x300, swizzle: Swizzle::None };
        assert_eq!(plain.unit_of_column(2, 9), 0x2000 + 0x600 + 0x100 + 0x10);
    }
}
