//! The device layer. What needs no device is tested on any machine; the rest is skipped, with the reason, where
//! there is no device that a kernel is built for.

use std::collections::BTreeSet;
use std::sync::Arc;

use nvfp4_dual_gemm::cuda::{
    self, Device, DeviceBuffer, DeviceMatrix, DeviceView, DualGemm, Event, Graph, Kernel, Mainloop,
    Options, Stream, WeightFormat, Weights, sys::abi,
};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{Backend, Element, Error, Gate, Problem, bf16, f16, reference};

/// The device to test on; `None`, after saying why, where there is none.
fn device(test: &str) -> Option<Device> {
    match Device::first_supported() {
        Ok(device) => Some(device),
        Err(error) => {
            println!("skipped: {test}: {error}");
            None
        }
    }
}

/// A device to test the runtime layer on: any, as that needs no kernel.
fn any_device(test: &str) -> Option<Device> {
    match Device::open(0) {
        Ok(device) => Some(device),
        Err(error) => {
            println!("skipped: {test}: {error}");
            None
        }
    }
}

fn is_no_device(error: &Error) -> bool {
    matches!(
        error,
        Error::CudaNoDriver { .. }
            | Error::CudaDriverTooOld { .. }
            | Error::CudaNoDevice
            | Error::CudaArchitecture { .. }
    )
}

fn problem(m: usize, n: usize, k: usize, batch: usize) -> Problem {
    Problem { m, n, k, batch }
}

#[test]
fn everything_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Device>();
    shared::<Stream>();
    shared::<Event>();
    shared::<Graph>();
    shared::<DeviceBuffer<f16>>();
    shared::<DeviceView<u8>>();
    shared::<DeviceMatrix>();
    shared::<Weights>();
    shared::<DualGemm>();
    shared::<Options>();
    shared::<cuda::OnDevice<f32>>();
}

/// Each entry point that does not start from a device or a stream.
#[test]
fn without_a_device_there_is_an_error_and_no_panic() {
    let Err(why) = Device::first_supported() else {
        println!("skipped: there is a device");
        return;
    };
    assert!(is_no_device(&why), "{why}");
    if !matches!(why, Error::CudaArchitecture { .. }) {
        for error in [
            Device::count().unwrap_err(),
            Device::open(0).unwrap_err(),
            Device::open(usize::MAX).unwrap_err(),
            Device::all().unwrap_err(),
        ] {
            assert_eq!(error.to_string(), why.to_string());
        }
    }
    assert_eq!(Backend::Cuda.resolve().unwrap_err().to_string(), why.to_string());
    let auto = Backend::Auto.resolve().unwrap();
    assert_eq!(auto.backend, Backend::Cpu);
    assert!(auto.reason.starts_with(&why.to_string()), "{}", auto.reason);

    let operands = Operands::generate(problem(2, 3, 32, 1), Data::Full, 1).unwrap();
    let gemm = operands.gemm().unwrap();
    let mut c = [f16::ZERO; 6];
    for error in [
        gemm.run_into(Backend::Cuda, &mut c).unwrap_err(),
        cuda::run(&gemm, Kernel::from_id(0), &mut c).unwrap_err(),
    ] {
        assert_eq!(error.to_string(), why.to_string());
    }
    let short = cuda::run(&gemm, None, &mut c[..5]).unwrap_err();
    assert!(matches!(short, Error::Length { expected: 6, actual: 5, .. }), "{short}");
    gemm.run_into(Backend::Auto, &mut c).unwrap();
    assert!(reference::compare(&c, &reference::exact(&gemm)).passes());
}

#[test]
fn versions_are_those_of_the_build() {
    let toolkit = cuda::TOOLKIT.unwrap();
    assert_eq!(cuda::runtime_version().to_string(), toolkit);
    assert!(cuda::CUTLASS.unwrap().split('.').count() == 3);
    if let Err(Error::CudaNoDriver { runtime }) = Device::count() {
        assert_eq!(runtime.to_string(), toolkit);
        assert_eq!(cuda::driver_version(), None);
    }
}

