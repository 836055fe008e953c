//! Streams: queues of work of one device, in order.

use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;

use crate::cuda::ffi::call::{check, forget_last_error};
use crate::cuda::ffi::sys::cudart;
use crate::cuda::rt::capture::{CaptureLog, Relaxed, Slot, lock, slot_of, slot_of_new};
use crate::cuda::rt::device::{Current, Device};
use crate::cuda::rt::event::Event;
use crate::cuda::rt::lent;
use crate::cuda::rt::memory::Owner;
use crate::error::{CudaError, Error, Result};

/// cudaStreamPerThread
const PER_THREAD: usize = 2;

/// A queue of work on one device, and an argument of everything that queues work. It is never the default stream,
/// unless it is borrowed.
///
/// Several threads may queue work on it. Dropping it does not wait: what is queued still runs, on memory that
/// `cudaFree` keeps until then. Clones are the same stream.
#[derive(Clone)]
pub struct Stream(Arc<Inner>);

struct Inner {
    handle: usize,
    device: Device,
    slot: Arc<Slot>,
    /// Set for a borrowed stream.
    foreign: Option<Owner>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("handle", &format_args!("{:#x}", self.0.handle))
            .field("device", &self.device().ordinal())
            .field("borrowed", &self.is_foreign())
            .finish_non_exhaustive()
    }
}

/// What CUDA says of a stream.
#[derive(PartialEq)]
enum Captured {
    No,
    Yes,
    /// The legacy default stream, while another that it orders itself with is captured: any work on it would fail, and
    /// spoil that capture.
    Implicitly,
}

impl Stream {
    /// A stream that does not synchronize with the default stream.
    ///
    /// # Errors
    /// [`CudaError::Call`].
    pub fn new(device: &Device) -> Result<Self> {
        Self::with_priority(device, 0)
    }

    /// Lower numbers come first: 0 is the least priority, and [`Stream::greatest_priority`] the greatest. Others are
    /// clamped to that range.
    ///
    /// # Errors
    /// [`CudaError::Call`].
    pub fn with_priority(device: &Device, priority: i32) -> Result<Self> {
        let _current = Current::enter(device)?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: writes one handle.
        check("cudaStreamCreateWithPriority", unsafe {
            cudart::cudaStreamCreateWithPriority(
                &mut handle,
                cudart::cudaStreamNonBlocking,
                priority,
            )
        })?;
        let handle = handle as usize;
        let slot = slot_of_new(device.ordinal(), handle);
        Ok(Stream(Arc::new(Inner { handle, device: device.clone(), slot, foreign: None })))
    }

    /// The number of the greatest priority: 0 where the device has none.
    ///
    /// # Errors
    /// [`CudaError::Call`].
    pub fn greatest_priority(device: &Device) -> Result<i32> {
        let _current = Current::enter(device)?;
        let (mut least, mut greatest) = (0, 0);
        // SAFETY: writes two ints.
        check("cudaDeviceGetStreamPriorityRange", unsafe {
            cudart::cudaDeviceGetStreamPriorityRange(&mut least, &mut greatest)
        })?;
        Ok(greatest)
    }

    /// Borrows a `cudaStream_t` (a `CUstream` of the device's primary context) of another library. `owner` is kept
    /// as long as the stream. 0 and 1 are the legacy default stream, as in programs that are compiled without
    /// `--default-stream per-thread`.
    ///
    /// # Safety
    /// The handle must be a stream of `device` that lives as long as `owner`. Whoever captures it other than by
    /// [`Graph::capture`](crate::cuda::Graph::capture) must not begin *and* end the capture while another thread queues work
    /// of this crate on it, nor end one that [`Graph::capture`](crate::cuda::Graph::capture) began: their graph would hold
    /// that work, but not its memory. (Where they only begin one during a call, the call notices.)
    ///
    /// # Errors
    /// [`CudaError::Refused`] for handle 2, `cudaStreamPerThread`: it means another stream on each thread, while a
    /// [`Stream`] is one queue, whatever thread uses it.
    pub unsafe fn from_raw(handle: *mut c_void, device: &Device, owner: Owner) -> Result<Self> {
        let handle = handle as usize;
        if handle == PER_THREAD {
            let reason = "stream: handle 2 (cudaStreamPerThread) is another stream on each thread; \
                          a stream of its own, or the default stream, can be borrowed";
            return Err(Error::Cuda(CudaError::Refused { reason: reason.to_owned() }));
        }
        let slot = slot_of(device.ordinal(), handle);
        Ok(Stream(Arc::new(Inner { handle, device: device.clone(), slot, foreign: Some(owner) })))
    }

