//! Operands of the crate cudarc. It calls the driver itself, which the emulator is none of.

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream};
use nvfp4_dual_gemm::cuda::{
    self, CudarcElement, Device, DeviceBuffer, DeviceElement, DeviceView, Event, Stream,
};
use nvfp4_dual_gemm::{CudaError, Error, Result};

use crate::harness::{Needs, Test, tests};

pub fn all() -> Vec<Test> {
    let mut all = tests![Needs::Nothing; cudarc_does_not_panic_without_a_driver];
    all.extend(tests![Needs::Emulator; cudarc_does_not_panic_where_only_the_driver_is_missing]);
    all.extend(tests![Needs::Driver;
        slices_and_streams_of_cudarc_are_operands, slices_of_cudarc_go_back_beside_a_capture,
        slices_of_cudarc_wait_for_no_host, the_stream_of_each_thread_of_cudarc_is_refused]);
    all
}

fn stream_of(theirs: &Arc<CudaStream>) -> Result<Stream> {
    // SAFETY: these tests begin and end captures between the calls of this crate.
    unsafe { Stream::from_cudarc(theirs) }
}

fn view_of<T: DeviceElement, S: CudarcElement>(slice: &Arc<CudaSlice<S>>) -> Result<DeviceView<T>> {
    // SAFETY: as above.
    unsafe { DeviceView::from_cudarc(slice) }
}

fn cudarc_does_not_panic_without_a_driver() {
    match (cuda::cudarc_context(0), Device::open(0)) {
        (Err(error), Err(why)) => assert_eq!(error.to_string(), why.to_string()),
        (context, device) => assert!(context.is_ok() && device.is_ok()),
    }
}

/// A device of the runtime, which is the emulator's, and no libcuda.
fn cudarc_does_not_panic_where_only_the_driver_is_missing() {
    Device::open(0).unwrap();
    // SAFETY: looks for the library.
    if !unsafe { cudarc::driver::sys::is_culib_present() } {
        let error = cuda::cudarc_context(0).unwrap_err();
        assert!(matches!(error, Error::Cuda(CudaError::NoDriver { .. })), "{error}");
    }
}

fn slices_and_streams_of_cudarc_are_operands() {
    let context = cuda::cudarc_context(0).unwrap();
    let theirs = context.new_stream().unwrap();
    let slice = Arc::new(theirs.clone_htod(&[1.0f32, 2.0, 3.0]).unwrap());
    let stream = stream_of(&theirs).unwrap();
    let view = view_of::<f32, _>(&slice).unwrap();
    assert_eq!(view.to_vec(&stream).unwrap(), [1.0, 2.0, 3.0]);
    let error = view_of::<u8, _>(&slice).unwrap_err();
    assert_eq!(error.to_string(), "elements of 4 bytes in device memory, expected 1 bytes");
    let held = Arc::downgrade(&slice);
    drop(slice);
    view.upload(&[4.0, 5.0, 6.0], &stream).unwrap();
    assert_eq!(view.to_vec(&stream).unwrap(), [4.0, 5.0, 6.0]);
    drop(view);
    assert!(held.upgrade().is_none());

    // Memory of ours is an argument of theirs.
    let ours = DeviceBuffer::from_host(&[7.0f32, 8.0], &stream).unwrap();
    // SAFETY: cudarc captures nothing of it.
    let mut seen = unsafe { ours.to_cudarc(&theirs) }.unwrap();
    assert_eq!(theirs.clone_dtoh(&seen).unwrap(), [7.0, 8.0]);
    theirs.memcpy_htod(&[9.0f32, 10.0], &mut seen).unwrap();
    assert_eq!(ours.to_vec(&stream).unwrap(), [9.0, 10.0]);

    // Captured by cudarc, the stream takes none of our work: its graph would not keep our memory.
    use cudarc::driver::sys;
    let buffer = DeviceBuffer::<u8>::zeroed(16, &stream).unwrap();
    theirs.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    let refused = buffer.fill_bytes(1, &stream).unwrap_err();
    let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let _ = theirs.end_capture(flags);
    assert!(matches!(refused, Error::Cuda(CudaError::Capture { .. })), "{refused}");
    buffer.fill_bytes(1, &stream).unwrap();
    assert_eq!(buffer.to_vec(&stream).unwrap(), [1; 16]);
    // The default stream, too, may be borrowed.
    let default = stream_of(&context.default_stream()).unwrap();
    assert_eq!(buffer.to_vec(&default).unwrap(), [1; 16]);
}

