//! C = silu(alpha1·A·B1ᵀ) * (alpha2·A·B2ᵀ) on a GPU, compared with the exact oracle.
//!
//! `cargo run --release --features cuda --example 04_dual_gemm_cuda`

use nvfp4_dual_gemm::cuda::{
    Device, DeviceBuffer, DeviceMatrix, Io, Options, Plan, Stream, WeightFormat, Weights,
};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{GemmShape, Result, f16, oracle};

fn main() -> Result<()> {
    // Without a device that there is a kernel for, this says so and fails.
    let device =
        Device::first_supported().inspect_err(|error| eprintln!("nothing to run on: {error}"))?;
    println!("on {}", device.name());
    let stream = Stream::new(&device)?;

    // Weights are packed and copied once, and kept.
    let operands =
        Operands::generate(GemmShape { m: 32, n: 512, k: 1024, batch: 1 }, Data::Full, 1)?;
    let weights = Weights::prepare(&operands.b1, &operands.b2, WeightFormat::Separate, &stream)?;
    // A plan binds them, for any number of rows.
    let plan = Plan::new(&weights, &Options::default())?;
    println!("kernel {}, grid {:?}", plan.kernel(32)?.name, plan.launch_shape(32)?.grid);

    // Activations and C belong to a launch, which only queues it.
    let a = DeviceMatrix::upload(&operands.a, &stream)?;
    let c = DeviceBuffer::<f16>::alloc(32 * 512, &device)?;
    let workspace = DeviceBuffer::<u8>::alloc(plan.workspace_bytes(32)?, &device)?;
    plan.launch(&Io::new(&a, &c).workspace(&workspace), &stream)?;

    let comparison = oracle::compare(&c.to_vec(&stream)?, &oracle::exact(&operands.gemm()?)?);
    println!(
        "{} values: at most {} ULP from exact, {} of them more than 1",
        comparison.count, comparison.max_ulp, comparison.beyond_one_ulp
    );
    assert!(comparison.passes());
    Ok(())
}
