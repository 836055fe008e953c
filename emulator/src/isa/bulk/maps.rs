//! Instructions on tensor maps themselves: prefetches, `tensormap.replace` and `tensormap.cp_fenceproxy`.

use crate::fault::{Fault, Result};
use crate::isa::bulk::operands::{Direction, check_mode, direction, literal, map_address, rank};
use crate::isa::scope::Scope;
use crate::isa::value::{Address, Value};
use crate::ptx::{Operand, Space, Statement};
use crate::tma::map::BYTES;
use crate::tma::replace::Field;

/// Lowered.
#[derive(Clone, Debug)]
pub enum Op {
    /// `prefetch.tensormap`, which only takes an address, and `cp.async.bulk.prefetch.tensor`, whose map must be one.
    PrefetchMap {
        /// The map.
        map: Address,
        /// As many dimensions as the opcode says.
        rank: Option<usize>,
    },
    /// `cp.async.bulk.prefetch`
    Prefetch {
        /// First byte.
        from: Address,
        /// How many.
        bytes: Value,
    },
    /// `tensormap.replace`
    Replace {
        /// The map, in shared or global memory.
        map: Address,
        /// What is replaced.
        field: Field,
        /// By what.
        value: Value,
    },
    /// `tensormap.cp_fenceproxy`
    Copy {
        /// In global memory.
        into: Address,
        /// In shared memory.
        from: Address,
    },
}

/// Lowers `prefetch.tensormap` and `cp.async.bulk.prefetch`.
pub fn lower_prefetch(statement: &Statement, scope: &Scope<'_>) -> Result<Op> {
    let unsupported = || Fault::unsupported(statement.opcode());
    match statement.operands.as_slice() {
        [Operand::TensorAddress(base, offset, _), ..] => {
            check_mode(statement)?;
            let map = map_address(scope, &Operand::Address(base.clone(), *offset))?;
            Ok(Op::PrefetchMap { map, rank: Some(rank(statement)?) })
        }
        [map] if statement.has("tensormap") => {
            let space = if statement.has("param") { Space::Param } else { Space::Generic };
            Ok(Op::PrefetchMap { map: scope.address(map, space)?, rank: None })
        }
        [from, bytes, ..] => Ok(Op::Prefetch {
            from: scope.address(from, Space::Global)?,
            bytes: scope.value(bytes, 32)?,
        }),
        _ => Err(unsupported()),
    }
}

/// Lowers `tensormap.replace`.
pub fn lower_replace(statement: &Statement, scope: &Scope<'_>) -> Result<Op> {
    let unsupported = || Fault::unsupported(statement.opcode());
    let word = match statement.suffixes.get(1..3) {
        Some([mode, word]) if mode == "tile" => word.as_str(),
        _ => return Err(unsupported()),
    };
    let (map, ordinal, value) = match statement.operands.as_slice() {
        [map, ordinal, value] if Field::has_ordinal(word) => {
            let ordinal = literal(statement, Some(ordinal))?;
            (map, Some(u32::try_from(ordinal).map_err(|_| unsupported())?), value)
        }
        [map, value] => (map, None, value),
        _ => return Err(unsupported()),
    };
    let space =
        match (statement.has("shared::cta"), statement.has("shared"), statement.has("global")) {
            (true, ..) | (_, true, _) => Space::Shared,
            (_, _, true) => Space::Global,
            _ => Space::Generic,
        };
    Ok(Op::Replace {
        map: scope.address(map, space)?,
        field: Field::parse(word, ordinal).ok_or_else(unsupported)?,
        value: scope.value(value, if statement.has("b64") { 64 } else { 32 })?,
    })
}

/// Lowers `tensormap.cp_fenceproxy`.
pub fn lower_copy(statement: &Statement, scope: &Scope<'_>) -> Result<Op> {
    let [into, from, bytes] = statement.operands.as_slice() else {
        return Err(Fault::unsupported(statement.opcode()));
    };
    let is_whole = literal(statement, Some(bytes))? == BYTES as u64;
    if !is_whole || direction(statement)? != Direction::Store {
        return Err(Fault::unsupported(statement.opcode()));
    }
    Ok(Op::Copy {
        into: scope.address(into, Space::Global)?,
        from: scope.address(from, Space::Shared)?,
    })
}
