//! The runtime layer, on any device: it needs no kernel.

use std::sync::Arc;

use nvfp4_dual_gemm::cuda::{
    DeviceBuffer, DeviceMatrix, DeviceView, Event, Graph, Options, Stream, WeightFormat, Weights,
};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{CudaError, Error, f16};

use crate::bound::bound;
use crate::harness::{Needs, Test, any_device, tests};
use crate::problem;

pub fn all() -> Vec<Test> {
    let mut all = tests![Needs::AnyDevice;
        a_graph_holds_memory, a_capture_ends_however_it_ends, too_much_memory_is_an_error_with_numbers,
        a_raw_view_holds_its_owner, events_order_and_measure, columns_come_together];
    all.extend(tests![Needs::OtherDevice; another_architecture_is_an_error_with_names]);
    all
}

/// Memory of a graph outlives its buffers, also where another stream joined the capture.
fn a_graph_holds_memory() {
    let device = any_device();
    let (stream, side) = (Stream::new(&device).unwrap(), Stream::new(&device).unwrap());
    let out = DeviceBuffer::<u8>::zeroed(1 << 16, &stream).unwrap();
    let graph = {
        let hidden = DeviceBuffer::<u8>::zeroed(1 << 16, &stream).unwrap();
        let (fork, join) = (Event::new(&device).unwrap(), Event::new(&device).unwrap());
        Graph::capture(&stream, |stream| {
            fork.record(stream)?;
            side.wait(&fork)?;
            hidden.fill_bytes(5, &side)?;
            join.record(&side)?;
            stream.wait(&join)?;
            out.copy_from(&hidden, stream)
        })
        .unwrap()
    };
    // Were the hidden memory free, these would get it and the graph write into them.
    let others: Vec<_> =
        (0..8).map(|_| DeviceBuffer::from_host(&[9u8; 1 << 16], &stream).unwrap()).collect();
    for _ in 0..3 {
        out.fill_bytes(0, &stream).unwrap();
        graph.launch(&stream).unwrap();
        assert!(out.to_vec(&stream).unwrap().iter().all(|&byte| byte == 5));
    }
    // CUDA takes no executable graph in a capture; the refusal leaves the stream usable.
    let error = Graph::capture(&stream, |stream| graph.launch(stream)).unwrap_err();
    assert!(matches!(error, Error::Cuda(CudaError::Capture { .. })), "{error}");
    out.fill_bytes(0, &stream).unwrap();
    graph.launch(&stream).unwrap();
    drop(graph); // in flight
    assert!(out.to_vec(&stream).unwrap().iter().all(|&byte| byte == 5));
    for other in others {
        assert!(other.to_vec(&stream).unwrap().iter().all(|&byte| byte == 9));
    }
    side.synchronize().unwrap();
}

/// On a device of another architecture, a plan says which, and nothing runs.
fn another_architecture_is_an_error_with_names() {
    let device = any_device();
    assert!(!device.supports_kernels());
    let stream = Stream::new(&device).unwrap();
    let operands = Operands::generate(problem(2, 96, 48, 1), Data::Full, 1).unwrap();
    let a = DeviceMatrix::upload(&operands.a, &stream).unwrap();
    assert_eq!((a.k(), a.codes().len(), a.scales().len()), (64, 2 * 32, 512));
    let c = DeviceBuffer::<f16>::alloc(2 * 96, &device).unwrap();
    for format in [WeightFormat::Separate, WeightFormat::Interleaved] {
        let weights = Weights::prepare(&operands.b1, &operands.b2, format, &stream).unwrap();
        let error = bound(&weights, &a, &c, &Options::default()).unwrap_err();
        let Error::Cuda(CudaError::Architecture { devices, built_for, unreadable }) = error else {
            panic!("{error}");
        };
        assert_eq!((devices.len(), unreadable.len()), (1, 0));
        assert_eq!(devices[0].name, device.name());
        assert_eq!(devices[0].compute_capability, device.compute_capability());
        assert_eq!(built_for, [(9, 0), (10, 0)]);
    }
}

fn a_capture_ends_however_it_ends() {
    let device = any_device();
    let stream = Stream::new(&device).unwrap();
    let buffer = DeviceBuffer::<u8>::zeroed(16, &stream).unwrap();
    let capture = |error: Error| matches!(error, Error::Cuda(CudaError::Capture { .. }));
    assert!(capture(Graph::capture(&stream, |stream| stream.synchronize()).unwrap_err()));
    assert!(capture(Graph::capture(&stream, |s| buffer.upload(&[1; 16], s)).unwrap_err()));
    let nested = Graph::capture(&stream, |s| Graph::capture(s, |_| Ok(())).map(drop));
    assert!(capture(nested.unwrap_err()));
    let panics = std::panic::AssertUnwindSafe(|| {
        let _ = Graph::capture(&stream, |_| panic!("inside a capture"));
    });
    assert!(std::panic::catch_unwind(panics).is_err());
    assert_eq!(buffer.to_vec(&stream).unwrap(), [0; 16]);
    // A buffer that goes away inside of a capture does not spoil it.
    let mut spare = Some(DeviceBuffer::<u8>::alloc(16, &device).unwrap());
    let graph = Graph::capture(&stream, |stream| {
        spare.take();
        buffer.fill_bytes(7, stream)
    });
    graph.unwrap().launch(&stream).unwrap();
    assert_eq!(buffer.to_vec(&stream).unwrap(), [7; 16]);
}

