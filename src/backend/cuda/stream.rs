//! Streams: queues of work of one device, in order.

use std::ffi::c_void;
use std::fmt;
use std::sync::{Arc, Mutex};

use super::buffer::Owner;
use super::call::{check, forget_last_error};
use super::capture::{CaptureLog, lock};
use super::device::{Current, Device};
use super::event::Event;
use super::sys::cudart;
use crate::error::{Error, Result};

/// A queue of work on one device; a required argument of everything that queues work. Never the default stream,
/// unless it is borrowed.
///
/// Several threads may queue work on it. Dropping it does not wait: what is queued still runs, on memory that
/// `cudaFree` keeps until then.
pub struct Stream {
    handle: usize,
    device: Device,
    /// The capture that the stream takes part in. Locked while work is queued, so that no capture begins or ends
    /// between the look at it and the work.
    capture: Mutex<Option<Arc<CaptureLog>>>,
    /// Set for a borrowed stream.
    foreign: Option<Owner>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("handle", &format_args!("{:#x}", self.handle))
            .field("device", &self.device.ordinal())
            .field("borrowed", &self.foreign.is_some())
            .finish_non_exhaustive()
    }
}

impl Stream {
    /// A stream that does not synchronise with the default stream.
    ///
    /// # Errors
    /// [`Error::CudaCall`].
    pub fn new(device: &Device) -> Result<Self> {
        Self::with_priority(device, 0)
    }

