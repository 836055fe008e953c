//! The formats of operands and results, and the exact product of two matrices, in integers.
//!
//! Every value is an integer times a power of two that its format fixes, so a sum of products is an integer, too. It
//! is rounded once, at the end.

/// Equal seeds give equal numbers (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        ((self.next() >> 32) * end) >> 32
    }
}

/// e2m1 in halves: 0, 0.5, 1, 1.5, 2, 3, 4, 6.
pub fn e2m1(code: u8) -> i64 {
    let magnitude = [0, 1, 2, 3, 4, 6, 8, 12][usize::from(code & 7)];
    if code & 8 == 0 { magnitude } else { -magnitude }
}

/// e4m3 in units of 2^-9. Not for the codes of NaN.
pub fn e4m3(code: u8) -> i64 {
    let (exponent, fraction) = (code >> 3 & 15, i64::from(code & 7));
    let magnitude = if exponent == 0 { fraction } else { (8 + fraction) << (exponent - 1) };
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

/// A finite f16 in units of 2^-24.
pub fn f16(bits: u16) -> i64 {
    let (exponent, fraction) = (bits >> 10 & 31, i64::from(bits & 0x3FF));
    let magnitude = if exponent == 0 { fraction } else { (1024 + fraction) << (exponent - 1) };
    if bits & 0x8000 == 0 { magnitude } else { -magnitude }
}

/// A binary format of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    F16,
    Bf16,
    F32,
    /// With a scale for every 16 of a row: see `quantized`.
    E2m1,
}

impl Format {
    /// Bits of the significand, the hidden one included; exponent of the lowest normal number; bits of the exponent.
    fn parameters(self) -> (i32, i32, u32) {
        match self {
            Self::F16 => (11, -14, 5),
            Self::Bf16 => (8, -126, 8),
            Self::F32 => (24, -126, 8),
            Self::E2m1 => (2, 0, 2),
        }
    }

    pub fn bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    /// `value * 2^exponent`, to nearest, ties to even: the bits.
    pub fn round(self, value: i128, exponent: i32) -> u32 {
        let (precision, lowest, exponent_bits) = self.parameters();
        let sign = u32::from(value < 0) << (exponent_bits as i32 + precision - 1);
        let magnitude = value.unsigned_abs();
        if magnitude == 0 {
            return 0;
        }
        // The place of the last bit that is kept.
        let top = 127 - magnitude.leading_zeros() as i32 + exponent;
        let last = (top - precision + 1).max(lowest - precision + 1);
        let dropped = last - exponent;
        let kept = match dropped {
            ..=0 => magnitude << -dropped,
            1..=127 => {
                let (whole, rest) = (magnitude >> dropped, magnitude & ((1 << dropped) - 1));
                let half = 1 << (dropped - 1);
                whole + u128::from(rest > half || rest == half && whole & 1 == 1)
            }
            _ => 0,
        };
        // The hidden bit of a normal number adds one to the exponent; so does a carry.
        let field = (last - (lowest - precision + 1)) as u128;
        let bits = (field << (precision - 1)) + kept;
        let infinity = ((1u128 << exponent_bits) - 1) << (precision - 1);
        sign | bits.min(infinity) as u32
    }

    /// A number of this format.
    pub fn value(self, bits: u32) -> f64 {
        let (precision, lowest, exponent_bits) = self.parameters();
        let fraction = f64::from(bits & ((1 << (precision - 1)) - 1));
        let exponent = (bits >> (precision - 1) & ((1 << exponent_bits) - 1)) as i32;
        let hidden = 2f64.powi(precision - 1);
        let magnitude = match exponent {
            0 => fraction * 2f64.powi(lowest - precision + 1),
            top if top == (1 << exponent_bits) - 1 => {
                if fraction == 0.0 {
                    f64::INFINITY
                } else {
                    f64::NAN
                }
            }
            _ => (fraction + hidden) * 2f64.powi(exponent - 1 + lowest - precision + 1),
        };
        if bits >> (exponent_bits as i32 + precision - 1) & 1 == 0 { magnitude } else { -magnitude }
    }

    /// The distance between neighbors at a magnitude.
    pub fn ulp(self, magnitude: f64) -> f64 {
        let (precision, lowest, _) = self.parameters();
        let top = if magnitude > 0.0 { magnitude.log2().floor() as i32 } else { lowest };
        2f64.powi(top.max(lowest) - precision + 1)
    }
}

/// A matrix of integers in units of 2^`unit`, by rows.
pub struct Exact {
    pub rows: usize,
    pub columns: usize,
    pub unit: i32,
    pub values: Vec<i64>,
    /// The powers of two by which tensor cores align products, in the same units: see `operands::Rounding`.
    pub powers: Vec<i64>,
}

/// The power of two of the leading bit of a number of a format whose normal numbers begin at `least`; 0 of 0.
pub fn power(value: i64, least: i64) -> i64 {
    if value == 0 { 0 } else { (1 << value.unsigned_abs().ilog2()).max(least) }
}

/// An entry of a product: the sum of the terms and of their magnitudes, both in the units of the product.
#[derive(Clone, Copy, Default)]
pub struct Sum {
    pub sum: i128,
    pub magnitudes: i128,
    /// The largest product of powers of two.
    pub power: i128,
    /// All terms together, to see how many low bits are zero in each.
    pub bits: u128,
}

/// A times the transpose of B, by rows.
pub fn product(a: &Exact, b: &Exact) -> Vec<Sum> {
    assert_eq!(a.columns, b.columns);
    let mut sums = Vec::with_capacity(a.rows * b.rows);
    let rows = |of: &'_ Exact| {
        let columns = of.columns;
        (0..of.rows).map(move |row| row * columns..(row + 1) * columns)
    };
    for row in rows(a) {
        let (left, powers) = (&a.values[row.clone()], &a.powers[row]);
        for column in rows(b) {
            let mut sum = Sum::default();
            for (x, y) in powers.iter().zip(&b.powers[column.clone()]) {
                sum.power = sum.power.max(i128::from(*x) * i128::from(*y));
            }
            for (x, y) in left.iter().zip(&b.values[column]) {
                let term = i128::from(*x) * i128::from(*y);
                sum.sum += term;
                sum.magnitudes += term.abs();
                sum.bits |= term.unsigned_abs();
            }
            sums.push(sum);
        }
    }
    sums
}
