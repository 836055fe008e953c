//! Floats to NVFP4 and back: two-level quantization of one matrix.
//!
//! `cargo run --release --example 01_quantize`

use nvfp4_dual_gemm::{Nvfp4Matrix, Result};

fn main() -> Result<()> {
    // 4 rows of K = 64 values; K is a multiple of 16, the block that shares a scale factor.
    let (rows, cols) = (4, 64);
    let values: Vec<f32> = (0..rows * cols).map(|i| (i as f32 * 0.37).sin() * 3.0).collect();

    // value = e2m1(code) · ue4m3(scale of its block) · global
    let matrix = Nvfp4Matrix::quantize(&values, 1, rows, cols)?;
    println!("{} values, f32: {} bytes", values.len(), 4 * values.len());
    println!("codes:  {} bytes, two in each", matrix.codes().len());
    println!("scales: {} bytes, one per 16 values", matrix.scales().len());
    println!("global: {:e}", matrix.global_scale());

    // e2m1 keeps two significant bits: within a block, errors stay below a sixth of its largest value.
    let back = matrix.dequantize();
    let largest = |of: &[f32]| of.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let errors: Vec<f32> = values.iter().zip(&back).map(|(x, y)| x - y).collect();
    for k in 0..4 {
        println!("{:8.4} -> {:8.4}", values[k], back[k]);
    }
    println!("largest value {:.3}, largest error {:.3}", largest(&values), largest(&errors));
    Ok(())
}
