//! `cvt` (PTX ISA, "Data Movement and Conversion Instructions: cvt").

use super::lanes::{Op, unsupported};
use super::operands::{Bits, Build, Type};
use super::single::{Flags, canonical, flush, saturate};
use crate::fault::Result;
use crate::float::half::{Bf16, F16, Half};
use crate::float::round::{Exact, Mode, integer_to_odd, to_f32, to_integer};
use crate::float::small::{
    BF16, E2M1, E2M3, E3M2, E4M3, E5M2, F16 as F16_FORMAT, Format, TF32, decode_ue8m0, encode_ue8m0,
};
use crate::ptx::{Class, Operand, Register};

/// An integer type as source and destination.
trait Integer: Type {
    /// As a number.
    fn wide(self) -> i128;
    /// The low bits, in a register with the sign above them.
    fn truncate(value: i128) -> Self::Bits;
    /// The least and the greatest.
    const RANGE: (i128, i128);
}

macro_rules! integers {
    ($($type:ident, $value:ident => $extended:expr;)*) => {
        $(impl Integer for $type {
            #[inline(always)]
            fn wide(self) -> i128 {
                self as i128
            }
            #[inline(always)]
            fn truncate(value: i128) -> Self::Bits {
                let $value = value as $type;
                $extended
            }
            const RANGE: (i128, i128) = ($type::MIN as i128, $type::MAX as i128);
        })*
    };
}
integers! {
    u8, value => u32::from(value);
    i8, value => i32::from(value) as u32;
    u16, value => u32::from(value);
    i16, value => i32::from(value) as u32;
    u32, value => value;
    i32, value => value as u32;
    u64, value => value;
    i64, value => value as u64;
}

macro_rules! with {
    ($word:expr, $type:ident => $body:expr) => {
        match $word {
            "u8" => {
                type $type = u8;
                $body
            }
            "s8" => {
                type $type = i8;
                $body
            }
            "u16" => {
                type $type = u16;
                $body
            }
            "s16" => {
                type $type = i16;
                $body
            }
            "u32" => {
                type $type = u32;
                $body
            }
            "s32" => {
                type $type = i32;
                $body
            }
            "u64" => {
                type $type = u64;
                $body
            }
            "s64" => {
                type $type = i64;
                $body
            }
            _ => Err(unsupported("type of cvt")),
        }
    };
}

/// Bits of a result that are already in the form of a register.
macro_rules! raw {
    ($name:ident, $bits:ty) => {
        #[derive(Clone, Copy)]
        struct $name($bits);
        impl Type for $name {
            type Bits = $bits;
            const WIDTH: u32 = <$bits>::BITS;
            #[inline(always)]
            fn read(bits: $bits) -> Self {
                Self(bits)
            }
            #[inline(always)]
            fn show(self) -> $bits {
                self.0
            }
        }
    };
}
raw!(RawWord, u32);
raw!(RawDouble, u64);

fn is_integer(word: &str) -> bool {
    matches!(word, "u8" | "s8" | "u16" | "s16" | "u32" | "s32" | "u64" | "s64")
}

/// Lowers.
pub fn lower(build: &Build<'_>) -> Result<Op> {
    if build.has_any(&["pack"]) {
        return pack(build);
    }
    if build.has_any(&["rs", "scaled::n2::ue8m0"]) {
        return Err(unsupported("stochastic rounding or scaling"));
    }
    let [.., into, from] = build.statement.suffixes.as_slice() else {
        return Err(unsupported("types of cvt"));
    };
    let (into, from) = (into.as_str(), from.as_str());
    if into.ends_with("x2") || from.ends_with("x2") {
        return pair(build, into, from);
    }
    match (is_integer(into), is_integer(from)) {
        (true, true) => with!(into, D => with!(from, S => between_integers::<S, D>(build))),
        (true, false) => with!(into, D => to_integers::<D>(build, from)),
        (false, true) => with!(from, S => from_integers::<S>(build, into)),
        (false, false) => between_floats(build, into, from),
    }
}

