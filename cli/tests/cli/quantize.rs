//! `nvfp4 quantize`.

use std::path::Path;
use std::process::{Command, Stdio};

use nvfp4_dual_gemm::checkpoint::Checkpoint;
use nvfp4_dual_gemm::checkpoint::tensors::{self, TensorFile};
use nvfp4_dual_gemm::{DualGemm, Nvfp4Matrix, oracle};

use crate::support::{close, json, nvfp4, ok, wave};

#[test]
fn quantize_in_both_conventions_then_mlp() {
    let dir = tempfile::tempdir().unwrap();
    let (m, n, k) = (4, 16, 48);
    let weight = wave(2 * n, k, 0.21);
    let path = |name: &str| dir.path().join(name);
    let name = "model.layers.3.mlp.gate_up_proj.weight";
    tensors::write_output(path("float.safetensors"), name, &[2 * n, k], &weight).unwrap();
    let x = wave(m, k, 0.5);
    tensors::write_output(path("x.safetensors"), "x", &[m, k], &x).unwrap();

    for convention in ["modelopt", "compressed-tensors"] {
        let out = format!("{convention}.safetensors");
        let value = json(
            dir.path(),
            &["quantize", "float.safetensors", "-o", &out, "--convention", convention],
        );
        assert_eq!(value["quantized"][0]["tensor"], name);
        let weight_only = if convention == "modelopt" { "W4A16_NVFP4" } else { "NVFP4A16" };
        assert!(value["scheme"] == weight_only && value["calibrated"] == false, "{value}");
        assert!(value["bytes_out"].as_u64().unwrap() * 3 < value["bytes_in"].as_u64().unwrap());
        let run = ["mlp", &out, "--prefix", "model.layers.3.mlp", "--input", "x.safetensors"];
        let more = ["-o", "y.safetensors", "--out-dtype", "f32", "--only", "gate-up"];
        let value = json(dir.path(), &[&run[..], &more].concat());
        assert_eq!((&value["precision"], &value["scheme_stated"]), (&"W4A16".into(), &true.into()));
        let w4a4 = [&run[..], &more, &["--input-scale", "dynamic"]].concat();
        assert!(ok(dir.path(), &w4a4).contains("; the checkpoint is meant for W4A16"));
        let (shape, y) =
            TensorFile::open(path("y.safetensors")).unwrap().values::<f32>("y").unwrap();
        assert_eq!(shape, [m, n]);

        let checkpoint = Checkpoint::open(path(&out)).unwrap();
        let layer = checkpoint.layer("model.layers.3.mlp").unwrap();
        let fused = Nvfp4Matrix::quantize(&weight, 1, 2 * n, k).unwrap();
        assert_eq!(
            [layer.gate_proj.codes(), layer.up_proj.codes()].concat(),
            fused.codes(),
            "{convention}"
        );
        let a = Nvfp4Matrix::quantize(&x, 1, m, k).unwrap();
        close(
            &y,
            &oracle::exact(&DualGemm::new(&a, &layer.gate_proj, &layer.up_proj).unwrap()).unwrap(),
        );
    }
}

#[test]
fn quantize_with_samples_then_mlp() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (m, n, k) = (4, 16, 48);
    let prefix = "model.layers.3.mlp";
    let name = format!("{prefix}.gate_up_proj.weight");
    let weight = wave(2 * n, k, 0.21);
    tensors::write_output(path("float.safetensors"), &name, &[2 * n, k], &weight).unwrap();
    let x = wave(m, k, 0.5);
    tensors::write_output(path("x.safetensors"), "x", &[m, k], &x).unwrap();
    let amax = x.iter().fold(0.0f32, |a, v| a.max(v.abs()));
    for (convention, weight_only) in
        [("modelopt", "W4A16_NVFP4"), ("compressed-tensors", "NVFP4A16")]
    {
        let quantize = ["quantize", "float.safetensors", "-o", "out", "--convention", convention];
        let run =
            ["mlp", "out", "--prefix", prefix, "--input", "x.safetensors", "-o", "y.safetensors"];
        let run = [&run[..], &["--only", "gate-up"]].concat();
        let text = ok(dir.path(), &quantize);
        assert!(text.contains(&format!("declared {weight_only}: 4-bit weights only")), "{text}");
        assert_eq!(json(dir.path(), &run)["precision"], "W4A16");
        let output = nvfp4(dir.path(), &[&run[..], &["--input-scale", "calibrated"]].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8(output.stderr).unwrap().contains("weight-only"));

        let calibrated = [&quantize[..], &["--calibrate", "x.safetensors"]].concat();
        let text = ok(dir.path(), &calibrated);
        assert!(text.contains("declared NVFP4: 4-bit weights, and 4-bit activations"), "{text}");
        let value = json(dir.path(), &calibrated);
        assert_eq!((&value["scheme"], &value["calibrated"]), (&"NVFP4".into(), &true.into()));
        let value = json(dir.path(), &run);
        assert_eq!(value["input_scale_calibrated"], true);
        let scale = value["input_global_scale"].as_f64().unwrap();
        assert!((scale / f64::from(amax / 2688.0) - 1.0).abs() < 1e-6, "{scale:e}");
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A process that is asked to stop leaves nothing either. Where it is done before it is asked, there is
/// the whole result.
#[test]
fn a_process_that_is_stopped_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.safetensors");
    let (rows, cols) = (1 << 13, 1 << 12);
    let header = serde_json::json!({
        "l.gate_up_proj.weight": {
            "dtype": "BF16", "shape": [rows, cols], "data_offsets": [0, 2 * rows * cols],
        },
    });
    let mut header = header.to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let start = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    std::fs::write(&input, &start).unwrap();
    // Zeros that take no room on the disk.
    let file = std::fs::OpenOptions::new().write(true).open(&input).unwrap();
    file.set_len((start.len() + 2 * rows * cols) as u64).unwrap();

    let mut child = Command::new(env!("CARGO_BIN_EXE_nvfp4"))
        .args(["quantize", "in.safetensors", "-o", "out"])
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while child.try_wait().unwrap().is_none() && names(dir.path()).len() == 1 {
        std::thread::yield_now();
    }
    let stopped = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    let status = child.wait().unwrap();
    println!("kill: {stopped}, nvfp4: {status}");
    match status.code() {
        None => println!("skipped: signals are ignored here, so the command sets no handler"),
        Some(130) => assert_eq!(names(dir.path()), ["in.safetensors"]),
        _ => assert_eq!(names(dir.path()), ["in.safetensors", "out"]),
    }
}
