//! `mov`, with packing and unpacking of vectors; `createpolicy`, which has no function here.

use super::lanes::{Lanes, Op, unsupported};
use super::operands::{Bits, Build, Type, code, index_of};
use crate::fault::Result;
use crate::isa::value::{LANES, Value};
use crate::ptx::{Class, Operand, Register};

/// Lowers.
pub fn lower(build: &Build<'_>) -> Result<Op> {
    let kind = build.kind();
    if let (Operand::Register(into), Operand::Special(from)) =
        (build.operand(0)?, build.operand(1)?)
    {
        return Ok(Op::Special { into: *into, from: *from });
    }
    match (build.operand(0)?, build.operand(1)?) {
        (Operand::Vector(parts), from) => unpack(build, kind, parts, from),
        (_, Operand::Vector(parts)) => pack(build, kind, parts),
        _ => match kind {
            "pred" => {
                let (into, from) = (build.predicate_result(0)?, build.predicate(1)?);
                Ok(code(move |lanes| {
                    let value = lanes.predicate(from);
                    lanes.write_predicate(into, value);
                }))
            }
            "b8" | "u8" | "s8" => build.unary(|a: u8| a),
            "b16" | "u16" | "s16" | "f16" | "bf16" => build.unary(|a: u16| a),
            "b32" | "u32" | "s32" | "f32" | "f16x2" | "bf16x2" => whole::<u32>(build),
            "b64" | "u64" | "s64" | "f64" => whole::<u64>(build),
            "b128" => whole::<u128>(build),
            _ => Err(unsupported("type of mov")),
        },
    }
}

/// A copy of whole registers.
fn whole<T: Type<Bits = T> + Bits>(build: &Build<'_>) -> Result<Op> {
    let (into, from) = (build.result::<T>(0)?, build.source::<T>(1)?);
    Ok(code(move |lanes| {
        let values = *from.get(lanes);
        lanes.write(into, &values);
    }))
}

fn width(kind: &str) -> Result<u32> {
    match kind {
        "b16" => Ok(16),
        "b32" => Ok(32),
        "b64" => Ok(64),
        "b128" => Ok(128),
        _ => Err(unsupported("type of a vector mov")),
    }
}

/// A register or constant in a lane, all bits.
fn get(lanes: &Lanes<'_>, value: Value, lane: usize) -> u128 {
    match value {
        Value::Register(Register { class, index }) => {
            let index = index as usize;
            match class {
                Class::Predicate => u128::from(lanes.predicates[index] >> lane & 1),
                Class::Word => u128::from(lanes.words[index][lane]),
                Class::Double => u128::from(lanes.doubles[index][lane]),
                Class::Quad => lanes.quads[index][lane],
            }
        }
        Value::Constant(bits) => u128::from(bits),
        Value::Special(_) | Value::Shared(_) => 0,
    }
}

/// `mov.b32 %r, {%rs1, %rs2}`: the first part is the lowest.
fn pack(build: &Build<'_>, kind: &str, parts: &[Operand]) -> Result<Op> {
    let total = width(kind)?;
    let part_width = total / (parts.len().max(1) as u32);
    let values = parts.iter().map(|part| build.scope.value(part, part_width));
    let values = values.collect::<Result<Vec<Value>>>()?;
    if values.iter().any(|value| matches!(value, Value::Special(_) | Value::Shared(_))) {
        return Err(unsupported("part of a vector"));
    }
    let ones = u128::MAX >> (128 - part_width);
    let joined = move |lanes: &Lanes<'_>, lane: usize| {
        values
            .iter()
            .rev()
            .fold(0, |all, value| all << (part_width % 128) | get(lanes, *value, lane) & ones)
    };
    match total {
        16 | 32 => into_lanes::<u32>(build, move |lanes, lane| joined(lanes, lane) as u32),
        64 => into_lanes::<u64>(build, move |lanes, lane| joined(lanes, lane) as u64),
        _ => into_lanes::<u128>(build, joined),
    }
}

fn into_lanes<T: Type<Bits = T> + Bits>(
    build: &Build<'_>,
    f: impl Fn(&Lanes<'_>, usize) -> T + Send + Sync + 'static,
) -> Result<Op> {
    let into = build.result::<T>(0)?;
    Ok(code(move |lanes| {
        let values: [T; LANES] = std::array::from_fn(|lane| f(lanes, lane));
        lanes.write(into, &values);
    }))
}

/// `mov.b32 {%rs1, %rs2}, %r`
fn unpack(build: &Build<'_>, kind: &str, parts: &[Operand], from: &Operand) -> Result<Op> {
    let total = width(kind)?;
    let part_width = total / (parts.len().max(1) as u32);
    let registers = parts.iter().map(|part| match part {
        Operand::Register(register) if register.class != Class::Predicate => Ok(Some(*register)),
        Operand::Sink => Ok(None),
        _ => Err(unsupported("part of a vector")),
    });
    let registers = registers.collect::<Result<Vec<Option<Register>>>>()?;
    for register in registers.iter().flatten() {
        match part_width {
            64 => index_of::<u64>(*register)?,
            _ => index_of::<u32>(*register)?,
        };
    }
    let from = build.scope.value(from, total.min(64))?;
    if matches!(from, Value::Special(_) | Value::Shared(_)) {
        return Err(unsupported("source of a vector mov"));
    }
    let ones = u128::MAX >> (128 - part_width);
    Ok(code(move |lanes| {
        let whole: [u128; LANES] = std::array::from_fn(|lane| get(lanes, from, lane));
        for (place, register) in registers.iter().enumerate() {
            let Some(register) = register else { continue };
            let shift = place as u32 * part_width;
            let index = Some(register.index as usize);
            if register.class == Class::Double {
                lanes.write(index, &whole.map(|bits| (bits >> shift & ones) as u64));
            } else {
                lanes.write(index, &whole.map(|bits| (bits >> shift & ones) as u32));
            }
        }
    }))
}

/// `createpolicy`: any value will do.
pub fn lower_policy(build: &Build<'_>) -> Result<Op> {
    let into = build.result::<u64>(0)?;
    Ok(code(move |lanes| lanes.write(into, &[0_u64; LANES])))
}
