//! What the opcodes of copies have in common.

use crate::fault::{Fault, Result};
use crate::isa::scope::Scope;
use crate::isa::value::{Address, Value};
use crate::ptx::{Literal, Operand, Space, Statement};

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To the shared memory of the thread block itself, or of any in the cluster.
    Load(Space),
    /// From shared to global memory.
    Store,
    /// From shared memory to that of another thread block.
    Shared,
}

pub(crate) fn direction(statement: &Statement) -> Result<Direction> {
    let place = |word: &str| statement.suffixes.iter().position(|suffix| suffix == word);
    let own = place("shared::cta").or_else(|| place("shared"));
    match (place("global"), own, place("shared::cluster")) {
        (Some(global), Some(own), None) if global < own => Ok(Direction::Store),
        (Some(_), Some(_), None) => Ok(Direction::Load(Space::Shared)),
        (Some(_), None, Some(_)) => Ok(Direction::Load(Space::SharedCluster)),
        (None, Some(_), Some(_)) => Ok(Direction::Shared),
        _ => Err(Fault::unsupported(statement.opcode())),
    }
}

/// An integer that is written out.
pub(crate) fn literal(statement: &Statement, operand: Option<&Operand>) -> Result<u64> {
    match operand {
        Some(Operand::Literal(Literal::Integer(number))) => Ok(*number),
        _ => Err(Fault::unsupported(statement.opcode())),
    }
}

/// The operands without the cache policy, which stands last and orders nothing.
pub(crate) fn without_policy(statement: &Statement) -> &[Operand] {
    match statement.operands.split_last() {
        Some((_, others)) if statement.has("L2::cache_hint") => others,
        _ => &statement.operands,
    }
}

pub(crate) fn mask(
    statement: &Statement,
    scope: &Scope<'_>,
    operand: Option<&Operand>,
) -> Result<Option<Value>> {
    match (statement.has("multicast::cluster"), operand) {
        (true, Some(mask)) => Ok(Some(scope.value(mask, 16)?)),
        (false, None) => Ok(None),
        _ => Err(Fault::unsupported(statement.opcode())),
    }
}

/// `.3d`
pub(crate) fn rank(statement: &Statement) -> Result<usize> {
    for (word, rank) in [("1d", 1), ("2d", 2), ("3d", 3), ("4d", 4), ("5d", 5)] {
        if statement.has(word) {
            return Ok(rank);
        }
    }
    Err(Fault::unsupported(statement.opcode()))
}

/// The space of a tensor map that an operand names.
pub(crate) fn map_address(scope: &Scope<'_>, operand: &Operand) -> Result<Address> {
    scope.address(operand, Space::Generic)
}

/// Refuses the modes other than `.tile`.
pub(crate) fn check_mode(statement: &Statement) -> Result<()> {
    let is_other = |word: &String| {
        word.starts_with("im2col") || word == "tile::gather4" || word == "tile::scatter4"
    };
    if statement.suffixes.iter().any(is_other) {
        return Err(Fault::unsupported(statement.opcode()));
    }
    Ok(())
}
