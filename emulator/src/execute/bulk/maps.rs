//! Tensor maps themselves: where they are, prefetches, `tensormap.replace` and `tensormap.cp_fenceproxy`.

use super::store::misaligned;
use crate::execute::step::{Flow, Step};
use crate::fault::{Fault, FaultKind, Result};
use crate::isa::address::{Target, resolve};
use crate::isa::bulk::maps::Op;
use crate::isa::value::Address;
use crate::machine::shared::Proxy;
use crate::machine::{Launch, Machine};
use crate::ptx::Space;
use crate::tma::map::{BYTES, TensorMap};
use crate::tma::replace::{Field, replace};

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
                let rank = step.rank;
                step.touch_shared(rank, offset, BYTES as u32, false)?;
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
    shared.store(offset, &replaced, Some(warp))?;
    let rank = step.rank;
    step.touch_shared(rank, offset, BYTES as u32, true)
}