    /// Lower numbers come first: 0 is the least, [`Stream::greatest_priority`] the greatest. Others are brought
    /// into the range.
    ///
    /// # Errors
    /// [`Error::CudaCall`].
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
        Ok(Stream::of(handle, device, None))
    }

    /// The number of the greatest priority: 0 where the device has none.
    ///
    /// # Errors
    /// [`Error::CudaCall`].
    pub fn greatest_priority(device: &Device) -> Result<i32> {
        let _current = Current::enter(device)?;
        let (mut least, mut greatest) = (0, 0);
        // SAFETY: writes two ints.
        check("cudaDeviceGetStreamPriorityRange", unsafe {
            cudart::cudaDeviceGetStreamPriorityRange(&mut least, &mut greatest)
        })?;
        Ok(greatest)
    }

    /// Borrows a `cudaStream_t` (a `CUstream` of the device's primary context) of somebody else. `owner` is kept
    /// as long as the stream.
    ///
    /// # Safety
    /// The handle must be a stream of `device` that lives as long as `owner`. Whoever begins to capture it while another
    /// thread copies to or from host memory on it loses the capture.
    pub unsafe fn from_raw(handle: *mut c_void, device: &Device, owner: Owner) -> Self {
        Stream::of(handle.cast(), device, Some(owner))
    }

    fn of(handle: cudart::cudaStream_t, device: &Device, foreign: Option<Owner>) -> Self {
        let capture = Mutex::new(None);
        Stream { handle: handle as usize, device: device.clone(), capture, foreign }
    }

    /// The device that the work runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The `cudaStream_t`, for other libraries. It is valid as long as the stream.
    pub fn as_ptr(&self) -> *mut c_void {
        self.handle as *mut c_void
    }

    pub(super) fn raw(&self) -> cudart::cudaStream_t {
        self.handle as cudart::cudaStream_t
    }

    /// Waits until all that is queued has run.
    ///
    /// # Errors
    /// [`Error::CudaCapture`] inside of a capture; [`Error::CudaCall`], also for earlier work that failed.
    pub fn synchronize(&self) -> Result<()> {
        self.outside_capture("waiting for a stream", |_| Ok(()))
    }

    /// Work queued from now on waits for `event`. Inside of a capture that recorded the event, the stream joins
    /// the capture.
    ///
    /// # Errors
    /// [`Error::CudaCall`].
    pub fn wait(&self, event: &Event) -> Result<()> {
        let _current = Current::enter(&self.device)?;
        let mut capture = lock(&self.capture);
        let recorded_in = event.capture();
        if recorded_in.is_none() {
            self.joined(&mut capture, &[])?;
        }
        // SAFETY: both handles live. An event of another device is allowed here.
        check("cudaStreamWaitEvent", unsafe {
            cudart::cudaStreamWaitEvent(self.raw(), event.raw(), 0)
        })?;
        if recorded_in.is_some() {
            *capture = recorded_in;
        }
        Ok(())
    }

    /// Queues `work`, which uses what `owners` own, and notes these where the stream is being captured.
    ///
    /// # Errors
    /// [`Error::CudaCapture`] when somebody else captures the stream: their graph would not keep our memory.
    pub(super) fn enqueue(
        &self,
        owners: &[Owner],
        work: impl FnOnce(cudart::cudaStream_t) -> Result<()>,
    ) -> Result<()> {
        let _current = Current::enter(&self.device)?;
        let mut capture = lock(&self.capture);
        self.joined(&mut capture, owners)?;
        work(self.raw())
    }

    /// Queues `work`, which no capture takes.
    pub(super) fn enqueue_outside_capture(
        &self,
        what: &'static str,
        work: impl FnOnce(cudart::cudaStream_t) -> Result<()>,
    ) -> Result<()> {
        let _current = Current::enter(&self.device)?;
        let mut capture = lock(&self.capture);
        self.refuse_capture(&mut capture, what)?;
        work(self.raw())
    }

    /// Queues `work` and waits for the stream, even when `work` failed.
    pub(super) fn outside_capture(
        &self,
        what: &'static str,
        work: impl FnOnce(cudart::cudaStream_t) -> Result<()>,
    ) -> Result<()> {
        // Still locked while it waits: were a capture to begin now, the wait would fail and host memory be free while
        // it is copied.
        self.enqueue_outside_capture(what, |raw| {
            let outcome = work(raw);
            outcome.and(check("cudaStreamSynchronize", self.wait_out_captures()))
        })
    }

    /// Somebody else may have begun to capture a borrowed stream since the look at it. Waiting then fails, and makes
    /// their capture fail, too, so that no graph comes of it: it is tried until the capture has ended.
    fn wait_out_captures(&self) -> cudart::cudaError_t {
        loop {
            // SAFETY: the handle is a live stream.
            let code = unsafe { cudart::cudaStreamSynchronize(self.raw()) };
            let captured = matches!(
                code,
                cudart::cudaErrorStreamCaptureUnsupported
                    | cudart::cudaErrorStreamCaptureInvalidated
            );
            if self.foreign.is_none() || !captured {
                return code;
            }
            forget_last_error();
            std::thread::yield_now();
        }
    }

    fn refuse_capture(&self, capture: &mut Option<Arc<CaptureLog>>, what: &str) -> Result<()> {
        if self.joined(capture, &[])?.is_some() {
            return Err(Error::CudaCapture { reason: format!("{what} cannot be captured") });
        }
        Ok(())
    }

    /// The capture that the stream is in now; `owners` are noted in it.
    pub(super) fn joined(
        &self,
        capture: &mut Option<Arc<CaptureLog>>,
        owners: &[Owner],
    ) -> Result<Option<Arc<CaptureLog>>> {
        if let Some(log) = capture.as_ref().filter(|log| log.note(owners)) {
            return Ok(Some(log.clone()));
        }
        *capture = None;
        if self.is_captured_by_others()? {
            return Err(Error::CudaCapture {
                reason: "the stream is being captured, but not by Graph::capture, whose graph keeps the memory of \
                         what it replays alive; DualGemm::launch_unchecked leaves that to the caller"
                    .to_owned(),
            });
        }
        Ok(None)
    }

    fn is_captured_by_others(&self) -> Result<bool> {
        let mut status = cudart::cudaStreamCaptureStatusNone;
        // SAFETY: the handle is a live stream; writes one enumerator.
        let code = unsafe { cudart::cudaStreamIsCapturing(self.raw(), &mut status) };
        if code == cudart::cudaErrorStreamCaptureImplicit {
            // The legacy default stream, while another stream of the context is in capture: not captured itself.
            forget_last_error();
            return Ok(false);
        }
        check("cudaStreamIsCapturing", code)?;
        Ok(status != cudart::cudaStreamCaptureStatusNone)
    }

    pub(super) fn capture_slot(&self) -> &Mutex<Option<Arc<CaptureLog>>> {
        &self.capture
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.foreign.is_none() {
            // SAFETY: made by `with_priority`, destroyed once. CUDA keeps the queue until its work has run.
            if unsafe { cudart::cudaStreamDestroy(self.raw()) } != cudart::cudaSuccess {
                forget_last_error();
            }
        }
    }
}
