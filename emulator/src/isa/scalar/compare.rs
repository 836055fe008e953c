//! Comparison and selection: `setp`, `set`, `selp`, `slct`, `testp` (PTX ISA, "Comparison and Selection
//! Instructions").

use super::lanes::{Lanes, Op, unsupported};
use super::operands::{Build, Predicate, Source, Type, code, predicate_index};
use super::single::flush;
use crate::fault::Result;
use crate::float::half::{Bf16, F16, Half};
use crate::isa::value::LANES;
use crate::ptx::{Operand, Register};

/// A view of a type that is only compared.
macro_rules! view {
    ($name:ident, $inner:ty, $bits:ty, $width:literal, $from:ident => $read:expr) => {
        #[derive(Clone, Copy, PartialEq, PartialOrd)]
        struct $name($inner);

        impl Type for $name {
            type Bits = $bits;
            const WIDTH: u32 = $width;
            #[inline(always)]
            fn read($from: $bits) -> Self {
                Self($read)
            }
            fn show(self) -> $bits {
                0
            }
        }
    };
}
view!(Flushed, f32, u32, 32, bits => flush(f32::from_bits(bits)));
view!(LowF16, f64, u32, 16, bits => F16(bits as u16).wide());
view!(LowBf16, f64, u32, 16, bits => Bf16(bits as u16).wide());
view!(HighF16, f64, u32, 32, bits => F16((bits >> 16) as u16).wide());
view!(HighBf16, f64, u32, 32, bits => Bf16((bits >> 16) as u16).wide());

