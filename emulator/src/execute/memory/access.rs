//! Reads and writes of lanes in all spaces, with their checks.

use std::sync::Arc;

use crate::execute::step::Step;
use crate::fault::{Fault, FaultKind, Result};
use crate::isa::address::{self, Target};
use crate::isa::layout::CALL_PARAMETERS;
use crate::isa::memory::element::WIDEST;
use crate::isa::value::LANES;
use crate::machine::global::Allocation;
use crate::machine::shared::Proxy;
use crate::ptx::Space;

/// The bytes of each lane.
pub type Cells = [[u8; WIDEST]; LANES];

fn outside(what: &str, offset: u32, bytes: usize, size: usize) -> Fault {
    let message = format!("{bytes} bytes of {what} at {offset:#x}; there are {size}");
    Fault::new(FaultKind::OutOfBounds, message)
}

fn slice<'a>(
    memory: &'a [u8],
    what: &str,
    offset: u32,
    at: usize,
    bytes: usize,
) -> Result<&'a [u8]> {
    let inside = at.checked_add(bytes).and_then(|end| memory.get(at..end));
    inside.ok_or_else(|| outside(what, offset, bytes, memory.len()))
}

fn local<'a>(step: &'a Step<'_>, lane: usize) -> &'a [u8] {
    step.warp_ref().local.get(lane).map_or(&[], Vec::as_slice)
}

fn local_mut<'a>(step: &'a mut Step<'_>, lane: usize) -> &'a mut [u8] {
    step.warp().local.get_mut(lane).map_or(&mut [], Vec::as_mut_slice)
}

/// Bytes in the space of parameters: of the kernel, or of functions and calls.
pub fn read_parameter<'a>(
    step: &'a Step<'_>,
    lane: usize,
    offset: u32,
    bytes: u32,
) -> Result<&'a [u8]> {
    match offset.checked_sub(CALL_PARAMETERS) {
        None => {
            let parameters = &step.launch.parameters;
            slice(parameters, "parameters", offset, offset as usize, bytes as usize)
        }
        Some(inside) => {
            let at = step.launch.kernel.local as usize + inside as usize;
            slice(local(step, lane), "parameters of calls", offset, at, bytes as usize)
        }
    }
}

/// Writes into the space of parameters of functions and calls.
pub fn write_parameter(step: &mut Step<'_>, lane: usize, offset: u32, from: &[u8]) -> Result<()> {
    let Some(inside) = offset.checked_sub(CALL_PARAMETERS) else {
        let message = format!("a store to the parameters of the kernel, at {offset:#x}");
        return Err(Fault::new(FaultKind::OutOfBounds, message));
    };
    let at = step.launch.kernel.local as usize + inside as usize;
    write_local(step, lane, "parameters of calls", offset, at, from)
}

fn write_local(
    step: &mut Step<'_>,
    lane: usize,
    what: &str,
    offset: u32,
    at: usize,
    from: &[u8],
) -> Result<()> {
    let memory = local_mut(step, lane);
    let size = memory.len();
    match memory.get_mut(at..at.saturating_add(from.len())) {
        Some(into) => {
            into.copy_from_slice(from);
            Ok(())
        }
        None => Err(outside(what, offset, from.len(), size)),
    }
}

/// Reads bytes at a generic address as a lane sees them.
pub fn read_generic(step: &Step<'_>, lane: usize, address: u64, into: &mut [u8]) -> Result<()> {
    let from = match address::resolve(address) {
        Target::Global(address) => return step.machine.memory.read(address, into, true),
        Target::Param(offset) => read_parameter(step, lane, offset, into.len() as u32)?,
        Target::Local(offset) => {
            slice(local(step, lane), "local memory", offset, offset as usize, into.len())?
        }
        Target::Shared(address) => {
            let (rank, offset) = locate(step, Space::SharedCluster, address)?;
            let shared = &step.cluster.ctas[rank as usize].shared;
            shared.read(offset, into.len() as u32, Proxy::Generic)?
        }
    };
    into.copy_from_slice(from);
    Ok(())
}

/// Rank and offset of a shared address that may be used now.
pub fn locate(step: &Step<'_>, space: Space, address: u32) -> Result<(u32, u32)> {
    let (rank, offset) = address::split_shared(address);
    let bad = |words: &str| {
        let size = step.cluster.ctas.len();
        let message = format!(
            "shared address {address:#x} names thread block {rank} of a cluster of {size}: {words}"
        );
        Err(Fault::new(FaultKind::OutOfBounds, message))
    };
    match step.cluster.ctas.get(rank as usize) {
        None => bad("there is none"),
        Some(_) if space == Space::Shared && rank != step.rank => {
            bad(".shared::cta reaches only the thread block's own")
        }
        Some(cta) if cta.finished => bad("it has exited"),
        Some(_) => Ok((rank, offset)),
    }
}

