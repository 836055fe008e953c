//! Plans and graphs: what they keep, what they refuse, what a launch reads.

use nvfp4_dual_gemm::cuda::{
    DeviceBuffer, DeviceMatrix, DualGemm, Event, Graph, Kernel, Options, Stream, WeightFormat,
    Weights,
};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{Error, f16, oracle};

use crate::gemm::Case;
use crate::harness::{Needs, Test, device, tests};
use crate::problem;

pub fn all() -> Vec<Test> {
    tests![Needs::Kernels;
        a_graph_keeps_what_it_captured, a_plan_takes_other_operands_of_its_size_only, alphas_may_be_on_the_device,
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

fn a_plan_takes_other_operands_of_its_size_only() {
    let device = device();
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
    let exact = oracle::exact::<f16>(&operands.gemm().unwrap()).unwrap();
    assert!(oracle::compare(&c.to_vec(&stream).unwrap(), &exact).passes());

    let wide = DeviceBuffer::<f32>::alloc(4 * 96, &device).unwrap();
    let other_type = plan.rebind(&weights, &a, &wide).unwrap_err();
    assert!(matches!(other_type, Error::CudaRefused { .. }), "{other_type}");
    let (_, larger, _) = one(2, problem(5, 96, 64, 1));
    assert!(matches!(plan.rebind(&weights, &larger, &c).unwrap_err(), Error::Length { .. }));
    let kernel = Kernel::all().find(|kernel| kernel.info().weights == WeightFormat::Interleaved);
    let options = Options { kernel, ..Options::default() };
    let format = DualGemm::prepare(&weights, &a, &c, &options).unwrap_err();
    // Where no kernel of the device takes interleaved weights, that one is of another architecture.
    let here = kernel.is_some_and(|kernel| kernel.runs_on(&device));
    let refused = matches!(format, Error::CudaRefused { .. });
    let foreign = matches!(format, Error::CudaKernelArchitecture { .. });
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
    let refused = |options| DualGemm::prepare(&weights, &a, &c, &options).unwrap_err().to_string();
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
        assert_eq!(refused(Options { kernel: Some(kernel), ..Options::default() }), expected);
    }
    let sms = device.sm_count();
    for count in [0, sms + 1, usize::MAX] {
        let words = refused(Options { sm_count: Some(count), ..Options::default() });
        let expected = format!("sm_count = {count} is not in 1..={sms}, the SMs of device 0");
        assert!(words.contains(&expected), "{words}");
    }
    let options = Options { sm_count: Some(sms), ..Options::default() };
    DualGemm::prepare(&weights, &a, &c, &options).unwrap();
}

/// The scalars are read by each launch, not by `prepare`.
fn alphas_may_be_on_the_device() {
    let device = device();
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
                let plan = DualGemm::prepare(&weights, &a, &c, &Options::default()).unwrap();
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
