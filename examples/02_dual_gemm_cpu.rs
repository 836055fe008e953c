//! C = silu(alpha1·A·B1ᵀ) * (alpha2·A·B2ᵀ) on the CPU, compared with the exact oracle.
//!
//! `cargo run --release --example 02_dual_gemm_cpu`

use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{Backend, Problem, Result, f16, reference};

fn main() -> Result<()> {
    // Made-up operands; `DualGemm::new(&a, &gate, &up)` takes your own.
    let problem = Problem { m: 32, n: 512, k: 1024, batch: 1 };
    let operands = Operands::generate(problem, Data::Full, 1)?;
    let gemm = operands.gemm()?;

    // Which kernels run here, and why.
    let selection = Backend::Auto.resolve()?;
    println!("{selection}: {}", selection.reason);

    // C is [batch, M, N], row-major, in f16, bf16 or f32.
    let c: Vec<f16> = gemm.run(Backend::Auto)?;
    println!("C[0, 0..4] = {:?}", &c[..4]);

    // The oracle sums in integers and rounds once.
    let comparison = reference::compare(&c, &reference::exact(&gemm)?);
    println!(
        "{} values: at most {} ULP from exact, {} of them more than 1",
        comparison.count, comparison.max_ulp, comparison.beyond_one_ulp
    );
    assert!(comparison.passes());
    Ok(())
}
