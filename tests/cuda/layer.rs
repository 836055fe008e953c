//! Layers on a device: values in and out, and what a call costs.

use std::collections::BTreeMap;
use std::ffi::c_void;

use nvfp4_dual_gemm::cuda::{Device, DeviceBuffer, Graph, Kernel, RawValues, Stream};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{
    CudaError, DType, DualGemm, Element, Engine, Error, Glu, InputScale, Layer, MlpWeights,
    Nvfp4Matrix, Operand, Spec, bf16, f16, oracle,
};

use crate::harness::{Needs, Test, device, nvfp4_kernels, tests};
use crate::problem;

const N: usize = 96;
const K: usize = 80; // padded on the device

pub fn all() -> Vec<Test> {
    let mut all = tests![Needs::Kernels;
        layers_agree_with_the_oracle, an_engine_may_be_told_its_kernel, values_may_be_on_the_device,
        rows_of_values_may_be_apart, bad_values_are_named_once];
    let file = std::env::temp_dir().join(format!("nvfp4-calls-{}", std::process::id()));
    let calls =
        Test::new("a_call_asks_cuda_for_its_launches_alone", Needs::Emulator, calls_of_a_layer);
    all.push(calls.with("EMULATOR_CALLS", file.display().to_string()));
    all
}

fn weights() -> MlpWeights {
    let Operands { b1, b2, .. } = Operands::generate(problem(1, N, K, 1), Data::Full, 4).unwrap();
    let weights = MlpWeights::new(b1, b2).unwrap().with_glu(Glu::GPT_OSS).unwrap();
    weights.with_input_scale(0.003).unwrap()
}

fn x<T: Element>(rows: usize, stride: usize) -> Vec<T> {
    (0..rows * stride).map(|i| T::from_f32((i as f32 * 0.37).sin() * (1 + i % 7) as f32)).collect()
}

fn engine() -> Engine {
    Engine::cuda(device().ordinal()).unwrap()
}

fn load(engine: &Engine, scale: InputScale) -> Layer {
    engine.load(weights(), &Spec::default().input_scale(scale)).unwrap()
}

/// Rows that are quantized by themselves, through the exact sums.
fn exact<X: Element, Y: Element>(x: &[X], scale: InputScale) -> Vec<Y> {
    let (weights, whole) = (weights(), Nvfp4Matrix::quantize(x, 1, x.len() / K, K).unwrap());
    let row = |x: &[X]| {
        let global = match scale {
            InputScale::PerRow => return Nvfp4Matrix::quantize(x, 1, 1, K).unwrap(),
            InputScale::Dynamic => whole.global_scale(),
            InputScale::Fixed(scale) => scale,
            _ => 0.003,
        };
        Nvfp4Matrix::quantize_with_global(x, 1, 1, K, global).unwrap()
    };
    let rows = x.chunks(K).flat_map(|x| {
        let a = row(x);
        let gemm = DualGemm::new(&a, weights.gate_proj(), weights.up_proj()).unwrap();
        oracle::exact::<Y>(&gemm.with_glu(weights.glu()).unwrap()).unwrap()
    });
    rows.collect()
}

fn check<Y: Element>(y: &[Y], exact: &[Y], what: &str) {
    let comparison = oracle::compare(y, exact);
    assert!(comparison.passes(), "{what}: {comparison:?}");
}

fn layers_agree_with_the_oracle() {
    fn of_types<X: Element, Y: Element>(engine: &Engine) {
        for scale in [
            InputScale::Calibrated,
            InputScale::Dynamic,
            InputScale::PerRow,
            InputScale::Fixed(0.002),
        ] {
            let layer = load(engine, scale);
            for rows in [3, 1, 20] {
                let x = x::<X>(rows, K);
                let mut y = vec![Y::from_f32(f32::NAN); rows * N];
                layer.run(&x[..], rows, &mut y[..]).unwrap();
                check(&y, &exact::<X, Y>(&x, scale), &format!("{scale}, {rows} rows"));
            }
            layer.run(&x::<X>(0, K), 0, &mut Vec::<Y>::new()).unwrap();
        }
    }
    let engine = engine();
    of_types::<f32, f32>(&engine);
    of_types::<bf16, f16>(&engine);
    of_types::<f16, bf16>(&engine);
}

