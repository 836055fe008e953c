//! Device memory: allocations whose addresses are addresses of the host.
//!
//! An allocation is a slice of atomic words of 8 bytes, so that thread blocks on several threads of the host can share
//! it in safe Rust, and so that an aligned access of up to 8 bytes is one. Each byte has a bit that says whether it was
//! ever written.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::byte_set::ByteSet;
use super::dependence::{self, Access, Bytes};
use crate::fault::{Fault, FaultKind, Result};

/// Alignment of allocations, in bytes: that of cudaMalloc.
pub const ALIGNMENT: u64 = 256;

/// The number of the allocation that is made next.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// One piece of device memory.
#[derive(Debug)]
pub struct Allocation {
    address: u64,
    bytes: u64,
    /// First word of the allocation in `words`.
    skip: usize,
    words: Box<[AtomicU64]>,
    /// Bytes that were ever written.
    written: ByteSet,
    /// No other allocation has the same, not even a later one at the same address.
    id: u64,
    /// The host may write there at any time.
    shared_with_host: AtomicBool,
}

impl Allocation {
    fn new(bytes: u64) -> Option<Self> {
        let padded = usize::try_from(bytes.checked_add(2 * ALIGNMENT)?).ok()?;
        let words = zeroed(padded.div_ceil(8))?;
        let start = words.as_ptr() as u64;
        let address = start.next_multiple_of(ALIGNMENT);
        let written = ByteSet::new(bytes)?;
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let skip = ((address - start) / 8) as usize;
        let shared_with_host = AtomicBool::new(false);
        Some(Self { address, bytes, skip, words, written, id, shared_with_host })
    }

    /// First byte.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn word(&self, offset: u64) -> &AtomicU64 {
        &self.words[self.skip + (offset / 8) as usize]
    }

    /// Whether these bytes are all part of it.
    pub fn contains(&self, address: u64, bytes: u64) -> bool {
        address >= self.address
            && address.checked_add(bytes).is_some_and(|end| end <= self.address + self.bytes)
    }

    /// Reads bytes from an address. Bytes that nobody wrote are a fault if `checked`.
    pub fn read(&self, address: u64, into: &mut [u8], checked: bool) -> Result<()> {
        let offset = self.offset(address, into.len() as u64)?;
        self.note(Access::Read, offset, into.len() as u64)?;
        if checked && let Some(at) = self.written.first_missing(offset, into.len() as u64) {
            return Err(Fault::new(
                FaultKind::Uninitialised,
                format!(
                    "global memory at {:#x} was never written (byte {at} of an allocation of {})",
                    self.address + at,
                    self.bytes
                ),
            ));
        }
        self.copy(offset, into);
        Ok(())
    }

    /// What is there; no access of the program.
    fn copy(&self, offset: u64, into: &mut [u8]) {
        let load = |at: u64| self.word(at).load(Ordering::Acquire).to_le_bytes();
        let (head, rest) = into.split_at_mut(head(offset, into.len()));
        if !head.is_empty() {
            let from = (offset % 8) as usize;
            head.copy_from_slice(&load(offset)[from..from + head.len()]);
        }
        let mut at = offset + head.len() as u64;
        let mut words = rest.chunks_exact_mut(8);
        for word in &mut words {
            word.copy_from_slice(&load(at));
            at += 8;
        }
        let tail = words.into_remainder();
        if !tail.is_empty() {
            tail.copy_from_slice(&load(at)[..tail.len()]);
        }
    }

    /// Whether the host may write there without a call.
    pub fn is_shared_with_host(&self) -> bool {
        self.shared_with_host.load(Ordering::Relaxed)
    }

    /// Whether these bytes are there already; asking is no access of the program.
    pub fn holds(&self, address: u64, bytes: &[u8]) -> Result<bool> {
        let mut offset = self.offset(address, bytes.len() as u64)?;
        let mut chunk = [0; 64];
        for part in bytes.chunks(chunk.len()) {
            let there = &mut chunk[..part.len()];
            self.copy(offset, there);
            if there != part {
                return Ok(false);
            }
            offset += part.len() as u64;
        }
        Ok(true)
    }

    /// Writes bytes to an address.
    pub fn write(&self, address: u64, from: &[u8]) -> Result<()> {
        let offset = self.offset(address, from.len() as u64)?;
        self.note(Access::Write, offset, from.len() as u64)?;
        // First: whoever sees the bytes sees that they are written.
        self.written.insert(offset, from.len() as u64);
        let (head, rest) = from.split_at(head(offset, from.len()));
        self.write_part(offset, head);
        let mut at = offset + head.len() as u64;
        let (words, tail) = rest.as_chunks::<8>();
        for word in words {
            self.word(at).store(u64::from_le_bytes(*word), Ordering::Release);
            at += 8;
        }
        self.write_part(at, tail);
        Ok(())
    }

    /// Writes some bytes of one word.
    fn write_part(&self, offset: u64, from: &[u8]) {
        if from.is_empty() {
            return;
        }
        let first = (offset % 8) as usize;
        let (mut bytes, mut kept) = ([0; 8], [0xFF; 8]);
        bytes[first..first + from.len()].copy_from_slice(from);
        kept[first..first + from.len()].fill(0);
        let (value, kept) = (u64::from_le_bytes(bytes), u64::from_le_bytes(kept));
        // A neighbor of another thread block may share the word.
        exchange(self.word(offset), |old| old & kept | value);
    }

    /// An atomic operation on 2, 4 or 8 bytes that are aligned to their size; gives what was there.
    pub fn update(
        &self,
        address: u64,
        bytes: u32,
        mut change: impl FnMut(u64) -> u64,
    ) -> Result<u64> {
        let offset = self.offset(address, u64::from(bytes))?;
        if !address.is_multiple_of(u64::from(bytes.max(1))) {
            let message = format!("an atomic operation at {address:#x}, no multiple of {bytes}");
            return Err(Fault::new(FaultKind::Misaligned, message));
        }
        self.note(Access::Update, offset, u64::from(bytes))?;
        self.written.insert(offset, u64::from(bytes));
        let shift = 8 * (offset % 8);
        let mask = u64::MAX >> (64 - 8 * bytes.clamp(1, 8));
        let old = exchange(self.word(offset), |word| {
            word & !(mask << shift) | (change(word >> shift & mask) & mask) << shift
        });
        Ok(old >> shift & mask)
    }

    /// For the launches that run beside this one.
    fn note(&self, access: Access, offset: u64, bytes: u64) -> Result<()> {
        dependence::note(
            access,
            Bytes { id: self.id, all: self.bytes, address: self.address, offset, bytes },
        )
    }

    fn offset(&self, address: u64, bytes: u64) -> Result<u64> {
        if !self.contains(address, bytes) {
            return Err(outside(address, bytes, Some(self)));
        }
        Ok(address - self.address)
    }
}

