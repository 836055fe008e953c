//! Shared memory of one thread block, with a shadow that knows what was written and by whom.

use std::cell::RefCell;

use crate::fault::{Fault, FaultKind, Result};
use crate::isa::address::SHARED_RESERVED;

/// Bytes that share an entry of the shadow of unfenced stores.
const GRANULE: u32 = 16;

/// The last ordinary store to a granule, until its writer's `fence.proxy.async`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Store {
    /// Warp of the writer plus one; 0 for none.
    writer: u32,
    /// How many fences the writer had executed.
    fences: u32,
}

/// Which path of the hardware reads. The async proxy (TMA, MMA) sees ordinary stores only after a fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// Ordinary loads.
    Generic,
    /// TMA and the tensor cores.
    Async,
}

/// Bytes and shadow.
#[derive(Debug)]
pub struct SharedMemory {
    bytes: Vec<u8>,
    written: Vec<bool>,
    stores: Vec<Store>,
    /// Fences that each warp has executed.
    fences: Vec<u32>,
    /// What the async proxy touched: offset, bytes, and whether it wrote. Only where somebody looks at it.
    touched: Option<RefCell<Vec<(u32, u32, bool)>>>,
}

impl SharedMemory {
    /// `size` bytes after the reserved ones, for `warps` warps.
    pub fn new(size: u32, warps: u32) -> Self {
        let end = (SHARED_RESERVED + size) as usize;
        Self {
            bytes: vec![0; end],
            written: vec![false; end],
            stores: vec![Store::default(); end.div_ceil(GRANULE as usize)],
            fences: vec![0; warps as usize],
            touched: None,
        }
    }

    /// Keeps what the async proxy touches from now on.
    pub fn watch(&mut self) {
        self.touched = Some(RefCell::default());
    }

    /// What the async proxy touched since the last call.
    pub fn take_touched(&mut self) -> Vec<(u32, u32, bool)> {
        self.touched.as_mut().map_or(Vec::new(), |touched| std::mem::take(touched.get_mut()))
    }

    fn touch(&self, offset: u32, bytes: u32, writes: bool) {
        let Some(touched) = &self.touched else { return };
        let mut touched = touched.borrow_mut();
        match touched.last_mut() {
            Some((first, count, wrote)) if *first + *count == offset && *wrote == writes => {
                *count += bytes;
            }
            _ => touched.push((offset, bytes, writes)),
        }
    }

    /// End of the memory, as an offset.
    pub fn end(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn range(&self, offset: u32, bytes: u32) -> Result<std::ops::Range<usize>> {
        let end = u64::from(offset) + u64::from(bytes);
        if offset < SHARED_RESERVED || end > self.bytes.len() as u64 {
            return Err(Fault::new(
                FaultKind::OutOfBounds,
                format!(
                    "{bytes} bytes of shared memory at {offset:#x}; it is {SHARED_RESERVED:#x}..{:#x}",
                    self.bytes.len()
                ),
            ));
        }
        Ok(offset as usize..end as usize)
    }

    /// Bytes to read. Bytes that nobody wrote, or that the proxy cannot see yet, are a fault.
    pub fn read(&self, offset: u32, bytes: u32, proxy: Proxy) -> Result<&[u8]> {
        let range = self.range(offset, bytes)?;
        if let Some(at) = self.written[range.clone()].iter().position(|written| !written) {
            return Err(Fault::new(
                FaultKind::Uninitialised,
                format!("shared memory at {:#x} was never written", offset as usize + at),
            ));
        }
        if proxy == Proxy::Async && bytes > 0 {
            self.touch(offset, bytes, false);
            for granule in offset / GRANULE..=(offset + bytes - 1) / GRANULE {
                let store = self.stores[granule as usize];
                if store.writer != 0 && self.fences[store.writer as usize - 1] == store.fences {
                    return Err(Fault::new(
                        FaultKind::ProxyFence,
                        format!(
                            "the async proxy reads shared memory at {:#x}, which warp {} wrote without \
                             fence.proxy.async after it",
                            granule * GRANULE,
                            store.writer - 1
                        ),
                    ));
                }
            }
        }
        Ok(&self.bytes[range])
    }

    /// Without any check but the bounds: for dumps and for what only moves bytes.
    pub fn peek(&self, offset: u32, bytes: u32) -> Result<&[u8]> {
        Ok(&self.bytes[self.range(offset, bytes)?])
    }

    /// An ordinary store by a warp of this thread block; `None` for one of another.
    pub fn store(&mut self, offset: u32, from: &[u8], warp: Option<u32>) -> Result<()> {
        let range = self.range(offset, from.len() as u32)?;
        self.bytes[range.clone()].copy_from_slice(from);
        self.written[range].fill(true);
        if let Some(warp) = warp {
            let fences = self.fences.get(warp as usize).copied().unwrap_or(0);
            for granule in offset / GRANULE..=(offset + from.len().max(1) as u32 - 1) / GRANULE {
                self.stores[granule as usize] = Store { writer: warp + 1, fences };
            }
        }
        Ok(())
    }

    /// A store by the async proxy.
    pub fn store_async(&mut self, offset: u32, from: &[u8]) -> Result<()> {
        let range = self.range(offset, from.len() as u32)?;
        self.touch(offset, from.len() as u32, true);
        self.bytes[range.clone()].copy_from_slice(from);
        self.written[range].fill(true);
        for granule in offset / GRANULE..=(offset + from.len().max(1) as u32 - 1) / GRANULE {
            self.stores[granule as usize] = Store::default();
        }
        Ok(())
    }

    /// `fence.proxy.async` by a warp.
    pub fn fence(&mut self, warp: u32) {
        if let Some(fences) = self.fences.get_mut(warp as usize) {
            *fences += 1;
        }
    }
}
