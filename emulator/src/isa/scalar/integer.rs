//! Integer arithmetic and logic (PTX ISA, "Integer Arithmetic Instructions", "Logic and Shift Instructions").

use super::lanes::{Op, unsupported};
use super::operands::{Build, code};
use crate::fault::Result;
use crate::isa::value::Value;
use crate::ptx::Operand;

/// Runs an expression with `T` as the type that a word names.
macro_rules! with_integer {
    ($word:expr, $type:ident => $body:expr) => {
        match $word {
            "u16" | "b16" => {
                type $type = u16;
                $body
            }
            "s16" => {
                type $type = i16;
                $body
            }
            "u32" | "b32" => {
                type $type = u32;
                $body
            }
            "s32" => {
                type $type = i32;
                $body
            }
            "u64" | "b64" => {
                type $type = u64;
                $body
            }
            "s64" => {
                type $type = i64;
                $body
            }
            _ => Err(unsupported("integer type")),
        }
    };
}

/// The same for types without signs.
macro_rules! with_bits {
    ($word:expr, $type:ident => $body:expr) => {
        match $word {
            "u16" | "b16" | "s16" => {
                type $type = u16;
                $body
            }
            "u32" | "b32" | "s32" => {
                type $type = u32;
                $body
            }
            "u64" | "b64" | "s64" => {
                type $type = u64;
                $body
            }
            _ => Err(unsupported("type of bits")),
        }
    };
}

/// The same for types that have one of twice the width.
macro_rules! with_wide {
    ($word:expr, $type:ident, $wide:ident => $body:expr) => {
        match $word {
            "u16" => {
                type $type = u16;
                type $wide = u32;
                $body
            }
            "s16" => {
                type $type = i16;
                type $wide = i32;
                $body
            }
            "u32" => {
                type $type = u32;
                type $wide = u64;
                $body
            }
            "s32" => {
                type $type = i32;
                type $wide = i64;
                $body
            }
            "u64" => {
                type $type = u64;
                type $wide = u128;
                $body
            }
            "s64" => {
                type $type = i64;
                type $wide = i128;
                $body
            }
            _ => Err(unsupported("integer type")),
        }
    };
}

