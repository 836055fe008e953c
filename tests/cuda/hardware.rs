//! Streams, long replays, memory that goes away under work, several devices, and errors that a context does not
//! survive.

use std::process::Command;
use std::sync::Arc;

use nvfp4_dual_gemm::cuda::{
    BoundPlan, Device, DeviceBuffer, DeviceMatrix, DeviceView, Event, Graph, Options, Stream,
    WeightFormat, Weights,
};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{CudaError, Error, GemmShape, f16, oracle};

use crate::bound::bound;
use crate::harness::{Needs, Test, device, tests};
use crate::problem;

/// What has to be right in whatever order streams run what nothing orders.
pub fn ordered() -> Vec<Test> {
    tests![Needs::Kernels; one_plan_serves_two_streams_in_turn, two_streams_at_once]
}

pub fn all() -> Vec<Test> {
    // The last three look at work that is in flight, which it is on the emulator until something waits for it.
    let mut all = tests![Needs::Kernels;
        a_graph_replays_a_thousand_times, a_sticky_error_stays_an_error,
        memory_is_freed_after_the_work_that_uses_it, lent_memory_goes_back_after_the_work_that_uses_it,
        plans_go_under_their_launches];
    let two = Test::new("plans_on_two_devices", Needs::Kernels, plans_on_two_devices);
    all.push(two.on_devices(2));
    all
}

/// Operands on a device, and what comes of them.
struct Layer {
    a: DeviceMatrix,
    weights: Weights,
    c: DeviceBuffer<f16>,
    exact: Vec<f16>,
}

impl Layer {
    fn new(shape: GemmShape, seed: u64, stream: &Stream) -> Self {
        let operands = Operands::generate(shape, Data::Full, seed).unwrap();
        let format = WeightFormat::Separate;
        Layer {
            a: DeviceMatrix::upload(&operands.a, stream).unwrap(),
            weights: Weights::prepare(&operands.b1, &operands.b2, format, stream).unwrap(),
            c: DeviceBuffer::alloc(shape.m * shape.n, stream.device()).unwrap(),
            exact: oracle::exact(&operands.gemm().unwrap()).unwrap(),
        }
    }

    fn plan(&self) -> BoundPlan {
        bound(&self.weights, &self.a, &self.c, &Options::default()).unwrap()
    }

    fn check(&self, stream: &Stream) {
        let comparison = oracle::compare(&self.c.to_vec(stream).unwrap(), &self.exact);
        assert!(comparison.passes(), "{comparison:?}");
    }

    fn poison(&self, stream: &Stream) {
        self.c.fill_bytes(0xff, stream).unwrap();
    }
}

/// Two plans in one graph. Fewer replays where each takes milliseconds.
fn a_graph_replays_a_thousand_times() {
    let device = device();
    let stream = Stream::new(&device).unwrap();
    let layers = [
        Layer::new(problem(5, 96, 288, 1), 1, &stream),
        Layer::new(problem(70, 40, 96, 1), 2, &stream),
    ];
    let plans = layers.each_ref().map(Layer::plan);
    let graph =
        Graph::capture(&stream, |stream| plans.iter().try_for_each(|plan| plan.launch(stream)))
            .unwrap();
    let replays = if device.is_emulated() { 20 } else { 1000 };
    for replay in 1..=replays {
        let checked = replay % (replays / 10) == 0;
        if checked {
            layers.iter().for_each(|layer| layer.poison(&stream));
        }
        graph.launch(&stream).unwrap();
        if checked {
            layers.iter().for_each(|layer| layer.check(&stream));
        }
    }
}

/// Launches of one plan follow each other, on whatever streams: they may share a workspace.
fn one_plan_serves_two_streams_in_turn() {
    let device = device();
    let streams = [Stream::new(&device).unwrap(), Stream::new(&device).unwrap()];
    let layer = Layer::new(problem(20, 128, 320, 1), 3, &streams[0]);
    let plan = layer.plan();
    streams[0].synchronize().unwrap();
    for _ in 0..4 {
        for (here, other) in [(&streams[0], &streams[1]), (&streams[1], &streams[0])] {
            layer.poison(here);
            plan.launch(here).unwrap();
            let done = Event::new(&device).unwrap();
            done.record(here).unwrap();
            other.wait(&done).unwrap();
        }
    }
    layer.check(&streams[0]);
}

/// Two plans, each on a stream of its own, both queued before either is waited for.
fn two_streams_at_once() {
    let device = device();
    let streams = [Stream::new(&device).unwrap(), Stream::new(&device).unwrap()];
    let layers = [
        Layer::new(problem(33, 128, 512, 1), 4, &streams[0]),
        Layer::new(problem(3, 200, 256, 1), 5, &streams[1]),
    ];
    let plans = layers.each_ref().map(Layer::plan);
    for _ in 0..if device.is_emulated() { 2 } else { 200 } {
        for (plan, stream) in plans.iter().zip(&streams) {
            plan.launch(stream).unwrap();
        }
    }
    for (layer, stream) in layers.iter().zip(&streams) {
        layer.check(stream);
    }
}

