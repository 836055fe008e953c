//! Plans and graphs: what they keep, what they refuse, what a launch reads.

use nvfp4_dual_gemm::cuda::{
    DeviceBuffer, DeviceMatrix, DeviceView, Event, Graph, Io, Kernel, Options, Plan, Stream,
    WeightFormat, Weights,
};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{CudaError, DualGemm, Element, Error, bf16, f16, oracle};

use crate::bound::{bound, bound_with};
use crate::gemm::Case;
use crate::harness::{Needs, Test, device, tests};
use crate::problem;

pub fn all() -> Vec<Test> {
    tests![Needs::Kernels;
        a_graph_keeps_what_it_captured, a_plan_takes_any_activations_that_fit_its_weights, factors_may_be_on_the_device,
        two_plans_run_side_by_side, what_a_device_cannot_do_is_said_with_names_and_numbers,
        many_threads_launch_on_one_stream]
}

/// Operands, weights and plan are dropped before the graph is replayed, and other memory is allocated.
fn a_graph_keeps_what_it_captured() {
    let device = device();
    let (stream, side) = (Stream::new(&device).unwrap(), Stream::new(&device).unwrap());
    let operands = Operands::generate(problem(9, 80, 128, 1), Data::Full, 3).unwrap();
    let c = DeviceBuffer::<f16>::zeroed(9 * 80, &stream).unwrap();
    let graph = {
        let a = DeviceMatrix::upload(&operands.a, &stream).unwrap();
        let weights =
            Weights::prepare(&operands.b1, &operands.b2, WeightFormat::Separate, &stream).unwrap();
        let plan = bound(&weights, &a, &c, &Options::default()).unwrap();
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
    let exact = oracle::exact::<f16>(&operands.gemm().unwrap()).unwrap();
    for _ in 0..3 {
        let _noise = DeviceBuffer::from_host(&[0xffu8; 1 << 16], &stream).unwrap();
        c.fill_bytes(0xff, &stream).unwrap();
        graph.launch(&stream).unwrap();
        assert!(oracle::compare(&c.to_vec(&stream).unwrap(), &exact).passes());
    }
    // The side stream is out of the capture.
    side.synchronize().unwrap();
}

/// One plan, many numbers of rows, types of C and activations, with one workspace.
fn a_plan_takes_any_activations_that_fit_its_weights() {
    fn check<T: Element>(plan: &Plan, workspace: &DeviceView<u8>, stream: &Stream, rows: usize) {
        let operands = Operands::generate(problem(rows, 96, 64, 1), Data::Full, 7).unwrap();
        let weights = Operands::generate(problem(1, 96, 64, 1), Data::Full, 1).unwrap();
        let a = DeviceMatrix::upload(&operands.a, stream).unwrap();
        let c = DeviceBuffer::<T>::zeroed(rows * 96, stream).unwrap();
        plan.launch(&Io::new(&a, &c).workspace(workspace), stream).unwrap();
        let gemm = DualGemm::new(&operands.a, &weights.b1, &weights.b2).unwrap();
        let comparison =
            oracle::compare(&c.to_vec(stream).unwrap(), &oracle::exact::<T>(&gemm).unwrap());
        assert!(comparison.passes(), "{rows} rows: {comparison:?}");
        let named = plan.kernel(rows).unwrap().name.parse::<Kernel>().unwrap();
        assert!(named.runs_on(stream.device()), "{named}");
    }
    let device = device();
    let stream = Stream::new(&device).unwrap();
    let operands = Operands::generate(problem(1, 96, 64, 1), Data::Full, 1).unwrap();
    let format = WeightFormat::Separate;
    let weights = Weights::prepare(&operands.b1, &operands.b2, format, &stream).unwrap();
    let plan = Plan::new(&weights, &Options::default()).unwrap();
    let most = plan.workspace_bytes(300).unwrap();
    let workspace = DeviceBuffer::<u8>::alloc(most, &device).unwrap();
    for rows in [1, 300, 4, 8, 9, 17, 33, 65, 129, 0] {
        assert!(plan.workspace_bytes(rows).unwrap() <= most);
        check::<f16>(&plan, &workspace, &stream, rows);
    }
    check::<f32>(&plan, &workspace, &stream, 20);
    check::<bf16>(&plan, &workspace, &stream, 70);

    let matrix = |rows, k| {
        let operands = Operands::generate(problem(rows, 96, k, 1), Data::Full, 1).unwrap();
        DeviceMatrix::upload(&operands.a, &stream).unwrap()
    };
    let c = DeviceBuffer::<f16>::alloc(20 * 96, &device).unwrap();
    let launch = |a: &DeviceMatrix| plan.launch(&Io::new(a, &c), &stream);
    let other_k = launch(&matrix(20, 96)).unwrap_err();
    assert!(matches!(other_k, Error::ShapeMismatch { .. }), "{other_k}");
    let larger = launch(&matrix(21, 64)).unwrap_err();
    assert!(matches!(larger, Error::Length { expected: 2016, actual: 1920, .. }), "{larger}");
    match plan.workspace_bytes(20).unwrap() {
        0 => launch(&matrix(20, 64)).unwrap(),
        needed => {
            let none = launch(&matrix(20, 64)).unwrap_err();
            let words = none.to_string();
            assert!(words.contains("workspace") && words.contains(&needed.to_string()), "{words}");
            let a = matrix(20, 64);
            let short = DeviceBuffer::<u8>::alloc(needed - 1, &device).unwrap();
            let io = Io::new(&a, &c).workspace(&short);
            let errors = [(none, 0), (plan.launch(&io, &stream).unwrap_err(), needed - 1)];
            let bound = (plan.bind(&io).unwrap_err(), needed - 1);
            for (error, there) in errors.into_iter().chain([bound]) {
                let Error::Cuda(CudaError::Length { what, expected, actual }) = error else {
                    panic!("{error}");
                };
                assert_eq!((what, expected, actual), ("workspace", needed, there));
            }
        }
    }

    let kernel = Kernel::all().find(|kernel| kernel.info().weights == WeightFormat::Interleaved);
    let format = Plan::new(&weights, &Options::default().kernel(kernel)).unwrap_err();
    // Where no kernel of the device takes interleaved weights, that one is of another architecture.
    let here = kernel.is_some_and(|kernel| kernel.runs_on(&device));
    let refused = matches!(format, Error::Cuda(CudaError::Refused { .. }));
    let foreign = matches!(format, Error::Cuda(CudaError::KernelArchitecture { .. }));
    assert!(refused || (!here && foreign), "{format}");
}

/// The kernel, what it is for, and what the device is.
fn what_a_device_cannot_do_is_said_with_names_and_numbers() {
    let device = device();
    let stream = Stream::new(&device).unwrap();
    let operands = Operands::generate(problem(4, 96, 64, 1), Data::Full, 1).unwrap();
    let a = DeviceMatrix::upload(&operands.a, &stream).unwrap();
    let weights =
        Weights::prepare(&operands.b1, &operands.b2, WeightFormat::Separate, &stream).unwrap();
    let c = DeviceBuffer::<f16>::alloc(4 * 96, &device).unwrap();
    let refused = |options| bound(&weights, &a, &c, &options).unwrap_err().to_string();
    let dotted = |(major, minor): (u32, u32)| format!("{major}.{minor}");
    let foreign: Vec<Kernel> = Kernel::all().filter(|kernel| !kernel.runs_on(&device)).collect();
    assert!(!foreign.is_empty());
    for kernel in foreign {
        let expected = format!(
            "kernel {kernel} is for compute capability {}, \
             CUDA device 0 ({}) has compute capability {}",
            dotted(kernel.info().compute_capability),
            device.name(),
            dotted(device.compute_capability())
        );
        assert_eq!(refused(Options::default().kernel(kernel)), expected);
    }
    let sms = device.sm_count();
    for count in [0, sms + 1, usize::MAX] {
        let words = refused(Options::default().sm_count(count));
        let expected = format!("sm_count = {count} is not in 1..={sms}, the SMs of device 0");
        assert!(words.contains(&expected), "{words}");
    }
    let options = Options::default().sm_count(sms);
    bound(&weights, &a, &c, &options).unwrap();
}

/// The scalars are read by each launch, not by `prepare`.
fn factors_may_be_on_the_device() {
    let device = device();
    let stream = Stream::new(&device).unwrap();
    let operands = Operands::generate(problem(4, 96, 64, 1), Data::Contest, 5).unwrap();
    let a = DeviceMatrix::upload(&operands.a, &stream).unwrap();
    let weights =
        Weights::prepare(&operands.b1, &operands.b2, WeightFormat::Separate, &stream).unwrap();
    let c = DeviceBuffer::<f32>::alloc(4 * 96, &device).unwrap();
    let scalar = DeviceBuffer::from_host(&[1.0f32], &stream).unwrap();
    let (options, factors) = (Options::default(), [None, Some(&*scalar)]);
    let plan = bound_with(&weights, &a, &c, &options, factors).unwrap();
    plan.launch(&stream).unwrap();
    let plain = c.to_vec(&stream).unwrap();
    scalar.upload(&[4.0], &stream).unwrap();
    plan.launch(&stream).unwrap();
    // SiLU is linear in the up projection, and 4 is a power of two.
    let four_times: Vec<f32> = plain.iter().map(|value| 4.0 * value).collect();
    assert_eq!(c.to_vec(&stream).unwrap(), four_times);
}

/// Plans of their own sizes on streams of their own, launched from several threads.
fn two_plans_run_side_by_side() {
    let device = device();
    std::thread::scope(|scope| {
        for (m, n) in [(3, 64), (130, 96)] {
            let device = &device;
            scope.spawn(move || Case::new(problem(m, n, 128, 1)).check::<f16>(device));
        }
    });
}

/// Plans that share weights, and a stream that all threads queue on.
fn many_threads_launch_on_one_stream() {
    let device = device();
    let stream = Stream::new(&device).unwrap();
    let operands = Operands::generate(problem(5, 96, 64, 1), Data::Full, 2).unwrap();
    let a = DeviceMatrix::upload(&operands.a, &stream).unwrap();
    let weights =
        Weights::prepare(&operands.b1, &operands.b2, WeightFormat::Separate, &stream).unwrap();
    let exact = oracle::exact::<f16>(&operands.gemm().unwrap()).unwrap();
    let rounds = if device.is_emulated() { 2 } else { 100 };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let c = DeviceBuffer::<f16>::alloc(5 * 96, &device).unwrap();
                let plan = bound(&weights, &a, &c, &Options::default()).unwrap();
                for _ in 0..rounds {
                    c.fill_bytes(0xff, &stream).unwrap();
                    plan.launch(&stream).unwrap();
                    let comparison = oracle::compare(&c.to_vec(&stream).unwrap(), &exact);
                    assert!(comparison.passes(), "{comparison:?}");
                }
            });
        }
    });
}
