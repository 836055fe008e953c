//! Whole MLPs on a device.

use nvfp4_dual_gemm::cuda::{
    ActivationType, Device, DeviceBuffer, Graph, Kernel, RawValues, Stream,
};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{
    DType, DType16, Element, Engine, Error, Glu, InputScale, Layer, MlpWeights, Operand, Precision,
    Spec, Stage, ValuesView, bf16, f16, oracle,
};

use crate::harness::{Arch, Needs, Test, device, tests};
use crate::problem;

/// Length of a row of y: odd.
const H: usize = 77;

pub fn all() -> Vec<Test> {
    let mut all = Vec::new();
    for arch in Arch::ALL {
        let of_arch = tests![Needs::Kernels;
            mlps_agree_with_the_oracle, mlps_with_16_bit_activations_agree_with_the_oracle,
            a_residual_is_added_to_values_on_the_device, stages_come_in_order,
            what_is_not_finite_is_named, ranks_add_up];
        all.extend(of_arch.into_iter().map(|test| test.on(arch)));
    }
    all
}

fn engine() -> Engine {
    Engine::cuda(device().ordinal()).unwrap()
}

fn wave(len: usize, step: f32) -> Vec<f32> {
    (0..len).map(|i| (i as f32 * step).sin() * (1 + i % 5) as f32).collect()
}

fn weights(n: usize, k: usize, biases: bool) -> MlpWeights {
    let Operands { b1, b2, .. } = Operands::generate(problem(1, n, k, 1), Data::Full, 4).unwrap();
    let down = Operands::generate(problem(1, H, n, 1), Data::Full, 5).unwrap().b1;
    let weights = MlpWeights::new(b1, b2).unwrap().with_down(down).unwrap();
    let weights = weights.with_glu(Glu::GPT_OSS).unwrap();
    let weights = weights.with_input_scale(0.004).unwrap().with_down_input_scale(0.03).unwrap();
    if !biases {
        return weights;
    }
    let weights = weights.with_biases(wave(n, 0.7), wave(n, 1.3)).unwrap();
    weights.with_down_bias(wave(H, 0.9)).unwrap()
}

fn x<T: Element>(rows: usize, k: usize) -> Vec<T> {
    wave(rows * k, 0.37).into_iter().map(T::from_f32).collect()
}

/// Both projections, one after the other: h of the same engine, and y for that h, as a code of h that differs from the
/// exact one changes a whole row of y.
fn check<X: Element, Y: Element>(layer: &Layer, x: &[X], rows: usize, y: &[Y], what: &str) {
    let (weights, precision) = (layer.weights(), layer.precision());
    let gate_up = layer.engine().load(weights.gate_up(), &Spec::default().precision(precision));
    let gate_up = gate_up.unwrap();
    let n = weights.intermediate_features();
    let mut h = vec![f32::NAN; rows * n];
    gate_up.run(x, rows, &mut h).unwrap();
    let exact: Vec<f32> = oracle::mlp(&weights.gate_up(), x, rows, precision).unwrap();
    let comparison = oracle::compare(&h, &exact);
    assert!(comparison.passes(), "{what}, h: {comparison:?}");
    let exact: Vec<Y> = match precision {
        Precision::W4A4 { scale } => {
            let h = weights.quantize_down(&h, rows, scale).unwrap();
            let gemm = weights.down_gemm(h.matrix()).unwrap();
            match h.row_scales() {
                Some(scales) => oracle::exact(&gemm.with_row_scales(scales).unwrap()),
                None => oracle::exact(&gemm),
            }
        }
        Precision::W4A16 { round } => match round.of(X::DTYPE) {
            DType16::F16 => {
                let h: Vec<f16> = h.iter().map(|&value| f16::from_f32(value)).collect();
                let h = ValuesView::new(1, rows, n, &h).unwrap();
                oracle::exact(&weights.down_gemm(h).unwrap())
            }
            DType16::Bf16 => {
                let h: Vec<bf16> = h.iter().map(|&value| bf16::from_f32(value)).collect();
                let h = ValuesView::new(1, rows, n, &h).unwrap();
                oracle::exact(&weights.down_gemm(h).unwrap())
            }
        },
        other => panic!("{other}"),
    }
    .unwrap();
    let comparison = oracle::compare(y, &exact);
    assert!(comparison.passes(), "{what}, y: {comparison:?}");
}

fn run<X: Element, Y: Element>(layer: &Layer, rows: usize, what: &str) {
    let x = x::<X>(rows, layer.in_features());
    let mut y = vec![Y::from_f32(f32::NAN); rows * H];
    layer.run(&x[..], rows, &mut y[..]).unwrap_or_else(|error| panic!("{what}: {error}"));
    check(layer, &x, rows, &y, what);
}

