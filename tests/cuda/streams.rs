//! Captures of other libraries, streams that are borrowed, and memory that others free: on any device.

use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Weak, mpsc};

use nvfp4_dual_gemm::cuda::sys::cudart;
use nvfp4_dual_gemm::cuda::{DeviceBuffer, DeviceView, Event, Graph, Quantizer, Stream};
use nvfp4_dual_gemm::{CudaError, Error};

use crate::harness::{Needs, Test, any_device, tests};

pub fn all() -> Vec<Test> {
    let mut all = tests![Needs::AnyDevice;
        streams_of_one_handle_are_one_stream, the_stream_of_each_thread_is_refused,
        the_default_stream_beside_a_capture_is_refused, waiting_spoils_no_capture_of_another_thread,
        a_stream_that_others_capture_is_refused_and_not_spoiled,
        a_capture_that_others_end_takes_nothing_more, lent_memory_goes_back,
        lent_memory_stays_with_a_graph, lent_memory_is_kept_from_captures_of_others,
        a_copy_within_one_buffer_is_refused, no_elements_are_no_work];
    // It is the emulator that notices work on freed memory.
    all.extend(tests![Needs::Emulator;
        a_capture_that_begins_under_a_call_gets_no_freed_memory,
        a_capture_that_begins_under_a_wait_is_not_spoiled,
        an_event_of_another_capture_brings_no_freed_memory]);
    all
}

/// A stream in a capture that is not this crate's.
pub struct Theirs(usize);

impl Theirs {
    pub fn begin(stream: &Stream, mode: cudart::cudaStreamCaptureMode) -> Self {
        let raw = stream.as_ptr();
        // SAFETY: a live stream.
        let code = unsafe { cudart::cudaStreamBeginCapture(raw.cast(), mode) };
        assert_eq!(code, cudart::cudaSuccess);
        Theirs(raw as usize)
    }

    /// The graph, ready to be launched; or what CUDA says where the capture was spoiled.
    pub fn end(self) -> Result<Executable, cudart::cudaError_t> {
        let (mut graph, mut executable) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: a live stream; writes one handle.
        let code = unsafe { cudart::cudaStreamEndCapture(self.0 as *mut _, &mut graph) };
        if code != cudart::cudaSuccess {
            // SAFETY: takes no argument.
            unsafe { cudart::cudaGetLastError() };
            return Err(code);
        }
        // SAFETY: the graph is of this capture, and destroyed once; writes one handle.
        unsafe {
            assert_eq!(
                cudart::cudaGraphInstantiate(&mut executable, graph, 0),
                cudart::cudaSuccess
            );
            assert_eq!(cudart::cudaGraphDestroy(graph), cudart::cudaSuccess);
        }
        Ok(Executable(executable))
    }
}

pub struct Executable(cudart::cudaGraphExec_t);

// SAFETY: a handle, which no thread owns.
unsafe impl Send for Executable {}

impl Executable {
    pub fn launch(&self, stream: &Stream) {
        // SAFETY: both handles live.
        let code = unsafe { cudart::cudaGraphLaunch(self.0, stream.as_ptr().cast()) };
        assert_eq!(code, cudart::cudaSuccess);
        stream.synchronize().unwrap();
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        // SAFETY: instantiated once.
        unsafe { cudart::cudaGraphExecDestroy(self.0) };
    }
}

const THREAD_LOCAL: cudart::cudaStreamCaptureMode = cudart::cudaStreamCaptureModeThreadLocal;
const GLOBAL: cudart::cudaStreamCaptureMode = cudart::cudaStreamCaptureModeGlobal;

fn stream() -> Stream {
    Stream::new(&any_device()).unwrap()
}

/// The same stream, as if somebody else had made it.
fn borrowed(stream: &Stream) -> Stream {
    // SAFETY: the owner keeps the stream.
    unsafe { Stream::from_raw(stream.as_ptr(), stream.device(), Arc::new(stream.clone())) }.unwrap()
}

