//! Functions of the special function unit: `rcp.approx`, `ex2.approx` and the like (PTX ISA, "Floating Point
//! Instructions", where their greatest errors stand).
//!
//! Results are the nearest; with EMULATOR_MUFU=perturbed they are off by up to the documented error, by a function of
//! the seed, the instruction and the operand.

use super::lanes::{Lanes, Op, unsupported};
use super::operands::{Build, code};
use super::single::{Flags, canonical};
use crate::fault::Result;
use crate::float::half::{Bf16, F16, Half, both1};
use crate::float::round::{Mode, power_of_two};
use crate::isa::value::LANES;

/// A documented bound.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Error {
    /// Units in the last place of a single.
    Ulps(f64),
    /// Of the value.
    Relative(f64),
    /// Whatever the value.
    Absolute(f64),
}

/// A function and its bound.
#[derive(Clone, Copy, Debug)]
struct Function {
    value: fn(f64) -> f64,
    error: Error,
    /// Tells the functions apart when perturbing.
    number: u64,
}

fn function(family: &str) -> Option<Function> {
    let (value, error, number): (fn(f64) -> f64, Error, u64) = match family {
        "ex2" => (f64::exp2, Error::Ulps(2.0), 1),
        "lg2" => (f64::log2, Error::Absolute(power_of_two(-22)), 2),
        "sin" => (f64::sin, Error::Absolute(power_of_two(-20)), 3),
        "cos" => (f64::cos, Error::Absolute(power_of_two(-20)), 4),
        "tanh" => (f64::tanh, Error::Relative(power_of_two(-11)), 5),
        "rcp" => (f64::recip, Error::Ulps(1.0), 6),
        "rsqrt" => (|a| 1.0 / a.sqrt(), Error::Ulps(1.0), 7),
        "sqrt" => (f64::sqrt, Error::Ulps(1.0), 8),
        _ => return None,
    };
    Some(Function { value, error, number })
}

/// Between −1 and 1, by seed and operand: splitmix64.
fn noise(seed: u64, number: u64, bits: u64) -> f64 {
    let mut state = seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ bits.rotate_left(32);
    state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let top = (state ^ (state >> 31)) >> 11;
    top as f64 * power_of_two(-52) - 1.0
}

/// The exact value moved so far that, rounded to a single, it is within the bound.
fn perturb(value: f64, error: Error, noise: f64) -> f64 {
    if !value.is_finite() || value == 0.0 {
        return value;
    }
    let exponent = ((value.to_bits() >> 52 & 0x7FF) as i32 - 1023).max(-126);
    let ulp = power_of_two(exponent - 23);
    // Rounding takes half of a unit of its own.
    let room = match error {
        Error::Ulps(ulps) => ulps * ulp,
        Error::Relative(part) => value.abs() * part,
        Error::Absolute(size) => size,
    } - 0.5 * ulp;
    value + noise * room.max(0.0)
}

/// Lowers.
pub fn lower(build: &Build<'_>) -> Result<Op> {
    let function =
        function(&build.statement.family).ok_or_else(|| unsupported("approximate function"))?;
    let flags = Flags::of(build);
    match build.kind() {
        "f32" => {
            let (into, a) = (build.result::<f32>(0)?, build.source::<f32>(1)?);
            Ok(code(move |lanes: &mut Lanes<'_>| {
                let a = a.get(lanes);
                let seed = lanes.perturb;
                let mut values = [0; LANES];
                for (lane, value) in values.iter_mut().enumerate() {
                    if lanes.mask >> lane & 1 == 0 {
                        continue;
                    }
                    let operand = f64::from(flags.before(f32::from_bits(a[lane])));
                    let mut result = (function.value)(operand);
                    if let Some(seed) = seed {
                        let noise = noise(seed, function.number, u64::from(a[lane]));
                        result = perturb(result, function.error, noise);
                    }
                    *value = flags.after(canonical(result as f32)).to_bits();
                }
                lanes.write(into, &values);
            }))
        }
        // rcp and rsqrt of doubles have 20 good bits on hardware; the nearest is as good an answer.
        "f64" if build.has_any(&["ftz"]) => build.unary(move |a: f64| {
            let flush = |a: f64| if a.is_subnormal() { 0.0_f64.copysign(a) } else { a };
            flush((function.value)(flush(a)))
        }),
        "f64" => build.unary(move |a: f64| (function.value)(a)),
        "f16" => build.unary(move |a: F16| half(a, function, flags.flush)),
        "bf16" => build.unary(move |a: Bf16| half(a, function, flags.flush)),
        "f16x2" => build.unary(move |a: u32| both1(a, |a: F16| half(a, function, flags.flush))),
        "bf16x2" => build.unary(move |a: u32| both1(a, |a: Bf16| half(a, function, flags.flush))),
        _ => Err(unsupported("type")),
    }
}

fn half<H: Half>(a: H, function: Function, flush: bool) -> H {
    let a = if flush { a.flush() } else { a };
    let result = H::narrow((function.value)(a.wide()), Mode::Nearest);
    if flush { result.flush() } else { result }
}

/// `div.approx` and `div.full`
pub fn divide(build: &Build<'_>, flags: Flags) -> Result<Op> {
    let (into, a, b) = (build.result::<f32>(0)?, build.source::<f32>(1)?, build.source::<f32>(2)?);
    // Divisors of 2^126 and more are beyond the reciprocal that approx multiplies with.
    let is_short = build.has_any(&["approx"]);
    Ok(code(move |lanes: &mut Lanes<'_>| {
        let (a, b) = (a.get(lanes), b.get(lanes));
        let seed = lanes.perturb;
        let mut values = [0; LANES];
        for (lane, value) in values.iter_mut().enumerate() {
            let x = f64::from(flags.before(f32::from_bits(a[lane])));
            let y = f64::from(flags.before(f32::from_bits(b[lane])));
            let mut quotient = if is_short && y.is_finite() && y.abs() > power_of_two(126) {
                x * 0.0_f64.copysign(y)
            } else {
                x / y
            };
            if let Some(seed) = seed {
                let noise = noise(seed, 9, u64::from(a[lane]) << 32 | u64::from(b[lane]));
                quotient = perturb(quotient, Error::Ulps(2.0), noise);
            }
            *value = flags.after(canonical(quotient as f32)).to_bits();
        }
        lanes.write(into, &values);
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perturbed_result_moves_and_stays_within_its_bound() -> Result<()> {
        let function = function("ex2").ok_or_else(|| unsupported("ex2"))?;
        let mut moved = 0;
        for index in 0..20_000_u32 {
            let x = f32::from_bits(0x3F00_0000 + index * 97);
            let exact = f64::from(x).exp2();
            let noise = noise(7, function.number, u64::from(x.to_bits()));
            assert!(noise.abs() <= 1.0);
            let result = perturb(exact, function.error, noise) as f32;
            let ulp =
                f64::from(f32::from_bits((exact as f32).to_bits() + 1)) - f64::from(exact as f32);
            assert!((f64::from(result) - exact).abs() <= 2.0 * ulp);
            moved += u32::from(result != exact as f32);
        }
        assert!(moved > 5_000);
        Ok(())
    }
}