/// A unary operation whose result is shown as a whole register, which may be wider than the type.
fn shown<S: Type, D: Integer>(
    build: &Build<'_>,
    f: impl Fn(S) -> D::Bits + Send + Sync + 'static,
) -> Result<Op>
where
    D::Bits: Into<u64>,
{
    if is_double(build, 0)? {
        build.unary(move |a: S| RawDouble(D::read(f(a)).wide() as u64))
    } else {
        build.unary(move |a: S| RawWord(f(a).into() as u32))
    }
}

fn is_double(build: &Build<'_>, index: usize) -> Result<bool> {
    let operand = build.operand(index)?;
    Ok(matches!(operand, Operand::Register(Register { class: Class::Double, .. })))
}

fn between_integers<S: Integer, D: Integer>(build: &Build<'_>) -> Result<Op>
where
    D::Bits: Into<u64>,
{
    let saturates = build.has_any(&["sat"]);
    let convert = move |a: S| match saturates {
        true => D::truncate(a.wide().clamp(D::RANGE.0, D::RANGE.1)),
        false => D::truncate(a.wide()),
    };
    // A source register may be wider than its type: `cvt.s64.s8 %rd2, %rd1`.
    if S::WIDTH < 64 && is_double(build, 1)? {
        return shown::<u64, D>(build, move |a| convert(S::read(S::Bits::from_low(a))));
    }
    shown::<S, D>(build, convert)
}

fn to_integers<D: Integer>(build: &Build<'_>, from: &str) -> Result<Op>
where
    D::Bits: Into<u64>,
{
    let mode = build.mode().unwrap_or(Mode::Zero);
    // PTX ISA, cvt: what is no number becomes 0, or the upper half's first where a side has 64 bits (the source .f64).
    let none = if from == "f64" || D::WIDTH == 64 { 1 << (D::WIDTH - 1) } else { 0 };
    // `as` saturates; all 64-bit limits are within i128.
    let whole = move |a: f64| {
        if a.is_nan() {
            return D::truncate(none);
        }
        D::truncate((to_integer(a, mode) as i128).clamp(D::RANGE.0, D::RANGE.1))
    };
    match from {
        "f32" if build.has_any(&["ftz"]) => {
            shown::<f32, D>(build, move |a| whole(f64::from(flush(a))))
        }
        "f32" => shown::<f32, D>(build, move |a| whole(f64::from(a))),
        "f64" => shown::<f64, D>(build, whole),
        "f16" => shown::<F16, D>(build, move |a| whole(a.wide())),
        "bf16" => shown::<Bf16, D>(build, move |a| whole(a.wide())),
        _ => Err(unsupported("source of cvt")),
    }
}

fn from_integers<S: Integer>(build: &Build<'_>, into: &str) -> Result<Op> {
    let mode = build.mode().unwrap_or(Mode::Nearest);
    let saturates = build.has_any(&["sat"]);
    let odd = |a: i128| integer_to_odd(a < 0, a.unsigned_abs() as u64);
    match into {
        "f32" => build.unary(move |a: S| {
            let value = to_f32(odd(a.wide()), mode);
            if saturates { saturate(value) } else { value }
        }),
        "f64" => build.unary(move |a: S| {
            let a = a.wide();
            let exact = Exact { negative: a < 0, mantissa: a.unsigned_abs(), exponent: 0 };
            let value = exact.to_f64(mode);
            if saturates { clamp(value) } else { value }
        }),
        "f16" => build.unary(move |a: S| {
            let value = F16::narrow(odd(a.wide()), mode);
            if saturates { value.saturate() } else { value }
        }),
        "bf16" => build.unary(move |a: S| Bf16::narrow(odd(a.wide()), mode)),
        _ => Err(unsupported("destination of cvt")),
    }
}

/// Whether the mode rounds to whole numbers.
fn integral(build: &Build<'_>) -> Option<Mode> {
    build.mode().filter(|_| build.has_any(&["rni", "rzi", "rmi", "rpi"]))
}

fn between_floats(build: &Build<'_>, into: &str, from: &str) -> Result<Op> {
    let mode = build.mode().unwrap_or(Mode::Nearest);
    let flags = Flags::of(build);
    let whole = integral(build);
    let rectifies = build.has_any(&["relu"]);
    let satfinite = build.has_any(&["satfinite"]);
    let round = move |a: f64| whole.map_or(a, |mode| to_integer(a, mode));
    let single = move |a: f64| {
        let value =
            flags.after(to_f32(round(a), if whole.is_some() { Mode::Nearest } else { mode }));
        if rectifies && !value.is_nan() { if value > 0.0 { value } else { 0.0 } } else { value }
    };
    let finish_half = move |bits: u32| if rectifies && bits & 0x8000 != 0 { 0 } else { bits };
    match (into, from) {
        ("f32", "f32") => build.unary(move |a| single(f64::from(flags.before(a)))),
        ("f32", "f64") => build.unary(single),
        ("f32", "f16") if !flags.saturate && !flags.flush => {
            build.unary(|a: F16| canonical(half::f16::from_bits(a.0).to_f32()))
        }
        ("f32", "f16") => build.unary(move |a: F16| single(a.wide())),
        ("f32", "bf16") => build.unary(move |a: Bf16| single(a.wide())),
        ("f64", "f64") => build.unary(move |a: f64| {
            let value = round(a);
            if flags.saturate { clamp(value) } else { value }
        }),
        ("f64", "f32") => build.unary(move |a: f32| {
            let value = f64::from(flags.before(a));
            if flags.saturate { clamp(value) } else { value }
        }),
        ("f64", "f16") => build.unary(|a: F16| a.wide()),
        ("f64", "bf16") => build.unary(|a: Bf16| a.wide()),
        ("tf32", "f32") => build.unary(move |a: f32| {
            let bits = TF32.encode(f64::from(a), mode, satfinite) << 13;
            RawWord(if rectifies && bits >> 31 != 0 { 0 } else { bits })
        }),
        ("f16", "f32") if mode == Mode::Nearest && !satfinite && !rectifies => {
            build.unary(move |a: f32| {
                let value = F16(nearest_f16(flags.before(a)));
                if flags.saturate { value.saturate() } else { value }
            })
        }
        ("f16" | "bf16", "f32" | "f64" | "f16" | "bf16") => {
            let format = if into == "f16" { F16_FORMAT } else { BF16 };
            let encode = move |a: f64| {
                let a = if flags.saturate { clamp(a) } else { a };
                RawWord(finish_half(format.encode(round(a), mode, satfinite)))
            };
            match from {
                "f32" => build.unary(move |a: f32| encode(f64::from(flags.before(a)))),
                "f64" => build.unary(encode),
                "f16" => build.unary(move |a: F16| encode(a.wide())),
                _ => build.unary(move |a: Bf16| encode(a.wide())),
            }
        }
        _ => Err(unsupported("types of cvt")),
    }
}

/// Within 0..=1; NaN becomes 0.
fn clamp(value: f64) -> f64 {
    if value > 0.0 { value.min(1.0) } else { 0.0 }
}

fn nearest_f16(value: f32) -> u16 {
    if value.is_nan() { 0x7FFF } else { half::f16::from_f32(value).to_bits() }
}

/// A format whose values come in pairs, and the bits of each in the pair.
fn small(word: &str) -> Option<(Format, u32)> {
    Some(match word {
        "f16x2" => (F16_FORMAT, 16),
        "bf16x2" => (BF16, 16),
        "e4m3x2" => (E4M3, 8),
        "e5m2x2" => (E5M2, 8),
        "e2m3x2" => (E2M3, 8),
        "e3m2x2" => (E3M2, 8),
        "e2m1x2" => (E2M1, 4),
        _ => return None,
    })
}

fn pair(build: &Build<'_>, into: &str, from: &str) -> Result<Op> {
    let mode = build.mode().unwrap_or(Mode::Nearest);
    let saturates = build.has_any(&["satfinite"]);
    let rectifies = build.has_any(&["relu"]);
    let flags = Flags::of(build);
    if into == "ue8m0x2" {
        let join = move |high: f32, low: f32| {
            let [high, low] = [high, low].map(|value| encode_ue8m0(value, mode, saturates));
            RawWord(u32::from(high) << 8 | u32::from(low))
        };
        return match from {
            "f32" => build.binary(move |high: f32, low: f32| join(high, low)),
            "bf16x2" => build.unary(move |a: u32| {
                join(Bf16((a >> 16) as u16).wide() as f32, Bf16(a as u16).wide() as f32)
            }),
            _ => Err(unsupported("types of cvt")),
        };
    }
    if from == "ue8m0x2" {
        return match into {
            "bf16x2" => build.unary(|a: u32| {
                let part = |bits: u32| BF16.encode(decode_ue8m0(bits as u8), Mode::Nearest, false);
                RawWord(part(a) | part(a >> 8) << 16)
            }),
            _ => Err(unsupported("types of cvt")),
        };
    }
    let (format, width) = small(into).ok_or_else(|| unsupported("destination of cvt"))?;
    let sign = 1 << (format.exponent + format.fraction);
    let encode = move |value: f64| {
        let value = if flags.saturate { clamp(value) } else { value };
        let bits = format.encode(value, mode, saturates);
        if rectifies && bits & sign != 0 { 0 } else { bits }
    };
    match from {
        "f32" if into == "f16x2" && mode == Mode::Nearest && !saturates && !rectifies => build
            .binary(move |high: f32, low: f32| {
                let [high, low] = [high, low].map(|value| {
                    let value = if flags.saturate { saturate(value) } else { value };
                    u32::from(nearest_f16(flags.before(value)))
                });
                RawWord(high << 16 | low)
            }),
        "f32" => build.binary(move |high: f32, low: f32| {
            let [high, low] = [high, low].map(|value| encode(f64::from(flags.before(value))));
            RawWord(high << width | low)
        }),
        _ => {
            let (source, source_width) = small(from).ok_or_else(|| unsupported("source of cvt"))?;
            build.unary(move |a: u32| {
                let ones = (1 << source_width) - 1;
                let [high, low] =
                    [a >> source_width & ones, a & ones].map(|bits| encode(source.decode(bits)));
                RawWord(high << width | low)
            })
        }
    }
}

/// `cvt.pack.sat`: two saturated integers, and for narrow ones the low bits of a third operand above them.
fn pack(build: &Build<'_>) -> Result<Op> {
    let kind = build.statement.suffixes.iter().find_map(|word| {
        let limits = |bits: u32, signed: bool| match signed {
            true => (-(1_i64 << (bits - 1)), (1 << (bits - 1)) - 1, bits),
            false => (0, (1_i64 << bits) - 1, bits),
        };
        Some(match word.as_str() {
            "u16" => limits(16, false),
            "s16" => limits(16, true),
            "u8" => limits(8, false),
            "s8" => limits(8, true),
            "u4" => limits(4, false),
            "s4" => limits(4, true),
            "u2" => limits(2, false),
            "s2" => limits(2, true),
            _ => return None,
        })
    });
    let (least, most, bits) = kind.ok_or_else(|| unsupported("type of cvt.pack"))?;
    let join = move |a: i32, b: i32| {
        let ones = (1_u32 << bits) - 1;
        let [a, b] = [a, b].map(|value| i64::from(value).clamp(least, most) as u32 & ones);
        a << bits | b
    };
    match build.count() {
        3 => build.binary(join),
        4 if bits < 16 => build.ternary(move |a: i32, b: i32, c: u32| c << (2 * bits) | join(a, b)),
        _ => Err(unsupported("operands of cvt.pack")),
    }
}