/// Bytes before the first whole word.
fn head(offset: u64, bytes: usize) -> usize {
    ((8 - offset % 8) % 8).min(bytes as u64) as usize
}

fn outside(address: u64, bytes: u64, near: Option<&Allocation>) -> Fault {
    let near = near.map_or_else(
        || "there is no allocation below".to_owned(),
        |a| format!("the allocation below is {:#x}, {} bytes", a.address, a.bytes),
    );
    let message = format!("{bytes} bytes of global memory at {address:#x}: {near}");
    Fault::new(FaultKind::OutOfBounds, message)
}

/// Asks the host for zeroed memory, which it gives page by page when it is touched first: memory that a program
/// allocates and does not use costs nothing.
pub(super) fn zeroed<T: bytemuck::Zeroable>(words: usize) -> Option<Box<[T]>> {
    bytemuck::try_zeroed_slice_box(words).ok()
}

fn exchange(word: &AtomicU64, mut change: impl FnMut(u64) -> u64) -> u64 {
    let mut old = word.load(Ordering::Acquire);
    while let Err(now) =
        word.compare_exchange_weak(old, change(old), Ordering::AcqRel, Ordering::Acquire)
    {
        old = now;
    }
    old
}

/// The table of allocations.
#[derive(Debug, Default)]
pub struct GlobalMemory {
    allocations: RwLock<BTreeMap<u64, Arc<Allocation>>>,
    /// Held by atomic operations on 16 bytes.
    wide: Mutex<()>,
    /// Launches that run now.
    launches: AtomicUsize,
}

impl GlobalMemory {
    /// New memory that counts as never written; `None` when the host has not as much.
    pub fn allocate(&self, bytes: u64) -> Option<u64> {
        let allocation = Self::reserve(bytes)?;
        let address = allocation.address;
        self.publish(allocation);
        Some(address)
    }

    /// New memory that nothing can access until it is published.
    pub fn reserve(bytes: u64) -> Option<Arc<Allocation>> {
        Some(Arc::new(Allocation::new(bytes)?))
    }

    /// Lets memory be accessed.
    pub fn publish(&self, allocation: Arc<Allocation>) {
        let mut table = self.allocations.write().unwrap_or_else(PoisonError::into_inner);
        table.insert(allocation.address, allocation);
    }

    /// Gives an allocation back, by its first byte; false when there is none.
    pub fn free(&self, address: u64) -> bool {
        let mut table = self.allocations.write().unwrap_or_else(PoisonError::into_inner);
        table.remove(&address).is_some()
    }

    /// The host writes an allocation directly, by its first byte: all of it counts as written.
    pub fn share_with_host(&self, address: u64) {
        if let Some(allocation) = self.find(address) {
            allocation.shared_with_host.store(true, Ordering::Relaxed);
            allocation.written.insert(0, allocation.bytes);
        }
    }

    /// A launch begins that may change memory.
    pub fn begin_launch(&self) {
        self.launches.fetch_add(1, Ordering::AcqRel);
    }

    /// It has ended.
    pub fn end_launch(&self) {
        self.launches.fetch_sub(1, Ordering::AcqRel);
    }