#[track_caller]
fn is_capture<T>(result: Result<T, Error>) -> String {
    match result {
        Err(error @ Error::Cuda(CudaError::Capture { .. })) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was not refused"),
    }
}

/// What one `Stream` captures, another of the same handle takes part in, and the graph keeps its memory, too.
fn streams_of_one_handle_are_one_stream() {
    let stream = stream();
    let (first, second) = (borrowed(&stream), borrowed(&stream));
    let out = DeviceBuffer::<u8>::zeroed(1 << 16, &stream).unwrap();
    let graph = {
        let hidden = DeviceBuffer::<u8>::zeroed(1 << 16, &stream).unwrap();
        Graph::capture(&first, |first| {
            hidden.fill_bytes(5, &second)?;
            is_capture(second.synchronize());
            is_capture(hidden.upload(&[1; 1 << 16], &stream));
            is_capture(Graph::capture(&second, |_| Ok(())));
            out.copy_from(&hidden, first)
        })
        .unwrap()
    };
    let others: Vec<_> =
        (0..8).map(|_| DeviceBuffer::from_host(&[9u8; 1 << 16], &stream).unwrap()).collect();
    graph.launch(&second).unwrap();
    assert!(out.to_vec(&stream).unwrap().iter().all(|&byte| byte == 5));
    for other in others {
        assert!(other.to_vec(&stream).unwrap().iter().all(|&byte| byte == 9));
    }
}

fn the_stream_of_each_thread_is_refused() {
    let device = any_device();
    let raw = |handle: usize| {
        // SAFETY: default streams live as long as the device.
        unsafe { Stream::from_raw(handle as *mut c_void, &device, Arc::new(())) }
    };
    let error = raw(2).unwrap_err().to_string();
    assert!(error.contains("handle 2 (cudaStreamPerThread) is another stream"), "{error}");
    // Both names of the legacy default stream.
    for handle in [0, 1] {
        let stream = raw(handle).unwrap();
        let buffer = DeviceBuffer::from_host(&[1u8, 2], &stream).unwrap();
        assert_eq!(buffer.to_vec(&stream).unwrap(), [1, 2]);
        stream.synchronize().unwrap();
    }
}

/// Work on it would fail, and spoil the capture.
fn the_default_stream_beside_a_capture_is_refused() {
    let device = any_device();
    let mut handle = std::ptr::null_mut();
    // SAFETY: writes one handle. A stream that orders itself with the default one.
    let code = unsafe { cudart::cudaStreamCreateWithPriority(&mut handle, 0, 0) };
    assert_eq!(code, cudart::cudaSuccess);
    // SAFETY: the stream is destroyed by nobody; the default stream lives as long as the device.
    let (blocking, default) = unsafe {
        let default = Stream::from_raw(std::ptr::null_mut(), &device, Arc::new(()));
        (Stream::from_raw(handle.cast(), &device, Arc::new(())).unwrap(), default.unwrap())
    };
    let buffer = DeviceBuffer::<u8>::zeroed(16, &default).unwrap();
    let event = Event::new(&device).unwrap();
    let capture = Theirs::begin(&blocking, THREAD_LOCAL);
    for refused in [
        buffer.fill_bytes(1, &default),
        buffer.upload(&[1; 16], &default),
        default.synchronize(),
        event.record(&default),
    ] {
        let words = is_capture(refused);
        assert!(words.contains("the legacy default"), "{words}");
    }
    capture.end().unwrap();
    buffer.fill_bytes(2, &default).unwrap();
    assert_eq!(buffer.to_vec(&default).unwrap(), [2; 16]);
}