/// Work that a device is busy with for many milliseconds, on one stream; the emulator does none until it has to.
struct Busy {
    plan: BoundPlan,
    launches: usize,
}

impl Busy {
    fn new(stream: &Stream) -> Self {
        let is_emulated = stream.device().is_emulated();
        let problem =
            if is_emulated { problem(5, 64, 64, 1) } else { problem(2048, 8192, 4096, 1) };
        // CUDA lets the host run ahead by about a thousand launches.
        let launches = if is_emulated { 2 } else { 900 };
        let operands = Operands::generate(problem, Data::Contest, 20).unwrap();
        let (b1, b2) = (&operands.b1, &operands.b2);
        let weights = Weights::prepare(b1, b2, WeightFormat::Separate, stream).unwrap();
        let a = DeviceMatrix::upload(&operands.a, stream).unwrap();
        let c = DeviceBuffer::<f16>::zeroed(problem.m * problem.n, stream).unwrap();
        let plan = bound(&weights, &a, &c, &Options::default()).unwrap();
        Busy { plan, launches }
    }

    /// Enough that the calls of a test are made before it has run, on a busy host too: some hundred milliseconds.
    fn queue(&self, stream: &Stream) {
        for _ in 0..self.launches {
            self.plan.launch(stream).unwrap();
        }
    }
}

/// That cudaFree waits for queued work is what the lifetimes of the crate rest on.
fn memory_is_freed_after_the_work_that_uses_it() {
    const BYTES: usize = 64 << 20;
    let device = device();
    let (stream, other) = (Stream::new(&device).unwrap(), Stream::new(&device).unwrap());
    let busy = Busy::new(&stream);
    let out = DeviceBuffer::<u8>::zeroed(BYTES, &stream).unwrap();
    let source = DeviceBuffer::from_host(&vec![7u8; BYTES], &stream).unwrap();
    let end = Event::new(&device).unwrap();
    busy.queue(&stream);
    out.copy_from(&source, &stream).unwrap();
    end.record(&stream).unwrap();
    assert!(!end.is_done().unwrap(), "the queue is too short for this test");
    drop(source);
    assert!(end.is_done().unwrap(), "memory was freed before the work that reads it");
    // Whoever gets it next does not write into what was read.
    let next = DeviceBuffer::<u8>::alloc(BYTES, &device).unwrap();
    next.fill_bytes(0xee, &other).unwrap();
    other.synchronize().unwrap();
    assert!(out.to_vec(&stream).unwrap().iter().all(|&byte| byte == 7));

    // A plan, and all that it holds, while its launches are in the queue.
    let layer = Layer::new(problem(40, 160, 544, 1), 21, &stream);
    let (c, exact) = (layer.c.view(), layer.exact.clone());
    let plan = layer.plan();
    busy.queue(&stream);
    plan.launch(&stream).unwrap();
    end.record(&stream).unwrap();
    assert!(!end.is_done().unwrap(), "the queue is too short for this test");
    drop((plan, layer));
    let others: Vec<_> = (0..16).map(|_| DeviceBuffer::<u8>::zeroed(1 << 20, &other)).collect();
    assert!(oracle::compare(&c.to_vec(&stream).unwrap(), &exact).passes());
    drop(others);
}

/// Memory that its owner gives to the next user in the order of its own stream, as a pool does.
struct Pooled {
    memory: DeviceBuffer<u8>,
    home: Stream,
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.memory.fill_bytes(0xee, &self.home).unwrap();
        // A pool keeps the memory; cudaFree would wait for the device.
        std::mem::forget(self.memory.view());
    }
}

/// The stream of the owner waits for those that use the memory; the host waits for nothing.
fn lent_memory_goes_back_after_the_work_that_uses_it() {
    const BYTES: usize = 1 << 20;
    let device = device();
    let [home, stream] = [(); 2].map(|()| Stream::new(&device).unwrap());
    let busy = Busy::new(&stream);
    let end = Event::new(&device).unwrap();
    for captured in [false, true] {
        let out = DeviceBuffer::<u8>::zeroed(BYTES, &stream).unwrap();
        stream.synchronize().unwrap();
        let memory = DeviceBuffer::<u8>::alloc(BYTES, &device).unwrap();
        // What the owner's stream has queued when the memory is lent is waited for, too.
        let at_home = Busy::new(&home);
        at_home.queue(&home);
        memory.fill_bytes(7, &home).unwrap();
        let address = memory.as_ptr();
        let owner = Arc::new(Pooled { memory, home: home.clone() });
        // SAFETY: the owner has so many bytes, and touches them in the order of `home` only.
        let lent =
            unsafe { DeviceView::<u8>::from_stream_ordered(address, BYTES, &home, owner) }.unwrap();
        let copy = |stream: &Stream| out.copy_from(&lent, stream);
        let graph = captured.then(|| Graph::capture(&stream, copy).unwrap());
        busy.queue(&stream);
        match &graph {
            Some(graph) => graph.launch(&stream).unwrap(),
            None => copy(&stream).unwrap(),
        }
        end.record(&stream).unwrap();
        drop((graph, lent));
        assert!(!end.is_done().unwrap(), "the host waited, or the queue is too short");
        home.synchronize().unwrap();
        assert!(out.to_vec(&stream).unwrap().iter().all(|&byte| byte == 7), "{captured}");
    }
}