    /// Launches that run now.
    pub fn launches(&self) -> usize {
        self.launches.load(Ordering::Acquire)
    }

    /// Bytes of all allocations.
    pub fn used(&self) -> u64 {
        let table = self.allocations.read().unwrap_or_else(PoisonError::into_inner);
        table.values().map(|allocation| allocation.bytes).sum()
    }

    /// The allocation that holds a byte.
    pub fn find(&self, address: u64) -> Option<Arc<Allocation>> {
        let table = self.allocations.read().unwrap_or_else(PoisonError::into_inner);
        let (_, allocation) = table.range(..=address).next_back()?;
        (address - allocation.address < allocation.bytes.max(1)).then(|| Arc::clone(allocation))
    }

    /// The allocation that holds these bytes.
    pub fn locate(&self, address: u64, bytes: u64) -> Result<Arc<Allocation>> {
        let table = self.allocations.read().unwrap_or_else(PoisonError::into_inner);
        let near = table.range(..=address).next_back().map(|(_, allocation)| allocation);
        match near {
            Some(allocation) if allocation.contains(address, bytes) => Ok(Arc::clone(allocation)),
            near => Err(outside(address, bytes, near.map(|allocation| &**allocation))),
        }
    }

    /// Reads bytes. Bytes that nobody wrote are a fault if `checked`.
    pub fn read(&self, address: u64, into: &mut [u8], checked: bool) -> Result<()> {
        self.locate(address, into.len() as u64)?.read(address, into, checked)
    }

    /// Writes bytes.
    pub fn write(&self, address: u64, from: &[u8]) -> Result<()> {
        self.locate(address, from.len() as u64)?.write(address, from)
    }

    /// Sets bytes.
    pub fn fill(&self, address: u64, value: u8, bytes: u64) -> Result<()> {
        const CHUNK: u64 = 1 << 16;
        let chunk = vec![value; bytes.min(CHUNK) as usize];
        let mut done = 0;
        while done < bytes {
            let count = CHUNK.min(bytes - done);
            self.write(address + done, &chunk[..count as usize])?;
            done += count;
        }
        Ok(())
    }

    /// An atomic operation on a word that is aligned to 4 bytes; gives what was there.
    pub fn update(&self, address: u64, mut change: impl FnMut(u32) -> u32) -> Result<u32> {
        let allocation = self.locate(address, 4)?;
        Ok(allocation.update(address, 4, |old| u64::from(change(old as u32)))? as u32)
    }

    /// An atomic operation on eight bytes that are aligned to 8; gives what was there.
    pub fn update_double(&self, address: u64, change: impl FnMut(u64) -> u64) -> Result<u64> {
        self.locate(address, 8)?.update(address, 8, change)
    }

    /// An atomic operation on 16 aligned bytes; gives what was there. It is atomic among its like.
    pub fn update_wide(&self, address: u64, change: impl FnOnce(u128) -> u128) -> Result<u128> {
        let allocation = self.locate(address, 16)?;
        let _alone = self.wide.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = [0; 16];
        allocation.read(address, &mut bytes, true)?;
        let old = u128::from_le_bytes(bytes);
        allocation.write(address, &change(old).to_le_bytes())?;
        Ok(old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_the_unwritten_are_named() -> Result<()> {
        let memory = GlobalMemory::default();
        let address = memory.allocate(100).unwrap_or(0);
        assert_eq!(address % ALIGNMENT, 0);
        memory.write(address + 3, &[1, 2, 3, 4, 5, 6])?;
        let mut bytes = [0; 6];
        memory.read(address + 3, &mut bytes, true)?;
        assert_eq!(bytes, [1, 2, 3, 4, 5, 6]);
        let kind = |result: Result<()>| result.err().map(|fault| fault.kind);
        let mut wide = [0; 8];
        assert_eq!(kind(memory.read(address + 2, &mut wide, true)), Some(FaultKind::Uninitialised));
        assert_eq!(kind(memory.read(address + 3, &mut wide, true)), Some(FaultKind::Uninitialised));
        memory.read(address + 3, &mut wide, false)?;
        assert_eq!(kind(memory.write(address + 96, &[0; 5])), Some(FaultKind::OutOfBounds));
        assert!(memory.free(address));
        assert_eq!(kind(memory.write(address, &[0])), Some(FaultKind::OutOfBounds));
        Ok(())
    }

    #[test]
    fn fill_and_update_mark_what_they_write() -> Result<()> {
        let memory = GlobalMemory::default();
        let address = memory.allocate(1 << 18).unwrap_or(0);
        memory.fill(address + 1, 7, (1 << 18) - 1)?;
        let mut last = [0; 2];
        memory.read(address + (1 << 18) - 2, &mut last, true)?;
        assert_eq!(last, [7, 7]);
        assert_eq!(memory.update(address + 4, |old| old + 1)?, 0x0707_0707);
        assert_eq!(memory.update(address + 4, |old| old)?, 0x0707_0708);
        Ok(())
    }
}
