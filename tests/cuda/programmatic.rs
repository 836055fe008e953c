//! Programmatic dependent launch: a kernel that begins under the one before it may read, of what that one writes,
//! nothing too early; nor overwrite what it reads. The emulator finds what comes too early whatever the numbers are:
//! `waits` shows that it does. On hardware what a kernel reads changes from launch to launch, and the kernel before is a long one that
//! leaves room beside it, so that one which did not wait at all would begin on old numbers. How much of both overlaps is
//! the device's to choose: a wait that is only somewhat late need not show.

use nvfp4_dual_gemm::cuda::{
    BoundPlan, Device, DeviceBuffer, DeviceMatrix, DeviceView, Options, Quantizer, Stream,
    WeightFormat, Weights,
};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{Element, Glu, Nvfp4Matrix, bf16, f16, oracle};

use crate::bound::{bound, bound_with};
use crate::harness::{Arch, Needs, Test, device, tests};
use crate::problem;

pub fn all() -> Vec<Test> {
    let of_arch = |arch: Arch| {
        let all = tests![Needs::Kernels;
            a_launch_may_begin_under_the_one_that_writes_its_operands,
            a_launch_may_begin_under_the_quantizer, options_go_together];
        all.into_iter().map(move |test| test.on(arch))
    };
    Arch::ALL.into_iter().flat_map(of_arch).collect()
}

/// A plan whose kernel runs long on few SMs, so that the next one finds room beside it: its C are the codes of the next
/// one's A, of which any byte is two.
struct Before {
    plan: BoundPlan,
    /// What it writes, f32.
    c: Vec<f32>,
}

const BEFORE_N: usize = 32;
const N: usize = 130;
/// Of the second plan: the bytes of a row of the first one's C are a row of codes.
const K: usize = 2 * BEFORE_N * size_of::<f32>();

impl Before {
    fn new(m: usize, k: usize, seed: u64, c: &DeviceView<f32>, stream: &Stream) -> Self {
        let operands = Operands::generate(problem(m, BEFORE_N, k, 1), Data::Full, seed).unwrap();
        let plan = prepare(&operands, c, stream);
        plan.launch(stream).unwrap();
        Before { plan, c: c.to_vec(stream).unwrap() }
    }

    /// The second plan's A.
    fn codes(&self) -> Vec<u8> {
        self.c.iter().flat_map(|value| value.to_ne_bytes()).collect()
    }
}

fn programmatic() -> Options {
    Options::default().programmatic_launch(true)
}

fn prepare(operands: &Operands, c: &DeviceView<f32>, stream: &Stream) -> BoundPlan {
    let a = DeviceMatrix::upload(&operands.a, stream).unwrap();
    let format = WeightFormat::Separate;
    let weights = Weights::prepare(&operands.b1, &operands.b2, format, stream).unwrap();
    bound(&weights, &a, c, &programmatic()).unwrap()
}

/// The same matrix with another global scale.
fn scaled(matrix: &Nvfp4Matrix, by: f32) -> Nvfp4Matrix {
    let (batch, rows, k) = (matrix.batch(), matrix.rows(), matrix.cols());
    let (codes, scales, global) = matrix.clone().into_parts();
    Nvfp4Matrix::new(batch, rows, k, codes, scales, global * by).unwrap()
}

#[track_caller]
fn check<T: Element>(actual: &[T], gemm: &nvfp4_dual_gemm::DualGemm<'_>, what: &str) {
    let comparison = oracle::compare(actual, &oracle::exact::<T>(gemm).unwrap());
    assert!(comparison.passes(), "{what}: {comparison:?}");
}

/// As many launches as fill the queue on a GPU; few on the emulator.
fn rounds(device: &Device) -> usize {
    if device.is_emulated() { 2 } else { 64 }
}

/// Codes of A and the scalar of alpha1 and alpha2 are what the kernel just before writes, another thing each time.
fn a_launch_may_begin_under_the_one_that_writes_its_operands() {
    let device = device();
    let stream = Stream::new(&device).unwrap();
    let slow = if device.is_emulated() { 512 } else { 28_672 };
    for m in [5, 70] {
        let between = DeviceBuffer::<f32>::zeroed(m * BEFORE_N, &stream).unwrap();
        let before = [1, 2].map(|seed| Before::new(m, slow, seed, &between, &stream));
        // An element that makes a scale for a weight in both cases, and tells them apart.
        let usable = |(x, y): (&f32, &f32)| {
            let range = 0.01..100.0;
            range.contains(x) && range.contains(y) && (x / y - 1.0).abs() > 0.2
        };
        let at = before[0].c.iter().zip(&before[1].c).position(usable).unwrap();
        let alpha = between.slice(at, 1).unwrap();

        let operands = Operands::generate(problem(m, N, K, 1), Data::Full, 9).unwrap();
        let scales = DeviceMatrix::upload(&operands.a, &stream).unwrap().scales().clone();
        let global = operands.a.global_scale();
        let a = DeviceMatrix::from_parts(1, m, K, between.bytes(), scales, global).unwrap();
        let format = WeightFormat::Separate;
        let weights = Weights::prepare(&operands.b1, &operands.b2, format, &stream).unwrap();
        let factors = [Some(&alpha), Some(&alpha)];
        let prepare = |c| bound_with(&weights, &a, c, &programmatic(), factors).unwrap();
        // One after the other without a copy between, which would be a wait.
        let results: Vec<_> = (0..rounds(&device))
            .map(|_| DeviceBuffer::<bf16>::zeroed(m * N, &stream).unwrap())
            .collect();
        let after: Vec<_> = results.iter().map(|c| prepare(c)).collect();
        stream.synchronize().unwrap();
        for (round, after) in after.iter().enumerate() {
            before[round % 2].plan.launch(&stream).unwrap();
            after.launch(&stream).unwrap();
        }
        for (round, c) in results.iter().enumerate() {
            let before = &before[round % 2];
            let (_, row_major, global) = operands.a.clone().into_parts();
            let a = Nvfp4Matrix::new(1, m, K, before.codes(), row_major, global).unwrap();
            let [b1, b2] = [&operands.b1, &operands.b2].map(|b| scaled(b, before.c[at]));
            let gemm = nvfp4_dual_gemm::DualGemm::new(&a, &b1, &b2).unwrap();
            check(&c.to_vec(&stream).unwrap(), &gemm, &format!("M = {m}, round {round}"));
        }
    }
}

