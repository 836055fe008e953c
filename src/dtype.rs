//! The float types that go in and come out: f32, f16 and bf16.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use std::fmt;
use std::str::FromStr;

/// Type of values that are not quantized: of the input of the quantizer, and of C.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum DType {
    /// IEEE binary16.
    #[default]
    F16,
    /// The upper half of binary32.
    Bf16,
    /// IEEE binary32.
    F32,
}

impl DType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::F16 | DType::Bf16 => 2,
            DType::F32 => 4,
        }
    }

    /// As it is written: f16, bf16 or f32.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
            DType::F32 => "f32",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DType {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "f16" => Ok(DType::F16),
            "bf16" => Ok(DType::Bf16),
            "f32" => Ok(DType::F32),
            _ => Err(format!("{s} is none of f16, bf16, f32")),
        }
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

/// A float type that can be quantized and that C can have: [`f32`], [`struct@f16`] or [`bf16`].
pub trait Element:
    Copy + Default + Send + Sync + fmt::Debug + PartialEq + sealed::Sealed + 'static
{
    /// The type as a value.
    const DTYPE: DType;

    /// Exact widening.
    fn to_f32(self) -> f32;

    /// Round to nearest even; beyond the largest finite value to infinity.
    fn from_f32(value: f32) -> Self;

    /// Round to nearest even in *one* step, never by way of a rounded f32.
    fn from_f64(value: f64) -> Self;

    /// [`Element::from_f32`] over a slice, written to become vector code.
    ///
    /// Elements beyond the shorter slice are left alone.
    #[inline(always)]
    fn convert(values: &[f32], out: &mut [Self]) {
        for (out, &value) in out.iter_mut().zip(values) {
            *out = Self::from_f32(value);
        }
    }

    /// [`Element::to_f32`] over a slice, written to become vector code.
    ///
    /// Elements beyond the shorter slice are left alone.
    #[inline(always)]
    fn widen(values: &[Self], out: &mut [f32]) {
        for (out, value) in out.iter_mut().zip(values) {
            *out = value.to_f32();
        }
    }

    /// Position of the value on the line of all values of this type: neighbors differ by one, both
    /// zeros are 0, infinity follows the largest finite value.
    fn ordinal(self) -> i64;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;

    fn to_f32(self) -> f32 {
        self
    }

    fn from_f32(value: f32) -> Self {
        value
    }

    fn from_f64(value: f64) -> Self {
        value as f32
    }

    fn ordinal(self) -> i64 {
        signed_magnitude(self.to_bits() >> 31 != 0, self.to_bits() & 0x7fff_ffff)
    }
}

impl Element for f16 {
    const DTYPE: DType = DType::F16;

    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }

    fn from_f32(value: f32) -> Self {
        f16::from_f32(value)
    }

    fn from_f64(value: f64) -> Self {
        f16::from_f32(f32_round_to_odd(value))
    }

    fn convert(values: &[f32], out: &mut [f16]) {
        let n = values.len().min(out.len());
        out[..n].convert_from_f32_slice(&values[..n]);
    }

    fn widen(values: &[f16], out: &mut [f32]) {
        let n = values.len().min(out.len());
        values[..n].convert_to_f32_slice(&mut out[..n]);
    }

    fn ordinal(self) -> i64 {
        signed_magnitude(self.to_bits() >> 15 != 0, u32::from(self.to_bits() & 0x7fff))
    }
}

impl Element for bf16 {
    const DTYPE: DType = DType::Bf16;

    fn to_f32(self) -> f32 {
        bf16::to_f32(self)
    }

    fn from_f32(value: f32) -> Self {
        bf16::from_f32(value)
    }

    fn from_f64(value: f64) -> Self {
        bf16::from_f32(f32_round_to_odd(value))
    }

    #[inline(always)]
    fn convert(values: &[f32], out: &mut [bf16]) {
        for (out, &value) in out.iter_mut().zip(values) {
            let bits = value.to_bits();
            // Without a branch. A NaN keeps its upper half and becomes quiet.
            let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
            let nan = bits >> 16 | 0x40;
            *out = bf16::from_bits(if value.is_nan() { nan } else { rounded } as u16);
        }
    }