/// In the global mode, a capture forbids other threads to wait; but what this crate waits for is no part of it.
fn waiting_spoils_no_capture_of_another_thread() {
    let device = any_device();
    let (stream, captured) = (stream(), stream());
    let (buffer, spare) = (
        DeviceBuffer::<u8>::zeroed(16, &stream).unwrap(),
        DeviceBuffer::<u8>::zeroed(16, &stream).unwrap(),
    );
    let foreign = borrowed(&Stream::new(&device).unwrap());
    let (lent, owner) = lend(&stream);
    let begun = Barrier::new(2);
    std::thread::scope(|scope| {
        // Dropped at the end, or by a panic.
        let (done, is_done) = mpsc::channel::<()>();
        let (captured, begun) = (&captured, &begun);
        let capturing = scope.spawn(move || {
            let capture = Theirs::begin(captured, GLOBAL);
            begun.wait();
            let _ = is_done.recv();
            capture.end().map(drop)
        });
        begun.wait();
        stream.synchronize().unwrap();
        for stream in [&stream, &foreign] {
            buffer.upload(&[3; 16], stream).unwrap();
            assert_eq!(buffer.to_vec(stream).unwrap(), [3; 16]);
        }
        drop(spare);
        lent.fill_bytes(1, &foreign).unwrap();
        drop(lent);
        assert!(owner.upgrade().is_none());
        drop(done);
        assert_eq!(capturing.join().unwrap(), Ok(()));
    });
}

fn a_stream_that_others_capture_is_refused_and_not_spoiled() {
    let owned = stream();
    let borrowed = borrowed(&owned);
    let buffer = DeviceBuffer::<u8>::zeroed(16, &owned).unwrap();
    let event = Event::new(&any_device()).unwrap();
    let capture = Theirs::begin(&owned, THREAD_LOCAL);
    for stream in [&owned, &borrowed] {
        is_capture(buffer.fill_bytes(1, stream));
        is_capture(buffer.upload(&[1; 16], stream));
        is_capture(buffer.to_vec(stream));
        is_capture(stream.synchronize());
        is_capture(event.record(stream));
        is_capture(Graph::capture(stream, |_| Ok(())));
    }
    capture.end().unwrap().launch(&owned);
    assert_eq!(buffer.to_vec(&borrowed).unwrap(), [0; 16]);
}

/// What is queued then would run at once, and the graph that never comes would be thought to keep its memory.
fn a_capture_that_others_end_takes_nothing_more() {
    let stream = stream();
    let buffer = DeviceBuffer::<u8>::zeroed(16, &stream).unwrap();
    let capture = Graph::capture(&stream, |stream| {
        Theirs(stream.as_ptr() as usize).end().map(drop).unwrap();
        let words = is_capture(buffer.fill_bytes(1, stream));
        assert!(words.contains("was ended, but not by"), "{words}");
        Ok(())
    });
    assert!(matches!(capture.unwrap_err(), Error::Cuda(CudaError::Call { .. })));
    buffer.fill_bytes(2, &stream).unwrap();
    assert_eq!(buffer.to_vec(&stream).unwrap(), [2; 16]);
}

const LENT: usize = 1 << 12;

/// Memory that goes back in the order of `home`, and whether its owner lives.
fn lend(home: &Stream) -> (DeviceView<u8>, Weak<DeviceBuffer<u8>>) {
    let owner = Arc::new(DeviceBuffer::<u8>::zeroed(LENT, home).unwrap());
    let (address, alive) = (owner.as_ptr(), Arc::downgrade(&owner));
    // SAFETY: the buffer has as many bytes, and frees them after all work.
    (unsafe { DeviceView::from_stream_ordered(address, LENT, home, owner) }.unwrap(), alive)
}

