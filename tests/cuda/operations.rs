//! What kernels compute beside the plain dual GEMM: one weight, biases, a residual, C in NVFP4, 16-bit activations; each
//! against the exact oracle.

use nvfp4_dual_gemm::cuda::{
    ActivationType, Device, DeviceBuffer, DeviceMatrix, DeviceView, Io, Kernel, Options, Plan,
    RawActivations, RawDestination, RawIo, RoundFirst, Stream, Weights,
};
use nvfp4_dual_gemm::format::scale_layout::ScaleLayout;
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{
    DualGemm, Element, Error, Gemm, GemmShape, Glu, Nvfp4Matrix, ValuesView, bf16, f16, oracle,
};

use crate::harness::{Arch, Needs, Test, device, tests};
use crate::problem;

pub fn all() -> Vec<Test> {
    let mut all = Vec::new();
    for arch in Arch::ALL {
        let mut of_arch = Vec::new();
        for kernel in Kernel::all() {
            let info = kernel.info();
            if info.compute_capability != arch.compute_capability() {
                continue;
            }
            let mut add = |what: &str, run: fn(Kernel)| {
                let name = format!("{what}::{}", info.name);
                of_arch.push(Test::new(name, Needs::Kernels, move || run(kernel)));
            };
            match info.activations {
                ActivationType::Nvfp4 => {
                    add("one_weight", one_weight);
                    add("biases", biases);
                    add("c_in_nvfp4", c_in_nvfp4);
                }
                _ => {
                    add("values_of_16_bits", values_of_16_bits);
                    add("values_and_one_weight", values_and_one_weight);
                }
            }
        }
        of_arch.extend(tests![Needs::Kernels;
            rows_may_be_apart, operands_that_do_not_fit_are_refused, without_rows_nothing_is_written]);
        all.extend(of_arch.into_iter().map(|test| test.on(arch)));
    }
    all
}

/// Operands of a kernel's own tile: less, one more, and several of it.
fn shapes(kernel: Kernel) -> [GemmShape; 3] {
    let (tile_m, tile_n, _) = kernel.info().tile;
    let (m, n) = (tile_m as usize, tile_n as usize);
    [problem(3, 1, 32, 1), problem(m.min(130) + 1, 2 * n + 3, 160, 1), problem(5, n + 13, 608, 2)]
}

fn bias(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7 + seed) as f32 * 0.61).sin() * 3.0).collect()
}

fn check<T: Element>(actual: &[T], exact: &[T], what: &str) {
    let comparison = oracle::compare(actual, exact);
    assert!(comparison.passes(), "{what}: {comparison:?}");
}

/// C with guards of NaN around it.
struct Guarded<T: Element> {
    whole: DeviceBuffer<T>,
    c: DeviceView<T>,
}

const GUARD: usize = 64;

impl<T: Element> Guarded<T> {
    fn new(len: usize, stream: &Stream) -> Self {
        let nan = vec![T::from_f32(f32::NAN); len + 2 * GUARD];
        let whole = DeviceBuffer::from_host(&nan, stream).unwrap();
        Guarded { c: whole.slice(GUARD, len).unwrap(), whole }
    }

    fn read(&self, what: &str, stream: &Stream) -> Vec<T> {
        let all = self.whole.to_vec(stream).unwrap_or_else(|error| panic!("{what}: {error}"));
        let inside = GUARD..all.len() - GUARD;
        let outside = all[..inside.start].iter().chain(&all[inside.end..]);
        assert!(outside.into_iter().all(|value| value.to_f32().is_nan()), "{what}: outside of C");
        all[inside].to_vec()
    }
}

fn workspace(plan: &Plan, rows: usize, device: &Device) -> DeviceBuffer<u8> {
    DeviceBuffer::alloc(plan.workspace_bytes(rows).unwrap(), device).unwrap()
}