fn an_engine_may_be_told_its_kernel() {
    let (device, x) = (device(), x::<f32>(5, K));
    for kernel in nvfp4_kernels() {
        let told = engine().with_kernel(kernel);
        if !kernel.runs_on(&device) {
            assert!(matches!(told.unwrap_err(), Error::Cuda(CudaError::KernelArchitecture { .. })));
            continue;
        }
        let told = told.unwrap();
        assert_eq!((told.kernel(), told.to_string()), (Some(kernel), format!("cuda ({kernel})")));
        let layer = load(&told, InputScale::Calibrated);
        assert_eq!(layer.on_device().unwrap().plan().kernel(5).unwrap().name, kernel.name());
        let mut y = vec![f32::NAN; 5 * N];
        layer.run(&x, 5, &mut y).unwrap();
        check(&y, &exact::<f32, f32>(&x, InputScale::Calibrated), kernel.name());
    }
    let cpu = Engine::cpu().unwrap().with_kernel(Kernel::all().next().unwrap()).unwrap_err();
    assert!(matches!(cpu, Error::BackendUnavailable { .. }), "{cpu}");
}

/// Two layers share scratch memory on one stream, launched, and replayed in a graph.
fn values_may_be_on_the_device() {
    let (device, engine) = (device(), engine());
    let stream = Stream::new(&device).unwrap();
    let layers = [InputScale::Dynamic, InputScale::Fixed(0.002)].map(|scale| load(&engine, scale));
    let on_device = layers.each_ref().map(|layer| layer.on_device().unwrap());
    let rows = 9;
    let bytes =
        on_device.map(|layer| layer.scratch_bytes(rows).unwrap()).into_iter().max().unwrap();
    let scratch = DeviceBuffer::<u8>::zeroed(bytes, &stream).unwrap();
    let host = x::<bf16>(rows, K);
    let values = DeviceBuffer::from_host(&host, &stream).unwrap();
    let results = [(); 2].map(|()| DeviceBuffer::<f32>::zeroed(rows * N, &stream).unwrap());
    let launch = |stream: &Stream| {
        for (layer, y) in on_device.iter().zip(&results) {
            layer.launch(&values, rows, y, &scratch, stream)?;
        }
        Ok(())
    };
    let all_right = |host: &[bf16]| {
        let scales = [InputScale::Dynamic, InputScale::Fixed(0.002)];
        for (y, scale) in results.iter().zip(scales) {
            check(&y.to_vec(&stream).unwrap(), &exact(host, scale), &scale.to_string());
            y.fill_bytes(0xff, &stream).unwrap();
        }
    };
    launch(&stream).unwrap();
    all_right(&host);
    let graph = Graph::capture(&stream, launch).unwrap();
    let other: Vec<bf16> = host.iter().rev().copied().collect();
    values.upload(&other, &stream).unwrap();
    graph.launch(&stream).unwrap();
    all_right(&other);
    on_device[0].check(&scratch, rows, &stream).unwrap();

    let short = scratch.slice(0, on_device[0].scratch_bytes(rows).unwrap() - 1).unwrap();
    let error = on_device[0].launch(&values, rows, &results[0], &short, &stream).unwrap_err();
    assert!(error.to_string().contains("scratch"), "{error}");
    let error = on_device[0].launch(&values, rows + 1, &results[0], &scratch, &stream).unwrap_err();
    assert!(matches!(error, Error::Length { operand: Operand::A, .. }), "{error}");
    let shifted = values.slice(1, K).unwrap();
    let y = results[0].slice(0, N).unwrap();
    let error = on_device[0].launch(&shifted, 1, &y, &scratch, &stream).unwrap_err();
    assert!(matches!(error, Error::Cuda(CudaError::Address { alignment: 16, .. })), "{error}");
}

/// As a slice of a framework's wider tensor; what is between the rows is NaN.
fn rows_of_values_may_be_apart() {
    fn of_type<T: Element>(device: &Device) {
        let stream = Stream::new(device).unwrap();
        let (rows, stride) = (21, K + 48);
        let mut apart = x::<T>(rows, stride);
        let rows_of = |apart: &[T]| -> Vec<T> {
            apart.chunks(stride).flat_map(|row| row[..K].to_vec()).collect()
        };
        for row in apart.chunks_mut(stride) {
            row[K..].fill(T::from_f32(f32::NAN));
        }
        let host = rows_of(&apart);
        let values = DeviceBuffer::from_host(&apart, &stream).unwrap();
        for scale in [InputScale::Dynamic, InputScale::PerRow, InputScale::Fixed(0.002)] {
            let layer = load(&engine(), scale);
            let layer = layer.on_device().unwrap();
            let bytes = layer.scratch_bytes(rows).unwrap();
            let scratch = DeviceBuffer::<u8>::zeroed(bytes, &stream).unwrap();
            let y = DeviceBuffer::<f32>::zeroed(rows * N, &stream).unwrap();
            let raw = |x: *const c_void, stride| {
                let mut raw = RawValues::new(
                    rows,
                    (x, T::DTYPE, stride),
                    (y.as_ptr(), DType::F32),
                    (scratch.as_ptr(), bytes),
                );
                raw.x_row_stride = stride;
                raw
            };
            let raw_values = raw(values.as_ptr(), stride);
            // SAFETY: all memory lives until the stream was waited for, and the stream is the device's.
            unsafe { layer.launch_raw(&raw_values, stream.as_ptr()) }.unwrap();
            check(&y.to_vec(&stream).unwrap(), &exact(&host, scale), &format!("{scale}"));
            layer.check(&scratch, rows, &stream).unwrap();
            for bad in [K - 16, K + 1] {
                // SAFETY: refused before anything is queued.
                let error =
                    unsafe { layer.launch_raw(&raw(values.as_ptr(), bad), stream.as_ptr()) };
                let words = error.unwrap_err().to_string();
                assert!(words.contains(&format!("row stride of {bad}")), "{words}");
            }
        }
    }
    let device = device();
    of_type::<f32>(&device);
    of_type::<f16>(&device);
    of_type::<bf16>(&device);
}

