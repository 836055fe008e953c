//! Events: points in the queue of a stream, to wait for and to measure between.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::cuda::ffi::call::{check, forget_last_error};
use crate::cuda::ffi::sys::cudart;
use crate::cuda::rt::capture::{CaptureLog, lock};
use crate::cuda::rt::device::{Current, Device};
use crate::cuda::rt::stream::Stream;
use crate::error::Result;

/// A point in the work of a stream.
pub struct Event {
    handle: usize,
    device: Device,
    /// The capture in which it was recorded last.
    capture: Mutex<Option<Arc<CaptureLog>>>,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("device", &self.device.ordinal()).finish_non_exhaustive()
    }
}

impl Event {
    /// An event that has not been recorded yet, and that can measure time.
    ///
    /// # Errors
    /// [`CudaError::Call`](crate::CudaError::Call).
    pub fn new(device: &Device) -> Result<Self> {
        Self::with_flags(device, cudart::cudaEventDefault)
    }

    /// One that orders only, which costs less.
    pub(in crate::cuda) fn untimed(device: &Device) -> Result<Self> {
        Self::with_flags(device, cudart::cudaEventDisableTiming)
    }

    fn with_flags(device: &Device, flags: u32) -> Result<Self> {
        let _current = Current::enter(device)?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: writes one handle.
        check("cudaEventCreateWithFlags", unsafe {
            cudart::cudaEventCreateWithFlags(&mut handle, flags)
        })?;
        Ok(Event { handle: handle as usize, device: device.clone(), capture: Mutex::new(None) })
    }

    /// Marks this point of `stream`, in place of the point that it marked before.
    ///
    /// # Errors
    /// [`CudaError::WrongDevice`](crate::CudaError::WrongDevice), [`CudaError::Call`](crate::CudaError::Call).
    pub fn record(&self, stream: &Stream) -> Result<()> {
        self.device.require("event", stream.device())?;
        let _current = Current::enter(&self.device)?;
        let mut of_stream = lock(stream.capture_slot());
        let log = stream.joined(&mut of_stream, &[])?;
        let mut capture = lock(&self.capture);
        // SAFETY: the stream lives and is of the event's device.
        unsafe { self.record_raw(stream.raw()) }?;
        *capture = log;
        Ok(())
    }

    /// Waits until the stream has come to the event.
    ///
    /// # Errors
    /// [`CudaError::Call`](crate::CudaError::Call), also for earlier work that failed.
    pub fn synchronize(&self) -> Result<()> {
        let _current = Current::enter(&self.device)?;
        // SAFETY: the handle lives.
        check("cudaEventSynchronize", unsafe { cudart::cudaEventSynchronize(self.raw()) })
    }

    /// Whether the stream has come to the event.
    ///
    /// # Errors
    /// As for [`Event::synchronize`].
    pub fn is_done(&self) -> Result<bool> {
        let _current = Current::enter(&self.device)?;
        // SAFETY: the handle lives.
        match unsafe { cudart::cudaEventQuery(self.raw()) } {
            cudart::cudaErrorNotReady => {
                forget_last_error();
                Ok(false)
            }
            code => check("cudaEventQuery", code).map(|()| true),
        }
    }

    /// Milliseconds from `self` to `end`, by the device's clock. Both must be done.
    ///
    /// # Errors
    /// [`CudaError::WrongDevice`](crate::CudaError::WrongDevice), [`CudaError::Call`](crate::CudaError::Call).
    pub fn elapsed_ms(&self, end: &Event) -> Result<f32> {
        end.device.require("event", &self.device)?;
        let _current = Current::enter(&self.device)?;
        let mut ms = 0.0;
        // SAFETY: both handles live; writes one float.
        check("cudaEventElapsedTime", unsafe {
            cudart::cudaEventElapsedTime(&mut ms, self.raw(), end.raw())
        })?;
        Ok(ms)
    }

    pub(in crate::cuda) fn raw(&self) -> cudart::cudaEvent_t {
        self.handle as cudart::cudaEvent_t
    }

    /// Marks this point of `stream`, without a look at captures.
    ///
    /// # Safety
    /// A live stream of the event's device.
    pub(in crate::cuda) unsafe fn record_raw(&self, stream: cudart::cudaStream_t) -> Result<()> {
        // SAFETY: the event lives, the stream by contract.
        check("cudaEventRecord", unsafe { cudart::cudaEventRecord(self.raw(), stream) })
    }

    /// Makes later work of `stream` wait for the event, without a look at captures.
    ///
    /// # Safety
    /// A live stream.
    pub(in crate::cuda) unsafe fn hold_up(&self, stream: cudart::cudaStream_t) -> Result<()> {
        // SAFETY: the event lives, the stream by contract.
        check("cudaStreamWaitEvent", unsafe { cudart::cudaStreamWaitEvent(stream, self.raw(), 0) })
    }

    /// The capture in which it was recorded last, which may have ended. Until the guard goes, it is recorded nowhere
    /// else.
    pub(in crate::cuda) fn capture(&self) -> MutexGuard<'_, Option<Arc<CaptureLog>>> {
        lock(&self.capture)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once. CUDA keeps what a stream still waits for.
        if unsafe { cudart::cudaEventDestroy(self.raw()) } != cudart::cudaSuccess {
            forget_last_error();
        }
    }
}
