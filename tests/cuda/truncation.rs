//! Long sums on a B200, whose tensor cores truncate all of K in one chain: what its kernels do with it is what the bound by
//! K allows. The emulator rounds as MMA-Sim has it, which was compared with a B200 (`EMULATOR_ROUNDING=mma-sim`).

use nvfp4_dual_gemm::cuda::{DeviceBuffer, DeviceMatrix, Kernel, Options, Stream, Weights};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{f16, oracle};

use crate::bound::bound;
use crate::harness::{Arch, Needs, Test, bound_of_sums, device, nvfp4_kernels};
use crate::problem;

pub fn all() -> Vec<Test> {
    let test = |kernel: Kernel, k: usize| {
        let name = format!("truncated_sums_are_within_the_bound_of_their_k::{kernel}_{k}");
        Test::new(name, Needs::Emulator, move || truncated(kernel, k))
            .on(Arch::B200)
            .with("EMULATOR_ROUNDING", "mma-sim")
    };
    let kernels: Vec<Kernel> =
        nvfp4_kernels().filter(|kernel| kernel.info().compute_capability == (10, 0)).collect();
    let mut all: Vec<Test> = kernels.iter().map(|&kernel| test(kernel, 7168)).collect();
    // One that lays weights out in each way: nothing else differs in how they add up.
    let mut seen = Vec::new();
    for kernel in kernels {
        let format = (kernel.info().weights, kernel.info().tile.1);
        if !seen.contains(&format) {
            seen.push(format);
            all.push(test(kernel, 14336));
        }
    }
    all
}

fn truncated(kernel: Kernel, k: usize) {
    let device = device();
    let stream = Stream::new(&device).unwrap();
    let shape = problem(128, 128, k, 1);
    let operands = Operands::generate(shape, Data::Full, 20).unwrap();
    let a = DeviceMatrix::upload(&operands.a, &stream).unwrap();
    let format = kernel.info().weights;
    let weights = Weights::prepare(&operands.b1, &operands.b2, format, &stream).unwrap();
    let nan = vec![f16::NAN; shape.m * shape.n];
    let c = DeviceBuffer::from_host(&nan, &stream).unwrap();
    let plan = bound(&weights, &a, &c, &Options::default().kernel(kernel)).unwrap();
    plan.launch(&stream).unwrap();
    let exact = oracle::exact::<f16>(&operands.gemm().unwrap()).unwrap();
    let comparison = oracle::compare(&c.to_vec(&stream).unwrap(), &exact);
    let bound = bound_of_sums(&device, k, 2);
    assert!(comparison.within(bound).passes(), "{comparison:?}");
    // Most of it is due to the truncations: without them a share of 0.02 % would be off.
    let allowed = comparison.count as f64 * bound.share(comparison.ulp_of);
    assert!(comparison.beyond_one_ulp as f64 > 0.25 * allowed, "nothing truncates: {comparison:?}");
    // The bound of other backends is not for this hardware.
    assert!(k < 14336 || !comparison.passes(), "{comparison:?}");
}