fn one_weight(kernel: Kernel) {
    fn of_type<T: Element>(kernel: Kernel, shape: GemmShape, with_bias: bool, in_place: bool) {
        let GemmShape { m, n, batch, .. } = shape;
        let what = format!("{} {shape:?} {} {with_bias} {in_place}", kernel.name(), T::DTYPE);
        let Operands { a, b1: w, .. } = Operands::generate(shape, Data::Full, 11).unwrap();
        let (device, bias) = (device(), bias(batch * n, 3));
        let stream = Stream::new(&device).unwrap();
        let mut weights = Weights::linear(&w, kernel.info().weights, &stream).unwrap();
        let mut gemm = Gemm::new(&a, &w).unwrap();
        if with_bias {
            weights = weights.with_bias(&bias, &stream).unwrap();
            gemm = gemm.with_bias(&bias).unwrap();
        }
        let residual: Vec<T> =
            (0..batch * m * n).map(|i| T::from_f32((i as f32 * 0.3).cos() * 40.0)).collect();
        let plan = Plan::new(&weights, &Options::default().kernel(kernel)).unwrap();
        let a = DeviceMatrix::upload(&a, &stream).unwrap();
        let out = Guarded::<T>::new(batch * m * n, &stream);
        let space = workspace(&plan, m, &device);
        let io = Io::new(&a, &out.c).workspace(&space);
        plan.launch(&io, &stream).unwrap_or_else(|error| panic!("{what}: {error}"));
        let exact: Vec<T> = oracle::exact(&gemm).unwrap();
        check(&out.read(&what, &stream), &exact, &what);

        let other = DeviceBuffer::from_host(&residual, &stream).unwrap();
        let added = if in_place {
            out.c.upload(&residual, &stream).unwrap();
            &out.c
        } else {
            &*other
        };
        plan.launch(&io.residual(added), &stream).unwrap_or_else(|error| panic!("{what}: {error}"));
        let exact: Vec<T> = oracle::exact(&gemm.with_residual(&residual[..]).unwrap()).unwrap();
        check(&out.read(&what, &stream), &exact, &format!("{what}, residual"));
    }
    let [few, tiles, batches] = shapes(kernel);
    of_type::<f16>(kernel, few, true, false);
    of_type::<f32>(kernel, tiles, false, true);
    of_type::<bf16>(kernel, batches, true, true);
    of_type::<f16>(kernel, problem(9, 64, 64, 1), false, false); // aligned for wide stores
}

fn biases(kernel: Kernel) {
    fn of_type<T: Element>(kernel: Kernel, shape: GemmShape, glu: Glu) {
        let GemmShape { m, n, batch, .. } = shape;
        let what = format!("{} {shape:?} {} {glu:?}", kernel.name(), T::DTYPE);
        let Operands { a, b1, b2 } = Operands::generate(shape, Data::Full, 12).unwrap();
        let (device, [bias1, bias2]) = (device(), [1, 2].map(|seed| bias(batch * n, seed)));
        let stream = Stream::new(&device).unwrap();
        let format = kernel.info().weights;
        let weights = Weights::prepare(&b1, &b2, format, &stream).unwrap();
        let weights = weights.with_biases(&bias1, &bias2, &stream).unwrap();
        let plan = Plan::new(&weights, &Options::default().glu(glu).kernel(kernel)).unwrap();
        let on_device = DeviceMatrix::upload(&a, &stream).unwrap();
        let out = Guarded::<T>::new(batch * m * n, &stream);
        let space = workspace(&plan, m, &device);
        let io = Io::new(&on_device, &out.c).workspace(&space);
        plan.launch(&io, &stream).unwrap_or_else(|error| panic!("{what}: {error}"));
        let gemm = DualGemm::new(&a, &b1, &b2).unwrap().with_glu(glu).unwrap();
        let gemm = gemm.with_biases([&bias1, &bias2]).unwrap();
        check(&out.read(&what, &stream), &oracle::exact::<T>(&gemm).unwrap(), &what);
    }
    let [few, tiles, batches] = shapes(kernel);
    of_type::<f32>(kernel, few, Glu::GegluTanh);
    of_type::<f16>(kernel, tiles, Glu::GPT_OSS);
    of_type::<bf16>(kernel, batches, Glu::Swiglu);
}

