//! 16-bit floating point: `.f16` and `.bf16`.

use super::round::{Mode, add_odd};
use super::small::{BF16, F16 as F16_FORMAT, Format};

/// Bits of an f16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct F16(pub u16);

/// Bits of a bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bf16(pub u16);

/// What all NaN results are.
const CANONICAL_NAN: u16 = 0x7FFF;

/// Operations that both formats have.
pub trait Half: Copy + Send + Sync + 'static {
    /// The format.
    const FORMAT: Format;

    /// From bits.
    fn new(bits: u16) -> Self;
    /// The bits.
    fn bits(self) -> u16;
    /// As a double, exactly.
    fn wide(self) -> f64;

    /// A double that is exact, or rounded to odd, as this format.
    fn narrow(value: f64, mode: Mode) -> Self {
        if value.is_nan() {
            return Self::new(CANONICAL_NAN);
        }
        Self::new(Self::FORMAT.encode(value, mode, false) as u16)
    }

    /// Zero of the same sign in place of a subnormal value.
    fn flush(self) -> Self {
        if self.bits() & Self::FORMAT.exponent_mask() as u16 == 0 {
            Self::new(self.bits() & 0x8000)
        } else {
            self
        }
    }

    /// Clamped to 0..=1; NaN becomes 0.
    fn saturate(self) -> Self {
        let value = self.wide();
        if value >= 1.0 {
            Self::narrow(1.0, Mode::Nearest)
        } else if value > 0.0 {
            self
        } else {
            Self::new(0)
        }
    }

    /// Clamped to 0 from below; NaN stays, canonical.
    fn rectify(self) -> Self {
        let value = self.wide();
        if value.is_nan() {
            Self::new(CANONICAL_NAN)
        } else if value > 0.0 {
            self
        } else {
            Self::new(0)
        }
    }

    /// `a + b`
    fn add(self, other: Self, mode: Mode) -> Self {
        Self::narrow(add_odd(self.wide(), other.wide()), mode)
    }

    /// `a - b`
    fn sub(self, other: Self, mode: Mode) -> Self {
        self.add(Self::new(other.bits() ^ 0x8000), mode)
    }

    /// `a · b`
    fn mul(self, other: Self, mode: Mode) -> Self {
        Self::narrow(self.wide() * other.wide(), mode)
    }

    /// `a · b + c`
    fn fma(self, factor: Self, addend: Self, mode: Mode) -> Self {
        Self::narrow(add_odd(self.wide() * factor.wide(), addend.wide()), mode)
    }

    /// The lesser; a NaN loses, or wins if `propagates`. −0 is less than +0.
    fn min(self, other: Self, propagates: bool) -> Self {
        self.extremum(other, propagates, false)
    }

    /// The greater.
    fn max(self, other: Self, propagates: bool) -> Self {
        self.extremum(other, propagates, true)
    }

    /// See [`Half::min`] and [`Half::max`].
    fn extremum(self, other: Self, propagates: bool, greater: bool) -> Self {
        let (a, b) = (self.wide(), other.wide());
        match (a.is_nan(), b.is_nan()) {
            (true, true) => Self::new(CANONICAL_NAN),
            (true, false) | (false, true) if propagates => Self::new(CANONICAL_NAN),
            (true, false) => other,
            (false, true) => self,
            (false, false) => {
                let first_is_less = a < b || a == b && a.is_sign_negative();
                if first_is_less != greater { self } else { other }
            }
        }
    }
}

impl Half for F16 {
    const FORMAT: Format = F16_FORMAT;

    fn new(bits: u16) -> Self {
        Self(bits)
    }
    fn bits(self) -> u16 {
        self.0
    }
    fn wide(self) -> f64 {
        half::f16::from_bits(self.0).to_f64()
    }
}

impl Half for Bf16 {
    const FORMAT: Format = BF16;

    fn new(bits: u16) -> Self {
        Self(bits)
    }
    fn bits(self) -> u16 {
        self.0
    }
    fn wide(self) -> f64 {
        f64::from(f32::from_bits(u32::from(self.0) << 16))
    }
}

/// An operation on both halves of a word.
pub fn both1<H: Half>(a: u32, f: impl Fn(H) -> H) -> u32 {
    let part = |shift: u32| u32::from(f(H::new((a >> shift) as u16)).bits()) << shift;
    part(0) | part(16)
}

/// An operation on both halves of two words.
pub fn both2<H: Half>(a: u32, b: u32, f: impl Fn(H, H) -> H) -> u32 {
    let part = |shift: u32| {
        u32::from(f(H::new((a >> shift) as u16), H::new((b >> shift) as u16)).bits()) << shift
    };
    part(0) | part(16)
}

/// An operation on both halves of three words.
pub fn both3<H: Half>(a: u32, b: u32, c: u32, f: impl Fn(H, H, H) -> H) -> u32 {
    let at = |word: u32, shift: u32| H::new((word >> shift) as u16);
    let part = |shift: u32| u32::from(f(at(a, shift), at(b, shift), at(c, shift)).bits()) << shift;
    part(0) | part(16)
}
