//! From a checkpoint of floats to NVFP4, and one MLP layer of it on four tokens.
//!
//! `cargo run --example 03_checkpoint [CHECKPOINT PREFIX]`; with no arguments it makes its own files.

use nvfp4_dual_gemm::checkpoint::{
    self, Calibration, Checkpoint, Declared, Dtype, QuantizeOptions, Writer,
};
use nvfp4_dual_gemm::{Engine, Spec};
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = tempfile::tempdir()?;
    let (path, prefix) = match (args.next(), args.next()) {
        (Some(path), Some(prefix)) => (PathBuf::from(path), prefix),
        (Some(path), None) => return Err(format!("{path}: and which PREFIX of it?").into()),
        (None, _) => {
            // 1. A layer of floats, as training leaves it, quantized to ModelOpt's files. Its inputs are
            // known to be no larger than 1; `Calibration::read` finds that out from samples.
            let (floats, nvfp4) = (dir.path().join("floats.safetensors"), dir.path().join("nvfp4"));
            write_floats(&floats)?;
            let inputs = Calibration::new([("model.layers.0.mlp", 1.0)])?;
            let options = QuantizeOptions::default().with_calibration(inputs);
            let report = checkpoint::quantize_file(&floats, &nvfp4, &options, &mut |_| ())?;
            println!("quantized {} of {} bytes", report.bytes_out, report.bytes_in);
            (nvfp4, "model.layers.0.mlp".to_owned())
        }
    };

    // 2. The layer: its tensors are read from the file, and no others.
    let checkpoint = Checkpoint::open(&path)?;
    let layer = checkpoint.layer(&prefix)?;
    let (n, k) = (layer.gate_proj.rows(), layer.gate_proj.cols());
    let (gate, up) = (layer.gate_proj.global_scale(), layer.up_proj.global_scale());
    println!("{prefix}: N = {n}, K = {k}, {}, globals {gate:e} and {up:e}", layer.convention);

    // 3. Four tokens through it.
    let x: Vec<f32> = (0..4 * k).map(|i| (i as f32 * 0.37).sin()).collect();
    let mut y = vec![0.0f32; 4 * n];
    let layer = Engine::auto()?.load(layer, &Spec::default())?; // packed and uploaded once
    layer.run(&x, 4, &mut y)?; // as often as needed
    println!("y[0, ..4] = {:?}", &y[..4.min(n)]);
    Ok(())
}

fn write_floats(path: &Path) -> nvfp4_dual_gemm::Result<()> {
    let names = ["gate", "up"].map(|p| format!("model.layers.0.mlp.{p}_proj.weight"));
    let shape = [96, 64];
    let declared = names.iter().map(|n| Declared::new(n, Dtype::F32, shape)).collect();
    let mut writer = Writer::create(path, declared, &Default::default())?;
    for (name, step) in names.iter().zip([0.11f32, 0.17]) {
        let values = (0..96 * 64).flat_map(|i| (i as f32 * step).cos().to_le_bytes());
        writer.write(name, &values.collect::<Vec<u8>>())?;
    }
    writer.finish()
}
