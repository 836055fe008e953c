//! `cp.async.bulk` and `cp.reduce.async.bulk`: ranges of bytes.

use super::route::Destination;
use super::store::{Owner, alone, count, misaligned};
use super::{reduce, route};
use crate::execute::step::{Flow, Step};
use crate::fault::{Fault, FaultKind, Result};
use crate::isa::bulk::plain::{Op, Way};
use crate::machine::asynchronous::{Completion, Operation};
use crate::machine::order::Issue;
use crate::machine::shared::Proxy;
use crate::ptx::Space;
use crate::tma::reduce::Reduction;

/// Alignment of addresses and sizes, in bytes.
const ALIGNMENT: u64 = 16;

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    for lane in step.each_lane() {
        let bytes = step.value(op.bytes, lane) as u32;
        let (into, from) = (step.address(&op.into, lane), step.address(&op.from, lane));
        if [into, from, u64::from(bytes)].iter().any(|value| value % ALIGNMENT != 0) {
            return misaligned(format!(
                "a bulk copy of {bytes} bytes from {from:#x} to {into:#x}; all must be multiples of {ALIGNMENT}"
            ));
        }
        match &op.way {
            Way::Load { barrier, mask } => {
                let into = match op.into.space {
                    Space::Shared => step.own_shared(&op.into, lane)?,
                    _ => step.cluster_shared(&op.into, lane)?,
                };
                let barrier = step.cluster_shared(barrier, lane)?;
                let mask = mask.map(|mask| step.value(mask, lane) as u32);
                let size = step.cluster.ctas.len() as u32;
                let parts = route::destinations(into, barrier, mask, false, size)?;
                route::check(step.cluster, &parts, bytes)?;
                let key = allocation(step, from);
                count(step.cluster.counters.loads.entry(key).or_default(), bytes, parts.len());
                for to in parts {
                    let load = Box::new(Load { from, bytes, to });
                    step.submit(alone(step.cluster), lane, Issue::Alone, load)?;
                }
            }
            Way::Store => {
                let (_, offset) = step.own_shared(&op.from, lane)?;
                step.cta().shared.peek(offset, bytes)?;
                let key = allocation(step, into);
                count(step.cluster.counters.stores.entry(key).or_default(), bytes, 1);
                let owner = Owner::issue(step, lane);
                let store = Store { offset, bytes, into, reduction: op.reduction, owner };
                step.submit(alone(step.cluster), lane, Issue::Bulk, Box::new(store))?;
            }
            Way::Shared { barrier } => {
                let (_, from) = step.own_shared(&op.from, lane)?;
                let into = step.cluster_shared(&op.into, lane)?;
                let barrier = step.cluster_shared(barrier, lane)?;
                step.cta().shared.peek(from, bytes)?;
                let parts = route::destinations(into, barrier, None, false, u32::MAX)?;
                route::check(step.cluster, &parts, bytes)?;
                let rank = step.rank;
                for to in parts {
                    let copy = Exchange { rank, from, bytes, to, reduction: op.reduction };
                    step.submit(alone(step.cluster), lane, Issue::Alone, Box::new(copy))?;
                }
            }
        }
    }
    Ok(Flow::Next)
}

/// By which the report counts: the allocation.
fn allocation(step: &Step<'_>, address: u64) -> u64 {
    step.machine.memory.find(address).map_or(address, |allocation| allocation.address())
}

/// From global memory to one thread block.
#[derive(Debug)]
struct Load {
    from: u64,
    bytes: u32,
    to: Destination,
}

impl Operation for Load {
    fn complete(self: Box<Self>, at: &mut Completion<'_>) -> Result<()> {
        let mut bytes = vec![0; self.bytes as usize];
        at.machine.memory.read(self.from, &mut bytes, true)?;
        at.cluster.running(self.to.rank)?.shared.store_async(self.to.offset, &bytes)?;
        at.touch_global(self.from, u64::from(self.bytes), false, false)?;
        at.complete_bytes(self.to.barrier, self.bytes)
    }

