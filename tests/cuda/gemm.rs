//! What the kernels compute, against the exact oracle.

use nvfp4_dual_gemm::cuda::{
    Device, DeviceBuffer, DeviceMatrix, Kernel, Options, Plan, Scheduler, Stream, WeightFormat,
    Weights,
};
use nvfp4_dual_gemm::synth::{CONTEST_BENCHMARKS, CONTEST_SEED, CONTEST_TESTS, Data, Operands};
use nvfp4_dual_gemm::{Element, GemmShape, Glu, Nvfp4Matrix, bf16, f16, oracle};

use crate::bound::{bound, bound_with};
use crate::harness::{Arch, Needs, Test, bound_of_sums, device, nvfp4_kernels, tests};
use crate::problem;

pub fn all() -> Vec<Test> {
    let mut all = Vec::new();
    for arch in Arch::ALL {
        let mut of_arch = tests![Needs::Kernels;
            every_gate_and_output_agrees_with_the_oracle, alphas_of_any_value_agree_with_the_oracle,
            few_rows_of_any_k_agree_with_the_oracle];
        let kernels = nvfp4_kernels()
            .filter(|kernel| kernel.info().compute_capability == arch.compute_capability());
        of_arch.extend(kernels.flat_map(of_kernel));
        for (name, problems) in
            [("test", &CONTEST_TESTS[..]), ("benchmark", &CONTEST_BENCHMARKS[..])]
        {
            for (i, &shape) in problems.iter().enumerate() {
                let GemmShape { m, n, k, .. } = shape;
                // Emulated, an instruction of Hopper takes as long as four times as much of a B200.
                let long = arch == Arch::H100 && m * n * k > 3 << 30;
                let name = format!("contest_{name}_{}_{m}x{n}x{k}", i + 1);
                let test = Test::new(name, Needs::Kernels, move || contest(shape));
                of_arch.push(if long {
                    test.on_gpu_only("it takes too long on the emulator")
                } else {
                    test
                });
            }
        }
        all.extend(of_arch.into_iter().map(|test| test.on(arch)));
    }
    // How the tensor cores of a B200 round, as measured by others, and functions that are off by as much as documented.
    for (name, value) in [("EMULATOR_ROUNDING", "mma-sim"), ("EMULATOR_MUFU", "perturbed")] {
        let test = Test::new(format!("arithmetic_of_the_device::{value}"), Needs::Emulator, || {
            Case::new(problem(19, 72, 1056, 2)).check::<f16>(&device());
            Case::new(problem(130, 200, 512, 1)).check::<f16>(&device());
        });
        all.push(test.with(name, value));
    }
    all
}

/// One launch to check. By default: SiLU, separate weights, the kernel that the shape gets, all codes and scales.
#[derive(Clone)]
pub struct Case {
    pub shape: GemmShape,
    pub gate: Glu,
    pub kernel: Option<Kernel>,
    pub format: WeightFormat,
    pub data: Data,
    pub seed: u64,
}

impl Case {
    pub fn new(shape: GemmShape) -> Self {
        let (format, data) = (WeightFormat::Separate, Data::Full);
        Case { shape, gate: Glu::Swiglu, kernel: None, format, data, seed: 7 }
    }

    pub fn of(kernel: Kernel, shape: GemmShape) -> Self {
        Case { kernel: Some(kernel), format: kernel.info().weights, ..Case::new(shape) }
    }

