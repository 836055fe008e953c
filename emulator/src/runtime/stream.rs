//! Streams, events, captures and graphs: who may queue what, and what a capture makes of it. What is queued then is
//! `queue`'s.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use super::code::Code;
use super::queue::{Place, Point};
use super::refusal::{Outcome, Refusal};
use super::work::{Recorded, Work};

/// A stream of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamKey {
    /// The legacy default stream, handles 0 and 1.
    Legacy,
    /// Any other, by handle; each thread's own default stream is one of these.
    Numbered(u64),
}

/// What a stream is.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// cudaStreamNonBlocking: does not order itself with the legacy stream.
    pub non_blocking: bool,
    /// Smaller comes first.
    pub priority: i32,
    /// The capture that it takes part in, and the nodes that its next work depends on.
    pub capture: Option<(u64, BTreeSet<usize>)>,
}

/// What an event is.
#[derive(Clone, Debug)]
pub struct Event {
    /// Not cudaEventDisableTiming.
    pub timing: bool,
    /// Where it was recorded last.
    pub state: EventState,
}

/// Where an event was recorded last.
#[derive(Clone, Debug)]
pub enum EventState {
    /// Nowhere.
    Never,
    /// In a stream.
    Recorded {
        /// The place of the event in the order of work.
        point: Point,
        /// When that was reached.
        time: Recorded,
    },
    /// In a capture, after these nodes.
    Captured(u64, BTreeSet<usize>),
}

/// cudaStreamCaptureMode
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// 0
    Global,
    /// 1
    ThreadLocal,
    /// 2
    Relaxed,
}

impl Mode {
    /// From the number.
    pub fn new(mode: u32) -> Outcome<Self> {
        match mode {
            0 => Ok(Self::Global),
            1 => Ok(Self::ThreadLocal),
            2 => Ok(Self::Relaxed),
            _ => Err(Code::INVALID_VALUE.into()),
        }
    }
}

/// A node of a graph.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it does.
    pub work: Work,
    /// Nodes before it; all have smaller numbers.
    pub after: BTreeSet<usize>,
}

/// A capture that has not ended.
#[derive(Debug)]
struct Capture {
    origin: u64,
    mode: Mode,
    thread: ThreadId,
    nodes: Vec<Node>,
    invalid: bool,
}

/// Handles and what they stand for. No two handles are equal, whatever they stand for.
#[derive(Debug)]
pub struct Streams {
    next: u64,
    streams: HashMap<u64, Stream>,
    events: HashMap<u64, Event>,
    captures: HashMap<u64, Capture>,
    graphs: HashMap<u64, Vec<Node>>,
    executables: HashMap<u64, Arc<Executable>>,
}

/// A graph that can be launched.
#[derive(Debug, Default)]
pub struct Executable {
    /// What it does.
    pub nodes: Vec<Node>,
    /// The end of its last launch: one comes after the other, in whatever streams.
    pub last: Mutex<Option<Point>>,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            next: FIRST_HANDLE,
            streams: HashMap::new(),
            events: HashMap::new(),
            captures: HashMap::new(),
            graphs: HashMap::new(),
            executables: HashMap::new(),
        }
    }
}

/// Far from the special handles and from any address.
const FIRST_HANDLE: u64 = 0x1000;

fn unknown() -> Refusal {
    Code::INVALID_RESOURCE_HANDLE.into()
}

impl Streams {
    /// After cudaDeviceReset no handle means anything any more; none is given again.
    pub fn clear(&mut self) {
        *self = Self { next: self.next, ..Self::default() };
    }

    /// Whether a stream of this handle is there.
    pub fn has(&self, handle: u64) -> bool {
        self.streams.contains_key(&handle)
    }

    fn handle(&mut self) -> u64 {
        self.next += 0x10;
        self.next
    }

    /// A new stream.
    pub fn create(&mut self, non_blocking: bool, priority: i32) -> u64 {
        let handle = self.handle();
        self.streams.insert(handle, Stream { non_blocking, priority, capture: None });
        handle
    }

    /// cudaStreamDestroy. A capture that the stream took part in can only fail from then on.
    pub fn destroy(&mut self, handle: u64) -> Outcome {
        let stream = self.streams.remove(&handle).ok_or_else(unknown)?;
        if let Some((id, _)) = stream.capture {
            self.invalidate(id);
            if self.captures.get(&id).is_some_and(|capture| capture.origin == handle) {
                self.leave(id);
                self.captures.remove(&id);
            }
        }
        Ok(())
    }

