//! Alphas, biases, the GLU or the residual in f32, sixteen columns at a time: the way from the sums to C.
//!
//! Everything is written on arrays of 16 without branches, so that it becomes vector code in a
//! function compiled for AVX-512, AVX2 or NEON. `alpha·sum + bias` is one fused operation, as on a device, and all
//! other multiplications and additions are apart, so that all instruction sets give the same bits.

use super::integer::STRIP;
use crate::dtype::{Element, Values, each_type};
use crate::glu::Glu;

/// What is done with the sums of some columns of C.
#[derive(Debug, Clone, Copy)]
pub(super) struct Epilogue<'a> {
    pub alphas: Alphas<'a>,
    /// Of each weight, for the columns from the first on; empty where there are none. A GEMM has the same twice.
    pub biases: [&'a [f32]; 2],
    pub join: Join<'a>,
}

/// What becomes of the products `x = alpha·sum + bias`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Join<'a> {
    /// `glu(x1, x2)`.
    Glu(Glu),
    /// `x + R`: 16 columns of x1, then 16 of x2, and so on.
    Add(Option<Residual<'a>>),
}

/// R, as large as the whole of C.
#[derive(Debug, Clone, Copy)]
pub(super) struct Residual<'a> {
    pub values: Values<'a>,
    /// Index of what belongs to the first of the columns in the first of the rows.
    pub first: usize,
    /// Elements from row to row.
    pub stride: usize,
}

impl Residual<'_> {
    /// Sixteen columns of a row; what is beyond `width` is 0.
    #[inline(always)]
    fn strip(&self, row: usize, column: usize, width: usize) -> [f32; STRIP] {
        let start = self.first + row * self.stride + column;
        let mut out = [0.0; STRIP];
        each_type!(Values, self.values, values => {
            Element::widen(&values[start..start + width], &mut out);
        });
        out
    }
}

/// The neutral element of addition: 0 would make −0 positive.
const NOTHING: [f32; STRIP] = [-0.0; STRIP];

/// The biases of the sixteen columns from `column` on.
#[inline(always)]
fn bias(biases: &[f32], column: usize) -> [f32; STRIP] {
    let mut out = NOTHING;
    let rest = biases.get(column..).unwrap_or_default();
    match rest.first_chunk() {
        Some(all) => *all,
        None => {
            out[..rest.len()].copy_from_slice(rest);
            out
        }
    }
}

/// What the sums of a row are multiplied with: `[alpha1, alpha2]`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Alphas<'a> {
    /// The same for all rows.
    Tensor([f32; 2]),
    /// One pair for each row, from the first row of the sums on.
    Row(&'a [[f32; 2]]),
}

impl Alphas<'_> {
    #[inline(always)]
    fn of(&self, row: usize) -> [f32; 2] {
        match self {
            Alphas::Tensor(alphas) => *alphas,
            Alphas::Row(alphas) => alphas[row],
        }
    }
}

/// Sums of neighboring strips.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sums<'a> {
    /// \[strip\]\[weight\]\[row\]
    pub acc: &'a [[f32; STRIP]],
    /// Rows of one weight of one strip, at least those of C.
    pub rows: usize,
}