/// The host's quantizer of the exact h says which codes there have to be: but for a value next to a tie, where the
/// error of the sums decides.
fn c_in_nvfp4(kernel: Kernel) {
    let info = kernel.info();
    let n = (info.tile.1 as usize).next_multiple_of(32);
    for (shape, round_first) in [
        (problem(3, 32, 64, 1), RoundFirst::None),
        (problem(info.tile.0.min(130) as usize + 1, n + 96, 160, 1), RoundFirst::Bf16),
        (problem(130, 160, 96, 2), RoundFirst::F16),
    ] {
        let GemmShape { m, n, batch, .. } = shape;
        let what = format!("{} {shape:?} {round_first:?}", kernel.name());
        let Operands { a, b1, b2 } = Operands::generate(shape, Data::Full, 13).unwrap();
        let exact: Vec<f64> = rounded(
            &oracle::exact::<f32>(&DualGemm::new(&a, &b1, &b2).unwrap()).unwrap(),
            round_first,
        );
        let exact: Vec<f32> = exact.iter().map(|&value| value as f32).collect();
        let amax = exact.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        // Some saturate.
        let global = amax / 2000.0;
        let expected = Nvfp4Matrix::quantize_with_global(&exact, batch, m, n, global).unwrap();

        let device = device();
        let stream = Stream::new(&device).unwrap();
        let weights = Weights::prepare(&b1, &b2, info.weights, &stream).unwrap();
        let plan = Plan::new(&weights, &Options::default().kernel(kernel)).unwrap();
        let layout = ScaleLayout::new(batch, m, n).unwrap();
        let codes = DeviceBuffer::from_host(&vec![0xffu8; batch * m * n / 2], &stream).unwrap();
        let scales = vec![0xffu8; layout.swizzled_len()];
        let scales = DeviceBuffer::from_host(&scales, &stream).unwrap();
        let (codes, scales) = (codes.view(), scales.view());
        let c = DeviceMatrix::from_parts(batch, m, n, codes.clone(), scales.clone(), global);
        let (c, a) = (c.unwrap(), DeviceMatrix::upload(&a, &stream).unwrap());
        let space = workspace(&plan, m, &device);
        let io = Io::to_nvfp4(&a, &c, round_first).workspace(&space);
        plan.launch(&io, &stream).unwrap_or_else(|error| panic!("{what}: {error}"));

        let swizzled = scales.to_vec(&stream).unwrap();
        let mut of_rows = vec![0u8; batch * m * n / 16];
        layout.unswizzle_into(&swizzled, &mut of_rows).unwrap();
        let mut again = vec![0u8; swizzled.len()];
        layout.swizzle_into(&of_rows, &mut again).unwrap();
        assert_eq!(swizzled, again, "{what}: padding of the scale factors that is not 0");
        let wrong = of_rows.iter().zip(expected.view().scales()).filter(|(x, y)| x != y).count();
        assert!(wrong * 100 <= of_rows.len(), "{what}: {wrong} of {} scale factors", of_rows.len());
        let near = of_rows.iter().zip(expected.view().scales()).all(|(x, y)| x.abs_diff(*y) <= 1);
        assert!(near, "{what}: a scale factor is another by more than its last bit");
        let actual = codes.to_vec(&stream).unwrap();
        let both = actual.iter().zip(expected.view().codes());
        let wrong = both.filter(|(x, y)| x != y).count();
        assert!(wrong * 50 <= actual.len(), "{what}: {wrong} of {} codes", actual.len());
        let actual = Nvfp4Matrix::new(batch, m, n, actual, of_rows, global).unwrap();
        for (i, (x, y)) in actual.dequantize().iter().zip(expected.dequantize()).enumerate() {
            // Neighboring codes are at most 2 units apart, and neighboring scale factors 1/8.
            assert!((x - y).abs() <= 0.46 * y.abs().max(x.abs()) + 1e-6, "{what}: {x} {y} at {i}");
        }
    }
}

fn rounded(values: &[f32], round_first: RoundFirst) -> Vec<f64> {
    let round = |&value: &f32| match round_first {
        RoundFirst::F16 => f16::from_f32(value).to_f64(),
        RoundFirst::Bf16 => bf16::from_f32(value).to_f64(),
        _ => f64::from(value),
    };
    values.iter().map(round).collect()
}

fn x<A: Element>(shape: GemmShape) -> Vec<A> {
    let GemmShape { m, k, batch, .. } = shape;
    let value = |i: usize| (i as f32 * 0.37).sin() * [1.0, 1e-3, 30.0, 0.1][i % 4];
    (0..batch * m * k).map(|i| A::from_f32(value(i))).collect()
}

/// Calls with the type of the kernel's activations.
macro_rules! with_values {
    ($kernel:expr, $function:ident) => {
        match $kernel.info().activations {
            ActivationType::F16 => $function::<f16>($kernel),
            ActivationType::Bf16 => $function::<bf16>($kernel),
            other => panic!("{other:?}"),
        }
    };
}