    /// By handle.
    pub fn stream(&self, key: StreamKey) -> Outcome<Stream> {
        match key {
            StreamKey::Legacy => Ok(Stream::default()),
            StreamKey::Numbered(handle) => self.streams.get(&handle).cloned().ok_or_else(unknown),
        }
    }

    /// Where work is queued in a stream.
    pub fn place(&self, stream: StreamKey) -> Outcome<Place> {
        Ok(Place { stream, is_non_blocking: self.stream(stream)?.non_blocking })
    }

    fn invalidate(&mut self, id: u64) {
        if let Some(capture) = self.captures.get_mut(&id) {
            capture.invalid = true;
        }
    }

    fn leave(&mut self, id: u64) {
        for stream in self.streams.values_mut() {
            if stream.capture.as_ref().is_some_and(|(of, _)| *of == id) {
                stream.capture = None;
            }
        }
    }

    /// Captures that a stream which orders itself with the legacy stream takes part in.
    fn blocking_captures(&self) -> Vec<u64> {
        let blocking = self.streams.values().filter(|stream| !stream.non_blocking);
        blocking.filter_map(|stream| stream.capture.as_ref().map(|(id, _)| *id)).collect()
    }

    /// Fails where the legacy stream cannot be used, as it would depend on captured work.
    pub fn check_legacy(&mut self) -> Outcome {
        let captures = self.blocking_captures();
        for id in &captures {
            self.invalidate(*id);
        }
        if captures.is_empty() { Ok(()) } else { Err(Code::STREAM_CAPTURE_IMPLICIT.into()) }
    }

    /// Fails where this thread must not make calls that may be unsafe in a capture
    /// (cudaThreadExchangeStreamCaptureMode says when).
    pub fn check_unsafe(&mut self, mode: Mode, thread: ThreadId) -> Outcome {
        if mode == Mode::Relaxed {
            return Ok(());
        }
        let mut hit = false;
        for capture in self.captures.values_mut() {
            let own = capture.thread == thread && capture.mode != Mode::Relaxed;
            let others =
                mode == Mode::Global && capture.thread != thread && capture.mode == Mode::Global;
            if own || others {
                capture.invalid = true;
                hit = true;
            }
        }
        if hit { Err(Code::STREAM_CAPTURE_UNSUPPORTED.into()) } else { Ok(()) }
    }

    /// Fails, and invalidates, where anything is captured: for what waits for the whole device.
    pub fn check_no_capture(&mut self) -> Outcome {
        let mut hit = false;
        for capture in self.captures.values_mut() {
            capture.invalid = true;
            hit = true;
        }
        if hit { Err(Code::STREAM_CAPTURE_UNSUPPORTED.into()) } else { Ok(()) }
    }

    /// Fails, and invalidates, where the stream is captured: for what a capture does not take.
    pub fn check_not_captured(&mut self, key: StreamKey) -> Outcome {
        let stream = self.stream(key)?;
        if key == StreamKey::Legacy {
            return self.check_legacy();
        }
        let Some((id, _)) = stream.capture else { return Ok(()) };
        if self.captures.get(&id).is_some_and(|capture| capture.invalid) {
            return Err(Code::STREAM_CAPTURE_INVALIDATED.into());
        }
        self.invalidate(id);
        Err(Code::STREAM_CAPTURE_UNSUPPORTED.into())
    }

    /// Invalidates the capture that a stream takes part in: after a launch that cannot be.
    pub fn spoil(&mut self, key: StreamKey) {
        if let Ok(Stream { capture: Some((id, _)), .. }) = self.stream(key) {
            self.invalidate(id);
        }
    }

    /// Takes work into the stream's capture; gives it back where it is to run now.
    pub fn submit(&mut self, key: StreamKey, work: Work) -> Outcome<Option<Work>> {
        let StreamKey::Numbered(handle) = key else {
            self.check_legacy()?;
            return Ok(Some(work));
        };
        let stream = self.streams.get_mut(&handle).ok_or_else(unknown)?;
        let Some((id, last)) = &mut stream.capture else { return Ok(Some(work)) };
        let capture = self.captures.get_mut(id).ok_or_else(unknown)?;
        if capture.invalid {
            return Err(Code::STREAM_CAPTURE_INVALIDATED.into());
        }
        let node = capture.nodes.len();
        let after = std::mem::replace(last, BTreeSet::from([node]));
        capture.nodes.push(Node { work, after });
        Ok(None)
    }