fn lent_memory_goes_back() {
    let (home, other) = (stream(), stream());
    let (lent, owner) = lend(&home);
    lent.fill_bytes(4, &other).unwrap();
    let part = lent.slice(8, 8).unwrap();
    drop(lent);
    assert_eq!(part.to_vec(&other).unwrap(), [4; 8]);
    assert!(owner.upgrade().is_some());
    drop(part);
    assert!(owner.upgrade().is_none());
    // The stream that used it may be gone already.
    let (lent, owner) = lend(&home);
    lent.fill_bytes(4, &stream()).unwrap();
    drop(lent);
    assert!(owner.upgrade().is_none());
    // Nothing is lent where the point from which on the memory may be used would be in a graph.
    let buffer = Arc::new(DeviceBuffer::<u8>::zeroed(LENT, &home).unwrap());
    let refused = Graph::capture(&home, |home| {
        // SAFETY: as in `lend`.
        unsafe {
            DeviceView::<u8>::from_stream_ordered(buffer.as_ptr(), LENT, home, buffer.clone())
        }
        .map(drop)
    });
    is_capture(refused);
}

/// Nothing can be ordered after a stream in a capture: whatever goes away meanwhile is the graph's.
fn lent_memory_stays_with_a_graph() {
    let (home, other) = (stream(), stream());
    // Noted by the work that is captured, or dropped while a stream that used it before is captured, or its own is.
    for (captured, used_before) in [(&other, false), (&other, true), (&home, true)] {
        let (lent, owner) = lend(&home);
        if used_before {
            lent.fill_bytes(1, &other).unwrap();
        }
        let out = DeviceBuffer::<u8>::zeroed(LENT, &other).unwrap();
        let graph = Graph::capture(captured, |stream| {
            if !used_before {
                lent.fill_bytes(6, stream)?;
                out.copy_from(&lent, stream)?;
            }
            drop(lent);
            Ok(())
        });
        let graph = graph.unwrap();
        assert!(owner.upgrade().is_some());
        graph.launch(&other).unwrap();
        let expected = if used_before { 0 } else { 6 };
        assert_eq!(out.to_vec(&other).unwrap(), [expected; LENT]);
        drop(graph);
        assert!(owner.upgrade().is_none(), "{used_before}");
    }
    // Where no graph comes of it, nothing keeps the memory.
    let (lent, owner) = lend(&home);
    let failed = Graph::capture(&other, |stream| {
        lent.fill_bytes(6, stream)?;
        stream.synchronize()
    });
    is_capture(failed);
    drop(lent);
    assert!(owner.upgrade().is_none());
}

/// Their graph keeps nothing: the memory is never given back, and the capture is not spoiled.
fn lent_memory_is_kept_from_captures_of_others() {
    let (home, other) = (stream(), stream());
    type Use<'a> = &'a dyn Fn(&DeviceView<u8>);
    let uses: [Use; 3] = [
        &|lent| lent.fill_bytes(1, &other).unwrap(),
        &|lent| {
            // In a graph, whose launch is the use.
            let graph = Graph::capture(&home, |stream| lent.fill_bytes(1, stream)).unwrap();
            graph.launch(&other).unwrap();
        },
        // On its own stream only: that of the others does not matter.
        &|lent| lent.fill_bytes(1, &home).unwrap(),
    ];
    for (i, used) in uses.into_iter().enumerate() {
        let (lent, owner) = lend(&home);
        used(&lent);
        let capture = Theirs::begin(&other, THREAD_LOCAL);
        drop(lent);
        assert_eq!(owner.upgrade().is_none(), i == 2, "use {i}");
        capture.end().unwrap();
    }
    let (lent, owner) = lend(&home);
    lent.fill_bytes(1, &other).unwrap();
    let capture = Theirs::begin(&home, THREAD_LOCAL);
    drop(lent);
    assert!(owner.upgrade().is_some());
    capture.end().unwrap();
}

