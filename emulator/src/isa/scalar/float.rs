//! Arithmetic of `.f32`, `.f64` and `.f32x2` (PTX ISA, "Floating Point Instructions"), exact in every mode.

use super::approximate;
use super::lanes::{Op, unsupported};
use super::operands::Build;
use super::single::{CANONICAL_NAN, Flags, canonical, divide_odd, flush, fma_nearest, root_odd};
use crate::fault::Result;
use crate::float::round::{Exact, Mode, to_f32};

/// Lowers.
pub fn lower(build: &Build<'_>) -> Result<Op> {
    match build.kind() {
        "f32" if build.has_any(&["f16", "bf16"]) => Err(unsupported("mixed precision")),
        "f32" => single(build),
        "f64" => double(build),
        "f32x2" => pair(build),
        _ => Err(unsupported("type")),
    }
}

fn single(build: &Build<'_>) -> Result<Op> {
    let flags = Flags::of(build);
    match build.statement.family.as_str() {
        "add" if flags.is_plain() => build.binary(|a: f32, b: f32| canonical(a + b)),
        "sub" if flags.is_plain() => build.binary(|a: f32, b: f32| canonical(a - b)),
        "mul" if flags.is_plain() => build.binary(|a: f32, b: f32| canonical(a * b)),
        "fma" | "mad" if flags.is_plain() => build.ternary(fma_nearest),
        "add" => build.binary(move |a, b| flags.add(a, b)),
        "sub" => build.binary(move |a, b: f32| flags.add(a, -b)),
        "mul" => build.binary(move |a, b| flags.mul(a, b)),
        "fma" | "mad" => build.ternary(move |a, b, c| flags.fma(a, b, c)),
        "div" if build.has_any(&["approx", "full"]) => approximate::divide(build, flags),
        "div" => build.binary(move |a, b| {
            let quotient = divide_odd(flags.before(a), flags.before(b));
            flags.after(to_f32(quotient, flags.mode))
        }),
        "rcp" => {
            build.unary(move |a| flags.after(to_f32(divide_odd(1.0, flags.before(a)), flags.mode)))
        }
        "sqrt" => build.unary(move |a| flags.after(to_f32(root_odd(flags.before(a)), flags.mode))),
        "neg" if flags.flush => build.unary(|a: f32| -flush(a)),
        "abs" if flags.flush => build.unary(|a: f32| flush(a).abs()),
        "neg" => build.unary(|a: f32| -a),
        "abs" => build.unary(|a: f32| a.abs()),
        "copysign" => build.binary(|sign: f32, size: f32| size.copysign(sign)),
        "min" => extremum(build, false),
        "max" => extremum(build, true),
        _ => Err(unsupported("family of f32")),
    }
}

/// The lesser or the greater; −0 is less than +0.
#[inline(always)]
fn pick(a: f32, b: f32, greater: bool, propagates: bool) -> f32 {
    if a.is_nan() || b.is_nan() {
        let both = a.is_nan() && b.is_nan();
        return match propagates || both {
            true => f32::from_bits(CANONICAL_NAN),
            false if a.is_nan() => b,
            false => a,
        };
    }
    let first_is_less = a < b || a == b && a.is_sign_negative();
    if first_is_less != greater { a } else { b }
}

fn extremum(build: &Build<'_>, greater: bool) -> Result<Op> {
    let propagates = build.has_any(&["NaN"]);
    let flags = Flags::of(build);
    let pick = move |a, b| pick(flags.before(a), flags.before(b), greater, propagates);
    if build.has_any(&["abs"]) {
        if !build.has_any(&["xorsign"]) {
            return Err(unsupported("abs without xorsign"));
        }
        return build.binary(move |a: f32, b: f32| {
            let sign = (a.to_bits() ^ b.to_bits()) & 0x8000_0000;
            let size = pick(a.abs(), b.abs());
            if size.is_nan() { size } else { f32::from_bits(size.to_bits() | sign) }
        });
    }
    match build.count() {
        4 => build.ternary(move |a: f32, b: f32, c: f32| pick(pick(a, b), c)),
        _ => build.binary(pick),
    }
}

fn pair(build: &Build<'_>) -> Result<Op> {
    let flags = Flags::of(build);
    let low = |bits: u64| f32::from_bits(bits as u32);
    let high = |bits: u64| f32::from_bits((bits >> 32) as u32);
    let join = |low: f32, high: f32| u64::from(low.to_bits()) | u64::from(high.to_bits()) << 32;
    match build.statement.family.as_str() {
        "add" => build.binary(move |a: u64, b: u64| {
            join(flags.add(low(a), low(b)), flags.add(high(a), high(b)))
        }),
        "sub" => build.binary(move |a: u64, b: u64| {
            join(flags.add(low(a), -low(b)), flags.add(high(a), -high(b)))
        }),
        "mul" => build.binary(move |a: u64, b: u64| {
            join(flags.mul(low(a), low(b)), flags.mul(high(a), high(b)))
        }),
        "fma" if flags.is_plain() => build.ternary(move |a: u64, b: u64, c: u64| {
            join(fma_nearest(low(a), low(b), low(c)), fma_nearest(high(a), high(b), high(c)))
        }),
        "fma" => build.ternary(move |a: u64, b: u64, c: u64| {
            join(flags.fma(low(a), low(b), low(c)), flags.fma(high(a), high(b), high(c)))
        }),
        _ => Err(unsupported("family of f32x2")),
    }
}

