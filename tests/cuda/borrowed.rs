//! Layers over slices that a framework owns, held as candle holds them: by value, behind a lock, on its own stream.

use std::sync::{Arc, RwLock};

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaSlice, CudaStream};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{
    CudaError, DualGemm, Engine, Error, InputScale, Layer, MlpWeights, Nvfp4Matrix, Spec, cuda,
    oracle,
};

use crate::harness::{Needs, Test, tests};
use crate::problem;

const N: usize = 128;
const K: usize = 256;
const SCALE: f32 = 0.004;

pub fn all() -> Vec<Test> {
    tests![Needs::Driver;
        layers_take_borrowed_slices_on_any_stream, layers_go_into_graphs_that_others_capture,
        borrowed_slices_that_do_not_fit_are_refused]
}

/// As `candle_core::CudaStorage`.
struct Storage {
    slice: CudaSlice<f32>,
    stream: Arc<CudaStream>,
}

fn values(seed: usize, rows: usize) -> Vec<f32> {
    (0..rows * K).map(|i| ((i * 7919 + seed) as f32 * 0.013).sin() * 4.0).collect()
}

fn weights() -> MlpWeights {
    let Operands { b1, b2, .. } = Operands::generate(problem(1, N, K, 1), Data::Full, 9).unwrap();
    MlpWeights::new(b1, b2).unwrap()
}

fn layer() -> Layer {
    let spec = Spec::default().input_scale(InputScale::Fixed(SCALE));
    Engine::cuda(0).unwrap().load(weights(), &spec).unwrap()
}

fn check(y: &[f32], x: &[f32], what: &str) {
    let weights = weights();
    let a = Nvfp4Matrix::quantize_with_global(x, 1, x.len() / K, K, SCALE).unwrap();
    let gemm = DualGemm::new(&a, weights.gate_proj(), weights.up_proj()).unwrap();
    let comparison = oracle::compare(y, &oracle::exact::<f32>(&gemm).unwrap());
    assert!(comparison.passes(), "{what}: {comparison:?}");
}

/// What an op of a framework does: y is allocated by each call, x may be a part of a wider tensor.
fn forward(layer: &Layer, x: &RwLock<Storage>, from: usize, rows: usize) -> CudaSlice<f32> {
    let storage = x.read().unwrap();
    let stream = &storage.stream;
    let layer = layer.on_device().unwrap();
    let mut scratch = stream.alloc_zeros::<u8>(layer.scratch_bytes(rows).unwrap()).unwrap();
    // SAFETY: the layer writes all of it.
    let mut y = unsafe { stream.alloc::<f32>(rows * N) }.unwrap();
    let view = storage.slice.slice(from * K..(from + rows) * K);
    // SAFETY: nothing is captured, and nobody else uses the slices.
    unsafe { layer.launch_with(&view, rows, &mut y, &mut scratch, stream) }.unwrap();
    y
}

fn layers_take_borrowed_slices_on_any_stream() {
    let (context, layer) = (cuda::cudarc_context(0).unwrap(), layer());
    let streams = [
        ("created", context.new_stream().unwrap()),
        ("legacy", context.default_stream()),
        ("per thread", context.per_thread_stream()),
    ];
    for (name, stream) in streams {
        let host = values(1, 24);
        let slice = stream.clone_htod(&host).unwrap();
        let x = RwLock::new(Storage { slice, stream: stream.clone() });
        for (from, rows) in [(0, 24), (3, 1), (5, 17)] {
            let y = stream.clone_dtoh(&forward(&layer, &x, from, rows)).unwrap();
            check(&y, &host[from * K..(from + rows) * K], &format!("{name} stream, {rows} rows"));
        }
        // Written on one stream, read on another: the guards order them.
        let other = context.new_stream().unwrap();
        let written = other.clone_htod(&values(2, 4)).unwrap();
        let x = RwLock::new(Storage { slice: written, stream: stream.clone() });
        let y = stream.clone_dtoh(&forward(&layer, &x, 0, 4)).unwrap();
        check(&y, &values(2, 4), name);
    }
}

fn layers_go_into_graphs_that_others_capture() {
    let (context, layer) = (cuda::cudarc_context(0).unwrap(), layer());
    let stream = context.new_stream().unwrap();
    let on_device = layer.on_device().unwrap();
    let mut x = stream.clone_htod(&values(1, 6)).unwrap();
    let mut y = stream.alloc_zeros::<f32>(6 * N).unwrap();
    let mut scratch = stream.alloc_zeros::<u8>(on_device.scratch_bytes(6).unwrap()).unwrap();
    // SAFETY: what is used outlives the replays.
    let mut launch = |x: &CudaSlice<f32>, y: &mut CudaSlice<f32>| unsafe {
        on_device.launch_with(x, 6, y, &mut scratch, &stream)
    };
    launch(&x, &mut y).unwrap();
    // SAFETY: one stream; its order is all that is needed, and events cannot be waited for in the capture.
    unsafe { context.disable_event_tracking() };
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    launch(&x, &mut y).unwrap();
    let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let graph = stream.end_capture(flags).unwrap().unwrap();
    for seed in [3, 4] {
        stream.memcpy_htod(&values(seed, 6), &mut x).unwrap();
        stream.memset_zeros(&mut y).unwrap();
        graph.launch().unwrap();
        check(&stream.clone_dtoh(&y).unwrap(), &values(seed, 6), "replayed");
    }
}

fn borrowed_slices_that_do_not_fit_are_refused() {
    let (context, layer) = (cuda::cudarc_context(0).unwrap(), layer());
    let (stream, on_device) = (context.new_stream().unwrap(), layer.on_device().unwrap());
    let x = stream.clone_htod(&values(1, 2)).unwrap();
    let mut y = stream.alloc_zeros::<f32>(2 * N).unwrap();
    let bytes = on_device.scratch_bytes(2).unwrap();
    let mut scratch = stream.alloc_zeros::<u8>(bytes).unwrap();
    // SAFETY: refused before anything is queued.
    let long = unsafe { on_device.launch_with(&x, 3, &mut y, &mut scratch, &stream) };
    assert!(matches!(long.unwrap_err(), Error::Length { .. }));
    let odd = x.slice(1..K + 1);
    let mut one = y.slice_mut(..N);
    // SAFETY: as above.
    let odd = unsafe { on_device.launch_with(&odd, 1, &mut one, &mut scratch, &stream) };
    assert!(matches!(odd.unwrap_err(), Error::Cuda(CudaError::Address { alignment: 16, .. })));
    let mut short = stream.alloc_zeros::<u8>(bytes - 1).unwrap();
    // SAFETY: as above.
    let short = unsafe { on_device.launch_with(&x, 2, &mut y, &mut short, &stream) };
    let words = short.unwrap_err().to_string();
    assert!(words.contains("scratch") && words.contains(&bytes.to_string()), "{words}");
}
