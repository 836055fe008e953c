//! Buffers that are used again by the next call.

use std::any::Any;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Buffers of any type that nobody uses just now: as many of a type as were in use at once. Shared by all layers of an
/// engine.
#[derive(Default)]
pub(crate) struct Scratch {
    free: Mutex<Vec<Free>>,
}

struct Free {
    buffer: Box<dyn Any + Send>,
    /// The thread of rayon's pool that gave it back, whose cache it may still be in.
    thread: Option<usize>,
}

impl Scratch {
    /// A buffer that was given back, best by this thread, or a new one. It holds whatever its last user left.
    pub fn take<T: Any + Send + Default>(&self) -> Taken<'_, T> {
        let thread = rayon::current_thread_index();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let own = |free: &Free| free.buffer.is::<T>() && free.thread == thread;
        let found = free
            .iter()
            .rposition(own)
            .or_else(|| free.iter().position(|free| free.buffer.is::<T>()));
        let buffer = found.and_then(|i| free.swap_remove(i).buffer.downcast::<T>().ok());
        Taken { buffer: ManuallyDrop::new(buffer.unwrap_or_default()), scratch: self }
    }
}

/// A buffer in use; given back when it is dropped.
pub(crate) struct Taken<'a, T: Any + Send> {
    buffer: ManuallyDrop<Box<T>>,
    scratch: &'a Scratch,
}

impl<T: Any + Send> Deref for Taken<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.buffer
    }
}

impl<T: Any + Send> DerefMut for Taken<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.buffer
    }
}

impl<T: Any + Send> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        // SAFETY: the buffer is not used after this.
        let buffer = unsafe { ManuallyDrop::take(&mut self.buffer) };
        let free = Free { buffer, thread: rayon::current_thread_index() };
        self.scratch.free.lock().unwrap_or_else(PoisonError::into_inner).push(free);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_back_is_used_again() {
        let scratch = Scratch::default();
        let mut bytes = scratch.take::<Vec<u8>>();
        bytes.resize(1000, 7);
        let first = bytes.as_ptr();
        let other = scratch.take::<Vec<u8>>();
        assert!(other.is_empty(), "the first one is in use");
        drop((bytes, other));
        assert!(scratch.take::<Vec<u32>>().is_empty(), "of another type");
        let again = [scratch.take::<Vec<u8>>(), scratch.take::<Vec<u8>>()];
        assert!(again.iter().any(|bytes| bytes.as_ptr() == first && bytes.len() == 1000));
    }
}