/// An operation on finite numbers, exact and then rounded; on others as the host does it, which needs no rounding.
fn exactly(plain: f64, terms: &[f64], mode: Mode, exact: impl FnOnce() -> Exact) -> f64 {
    if terms.iter().all(|term| term.is_finite()) { exact().to_f64(mode) } else { plain }
}

fn add_f64(a: f64, b: f64, mode: Mode) -> f64 {
    exactly(a + b, &[a, b], mode, || Exact::from_f64(a).add(Exact::from_f64(b), mode))
}

fn mul_f64(a: f64, b: f64, mode: Mode) -> f64 {
    exactly(a * b, &[a, b], mode, || Exact::from_f64(a).multiply(Exact::from_f64(b)))
}

fn fma_f64(a: f64, b: f64, c: f64, mode: Mode) -> f64 {
    exactly(a.mul_add(b, c), &[a, b, c], mode, || {
        Exact::from_f64(a).multiply(Exact::from_f64(b)).add(Exact::from_f64(c), mode)
    })
}

fn div_f64(a: f64, b: f64, mode: Mode) -> f64 {
    if b == 0.0 {
        return a / b;
    }
    exactly(a / b, &[a, b], mode, || Exact::from_f64(a).divide(Exact::from_f64(b)))
}

fn sqrt_f64(a: f64, mode: Mode) -> f64 {
    if a <= 0.0 {
        return a.sqrt();
    }
    exactly(a.sqrt(), &[a], mode, || Exact::from_f64(a).root())
}

fn pick_f64(a: f64, b: f64, greater: bool) -> f64 {
    match (a.is_nan(), b.is_nan()) {
        (true, _) => b,
        (_, true) => a,
        _ => {
            let first_is_less = a < b || a == b && a.is_sign_negative();
            if first_is_less != greater { a } else { b }
        }
    }
}