    /// Runs on the device and compares with the oracle, C prefilled with NaN.
    pub fn check<T: Element>(&self, device: &Device) {
        let Case { shape, gate, kernel, format, data, seed } = *self;
        let operands = Operands::generate(shape, data, seed).unwrap();
        let stream = Stream::new(device).unwrap();
        let a = DeviceMatrix::upload(&operands.a, &stream).unwrap();
        let weights = Weights::prepare(&operands.b1, &operands.b2, format, &stream).unwrap();
        let len = shape.batch * shape.m * shape.n;
        // A guard of 64 elements on each side must stay as it is.
        let nan = T::from_f32(f32::NAN);
        let whole = DeviceBuffer::from_host(&vec![nan; len + 128], &stream).unwrap();
        let c = whole.slice(64, len).unwrap();
        let options = Options::default().glu(gate).kernel(kernel);
        let plan = bound(&weights, &a, &c, &options).unwrap();
        // A as fp16, K in whole atoms of scale factors; none on a B200, nor where a block widens its tokens itself.
        let widened = 2 * shape.batch * shape.m * shape.k.next_multiple_of(64);
        let ahead = device.compute_capability() == (9, 0) && plan.kernel().tile.0 > 8;
        let workspace = Plan::new(&weights, &options).unwrap().workspace_bytes(shape.m).unwrap();
        assert_eq!(workspace, if ahead { widened } else { 0 });
        let name = plan.kernel().name;
        plan.launch(&stream).unwrap_or_else(|error| panic!("{name} {shape:?}: {error}"));
        let all = whole.to_vec(&stream).unwrap_or_else(|error| panic!("{name} {shape:?}: {error}"));
        let guards = all[..64].iter().chain(&all[64 + len..]);
        assert!(
            guards.into_iter().all(|value| value.to_f32().is_nan()),
            "{name} {shape:?}: outside of C"
        );
        let exact = oracle::exact::<T>(&operands.gemm().unwrap().with_glu(gate).unwrap()).unwrap();
        let comparison =
            oracle::compare(&all[64..64 + len], &exact).within(bound_of_sums(device, shape.k, 2));
        assert!(
            comparison.passes(),
            "{name} {shape:?} {gate:?}: {comparison:?}; {}",
            first_difference(&all[64..64 + len], &exact, shape.n)
        );
    }
}

fn first_difference<T: Element>(actual: &[T], exact: &[T], n: usize) -> String {
    let far = |(x, y): (&T, &T)| oracle::ulp_distance(*x, *y) > 1;
    let wrong: Vec<usize> = actual
        .iter()
        .zip(exact)
        .enumerate()
        .filter(|(_, pair)| far(*pair))
        .map(|(i, _)| i)
        .collect();
    wrong.first().map_or(String::new(), |&i| {
        let (actual, exact) = (actual[i].to_f32(), exact[i].to_f32());
        let at = format!("row {}, column {}", i / n, i % n);
        format!("{} values; the first at {at}: {actual}, exactly {exact}", wrong.len())
    })
}

/// Shapes with tails in M, N and K, odd numbers of tiles, more K than the stages hold (also in batches), K that blocks
/// share.
fn shapes(kernel: Kernel) -> [GemmShape; 8] {
    let info = kernel.info();
    let (m, n) = (info.tile.0 as usize, info.tile.1 as usize);
    let stages = info.stages as usize * info.tile.2 as usize;
    [
        problem(m, n, 512, 1),
        problem(m + 1, 2 * n + 3, 288, 1),
        problem(1, 1, 16, 1),
        problem(5, n - 1, stages + 80, 2),
        problem(m / 2 + 7, 3 * n, stages + 544, 1),
        problem(3, 3 * n + 17, 1056, 3),
        problem(m / 2 + 1, n + 3, 3104, 1),
        problem(2 * m - 1, 5 * n - 9, 32, 1),
    ]
}