fn mlps_agree_with_the_oracle() {
    let engine = engine();
    // h in NVFP4 from the dual GEMM; and with an N that is no multiple of 32, by way of the quantizer.
    for (n, k, biases) in [(160, 96, true), (80, 80, false)] {
        for scale in [
            InputScale::Calibrated,
            InputScale::Dynamic,
            InputScale::PerRow,
            InputScale::Fixed(0.003),
        ] {
            let precision = Precision::W4A4 { scale };
            let layer = engine.load(weights(n, k, biases), &Spec::default().precision(precision));
            let layer = layer.unwrap();
            let known = matches!(scale, InputScale::Calibrated | InputScale::Fixed(_));
            let on_device = layer.on_device().unwrap();
            assert_eq!(on_device.quantizes_in_epilogue(), known && n == 160);
            let what = |rows: usize| format!("{n}x{k}, {scale}, {rows} rows");
            run::<f32, f32>(&layer, 3, &what(3));
            run::<bf16, f16>(&layer, 1, &what(1));
            if scale != InputScale::PerRow {
                run::<f16, bf16>(&layer, 140, &what(140));
            }
            layer.run(&Vec::<f32>::new(), 0, &mut Vec::<f32>::new()).unwrap();
        }
    }
}

/// Whether a kernel of this build takes 16-bit activations on the device.
fn takes_values(device: &Device) -> bool {
    let takes = |kernel: Kernel| kernel.info().activations != ActivationType::Nvfp4;
    Kernel::all().any(|kernel| kernel.runs_on(device) && takes(kernel))
}

fn mlps_with_16_bit_activations_agree_with_the_oracle() {
    let engine = engine();
    for round in [DType16::Bf16, DType16::F16] {
        let spec = Spec::default().precision(Precision::W4A16 { round });
        if !takes_values(engine.device().unwrap()) {
            let error = engine.load(weights(96, 96, false), &spec).unwrap_err().to_string();
            assert!(error.contains("W4A16") && error.contains("dynamic"), "{error}");
            continue;
        }
        // As they are; and with rows that have to be padded.
        for (n, k, biases) in [(160, 96, true), (80, 80, false)] {
            let layer = engine.load(weights(n, k, biases), &spec).unwrap();
            let what = |rows: usize| format!("{n}x{k}, {round}, {rows} rows");
            run::<f32, f32>(&layer, 3, &what(3));
            run::<bf16, bf16>(&layer, 1, &what(1));
            run::<f16, f32>(&layer, 40, &what(40));
            run::<bf16, f16>(&layer, 140, &what(140));
            layer.run(&Vec::<f32>::new(), 0, &mut Vec::<f32>::new()).unwrap();
        }
    }
}

/// Launched twice in a graph, with y as the residual: it grows by the same product each time.
fn a_residual_is_added_to_values_on_the_device() {
    let (device, engine) = (device(), engine());
    let stream = Stream::new(&device).unwrap();
    let layer = engine.load(weights(160, 96, false), &Spec::default()).unwrap();
    let on_device = layer.on_device().unwrap();
    let (rows, k) = (5, layer.in_features());
    let x = x::<bf16>(rows, k);
    let values = DeviceBuffer::from_host(&x, &stream).unwrap();
    let mut once = vec![0f32; rows * H];
    layer.run(&x[..], rows, &mut once[..]).unwrap();
    let stride = H + 3;
    let y = DeviceBuffer::from_host(&vec![100f32; rows * stride], &stream).unwrap();
    let bytes = on_device.scratch_bytes(rows).unwrap();
    let scratch = DeviceBuffer::<u8>::zeroed(bytes, &stream).unwrap();
    let mut raw = RawValues::new(
        rows,
        (values.as_ptr().cast_const(), DType::Bf16, k),
        (y.as_ptr(), DType::F32),
        (scratch.as_ptr(), bytes),
    );
    (raw.residual, raw.y_row_stride, raw.residual_row_stride) =
        (y.as_ptr().cast_const(), stride, stride);
    for _ in 0..2 {
        // SAFETY: all memory lives until the stream was waited for, and the stream is the device's.
        unsafe { on_device.launch_raw(&raw, stream.as_ptr()) }.unwrap();
    }
    let twice = y.to_vec(&stream).unwrap();
    for (row, once) in twice.chunks(stride).zip(once.chunks(H)) {
        for (twice, once) in row.iter().zip(once) {
            let expected = 100.0 + f64::from(*once) + f64::from(*once);
            let near = 1e-6 * (100.0 + 4.0 * f64::from(once.abs()));
            assert!((f64::from(*twice) - expected).abs() <= near, "{twice} {expected}");
        }
        assert_eq!(row[H..], [100.0; 3]);
    }
    let gate_up = engine.load(layer.weights().gate_up(), &Spec::default()).unwrap();
    (raw.y_row_stride, raw.residual_row_stride) = (0, 0);
    // SAFETY: refused before anything is queued.
    let error = unsafe { gate_up.on_device().unwrap().launch_raw(&raw, stream.as_ptr()) };
    let error = error.unwrap_err().to_string();
    assert!(error.contains("residual"), "{error}");

    let y = DeviceBuffer::<f32>::zeroed(rows * H, &stream).unwrap();
    let graph =
        Graph::capture(&stream, |stream| on_device.launch(&values, rows, &y, &scratch, stream));
    let graph = graph.unwrap();
    for _ in 0..2 {
        y.fill_bytes(0xff, &stream).unwrap();
        graph.launch(&stream).unwrap();
        assert_eq!(y.to_vec(&stream).unwrap(), once);
    }
    on_device.check(&scratch, rows, &stream).unwrap();
}

