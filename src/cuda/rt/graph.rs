//! CUDA graphs: work recorded once and launched as a whole.

use std::fmt;
use std::sync::{Arc, Mutex};

use crate::cuda::ffi::call::{check, forget_last_error};
use crate::cuda::ffi::sys::cudart;
use crate::cuda::rt::capture::{CaptureLog, lock};
use crate::cuda::rt::device::{Current, Device};
use crate::cuda::rt::memory::Owner;
use crate::cuda::rt::stream::Stream;
use crate::error::{CudaError, Error, Result};

/// Work that was recorded by [`Graph::capture`]. It holds everything that the work uses: operands, weights and
/// results may be dropped before the graph.
pub struct Graph {
    /// CUDA wants launches of one executable graph one after the other.
    executable: Mutex<Executable>,
    device: Device,
    used: Vec<Owner>,
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph").field("device", &self.device.ordinal()).finish_non_exhaustive()
    }
}

impl Graph {
    /// Records what `work` queues on `stream`, without running it.
    ///
    /// Streams that wait for an [`Event`](crate::cuda::Event) recorded inside take part, and `stream` must wait for
    /// them in the same way. During a capture the host cannot copy from or to these streams, wait for them, or
    /// allocate memory.
    ///
    /// # Errors
    /// That of `work`; [`CudaError::Capture`] when the stream is in a capture already; [`CudaError::Call`]. However
    /// it ends, also by a panic of `work`, the stream is out of the capture afterwards.
    pub fn capture(stream: &Stream, work: impl FnOnce(&Stream) -> Result<()>) -> Result<Self> {
        let recording = Recording::begin(stream)?;
        let outcome = work(stream);
        // Ended before the outcome is looked at.
        let (graph, used) = recording.end();
        outcome?;
        let graph = graph?;
        let _current = Current::enter(stream.device())?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: `graph` lives; writes one handle.
        check("cudaGraphInstantiate", unsafe {
            cudart::cudaGraphInstantiate(&mut handle, graph.0, 0)
        })?;
        Ok(Graph {
            executable: Mutex::new(Executable(handle as usize)),
            device: stream.device().clone(),
            used,
        })
    }

    /// Queues the whole graph.
    ///
    /// # Errors
    /// [`CudaError::WrongDevice`]; [`CudaError::Capture`] inside of a capture, where CUDA takes no executable graph;
    /// [`CudaError::Call`].
    pub fn launch(&self, stream: &Stream) -> Result<()> {
        self.device.require("graph", stream.device())?;
        let executable = lock(&self.executable);
        stream.enqueue_outside_capture("a launch of a graph", &self.used, |raw| {
            // SAFETY: both handles live; the memory of the nodes is held by `used`, and after a drop of the graph it
            // is freed only after the launch.
            check("cudaGraphLaunch", unsafe { cudart::cudaGraphLaunch(executable.raw(), raw) })
        })
    }
}

struct Executable(usize);

impl Executable {
    fn raw(&self) -> cudart::cudaGraphExec_t {
        self.0 as cudart::cudaGraphExec_t
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        // SAFETY: instantiated once, destroyed once. A launch in flight runs to its end.
        if unsafe { cudart::cudaGraphExecDestroy(self.raw()) } != cudart::cudaSuccess {
            forget_last_error();
        }
    }
}

struct Template(cudart::cudaGraph_t);

impl Drop for Template {
    fn drop(&mut self) {
        // SAFETY: the result of one capture, destroyed once.
        if unsafe { cudart::cudaGraphDestroy(self.0) } != cudart::cudaSuccess {
            forget_last_error();
        }
    }
}

/// A capture under way on this thread; dropping it ends it.
struct Recording<'a> {
    stream: &'a Stream,
    log: Arc<CaptureLog>,
    ended: bool,
}

impl<'a> Recording<'a> {
    fn begin(stream: &'a Stream) -> Result<Self> {
        let _current = Current::enter(stream.device())?;
        let mut slot = lock(stream.capture_slot());
        if stream.joined(&mut slot, &[])?.is_some() {
            let reason = "the stream is being captured already".to_owned();
            return Err(Error::Cuda(CudaError::Capture { reason }));
        }
        // Thread-local: what other threads allocate or wait for meanwhile does not spoil the capture; but a wait for
        // the whole device does (cudaDeviceSynchronize), in whatever thread.
        // SAFETY: the handle lives.
        check("cudaStreamBeginCapture", unsafe {
            cudart::cudaStreamBeginCapture(stream.raw(), cudart::cudaStreamCaptureModeThreadLocal)
        })?;
        let log = Arc::new(CaptureLog::open());
        *slot = Some(log.clone());
        Ok(Recording { stream, log, ended: false })
    }

    fn end(mut self) -> (Result<Template>, Vec<Owner>) {
        self.stop()
    }

    /// On the thread that began: `Recording` is not `Send`-able out of `Graph::capture`.
    fn stop(&mut self) -> (Result<Template>, Vec<Owner>) {
        self.ended = true;
        let mut slot = lock(self.stream.capture_slot());
        let (graph, used) = self.log.close(|| {
            Current::enter(self.stream.device()).and_then(|_current| {
                let mut graph = std::ptr::null_mut();
                // SAFETY: the handle lives; writes one handle, null after an error.
                let code = unsafe { cudart::cudaStreamEndCapture(self.stream.raw(), &mut graph) };
                check("cudaStreamEndCapture", code)?;
                Ok(Template(graph))
            })
        });
        *slot = None;
        if graph.is_err() && self.stream.is_foreign() {
            // Somebody else may have ended it, and have a graph of all that was noted: a leak harms nobody.
            std::mem::forget(used);
            return (graph, Vec::new());
        }
        (graph, used)
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.stop();
        }
    }
}
