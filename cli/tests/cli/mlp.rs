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
                "--only",
                "gate-up",
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

/// Whole layers of small checkpoints, against results that scripts/make_checkpoints.py computed in float64.
#[test]
fn whole_mlps_of_checkpoints() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/checkpoints");
    let dir = tempfile::tempdir().unwrap();
    for (name, precision, bias) in [
        ("modelopt", "W4A4", false),
        ("compressed-tensors", "W4A4", false),
        ("modelopt-bias", "W4A4", true),
        ("compressed-tensors-bias", "W4A4", true),
        ("modelopt-weight-only", "W4A16", false),
        ("compressed-tensors-weight-only", "W4A16", true),
    ] {
        let model = data.join(name).display().to_string();
        let expected = data.join(format!("expected/{name}-mlp.safetensors"));
        let input = expected.display().to_string();
        let run = ["mlp", &model, "--prefix", "model.layers.0.mlp", "--input", &input];
        let run = [&run[..], &["-o", "y.safetensors", "--out-dtype", "f32"]].concat();
        let value = json(dir.path(), &run);
        assert_eq!(
            (value["precision"].as_str(), value["down"].as_bool()),
            (Some(precision), Some(true))
        );
        assert_eq!(value["scheme"], precision);
        assert_eq!(value["bias"], bias, "{name}");
        assert_eq!(value["output_shape"], serde_json::json!([5, 64]));
        assert_eq!(value["check"]["pass"], true);
        assert_eq!(value["check_h"]["elements"], 5 * 48);
        assert!(value["end_to_end"].as_f64().unwrap() < 0.05, "{value}");
        for stage in ["x", "gate_up", "h", "down"] {
            assert!(value["stages"][stage].as_f64().unwrap() >= 0.0, "{value}");
        }
        let expected = TensorFile::open(&expected).unwrap().values::<f32>("y").unwrap().1;
        let y = TensorFile::open(dir.path().join("y.safetensors")).unwrap();
        let y = y.values::<f32>("y").unwrap().1;
        let length = |values: &mut dyn Iterator<Item = f32>| {
            values.map(|value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt()
        };
        let error = length(&mut y.iter().zip(&expected).map(|(y, exact)| y - exact));
        let exact = length(&mut expected.iter().copied());
        // A code of h next to the right one, at most, or its rounding to bf16.
        assert!(error <= 0.03 * exact, "{name}: {error} of {exact}");

        let text = ok(dir.path(), &run);
        let sizes = "5 x 64→48→64";
        for part in [sizes, precision, "check of h", "run from x to y", "stages"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let listing = json(dir.path(), &["mlp", &model, "--list"]);
        let outline = &listing["outlines"][0];
        assert_eq!(outline["prefix"], "model.layers.0.mlp");
        assert_eq!(outline["precision"], precision);
        assert_eq!(outline["shape"], serde_json::json!([64, 48, 64]));
        let line = format!("model.layers.0.mlp  {precision}  64→48→64");
        assert!(ok(dir.path(), &["mlp", &model, "--list"]).contains(&line), "{name}");
        let only = json(dir.path(), &[&run[..], &["--only", "gate-up"]].concat());
        assert_eq!((only["down"].as_bool(), only["check_h"].is_null()), (Some(false), true));
        assert_eq!(only["output_shape"], serde_json::json!([5, 48]));
    }
}

#[test]
fn the_precision_is_a_choice() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/checkpoints");
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, more: &[&str]| {
        let model = data.join(name).display().to_string();
        let input = data.join(format!("expected/{name}-mlp.safetensors")).display().to_string();
        let run = ["mlp", &model, "--prefix", "model.layers.0.mlp", "--input", &input, "--json"];
        let output = nvfp4(dir.path(), &[&run[..], &["-o", "y.safetensors"], more].concat());
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (weight_only, quantized) = ("modelopt-weight-only", "modelopt");
    for (name, more, precision) in [
        (weight_only, &["--input-scale", "dynamic"][..], "W4A4"),
        (weight_only, &["--input-scale", "per-row"], "W4A4"),
        (weight_only, &["--precision", "w4a4", "--input-scale", "0.01"], "W4A4"),
        (weight_only, &["--precision", "w4a16"], "W4A16"),
        (quantized, &["--precision", "w4a16"], "W4A16"),
        (quantized, &["--precision", "w4a4"], "W4A4"),
    ] {
        let (code, text) = run(name, more);
        assert_eq!(code, Some(0), "{name} {more:?}: {text}");
        assert!(text.contains(&format!("\"precision\":\"{precision}\"")), "{text}");
    }
    let (code, text) = run(weight_only, &["--precision", "w4a4"]);
    assert!(code == Some(1) && text.contains("weight-only"), "{text}");
    let (code, text) = run(quantized, &["--precision", "w4a16", "--input-scale", "dynamic"]);
    assert!(code == Some(1) && text.contains("--input-scale dynamic"), "{text}");
}

#[test]
fn what_a_checkpoint_is_meant_for_is_said_where_it_says_so() {
    let dir = tempfile::tempdir().unwrap();
    write_layer(&dir.path().join("model.safetensors"), 16, 64, None);
    tensors::write_output(dir.path().join("x.safetensors"), "x", &[1, 64], &[1f32; 64]).unwrap();
    let w4a16 = [MLP, &["--precision", "w4a16"]].concat();
    let silent = ok(dir.path(), &w4a16);
    assert!(silent.contains("; the checkpoint does not say what it is meant for"), "{silent}");
    assert_eq!(json(dir.path(), &w4a16)["scheme_stated"], false);
    assert!(!ok(dir.path(), MLP).contains("meant for"));
    let config = r#"{"hidden_act": "silu", "quantization_config": {"quant_algo": "NVFP4"}}"#;
    std::fs::write(dir.path().join("config.json"), config).unwrap();
    let said = ok(dir.path(), &w4a16);
    assert!(said.contains("; the checkpoint is meant for W4A4"), "{said}");
    assert_eq!(json(dir.path(), &w4a16)["scheme_stated"], true);
}

#[test]
fn errors_about_h_name_h_and_not_x() {
    let dir = tempfile::tempdir().unwrap();
    let matrix = |rows: usize, cols: usize| {
        Nvfp4Matrix::quantize(&vec![1f32; rows * cols], 1, rows, cols).unwrap()
    };
    let modules = [
        ("mlp.gate_proj", matrix(16, 64)),
        ("mlp.up_proj", matrix(16, 64)),
        ("mlp.down_proj", matrix(32, 16)),
    ];
    let weights = modules.each_ref().map(|(module, matrix)| Weight {
        module,
        matrix: matrix.view(),
        input_global: None,
    });
    write_weights(dir.path().join("model.safetensors"), Convention::ModelOpt, &weights).unwrap();
    let whole: Vec<&str> =
        MLP.iter().filter(|arg| !["--only", "gate-up"].contains(arg)).copied().collect();
    let error = |more: &[&str]| {
        let output = nvfp4(dir.path(), &[&whole[..], more].concat());
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    // h = (64·100)², which is beyond f16.
    let write = |x: f16| {
        tensors::write_output(dir.path().join("x.safetensors"), "x", &[1, 64], &[x; 64]).unwrap();
    };
    write(f16::from_f32(100.0));
    let text = error(&["--precision", "w4a16"]);
    assert!(text.contains("h: inf at batch 0, row 0, column 0"), "{text}");
    assert!(!text.contains("tensor x"), "{text}");
    write(f16::INFINITY);
    for precision in ["w4a16", "w4a4"] {
        let text = error(&["--precision", precision]);
        assert!(text.contains("x.safetensors: tensor x: a: inf"), "{text}");
    }
}

#[test]
fn a_layer_without_a_down_projection_says_so() {
    let dir = tempfile::tempdir().unwrap();
    write_layer(&dir.path().join("model.safetensors"), 16, 64, None);
    tensors::write_output(dir.path().join("x.safetensors"), "x", &[1, 64], &[1f32; 64]).unwrap();
    let whole = MLP.iter().filter(|arg| !["--only", "gate-up"].contains(arg)).copied();
    let output = nvfp4(dir.path(), &whole.collect::<Vec<_>>());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    for part in ["down_proj", "--only gate-up"] {
        assert!(stderr.contains(part), "{stderr}");
    }
}

#[test]
fn a_list_says_why_there_is_no_down_projection() {
    let dir = tempfile::tempdir().unwrap();
    write_layer(&dir.path().join("model.safetensors"), 16, 64, None);
    let list = ["mlp", "model.safetensors", "--list"];
    let line = "mlp  W4A4  64→16, gate and up only: there is no mlp.down_proj\n";
    assert!(ok(dir.path(), &list).ends_with(line));
    let outline = &json(dir.path(), &list)["outlines"][0];
    assert_eq!(outline["no_down"], "there is no mlp.down_proj");
    assert_eq!(
        (&outline["shape"], outline["refused"].is_null()),
        (&serde_json::json!([64, 16]), true)
    );

    // In floats, in a file beside that of gate and up.
    let down = dir.path().join("down.safetensors");
    tensors::write_output(&down, "mlp.down_proj.weight", &[64, 16], &[f16::ONE; 64 * 16]).unwrap();
    let text = ok(dir.path(), &["mlp", "model.safetensors", "--list"]);
    assert!(text.contains("there is no mlp.down_proj"), "one file alone: {text}");
    std::fs::rename(dir.path().join("model.safetensors"), dir.path().join("gate_up.safetensors"))
        .unwrap();
    let text = ok(dir.path(), &["mlp", ".", "--list"]);
    let why = "mlp  W4A4  64→16, gate and up only: mlp.down_proj is not quantized: mlp.down_proj has weight F16 [64, 16]";
    assert!(text.contains(why), "{text}");
}
