//! What the program allocated, and of which kind.
//!
//! All of it is in the machine's table of allocations. Page-locked and managed memory is, too, so that kernels reach it by
//! the same address as the host; the host writes there without our knowledge, so it counts as written from the start.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::code::Code;
use super::refusal::{Outcome, Refusal};
use crate::machine::Machine;
use crate::machine::global::{Allocation, GlobalMemory};

/// How memory was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// cudaMalloc
    Device,
    /// cudaMallocManaged
    Managed,
    /// cudaMallocHost
    Host,
    /// A variable of a module.
    Variable,
    /// The same, declared `__managed__`.
    ManagedVariable,
}

impl Kind {
    /// Whether it takes of the device's memory.
    fn is_on_device(self) -> bool {
        self != Kind::Host
    }
}

/// One allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// First byte.
    pub address: u64,
    /// Size.
    pub bytes: u64,
    /// How it was made.
    pub kind: Kind,
    /// Flags of cudaHostAlloc.
    pub flags: u32,
}

/// All allocations, and host memory that was registered.
#[derive(Debug, Default)]
pub struct Table {
    blocks: BTreeMap<u64, Block>,
    registered: BTreeMap<u64, Block>,
}

impl Table {
    /// The allocation that a byte belongs to.
    pub fn find(&self, address: u64) -> Option<Block> {
        let (_, block) = self.blocks.range(..=address).next_back()?;
        (address - block.address < block.bytes).then_some(*block)
    }

    /// Registered host memory that a byte belongs to.
    pub fn find_registered(&self, address: u64) -> Option<Block> {
        let (_, block) = self.registered.range(..=address).next_back()?;
        (address - block.address < block.bytes).then_some(*block)
    }

    /// cudaHostRegister
    pub fn register(&mut self, address: u64, bytes: u64, flags: u32) -> Outcome {
        let end = address.checked_add(bytes).filter(|_| address != 0 && bytes != 0);
        let Some(end) = end else { return Err(Code::INVALID_VALUE.into()) };
        let overlaps = |table: &BTreeMap<u64, Block>| {
            let below = table.range(..end).next_back();
            below.is_some_and(|(_, block)| block.address + block.bytes > address)
        };
        if overlaps(&self.registered) || overlaps(&self.blocks) {
            return Err(Code::HOST_MEMORY_ALREADY_REGISTERED.into());
        }
        self.registered.insert(address, Block { address, bytes, kind: Kind::Host, flags });
        Ok(())
    }

    /// cudaHostUnregister
    pub fn unregister(&mut self, address: u64) -> Outcome {
        match self.registered.remove(&address) {
            Some(_) => Ok(()),
            None => Err(Code::HOST_MEMORY_NOT_REGISTERED.into()),
        }
    }

    /// Bytes that count as the device's.
    pub fn used(&self) -> u64 {
        let on_device = self.blocks.values().filter(|block| block.kind.is_on_device());
        on_device.map(|block| block.bytes).sum()
    }

    /// New memory; at most `total` bytes are on the device. Nothing for 0 bytes, as the real runtime.
    pub fn allocate(
        &mut self,
        machine: &Machine,
        total: u64,
        bytes: u64,
        kind: Kind,
        flags: u32,
    ) -> Outcome<u64> {
        let Some(allocation) = self.reserve(total, bytes, kind, flags)? else { return Ok(0) };
        let address = allocation.address();
        machine.memory.publish(allocation);
        if matches!(kind, Kind::Managed | Kind::Host | Kind::ManagedVariable) {
            machine.memory.share_with_host(address);
        }
        Ok(address)
    }

    /// The same for memory that nothing can access until the machine gets it.
    pub fn reserve(
        &mut self,
        total: u64,
        bytes: u64,
        kind: Kind,
        flags: u32,
    ) -> Outcome<Option<Arc<Allocation>>> {
        if bytes == 0 {
            return Ok(None);
        }
        let used = self.used();
        if kind.is_on_device() && bytes > total.saturating_sub(used) {
            return Err(Code::MEMORY_ALLOCATION.into());
        }
        let Some(allocation) = GlobalMemory::reserve(bytes) else {
            let words = format!("the host has no {bytes} bytes for the memory of the device");
            return Err(Code::MEMORY_ALLOCATION.because(words));
        };
        let address = allocation.address();
        self.blocks.insert(address, Block { address, bytes, kind, flags });
        Ok(Some(allocation))
    }

    /// Gives memory back that begins at `address`, if its kind is `allowed`.
    pub fn free(&mut self, machine: &Machine, address: u64, allowed: &[Kind]) -> Outcome {
        self.forget(address, allowed)?;
        machine.memory.free(address);
        Ok(())
    }

    /// The same, but what was queued may still use it.
    pub fn forget(&mut self, address: u64, allowed: &[Kind]) -> Outcome {
        if address == 0 {
            return Ok(());
        }
        let known = self.blocks.get(&address).filter(|block| allowed.contains(&block.kind));
        if known.is_none() {
            let words = match self.find(address) {
                Some(block) if block.address == address => format!(
                    "{address:#x} is memory of another kind ({:?}, {} bytes)",
                    block.kind, block.bytes
                ),
                Some(block) => format!(
                    "{address:#x} is inside of the allocation at {:#x}, not its first byte",
                    block.address
                ),
                None => format!("{address:#x} was not allocated, or is free already"),
            };
            return Err(Code::INVALID_VALUE.because(words));
        }
        self.blocks.remove(&address);
        Ok(())
    }

    /// Gives back all that cudaDeviceReset destroys.
    pub fn clear(&mut self, machine: &Machine) {
        for address in self.blocks.keys() {
            machine.memory.free(*address);
        }
        self.blocks.clear();
        self.registered.clear();
    }

    /// The allocation that all `bytes` from `address` on belong to; `None` for memory of the host that CUDA does not know.
    /// A range that leaves its allocation is an error.
    pub fn range(&self, address: u64, bytes: u64) -> Outcome<Option<Block>> {
        let Some(block) = self.find(address) else {
            // It must not run into an allocation, either.
            let above = self.blocks.range(address..).next();
            return match above {
                Some((start, block)) if address.saturating_add(bytes) > *start => {
                    Err(outside(address, bytes, block))
                }
                _ => Ok(None),
            };
        };
        if bytes > block.bytes - (address - block.address) {
            return Err(outside(address, bytes, &block));
        }
        Ok(Some(block))
    }
}

fn outside(address: u64, bytes: u64, block: &Block) -> Refusal {
    Code::INVALID_VALUE.because(format!(
        "{bytes} bytes at {address:#x} are not all inside of the allocation at {:#x} of {} bytes",
        block.address, block.bytes
    ))
}