/// The table as compiled against the numbers of abi.h, and the names against what they say.
#[test]
fn kernels_are_as_the_header_says() {
    let kernels: Vec<Kernel> = Kernel::all().collect();
    assert_eq!(kernels.len(), abi::NVFP4_KERNEL_COUNT as usize);
    let named = |kernel: abi::nvfp4_kernel| Kernel::from_id(kernel as usize).unwrap().name();
    assert_eq!(
        named(abi::NVFP4_KERNEL_sm100_stacked_2sm_256x128_c2x1_static),
        "sm100_stacked_2sm_256x128_c2x1_static"
    );
    assert_eq!(
        named(abi::NVFP4_KERNEL_sm100_interleaved_2sm_256x96_c2x2_static),
        "sm100_interleaved_2sm_256x96_c2x2_static"
    );
    for kernel in &kernels {
        let info = kernel.info();
        let (mainloop, columns) = match info.mainloop {
            Mainloop::Stacked => ("stacked", 2 * info.tile.1),
            Mainloop::TwoAccumulators => ("twoacc", 2 * info.tile.1),
            Mainloop::Interleaved => ("interleaved", 2 * info.tile.1),
            other => panic!("{other:?}"),
        };
        let scheduler = format!("{:?}", info.scheduler).to_lowercase();
        let (tile, cluster) = (info.tile, info.cluster);
        let name = format!(
            "sm100_{mainloop}_{}sm_{}x{}_c{}x{}_{scheduler}",
            info.sms, tile.0, tile.1, cluster.0, cluster.1
        );
        assert_eq!(info.name, name);
        assert_eq!(info.compute_capability, (10, 0));
        assert_eq!(tile.2, abi::NVFP4_TILE_K as i32);
        assert!(info.smem_bytes > 0 && info.smem_bytes <= abi::NVFP4_SM100_SMEM_BYTES as i32);
        assert!(info.tmem_columns >= columns, "{name}: {} columns", info.tmem_columns);
        assert!(info.tmem_columns <= abi::NVFP4_TMEM_COLUMNS as i32);
        assert!(info.stages >= 2 && info.accumulator_stages >= 1 && info.threads >= 128);
        let interleaved = info.mainloop == Mainloop::Interleaved;
        assert_eq!(info.weights == WeightFormat::Interleaved, interleaved);
        assert_eq!(name.parse::<Kernel>().unwrap(), *kernel);
        assert_eq!(kernel.id().to_string().parse::<Kernel>().unwrap(), *kernel);
    }
    let names: BTreeSet<_> = kernels.iter().map(|kernel| kernel.name()).collect();
    assert_eq!(names.len(), kernels.len());
    for text in ["", "x", "8", "-1", "sm100"] {
        assert!(text.parse::<Kernel>().unwrap_err().contains(names.first().unwrap()), "{text}");
    }
    assert_eq!(Kernel::from_id(kernels.len()), None);
}

#[test]
fn a_kernel_is_selected_without_a_device() {
    for weights in [WeightFormat::Separate, WeightFormat::Interleaved] {
        for shape in
            [problem(1, 1, 32, 1), problem(256, 4096, 7168, 1), problem(8192, 28672, 8192, 2)]
        {
            let kernel = Kernel::select(shape, weights, 148).unwrap();
            assert_eq!(kernel.info().weights, weights, "{shape:?}");
        }
    }
    let error = Kernel::select(problem(1, usize::MAX, 32, 1), WeightFormat::Separate, 148);
    assert!(matches!(error.unwrap_err(), Error::SizeOverflow { .. }));
}

#[cfg(feature = "cudarc")]
#[test]
fn cudarc_does_not_panic_without_a_driver() {
    match (cuda::cudarc_context(0), Device::open(0)) {
        (Err(error), Err(why)) => assert_eq!(error.to_string(), why.to_string()),
        (context, device) => assert!(context.is_ok() && device.is_ok()),
    }
}

