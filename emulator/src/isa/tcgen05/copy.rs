//! `tcgen05.cp`: from shared to tensor memory.

use super::group::group;
use crate::fault::{Fault, Result};
use crate::isa::scope::Scope;
use crate::isa::value::{Address, Value};
use crate::ptx::{Space, Statement};
use crate::tensor::layout::CopyShape;

/// Lowered.
#[derive(Clone, Debug)]
pub struct Op {
    pub(crate) group: u32,
    pub(crate) shape: CopyShape,
    pub(crate) to: Address,
    pub(crate) from: Value,
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Result<Op> {
    let shapes = [
        (&["32x128b", "warpx4"][..], CopyShape::C32x128bWarpx4),
        (&["64x128b", "warpx2::02_13"], CopyShape::C64x128bWarpx2A),
        (&["64x128b", "warpx2::01_23"], CopyShape::C64x128bWarpx2B),
        (&["128x128b"], CopyShape::C128x128b),
        (&["128x256b"], CopyShape::C128x256b),
        (&["4x256b"], CopyShape::C4x256b),
    ];
    let unpacks = statement.suffixes.iter().any(|word| word.starts_with("b8x16"));
    let shape = shapes.iter().find(|(words, _)| words.iter().all(|word| statement.has(word)));
    match (shape, statement.operands.as_slice()) {
        (Some((_, shape)), [to, from]) if !unpacks => Ok(Op {
            group: group(statement)?,
            shape: *shape,
            to: scope.address(to, Space::Generic)?,
            from: scope.value(from, 64)?,
        }),
        _ => Err(Fault::unsupported(statement.opcode())),
    }
}