fn values_of_16_bits(kernel: Kernel) {
    fn run<A: Element>(kernel: Kernel)
    where
        for<'a> ValuesView<'a, A>: Into<nvfp4_dual_gemm::ActivationsView<'a>>,
    {
        let [few, tiles, batches] = shapes(kernel);
        for (shape, glu) in [(few, Glu::Swiglu), (tiles, Glu::GegluTanh), (batches, Glu::GPT_OSS)] {
            let GemmShape { m, n, k, batch } = shape;
            let what = format!("{} {shape:?} {glu:?}", kernel.name());
            let Operands { b1, b2, .. } = Operands::generate(shape, Data::Full, 14).unwrap();
            let (device, [bias1, bias2]) = (device(), [1, 2].map(|seed| bias(batch * n, seed)));
            let stream = Stream::new(&device).unwrap();
            let weights = Weights::prepare(&b1, &b2, kernel.info().weights, &stream).unwrap();
            let weights = weights.with_biases(&bias1, &bias2, &stream).unwrap();
            let options = Options::default().glu(glu).kernel(kernel);
            let plan =
                Plan::new(&weights, &options.activations(kernel.info().activations)).unwrap();
            let x = x::<A>(shape);
            let values = DeviceBuffer::from_host(&x, &stream).unwrap();
            let out = Guarded::<A>::new(batch * m * n, &stream);
            let space = workspace(&plan, m, &device);
            let io = Io::of_values(&values, m, &out.c).workspace(&space);
            plan.launch(&io, &stream).unwrap_or_else(|error| panic!("{what}: {error}"));
            let a = ValuesView::new(batch, m, k, &x).unwrap();
            let gemm = DualGemm::new(a, &b1, &b2).unwrap().with_glu(glu).unwrap();
            let gemm = gemm.with_biases([&bias1, &bias2]).unwrap();
            check(&out.read(&what, &stream), &oracle::exact::<A>(&gemm).unwrap(), &what);
        }
    }
    with_values!(kernel, run)
}

fn values_and_one_weight(kernel: Kernel) {
    fn run<A: Element>(kernel: Kernel)
    where
        for<'a> ValuesView<'a, A>: Into<nvfp4_dual_gemm::ActivationsView<'a>>,
    {
        for shape in shapes(kernel) {
            let GemmShape { m, n, k, batch } = shape;
            let what = format!("{} {shape:?}", kernel.name());
            let Operands { b1: w, .. } = Operands::generate(shape, Data::Full, 15).unwrap();
            let (device, x) = (device(), x::<A>(shape));
            let stream = Stream::new(&device).unwrap();
            let weights = Weights::linear(&w, kernel.info().weights, &stream).unwrap();
            let options = Options::default().kernel(kernel);
            let plan =
                Plan::new(&weights, &options.activations(kernel.info().activations)).unwrap();
            let values = DeviceBuffer::from_host(&x, &stream).unwrap();
            let out = Guarded::<f32>::new(batch * m * n, &stream);
            let space = workspace(&plan, m, &device);
            let io = Io::of_values(&values, m, &out.c).workspace(&space);
            plan.launch(&io, &stream).unwrap_or_else(|error| panic!("{what}: {error}"));
            let gemm = Gemm::new(ValuesView::new(batch, m, k, &x).unwrap(), &w).unwrap();
            check(&out.read(&what, &stream), &oracle::exact::<f32>(&gemm).unwrap(), &what);
        }
    }
    with_values!(kernel, run)
}