    fn describe(&self) -> String {
        let Destination { rank, offset, .. } = self.to;
        format!("bulk load of {} bytes at {:#x} to {rank}:{offset:#x}", self.bytes, self.from)
    }

    fn uses(&self) -> Vec<u32> {
        vec![self.to.rank]
    }
}

/// From the shared memory of one thread block to that of another.
#[derive(Debug)]
struct Exchange {
    rank: u32,
    from: u32,
    bytes: u32,
    to: Destination,
    reduction: Option<Reduction>,
}

impl Operation for Exchange {
    fn complete(self: Box<Self>, at: &mut Completion<'_>) -> Result<()> {
        let source = &at.cluster.running(self.rank)?.shared;
        let mut bytes = source.read(self.from, self.bytes, Proxy::Async)?.to_vec();
        let shared = &mut at.cluster.running(self.to.rank)?.shared;
        if let Some(reduction) = self.reduction {
            let mut sum = shared.read(self.to.offset, self.bytes, Proxy::Async)?.to_vec();
            reduction.run_shared(&mut sum, &bytes);
            bytes = sum;
        }
        shared.store_async(self.to.offset, &bytes)?;
        at.complete_bytes(self.to.barrier, self.bytes)
    }

    fn describe(&self) -> String {
        let Destination { rank, offset, .. } = self.to;
        format!(
            "bulk copy of {} bytes from {}:{:#x} to {rank}:{offset:#x}",
            self.bytes, self.rank, self.from
        )
    }

    fn uses(&self) -> Vec<u32> {
        vec![self.rank, self.to.rank]
    }
}

/// A store, or reduction, that is to read its source.
#[derive(Debug)]
struct Store {
    offset: u32,
    bytes: u32,
    into: u64,
    reduction: Option<Reduction>,
    owner: Owner,
}

impl Operation for Store {
    fn complete(self: Box<Self>, at: &mut Completion<'_>) -> Result<()> {
        let Self { offset, bytes, into, reduction, owner } = *self;
        let shared = &at.cluster.running(owner.rank)?.shared;
        let bytes = shared.read(offset, bytes, Proxy::Async)?.to_vec();
        owner.read(at, Box::new(Write { bytes, into, reduction, owner }))
    }

    fn describe(&self) -> String {
        let Self { offset, bytes, into, .. } = self;
        format!("bulk store of {bytes} bytes from {offset:#x} to {into:#x}: its source")
    }

    fn holds_thread_block(&self) -> bool {
        true
    }

    fn uses(&self) -> Vec<u32> {
        vec![self.owner.rank]
    }
}

/// A store whose source is read.
#[derive(Debug)]
struct Write {
    bytes: Vec<u8>,
    into: u64,
    reduction: Option<Reduction>,
    owner: Owner,
}

impl Operation for Write {
    fn complete(self: Box<Self>, at: &mut Completion<'_>) -> Result<()> {
        let memory = &at.machine.memory;
        match self.reduction {
            None => memory.write(self.into, &self.bytes)?,
            Some(reduction) => match memory.find(self.into) {
                Some(allocation) => {
                    reduce::global(reduction, memory, &allocation, self.into, &self.bytes)?;
                }
                None => {
                    let message = format!("a bulk reduction at {:#x}, in no allocation", self.into);
                    return Err(Fault::new(FaultKind::OutOfBounds, message));
                }
            },
        }
        let bytes = self.bytes.len() as u64;
        at.touch_global(self.into, bytes, true, self.reduction.is_some())?;
        self.owner.written(at);
        Ok(())
    }

    fn describe(&self) -> String {
        format!("bulk store of {} bytes to {:#x}: its write", self.bytes.len(), self.into)
    }

    fn may_outlive_thread_block(&self) -> bool {
        true
    }

    fn uses(&self) -> Vec<u32> {
        Vec::new()
    }
}