/// The same with the quantizer, whose scale is on the device, behind a queue that the host has run ahead of.
fn a_launch_may_begin_under_the_quantizer() {
    let device = device();
    let stream = Stream::new(&device).unwrap();
    let slow = if device.is_emulated() { 512 } else { 28_672 };
    for m in [5, 70] {
        let idle = DeviceBuffer::<f32>::zeroed(m * BEFORE_N, &stream).unwrap();
        let before = Before::new(m, slow, 3, &idle, &stream);
        let k = 320;
        let operands = Operands::generate(problem(m, N, k, 1), Data::Full, 4).unwrap();
        let format = WeightFormat::Separate;
        let weights = Weights::prepare(&operands.b1, &operands.b2, format, &stream).unwrap();
        // Of other magnitudes, so that each scale is wrong for the other's codes.
        let host: [Vec<bf16>; 2] = [1.0f32, 37.0].map(|magnitude| {
            let value = |i: usize| ((i * 7919 % 2003) as f32 / 1001.0 - 1.0) * magnitude;
            (0..m * k).map(|i| bf16::from_f32(value(i + magnitude as usize))).collect()
        });
        let inputs = host.each_ref().map(|host| DeviceBuffer::from_host(host, &stream).unwrap());
        let quantizer = Quantizer::dynamic(1, m, k, &stream).unwrap();
        let alpha = quantizer.global_scale();
        let c = DeviceBuffer::<f16>::zeroed(m * N, &stream).unwrap();
        let factors = [alpha.as_ref(); 2];
        let plan = bound_with(&weights, quantizer.matrix(), &c, &programmatic(), factors).unwrap();
        let results: Vec<_> = (0..rounds(&device))
            .map(|_| DeviceBuffer::<f16>::zeroed(m * N, &stream).unwrap())
            .collect();
        stream.synchronize().unwrap();
        for (round, result) in results.iter().enumerate() {
            before.plan.launch(&stream).unwrap();
            quantizer.quantize(&inputs[round % 2], &stream).unwrap();
            plan.launch(&stream).unwrap();
            result.copy_from(&c, &stream).unwrap();
        }
        for (round, result) in results.iter().enumerate() {
            let a = Nvfp4Matrix::quantize(&host[round % 2], 1, m, k).unwrap();
            let gemm = nvfp4_dual_gemm::DualGemm::new(&a, &operands.b1, &operands.b2).unwrap();
            let what = format!("M = {m}, round {round}");
            check(&result.to_vec(&stream).unwrap(), &gemm, &what);
        }
    }
}

/// Each option alone and with the others.
fn options_go_together() {
    fn of_type<T: Element>(device: &Device) {
        let stream = Stream::new(device).unwrap();
        let operands = Operands::generate(problem(19, 72, 160, 2), Data::Full, 6).unwrap();
        let a = DeviceMatrix::upload(&operands.a, &stream).unwrap();
        let format = WeightFormat::Separate;
        let weights = Weights::prepare(&operands.b1, &operands.b2, format, &stream).unwrap();
        let factors = [0.75f32, 1.5];
        let scalars = factors.map(|x| DeviceBuffer::from_host(&[x], &stream).unwrap().view());
        for case in 0..16 {
            let has = |bit: usize| case >> bit & 1 == 1;
            let options = Options::default()
                .glu(if has(0) { Glu::GPT_OSS } else { Glu::Swiglu })
                .programmatic_launch(has(1))
                .sm_count(has(0).then(|| device.sm_count()));
            let c = DeviceBuffer::<T>::zeroed(2 * 19 * 72, &stream).unwrap();
            let factor = |at: usize| has(2 + at).then_some(&scalars[at]);
            let plan = bound_with(&weights, &a, &c, &options, [factor(0), factor(1)]).unwrap();
            plan.launch(&stream).unwrap();
            plan.launch(&stream).unwrap();
            let b1 = scaled(&operands.b1, if has(2) { factors[0] } else { 1.0 });
            let b2 = scaled(&operands.b2, if has(3) { factors[1] } else { 1.0 });
            let gemm = nvfp4_dual_gemm::DualGemm::new(&operands.a, &b1, &b2).unwrap();
            let gemm = gemm.with_glu(options.glu).unwrap();
            check(&c.to_vec(&stream).unwrap(), &gemm, &format!("{} case {case:04b}", T::DTYPE));
        }
    }
    let device = device();
    of_type::<f16>(&device);
    of_type::<bf16>(&device);
    of_type::<f32>(&device);
}
