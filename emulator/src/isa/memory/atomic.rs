//! `atom` and `red` (PTX ISA, "Parallel Synchronization and Communication Instructions").

use super::element::{Element, bytes_of, elements};
use crate::fault::{Fault, Result};
use crate::isa::scope::Scope;
use crate::isa::semantics::Semantics;
use crate::isa::value::Address;
use crate::ptx::{Operand, Space, Statement};

/// What happens to the value in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    And,
    Or,
    Xor,
    Exchange,
    CompareAndSwap,
    Add,
    Increment,
    Decrement,
    Min,
    Max,
}

/// How the bits are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Unsigned,
    Signed,
    F16,
    Bf16,
    Float,
    Double,
}

/// Lowered.
#[derive(Clone, Debug)]
pub struct Atomic {
    /// Where.
    pub address: Address,
    pub(crate) action: Action,
    pub(crate) kind: Kind,
    /// Bytes of a register's worth: 4 for f16x2.
    pub(crate) bytes: u32,
    /// `.f16x2`: two values in each.
    pub(crate) is_pair: bool,
    /// Where the old values go; nothing for `red`.
    pub(crate) into: Box<[Element]>,
    pub(crate) from: Box<[Element]>,
    /// For `cas`: the value to write.
    pub(crate) replacement: Option<Element>,
    pub(crate) semantics: Semantics,
}

/// Lowers.
pub fn lower(statement: &Statement, space: Space, scope: &Scope<'_>) -> Result<Atomic> {
    let unsupported = || Fault::unsupported("operands or type");
    let mut action = None;
    let mut kind = None;
    let mut bytes = 0;
    let mut is_pair = false;
    for word in &statement.suffixes {
        match word.as_str() {
            "and" => action = Some(Action::And),
            "or" => action = Some(Action::Or),
            "xor" => action = Some(Action::Xor),
            "exch" => action = Some(Action::Exchange),
            "cas" => action = Some(Action::CompareAndSwap),
            "add" => action = Some(Action::Add),
            "inc" => action = Some(Action::Increment),
            "dec" => action = Some(Action::Decrement),
            "min" => action = Some(Action::Min),
            "max" => action = Some(Action::Max),
            word => {
                if let Some(size) = bytes_of(word) {
                    bytes = size;
                    is_pair = word.ends_with("x2");
                    kind = Some(match word {
                        "f16" | "f16x2" => Kind::F16,
                        "bf16" | "bf16x2" => Kind::Bf16,
                        "f32" => Kind::Float,
                        "f64" => Kind::Double,
                        "f32x2" => return Err(unsupported()),
                        word if word.starts_with('s') => Kind::Signed,
                        _ => Kind::Unsigned,
                    });
                }
            }
        }
    }
    let (Some(action), Some(kind)) = (action, kind) else { return Err(unsupported()) };
    let is_number = !matches!(kind, Kind::Unsigned | Kind::Signed);
    let legal = match action {
        Action::Add => bytes <= 8 && (bytes >= 4 || is_number),
        Action::Min | Action::Max => {
            bytes <= 8 && !matches!(kind, Kind::Float | Kind::Double) && (bytes >= 4 || is_number)
        }
        Action::Increment | Action::Decrement => bytes == 4 && kind == Kind::Unsigned,
        Action::And | Action::Or | Action::Xor => matches!(bytes, 4 | 8) && !is_number,
        Action::Exchange | Action::CompareAndSwap => bytes >= 2,
    };
    if !legal {
        return Err(unsupported());
    }
    let (into, rest) = match (statement.family.as_str(), statement.operands.as_slice()) {
        ("atom", [into, rest @ ..]) => (elements(into, bytes, scope)?, rest),
        (_, rest) => (Box::default(), rest),
    };
    let [address, from, rest @ ..] = rest else { return Err(unsupported()) };
    let from = elements(from, bytes, scope)?;
    let replacement = match (action, rest) {
        (Action::CompareAndSwap, [operand, ..]) => {
            elements(operand, bytes, scope)?.first().copied()
        }
        (Action::CompareAndSwap, []) => return Err(unsupported()),
        _ => None,
    };
    let address = match address {
        Operand::Address(..) => scope.address(address, space)?,
        _ => return Err(unsupported()),
    };
    if !into.is_empty() && into.len() != from.len() {
        return Err(unsupported());
    }
    let semantics = Semantics::atomic(statement);
    Ok(Atomic { address, action, kind, bytes, is_pair, into, from, replacement, semantics })
}