    /// The device that the work runs on.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// The `cudaStream_t`, for other libraries. It is valid as long as the stream. For them to capture it, borrow it
    /// back by [`Stream::from_raw`], and queue this crate's work by what that gives.
    pub fn as_ptr(&self) -> *mut c_void {
        self.0.handle as *mut c_void
    }

    pub(in crate::cuda) fn raw(&self) -> cudart::cudaStream_t {
        self.0.handle as cudart::cudaStream_t
    }

    /// Whether both are the same stream of CUDA.
    pub(in crate::cuda) fn is(&self, other: &Stream) -> bool {
        Arc::ptr_eq(&self.0.slot, &other.0.slot)
    }

    pub(in crate::cuda) fn is_foreign(&self) -> bool {
        self.0.foreign.is_some()
    }

    /// Waits until all that is queued has run.
    ///
    /// # Errors
    /// [`CudaError::Capture`] inside of a capture; [`CudaError::Call`], also for earlier work that failed.
    pub fn synchronize(&self) -> Result<()> {
        self.run_to_end("waiting for a stream", |_| Ok(()))
    }

    /// Work queued from now on waits for `event`. Inside of a capture that recorded the event, the stream joins
    /// the capture.
    ///
    /// # Errors
    /// [`CudaError::Capture`] when somebody else captures the stream; [`CudaError::Call`].
    pub fn wait(&self, event: &Event) -> Result<()> {
        let _current = Current::enter(self.device())?;
        let mut capture = lock(&self.0.slot);
        // Locked until the stream waits: recorded in another capture meanwhile, the event would bring the stream into
        // that one, and what it uses would be noted in this one.
        let recorded_in = event.capture();
        let recorded_in = &*recorded_in;
        let joins = recorded_in.as_ref().filter(|log| log.is_open());
        if joins.is_none() {
            self.joined(&mut capture, &[])?;
        }
        // SAFETY: the stream lives. An event of another device is allowed here.
        unsafe { event.hold_up(self.raw()) }?;
        if let Some(log) = joins {
            *capture = Some(log.clone());
        }
        Ok(())
    }

    /// Queues `work`, which uses what `owners` own, and notes these where the stream is being captured.
    ///
    /// # Errors
    /// [`CudaError::Capture`] when somebody else captures the stream: their graph would not keep our memory.
    pub(in crate::cuda) fn enqueue(
        &self,
        owners: &[Owner],
        work: impl FnOnce(cudart::cudaStream_t) -> Result<()>,
    ) -> Result<()> {
        let _current = Current::enter(self.device())?;
        let mut capture = lock(&self.0.slot);
        match self.joined(&mut capture, owners)? {
            // On a stream that joined by an event, another thread may end the capture just now.
            Some(log) => log.while_open(|| work(self.raw())).unwrap_or_else(|| {
                let reason =
                    "the capture of the stream ended while work was queued on it".to_owned();
                Err(Error::Cuda(CudaError::Capture { reason }))
            }),
            None => self.queue(owners, work),
        }
    }

    /// Queues `work`, which no capture takes.
    pub(in crate::cuda) fn enqueue_outside_capture(
        &self,
        what: &'static str,
        owners: &[Owner],
        work: impl FnOnce(cudart::cudaStream_t) -> Result<()>,
    ) -> Result<()> {
        let _current = Current::enter(self.device())?;
        let mut capture = lock(&self.0.slot);
        if self.joined(&mut capture, &[])?.is_some() {
            return Err(Error::Cuda(CudaError::Capture {
                reason: format!("{what} cannot be captured"),
            }));
        }
        self.queue(owners, work)
    }

    /// Queues `work` on a stream that was not captured a moment ago. Its slot is locked.
    fn queue(
        &self,
        owners: &[Owner],
        work: impl FnOnce(cudart::cudaStream_t) -> Result<()>,
    ) -> Result<()> {
        lent::note_uses(owners, self)?;
        let outcome = work(self.raw());
        if !self.is_foreign() {
            return outcome; // only this crate captures it, and it has the slot
        }
        // Somebody else may have begun to capture it since the look: their graph has the work, and keeps nothing alive.
        let captured = self.captured();
        if matches!(captured, Ok(Captured::No | Captured::Implicitly)) {
            return outcome;
        }
        std::mem::forget(owners.to_vec());
        captured?;
        outcome?;
        let reason = "somebody else began to capture the stream while work was queued on it; their graph has the work, \
                      so what it uses is never freed";
        Err(Error::Cuda(CudaError::Capture { reason: reason.to_owned() }))
    }