/// Runs on the device and compares with the oracle, C prefilled with NaN.
fn check<T: Element>(
    device: &Device,
    shape: Problem,
    gate: Gate,
    kernel: Option<Kernel>,
    format: WeightFormat,
) {
    let operands = Operands::generate(shape, Data::Full, 7).unwrap();
    let stream = Stream::new(device).unwrap();
    let a = DeviceMatrix::upload(&operands.a, &stream).unwrap();
    let weights = Weights::prepare(&operands.b1, &operands.b2, format, &stream).unwrap();
    let len = shape.batch * shape.m * shape.n;
    // A guard of 64 elements on each side must stay as it is.
    let nan = T::from_f32(f32::NAN);
    let whole = DeviceBuffer::from_host(&vec![nan; len + 128], &stream).unwrap();
    let c = whole.slice(64, len).unwrap();
    let options = Options { gate, kernel, ..Options::default() };
    let plan = DualGemm::prepare(&weights, &a, &c, &options).unwrap();
    assert_eq!(plan.workspace_size(), 0);
    plan.launch(&stream).unwrap();
    let all = whole.to_vec(&stream).unwrap();
    let name = plan.kernel().name;
    let guards = all[..64].iter().chain(&all[64 + len..]);
    assert!(
        guards.into_iter().all(|value| value.to_f32().is_nan()),
        "{name} {shape:?}: outside of C"
    );
    let exact = reference::exact::<T>(&operands.gemm().unwrap().with_gate(gate).unwrap());
    let comparison = reference::compare(&all[64..64 + len], &exact);
    assert!(comparison.passes(), "{name} {shape:?} {gate:?}: {comparison:?}");
}

#[test]
fn every_kernel_agrees_with_the_oracle() {
    let Some(device) = device("every_kernel_agrees_with_the_oracle") else { return };
    for kernel in Kernel::all().filter(|kernel| kernel.runs_on(&device)) {
        let info = kernel.info();
        let (m, n) = (info.tile.0 as usize, info.tile.1 as usize);
        for shape in [
            problem(m, n, 512, 1),
            problem(m + 1, 2 * n + 3, 288, 1),
            problem(1, 1, 16, 1),
            problem(5, n - 1, 80, 2),
        ] {
            check::<f16>(&device, shape, Gate::Silu, Some(kernel), info.weights);
        }
    }
}

#[test]
fn every_gate_and_output_agrees_with_the_oracle() {
    let Some(device) = device("every_gate_and_output_agrees_with_the_oracle") else { return };
    let separate = WeightFormat::Separate;
    for gate in [Gate::Silu, Gate::GPT_OSS, Gate::GeluTanh] {
        let shape = problem(19, 72, 256, 2);
        check::<f16>(&device, shape, gate, None, separate);
        check::<bf16>(&device, shape, gate, None, separate);
        check::<f32>(&device, shape, gate, None, separate);
    }
    check::<f16>(&device, problem(7, 200, 96, 1), Gate::Silu, None, WeightFormat::Interleaved);
}

/// Plans of their own sizes on streams of their own, launched from several threads.
#[test]
fn two_plans_run_side_by_side() {
    let Some(device) = device("two_plans_run_side_by_side") else { return };
    std::thread::scope(|scope| {
        for (m, n) in [(3, 64), (130, 96)] {
            let device = &device;
            let run = move || {
                check::<f16>(
                    device,
                    problem(m, n, 128, 1),
                    Gate::Silu,
                    None,
                    WeightFormat::Separate,
                )
            };
            scope.spawn(run);
        }
    });
}

/// Memory of a graph outlives its buffers, also where another stream joined the capture.
#[test]
fn a_graph_holds_memory() {
    let Some(device) = any_device("a_graph_holds_memory") else { return };
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
    // A graph inside of a graph.
    let outer = Graph::capture(&stream, |stream| graph.launch(stream)).unwrap();
    drop(graph);
    out.fill_bytes(0, &stream).unwrap();
    outer.launch(&stream).unwrap();
    drop(outer); // in flight
    assert!(out.to_vec(&stream).unwrap().iter().all(|&byte| byte == 5));
    for other in others {
        assert!(other.to_vec(&stream).unwrap().iter().all(|&byte| byte == 9));
    }
    side.synchronize().unwrap();
}

