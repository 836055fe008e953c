//! Elements of vectors of loads, stores and atomic operations.

use crate::fault::Result;
use crate::isa::scope::Scope;
use crate::isa::value::Value;
use crate::ptx::{Operand, Register};

/// Most bytes that an instruction moves for a lane.
pub const WIDEST: usize = 32;

/// An element of a vector: where it goes to, or comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Element {
    /// Nowhere.
    Sink,
    /// A register.
    Register(Register),
    /// Bits.
    Value(Value),
}

/// Bytes of a type by its word.
pub(crate) fn bytes_of(word: &str) -> Option<u32> {
    Some(match word {
        "b8" | "u8" | "s8" => 1,
        "b16" | "u16" | "s16" | "f16" | "bf16" => 2,
        "b32" | "u32" | "s32" | "f32" | "f16x2" | "bf16x2" => 4,
        "b64" | "u64" | "s64" | "f64" | "f32x2" => 8,
        "b128" => 16,
        _ => return None,
    })
}

/// The elements that an operand lists.
pub(crate) fn elements(operand: &Operand, bytes: u32, scope: &Scope<'_>) -> Result<Box<[Element]>> {
    let one = |operand: &Operand| {
        Ok(match operand {
            Operand::Sink => Element::Sink,
            Operand::Register(register) => Element::Register(*register),
            other => Element::Value(scope.value(other, bytes * 8)?),
        })
    };
    match operand {
        Operand::Vector(parts) => parts.iter().map(one).collect(),
        single => Ok(Box::new([one(single)?])),
    }
}
