//! `nvfp4 mlp` beside configurations: what is refused, with the words that answer it.
#[path = "../../../tests/tiny/mod.rs"]
mod tiny;

use nvfp4_dual_gemm::checkpoint::tensors;
use std::process::Command;
use tiny::{K, PREFIX, Tiny};

/// Standard output, or else standard error.
fn mlp(tiny: &Tiny, more: &[&str]) -> Result<serde_json::Value, String> {
    let model = tiny.dir.path();
    tiny.open().unwrap();
    let work = tempfile::tempdir().unwrap();
    tensors::write_output(work.path().join("x.safetensors"), "x", &[1, K], &[1.0f32; K]).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_nvfp4"))
        .arg("mlp")
        .arg(model)
        .args(["--prefix", PREFIX, "--input", "x.safetensors", "-o", "y.safetensors"])
        .args(["--backend", "exact", "--json"])
        .args(more)
        .current_dir(work.path())
        .output()
        .unwrap();
    let (stdout, stderr) = (output.stdout, String::from_utf8(output.stderr).unwrap());
    match output.status.success() {
        true => Ok(serde_json::from_slice(&stdout).unwrap()),
        false => Err(stderr + &String::from_utf8(stdout).unwrap()),
    }
}

#[test]
fn refusals_name_the_options_that_answer_them() {
    let tiny = Tiny::new();
    tiny.config(r#"{"hidden_act": "silu", "swiglu_limit": 10.0}"#);
    let text = mlp(&tiny, &[]).unwrap_err();
    assert!(text.contains("swiglu_limit is 10") && text.contains("--gate"), "{text}");
    let report = mlp(&tiny, &["--gate", "clamped:10,1,0"]).unwrap();
    assert_eq!(report["gate"], "clamped:10,1,0");

    tiny.config(r#"{"model_type": "gemma3_text"}"#);
    assert_eq!(mlp(&tiny, &[]).unwrap()["gate"], "gelu-tanh");
    tiny.config(r#"{"model_type": "gpt_oss"}"#);
    assert_eq!(mlp(&tiny, &[]).unwrap()["gate"], "gpt-oss");

    tiny.config(r#"{"hidden_act": "silu", "up_multiplier": 2.0, "use_hadamard": true}"#);
    let text = mlp(&tiny, &["--gate", "silu", "--ignore-key", "use_hadamard"]).unwrap_err();
    assert!(text.contains("--ignore-key up_multiplier"), "{text}");
    let both = ["--ignore-key", "use_hadamard", "--ignore-key", "up_multiplier"];
    assert_eq!(mlp(&tiny, &both).unwrap()["gate"], "silu");

    tiny.config(r#"{"model_type": "falcon_h1", "mlp_multipliers": [0.5, 0.25]}"#);
    let alpha = mlp(&tiny, &[]).unwrap()["alpha_gate"].as_f64().unwrap();
    assert!((alpha * 2688.0 * 64.0 - 1.0).abs() < 1e-6, "{alpha:e}"); // x's global is 1/2688
}
