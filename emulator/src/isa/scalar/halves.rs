//! Arithmetic of `.f16`, `.bf16` and pairs of them (PTX ISA, "Half Precision Floating Point Instructions").

use super::lanes::{Op, unsupported};
use super::operands::{Build, Type};
use crate::fault::Result;
use crate::float::half::{Bf16, F16, Half, both1, both2, both3};
use crate::float::round::Mode;

/// Lowers.
pub fn lower(build: &Build<'_>) -> Result<Op> {
    if build.has_any(&["f32"]) {
        return Err(unsupported("mixed precision"));
    }
    match build.kind() {
        "f16" => family::<F16>(build, false),
        "f16x2" => family::<F16>(build, true),
        "bf16" => family::<Bf16>(build, false),
        _ => family::<Bf16>(build, true),
    }
}

/// What is done to operands and results.
#[derive(Clone, Copy)]
struct Flags {
    flush: bool,
    saturate: bool,
    rectify: bool,
}

impl Flags {
    fn before<H: Half>(self, value: H) -> H {
        if self.flush { value.flush() } else { value }
    }

    fn after<H: Half>(self, value: H) -> H {
        let value = if self.flush { value.flush() } else { value };
        match (self.saturate, self.rectify) {
            (true, _) => value.saturate(),
            (_, true) => value.rectify(),
            _ => value,
        }
    }
}

fn family<H: Half + Type<Bits = u32>>(build: &Build<'_>, is_pair: bool) -> Result<Op> {
    let flags = Flags {
        flush: build.has_any(&["ftz"]),
        saturate: build.has_any(&["sat"]),
        rectify: build.has_any(&["relu"]),
    };
    let near = Mode::Nearest;
    let propagates = build.has_any(&["NaN"]);
    let unary = |f: fn(H) -> H| match is_pair {
        true => build.unary(move |a: u32| both1(a, |a| flags.after(f(flags.before(a))))),
        false => build.unary(move |a: H| flags.after(f(flags.before(a)))),
    };
    let binary = |f: fn(H, H) -> H| {
        let f = move |a, b| flags.after(f(flags.before(a), flags.before(b)));
        match is_pair {
            true => build.binary(move |a: u32, b: u32| both2(a, b, f)),
            false => build.binary(f),
        }
    };
    let sign_of_both = build.has_any(&["xorsign"]);
    match build.statement.family.as_str() {
        "add" => binary(|a, b| a.add(b, Mode::Nearest)),
        "sub" => binary(|a, b| a.sub(b, Mode::Nearest)),
        "mul" => binary(|a, b| a.mul(b, Mode::Nearest)),
        "fma" => {
            let f = move |a: H, b: H, c: H| {
                flags.after(flags.before(a).fma(flags.before(b), flags.before(c), near))
            };
            match is_pair {
                true => build.ternary(move |a: u32, b: u32, c: u32| both3(a, b, c, f)),
                false => build.ternary(f),
            }
        }
        "neg" => unary(|a| H::new(a.bits() ^ 0x8000)),
        "abs" => unary(|a| H::new(a.bits() & 0x7FFF)),
        family @ ("min" | "max") => {
            let greater = family == "max";
            let f = move |a: H, b: H| {
                let (a, b) = (flags.before(a), flags.before(b));
                if !sign_of_both {
                    return a.extremum(b, propagates, greater);
                }
                let sign = (a.bits() ^ b.bits()) & 0x8000;
                let (a, b) = (H::new(a.bits() & 0x7FFF), H::new(b.bits() & 0x7FFF));
                let size = a.extremum(b, propagates, greater);
                if size.wide().is_nan() { size } else { H::new(size.bits() | sign) }
            };
            match (is_pair, build.count()) {
                (true, 3) => build.binary(move |a: u32, b: u32| both2(a, b, f)),
                (false, 3) => build.binary(f),
                (true, 4) => build
                    .ternary(move |a: u32, b: u32, c: u32| both3(a, b, c, |a, b, c| f(f(a, b), c))),
                (false, 4) => build.ternary(move |a: H, b: H, c: H| f(f(a, b), c)),
                _ => Err(unsupported("operands")),
            }
        }
        _ => Err(unsupported("family of halves")),
    }
}