/// On a device of another architecture, a plan says which, and nothing runs.
#[test]
fn another_architecture_is_an_error_with_names() {
    let Some(device) = any_device("another_architecture_is_an_error_with_names") else { return };
    if device.supports_kernels() {
        println!(
            "skipped: another_architecture_is_an_error_with_names: {} is right",
            device.name()
        );
        return;
    }
    let stream = Stream::new(&device).unwrap();
    let operands = Operands::generate(problem(2, 96, 48, 1), Data::Full, 1).unwrap();
    let a = DeviceMatrix::upload(&operands.a, &stream).unwrap();
    assert_eq!((a.k(), a.codes().len(), a.scales().len()), (64, 2 * 32, 512));
    let c = DeviceBuffer::<f16>::alloc(2 * 96, &device).unwrap();
    for format in [WeightFormat::Separate, WeightFormat::Interleaved] {
        let weights = Weights::prepare(&operands.b1, &operands.b2, format, &stream).unwrap();
        let error = DualGemm::prepare(&weights, &a, &c, &Options::default()).unwrap_err();
        let Error::CudaArchitecture { name, compute_capability, built_for, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(name, device.name());
        assert_eq!(compute_capability, device.compute_capability());
        assert_eq!(built_for, [(10, 0)]);
    }
}

#[cfg(feature = "cudarc")]
#[test]
fn slices_and_streams_of_cudarc_are_operands() {
    let Some(_) = any_device("slices_and_streams_of_cudarc_are_operands") else { return };
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

/// Operands, weights and plan are dropped before the graph is replayed, and other memory is allocated.
#[test]
fn a_graph_keeps_what_it_captured() {
    let Some(device) = device("a_graph_keeps_what_it_captured") else { return };
    let (stream, side) = (Stream::new(&device).unwrap(), Stream::new(&device).unwrap());
    let operands = Operands::generate(problem(9, 80, 128, 1), Data::Full, 3).unwrap();
    let c = DeviceBuffer::<f16>::zeroed(9 * 80, &stream).unwrap();
    let graph = {
        let a = DeviceMatrix::upload(&operands.a, &stream).unwrap();
        let weights =
            Weights::prepare(&operands.b1, &operands.b2, WeightFormat::Separate, &stream).unwrap();
        let plan = DualGemm::prepare(&weights, &a, &c, &Options::default()).unwrap();
        // The launch is on another stream, which joins by events.
        let (fork, join) = (Event::new(&device).unwrap(), Event::new(&device).unwrap());
        Graph::capture(&stream, |stream| {
            fork.record(stream)?;
            side.wait(&fork)?;
            plan.launch(&side)?;
            join.record(&side)?;
            stream.wait(&join)
        })
        .unwrap()
    };
    let exact = reference::exact::<f16>(&operands.gemm().unwrap());
    for _ in 0..3 {
        let _noise = DeviceBuffer::from_host(&[0xffu8; 1 << 16], &stream).unwrap();
        c.fill_bytes(0xff, &stream).unwrap();
        graph.launch(&stream).unwrap();
        assert!(reference::compare(&c.to_vec(&stream).unwrap(), &exact).passes());
    }
    // The side stream is out of the capture.
    side.synchronize().unwrap();
}

#[test]
fn a_capture_ends_however_it_ends() {
    let Some(device) = any_device("a_capture_ends_however_it_ends") else { return };
    let stream = Stream::new(&device).unwrap();
    let buffer = DeviceBuffer::<u8>::zeroed(16, &stream).unwrap();
    let capture = |error: Error| matches!(error, Error::CudaCapture { .. });
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

#[test]
fn a_plan_takes_other_operands_of_its_size_only() {
    let Some(device) = device("a_plan_takes_other_operands_of_its_size_only") else { return };
    let stream = Stream::new(&device).unwrap();
    let shape = problem(4, 96, 64, 1);
    let one = |seed, shape| {
        let operands = Operands::generate(shape, Data::Full, seed).unwrap();
        let a = DeviceMatrix::upload(&operands.a, &stream).unwrap();
        let format = WeightFormat::Separate;
        let weights = Weights::prepare(&operands.b1, &operands.b2, format, &stream).unwrap();
        (operands, a, weights)
    };
    let (_, a, weights) = one(1, shape);
    let c = DeviceBuffer::<f16>::alloc(4 * 96, &device).unwrap();
    let mut plan = DualGemm::prepare(&weights, &a, &c, &Options::default()).unwrap();
    plan.launch(&stream).unwrap();
    let (operands, a, weights) = one(2, shape);
    plan.rebind(&weights, &a, &c).unwrap();
    plan.launch(&stream).unwrap();
    let exact = reference::exact::<f16>(&operands.gemm().unwrap());
    assert!(reference::compare(&c.to_vec(&stream).unwrap(), &exact).passes());

    let wide = DeviceBuffer::<f32>::alloc(4 * 96, &device).unwrap();
    let other_type = plan.rebind(&weights, &a, &wide).unwrap_err();
    assert!(matches!(other_type, Error::CudaRefused { .. }), "{other_type}");
    let (_, larger, _) = one(2, problem(5, 96, 64, 1));
    assert!(matches!(plan.rebind(&weights, &larger, &c).unwrap_err(), Error::Length { .. }));
    let kernel = Kernel::all().find(|kernel| kernel.info().weights == WeightFormat::Interleaved);
    let options = Options { kernel, ..Options::default() };
    let format = DualGemm::prepare(&weights, &a, &c, &options).unwrap_err();
    assert!(matches!(format, Error::CudaRefused { .. }), "{format}");
}

/// The scalars are read by each launch, not by `prepare`.
#[test]
fn alphas_may_be_on_the_device() {
    let Some(device) = device("alphas_may_be_on_the_device") else { return };
    let stream = Stream::new(&device).unwrap();
    let operands = Operands::generate(problem(4, 96, 64, 1), Data::Contest, 5).unwrap();
    let a = DeviceMatrix::upload(&operands.a, &stream).unwrap();
    let weights =
        Weights::prepare(&operands.b1, &operands.b2, WeightFormat::Separate, &stream).unwrap();
    let c = DeviceBuffer::<f32>::alloc(4 * 96, &device).unwrap();
    let scalar = DeviceBuffer::from_host(&[1.0f32], &stream).unwrap();
    let options = Options { alpha2: Some(scalar.view()), ..Options::default() };
    let plan = DualGemm::prepare(&weights, &a, &c, &options).unwrap();
    plan.launch(&stream).unwrap();
    let plain = c.to_vec(&stream).unwrap();
    scalar.upload(&[4.0], &stream).unwrap();
    plan.launch(&stream).unwrap();
    // SiLU is linear in the up projection, and 4 is a power of two.
    let four_times: Vec<f32> = plain.iter().map(|value| 4.0 * value).collect();
    assert_eq!(c.to_vec(&stream).unwrap(), four_times);
}

#[test]
fn too_much_memory_is_an_error_with_numbers() {
    let Some(device) = any_device("too_much_memory_is_an_error_with_numbers") else { return };
    let asked = 4 * device.memory();
    let error = DeviceBuffer::<u8>::alloc(asked, &device).unwrap_err();
    let Error::CudaOutOfMemory { bytes, total, .. } = error else { panic!("{error}") };
    assert!(bytes == asked && total > 0 && total <= device.memory());
    assert!(matches!(DeviceBuffer::<u8>::alloc(0, &device), Err(Error::CudaLength { .. })));
    assert!(matches!(
        DeviceBuffer::<f32>::alloc(usize::MAX / 2, &device),
        Err(Error::CudaLength { .. })
    ));
    let stream = Stream::new(&device).unwrap();
    assert_eq!(
        DeviceBuffer::from_host(&[1u8, 2], &stream).unwrap().to_vec(&stream).unwrap(),
        [1, 2]
    );
}

#[test]
fn a_raw_view_holds_its_owner() {
    let Some(device) = any_device("a_raw_view_holds_its_owner") else { return };
    let stream = Stream::new(&device).unwrap();
    let owner = Arc::new(DeviceBuffer::from_host(&[1.5f32, 2.5], &stream).unwrap());
    let address = owner.as_ptr();
    // SAFETY: the buffer has two f32 and is the owner.
    let view = unsafe { DeviceView::<f32>::from_raw(address, 2, &device, owner.clone()) }.unwrap();
    let held = Arc::downgrade(&owner);
    drop(owner);
    assert_eq!(view.to_vec(&stream).unwrap(), [1.5, 2.5]);
    assert!(matches!(view.slice(1, 2), Err(Error::CudaLength { .. })));
    drop(view);
    assert!(held.upgrade().is_none());
    // SAFETY: refused before it is used.
    let null =
        unsafe { DeviceView::<f32>::from_raw(std::ptr::null_mut(), 1, &device, Arc::new(())) };
    assert!(matches!(null, Err(Error::CudaAddress { address: 0, alignment: 4 })));
}

#[test]
fn events_order_and_measure() {
    let Some(device) = any_device("events_order_and_measure") else { return };
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