/// Lowers.
pub fn lower(build: &Build<'_>) -> Result<Op> {
    let kind = build.kind();
    if kind == "pred" {
        return predicates(build);
    }
    if kind == "u16x2" || kind == "s16x2" {
        return pairs(build, kind == "s16x2");
    }
    match build.statement.family.as_str() {
        "add" if build.has_any(&["sat"]) => build.binary(i32::saturating_add),
        "sub" if build.has_any(&["sat"]) => build.binary(i32::saturating_sub),
        "add" => with_bits!(kind, T => build.binary(T::wrapping_add)),
        "sub" => with_bits!(kind, T => build.binary(T::wrapping_sub)),
        "mul" => multiply(build, kind),
        "mad" => multiply_add(build, kind),
        "mul24" => multiply_24(build, kind),
        "mad24" => multiply_24(build, kind),
        "sad" => with_integer!(kind, T => {
            build.ternary(|a: T, b: T, c: T| c.wrapping_add(a.abs_diff(b) as T))
        }),
        "div" => with_integer!(kind, T => {
            // Division by zero gives a value that is not specified.
            build.binary(|a: T, b: T| if b == 0 { !0 } else { a.wrapping_div(b) })
        }),
        "rem" => with_integer!(kind, T => {
            build.binary(|a: T, b: T| if b == 0 { a } else { a.wrapping_rem(b) })
        }),
        "abs" => match kind {
            "s16" => build.unary(i16::wrapping_abs),
            "s32" => build.unary(i32::wrapping_abs),
            "s64" => build.unary(i64::wrapping_abs),
            _ => Err(unsupported("abs of an unsigned type")),
        },
        "neg" => with_bits!(kind, T => build.unary(T::wrapping_neg)),
        "min" if build.has_any(&["relu"]) => build.binary(|a: i32, b: i32| a.min(b).max(0)),
        "max" if build.has_any(&["relu"]) => build.binary(|a: i32, b: i32| a.max(b).max(0)),
        "min" => with_integer!(kind, T => build.binary(|a: T, b: T| a.min(b))),
        "max" => with_integer!(kind, T => build.binary(|a: T, b: T| a.max(b))),
        "and" => with_bits!(kind, T => build.binary(|a: T, b: T| a & b)),
        "or" => with_bits!(kind, T => build.binary(|a: T, b: T| a | b)),
        "xor" => with_bits!(kind, T => build.binary(|a: T, b: T| a ^ b)),
        "not" => with_bits!(kind, T => build.unary(|a: T| !a)),
        "cnot" => with_bits!(kind, T => build.unary(|a: T| T::from(a == 0))),
        "shl" => with_bits!(kind, T => {
            build.binary(|a: T, by: u32| a.checked_shl(by).unwrap_or(0))
        }),
        "shr" => shift_right(build, kind),
        "shf" => funnel_shift(build),
        "lop3" => logic_3(build),
        "popc" => match kind {
            "b32" => build.unary(u32::count_ones),
            "b64" => build.unary(u64::count_ones),
            _ => Err(unsupported("type")),
        },
        "clz" => match kind {
            "b32" => build.unary(u32::leading_zeros),
            "b64" => build.unary(u64::leading_zeros),
            _ => Err(unsupported("type")),
        },
        "brev" => match kind {
            "b32" => build.unary(u32::reverse_bits),
            "b64" => build.unary(u64::reverse_bits),
            _ => Err(unsupported("type")),
        },
        "bfind" => find_bit(build, kind),
        "fns" => build.ternary(find_nth),
        "bfe" => extract(build, kind),
        "bfi" => match kind {
            "b32" => build.quaternary(|a: u32, b: u32, at: u32, count: u32| {
                insert(u64::from(a), u64::from(b), at, count, 32) as u32
            }),
            "b64" => {
                build.quaternary(|a: u64, b: u64, at: u32, count: u32| insert(a, b, at, count, 64))
            }
            _ => Err(unsupported("type")),
        },
        "bmsk" => match build.has_any(&["wrap"]) {
            true => build.binary(|at: u32, count: u32| mask(at & 31, count & 31)),
            false => build.binary(mask),
        },
        "szext" => extend(build, kind),
        "prmt" => permute(build),
        "dp4a" | "dp2a" => dot(build),
        _ => Err(unsupported("family")),
    }
}

/// The product of two numbers as one of twice the width, and its high half.
macro_rules! high {
    ($a:expr, $b:expr, $type:ident, $wide:ident) => {
        (($a as $wide * $b as $wide) >> $type::BITS) as $type
    };
}

fn multiply(build: &Build<'_>, kind: &str) -> Result<Op> {
    if build.has_any(&["wide"]) {
        return match kind {
            "u16" => build.binary(|a: u16, b: u16| u32::from(a) * u32::from(b)),
            "s16" => build.binary(|a: i16, b: i16| i32::from(a) * i32::from(b)),
            "u32" => build.binary(|a: u32, b: u32| u64::from(a) * u64::from(b)),
            "s32" => build.binary(|a: i32, b: i32| i64::from(a) * i64::from(b)),
            "u64" => build.binary(|a: u64, b: u64| u128::from(a) * u128::from(b)),
            "s64" => build.binary(|a: i64, b: i64| (i128::from(a) * i128::from(b)) as u128),
            _ => Err(unsupported("integer type")),
        };
    }
    if build.has_any(&["hi"]) {
        return with_wide!(kind, T, W => build.binary(|a: T, b: T| high!(a, b, T, W)));
    }
    with_bits!(kind, T => build.binary(T::wrapping_mul))
}