    /// Records `event` here, outside of captures.
    pub(in crate::cuda) fn mark(&self, what: &'static str, event: &Event) -> Result<()> {
        // SAFETY: the stream lives.
        self.enqueue_outside_capture(what, &[], |raw| unsafe { event.record_raw(raw) })
    }

    /// Queues `work`, which uses memory of the host, and waits for it, even when it failed.
    pub(in crate::cuda) fn with_host_memory(
        &self,
        what: &'static str,
        owners: &[Owner],
        work: impl FnOnce(cudart::cudaStream_t) -> Result<()>,
    ) -> Result<()> {
        if !self.is_foreign() {
            return self.run_to_end(what, |raw| {
                lent::hold_until_ready(owners, self)?;
                work(raw)
            });
        }
        // A graph that somebody else begins to capture just now would keep the address of the host's memory. A stream
        // that only this function knows is in no graph of theirs: if it joins their capture by the event, that is
        // seen before any work, and with the end of the stream their capture fails.
        let private = Stream::new(self.device())?;
        let here = Event::untimed(self.device())?;
        self.mark(what, &here)?;
        private.wait(&here)?;
        private.with_host_memory(what, owners, work)
    }

    /// Queues `work` outside of captures and waits for it, even when it failed.
    fn run_to_end(
        &self,
        what: &'static str,
        work: impl FnOnce(cudart::cudaStream_t) -> Result<()>,
    ) -> Result<()> {
        // It is for an event that this waits: a capture of the stream that begins meanwhile does not matter to it, so
        // the stream is not locked while it waits. Nor do captures of other threads.
        let _relaxed = Relaxed::enter();
        let done = Event::untimed(self.device())?;
        let mut outcome = Ok(());
        let queued = self.enqueue_outside_capture(what, &[], |raw| {
            outcome = work(raw);
            // SAFETY: the stream lives.
            unsafe { done.record_raw(raw) }.inspect_err(|_| {
                // What was queued must not run on: wait for it as well as can be.
                // SAFETY: as above.
                if unsafe { cudart::cudaStreamSynchronize(raw) } != cudart::cudaSuccess {
                    forget_last_error();
                }
            })
        });
        if queued.is_err() {
            return outcome.and(queued);
        }
        done.synchronize()?;
        outcome
    }

    /// The capture of this crate that the stream is in now; `owners` are noted in it.
    ///
    /// # Errors
    /// [`CudaError::Capture`] when it is in another.
    pub(in crate::cuda) fn joined(
        &self,
        capture: &mut Option<Arc<CaptureLog>>,
        owners: &[Owner],
    ) -> Result<Option<Arc<CaptureLog>>> {
        let captured = self.captured()?;
        if let Some(log) = capture.as_ref().filter(|log| log.is_open()) {
            if captured != Captured::Yes {
                // Work would run now, and not be known to run.
                let reason = "the capture of the stream was ended, but not by Graph::capture, which began it";
                return Err(Error::Cuda(CudaError::Capture { reason: reason.to_owned() }));
            }
            if log.note(owners) {
                return Ok(Some(log.clone()));
            }
        }
        *capture = None;
        let reason = match captured {
            Captured::No => return Ok(None),
            Captured::Yes => {
                "the stream is being captured, but not by Graph::capture, whose graph keeps the memory of what it \
                 replays alive; BoundPlan::launch_unchecked and Quantizer::quantize_unchecked leave that to the caller"
            }
            Captured::Implicitly => {
                "the stream is the legacy default one, and another that it orders itself with is being captured"
            }
        };
        Err(Error::Cuda(CudaError::Capture { reason: reason.to_owned() }))
    }

    fn captured(&self) -> Result<Captured> {
        let mut status = cudart::cudaStreamCaptureStatusNone;
        // SAFETY: the handle is a live stream; writes one enumerator.
        let code = unsafe { cudart::cudaStreamIsCapturing(self.raw(), &mut status) };
        if code == cudart::cudaErrorStreamCaptureImplicit {
            forget_last_error();
            return Ok(Captured::Implicitly);
        }
        check("cudaStreamIsCapturing", code)?;
        let none = status == cudart::cudaStreamCaptureStatusNone;
        Ok(if none { Captured::No } else { Captured::Yes })
    }

    pub(in crate::cuda) fn capture_slot(&self) -> &Slot {
        &self.0.slot
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.foreign.is_none() {
            let handle = self.handle as cudart::cudaStream_t;
            // SAFETY: made by `with_priority`, destroyed once. CUDA keeps the queue until its work has run.
            if unsafe { cudart::cudaStreamDestroy(handle) } != cudart::cudaSuccess {
                forget_last_error();
            }
        }
    }
}
