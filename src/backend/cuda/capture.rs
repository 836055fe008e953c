//! What a capture uses, so that the graph can keep it alive.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::buffer::Owner;

/// Shared by the streams that take part in one capture, and by the events that tie them.
#[derive(Default)]
pub(super) struct CaptureLog {
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

    pub fn is_open(&self) -> bool {
        lock(&self.owners).is_some()
    }

    /// Ends it and gives what was noted.
    pub fn close(&self) -> Vec<Owner> {
        lock(&self.owners).take().unwrap_or_default()
    }
}

/// A panic of another thread leaves nothing half-done under this crate's locks.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
