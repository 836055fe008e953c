//! `nvfp4 mlp`.

use std::path::Path;

use nvfp4_dual_gemm::checkpoint::tensors::{self, TensorFile};
use nvfp4_dual_gemm::checkpoint::{Checkpoint, Convention, Weight, write_weights};
use nvfp4_dual_gemm::{DualGemm, Nvfp4Matrix, f16, oracle};

use crate::support::{MLP, close, json, nvfp4, ok, wave, write_layer};

#[test]
fn mlp_keeps_the_two_global_scales_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (m, n, k) = (6, 24, 64);
    let gate = Nvfp4Matrix::quantize(&wave(n, k, 0.3), 1, n, k).unwrap();
    let up: Vec<f32> = wave(n, k, 0.7).iter().map(|v| v * 5.0).collect();
    let up = Nvfp4Matrix::quantize(&up, 1, n, k).unwrap();
    assert_ne!(gate.global_scale(), up.global_scale());
    // Powers of two have exact reciprocals, so that both conventions store the same scale.
    let x = wave(m, k, 0.11);
    let global = 2f32.powi(-9);
    for (calibrated, convention) in [
        (None, Convention::ModelOpt),
        (Some(global), Convention::ModelOpt),
        (Some(global), Convention::CompressedTensors),
    ] {
        let modules =
            [("model.layers.0.mlp.gate_proj", &gate), ("model.layers.0.mlp.up_proj", &up)];
        let weights = modules.map(|(module, matrix)| Weight {
            module,
            matrix: matrix.view(),
            input_global: calibrated,
        });
        let path = dir.path().join("model.safetensors");
        write_weights(&path, convention, &weights).unwrap();
        tensors::write_output(dir.path().join("x.safetensors"), "x", &[2, m / 2, k], &x).unwrap();
        let value = json(
            dir.path(),
            &[
                "mlp",
                "model.safetensors",
                "--prefix",
                "model.layers.0.mlp",
                "--input",
                "x.safetensors",
                "-o",
                "y.safetensors",
            ],
        );
        assert_eq!(value["input_scale_calibrated"], calibrated.is_some());
        let origin = if calibrated.is_some() { "calibrated" } else { "dynamic" };
        assert_eq!(value["input_scale"], origin);
        let file = TensorFile::open(dir.path().join("y.safetensors")).unwrap();
        let (shape, y) = file.values::<f16>("y").unwrap();
        assert_eq!(shape, [2, m / 2, n]);
        let a = match calibrated {
            Some(global) => Nvfp4Matrix::quantize_with_global(&x, 1, m, k, global).unwrap(),
            None => Nvfp4Matrix::quantize(&x, 1, m, k).unwrap(),
        };
        let exact: Vec<f16> = oracle::exact(&DualGemm::new(&a, &gate, &up).unwrap()).unwrap();
        close(&y, &exact);
    }
    let listing = json(dir.path(), &["mlp", "model.safetensors", "--list"]);
    assert_eq!(listing["layers"], serde_json::json!(["model.layers.0.mlp"]));
}

#[test]
fn what_was_read_is_told() {
    let dir = tempfile::tempdir().unwrap();
    write_layer(&dir.path().join("model.safetensors"), 16, 64, None);
    tensors::write_output(dir.path().join("x.safetensors"), "x", &[1, 64], &[1f32; 64]).unwrap();
    let value = json(dir.path(), MLP);
    assert_eq!(value["files"], serde_json::json!(["model.safetensors"]));
    assert!(value["config"].is_null(), "{value}");
    assert!(ok(dir.path(), MLP).contains("glu swiglu (no config.json found)"));
    let chosen = ok(dir.path(), &[MLP, &["--glu", "swiglu"]].concat());
    assert!(!chosen.contains("no config.json"), "{chosen}");
    std::fs::write(dir.path().join("config.json"), r#"{"hidden_act": "swiglu"}"#).unwrap();
    assert_eq!(json(dir.path(), MLP)["config"], "./config.json");
    assert!(!ok(dir.path(), MLP).contains("no config.json"));
}

#[test]
fn the_input_scale_is_a_choice() {
    let dir = tempfile::tempdir().unwrap();
    let (m, k) = (3, 64);
    let x = wave(m, k, 0.11);
    tensors::write_output(dir.path().join("x.safetensors"), "x", &[m, k], &x).unwrap();
    let model = dir.path().join("model.safetensors");
    let y_of = |a: &Nvfp4Matrix| -> Vec<f32> {
        let checkpoint = Checkpoint::open(&model).unwrap();
        let layer = checkpoint.layer("mlp").unwrap();
        oracle::exact(&DualGemm::new(a, &layer.gate_proj, &layer.up_proj).unwrap()).unwrap()
    };
    fn with(scale: &str) -> Vec<&str> {
        [MLP, &["--out-dtype", "f32", "--input-scale", scale]].concat()
    }
    let calibrated = 2f32.powi(-9);
    let fixed = |global| Nvfp4Matrix::quantize_with_global(&x, 1, m, k, global).unwrap();
    let cases = [
        ("calibrated", "calibrated", fixed(calibrated)),
        ("dynamic", "dynamic", Nvfp4Matrix::quantize(&x, 1, m, k).unwrap()),
        ("0.001", "given", fixed(0.001)),
        ("2.5e-4", "given", fixed(2.5e-4)),
    ];
    // An expert that no token of the calibration reached.
    for stored in [calibrated, 0.0, f32::INFINITY, f32::NAN] {
        write_layer(&model, 16, k, Some(calibrated));
        if stored != calibrated {
            replace(&model, &calibrated.to_le_bytes(), &stored.to_le_bytes());
        }
        for (scale, origin, a) in &cases {
            if stored != calibrated && *scale == "calibrated" {
                let output = nvfp4(dir.path(), &with(scale));
                let stderr = String::from_utf8(output.stderr).unwrap();
                assert_eq!(output.status.code(), Some(1), "{stored}");
                assert!(!stderr.contains("tensor x"), "{stderr}");
                for part in ["mlp.gate_proj.input_scale", "--input-scale dynamic"] {
                    assert!(stderr.contains(part), "{stderr}");
                }
                continue;
            }
            let value = json(dir.path(), &with(scale));
            assert_eq!(value["input_scale"], *origin);
            assert_eq!(value["input_scale_calibrated"], *origin == "calibrated");
            let global = value["input_global_scale"].as_f64().unwrap();
            assert_eq!(global as f32, a.global_scale(), "{scale}");
            let y = TensorFile::open(dir.path().join("y.safetensors")).unwrap();
            close(&y.values::<f32>("y").unwrap().1, &y_of(a));
        }
    }
    for wrong in ["0", "-1", "-2.5e-3", "nan", "inf", "static", ""] {
        let output = nvfp4(dir.path(), &with(wrong));
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!stderr.contains("unexpected argument"), "{wrong}: {stderr}");
    }
}

/// Replaces the same number of bytes wherever they stand in a file.
fn replace(path: &Path, from: &[u8], to: &[u8]) {
    let mut bytes = std::fs::read(path).unwrap();
    let mut found = 0;
    for at in 0..=bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + from.len()].copy_from_slice(to);
            found += 1;
        }
    }
    assert_eq!(found, 2, "gate and up");
    std::fs::write(path, bytes).unwrap();
}
