//! What a capture uses, so that the graph can keep it alive, and which stream is in which capture.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::cuda::ffi::call::forget_last_error;
use crate::cuda::ffi::sys::cudart;
use crate::cuda::rt::memory::Owner;

/// Shared by the streams that take part in one capture, and by the events that tie them.
#[derive(Default)]
pub(in crate::cuda) struct CaptureLog {
    /// `None` once the capture has ended.
    owners: Mutex<Option<Vec<Owner>>>,
}

impl CaptureLog {
    pub fn open() -> Self {
        CaptureLog { owners: Mutex::new(Some(Vec::new())) }
    }

    /// Notes what an operation uses; false when the capture has ended.
    pub fn note(&self, used: &[Owner]) -> bool {
        match lock(&self.owners).as_mut() {
            Some(owners) => {
                owners.extend_from_slice(used);
                true
            }
            None => false,
        }
    }

    /// Queues work that is part of the capture, which does not end meanwhile; `None` when it has ended.
    pub fn while_open<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let owners = lock(&self.owners);
        owners.is_some().then(work)
    }

    pub fn is_open(&self) -> bool {
        lock(&self.owners).is_some()
    }

    /// Ends it by `end`, while no stream that takes part queues work, and gives what was noted.
    pub fn close<T>(&self, end: impl FnOnce() -> T) -> (T, Vec<Owner>) {
        let mut owners = lock(&self.owners);
        let outcome = end();
        (outcome, owners.take().unwrap_or_default())
    }
}

/// The capture that a stream takes part in. Locked while work is queued, so that none of this crate's captures begins on
/// the stream between the look at it and the work; that none ends is for [`CaptureLog::while_open`].
pub(in crate::cuda) type Slot = Mutex<Option<Arc<CaptureLog>>>;

/// Ordinal of the device, and handle.
type Key = (usize, usize);

/// The slots of all streams: several `Stream`s of one handle must share it.
static SLOTS: Mutex<BTreeMap<Key, Weak<Slot>>> = Mutex::new(BTreeMap::new());

/// That of a stream which other `Stream`s may be of, too.
pub(in crate::cuda) fn slot_of(device: usize, handle: usize) -> Arc<Slot> {
    // Both are the legacy default stream (cudaStreamLegacy).
    let key = (device, if handle == 1 { 0 } else { handle });
    let mut slots = lock(&SLOTS);
    let known = slots.get(&key).and_then(Weak::upgrade);
    known.unwrap_or_else(|| insert(&mut slots, key))
}

/// That of a stream just made: CUDA gives the handles of destroyed streams again.
pub(in crate::cuda) fn slot_of_new(device: usize, handle: usize) -> Arc<Slot> {
    insert(&mut lock(&SLOTS), (device, handle))
}

fn insert(slots: &mut BTreeMap<Key, Weak<Slot>>, key: Key) -> Arc<Slot> {
    slots.retain(|_, slot| slot.strong_count() > 0);
    let slot = Arc::default();
    slots.insert(key, Arc::downgrade(&slot));
    slot
}

/// While it lives, this thread may make calls that captures take for unsafe, such as waiting and freeing: it knows
/// that they are no part of what is captured. Otherwise they would fail and spoil a capture of this thread, or one of
/// any other thread that was begun in the global mode.
pub(in crate::cuda) struct Relaxed {
    /// `None` where CUDA refused.
    before: Option<cudart::cudaStreamCaptureMode>,
}

impl Relaxed {
    pub fn enter() -> Self {
        let mut mode = cudart::cudaStreamCaptureModeRelaxed;
        // SAFETY: swaps the thread's mode with `mode`.
        let code = unsafe { cudart::cudaThreadExchangeStreamCaptureMode(&mut mode) };
        if code != cudart::cudaSuccess {
            forget_last_error();
        }
        Relaxed { before: (code == cudart::cudaSuccess).then_some(mode) }
    }
}

impl Drop for Relaxed {
    fn drop(&mut self) {
        if let Some(mut mode) = self.before {
            // SAFETY: as in `enter`.
            unsafe { cudart::cudaThreadExchangeStreamCaptureMode(&mut mode) };
        }
    }
}

/// A panic of another thread leaves nothing half-done under this crate's locks.
pub(in crate::cuda) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Devices that no other test has: the slots are those of the process.
    const DEVICE: usize = usize::MAX;

    #[test]
    fn streams_of_one_handle_share_their_slot() {
        let (first, second) = (slot_of(DEVICE, 0x10), slot_of(DEVICE, 0x10));
        assert!(Arc::ptr_eq(&first, &second));
        for other in [slot_of(DEVICE, 0x20), slot_of(DEVICE - 1, 0x10)] {
            assert!(!Arc::ptr_eq(&first, &other));
        }
        assert!(Arc::ptr_eq(&slot_of(DEVICE, 0), &slot_of(DEVICE, 1)), "the legacy default stream");
    }

    /// A slot ends with its streams, and a new stream never gets that of a destroyed one.
    #[test]
    fn a_handle_that_is_given_again_has_a_new_slot() {
        let old = slot_of_new(DEVICE, 0x30);
        let log = Arc::new(CaptureLog::open());
        *lock(&old) = Some(log);
        let new = slot_of_new(DEVICE, 0x30);
        assert!(lock(&new).is_none());
        assert!(Arc::ptr_eq(&new, &slot_of(DEVICE, 0x30)));
        drop((old, new));
        assert!(lock(&slot_of(DEVICE, 0x30)).is_none());
    }

    #[test]
    fn a_log_takes_owners_until_it_is_closed() {
        let log = CaptureLog::open();
        let owner: Owner = Arc::new(1u8);
        assert!(log.note(std::slice::from_ref(&owner)) && log.is_open());
        assert_eq!(log.while_open(|| 1), Some(1));
        let ((), kept) = log.close(|| ());
        assert_eq!((kept.len(), Arc::strong_count(&owner)), (1, 2));
        assert!(!log.note(std::slice::from_ref(&owner)) && !log.is_open());
        assert_eq!(log.while_open(|| 1), None);
        drop(kept);
        assert_eq!(Arc::strong_count(&owner), 1);
    }
}