fn bad_values_are_named_once() {
    let layer = load(&engine(), InputScale::Fixed(0.01));
    let mut bad = x::<f32>(4, K);
    bad[2 * K + 5] = f32::INFINITY;
    let mut y = vec![0f32; 4 * N];
    let error = layer.run(&bad, 4, &mut y).unwrap_err();
    let named = matches!(error, Error::NonFinite { operand: Operand::A, row: 2, col: 5, .. });
    assert!(named, "{error}");
    let good = x::<f32>(4, K);
    layer.run(&good, 4, &mut y).unwrap();
    check(&y, &exact::<f32, f32>(&good, InputScale::Fixed(0.01)), "after an error");
}

/// After a first call, values on the host cost copies, launches and one wait; values on the device launches alone.
fn calls_of_a_layer() {
    let (device, engine) = (device(), engine());
    let stream = Stream::new(&device).unwrap();
    let file = std::env::var("EMULATOR_CALLS").unwrap();
    let calls = |work: &dyn Fn()| -> BTreeMap<String, usize> {
        let count = || std::fs::read_to_string(&file).unwrap().lines().count();
        let before = count();
        work();
        let all = std::fs::read_to_string(&file).unwrap();
        let mut calls = BTreeMap::new();
        for name in all.lines().skip(before) {
            *calls.entry(name.to_owned()).or_insert(0) += 1;
        }
        // What tells and sets the current device, and a capture.
        let free = ["cudaGetDevice", "cudaSetDevice", "cudaStreamIsCapturing"];
        calls.retain(|name, _| !free.contains(&name.as_str()));
        calls
    };
    for (scale, quantizing) in [(InputScale::Fixed(0.01), 1), (InputScale::Dynamic, 2)] {
        let layer = load(&engine, scale);
        let on_device = layer.on_device().unwrap();
        for rows in [1, 20] {
            let host = x::<f32>(rows, K);
            let run = || layer.run(&host, rows, &mut vec![0f32; rows * N]).unwrap();
            run();
            let values = DeviceBuffer::from_host(&host, &stream).unwrap();
            let y = DeviceBuffer::<f16>::zeroed(rows * N, &stream).unwrap();
            let bytes = on_device.scratch_bytes(rows).unwrap();
            let scratch = DeviceBuffer::<u8>::zeroed(bytes, &stream).unwrap();
            let launch = || on_device.launch(&values, rows, &y, &scratch, &stream).unwrap();
            launch();
            let mut of_launch = calls(&launch);
            let mut of_run = calls(&run);
            println!("{scale}, {rows} rows: launch {of_launch:?}, run {of_run:?}");
            let kernels = of_launch.remove("cudaLaunchKernel").unwrap_or(0);
            assert_eq!(kernels, quantizing);
            assert!(of_launch.remove("cudaLaunchKernelExC").is_some_and(|n| (1..=2).contains(&n)));
            // The largest magnitude begins at 0; tensor maps are encoded by the driver on the host.
            let maps = of_launch.remove("cuTensorMapEncodeTiled").unwrap_or(0);
            assert!(maps <= 3, "{maps} tensor maps: those of the weights are there");
            assert_eq!(of_launch.remove("cudaMemsetAsync").unwrap_or(0), quantizing - 1);
            assert!(of_launch.is_empty(), "{of_launch:?}");
            assert_eq!(of_run.remove("cudaMemcpyAsync"), Some(3));
            assert_eq!(of_run.remove("cudaStreamSynchronize"), Some(1));
            for name in [
                "cudaLaunchKernel",
                "cudaLaunchKernelExC",
                "cudaMemsetAsync",
                "cuTensorMapEncodeTiled",
            ] {
                of_run.remove(name);
            }
            of_run.remove("cudaThreadExchangeStreamCaptureMode");
            assert!(of_run.is_empty(), "{of_run:?}");
        }
    }
}
