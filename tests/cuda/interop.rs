//! Operands of the crate cudarc. It calls the driver itself, which the emulator is none of.

use std::sync::Arc;

use nvfp4_dual_gemm::Error;
use nvfp4_dual_gemm::cuda::{self, Device, DeviceBuffer, DeviceView, Stream};

use crate::harness::{Needs, Test, tests};

pub fn all() -> Vec<Test> {
    let mut all = tests![Needs::Nothing; cudarc_does_not_panic_without_a_driver];
    all.extend(tests![Needs::Driver; slices_and_streams_of_cudarc_are_operands]);
    all
}

fn cudarc_does_not_panic_without_a_driver() {
    match (cuda::cudarc_context(0), Device::open(0)) {
        (Err(error), Err(why)) => assert_eq!(error.to_string(), why.to_string()),
        (context, device) => assert!(context.is_ok() && device.is_ok()),
    }
}

fn slices_and_streams_of_cudarc_are_operands() {
    let context = cuda::cudarc_context(0).unwrap();
    let theirs = context.new_stream().unwrap();
    let slice = Arc::new(theirs.clone_htod(&[1.0f32, 2.0, 3.0]).unwrap());
    let stream = Stream::from_cudarc(&theirs).unwrap();
    let view = DeviceView::<f32>::from_cudarc(&slice).unwrap();
    assert_eq!(view.to_vec(&stream).unwrap(), [1.0, 2.0, 3.0]);
    assert!(matches!(DeviceView::<u8>::from_cudarc(&slice), Err(Error::CudaLength { .. })));
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
    assert!(matches!(refused, Error::CudaCapture { .. }), "{refused}");
    buffer.fill_bytes(1, &stream).unwrap();
    assert_eq!(buffer.to_vec(&stream).unwrap(), [1; 16]);
    // The default stream, too, may be borrowed.
    let default = Stream::from_cudarc(&context.default_stream()).unwrap();
    assert_eq!(buffer.to_vec(&default).unwrap(), [1; 16]);
}