    /// cudaStreamIsCapturing: 0 no, 1 yes, 2 yes and invalid.
    pub fn status(&self, key: StreamKey) -> Outcome<u32> {
        if key == StreamKey::Legacy && !self.blocking_captures().is_empty() {
            return Err(Code::STREAM_CAPTURE_IMPLICIT.into());
        }
        let stream = self.stream(key)?;
        let capture = stream.capture.and_then(|(id, _)| self.captures.get(&id));
        Ok(capture.map_or(0, |capture| if capture.invalid { 2 } else { 1 }))
    }

    /// The number of the capture that a stream takes part in.
    pub fn capture_id(&self, key: StreamKey) -> Outcome<Option<u64>> {
        Ok(self.stream(key)?.capture.map(|(id, _)| id))
    }

    /// cudaStreamBeginCapture
    pub fn begin(&mut self, key: StreamKey, mode: Mode, thread: ThreadId) -> Outcome {
        let StreamKey::Numbered(handle) = key else {
            return Err(Code::STREAM_CAPTURE_UNSUPPORTED.into());
        };
        let id = self.handle();
        let stream = self.streams.get_mut(&handle).ok_or_else(unknown)?;
        if stream.capture.is_some() {
            return Err(Code::ILLEGAL_STATE.into());
        }
        stream.capture = Some((id, BTreeSet::new()));
        let capture = Capture { origin: handle, mode, thread, nodes: Vec::new(), invalid: false };
        self.captures.insert(id, capture);
        Ok(())
    }

    /// cudaStreamEndCapture: gives the handle of the graph.
    pub fn end(&mut self, key: StreamKey, thread: ThreadId) -> Outcome<u64> {
        let Some((id, last)) = self.stream(key)?.capture else {
            return Err(Code::ILLEGAL_STATE.into());
        };
        let capture = self.captures.get_mut(&id).ok_or_else(unknown)?;
        if key != StreamKey::Numbered(capture.origin) {
            capture.invalid = true;
            return Err(Code::STREAM_CAPTURE_UNMATCHED.into());
        }
        self.leave(id);
        let Some(capture) = self.captures.remove(&id) else { return Err(unknown()) };
        if capture.mode != Mode::Relaxed && capture.thread != thread {
            return Err(Code::STREAM_CAPTURE_WRONG_THREAD.into());
        }
        if capture.invalid {
            return Err(Code::STREAM_CAPTURE_INVALIDATED.into());
        }
        if !is_joined(&capture.nodes, last) {
            return Err(Code::STREAM_CAPTURE_UNJOINED.into());
        }
        let graph = self.handle();
        self.graphs.insert(graph, capture.nodes);
        Ok(graph)
    }

    /// A new event.
    pub fn create_event(&mut self, timing: bool) -> u64 {
        let handle = self.handle();
        self.events.insert(handle, Event { timing, state: EventState::Never });
        handle
    }

    /// cudaEventDestroy
    pub fn destroy_event(&mut self, handle: u64) -> Outcome {
        self.events.remove(&handle).map(drop).ok_or_else(unknown)
    }

    /// By handle.
    pub fn event(&self, handle: u64) -> Outcome<Event> {
        self.events.get(&handle).cloned().ok_or_else(unknown)
    }

    /// cudaEventRecord, in a capture. True if it is in none, and is to be queued.
    pub fn record(&mut self, event: u64, key: StreamKey) -> Outcome<bool> {
        let stream = self.stream(key)?;
        self.event(event)?;
        if key == StreamKey::Legacy {
            self.check_legacy()?;
        }
        let state = match stream.capture {
            None => return Ok(true),
            Some((id, last)) => {
                if self.captures.get(&id).is_some_and(|capture| capture.invalid) {
                    return Err(Code::STREAM_CAPTURE_INVALIDATED.into());
                }
                EventState::Captured(id, last)
            }
        };
        self.recorded(event, state);
        Ok(false)
    }

