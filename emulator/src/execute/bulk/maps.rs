//! Tensor maps themselves: where they are, prefetches, `tensormap.replace` and `tensormap.cp_fenceproxy`.

use super::super::{Flow, Step};
use super::{direction, literal, misaligned};
use crate::fault::{Fault, FaultKind, Result};
use crate::machine::address::{Target, resolve};
use crate::machine::shared::Proxy;
use crate::machine::{Launch, Machine};
use crate::program::{Address, Scope, Value};
use crate::ptx::{Operand, Space, Statement};
use crate::tma::map::{BYTES, TensorMap};
use crate::tma::replace::{Field, replace};

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

/// Where a tensor map lies that a copy uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Offset in the parameters of the kernel.
    Param(u32),
    /// Global or constant memory.
    Global(u64),
}

impl Source {
    /// What an operand names.
    pub fn find(step: &Step<'_>, map: &Address, lane: usize) -> Result<Self> {
        let bits = step.address(map, lane);
        let source = match (map.space, resolve(bits)) {
            (Space::Generic, Target::Param(offset)) => Self::Param(offset),
            (Space::Param, Target::Param(offset)) => Self::Param(offset),
            (Space::Param, _) => Self::Param(bits as u32),
            (_, Target::Global(address)) => Self::Global(address),
            _ => {
                let message = format!("a tensor map at {bits:#x}, in shared or local memory");
                return Err(Fault::new(FaultKind::Descriptor, message));
            }
        };
        if !source.key().is_multiple_of(64) {
            return misaligned(format!("a tensor map at {bits:#x}, no multiple of 64"));
        }
        Ok(source)
    }

    /// By which the report counts.
    pub fn key(self) -> u64 {
        match self {
            Self::Param(offset) => u64::from(offset),
            Self::Global(address) => address,
        }
    }

    /// Reads the map.
    pub fn decode(self, machine: &Machine, launch: &Launch) -> Result<TensorMap> {
        let name = |fault: Fault| {
            let place = match self {
                Self::Param(offset) => format!("parameter byte {offset}"),
                Self::Global(address) => format!("{address:#x}"),
            };
            Fault { message: format!("tensor map at {place}: {}", fault.message), ..fault }
        };
        let mut bytes = [0; BYTES];
        match self {
            Self::Param(offset) => {
                let start = offset as usize;
                let Some(found) = launch.parameters.get(start..start + BYTES) else {
                    let message = format!("the kernel has {}", launch.parameters.len());
                    return Err(name(Fault::new(FaultKind::OutOfBounds, message)));
                };
                bytes.copy_from_slice(found);
            }
            Self::Global(address) => {
                machine.memory.read(address, &mut bytes, true).map_err(name)?;
            }
        }
        TensorMap::decode(&bytes).map_err(name)
    }

    /// Reads the map for an instruction of so many dimensions.
    pub fn decode_ranked(self, step: &Step<'_>, rank: usize) -> Result<TensorMap> {
        let map = self.decode(step.machine, step.launch)?;
        if map.rank != rank {
            let message = format!("{rank} dimensions are copied; {}", map.describe());
            return Err(Fault::new(FaultKind::Descriptor, message));
        }
        Ok(map)
    }
}

/// `.3d`
pub fn rank(statement: &Statement) -> Result<usize> {
    for (word, rank) in [("1d", 1), ("2d", 2), ("3d", 3), ("4d", 4), ("5d", 5)] {
        if statement.has(word) {
            return Ok(rank);
        }
    }
    Err(Fault::unsupported(statement.opcode()))
}

/// The space of a tensor map that an operand names.
pub fn map_address(scope: &Scope<'_>, operand: &Operand) -> Result<Address> {
    scope.address(operand, Space::Generic)
}

/// Lowers `prefetch.tensormap` and `cp.async.bulk.prefetch`.
pub fn lower_prefetch(statement: &Statement, scope: &Scope<'_>) -> Result<Op> {
    let unsupported = || Fault::unsupported(statement.opcode());
    match statement.operands.as_slice() {
        [Operand::TensorAddress(base, offset, _), ..] => {
            super::tensor::check_mode(statement)?;
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
    if !is_whole || direction(statement)? != super::Direction::Store {
        return Err(Fault::unsupported(statement.opcode()));
    }
    Ok(Op::Copy {
        into: scope.address(into, Space::Global)?,
        from: scope.address(from, Space::Shared)?,
    })
}

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    for lane in step.each_lane() {
        match op {
            Op::PrefetchMap { map, rank } => {
                let source = Source::find(step, map, lane)?;
                // Kernels prefetch maps of operands that a launch does not have; the map of a copy must be one.
                if let Some(rank) = rank {
                    source.decode_ranked(step, *rank)?;
                }
            }
            Op::Prefetch { from, bytes } => {
                let (from, bytes) = (step.address(from, lane), step.value(*bytes, lane) as u32);
                if from % 16 != 0 || bytes % 16 != 0 {
                    return misaligned(format!(
                        "a prefetch of {bytes} bytes at {from:#x}; both must be multiples of 16"
                    ));
                }
            }
            Op::Replace { map, field, value } => {
                let value = step.value(*value, lane);
                replace_in(step, map, *field, value, lane)?;
            }
            // The lanes do the same together.
            Op::Copy { into, from } => {
                let into = step.address(into, lane);
                let (_, offset) = step.own_shared(from, lane)?;
                if !into.is_multiple_of(128) || offset % 128 != 0 {
                    return misaligned(format!(
                        "tensormap.cp_fenceproxy from {offset:#x} to {into:#x}; both must be multiples of 128"
                    ));
                }
                let map = step.cta().shared.read(offset, BYTES as u32, Proxy::Generic)?.to_vec();
                step.machine.memory.write(into, &map)?;
                break;
            }
        }
    }
    Ok(Flow::Next)
}

fn replace_in(
    step: &mut Step<'_>,
    map: &Address,
    field: Field,
    value: u64,
    lane: usize,
) -> Result<()> {
    let bits = step.address(map, lane);
    let is_global = match map.space {
        Space::Global => true,
        Space::Generic => matches!(resolve(bits), Target::Global(_)),
        _ => false,
    };
    if is_global {
        let mut bytes = [0; BYTES];
        step.machine.memory.read(bits, &mut bytes, true)?;
        return step.machine.memory.write(bits, &replace(&bytes, field, value)?);
    }
    let (_, offset) = step.own_shared(map, lane)?;
    if offset % 64 != 0 {
        return misaligned(format!("a tensor map at offset {offset:#x}, no multiple of 64"));
    }
    let warp = step.warp;
    let shared = &mut step.cta().shared;
    let replaced = replace(shared.read(offset, BYTES as u32, Proxy::Generic)?, field, value)?;
    shared.store(offset, &replaced, Some(warp))
}