/// Compares two operands in all lanes.
type Compare = Box<dyn Fn(&Lanes<'_>) -> u32 + Send + Sync>;

fn in_lanes<T: Type>(
    a: Source<T::Bits>,
    b: Source<T::Bits>,
    f: impl Fn(T, T) -> bool + Send + Sync + 'static,
) -> Compare {
    Box::new(move |lanes| {
        let (a, b) = (a.get(lanes), b.get(lanes));
        let mut mask = 0;
        for lane in 0..LANES {
            mask |= u32::from(f(T::read(a[lane]), T::read(b[lane]))) << lane;
        }
        mask
    })
}

/// The comparison that a word names. Without `u`, NaN compares false; with it, true.
fn relation<T: Type + PartialOrd>(build: &Build<'_>, word: &str, first: usize) -> Result<Compare> {
    let (a, b) = (build.source::<T>(first)?, build.source::<T>(first + 1)?);
    let unordered = |a: T, b: T| a.partial_cmp(&b).is_none();
    Ok(match word {
        "eq" => in_lanes(a, b, |a: T, b| a == b),
        "ne" => in_lanes(a, b, move |a: T, b| a != b && !unordered(a, b)),
        "lt" | "lo" => in_lanes(a, b, |a: T, b| a < b),
        "le" | "ls" => in_lanes(a, b, |a: T, b| a <= b),
        "gt" | "hi" => in_lanes(a, b, |a: T, b| a > b),
        "ge" | "hs" => in_lanes(a, b, |a: T, b| a >= b),
        "equ" => in_lanes(a, b, move |a: T, b| a == b || unordered(a, b)),
        "neu" => in_lanes(a, b, |a: T, b| a != b),
        "ltu" => in_lanes(a, b, move |a: T, b| a < b || unordered(a, b)),
        "leu" => in_lanes(a, b, move |a: T, b| a <= b || unordered(a, b)),
        "gtu" => in_lanes(a, b, move |a: T, b| a > b || unordered(a, b)),
        "geu" => in_lanes(a, b, move |a: T, b| a >= b || unordered(a, b)),
        "num" => in_lanes(a, b, move |a: T, b| !unordered(a, b)),
        "nan" => in_lanes(a, b, unordered),
        _ => return Err(unsupported("comparison")),
    })
}

/// The comparison of a type, and for pairs that of the high halves.
fn comparison(build: &Build<'_>, kind: &str, first: usize) -> Result<(Compare, Option<Compare>)> {
    let word = build.statement.suffixes.first().map_or("", String::as_str);
    let flushes = build.has_any(&["ftz"]);
    Ok((
        match kind {
            "b16" | "u16" => relation::<u16>(build, word, first)?,
            "s16" => relation::<i16>(build, word, first)?,
            "b32" | "u32" => relation::<u32>(build, word, first)?,
            "s32" => relation::<i32>(build, word, first)?,
            "b64" | "u64" => relation::<u64>(build, word, first)?,
            "s64" => relation::<i64>(build, word, first)?,
            "f32" if flushes => relation::<Flushed>(build, word, first)?,
            "f32" => relation::<f32>(build, word, first)?,
            "f64" => relation::<f64>(build, word, first)?,
            // Subnormal halves are normal doubles; comparisons with .ftz of halves are not told apart.
            "f16" | "f16x2" => relation::<LowF16>(build, word, first)?,
            "bf16" | "bf16x2" => relation::<LowBf16>(build, word, first)?,
            _ => return Err(unsupported("type of a comparison")),
        },
        match kind {
            "f16x2" => Some(relation::<HighF16>(build, word, first)?),
            "bf16x2" => Some(relation::<HighBf16>(build, word, first)?),
            _ => None,
        },
    ))
}

/// `.and` and so on with a predicate.
fn combination(
    build: &Build<'_>,
    index: usize,
) -> Result<impl Fn(&Lanes<'_>, u32) -> u32 + Send + Sync + Clone + 'static> {
    let function: fn(u32, u32) -> u32 = match build.statement.suffixes.get(1).map(String::as_str) {
        Some("and") => |a, b| a & b,
        Some("or") => |a, b| a | b,
        Some("xor") => |a, b| a ^ b,
        _ => |a, _| a,
    };
    let with = match build.count() > index {
        true => build.predicate(index)?,
        false => Predicate::Constant(0),
    };
    Ok(move |lanes: &Lanes<'_>, value: u32| function(value, lanes.predicate(with)))
}

/// Lowers.
pub fn lower(build: &Build<'_>) -> Result<Op> {
    match build.statement.family.as_str() {
        "setp" => set_predicate(build),
        "set" => set(build),
        "selp" => match build.kind() {
            "b16" | "u16" | "s16" | "f16" | "bf16" => select::<u16>(build),
            "b32" | "u32" | "s32" | "f32" => select::<u32>(build),
            "b64" | "u64" | "s64" | "f64" => select::<u64>(build),
            _ => Err(unsupported("type of selp")),
        },
        "slct" => select_by_sign(build),
        "testp" => test(build),
        _ => Err(unsupported("family")),
    }
}

fn set_predicate(build: &Build<'_>) -> Result<Op> {
    let index = |register: &Option<Register>| register.map(predicate_index).transpose();
    let (first, second) = match build.operand(0)? {
        Operand::Pair(first, second) => (index(first)?, index(second)?),
        _ => (build.predicate_result(0)?, None),
    };
    let (low, high) = comparison(build, build.kind(), 1)?;
    let combine = combination(build, 3)?;
    Ok(code(move |lanes| {
        let value = low(lanes);
        // Of pairs the second result is that of the high halves, otherwise that of the opposite.
        let other = high.as_ref().map_or(!value, |high| high(lanes));
        let (value, other) = (combine(lanes, value), combine(lanes, other));
        lanes.write_predicate(first, value);
        lanes.write_predicate(second, other);
    }))
}

fn set(build: &Build<'_>) -> Result<Op> {
    let [.., into_kind, kind] = build.statement.suffixes.as_slice() else {
        return Err(unsupported("types of set"));
    };
    let yes = match into_kind.as_str() {
        "u32" | "s32" => !0,
        "u16" | "s16" => 0xFFFF,
        "f32" => 1.0_f32.to_bits(),
        "f16" => 0x3C00,
        "f16x2" => 0x3C00_3C00,
        "bf16" => 0x3F80,
        "bf16x2" => 0x3F80_3F80,
        _ => return Err(unsupported("type of the result of set")),
    };
    let (low, high) = comparison(build, kind, 1)?;
    let combine = combination(build, 3)?;
    let into = build.result::<u32>(0)?;
    Ok(code(move |lanes| {
        let value = combine(lanes, low(lanes));
        let other = high.as_ref().map(|high| combine(lanes, high(lanes)));
        let values: [u32; LANES] = std::array::from_fn(|lane| {
            let word = if value >> lane & 1 != 0 { yes } else { 0 };
            match other {
                None => word,
                Some(other) => {
                    let top = if other >> lane & 1 != 0 { yes & 0xFFFF_0000 } else { 0 };
                    word & 0xFFFF | top
                }
            }
        });
        lanes.write(into, &values);
    }))
}

fn select<T: Type>(build: &Build<'_>) -> Result<Op> {
    let (into, a, b) = (build.result::<T>(0)?, build.source::<T>(1)?, build.source::<T>(2)?);
    let which = build.predicate(3)?;
    Ok(code(move |lanes| {
        let (a, b) = (a.get(lanes), b.get(lanes));
        let which = lanes.predicate(which);
        let mut values = [T::Bits::default(); LANES];
        for (lane, value) in values.iter_mut().enumerate() {
            *value = if which >> lane & 1 != 0 { a[lane] } else { b[lane] };
        }
        lanes.write(into, &values);
    }))
}

fn select_by_sign(build: &Build<'_>) -> Result<Op> {
    let [.., kind, sign] = build.statement.suffixes.as_slice() else {
        return Err(unsupported("types of slct"));
    };
    match (kind.as_str(), sign.as_str()) {
        ("b16" | "u16" | "s16", "s32") => choose::<u16, i32>(build, |c| c >= 0),
        ("b32" | "u32" | "s32" | "f32", "s32") => choose::<u32, i32>(build, |c| c >= 0),
        ("b64" | "u64" | "s64" | "f64", "s32") => choose::<u64, i32>(build, |c| c >= 0),
        ("b16" | "u16" | "s16", "f32") => choose::<u16, f32>(build, |c| c >= 0.0),
        ("b32" | "u32" | "s32" | "f32", "f32") => choose::<u32, f32>(build, |c| c >= 0.0),
        ("b64" | "u64" | "s64" | "f64", "f32") => choose::<u64, f32>(build, |c| c >= 0.0),
        _ => Err(unsupported("types of slct")),
    }
}

fn choose<T: Type, C: Type>(build: &Build<'_>, first: fn(C) -> bool) -> Result<Op> {
    build.ternary(move |a: T, b: T, c: C| if first(c) { a } else { b })
}

fn test(build: &Build<'_>) -> Result<Op> {
    use std::num::FpCategory::{Infinite, Nan, Normal, Subnormal, Zero};
    let categories: &'static [std::num::FpCategory] =
        match build.statement.suffixes.first().map(String::as_str) {
            Some("finite") => &[Zero, Subnormal, Normal],
            Some("infinite") => &[Infinite],
            Some("number") => &[Zero, Subnormal, Normal, Infinite],
            Some("notanumber") => &[Nan],
            Some("normal") => &[Normal],
            Some("subnormal") => &[Subnormal],
            _ => return Err(unsupported("test")),
        };
    let into = build.predicate_result(0)?;
    let is_double = match build.kind() {
        "f32" => false,
        "f64" => true,
        _ => return Err(unsupported("type of testp")),
    };
    if is_double {
        let a = build.source::<f64>(1)?;
        return Ok(code(move |lanes| {
            let hits = a.get(lanes).map(|a| categories.contains(&f64::from_bits(a).classify()));
            lanes.write_predicate(into, mask(hits));
        }));
    }
    let a = build.source::<f32>(1)?;
    Ok(code(move |lanes| {
        let hits = a.get(lanes).map(|a| categories.contains(&f32::from_bits(a).classify()));
        lanes.write_predicate(into, mask(hits));
    }))
}

fn mask(hits: [bool; LANES]) -> u32 {
    hits.iter().rev().fold(0, |mask, hit| mask << 1 | u32::from(*hit))
}