fn multiply_add(build: &Build<'_>, kind: &str) -> Result<Op> {
    if build.has_any(&["wide"]) {
        return match kind {
            "u16" => build
                .ternary(|a: u16, b: u16, c: u32| (u32::from(a) * u32::from(b)).wrapping_add(c)),
            "s16" => build
                .ternary(|a: i16, b: i16, c: i32| (i32::from(a) * i32::from(b)).wrapping_add(c)),
            "u32" => build
                .ternary(|a: u32, b: u32, c: u64| (u64::from(a) * u64::from(b)).wrapping_add(c)),
            "s32" => build
                .ternary(|a: i32, b: i32, c: i64| (i64::from(a) * i64::from(b)).wrapping_add(c)),
            _ => Err(unsupported("integer type")),
        };
    }
    if build.has_any(&["hi"]) {
        if build.has_any(&["sat"]) {
            return build.ternary(|a: i32, b: i32, c: i32| high!(a, b, i32, i64).saturating_add(c));
        }
        return with_wide!(kind, T, W => {
            build.ternary(|a: T, b: T, c: T| high!(a, b, T, W).wrapping_add(c))
        });
    }
    with_bits!(kind, T => build.ternary(|a: T, b: T, c: T| a.wrapping_mul(b).wrapping_add(c)))
}

/// The product of the low 24 bits, its bits 0..32 or 16..48, plus an addend.
fn multiply_24(build: &Build<'_>, kind: &str) -> Result<Op> {
    let product = match kind {
        "u32" => |a: u32, b: u32| u64::from(a & 0xFF_FFFF) * u64::from(b & 0xFF_FFFF),
        "s32" => |a: u32, b: u32| {
            let low = |value: u32| i64::from((value << 8) as i32 >> 8);
            (low(a) * low(b)) as u64
        },
        _ => return Err(unsupported("integer type")),
    };
    let shift = if build.has_any(&["hi"]) { 16 } else { 0 };
    if build.statement.family == "mul24" {
        return build.binary(move |a: u32, b: u32| (product(a, b) >> shift) as u32);
    }
    build.ternary(move |a: u32, b: u32, c: u32| ((product(a, b) >> shift) as u32).wrapping_add(c))
}

fn shift_right(build: &Build<'_>, kind: &str) -> Result<Op> {
    match kind {
        "s16" => build.binary(|a: i16, by: u32| a >> by.min(15)),
        "s32" => build.binary(|a: i32, by: u32| a >> by.min(31)),
        "s64" => build.binary(|a: i64, by: u32| a >> by.min(63)),
        _ => with_bits!(kind, T => {
            build.binary(|a: T, by: u32| a.checked_shr(by).unwrap_or(0))
        }),
    }
}

fn funnel_shift(build: &Build<'_>) -> Result<Op> {
    let wide = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
    match (build.has_any(&["l"]), build.has_any(&["wrap"])) {
        (true, true) => build.ternary(move |a, b, c: u32| ((wide(a, b) << (c & 31)) >> 32) as u32),
        (true, false) => {
            build.ternary(move |a, b, c: u32| ((wide(a, b) << c.min(32)) >> 32) as u32)
        }
        (false, true) => build.ternary(move |a, b, c: u32| (wide(a, b) >> (c & 31)) as u32),
        (false, false) => build.ternary(move |a, b, c: u32| (wide(a, b) >> c.min(32)) as u32),
    }
}

fn logic_3(build: &Build<'_>) -> Result<Op> {
    let Value::Constant(table) = build.scope.value(build.operand(4)?, 8)? else {
        return Err(unsupported("lop3 without a constant table"));
    };
    if matches!(build.operand(0)?, Operand::Pair(..)) {
        return Err(unsupported("lop3 with a predicate"));
    }
    // One word of all ones, or zeros, for each row of the table.
    let rows: [u32; 8] = std::array::from_fn(|row| if table >> row & 1 != 0 { !0 } else { 0 });
    build.ternary(move |a: u32, b: u32, c: u32| {
        rows[0] & !a & !b & !c
            | rows[1] & !a & !b & c
            | rows[2] & !a & b & !c
            | rows[3] & !a & b & c
            | rows[4] & a & !b & !c
            | rows[5] & a & !b & c
            | rows[6] & a & b & !c
            | rows[7] & a & b & c
    })
}

