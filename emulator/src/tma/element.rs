//! Types of the elements of a tensor.

/// The type of an element. The driver (`CUtensorMapDataType`) and PTX (`tensormap.replace`, Table 33) number them
/// differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// UINT8, `.u8`
    U8,
    /// UINT16, `.u16`
    U16,
    /// UINT32, `.u32`
    U32,
    /// INT32, `.s32`
    S32,
    /// UINT64, `.u64`
    U64,
    /// INT64, `.s64`
    S64,
    /// FLOAT16, `.f16`
    F16,
    /// FLOAT32, `.f32`
    F32,
    /// FLOAT64, `.f64`
    F64,
    /// BFLOAT16, `.bf16`
    Bf16,
    /// FLOAT32_FTZ, `.f32.ftz`
    F32Ftz,
    /// TFLOAT32, `.tf32`
    Tf32,
    /// TFLOAT32_FTZ, `.tf32.ftz`
    Tf32Ftz,
    /// 16U4_ALIGN8B, `.b4x16`: two to a byte in both memories, the even one in the low half.
    U4,
    /// 16U4_ALIGN16B, `.b4x16_p64`: packed in global memory; in shared memory 8 bytes of padding follow each 8.
    U4Padded,
    /// 16U6_ALIGN16B: packed in global memory. A load (`.b6x16_p32`) puts 4 bytes of padding after each 12; a store
    /// (`.b6p2x16`) takes the low six bits of each byte.
    U6Padded,
}

use Element::{
    Bf16, F16, F32, F32Ftz, F64, S32, S64, Tf32, Tf32Ftz, U4, U4Padded, U6Padded, U8, U16, U32, U64,
};

/// `CUtensorMapDataType` in its order.
const DRIVER: [Element; 16] = [
    U8, U16, U32, S32, U64, S64, F16, F32, F64, Bf16, F32Ftz, Tf32, Tf32Ftz, U4, U4Padded, U6Padded,
];
/// PTX ISA, "tensormap.replace", Table 33, in its order.
const PTX: [Element; 16] = [
    U8, U16, U32, S32, U64, S64, F16, F32, F32Ftz, F64, Bf16, Tf32, Tf32Ftz, U4, U4Padded, U6Padded,
];

impl Element {
    /// By the number of the driver.
    pub fn from_driver(number: u32) -> Option<Self> {
        DRIVER.get(number as usize).copied()
    }

    /// By the number of `tensormap.replace`.
    pub fn from_ptx(number: u32) -> Option<Self> {
        PTX.get(number as usize).copied()
    }

    /// The number of the driver.
    pub fn driver(self) -> u8 {
        DRIVER.iter().position(|element| *element == self).unwrap_or(0) as u8
    }

    /// Bits of an element in global memory.
    pub fn bits(self) -> u64 {
        match self {
            U4 | U4Padded => 4,
            U6Padded => 6,
            U8 => 8,
            U16 | F16 | Bf16 => 16,
            U32 | S32 | F32 | F32Ftz | Tf32 | Tf32Ftz => 32,
            U64 | S64 | F64 => 64,
        }
    }

    /// Whether shared memory has gaps between the elements.
    pub fn is_padded(self) -> bool {
        matches!(self, U4Padded | U6Padded)
    }

    /// Whether elements out of bounds can be NaN.
    pub fn is_float(self) -> bool {
        matches!(self, F16 | F32 | F64 | Bf16 | F32Ftz | Tf32 | Tf32Ftz)
    }

    /// Bytes that so many elements, a multiple of 16 if padded, take in shared memory.
    pub fn shared_bytes(self, elements: u64) -> u64 {
        if self.is_padded() { elements } else { elements * self.bits() / 8 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_numberings_agree_with_their_tables() {
        // cuda.h 13.5, CUtensorMapDataType, and PTX ISA 9.2, Table 33.
        let driver = |number| Element::from_driver(number);
        assert_eq!([8, 9, 10].map(driver), [Some(F64), Some(Bf16), Some(F32Ftz)]);
        assert_eq!([13, 14, 15, 16].map(driver), [Some(U4), Some(U4Padded), Some(U6Padded), None]);
        let ptx = |number| Element::from_ptx(number);
        assert_eq!([8, 9, 10].map(ptx), [Some(F32Ftz), Some(F64), Some(Bf16)]);
        assert_eq!([11, 12, 13, 16].map(ptx), [Some(Tf32), Some(Tf32Ftz), Some(U4), None]);
        for number in 0..16 {
            assert_eq!(driver(number).map(|element| u32::from(element.driver())), Some(number));
        }
    }
}
