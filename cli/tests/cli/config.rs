//! `nvfp4 mlp` beside configurations: what is refused, with the words that answer it.

use std::path::Path;

use nvfp4_dual_gemm::Nvfp4Matrix;
use nvfp4_dual_gemm::checkpoint::{Convention, Weight, tensors, write_weights};
use serde_json::Value;

use crate::support::{nvfp4, parse};

const PREFIX: &str = "model.layers.0.mlp";
/// Rows and columns of a projection.
const N: usize = 16;
const K: usize = 32;

/// A directory with a layer whose products with an x of ones are 1 (gate) and 2 (up), and with that x.
fn layer() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    // All codes are 1 and all scales are 1.
    let matrix = |product: f32| {
        let (codes, scales) = (vec![0x22; N * K / 2], vec![0x38; N * K / 16]);
        Nvfp4Matrix::new(1, N, K, codes, scales, product / K as f32).unwrap()
    };
    let (gate, up) = (matrix(1.0), matrix(2.0));
    let modules = [format!("{PREFIX}.gate_proj"), format!("{PREFIX}.up_proj")];
    let weights = [(&modules[0], &gate), (&modules[1], &up)].map(|(module, matrix)| Weight {
        module,
        matrix: matrix.view(),
        input_global: None,
    });
    let model = dir.path().join("model");
    std::fs::create_dir(&model).unwrap();
    write_weights(model.join("model.safetensors"), Convention::ModelOpt, &weights).unwrap();
    tensors::write_output(dir.path().join("x.safetensors"), "x", &[1, K], &[1.0f32; K]).unwrap();
    dir
}

/// Standard output, or else standard error.
fn mlp(dir: &Path, config: &str, more: &[&str]) -> Result<Value, String> {
    std::fs::write(dir.join("model/config.json"), config).unwrap();
    let args =
        ["mlp", "model", "--prefix", PREFIX, "--input", "x.safetensors", "-o", "y.safetensors"];
    let always = ["--only", "gate-up", "--backend", "oracle", "--json"];
    let output = nvfp4(dir, &[&args[..], &always, more].concat());
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    if output.status.success() { Ok(parse(&stdout)) } else { Err(stderr + &stdout) }
}

#[test]
fn refusals_name_the_options_that_answer_them() {
    let dir = layer();
    let dir = dir.path();
    let config = r#"{"hidden_act": "swiglu", "swiglu_limit": 10.0}"#;
    let text = mlp(dir, config, &[]).unwrap_err();
    assert!(text.contains("swiglu_limit is 10") && text.contains("--glu"), "{text}");
    let report = mlp(dir, config, &["--glu", "clamped:10,1,0"]).unwrap();
    assert_eq!(report["glu"], "clamped:10,1,0");

    let config = r#"{"model_type": "gemma3_text"}"#;
    assert_eq!(mlp(dir, config, &[]).unwrap()["glu"], "geglu-tanh");
    let config = r#"{"model_type": "gpt_oss"}"#;
    assert_eq!(mlp(dir, config, &[]).unwrap()["glu"], "gpt-oss");

    let config = r#"{"hidden_act": "swiglu", "up_multiplier": 2.0, "use_hadamard": true}"#;
    let text = mlp(dir, config, &["--glu", "swiglu", "--ignore-key", "use_hadamard"]).unwrap_err();
    assert!(text.contains("--ignore-key up_multiplier"), "{text}");
    let both = ["--ignore-key", "use_hadamard", "--ignore-key", "up_multiplier"];
    assert_eq!(mlp(dir, config, &both).unwrap()["glu"], "swiglu");

    let config = r#"{"model_type": "falcon_h1", "mlp_multipliers": [0.5, 0.25]}"#;
    let alpha = mlp(dir, config, &[]).unwrap()["alpha_gate"].as_f64().unwrap();
    assert!((alpha * 2688.0 * 64.0 - 1.0).abs() < 1e-6, "{alpha:e}"); // x's global is 1/2688
}
