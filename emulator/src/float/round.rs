//! Rounding of exact values in all modes, without the modes of the host.
//!
//! A value that is rounded twice is right if the first rounding is to odd (von Neumann): 53 bits of which the last
//! says that more follow keep all that a rounding to 51 bits or fewer needs.

/// `.rn`, `.rz`, `.rm`, `.rp`, and `.rna` (ties away from zero).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// To nearest, ties to even.
    Nearest,
    /// Towards zero.
    Zero,
    /// Towards minus infinity.
    Down,
    /// Towards plus infinity.
    Up,
    /// To nearest, ties away from zero.
    Away,
}

/// `a + b` rounded to odd.
#[inline(always)]
pub fn add_odd(a: f64, b: f64) -> f64 {
    let sum = a + b;
    // Knuth's TwoSum: sum + error is exact.
    let from_b = sum - a;
    let error = (a - (sum - from_b)) + (b - from_b);
    to_odd(sum, error)
}

/// `value + error`, of which `value` is the nearest, rounded to odd.
#[inline(always)]
fn to_odd(value: f64, error: f64) -> f64 {
    let bits = value.to_bits();
    let inexact = error != 0.0 && value.is_finite();
    // An even inexact value moves by one towards the error; an odd one is right on either side.
    let towards_zero = (error < 0.0) != (value < 0.0);
    let moved = if towards_zero { bits.wrapping_sub(1) } else { bits.wrapping_add(1) };
    f64::from_bits(if inexact && bits & 1 == 0 { moved } else { bits })
}

/// A double that is exact, or rounded to odd, as a single.
#[inline(always)]
pub fn to_f32(value: f64, mode: Mode) -> f32 {
    let near = value as f32;
    let back = f64::from(near);
    match mode {
        Mode::Nearest => near,
        Mode::Zero if back.abs() > value.abs() => toward_zero(near),
        Mode::Down if back > value => below(near),
        Mode::Up if back < value => -below(-near),
        Mode::Away if is_tie(value, near) => {
            if back.abs() < value.abs() {
                f32::from_bits(near.to_bits() + 1)
            } else {
                near
            }
        }
        _ => near,
    }
}

fn is_tie(value: f64, near: f32) -> bool {
    let back = f64::from(near);
    let other = if back.abs() < value.abs() {
        f64::from(f32::from_bits(near.to_bits().wrapping_add(1)))
    } else {
        f64::from(toward_zero(near))
    };
    back != value && (value - back).abs() == (other - value).abs()
}

/// The next single towards zero, of a value that is not zero.
#[inline(always)]
fn toward_zero(value: f32) -> f32 {
    f32::from_bits(value.to_bits().wrapping_sub(1))
}

/// The next single below.
#[inline(always)]
fn below(value: f32) -> f32 {
    if value == 0.0 {
        -f32::from_bits(1)
    } else if value > 0.0 {
        toward_zero(value)
    } else {
        f32::from_bits(value.to_bits().wrapping_add(1))
    }
}

/// `2^exponent`, also where it is subnormal; 0 or infinity outside.
pub fn power_of_two(exponent: i32) -> f64 {
    match exponent {
        -1022..=1023 => f64::from_bits(((exponent + 1023) as u64) << 52),
        ..=-1023 => f64::from_bits(1_u64.checked_shl((exponent + 1074).max(0) as u32).unwrap_or(0)),
        _ => f64::INFINITY,
    }
}

/// A whole number near `value` by the mode; the sign of zero stays.
pub fn to_integer(value: f64, mode: Mode) -> f64 {
    match mode {
        Mode::Nearest => value.round_ties_even(),
        Mode::Zero => value.trunc(),
        Mode::Down => value.floor(),
        Mode::Up => value.ceil(),
        Mode::Away => value.round(),
    }
}

/// A finite value rounded to `fraction` bits after the leading one, or to the step of the numbers below
/// `2^least_exponent`.
pub fn to_grid(value: f64, fraction: i32, least_exponent: i32, mode: Mode) -> f64 {
    if value == 0.0 {
        return value;
    }
    let exponent = ((value.to_bits() >> 52 & 0x7FF) as i32 - 1023).max(least_exponent);
    let step = exponent - fraction;
    // Formats whose steps reach here are no finer than 2^-149: both factors are normal.
    to_integer(value * power_of_two(-step), mode) * power_of_two(step)
}

/// A number without limit on exponents: `(-1)^negative · mantissa · 2^exponent`. The lowest bit of the mantissa also
/// stands for everything below it that is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exact {
    /// Sign.
    pub negative: bool,
    /// Size.
    pub mantissa: u128,
    /// Of the lowest bit.
    pub exponent: i32,
}

impl Exact {
    /// A finite double.
    pub fn from_f64(value: f64) -> Self {
        let bits = value.to_bits();
        let (field, fraction) = ((bits >> 52 & 0x7FF) as i32, bits & ((1 << 52) - 1));
        let mantissa = u128::from(if field == 0 { fraction } else { fraction | 1 << 52 });
        Self { negative: value.is_sign_negative(), mantissa, exponent: field.max(1) - 1075 }
    }