fn stages_come_in_order() {
    let engine = engine();
    let layer = engine.load(weights(160, 96, false), &Spec::default()).unwrap();
    let x = x::<f32>(4, 96);
    let (mut stages, mut y) = (Vec::new(), vec![0f32; 4 * H]);
    layer.run_in_stages(&x, 4, &mut y, |stage| stages.push(stage)).unwrap();
    assert_eq!(stages, [Stage::X, Stage::GateUp, Stage::H, Stage::Down]);
    let mut again = vec![0f32; 4 * H];
    layer.run(&x, 4, &mut again).unwrap();
    assert_eq!(y, again);
}

/// Tensor parallelism with the ranks on one device, and their sum on the host in place of an all-reduce.
fn ranks_add_up() {
    let (engine, rows) = (engine(), 6);
    let whole = weights(160, 96, true);
    let x = x::<f32>(rows, 96);
    let exact: Vec<f32> = oracle::mlp(&whole, &x, rows, Precision::default()).unwrap();
    for ranks in [1, 3] {
        let mut sum = vec![0f64; rows * H];
        for rank in 0..ranks {
            let layer = engine.load(whole.shard(rank, ranks).unwrap(), &Spec::default()).unwrap();
            let mut y = vec![0f32; rows * H];
            layer.run(&x, rows, &mut y).unwrap();
            check(&layer, &x, rows, &y, &format!("rank {rank} of {ranks}"));
            sum.iter_mut().zip(&y).for_each(|(sum, &y)| *sum += f64::from(y));
        }
        let length =
            |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
        let error = length(&mut sum.iter().zip(&exact).map(|(y, &exact)| y - f64::from(exact)));
        let all = length(&mut exact.iter().map(|&exact| f64::from(exact)));
        assert!(error <= 0.01 * all, "{ranks} ranks: {error} of {all}");
    }
}

fn what_is_not_finite_is_named() {
    let engine = engine();
    let mut bad = x::<f32>(4, 96);
    bad[2 * 96 + 5] = f32::NAN;
    let mut y = vec![0f32; 4 * H];
    let mut precisions = [InputScale::Calibrated, InputScale::Dynamic, InputScale::PerRow]
        .map(|scale| Precision::W4A4 { scale })
        .to_vec();
    if takes_values(engine.device().unwrap()) {
        precisions.extend([Precision::W4A16, Precision::W4A16 { round: DType16::F16 }]);
    }
    for precision in precisions {
        let layer = engine.load(weights(160, 96, false), &Spec::default().precision(precision));
        let layer = layer.unwrap();
        let error = layer.run(&bad, 4, &mut y).unwrap_err();
        let named = matches!(error, Error::NonFinite { operand: Operand::A, row: 2, col: 5, .. });
        assert!(named, "{precision}: {error}");
        if matches!(precision, Precision::W4A16 { .. }) {
            let bad: Vec<bf16> = bad.iter().map(|&value| bf16::from_f32(value)).collect();
            let error = layer.run(&bad, 4, &mut y).unwrap_err();
            let named =
                matches!(error, Error::NonFinite { operand: Operand::A, row: 2, col: 5, .. });
            assert!(named, "{precision}: {error}");
        }
        run::<f32, f32>(&layer, 4, "after an error");
    }
}