fn find_bit(build: &Build<'_>, kind: &str) -> Result<Op> {
    let amount = build.has_any(&["shiftamt"]);
    let place = move |leading: u32, bits: u32| match leading {
        zeros if zeros >= bits => !0,
        zeros if amount => zeros,
        zeros => bits - 1 - zeros,
    };
    // Of a negative number, the highest bit that differs from the sign.
    match kind {
        "u32" => build.unary(move |a: u32| place(a.leading_zeros(), 32)),
        "s32" => build.unary(move |a: i32| place((a ^ (a >> 31)).leading_zeros(), 32)),
        "u64" => build.unary(move |a: u64| place(a.leading_zeros(), 64)),
        "s64" => build.unary(move |a: i64| place((a ^ (a >> 63)).leading_zeros(), 64)),
        _ => Err(unsupported("type")),
    }
}

/// `fns`: the place of the n-th set bit from `base`, up or down.
fn find_nth(mask: u32, base: u32, offset: i32) -> u32 {
    let is_set = |at: i64| (0..32).contains(&at) && mask >> at & 1 != 0;
    let mut at = i64::from(base);
    if offset == 0 {
        return if is_set(at) { base } else { !0 };
    }
    let mut left = offset.unsigned_abs();
    while (0..32).contains(&at) {
        left -= u32::from(is_set(at));
        if left == 0 {
            return at as u32;
        }
        at += i64::from(offset.signum());
    }
    !0
}

fn extract(build: &Build<'_>, kind: &str) -> Result<Op> {
    let field = |a: u64, at: u32, count: u32, bits: u32, signed: bool| {
        let (at, count) = (at & 0xFF, count & 0xFF);
        if count == 0 {
            return 0;
        }
        let part = a.checked_shr(at).unwrap_or(0);
        let end = (at + count - 1).min(bits - 1);
        let sign = signed && a >> end & 1 != 0;
        // Bits of the field that lie inside.
        let inside = count.min(bits.saturating_sub(at));
        let ones = if inside >= 64 { !0 } else { (1 << inside) - 1 };
        if sign { part & ones | !ones } else { part & ones }
    };
    match kind {
        "u32" => build
            .ternary(move |a: u32, at: u32, n: u32| field(u64::from(a), at, n, 32, false) as u32),
        "s32" => build
            .ternary(move |a: u32, at: u32, n: u32| field(u64::from(a), at, n, 32, true) as u32),
        "u64" => build.ternary(move |a: u64, at: u32, n: u32| field(a, at, n, 64, false)),
        "s64" => build.ternary(move |a: u64, at: u32, n: u32| field(a, at, n, 64, true)),
        _ => Err(unsupported("type")),
    }
}

/// `bfi`: `b` with the low bits of `a` in it.
fn insert(a: u64, b: u64, at: u32, count: u32, bits: u32) -> u64 {
    let (at, count) = (at & 0xFF, count & 0xFF);
    if count == 0 || at >= bits {
        return b;
    }
    let ones = u64::MAX >> (64 - count.min(64)) << at;
    b & !ones | a << at & ones
}

/// `bmsk`: ones from a bit on.
fn mask(at: u32, count: u32) -> u32 {
    let from = (!0_u32).checked_shl(at).unwrap_or(0);
    let beyond = at.checked_add(count).and_then(|end| (!0_u32).checked_shl(end)).unwrap_or(0);
    from & !beyond
}

/// `szext`: from a sign in the middle.
fn extend(build: &Build<'_>, kind: &str) -> Result<Op> {
    let wrap = build.has_any(&["wrap"]);
    let signed = kind == "s32";
    build.binary(move |a: u32, count: u32| {
        let count = if wrap { count & 31 } else { count.min(32) };
        match 32 - count {
            32 => 0,
            shift if signed => ((a << shift) as i32 >> shift) as u32,
            shift => a << shift >> shift,
        }
    })
}