/// A launch that is queued has the operands that it had then, though plan and operands are dropped.
fn plans_go_under_their_launches() {
    let device = device();
    let stream = Stream::new(&device).unwrap();
    let busy = Busy::new(&stream);
    let shape = problem(20, 128, 320, 1);
    let end = Event::new(&device).unwrap();
    let layers: Vec<_> = (30..34).map(|seed| Layer::new(shape, seed, &stream)).collect();
    let mut plan = layers[0].plan();
    plan.launch(&stream).unwrap();
    let mut results = Vec::new();
    for layer in layers {
        let Layer { a, weights, c, exact } = layer;
        // Lets go of plan and operands of the launch before, which is in the queue still.
        plan = bound(&weights, &a, &c, &Options::default()).unwrap();
        busy.queue(&stream);
        plan.launch(&stream).unwrap();
        results.push((c, exact));
        end.record(&stream).unwrap();
        assert!(!end.is_done().unwrap(), "the queue is too short for this test");
        // Kept by the plan until it goes; from then on by cudaFree alone.
        drop((a, weights));
    }
    for (c, exact) in results {
        assert!(oracle::compare(&c.to_vec(&stream).unwrap(), &exact).passes());
    }
}

/// Set in the process whose context is lost.
const VICTIM: &str = "NVFP4_TEST_STICKY";

/// A kernel that reads memory that is none. CUDA refuses every later call of the process.
fn a_sticky_error_stays_an_error() {
    if std::env::var_os(VICTIM).is_none() {
        // The same test in a process of its own: by the harness's name for it where it runs under the emulator.
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(VICTIM, "1").args(["--exact", "a_sticky_error_stays_an_error"]);
        let output = command.output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}\n{text}", output.status);
        return;
    }
    let device = device();
    let stream = Stream::new(&device).unwrap();
    let layer = Layer::new(problem(4, 96, 64, 1), 6, &stream);
    let length = layer.a.codes().len();
    let nowhere = (1usize << 46) as *mut std::ffi::c_void;
    // SAFETY: none: this is the mistake.
    let codes =
        unsafe { DeviceView::<u8>::from_raw(nowhere, length, &device, Arc::new(())) }.unwrap();
    let a = DeviceMatrix::from_parts(1, 4, 64, codes, layer.a.scales().clone(), 1.0).unwrap();
    let plan = bound(&layer.weights, &a, &layer.c, &Options::default()).unwrap();
    // An emulator may notice at the launch already.
    let first = plan.launch(&stream).and_then(|()| stream.synchronize()).unwrap_err();
    let words = first.to_string();
    assert!(matches!(first, Error::Cuda(CudaError::Call { .. })), "{words}");
    for error in [
        stream.synchronize().unwrap_err(),
        plan.launch(&stream).and_then(|()| stream.synchronize()).unwrap_err(),
        layer.c.to_vec(&stream).unwrap_err(),
        DeviceBuffer::<u8>::alloc(16, &device).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Cuda(CudaError::Call { .. })), "{error}");
    }
    // Buffers, plan and stream are dropped now, without a panic.
}

/// Whatever device is current, and operands of one device are not those of another.
fn plans_on_two_devices() {
    let devices = Device::all_supported().unwrap();
    let mut made = Vec::new();
    for (i, device) in devices.iter().enumerate() {
        let stream = Stream::new(device).unwrap();
        let layer = Layer::new(problem(40, 160, 544, 1), 10 + i as u64, &stream);
        let plan = layer.plan();
        made.push((stream, layer, plan));
    }
    // The first device is current; each plan goes to its own.
    for (stream, layer, plan) in &made {
        layer.poison(stream);
        plan.launch(stream).unwrap();
    }
    for (stream, layer, _) in &made {
        layer.check(stream);
    }
    let ((stream, first, _), (_, second, plan)) = (&made[0], &made[1]);
    let wrong = |error: Error| {
        assert!(matches!(error, Error::Cuda(CudaError::WrongDevice { .. })), "{error}");
    };
    wrong(plan.launch(stream).unwrap_err());
    let options = Options::default();
    wrong(bound(&second.weights, &first.a, &second.c, &options).unwrap_err());
    wrong(bound(&second.weights, &second.a, &first.c, &options).unwrap_err());
}