    /// Keeps where an event was recorded.
    pub fn recorded(&mut self, event: u64, state: EventState) {
        if let Some(event) = self.events.get_mut(&event) {
            event.state = state;
        }
    }

    /// For what looks at an event from outside of a capture.
    pub fn check_event(&mut self, handle: u64) -> Outcome<Event> {
        let event = self.event(handle)?;
        if let EventState::Captured(id, _) = event.state {
            if !self.captures.contains_key(&id) {
                // The capture is over, and what it recorded was never run.
                return Err(Code::INVALID_VALUE.into());
            }
            self.invalidate(id);
            return Err(Code::CAPTURED_EVENT.into());
        }
        Ok(event)
    }

    /// cudaStreamWaitEvent, in a capture. Otherwise gives what the stream has to wait for, if there is something.
    pub fn wait(&mut self, key: StreamKey, event: u64) -> Outcome<Option<Point>> {
        let event = self.event(event)?;
        let stream = self.stream(key)?;
        if key == StreamKey::Legacy {
            self.check_legacy()?;
        }
        let joined = match (event.state, stream.capture) {
            (EventState::Never, _) => return Ok(None),
            (EventState::Recorded { point, .. }, None) => return Ok(Some(point)),
            (EventState::Recorded { .. }, Some((id, _))) => {
                self.invalidate(id);
                return Err(Code::STREAM_CAPTURE_ISOLATION.into());
            }
            (EventState::Captured(id, nodes), None) => (id, nodes),
            (EventState::Captured(id, nodes), Some((of, mut last))) => {
                if id != of {
                    self.invalidate(id);
                    self.invalidate(of);
                    return Err(Code::STREAM_CAPTURE_MERGE.into());
                }
                last.extend(nodes);
                (id, last)
            }
        };
        let Some(capture) = self.captures.get(&joined.0) else {
            // The capture that recorded the event is over.
            return Err(Code::INVALID_VALUE.into());
        };
        if capture.invalid {
            return Err(Code::STREAM_CAPTURE_INVALIDATED.into());
        }
        let StreamKey::Numbered(handle) = key else {
            self.invalidate(joined.0);
            return Err(Code::STREAM_CAPTURE_IMPLICIT.into());
        };
        if let Some(stream) = self.streams.get_mut(&handle) {
            stream.capture = Some(joined);
        }
        Ok(None)
    }

    /// cudaGraphCreate
    pub fn create_graph(&mut self) -> u64 {
        let handle = self.handle();
        self.graphs.insert(handle, Vec::new());
        handle
    }

    /// The nodes of a graph.
    pub fn graph(&self, handle: u64) -> Outcome<&[Node]> {
        self.graphs.get(&handle).map(Vec::as_slice).ok_or_else(|| Code::INVALID_VALUE.into())
    }

    /// cudaGraphDestroy
    pub fn destroy_graph(&mut self, handle: u64) -> Outcome {
        self.graphs.remove(&handle).map(drop).ok_or_else(|| Code::INVALID_VALUE.into())
    }

    /// cudaGraphInstantiate
    pub fn instantiate(&mut self, graph: u64) -> Outcome<u64> {
        let nodes = self.graph(graph)?.to_vec();
        let handle = self.handle();
        self.executables.insert(handle, Arc::new(Executable { nodes, last: Mutex::default() }));
        Ok(handle)
    }

    /// An executable graph.
    pub fn executable(&self, handle: u64) -> Outcome<Arc<Executable>> {
        self.executables.get(&handle).cloned().ok_or_else(|| Code::INVALID_VALUE.into())
    }

    /// cudaGraphExecDestroy
    pub fn destroy_executable(&mut self, handle: u64) -> Outcome {
        self.executables.remove(&handle).map(drop).ok_or_else(|| Code::INVALID_VALUE.into())
    }
}

/// Whether all nodes come before, or are among, the last ones of the stream that the capture began in.
fn is_joined(nodes: &[Node], last: BTreeSet<usize>) -> bool {
    let mut seen = vec![false; nodes.len()];
    let mut todo: Vec<usize> = last.into_iter().collect();
    while let Some(node) = todo.pop() {
        if let Some(seen) = seen.get_mut(node)
            && !std::mem::replace(seen, true)
        {
            todo.extend(&nodes[node].after);
        }
    }
    seen.into_iter().all(|seen| seen)
}