fn of_kernel(kernel: Kernel) -> Vec<Test> {
    let name = |test: &str, variant: &str| format!("{test}::{kernel}{variant}");
    let agrees = "every_kernel_agrees_with_the_oracle";
    let mut all = vec![Test::new(name(agrees, ""), Needs::Kernels, move || {
        for shape in shapes(kernel) {
            Case::of(kernel, shape).check::<f16>(&device());
        }
    })];
    // The result may not depend on when asynchronous operations complete.
    for (schedule, seed) in [("lazy", 0), ("random", 1), ("random", 2), ("random", 3)] {
        let variant =
            if seed == 0 { format!("::{schedule}") } else { format!("::{schedule}{seed}") };
        let test = Test::new(name(agrees, &variant), Needs::Emulator, move || {
            for shape in &shapes(kernel)[1..7] {
                Case::of(kernel, *shape).check::<f16>(&device());
            }
        });
        let test = test.with("EMULATOR_SCHEDULE", schedule).with("EMULATOR_SEED", seed.to_string());
        all.push(if seed == 1 { test.with_checks_of_order() } else { test });
    }
    all.push(Test::new(name("n_of_every_store_width", ""), Needs::Kernels, move || {
        n_of_every_store_width(kernel);
    }));
    let k = long_k(kernel);
    all.push(Test::new(name("long_k", &format!("::{k}")), Needs::Kernels, move || {
        Case::of(kernel, problem(3, 8, k, 1)).check::<f16>(&device());
    }));
    all.extend(of_few_sms(kernel));
    all
}

/// Three tiles of columns, of which the last one ends in its first or its second step of the epilogue, with rows that
/// are aligned for stores of 32 or 16 bytes or of an element. Rows of two warps.
fn n_of_every_store_width(kernel: Kernel) {
    let device = device();
    let two_tiles = 2 * kernel.info().tile.1 as usize;
    for n in two_tiles + 8..=two_tiles + 24 {
        Case::of(kernel, problem(35, n, 64, 1)).check::<f16>(&device);
    }
    for n in [8, 11, 20, 24].map(|more| two_tiles + more) {
        Case::of(kernel, problem(35, n, 64, 1)).check::<f32>(&device);
    }
}

/// K of the layers of models: one for each kernel, so that each has its turn.
fn long_k(kernel: Kernel) -> usize {
    const ALL: [usize; 4] = [4096, 7168, 14336, 28672];
    let place = nvfp4_kernels().position(|other| other.info().name == kernel.info().name);
    ALL[place.unwrap_or(0) % ALL.len()]
}

/// More tiles than SMs: of the scheduler that is built in, or of cluster launch control, whose every answer is legal.
fn of_few_sms(kernel: Kernel) -> Vec<Test> {
    let answers: &[&str] = match kernel.info().scheduler {
        Scheduler::Clc => &["greedy", "never", "random"],
        _ => &["greedy"],
    };
    let mut all = Vec::new();
    for &answer in answers {
        for schedule in ["eager", "lazy", "random"] {
            let several = if answers.len() > 1 { format!("::{answer}") } else { String::new() };
            let name = format!("few_sms_do_many_tiles::{kernel}{several}::{schedule}");
            let test = Test::new(name, Needs::Emulator, move || {
                let info = kernel.info();
                let (m, n) = (info.tile.0 as usize, info.tile.1 as usize);
                assert_eq!(device().sm_count(), 4);
                Case::of(kernel, problem(2 * m + 1, 3 * n + 5, 288, 2)).check::<f16>(&device());
                // So little K that every tile waits for its accumulator.
                Case::of(kernel, problem(m + 1, 5 * n + 5, 48, 2)).check::<f16>(&device());
                // Stages are used again within a tile, and go on in the next.
                if schedule != "lazy" {
                    let k = info.stages as usize * info.tile.2 as usize + 80;
                    Case::of(kernel, problem(m, 3 * n + 5, k, 2)).check::<f16>(&device());
                }
            });
            all.push(
                test.with("EMULATOR_SMS", "4")
                    .with("EMULATOR_CLC", answer)
                    .with("EMULATOR_SCHEDULE", schedule)
                    .with("EMULATOR_SEED", "5")
                    .with_checks_of_order(),
            );
        }
    }
    all
}

/// The weights that kernels of the device take.
pub fn formats(device: &Device) -> Vec<WeightFormat> {
    let formats = [WeightFormat::Separate, WeightFormat::Interleaved];
    let taken = |format: &WeightFormat| {
        Kernel::all().any(|kernel| kernel.runs_on(device) && kernel.info().weights == *format)
    };
    formats.into_iter().filter(taken).collect()
}