/// C and the residual as parts of wider matrices, as a framework has them.
fn rows_may_be_apart() {
    let (device, shape) = (device(), problem(7, 33, 64, 2));
    let GemmShape { m, n, batch, .. } = shape;
    let stream = Stream::new(&device).unwrap();
    let Operands { a, b1: w, .. } = Operands::generate(shape, Data::Full, 16).unwrap();
    let format = Kernel::all().find(|kernel| kernel.runs_on(&device)).unwrap().info().weights;
    let weights = Weights::linear(&w, format, &stream).unwrap();
    let plan = Plan::new(&weights, &Options::default()).unwrap();
    let on_device = DeviceMatrix::upload(&a, &stream).unwrap();
    let (c_stride, r_stride) = (n + 5, n + 2);
    let c = vec![f16::NAN; batch * m * c_stride];
    let c = DeviceBuffer::from_host(&c, &stream).unwrap();
    let residual: Vec<f16> =
        (0..batch * m * r_stride).map(|i| f16::from_f32((i % 17) as f32)).collect();
    let r = DeviceBuffer::from_host(&residual, &stream).unwrap();
    let space = workspace(&plan, m, &device);
    let activations = RawActivations::Nvfp4 {
        codes: on_device.codes().as_ptr().cast_const(),
        scales: on_device.scales().as_ptr().cast_const(),
        global_scale: on_device.global_scale(),
    };
    let destination =
        RawDestination::Values { values: c.as_ptr(), dtype: f16::DTYPE, row_stride: c_stride };
    let mut io = RawIo::new(m, activations, destination);
    (io.residual, io.residual_row_stride) = (r.as_ptr().cast_const(), r_stride);
    (io.workspace, io.workspace_bytes) = (space.as_ptr(), space.len());
    // SAFETY: the buffers live until the stream was waited for.
    unsafe { plan.launch_raw(&io, stream.as_ptr()) }.unwrap();
    let all = c.to_vec(&stream).unwrap();
    let rows = |values: &[f16], stride: usize| -> Vec<f16> {
        values.chunks(stride).flat_map(|row| row[..n].to_vec()).collect()
    };
    let r = rows(&residual, r_stride);
    let gemm = Gemm::new(&a, &w).unwrap().with_residual(&r[..]).unwrap();
    check(&rows(&all, c_stride), &oracle::exact::<f16>(&gemm).unwrap(), "apart");
    let between = all.chunks(c_stride).flat_map(|row| &row[n..]);
    assert!(between.into_iter().all(|value| value.is_nan()), "between the rows of C");
}

fn operands_that_do_not_fit_are_refused() {
    let (device, shape) = (device(), problem(4, 32, 64, 1));
    let stream = Stream::new(&device).unwrap();
    let Operands { a, b1, b2 } = Operands::generate(shape, Data::Full, 17).unwrap();
    let format = Kernel::all().find(|kernel| kernel.runs_on(&device)).unwrap().info().weights;
    let dual = Weights::prepare(&b1, &b2, format, &stream).unwrap();
    let linear = Weights::linear(&b1, format, &stream).unwrap();
    let text = |result: nvfp4_dual_gemm::Result<Weights>| result.unwrap_err().to_string();
    assert!(text(dual.clone().with_bias(&[0.0; 32], &stream)).contains("bias"));
    assert!(text(linear.clone().with_biases(&[0.0; 32], &[0.0; 32], &stream)).contains("bias"));
    let short = linear.clone().with_bias(&[0.0; 31], &stream).unwrap_err();
    assert!(matches!(short, Error::Length { expected: 32, actual: 31, .. }), "{short}");

    let on_device = DeviceMatrix::upload(&a, &stream).unwrap();
    let c = DeviceBuffer::<f16>::alloc(4 * 32, &device).unwrap();
    let r = DeviceBuffer::<f16>::alloc(4 * 32, &device).unwrap();
    let other = DeviceBuffer::<f32>::alloc(4 * 32, &device).unwrap();
    let plan = Plan::new(&dual, &Options::default()).unwrap();
    let space = workspace(&plan, 4, &device);
    let refused = |plan: &Plan, io: &Io<'_>, words: &str| {
        let error = plan.launch(&io.workspace(&space), &stream).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    let io = Io::new(&on_device, &c);
    refused(&plan, &io.residual(&r), "residual");
    let plan = Plan::new(&linear, &Options::default()).unwrap();
    refused(&plan, &io.residual(&other), "f32");
    refused(&plan, &Io::of_values(&other.slice(0, 0).unwrap(), 0, &c), "c");
    let values = DeviceBuffer::<f16>::alloc(4 * 64, &device).unwrap();
    refused(&plan, &Io::of_values(&values, 4, &c), "plan is for nvfp4");
}

fn without_rows_nothing_is_written() {
    let (device, shape) = (device(), problem(1, 33, 64, 1));
    let stream = Stream::new(&device).unwrap();
    let Operands { b1, .. } = Operands::generate(shape, Data::Full, 18).unwrap();
    let format = Kernel::all().find(|kernel| kernel.runs_on(&device)).unwrap().info().weights;
    let weights = Weights::linear(&b1, format, &stream).unwrap();
    let weights = weights.with_bias(&[1.0; 33], &stream).unwrap();
    let plan = Plan::new(&weights, &Options::default()).unwrap();
    let none = Nvfp4Matrix::quantize::<f32>(&[], 1, 0, 64).unwrap();
    let none = DeviceMatrix::upload(&none, &stream).unwrap();
    let c = DeviceBuffer::<f32>::alloc(0, &device).unwrap();
    plan.launch(&Io::new(&none, &c), &stream).unwrap();
    stream.synchronize().unwrap();
}