fn a_copy_within_one_buffer_is_refused() {
    let stream = stream();
    let buffer = DeviceBuffer::from_host(&(0..24u8).collect::<Vec<_>>(), &stream).unwrap();
    let part = |from, len| buffer.slice(from, len).unwrap();
    for (to, from) in [(0, 0), (0, 7), (7, 0), (1, 0), (12, 8)] {
        let error = part(to, 8).copy_from(&part(from, 8), &stream).unwrap_err();
        assert!(
            matches!(error, Error::Cuda(CudaError::Overlap { bytes: 8, .. })),
            "{to} {from}: {error}"
        );
    }
    part(0, 8).copy_from(&part(8, 8), &stream).unwrap();
    part(16, 8).copy_from(&part(8, 8), &stream).unwrap();
    // Of rows of 8, a column is written: elements 2, 10 and 18. The source may lie between them.
    for from in 0..=21 {
        let copied = part(0, 24).copy_columns_from(&part(from, 3), 3, 2, &stream);
        if [2, 10, 18].iter().any(|at| (from..from + 3).contains(at)) {
            let error = copied.unwrap_err();
            assert!(
                matches!(error, Error::Cuda(CudaError::Overlap { bytes: 3, .. })),
                "{from}: {error}"
            );
        } else {
            copied.unwrap();
        }
    }
}

fn no_elements_are_no_work() {
    let device = any_device();
    let stream = Stream::new(&device).unwrap();
    let none = DeviceBuffer::<f32>::alloc(0, &device).unwrap();
    assert!(none.is_empty() && none.as_ptr().is_null());
    none.upload(&[], &stream).unwrap();
    none.fill_bytes(1, &stream).unwrap();
    none.copy_from(&none.view(), &stream).unwrap();
    none.copy_columns_from(&none.view(), 0, 0, &stream).unwrap();
    assert_eq!(none.to_vec(&stream).unwrap(), [0.0f32; 0]);
    assert_eq!(none.slice(0, 0).unwrap().bytes().len(), 0);
    assert_eq!(DeviceBuffer::<u8>::from_host(&[], &stream).unwrap().len(), 0);
    assert_eq!(DeviceBuffer::<u8>::zeroed(0, &stream).unwrap().len(), 0);
    assert!(matches!(none.slice(0, 1), Err(Error::Cuda(CudaError::Range { len: 1, of: 0, .. }))));
    let rows = none.copy_columns_from(&none.view(), 2, 1, &stream).unwrap_err();
    assert!(matches!(rows, Error::Cuda(CudaError::Range { from: 1, len: 0, of: 0, .. })), "{rows}");
    // Null is an address where there is nothing.
    // SAFETY: there are no elements.
    let view = unsafe {
        DeviceView::<f32>::from_raw(std::ptr::null_mut(), 0, &device, Arc::new(())).unwrap()
    };
    view.download(&mut [], &stream).unwrap();
    let graph = Graph::capture(&stream, |stream| none.fill_bytes(1, stream)).unwrap();
    graph.launch(&stream).unwrap();
    stream.synchronize().unwrap();
}

/// Turns of the tests below, in which threads meet; each tries another moment.
const TURNS: usize = 3000;

fn spin(turn: usize) {
    for _ in 0..turn * 7 % 256 {
        std::hint::spin_loop();
    }
}

/// Where two threads go on at the same time, without sleeping.
struct Meeting(AtomicUsize, usize);

impl Meeting {
    fn of(threads: usize) -> Self {
        Meeting(AtomicUsize::new(0), threads)
    }

    fn wait(&self) {
        let here = self.0.fetch_add(1, Ordering::AcqRel);
        let all = (here / self.1 + 1) * self.1;
        while self.0.load(Ordering::Acquire) < all {
            std::thread::yield_now();
        }
    }
}