/// A wait for the whole device would fail then, and spoil the capture.
fn slices_of_cudarc_go_back_beside_a_capture() {
    use cudarc::driver::sys;
    const GLOBAL: sys::CUstreamCaptureMode =
        sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL;
    const FLAGS: sys::CUgraphInstantiate_flags =
        sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let context = cuda::cudarc_context(0).unwrap();
    let (home, captured) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let stream = Stream::new(&Device::open(0).unwrap()).unwrap();
    let slice = Arc::new(home.clone_htod(&[1u8; 1 << 16]).unwrap());
    let view = view_of::<u8, _>(&slice).unwrap();
    view.fill_bytes(2, &stream).unwrap();
    let held = Arc::downgrade(&slice);
    drop(slice);
    captured.begin_capture(GLOBAL).unwrap();
    assert_eq!(view.to_vec(&stream).unwrap(), [2; 1 << 16]);
    drop(view);
    assert!(held.upgrade().is_none());
    captured.end_capture(FLAGS).unwrap();

    // While the stream that used it is captured, the memory stays; nor does a captured slice's stream lend.
    let slice = Arc::new(home.clone_htod(&[1u8; 1 << 16]).unwrap());
    let view = view_of::<u8, _>(&slice).unwrap();
    view.fill_bytes(3, &stream_of(&captured).unwrap()).unwrap();
    let held = Arc::downgrade(&slice);
    captured.begin_capture(GLOBAL).unwrap();
    drop((view, slice));
    assert!(held.upgrade().is_some());
    captured.end_capture(FLAGS).unwrap();
    let slice = Arc::new(home.clone_htod(&[1u8; 16]).unwrap());
    home.begin_capture(GLOBAL).unwrap();
    let refused = view_of::<u8, _>(&slice).unwrap_err();
    home.end_capture(FLAGS).unwrap();
    assert!(matches!(refused, Error::Cuda(CudaError::Capture { .. })), "{refused}");
}

/// Neither when a view is made nor when it goes; the streams of the device wait for one another.
fn slices_of_cudarc_wait_for_no_host() {
    const BYTES: usize = 256 << 20;
    let context = cuda::cudarc_context(0).unwrap();
    let home = context.new_stream().unwrap();
    let device = Device::open(0).unwrap();
    let (stream, theirs) = (Stream::new(&device).unwrap(), stream_of(&home).unwrap());
    let out = DeviceBuffer::<u8>::zeroed(BYTES, &stream).unwrap();
    let (made, end) = (Event::new(&device).unwrap(), Event::new(&device).unwrap());
    let work = DeviceBuffer::<u8>::zeroed(BYTES, &stream).unwrap();
    stream.synchronize().unwrap();
    // SAFETY: written below, before anybody reads.
    let slice = Arc::new(unsafe { home.alloc::<u8>(BYTES) }.unwrap());
    for _ in 0..500 {
        work.fill_bytes(1, &theirs).unwrap();
    }
    let address = view_of::<u8, _>(&slice).unwrap();
    address.fill_bytes(5, &theirs).unwrap();
    made.record(&theirs).unwrap();
    let view = view_of::<u8, _>(&slice).unwrap();
    assert!(!made.is_done().unwrap(), "the host waited, or the queue is too short");
    for _ in 0..500 {
        work.fill_bytes(1, &stream).unwrap();
    }
    out.copy_from(&view, &stream).unwrap();
    end.record(&stream).unwrap();
    drop((address, view, slice));
    // Whoever gets the memory from the pool next, in the order of its stream.
    let next = home.alloc_zeros::<u8>(BYTES).unwrap();
    assert!(!end.is_done().unwrap(), "the host waited, or the queue is too short");
    home.synchronize().unwrap();
    assert!(out.to_vec(&stream).unwrap().iter().all(|&byte| byte == 5));
    drop(next);
}

fn the_stream_of_each_thread_of_cudarc_is_refused() {
    let context = cuda::cudarc_context(0).unwrap();
    let stream = context.per_thread_stream();
    let words = stream_of(&stream).unwrap_err().to_string();
    assert!(words.contains("handle 2 (cudaStreamPerThread)"), "{words}");
    let slice = Arc::new(stream.alloc_zeros::<u8>(16).unwrap());
    let words = view_of::<u8, _>(&slice).unwrap_err().to_string();
    assert!(words.contains("handle 2 (cudaStreamPerThread)"), "{words}");
}