fn permute(build: &Build<'_>) -> Result<Op> {
    let byte =
        |a: u32, b: u32, at: u32| (u64::from(b) << 32 | u64::from(a)) >> (8 * (at & 7)) & 0xFF;
    // The source byte of each byte of the result, by selector; None for the general mode.
    type Places = fn(u32) -> [u32; 4];
    let places: Option<Places> = match build.statement.suffixes.last().map(String::as_str) {
        Some("f4e") => Some(|c| [c, c + 1, c + 2, c + 3]),
        Some("b4e") => Some(|c| [c, c + 7, c + 6, c + 5]),
        Some("rc8") => Some(|c| [c; 4]),
        Some("ecl") => Some(|c| [c, c.max(1), c.max(2), 3]),
        Some("ecr") => Some(|c| [0, c.min(1), c.min(2), c]),
        Some("rc16") => Some(|c| [2 * (c & 1), 2 * (c & 1) + 1, 2 * (c & 1), 2 * (c & 1) + 1]),
        _ => None,
    };
    match places {
        Some(places) => build.ternary(move |a: u32, b: u32, c: u32| {
            let places = places(c & 3);
            (0..4).fold(0, |word, at| word | (byte(a, b, places[at]) as u32) << (8 * at))
        }),
        None => build.ternary(move |a: u32, b: u32, c: u32| {
            (0..4).fold(0, |word, at| {
                let select = c >> (4 * at) & 0xF;
                let byte = byte(a, b, select) as u8;
                // Bit 3 replicates the sign.
                let byte = if select & 8 != 0 { (byte as i8 >> 7) as u8 } else { byte };
                word | u32::from(byte) << (8 * at)
            })
        }),
    }
}

fn dot(build: &Build<'_>) -> Result<Op> {
    let types = &build.statement.suffixes;
    let [.., a_type, b_type] = types.as_slice() else { return Err(unsupported("types")) };
    let (a_signed, b_signed) = (a_type == "s32", b_type == "s32");
    let byte = |word: u32, at: u32, signed: bool| {
        let byte = (word >> (8 * at)) as u8;
        if signed { i32::from(byte as i8) } else { i32::from(byte) }
    };
    if build.statement.family == "dp4a" {
        return build.ternary(move |a: u32, b: u32, c: u32| {
            (0..4).fold(c, |sum, at| {
                sum.wrapping_add((byte(a, at, a_signed) * byte(b, at, b_signed)) as u32)
            })
        });
    }
    let first = if build.has_any(&["hi"]) { 2 } else { 0 };
    build.ternary(move |a: u32, b: u32, c: u32| {
        (0..2).fold(c, |sum, at| {
            let half = (a >> (16 * at)) as u16;
            let half = if a_signed { i32::from(half as i16) } else { i32::from(half) };
            sum.wrapping_add(half.wrapping_mul(byte(b, first + at, b_signed)) as u32)
        })
    })
}

/// Two 16-bit integers in a word.
fn pairs(build: &Build<'_>, signed: bool) -> Result<Op> {
    type Function = fn(u16, u16) -> u16;
    let function: Function = match (build.statement.family.as_str(), signed) {
        ("add", _) => u16::wrapping_add,
        ("min", false) => |a, b| a.min(b),
        ("max", false) => |a, b| a.max(b),
        ("min", true) => |a, b| (a as i16).min(b as i16) as u16,
        ("max", true) => |a, b| (a as i16).max(b as i16) as u16,
        _ => return Err(unsupported("pair of integers")),
    };
    let relu = build.has_any(&["relu"]);
    build.binary(move |a: u32, b: u32| {
        let part = |shift: u32| {
            let value = function((a >> shift) as u16, (b >> shift) as u16);
            let value = if relu { (value as i16).max(0) as u16 } else { value };
            u32::from(value) << shift
        };
        part(0) | part(16)
    })
}

/// Logic of predicates.
fn predicates(build: &Build<'_>) -> Result<Op> {
    let into = build.predicate_result(0)?;
    let a = build.predicate(1)?;
    let function: fn(u32, u32) -> u32 = match build.statement.family.as_str() {
        "not" | "cnot" => {
            return Ok(code(move |lanes| {
                let value = !lanes.predicate(a);
                lanes.write_predicate(into, value);
            }));
        }
        "and" => |a, b| a & b,
        "or" => |a, b| a | b,
        "xor" => |a, b| a ^ b,
        _ => return Err(unsupported("family of predicates")),
    };
    let b = build.predicate(2)?;
    Ok(code(move |lanes| {
        let value = function(lanes.predicate(a), lanes.predicate(b));
        lanes.write_predicate(into, value);
    }))
}