fn every_gate_and_output_agrees_with_the_oracle() {
    let device = device();
    for format in formats(&device) {
        let clamped = Glu::ClampedSwiglu { limit: 1.5, slope: 1.25, offset: 0.5 };
        for gate in [Glu::Swiglu, Glu::GPT_OSS, Glu::GegluTanh, clamped] {
            let case = Case { gate, format, ..Case::new(problem(19, 72, 256, 2)) };
            case.check::<f16>(&device);
            case.check::<bf16>(&device);
            case.check::<f32>(&device);
        }
    }
}

fn alphas_of_any_value_agree_with_the_oracle() {
    let device = device();
    let stream = Stream::new(&device).unwrap();
    let operands = Operands::generate(problem(33, 200, 160, 1), Data::Full, 5).unwrap();
    let a = DeviceMatrix::upload(&operands.a, &stream).unwrap();
    let (alpha1, alpha2) = (0.7f32, 0.3f32);
    let scaled = |matrix: &Nvfp4Matrix, alpha: f32| {
        let (codes, scales, global) = matrix.clone().into_parts();
        Nvfp4Matrix::new(1, 200, 160, codes, scales, global * alpha).unwrap()
    };
    let (b1, b2) = (scaled(&operands.b1, alpha1), scaled(&operands.b2, alpha2));
    let exact =
        oracle::exact::<f16>(&nvfp4_dual_gemm::DualGemm::new(&operands.a, &b1, &b2).unwrap())
            .unwrap();
    for format in formats(&device) {
        let weights = Weights::prepare(&operands.b1, &operands.b2, format, &stream).unwrap();
        let c = DeviceBuffer::<f16>::alloc(33 * 200, &device).unwrap();
        let scalar = |value| DeviceBuffer::from_host(&[value], &stream).unwrap().view();
        let (factor1, factor2) = (scalar(alpha1), scalar(alpha2));
        let factors = [Some(&factor1), Some(&factor2)];
        let plan = bound_with(&weights, &a, &c, &Options::default(), factors).unwrap();
        plan.launch(&stream).unwrap();
        let comparison = oracle::compare(&c.to_vec(&stream).unwrap(), &exact);
        assert!(comparison.passes(), "{format}: {comparison:?}");
    }
}

/// Where a block keeps the tokens of all its K, the K of a tile is shared by up to eight of them.
fn few_rows_of_any_k_agree_with_the_oracle() {
    let device = device();
    // Of sums that are truncated, chance puts more than the bound of a few into as few as 210.
    let n = if device.compute_capability().0 == 10 { 350 } else { 70 };
    for k in [4096, 4128, 8224, 14336, 8 * 4096, 8 * 4096 + 32] {
        Case::new(problem(3, n, k, 1)).check::<f16>(&device);
    }
    let name = "sm90_widened_8x64_k128_s2";
    let kernel = Kernel::all().find(|kernel| kernel.info().name == name).unwrap();
    if !kernel.runs_on(&device) {
        return;
    }
    let stream = Stream::new(&device).unwrap();
    let operands = Operands::generate(problem(3, 70, 8 * 4096 + 32, 1), Data::Full, 1).unwrap();
    let a = DeviceMatrix::upload(&operands.a, &stream).unwrap();
    let weights =
        Weights::prepare(&operands.b1, &operands.b2, WeightFormat::Separate, &stream).unwrap();
    let c = DeviceBuffer::<f16>::alloc(3 * 70, &device).unwrap();
    let options = Options::default().kernel(kernel);
    let refused = bound(&weights, &a, &c, &options).unwrap_err().to_string();
    assert!(refused.contains("k = 32800: at most 32768 for tiles of 8 tokens"), "{refused}");
}

/// At full size, every element.
fn contest(shape: GemmShape) {
    let (data, seed) = (Data::Contest, CONTEST_SEED);
    Case { data, seed, ..Case::new(shape) }.check::<f16>(&device());
}