    /// The leading bit brought to bit 125; zero stays.
    fn normalized(self) -> Self {
        if self.mantissa == 0 {
            return self;
        }
        let shift = self.mantissa.leading_zeros() as i32 - 2;
        let mantissa =
            if shift >= 0 { self.mantissa << shift } else { jam(self.mantissa, -shift as u32) };
        Self { mantissa, exponent: self.exponent - shift, ..self }
    }

    /// The product of two doubles.
    pub fn multiply(self, other: Self) -> Self {
        Self {
            negative: self.negative != other.negative,
            mantissa: self.mantissa * other.mantissa,
            exponent: self.exponent + other.exponent,
        }
    }

    /// The sum. Of two equal numbers with other signs it is +0, or −0 when rounding down.
    pub fn add(self, other: Self, mode: Mode) -> Self {
        let (a, b) = (self.normalized(), other.normalized());
        if a.mantissa == 0 || b.mantissa == 0 {
            let both_zero = a.mantissa == b.mantissa;
            let mut sum = if a.mantissa == 0 { b } else { a };
            if both_zero && a.negative != b.negative {
                sum.negative = mode == Mode::Down;
            }
            return sum;
        }
        let (big, small) = if a.exponent >= b.exponent { (a, b) } else { (b, a) };
        let small_mantissa = jam(small.mantissa, (big.exponent - small.exponent) as u32);
        if big.negative == small.negative {
            return Self { mantissa: big.mantissa + small_mantissa, ..big };
        }
        let (negative, mantissa) = if big.mantissa >= small_mantissa {
            (big.negative, big.mantissa - small_mantissa)
        } else {
            (small.negative, small_mantissa - big.mantissa)
        };
        let negative = if mantissa == 0 { mode == Mode::Down } else { negative };
        Self { negative, mantissa, exponent: big.exponent }
    }

    /// The quotient; the divisor is not zero.
    pub fn divide(self, other: Self) -> Self {
        let negative = self.negative != other.negative;
        let (a, b) = (self.normalized(), other.normalized());
        if a.mantissa == 0 || b.mantissa == 0 {
            return Self { negative, ..a };
        }
        // A quotient of at least 64 bits: the divisor of a double has 53 bits above 73 zeros.
        let divisor = b.mantissa >> 64;
        let (quotient, rest) = (a.mantissa / divisor, a.mantissa % divisor);
        let mantissa = quotient | u128::from(rest != 0);
        Self { negative, mantissa, exponent: a.exponent - b.exponent - 64 }
    }

    /// The square root of what is not negative.
    pub fn root(self) -> Self {
        let mut a = self.normalized();
        if a.mantissa == 0 {
            return a;
        }
        if a.exponent % 2 != 0 {
            a.mantissa <<= 1;
            a.exponent -= 1;
        }
        let root = a.mantissa.isqrt();
        let mantissa = root | u128::from(root * root != a.mantissa);
        Self { negative: false, mantissa, exponent: a.exponent / 2 }
    }

    /// Rounded once.
    pub fn to_f64(self, mode: Mode) -> f64 {
        let sign = if self.negative { -1.0 } else { 1.0 };
        if self.mantissa == 0 {
            return 0.0 * sign;
        }
        let lead = 127 - self.mantissa.leading_zeros() as i32;
        // The exponent of the lowest bit that a double of this size has.
        let step = (self.exponent + lead - 52).max(-1074);
        let drop = step - self.exponent;
        let (kept, half, rest) = if drop <= 0 {
            (self.mantissa << -drop, false, false)
        } else if drop > 127 {
            (0, false, true)
        } else {
            let drop = drop as u32;
            let below = self.mantissa & ((1 << drop) - 1);
            let half = below >> (drop - 1) & 1 != 0;
            (self.mantissa >> drop, half, below & !(1 << (drop - 1)) != 0)
        };
        let up = match mode {
            Mode::Nearest => half && (rest || kept & 1 != 0),
            Mode::Away => half,
            Mode::Zero => false,
            Mode::Down => self.negative && (half || rest),
            Mode::Up => !self.negative && (half || rest),
        };
        let kept = kept as u64 + u64::from(up);
        // The bits of a double are in the order of their values: a carry goes into the exponent.
        let exponent = if kept < 1 << 52 { 0 } else { (step.min(972) + 1074) as u64 };
        let bits = (exponent << 52) + kept;
        let most = f64::MAX.to_bits();
        let bits = if bits > most {
            let finite = match mode {
                Mode::Zero => true,
                Mode::Down => !self.negative,
                Mode::Up => self.negative,
                Mode::Nearest | Mode::Away => false,
            };
            if finite { most } else { f64::INFINITY.to_bits() }
        } else {
            bits
        };
        f64::from_bits(bits).copysign(sign)
    }
}

/// A shift right that keeps, in the lowest bit, that something was lost.
fn jam(mantissa: u128, shift: u32) -> u128 {
    if shift >= 128 {
        return u128::from(mantissa != 0);
    }
    let kept = mantissa >> shift;
    kept | u128::from(kept << shift != mantissa)
}

/// A 64-bit size with a sign as a double rounded to odd.
pub fn integer_to_odd(negative: bool, size: u64) -> f64 {
    let shift = 11_u32.saturating_sub(size.leading_zeros());
    let value = jam(u128::from(size), shift) as u64 as f64 * power_of_two(shift as i32);
    if negative { -value } else { value }
}