impl Epilogue<'_> {
    /// Writes the joined products to the rows of C, `convert`ed.
    #[inline(always)]
    pub fn finish<'c, T: Element>(
        &self,
        sums: Sums<'_>,
        c: impl Iterator<Item = &'c mut [T]>,
        convert: impl Fn(&[f32; STRIP], &mut [T; STRIP]),
    ) {
        let glu = match self.join {
            Join::Glu(glu) => glu,
            Join::Add(residual) => return self.add(sums, c, residual, convert),
        };
        match glu {
            Glu::Swiglu => self.each(sums, c, convert, |x1, x2| {
                let x1 = finite(x1);
                let sigmoid = sigmoid(x1);
                product(x1 * sigmoid.value, sigmoid.up(x2)) * sigmoid.scale()
            }),
            Glu::ClampedSwiglu { limit, slope, offset } => {
                self.each(sums, c, convert, |x1, x2| {
                    let g = finite(x1);
                    let g = if g > limit { limit } else { g }; // `min` would hide a NaN
                    let u = x2.clamp(-limit, limit);
                    let sigmoid = sigmoid(slope * g);
                    g * sigmoid.value * sigmoid.up(u + offset) * sigmoid.scale()
                })
            }
            Glu::GegluTanh => self.each(sums, c, convert, |x1, x2| {
                // 1 + tanh(y) = 2·sigmoid(2y); 2·sqrt(2/pi) = 1.5957691…
                let x1 = finite(x1);
                let y = 1.595_769 * (x1 + 0.044_715 * x1 * x1 * x1);
                let sigmoid = sigmoid(y);
                product(x1 * sigmoid.value, sigmoid.up(x2)) * sigmoid.scale()
            }),
        }
    }

    /// Row by row over all strips, so that a cache line of C is written at once.
    #[inline(always)]
    fn each<'c, T: Element>(
        &self,
        sums: Sums<'_>,
        c: impl Iterator<Item = &'c mut [T]>,
        convert: impl Fn(&[f32; STRIP], &mut [T; STRIP]),
        f: impl Fn(f32, f32) -> f32,
    ) {
        for (row, out) in c.enumerate() {
            let [alpha1, alpha2] = self.alphas.of(row);
            let strips = sums.acc.chunks_exact(2 * sums.rows);
            for (i, (strip, out)) in strips.zip(out.chunks_mut(STRIP)).enumerate() {
                let (sums1, sums2) = (&strip[row], &strip[sums.rows + row]);
                let [bias1, bias2] = self.biases.map(|biases| bias(biases, i * STRIP));
                let mut values = [0.0; STRIP];
                // The only call of `f`: with two, the compiler makes it a function of its own, which has
                // no vectors.
                for (j, value) in values.iter_mut().enumerate() {
                    *value =
                        f(sums1[j].mul_add(alpha1, bias1[j]), sums2[j].mul_add(alpha2, bias2[j]));
                }
                store(&values, out, &convert);
            }
        }
    }

    /// The same for products that are not joined.
    #[inline(always)]
    fn add<'c, T: Element>(
        &self,
        sums: Sums<'_>,
        c: impl Iterator<Item = &'c mut [T]>,
        residual: Option<Residual<'_>>,
        convert: impl Fn(&[f32; STRIP], &mut [T; STRIP]),
    ) {
        for (row, out) in c.enumerate() {
            let alphas = self.alphas.of(row);
            // Of each strip: the sums of one weight, then those of the other.
            let strips = sums.acc.chunks_exact(sums.rows);
            for (i, (strip, out)) in strips.zip(out.chunks_mut(STRIP)).enumerate() {
                let (alpha, bias) = (alphas[i % 2], bias(self.biases[i % 2], i * STRIP));
                let residual =
                    residual.map_or(NOTHING, |residual| residual.strip(row, i * STRIP, out.len()));
                let mut values = [0.0; STRIP];
                for (j, value) in values.iter_mut().enumerate() {
                    *value = strip[row][j].mul_add(alpha, bias[j]) + residual[j];
                }
                store(&values, out, &convert);
            }
        }
    }
}

/// Writes sixteen columns of a row, or those that there are.
#[inline(always)]
fn store<T: Element>(
    values: &[f32; STRIP],
    out: &mut [T],
    convert: &impl Fn(&[f32; STRIP], &mut [T; STRIP]),
) {
    if let Ok(out) = out.try_into() {
        convert(values, out);
    } else {
        let mut last = [T::default(); STRIP];
        convert(values, &mut last);
        out.copy_from_slice(&last[..out.len()]);
    }
}

/// Keeps −∞·sigmoid(−∞) from becoming NaN.
#[inline(always)]
fn finite(x: f32) -> f32 {
    x.clamp(f32::MIN, f32::MAX)
}

/// `gate·up` that stays 0 where the gate is closed and `up` has overflowed.
#[inline(always)]
fn product(gate: f32, up: f32) -> f32 {
    if gate == 0.0 { gate } else { gate * up }
}

/// A sigmoid as `value`, or as `value·2^-TAIL` where it is `far` down its tail: there it is too small for an
/// f32 long before its product with a large up projection is. 2^-262 and what is below are no loss: not
/// even the largest f32 makes a normal number of it.
#[derive(Debug, Clone, Copy)]
struct Sigmoid {
    value: f32,
    far: bool,
}

/// The power of two that is taken out of a sigmoid far down its tail; an even number.
const TAIL: i32 = 136;

/// Half of it. Taken in two halves, it neither makes the up projection too small nor the product too
/// large: the gate is below 2^20 there, and an up projection that becomes subnormal belongs to a C
/// below 2^-174.
const HALF_TAIL: f32 = 1.0 / (1u128 << (TAIL / 2)) as f32;