    fn ordinal(self) -> i64 {
        signed_magnitude(self.to_bits() >> 15 != 0, u32::from(self.to_bits() & 0x7fff))
    }
}

fn signed_magnitude(negative: bool, magnitude: u32) -> i64 {
    if negative { -i64::from(magnitude) } else { i64::from(magnitude) }
}

/// f64 to f32, inexact results to the neighbor with an odd last bit.
///
/// Rounding that result to a format with at least two bits fewer gives what one direct rounding
/// would give (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008);
/// `f16::from_f64` of the `half` crate goes through a *nearest* f32 where F16C exists and rounds
/// twice.
fn f32_round_to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    let back = f64::from(nearest);
    if back == value || value.is_nan() {
        return nearest;
    }
    let mut bits = nearest.to_bits();
    if back.abs() > value.abs() {
        bits -= 1; // the neighbor towards zero; also infinity to the largest finite value
    }
    f32::from_bits(bits | 1)
}

/// Values whose type is known at run time, such as those of a tensor of a framework. A slice, an array or a vector
/// of an [`Element`] is one by `From`.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Values<'a> {
    /// [`DType::F32`]
    F32(&'a [f32]),
    /// [`DType::F16`]
    F16(&'a [f16]),
    /// [`DType::Bf16`]
    Bf16(&'a [bf16]),
}

/// The same to write to.
#[derive(Debug)]
#[non_exhaustive]
pub enum ValuesMut<'a> {
    /// [`DType::F32`]
    F32(&'a mut [f32]),
    /// [`DType::F16`]
    F16(&'a mut [f16]),
    /// [`DType::Bf16`]
    Bf16(&'a mut [bf16]),
}

/// Calls with the slice inside, whatever its type.
macro_rules! each_type {
    ($kind:ident, $values:expr, $slice:ident => $body:expr) => {
        match $values {
            $kind::F32($slice) => $body,
            $kind::F16($slice) => $body,
            $kind::Bf16($slice) => $body,
        }
    };
}
pub(crate) use each_type;

/// # Safety
/// `T` and `U` are the same type.
unsafe fn same_type<T, U>(values: &[T]) -> &[U] {
    // SAFETY: by the contract of this function.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) }
}

/// # Safety
/// `T` and `U` are the same type.
unsafe fn same_type_mut<T, U>(values: &mut [T]) -> &mut [U] {
    // SAFETY: by the contract of this function; the borrow of `values` moves into the result.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len()) }
}

impl<'a> Values<'a> {
    /// The values of a slice.
    pub fn of<T: Element>(values: &'a [T]) -> Self {
        match T::DTYPE {
            // SAFETY: `Element` is sealed, and f32 is the type of this DTYPE.
            DType::F32 => Values::F32(unsafe { same_type(values) }),
            // SAFETY: so is f16 of this one.
            DType::F16 => Values::F16(unsafe { same_type(values) }),
            // SAFETY: so is bf16 of this one.
            DType::Bf16 => Values::Bf16(unsafe { same_type(values) }),
        }
    }

    /// Type of the values.
    pub fn dtype(&self) -> DType {
        match self {
            Values::F32(_) => DType::F32,
            Values::F16(_) => DType::F16,
            Values::Bf16(_) => DType::Bf16,
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        each_type!(Values, self, values => values.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a> ValuesMut<'a> {
    /// The values of a slice.
    pub fn of<T: Element>(values: &'a mut [T]) -> Self {
        match T::DTYPE {
            // SAFETY: as in `Values::of`.
            DType::F32 => ValuesMut::F32(unsafe { same_type_mut(values) }),
            // SAFETY: as in `Values::of`.
            DType::F16 => ValuesMut::F16(unsafe { same_type_mut(values) }),
            // SAFETY: as in `Values::of`.
            DType::Bf16 => ValuesMut::Bf16(unsafe { same_type_mut(values) }),
        }
    }

    /// Type of the values.
    pub fn dtype(&self) -> DType {
        match self {
            ValuesMut::F32(_) => DType::F32,
            ValuesMut::F16(_) => DType::F16,
            ValuesMut::Bf16(_) => DType::Bf16,
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        each_type!(ValuesMut, self, values => values.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a, T: Element> From<&'a [T]> for Values<'a> {
    fn from(values: &'a [T]) -> Self {
        Values::of(values)
    }
}

impl<'a, T: Element> From<&'a Vec<T>> for Values<'a> {
    fn from(values: &'a Vec<T>) -> Self {
        Values::of(values)
    }
}

impl<'a, T: Element, const N: usize> From<&'a [T; N]> for Values<'a> {
    fn from(values: &'a [T; N]) -> Self {
        Values::of(values)
    }
}

impl<'a, T: Element> From<&'a mut [T]> for ValuesMut<'a> {
    fn from(values: &'a mut [T]) -> Self {
        ValuesMut::of(values)
    }
}

impl<'a, T: Element> From<&'a mut Vec<T>> for ValuesMut<'a> {
    fn from(values: &'a mut Vec<T>) -> Self {
        ValuesMut::of(values)
    }
}

impl<'a, T: Element, const N: usize> From<&'a mut [T; N]> for ValuesMut<'a> {
    fn from(values: &'a mut [T; N]) -> Self {
        ValuesMut::of(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rounding_where_two_would_differ() {
        // 1 + 2^-11 is the tie between 1 and its f16 successor; a hair above it must go up although
        // the nearest f32 is the tie itself.
        let tie = 1.0 + 2f64.powi(-11);
        let above = tie + 2f64.powi(-40);
        assert_eq!(<f16 as Element>::from_f64(tie).to_bits(), 0x3c00);
        assert_eq!(<f16 as Element>::from_f64(above).to_bits(), 0x3c01);
        assert_eq!(<f16 as Element>::from_f64(-above).to_bits(), 0xbc01);
        let tie = 1.0 + 2f64.powi(-8);
        assert_eq!(<bf16 as Element>::from_f64(tie).to_bits(), 0x3f80);
        assert_eq!(<bf16 as Element>::from_f64(tie + 2f64.powi(-50)).to_bits(), 0x3f81);
    }

    #[test]
    fn ends_of_the_range() {
        assert_eq!(<f16 as Element>::from_f64(65519.999).to_bits(), 0x7bff);
        assert_eq!(<f16 as Element>::from_f64(65520.0), f16::INFINITY);
        assert_eq!(<f16 as Element>::from_f64(1e300), f16::INFINITY);
        assert_eq!(<bf16 as Element>::from_f64(-1e300), bf16::NEG_INFINITY);
        assert_eq!(<f16 as Element>::from_f64(2f64.powi(-25)).to_bits(), 0);
        assert_eq!(<f16 as Element>::from_f64(2f64.powi(-25) * 1.0000000001).to_bits(), 1);
        assert!(<f16 as Element>::from_f64(f64::NAN).is_nan());
    }

    #[test]
    fn bf16_slices_round_like_single_values() {
        // All upper halves, with the lower ones around the tie.
        for upper in 0..=u32::from(u16::MAX) {
            let values = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff]
                .map(|lower| f32::from_bits(upper << 16 | lower));
            let mut out = [bf16::ZERO; 6];
            bf16::convert(&values, &mut out);
            for (value, out) in values.iter().zip(out) {
                let expected = bf16::from_f32(*value);
                assert_eq!(out.to_bits(), expected.to_bits(), "{:#x}", value.to_bits());
            }
        }
    }

    #[test]
    fn ordinals_count_neighbors() {
        assert_eq!(f16::NEG_ZERO.ordinal(), f16::ZERO.ordinal());
        assert_eq!(f16::from_bits(0x8001).ordinal(), -1);
        assert_eq!(f16::INFINITY.ordinal() - f16::MAX.ordinal(), 1);
        assert_eq!(1.0f32.ordinal() - f32::from_bits(0x3f7f_ffff).ordinal(), 1);
    }
}