/// Somebody begins to capture a borrowed stream between this crate's look at it and the work: their graph has the work.
fn a_capture_that_begins_under_a_call_gets_no_freed_memory() {
    let new = |owned: &Stream| DeviceBuffer::<u8>::zeroed(LENT, owned).unwrap();
    begin_a_capture_under(TURNS, new, |buffer, stream| buffer.fill_bytes(1, stream));
    // Two kernels, the first of which runs long on the emulator: between them, nearly always.
    let (rows, k) = (64, 2048);
    let new = |owned: &Stream| {
        let values = DeviceBuffer::<f32>::zeroed(rows * k, owned).unwrap();
        (values, Quantizer::dynamic(1, rows, k, owned).unwrap())
    };
    begin_a_capture_under(24, new, |(values, quantizer), stream| {
        quantizer.quantize(values, stream)
    });
}

/// Nor does a copy to or from the host, or a wait, spoil their capture, hang, or leave the host's address in it.
fn a_capture_that_begins_under_a_wait_is_not_spoiled() {
    let new = |owned: &Stream| DeviceBuffer::<u8>::zeroed(LENT, owned).unwrap();
    begin_a_capture_under(TURNS, new, |buffer, stream| buffer.upload(&[1; LENT], stream));
    begin_a_capture_under(TURNS, new, |buffer, stream| buffer.to_vec(stream).map(drop));
    begin_a_capture_under(TURNS, new, |_, stream| stream.synchronize());
}

/// `call`, with memory of its own that is freed at once, while another thread begins to capture the stream.
fn begin_a_capture_under<M>(
    turns: usize,
    new: impl Fn(&Stream) -> M,
    call: impl Fn(&M, &Stream) -> Result<(), Error>,
) {
    let owned = stream();
    let stream = borrowed(&owned);
    let (start, finish) = (Meeting::of(2), Meeting::of(2));
    std::thread::scope(|scope| {
        let capturing = scope.spawn(|| {
            let mut begun = Vec::new();
            for turn in 0..turns {
                start.wait();
                spin(turn * TURNS / turns);
                let capture = Theirs::begin(&owned, THREAD_LOCAL);
                finish.wait();
                begun.push(capture.end());
                finish.wait();
            }
            begun
        });
        for turn in 0..turns {
            let memory = new(&owned);
            start.wait();
            spin((turns - turn) * TURNS / turns);
            if let Err(error) = call(&memory, &stream) {
                assert!(matches!(error, Error::Cuda(CudaError::Capture { .. })), "{error}");
            }
            drop(memory);
            finish.wait();
            finish.wait();
        }
        for graph in capturing.join().unwrap() {
            graph.unwrap().launch(&owned);
        }
    });
}

/// An event is recorded in another capture while a stream joins the one that it was recorded in before: the memory
/// must be noted where the work is.
fn an_event_of_another_capture_brings_no_freed_memory() {
    let device = any_device();
    let [first, second, side] = [stream(), stream(), stream()];
    for turn in 0..TURNS / 3 {
        let (event, join) = (Event::new(&device).unwrap(), Event::new(&device).unwrap());
        let hidden = DeviceBuffer::<u8>::alloc(LENT, &device).unwrap();
        let (start, finish) = (Meeting::of(3), Meeting::of(3));
        let graph = std::thread::scope(|scope| {
            let one = scope.spawn(|| {
                Graph::capture(&first, |stream| {
                    let recorded = event.record(stream);
                    start.wait();
                    finish.wait();
                    recorded
                })
            });
            let two = scope.spawn(|| {
                Graph::capture(&second, |stream| {
                    start.wait();
                    spin(turn);
                    let recorded = event.record(stream);
                    finish.wait();
                    recorded?;
                    stream.wait(&join)
                })
            });
            start.wait();
            spin(TURNS - turn);
            let joined = side.wait(&event);
            joined
                .and_then(|()| hidden.fill_bytes(1, &side))
                .and_then(|()| join.record(&side))
                .unwrap();
            drop(hidden);
            finish.wait();
            drop(one.join().unwrap());
            two.join().unwrap()
        });
        // Where the side stream joined the first capture, no graph came of either.
        if let Ok(graph) = graph {
            graph.launch(&second).unwrap();
            second.synchronize().unwrap();
        }
    }
}