impl Sigmoid {
    /// What the up projection is multiplied with, and the product again.
    #[inline(always)]
    fn scale(self) -> f32 {
        if self.far { HALF_TAIL } else { 1.0 }
    }

    /// The up projection, scaled. Far down the tail one that has overflowed counts as the largest number,
    /// and does not open the gate.
    #[inline(always)]
    fn up(self, up: f32) -> f32 {
        if self.far { finite(up) * HALF_TAIL } else { up }
    }
}

#[inline(always)]
fn sigmoid(x: f32) -> Sigmoid {
    let (exp, far) = exp(-x);
    let one = if far { 0.0 } else { 1.0 };
    Sigmoid { value: 1.0 / (one + exp), far }
}

/// e^x within 2 ULP; as `exp·2^TAIL` from 124.5·ln 2 on, which is told by `true`. Infinity from
/// (128 + TAIL)·ln 2 on and 0 below the normal numbers.
#[inline(always)]
fn exp(x: f32) -> (f32, bool) {
    // x = n·ln 2 + r with |r| ≤ ln 2 / 2; the high part of ln 2 has few bits, so that n·HIGH is
    // exact (Cody and Waite).
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    const ROUND: f32 = 12_582_912.0; // 1.5·2^23: adding and subtracting it rounds to an integer
    let x = x.clamp(-88.0, 183.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * HIGH) - n * LOW;
    // Taylor to r^7; the remainder is below 2^-26 on the interval.
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    // n is in [-127, 264], and without TAIL at most 128: exponent fields 0 and 255 are 0 and infinity.
    // The low 9 bits of `shifted` are those of n (`as i32` saturates, which LLVM does one lane at a time).
    let far = n > 124.0;
    let shifted = if far { shifted - TAIL as f32 } else { shifted };
    let two_to_n = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    (p * two_to_n, far)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_true_one() {
        let mut worst = 0.0f64;
        for i in -870_000..1_820_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            let (value, far) = exp(x);
            assert!(!far || x > 86.0, "{x}");
            let value = f64::from(value) * if far { 2f64.powi(TAIL) } else { 1.0 };
            worst = worst.max(((value - exact) / exact).abs());
        }
        assert!(worst < 3e-7, "{worst:e}");
        assert_eq!(exp(183.0), (f32::INFINITY, true));
        assert_eq!(exp(f32::INFINITY), (f32::INFINITY, true));
        assert_eq!(exp(f32::MIN), (0.0, false));
        assert_eq!(exp(0.0), (1.0, false));
        assert!(exp(f32::NAN).0.is_nan());
    }

    fn of_glu(alphas: [f32; 2], glu: Glu) -> Epilogue<'static> {
        Epilogue { alphas: Alphas::Tensor(alphas), biases: [&[]; 2], join: Join::Glu(glu) }
    }

    /// `apply` of one pair of products.
    fn one(gate: Glu, x1: f32, x2: f32) -> f32 {
        let epilogue = of_glu([1.0, 1.0], gate);
        let sums = Sums { acc: &[[x1; STRIP], [x2; STRIP]], rows: 1 };
        let mut c = [f32::NAN; STRIP];
        epilogue.finish(sums, [&mut c[..]].into_iter(), |values, out| *out = *values);
        c[0]
    }

    /// Far down the tail the sigmoid is no f32, and its product with a large x2 is one. The exponent's own
    /// rounding makes an error of about 2^-24 of it.
    #[test]
    fn negative_tail() {
        let mut seen = 0;
        for gate in [Glu::Swiglu, Glu::GPT_OSS, Glu::GegluTanh] {
            for i in 0..20_000 {
                let x1 = -(i as f32) * 0.01;
                for x2 in [1e-40f32, 1e-20, 1e-3, -3.0, 1e3, -1e10, 1e20, 1e30, -1e36, 3e38] {
                    let exact = gate.apply(x1.into(), x2.into());
                    let value = f64::from(one(gate, x1, x2));
                    let bound = exact.abs() * 4e-5 + f64::from(f32::MIN_POSITIVE) * 1.00001;
                    assert!((value - exact).abs() <= bound, "{gate:?} {x1} {x2:e}: {value:e}");
                    let normal = exact.abs() > 1.01 * f64::from(f32::MIN_POSITIVE);
                    assert!(!normal || (value / exact - 1.0).abs() < 4e-5, "{gate:?} {x1} {x2:e}");
                    seen += usize::from(normal && x1 < -90.0);
                }
            }
        }
        assert!(seen > 10_000, "{seen}");
    }

    /// What has overflowed counts as the largest number far down the tail, and as nothing below.
    #[test]
    fn an_infinite_up_projection_does_not_open_the_gate() {
        for gate in [Glu::Swiglu, Glu::GegluTanh] {
            for up in [f32::INFINITY, f32::NEG_INFINITY] {
                assert!(one(gate, -2.0, up).is_infinite());
                for x1 in [-100.0, -150.0, -182.0, -183.0, -1e3, f32::MIN, f32::NEG_INFINITY] {
                    assert!(one(gate, x1, up).abs() < 2e-3, "{gate:?} {x1}");
                }
            }
        }
    }

    #[test]
    fn nan_stays_nan() {
        for gate in [Glu::Swiglu, Glu::GPT_OSS, Glu::GegluTanh] {
            for (x1, x2) in [(f32::NAN, 1.0), (1.0, f32::NAN), (-8.0, f32::NAN)] {
                assert!(one(gate, x1, x2).is_nan(), "{gate:?} {x1} {x2}");
            }
        }
    }

    /// The kernels' GLU for C in NVFP4 (cpp/kernels/common/strict_glu.hpp) is held against the same file.
    #[test]
    fn the_bits_are_those_of_the_kernels() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/cpp/tests/data/strict_glu.txt");
        let Ok(text) = std::fs::read_to_string(path) else {
            eprintln!("skipped: {path} is not there, as in the package");
            return;
        };
        let mut rows = 0;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<u32> =
                line.split(' ').map(|word| u32::from_str_radix(word, 16).unwrap()).collect();
            let [kind, limit, slope, offset, x1, x2, c] = words[..] else { panic!("{line}") };
            let value = f32::from_bits;
            let (limit, slope, offset) = (value(limit), value(slope), value(offset));
            let gate = [Glu::Swiglu, Glu::ClampedSwiglu { limit, slope, offset }, Glu::GegluTanh]
                [kind as usize];
            assert_eq!(one(gate, value(x1), value(x2)).to_bits(), c, "{line}");
            rows += 1;
        }
        assert!(rows > 2000, "{rows}");
    }

    /// Parameters at their bounds neither make a NaN nor an infinity that the oracle does not have.
    #[test]
    fn parameters_at_their_bounds() {
        let max = Glu::MAX_PARAMETER;
        for limit in [1e-30, 7.0, max] {
            for alpha in [-max, -1.0, -1e-18, 0.0, 1e-18, 1.702, max] {
                for beta in [-max, -1.0, 0.0, max] {
                    let gate = Glu::ClampedSwiglu { limit, slope: alpha, offset: beta };
                    gate.validate().unwrap();
                    for x1 in [f32::MIN, -1e20, -100.0, -1.0, -0.0, 0.0, 1e-18, 1.0, 1e20, f32::MAX]
                    {
                        for x2 in [f32::MIN, -1.0, 0.0, 1.0, f32::MAX] {
                            let exact = gate.apply(x1.into(), x2.into()) as f32;
                            let value = one(gate, x1, x2);
                            let equal =
                                value == exact || (value - exact).abs() <= 1e-4 * exact.abs();
                            let tiny = value.abs().max(exact.abs()) < 1e-30;
                            assert!(equal || tiny, "{gate:?} {x1} {x2}: {value:e} {exact:e}");
                        }
                    }
                }
            }
        }
    }

    /// The gate is closed, whatever the other projection has grown to.
    #[test]
    fn gates_at_the_ends_of_the_range() {
        for gate in [Glu::Swiglu, Glu::GPT_OSS, Glu::GegluTanh] {
            for (alpha2, lowest) in [(1.0, 1e-40), (3e38, -0.0)] {
                let epilogue = of_glu([1e30, alpha2], gate);
                for x in [f32::MIN, -1e38, -1e10, -0.0, 0.0, lowest] {
                    let sums = Sums { acc: &[[x; STRIP], [2.0; STRIP]], rows: 1 };
                    let mut c = [f32::NAN; STRIP];
                    epilogue.finish(sums, [&mut c[..]].into_iter(), |values, out| *out = *values);
                    assert!(c[0].abs() < 1e-6, "{gate:?} {x} {alpha2} -> {}", c[0]);
                }
            }
        }
    }
}
