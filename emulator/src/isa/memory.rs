//! Loads, stores and atomic operations of threads, and conversions of addresses (PTX ISA, "Data Movement and
//! Conversion Instructions", "atom", "red").

pub mod atomic;
pub(crate) mod element;

pub use element::Element;

use crate::fault::{Fault, Result};
use crate::isa::address;
use crate::isa::scope::{Lowered, Scope};
use crate::isa::semantics::Semantics;
use crate::isa::value::{Address, Convergence, Value};
use crate::ptx::{Operand, Register, Space, Statement};
use element::{WIDEST, bytes_of, elements};

/// Lowered.
#[derive(Clone, Debug)]
pub enum Op {
    /// `ld`
    Load {
        /// Where.
        address: Address,
        /// Bytes of an element.
        bytes: u32,
        /// Whether elements narrower than 32 bits keep their sign.
        signed: bool,
        /// Registers, in order.
        into: Box<[Element]>,
        /// Order.
        semantics: Semantics,
    },
    /// `st`
    Store {
        /// Where.
        address: Address,
        /// Bytes of an element.
        bytes: u32,
        /// Values, in order.
        from: Box<[Element]>,
        /// Order.
        semantics: Semantics,
    },
    /// `atom` and `red`
    Atomic(Box<atomic::Atomic>),
    /// `cvta`: adds, or takes away, the window of a space.
    Convert {
        /// Destination.
        into: Register,
        /// Source.
        from: Value,
        /// Whether to a generic address.
        to_generic: bool,
        /// The window; 0 for global memory.
        window: u64,
    },
    /// `isspacep`
    IsSpace {
        /// A predicate.
        into: Register,
        /// Generic address.
        from: Value,
        /// Which space.
        space: Space,
    },
}

/// The state space that an opcode names.
fn space_of(statement: &Statement) -> Result<Space> {
    for word in &statement.suffixes {
        return Ok(match word.as_str() {
            "param" | "param::entry" | "param::func" => Space::Param,
            "shared" | "shared::cta" => Space::Shared,
            "shared::cluster" => Space::SharedCluster,
            "global" => Space::Global,
            // Constant memory lives in global memory.
            "const" => Space::Global,
            "local" => Space::Local,
            _ => continue,
        });
    }
    Ok(Space::Generic)
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Lowered<Op> {
    let unsupported = || Fault::unsupported("operands or type");
    let space = space_of(statement)?;
    // `st.async` and `red.async` also count bytes at an mbarrier.
    if statement.has("async") {
        return Err(Fault::unsupported(statement.opcode()));
    }
    let word = statement.suffixes.last().map_or("", String::as_str);
    let op = match (statement.family.as_str(), statement.operands.as_slice()) {
        ("ld" | "ldu", [into, from, ..]) => {
            let bytes = bytes_of(word).ok_or_else(unsupported)?;
            let into = elements(into, bytes, scope)?;
            if into.iter().any(|element| matches!(element, Element::Value(_)))
                || into.len() * bytes as usize > WIDEST
            {
                return Err(unsupported());
            }
            let address = scope.address(from, space)?;
            let semantics = Semantics::access(statement);
            Op::Load { address, bytes, signed: word.starts_with('s'), into, semantics }
        }
        ("st", [into, from, ..]) => {
            let bytes = bytes_of(word).ok_or_else(unsupported)?;
            let from = elements(from, bytes, scope)?;
            if from.contains(&Element::Sink) || from.len() * bytes as usize > WIDEST {
                return Err(unsupported());
            }
            let semantics = Semantics::access(statement);
            Op::Store { address: scope.address(into, space)?, bytes, from, semantics }
        }
        ("atom" | "red", _) => Op::Atomic(Box::new(atomic::lower(statement, space, scope)?)),
        ("cvta", [Operand::Register(into), from]) => Op::Convert {
            into: *into,
            from: match from {
                Operand::Address(..) => return Err(unsupported()),
                from => scope.value(from, 64)?,
            },
            to_generic: !statement.has("to"),
            window: match space {
                Space::Global => 0,
                Space::Shared | Space::SharedCluster => address::SHARED_WINDOW,
                Space::Param => address::PARAM_WINDOW,
                Space::Local => address::LOCAL_WINDOW,
                Space::Generic | Space::Const => return Err(unsupported()),
            },
        },
        ("isspacep", [Operand::Register(into), from]) => {
            Op::IsSpace { into: *into, from: scope.value(from, 64)?, space }
        }
        _ => return Err(unsupported()),
    };
    Ok((Some(op), Convergence::None))
}
