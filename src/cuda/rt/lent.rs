//! Memory that another library frees in the order of a stream of its own, which knows nothing of ours.
//!
//! cudaFree waits for all work of the device; cudaFreeAsync for that of one stream. So a view of such memory notes the
//! streams that use it. When the last view goes, the owner's stream is made to wait for each of them, on the device:
//! the host waits for nothing.

use std::sync::{Arc, Mutex};

use crate::cuda::rt::capture::{Relaxed, lock};
use crate::cuda::rt::event::Event;
use crate::cuda::rt::memory::Owner;
use crate::cuda::rt::stream::Stream;
use crate::error::Result;

/// Owner of a view of such memory.
pub(in crate::cuda) struct Lent(Option<Loan>);

struct Loan {
    owner: Owner,
    /// The stream in whose order the owner frees.
    home: Stream,
    /// Marks the point of `home` from which on the memory may be used.
    ready: Event,
    /// Other streams that use the memory. Each has waited for `ready`.
    used_on: Mutex<Vec<Stream>>,
}

impl Lent {
    /// Memory that is ready as soon as `home` has come to this point.
    pub fn new(owner: Owner, home: &Stream) -> Result<Self> {
        let ready = Event::untimed(home.device())?;
        home.mark("the loan of memory", &ready)?;
        let used_on = Mutex::default();
        Ok(Lent(Some(Loan { owner, home: home.clone(), ready, used_on })))
    }
}

impl Loan {
    /// Before `stream` uses the memory, outside of captures.
    fn note(&self, stream: &Stream) -> Result<()> {
        if stream.is(&self.home) {
            return Ok(());
        }
        let mut used_on = lock(&self.used_on);
        if !used_on.iter().any(|known| known.is(stream)) {
            // SAFETY: the stream lives.
            unsafe { self.ready.hold_up(stream.raw()) }?;
            used_on.push(stream.clone());
        }
        Ok(())
    }

    /// Makes `home` wait for all that uses the memory.
    fn settle(&self) -> Result<()> {
        // Fails where somebody else captures `home`: the owner would free in their graph.
        self.home.enqueue_outside_capture("the return of memory", &[], |_| Ok(()))?;
        for stream in lock(&self.used_on).iter() {
            let done = Event::untimed(stream.device())?;
            stream.mark("the return of memory", &done)?;
            self.home.enqueue_outside_capture("the return of memory", &[], |raw| {
                // SAFETY: the stream lives.
                unsafe { done.hold_up(raw) }
            })?;
        }
        Ok(())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(loan) = self.0.take() else { return };
        // While one of the streams is in a capture, nothing can be queued that is no part of it: the graph keeps the
        // memory. Should the capture end just now, the loan is dropped here once more.
        let capturing = std::iter::once(&loan.home)
            .chain(lock(&loan.used_on).iter())
            .find_map(|stream| lock(stream.capture_slot()).clone().filter(|log| log.is_open()));
        if let Some(log) = capturing {
            log.note(&[Arc::new(Lent(Some(loan)))]);
            return;
        }
        // What the owner calls to free is no part of a capture of this thread.
        let _relaxed = Relaxed::enter();
        match loan.settle() {
            Ok(()) => drop(loan),
            // Somebody else captures one of the streams, or the device has failed: a leak harms nobody, while memory
            // that is given away under a kernel does.
            Err(_) => std::mem::forget(loan.owner),
        }
    }
}

/// Before `stream` uses what `owners` own, outside of captures.
pub(in crate::cuda) fn note_uses(owners: &[Owner], stream: &Stream) -> Result<()> {
    loans(owners).try_for_each(|loan| loan.note(stream))
}

/// Before work of `stream` that is waited for at once, so that it need not be known when the memory goes back.
pub(in crate::cuda) fn hold_until_ready(owners: &[Owner], stream: &Stream) -> Result<()> {
    for loan in loans(owners).filter(|loan| !stream.is(&loan.home)) {
        // SAFETY: the stream lives.
        unsafe { loan.ready.hold_up(stream.raw()) }?;
    }
    Ok(())
}

fn loans(owners: &[Owner]) -> impl Iterator<Item = &Loan> {
    owners.iter().filter_map(|owner| owner.downcast_ref::<Lent>()?.0.as_ref())
}

/// Whether the memory of `owner` is of this kind.
#[cfg(feature = "cudarc")]
pub(in crate::cuda) fn is_lent(owner: &Owner) -> bool {
    owner.is::<Lent>()
}
