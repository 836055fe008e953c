//! The binary as a user calls it, and layers for it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use nvfp4_dual_gemm::checkpoint::{Convention, Weight, write_weights};
use nvfp4_dual_gemm::{Element, Nvfp4Matrix, oracle};
use nvfp4_harness::json as object;

pub fn nvfp4(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nvfp4"))
        .args(args)
        .current_dir(dir)
        .env_remove("NVFP4_CPU_ISA")
        .env_remove("NVFP4_CPU_AMX")
        .output()
        .unwrap()
}

pub fn ok(dir: &Path, args: &[&str]) -> String {
    let output = nvfp4(dir, args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {stderr}");
    assert_eq!(stderr, "", "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Exactly one JSON object, on one line, that names each key once.
pub fn parse(stdout: &str) -> Value {
    assert_eq!(stdout.matches('\n').count(), 1, "{stdout}");
    object::check_keys(stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"));
    serde_json::from_str(stdout).unwrap()
}

pub fn json(dir: &Path, args: &[&str]) -> Value {
    let value = parse(&ok(dir, &[args, &["--json"]].concat()));
    assert_eq!(value["ok"], true);
    assert_eq!(value["command"], args[0]);
    value
}

pub fn close<T: Element>(actual: &[T], exact: &[T]) {
    let comparison = oracle::compare(actual, exact);
    assert_eq!(actual.len(), exact.len());
    assert!(comparison.passes(), "{comparison:?}");
}

pub fn wave(rows: usize, cols: usize, step: f32) -> Vec<f32> {
    (0..rows * cols).map(|i| (i as f32 * step).sin() * (1.0 + i as f32 * 1e-3)).collect()
}

/// The layer `mlp` of [`MLP`], its weights small and positive.
pub fn write_layer(path: &Path, n: usize, k: usize, input_global: Option<f32>) {
    let weight = |scale: f32| {
        let values: Vec<f32> = wave(n, k, 0.3).iter().map(|v| scale * (2.0 + v)).collect();
        Nvfp4Matrix::quantize(&values, 1, n, k).unwrap()
    };
    let (gate, up) = (weight(0.5), weight(0.25));
    let modules = [("mlp.gate_proj", &gate), ("mlp.up_proj", &up)];
    let weights =
        modules.map(|(module, matrix)| Weight { module, matrix: matrix.view(), input_global });
    write_weights(path, Convention::ModelOpt, &weights).unwrap();
}

/// That layer, which is gate and up alone, on `x`.
pub const MLP: &[&str] = &[
    "mlp",
    "model.safetensors",
    "--prefix",
    "mlp",
    "--input",
    "x.safetensors",
    "-o",
    "y.safetensors",
    "--backend",
    "cpu",
    "--only",
    "gate-up",
];