fn too_much_memory_is_an_error_with_numbers() {
    let device = any_device();
    let asked = 4 * device.memory();
    let error = DeviceBuffer::<u8>::alloc(asked, &device).unwrap_err();
    let Error::Cuda(CudaError::OutOfMemory { bytes, total, .. }) = error else { panic!("{error}") };
    assert!(bytes == asked && total > 0 && total <= device.memory());
    let error = DeviceBuffer::<f32>::alloc(usize::MAX, &device).unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot allocate 18446744073709551615 elements of 4 bytes: more than 9223372036854775807 bytes"
    );
    let error = DeviceBuffer::<u8>::alloc(usize::MAX / 2 + 1, &device).unwrap_err();
    assert!(matches!(error, Error::Cuda(CudaError::Allocation { size: 1, .. })), "{error}");
    let stream = Stream::new(&device).unwrap();
    assert_eq!(
        DeviceBuffer::from_host(&[1u8, 2], &stream).unwrap().to_vec(&stream).unwrap(),
        [1, 2]
    );
}

fn a_raw_view_holds_its_owner() {
    let device = any_device();
    let stream = Stream::new(&device).unwrap();
    let owner = Arc::new(DeviceBuffer::from_host(&[1.5f32, 2.5], &stream).unwrap());
    let address = owner.as_ptr();
    // SAFETY: the buffer has two f32 and is the owner.
    let view = unsafe { DeviceView::<f32>::from_raw(address, 2, &device, owner.clone()) }.unwrap();
    let held = Arc::downgrade(&owner);
    drop(owner);
    assert_eq!(view.to_vec(&stream).unwrap(), [1.5, 2.5]);
    let outside = view.slice(1, 2).unwrap_err().to_string();
    assert_eq!(outside, "2 elements from 1 on are not all among the 2 of device memory");
    drop(view);
    assert!(held.upgrade().is_none());
    // SAFETY: refused before it is used.
    let null =
        unsafe { DeviceView::<f32>::from_raw(std::ptr::null_mut(), 1, &device, Arc::new(())) };
    assert!(matches!(null, Err(Error::Cuda(CudaError::Address { address: 0, alignment: 4 }))));
}

fn events_order_and_measure() {
    let device = any_device();
    let (first, second) = (Stream::new(&device).unwrap(), Stream::new(&device).unwrap());
    let buffer = DeviceBuffer::<u8>::zeroed(1 << 20, &first).unwrap();
    let (start, end) = (Event::new(&device).unwrap(), Event::new(&device).unwrap());
    start.record(&first).unwrap();
    buffer.fill_bytes(3, &first).unwrap();
    end.record(&first).unwrap();
    second.wait(&end).unwrap();
    assert!(buffer.to_vec(&second).unwrap().iter().all(|&byte| byte == 3));
    assert!(end.is_done().unwrap());
    assert!(start.elapsed_ms(&end).unwrap() >= 0.0);
}

fn columns_come_together() {
    let stream = Stream::new(&any_device()).unwrap();
    let buffer = |host: &[f32]| DeviceBuffer::from_host(host, &stream).unwrap();
    let (narrow, wide) = (buffer(&[1.0, 2.0]), buffer(&[3.0, 4.0, 5.0, 6.0]));
    let whole = buffer(&[0.0; 8]);
    whole.copy_columns_from(&wide, 2, 1, &stream).unwrap();
    whole.copy_columns_from(&narrow, 2, 3, &stream).unwrap();
    assert_eq!(whole.to_vec(&stream).unwrap(), [0.0, 3.0, 4.0, 1.0, 0.0, 5.0, 6.0, 2.0]);
    let refused = |rows, first| match whole.copy_columns_from(&wide, rows, first, &stream) {
        Err(error) => error.to_string(),
        Ok(()) => panic!("{rows} rows, column {first}"),
    };
    assert_eq!(refused(2, 3), "2 columns from 3 on are not all among the 4 of device memory");
    assert!(refused(2, usize::MAX).starts_with("2 columns from 18446744073709551615 on"));
    for rows in [0, 3] {
        let words = format!("8 elements of device memory do not make {rows} rows of one length");
        assert_eq!(refused(rows, 0), words);
    }
    assert_eq!(whole.bytes().to_vec(&stream).unwrap()[4..8], 3.0f32.to_le_bytes());
}