/// The allocation that holds an access, which is likely that of the last.
pub fn allocation(step: &mut Step<'_>, address: u64, bytes: u64) -> Result<Arc<Allocation>> {
    if let Some(last) = &step.warp_ref().allocation
        && last.contains(address, bytes)
    {
        return Ok(Arc::clone(last));
    }
    let found = step.machine.memory.locate(address, bytes)?;
    step.warp().allocation = Some(Arc::clone(&found));
    Ok(found)
}

fn misaligned(what: &str, address: u64, width: usize) -> Fault {
    let message = format!("{width} bytes of {what} at {address:#x}, no multiple of {width}");
    Fault::new(FaultKind::Misaligned, message)
}

/// An access must be aligned to its whole width.
pub fn check_alignment(target: Target, width: usize) -> Result<()> {
    let (what, address) = match target {
        Target::Global(address) => ("global memory", address),
        Target::Shared(address) => ("shared memory", u64::from(address)),
        Target::Param(offset) => ("parameters", u64::from(offset)),
        Target::Local(offset) => ("local memory", u64::from(offset)),
    };
    if address % width.max(1) as u64 == 0 { Ok(()) } else { Err(misaligned(what, address, width)) }
}

/// Reads `width` bytes for each lane.
pub fn read(
    step: &mut Step<'_>,
    space: Space,
    targets: &[Target; LANES],
    width: usize,
    cells: &mut Cells,
) -> Result<()> {
    let mut cached: Option<Arc<Allocation>> = None;
    let (mut global, mut of_host) = (0, false);
    for lane in step.each_lane() {
        let (target, into) = (targets[lane], &mut cells[lane][..width]);
        check_alignment(target, width)?;
        match target {
            Target::Global(address) => {
                global += width as u64;
                let known = cached.take().filter(|last| last.contains(address, width as u64));
                let found = match known {
                    Some(last) => last,
                    None => allocation(step, address, width as u64)?,
                };
                found.read(address, into, true)?;
                of_host |= found.is_shared_with_host();
                cached = Some(found);
            }
            Target::Shared(address) => {
                let (rank, offset) = locate(step, space, address)?;
                let shared = &step.cluster.ctas[rank as usize].shared;
                into.copy_from_slice(shared.read(offset, width as u32, Proxy::Generic)?);
            }
            Target::Param(offset) => {
                into.copy_from_slice(read_parameter(step, lane, offset, width as u32)?);
            }
            Target::Local(offset) => {
                let memory = local(step, lane);
                into.copy_from_slice(slice(
                    memory,
                    "local memory",
                    offset,
                    offset as usize,
                    width,
                )?);
            }
        }
    }
    step.cluster.counters.global_loads += global;
    // Other clusters may write what is read: to read it again is no proof that nothing goes on. What the host writes
    // shows nowhere else.
    step.cluster.reads += u64::from(global > 0);
    step.cluster.changes += u64::from(of_host);
    Ok(())
}

/// A store must not touch an mbarrier.
pub fn check_mbarrier(step: &Step<'_>, rank: u32, offset: u32, width: usize) -> Result<()> {
    let barriers = &step.cluster.ctas[rank as usize].mbarriers;
    if barriers.is_empty() {
        return Ok(());
    }
    let end = offset.saturating_add(width as u32);
    match barriers.range(offset.saturating_sub(7)..end).next() {
        None => Ok(()),
        Some((barrier, _)) => Err(Fault::new(
            FaultKind::Barrier,
            format!(
                "a store of {width} bytes to shared memory at {rank}:{offset:#x} overlaps the mbarrier at \
                 {barrier:#x}"
            ),
        )),
    }
}

/// Writes `width` bytes of each lane, the highest lane last.
pub fn write(
    step: &mut Step<'_>,
    space: Space,
    targets: &[Target; LANES],
    width: usize,
    cells: &Cells,
) -> Result<()> {
    let mut cached: Option<Arc<Allocation>> = None;
    let (mut global, mut changed) = (0, false);
    for lane in step.each_lane() {
        let (target, from) = (targets[lane], &cells[lane][..width]);
        check_alignment(target, width)?;
        match target {
            Target::Global(address) => {
                global += width as u64;
                let known = cached.take().filter(|last| last.contains(address, width as u64));
                let found = match known {
                    Some(last) => last,
                    None => allocation(step, address, width as u64)?,
                };
                changed |= !found.holds(address, from)?;
                found.write(address, from)?;
                cached = Some(found);
            }
            Target::Shared(address) => {
                let (rank, offset) = locate(step, space, address)?;
                check_mbarrier(step, rank, offset, width)?;
                let warp = (rank == step.rank).then_some(step.warp);
                let shared = &mut step.cluster.ctas[rank as usize].shared;
                changed |= shared.peek(offset, width as u32)? != from;
                shared.store(offset, from, warp)?;
            }
            Target::Param(offset) => write_parameter(step, lane, offset, from)?,
            Target::Local(offset) => {
                write_local(step, lane, "local memory", offset, offset as usize, from)?;
            }
        }
    }
    step.cluster.counters.global_stores += global;
    step.cluster.changes += u64::from(changed);
    Ok(())
}
