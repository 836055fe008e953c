//! C = silu(alpha1·A·B1ᵀ) * (alpha2·A·B2ᵀ) on a GPU, compared with the exact oracle.
//!
//! `cargo run --release --features cuda --example 04_dual_gemm_cuda`

use nvfp4_dual_gemm::cuda::{
    Device, DeviceBuffer, DeviceMatrix, DualGemm, Options, Stream, WeightFormat, Weights,
};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{GemmShape, Result, f16, oracle};

fn main() -> Result<()> {
    // Without a device that there is a kernel for, this says so and fails.
    let device =
        Device::first_supported().inspect_err(|error| eprintln!("nothing to run on: {error}"))?;
    println!("on {}", device.name());
    let stream = Stream::new(&device)?;

    // Weights are packed and copied once, and used by as many plans as there are shapes of A.
    let operands =
        Operands::generate(GemmShape { m: 32, n: 512, k: 1024, batch: 1 }, Data::Full, 1)?;
    let weights = Weights::prepare(&operands.b1, &operands.b2, WeightFormat::Separate, &stream)?;
    let a = DeviceMatrix::upload(&operands.a, &stream)?;
    let c = DeviceBuffer::<f16>::alloc(32 * 512, &device)?;

    // A plan checks everything and picks a kernel; a launch only queues it.
    let plan = DualGemm::prepare(&weights, &a, &c, &Options::default())?;
    println!("kernel {}, grid {:?}", plan.kernel().name, plan.grid());
    plan.launch(&stream)?;

    let comparison = oracle::compare(&c.to_vec(&stream)?, &oracle::exact(&operands.gemm()?)?);
    println!(
        "{} values: at most {} ULP from exact, {} of them more than 1",
        comparison.count, comparison.max_ulp, comparison.beyond_one_ulp
    );
    assert!(comparison.passes());
    Ok(())
}
