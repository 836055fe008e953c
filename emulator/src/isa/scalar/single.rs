//! Arithmetic of singles, with the flags of an instruction.

use super::operands::Build;
use crate::float::round::{Mode, add_odd, to_f32};

/// What every NaN result of single precision is.
pub const CANONICAL_NAN: u32 = 0x7FFF_FFFF;

/// A result: NaN becomes the canonical one.
#[inline(always)]
pub fn canonical(value: f32) -> f32 {
    if value.is_nan() { f32::from_bits(CANONICAL_NAN) } else { value }
}

/// Zero of the same sign in place of a subnormal value.
#[inline(always)]
pub fn flush(value: f32) -> f32 {
    let bits = value.to_bits();
    if bits & 0x7F80_0000 == 0 { f32::from_bits(bits & 0x8000_0000) } else { value }
}

/// Clamped to 0..=1; NaN becomes 0.
#[inline(always)]
pub fn saturate(value: f32) -> f32 {
    if value > 0.0 { value.min(1.0) } else { 0.0 }
}

/// `a / b` rounded to odd, for operands that are singles.
pub fn divide_odd(a: f32, b: f32) -> f64 {
    let (a, b) = (f64::from(a), f64::from(b));
    let quotient = a / b;
    if !quotient.is_finite() || quotient == 0.0 || !b.is_finite() {
        return quotient;
    }
    odd(quotient, (-quotient).mul_add(b, a) * b.signum())
}

/// The square root rounded to odd.
pub fn root_odd(a: f32) -> f64 {
    let a = f64::from(a);
    let root = a.sqrt();
    if !root.is_finite() || root == 0.0 {
        return root;
    }
    odd(root, (-root).mul_add(root, a))
}

pub fn odd(value: f64, error: f64) -> f64 {
    // The error may be far smaller than what a double can hold beside the value: only its sign matters.
    let bits = value.to_bits();
    if error == 0.0 || bits & 1 != 0 {
        return value;
    }
    let towards_zero = (error < 0.0) != (value < 0.0);
    f64::from_bits(if towards_zero { bits - 1 } else { bits + 1 })
}

/// The flags of an instruction.
#[derive(Clone, Copy, Debug)]
pub struct Flags {
    /// `.rn` and so on.
    pub mode: Mode,
    /// `.ftz`
    pub flush: bool,
    /// `.sat`
    pub saturate: bool,
}

impl Flags {
    /// As the opcode says.
    pub fn of(build: &Build<'_>) -> Self {
        Self {
            mode: build.mode().unwrap_or(Mode::Nearest),
            flush: build.has_any(&["ftz"]),
            saturate: build.has_any(&["sat"]),
        }
    }

    pub(super) fn is_plain(self) -> bool {
        self.mode == Mode::Nearest && !self.flush && !self.saturate
    }

    /// An operand.
    #[inline(always)]
    pub fn before(self, value: f32) -> f32 {
        if self.flush { flush(value) } else { value }
    }

    /// A result.
    #[inline(always)]
    pub fn after(self, value: f32) -> f32 {
        let value = if self.flush { flush(value) } else { value };
        if self.saturate { saturate(value) } else { canonical(value) }
    }

    pub(super) fn add(self, a: f32, b: f32) -> f32 {
        let sum = add_odd(f64::from(self.before(a)), f64::from(self.before(b)));
        self.after(self.with_zero(sum, a, b))
    }

    /// A sum that is zero although its terms are not, or that have other signs, is −0 when rounding down.
    fn with_zero(self, sum: f64, a: f32, b: f32) -> f32 {
        let both_negative = a.is_sign_negative() && b.is_sign_negative();
        if sum == 0.0 && self.mode == Mode::Down && (a.is_sign_negative() || b.is_sign_negative()) {
            return if both_negative || self.before(a) == -self.before(b) {
                -0.0
            } else {
                sum as f32
            };
        }
        to_f32(sum, self.mode)
    }

    pub(super) fn mul(self, a: f32, b: f32) -> f32 {
        let product = f64::from(self.before(a)) * f64::from(self.before(b));
        self.after(to_f32(product, self.mode))
    }

    pub(super) fn fma(self, a: f32, b: f32, c: f32) -> f32 {
        let product = f64::from(self.before(a)) * f64::from(self.before(b));
        let addend = f64::from(self.before(c));
        let sum = add_odd(product, addend);
        if sum == 0.0
            && self.mode == Mode::Down
            && product.is_sign_negative() != addend.is_sign_negative()
        {
            return self.after(-0.0);
        }
        self.after(to_f32(sum, self.mode))
    }
}

/// `a · b + c` rounded once to nearest.
#[inline(always)]
pub fn fma_nearest(a: f32, b: f32, c: f32) -> f32 {
    canonical(add_odd(f64::from(a) * f64::from(b), f64::from(c)) as f32)
}
