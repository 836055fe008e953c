//! C = silu(alpha1·A·B1ᵀ) * (alpha2·A·B2ᵀ) on the CPU, compared with the exact oracle.
//!
//! `cargo run --release --example 02_dual_gemm_cpu`

use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{Engine, GemmShape, Result, f16, oracle};

fn main() -> Result<()> {
    // Synthetic operands; `DualGemm::new(&a, &gate, &up)` takes your own.
    let problem = GemmShape { m: 32, n: 512, k: 1024, batch: 1 };
    let operands = Operands::generate(problem, Data::Full, 1)?;
    let gemm = operands.gemm()?;

    // What runs here, and why.
    let engine = Engine::auto()?;
    println!("{engine}: {}", engine.reason());

    // C is [batch, M, N], row-major, in f16, bf16 or f32.
    let c: Vec<f16> = engine.run(&gemm)?;
    println!("C[0, 0..4] = {:?}", &c[..4]);

    // The oracle sums in integers and rounds once.
    let comparison = oracle::compare(&c, &oracle::exact(&gemm)?);
    println!(
        "{} values: at most {} ULP from exact, {} of them more than 1",
        comparison.count, comparison.max_ulp, comparison.beyond_one_ulp
    );
    assert!(comparison.passes());
    Ok(())
}