fn double(build: &Build<'_>) -> Result<Op> {
    let mode = build.mode().unwrap_or(Mode::Nearest);
    let near = mode == Mode::Nearest;
    match build.statement.family.as_str() {
        "add" if near => build.binary(|a: f64, b: f64| a + b),
        "sub" if near => build.binary(|a: f64, b: f64| a - b),
        "mul" if near => build.binary(|a: f64, b: f64| a * b),
        "fma" | "mad" if near => build.ternary(|a: f64, b: f64, c: f64| a.mul_add(b, c)),
        "div" if near => build.binary(|a: f64, b: f64| a / b),
        "add" => build.binary(move |a, b| add_f64(a, b, mode)),
        "sub" => build.binary(move |a, b: f64| add_f64(a, -b, mode)),
        "mul" => build.binary(move |a, b| mul_f64(a, b, mode)),
        "fma" | "mad" => build.ternary(move |a, b, c| fma_f64(a, b, c, mode)),
        "div" => build.binary(move |a, b| div_f64(a, b, mode)),
        "rcp" => build.unary(move |a| div_f64(1.0, a, mode)),
        "sqrt" => build.unary(move |a| sqrt_f64(a, mode)),
        "neg" => build.unary(|a: f64| -a),
        "abs" => build.unary(|a: f64| a.abs()),
        "copysign" => build.binary(|sign: f64, size: f64| size.copysign(sign)),
        "min" => build.binary(|a, b| pick_f64(a, b, false)),
        "max" => build.binary(|a, b| pick_f64(a, b, true)),
        _ => Err(unsupported("family of f64")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::float::round::Mode;
    use crate::isa::scalar::single::saturate;

    const MODES: [Mode; 4] = [Mode::Nearest, Mode::Zero, Mode::Down, Mode::Up];

    /// A random double of any size, with many special patterns.
    fn some(state: &mut u64) -> f64 {
        *state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bits = *state ^ *state >> 29;
        match bits % 5 {
            0 => f64::from_bits(bits),
            1 => f64::from_bits(bits & 0x800F_FFFF_FFFF_FFFF),
            2 => f64::from_bits(bits & 0x8000_0000_0000_000F | 0x3FF0_0000_0000_0000),
            3 => f64::from_bits(bits & !0x7FE0_0000_0000_0000 | 0x3FE0_0000_0000_0000),
            _ => f64::from_bits(bits & 0xFFFF_FFFF_0000_0000),
        }
    }

    fn same(a: f64, b: f64) -> bool {
        a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
    }

    #[test]
    fn exact_arithmetic_rounds_to_nearest_as_the_host_does() {
        let mut state = 1;
        for _ in 0..200_000 {
            let (a, b, c) = (some(&mut state), some(&mut state), some(&mut state));
            let near = Mode::Nearest;
            assert!(same(add_f64(a, b, near), a + b), "{a:e} + {b:e}");
            assert!(same(mul_f64(a, b, near), a * b), "{a:e} * {b:e}");
            assert!(same(div_f64(a, b, near), a / b), "{a:e} / {b:e}");
            assert!(same(fma_f64(a, b, c, near), a.mul_add(b, c)), "{a:e} * {b:e} + {c:e}");
            assert!(same(sqrt_f64(a, near), a.sqrt()), "sqrt {a:e}");
        }
    }

    /// Directed results enclose the nearest one, are neighbors, and meet exactly when the result is exact.
    #[test]
    fn directed_rounding_encloses() {
        let mut state = 2;
        for _ in 0..200_000 {
            let (a, b, c) = (some(&mut state), some(&mut state), some(&mut state));
            let results = [
                MODES.map(|mode| add_f64(a, b, mode)),
                MODES.map(|mode| mul_f64(a, b, mode)),
                MODES.map(|mode| div_f64(a, b, mode)),
                MODES.map(|mode| fma_f64(a, b, c, mode)),
            ];
            for [near, zero, down, up] in results {
                if near.is_nan() || !down.is_finite() || !up.is_finite() {
                    continue;
                }
                assert!(down <= near && near <= up);
                assert!(down == up || down.next_up() == up);
                assert!(
                    same(zero, if near > 0.0 || down >= 0.0 { down } else { up }) || zero == 0.0
                );
            }
            if a.is_finite() && b.is_finite() {
                let (down, up) = (add_f64(a, b, Mode::Down), add_f64(a, b, Mode::Up));
                let sum = a + b;
                let from_b = sum - a;
                let error = (a - (sum - from_b)) + (b - from_b);
                if sum.is_finite() && error.is_finite() {
                    assert_eq!(down == up, error == 0.0, "{a:e} + {b:e}");
                    assert!(error >= 0.0 || down < sum);
                }
            }
        }
    }

    #[test]
    fn singles_agree_with_doubles_rounded_exactly() {
        let mut state = 3;
        for _ in 0..200_000 {
            let (a, b, c) =
                (some(&mut state) as f32, some(&mut state) as f32, some(&mut state) as f32);
            let expected = canonical(a.mul_add(b, c));
            assert_eq!(fma_nearest(a, b, c).to_bits(), expected.to_bits(), "{a:e} * {b:e} + {c:e}");
            for mode in MODES {
                let flags = Flags { mode, flush: false, saturate: false };
                let exact = |value: Exact| {
                    // 24 bits by hand: round to odd at 53 bits first.
                    let zero = value.to_f64(Mode::Zero);
                    let up = value.to_f64(Mode::Up);
                    let down = value.to_f64(Mode::Down);
                    if up != down && zero.to_bits() & 1 == 0 {
                        f64::from_bits(zero.to_bits() + 1)
                    } else {
                        zero
                    }
                };
                if a.is_finite() && b.is_finite() && c.is_finite() {
                    let [x, y, z] = [a, b, c].map(|value| Exact::from_f64(f64::from(value)));
                    let sum = to_f32(exact(x.multiply(y).add(z, mode)), mode);
                    let got = flags.fma(a, b, c);
                    assert_eq!(got.to_bits(), sum.to_bits(), "{a:e} * {b:e} + {c:e} {mode:?}");
                    if b != 0.0 {
                        let quotient = to_f32(exact(x.divide(y)), mode);
                        let got = to_f32(divide_odd(a, b), mode);
                        assert_eq!(got.to_bits(), quotient.to_bits(), "{a:e} / {b:e} {mode:?}");
                    }
                }
            }
            if b != 0.0 {
                assert!(same(f64::from(divide_odd(a, b) as f32), f64::from(a / b)));
            }
            assert!(same(f64::from(root_odd(a) as f32), f64::from(a.sqrt())));
        }
    }

    /// Worked by hand from the tables of the PTX ISA.
    #[test]
    fn rules_of_extrema() {
        let nan = f32::NAN;
        assert_eq!(pick(nan, 1.0, true, false), 1.0);
        assert_eq!(pick(1.0, nan, false, false), 1.0);
        assert_eq!(pick(nan, 1.0, true, true).to_bits(), CANONICAL_NAN);
        assert_eq!(pick(-nan, nan, true, false).to_bits(), CANONICAL_NAN);
        assert_eq!(pick(0.0, -0.0, false, false).to_bits(), 0x8000_0000);
        assert_eq!(pick(-0.0, 0.0, true, false).to_bits(), 0);
        assert_eq!(saturate(nan).to_bits(), 0);
        assert_eq!(saturate(-1.0).to_bits(), 0);
        assert_eq!(saturate(2.0), 1.0);
        assert_eq!(flush(-1e-40).to_bits(), 0x8000_0000);
    }
}
