//! Quantising a checkpoint, against what the libraries make of the same weights.
#![cfg(feature = "checkpoint")]

use nvfp4_dual_gemm::checkpoint::{
    self, Checkpoint, Convention, Declared, Dtype, QuantizeOptions, QuantizeReport,
    SafetensorsFile, Writer,
};
use nvfp4_dual_gemm::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const PREFIX: &str = "model.layers.0.mlp";

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/checkpoints").join(name)
}

fn quantize(input: &Path, output: &Path, convention: Convention) -> Result<QuantizeReport> {
    let options = QuantizeOptions { convention, ..Default::default() };
    checkpoint::quantize_file(input, output, &options, &mut |_| ())
}

/// ModelOpt's QTensor made `modelopt-sharded`, and compressed-tensors made its own, from `floats`.
#[test]
fn same_bytes_as_the_libraries() {
    let dir = tempfile::tempdir().unwrap();
    for (convention, theirs) in [
        (Convention::ModelOpt, "modelopt-sharded"),
        (Convention::CompressedTensors, "compressed-tensors"),
    ] {
        let output = dir.path().join(theirs);
        let report = quantize(&data("floats"), &output, convention).unwrap();
        assert_eq!(report.quantized.len(), 2);
        let (ours, theirs) =
            (Checkpoint::open(&output).unwrap(), Checkpoint::open(data(theirs)).unwrap());
        let (a, b) = (ours.layer(PREFIX).unwrap(), theirs.layer(PREFIX).unwrap());
        assert_eq!(a.convention, convention);
        for (ours, theirs) in [(a.gate, b.gate), (a.up, b.up)] {
            assert_eq!(ours.global_scale(), theirs.global_scale());
            // The contract divides amax/6 by the global scale, ModelOpt multiplies the divisors
            // first, and compressed-tensors multiplies by its divisor and divides in bf16: that
            // tips ties, of the scales and of the codes. Values are compared, as a sign of zero is
            // kept here and dropped there.
            let scales = ours.scales().iter().zip(theirs.scales());
            let tipped: Vec<bool> = scales.map(|(x, y)| x != y).collect();
            let (x, y) = (ours.dequantize(), theirs.dequantize());
            let other = (0..x.len()).filter(|&i| !tipped[i / 16] && x[i] != y[i]).count();
            let tipped = tipped.iter().filter(|&&t| t).count();
            println!(
                "{convention}: {tipped} of {} scales, {other} of {} values",
                x.len() / 16,
                x.len()
            );
            assert!(tipped <= 1);
            assert!(other <= if convention == Convention::ModelOpt { 0 } else { x.len() / 100 });
        }
        assert_eq!(a.input_global_scale().unwrap(), None);

        let source = Checkpoint::open(data("floats")).unwrap();
        for name in source.names().filter(|n| !n.contains("gate_proj") && !n.contains("up_proj")) {
            let (x, y) = (source.tensor(name).unwrap(), ours.tensor(name).unwrap());
            assert_eq!(
                (x.dtype(), x.shape(), x.data().unwrap()),
                (y.dtype(), y.shape(), y.data().unwrap()),
                "{name}"
            );
        }
    }
}

#[test]
fn sidecars_say_what_was_done() {
    let dir = tempfile::tempdir().unwrap();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    for convention in [Convention::ModelOpt, Convention::CompressedTensors] {
        let output = dir.path().join(convention.to_string());
        quantize(&data("floats"), &output, convention).unwrap();
        let config: serde_json::Value =
            serde_json::from_str(&read(&output.join("config.json"))).unwrap();
        assert_eq!(config["hidden_size"], 64);
        let quantization = &config["quantization_config"];
        assert_eq!(quantization["quant_method"], convention.to_string());
        let ignore = quantization["ignore"].as_array().unwrap();
        assert!(ignore.iter().any(|m| m == "lm_head"));
        assert!(!ignore.iter().any(|m| m == "model.layers.0.mlp.gate_proj"));
        assert_eq!(
            output.join("hf_quant_config.json").exists(),
            convention == Convention::ModelOpt
        );
        // A second time there is nothing that could be quantised.
        let error = quantize(&output, &dir.path().join("again"), convention).unwrap_err();
        assert!(error.to_string().contains("already"), "{error}");
    }
}

fn floats(path: &Path, tensors: &[(&str, Dtype, &[usize])]) {
    let declared = tensors.iter().map(|t| Declared::new(t.0, t.1, t.2)).collect();
    let mut writer = Writer::create(path, declared, &BTreeMap::new()).unwrap();
    for (name, dtype, shape) in tensors {
        let len = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        writer.write(name, &vec![0x3c; len]).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn sharded_in_sharded_out() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in");
    std::fs::create_dir(&input).unwrap();
    let mut weight_map = BTreeMap::new();
    for (shard, name) in
        [("a.safetensors", "l.gate_proj.weight"), ("b.safetensors", "l.up_proj.weight")]
    {
        floats(&input.join(shard), &[(name, Dtype::F16, &[4, 32]), (shard, Dtype::I64, &[3])]);
        weight_map.insert(name, shard);
        weight_map.insert(shard, shard);
    }
    let index = serde_json::json!({ "weight_map": weight_map });
    std::fs::write(input.join("model.safetensors.index.json"), index.to_string()).unwrap();

    let output = dir.path().join("out");
    let mut seen = Vec::new();
    let options = QuantizeOptions::default();
    let report = checkpoint::quantize_file(&input, &output, &options, &mut |p| {
        seen.push((p.tensor.to_owned(), p.done));
        assert_eq!(p.total, 2 * (256 + 24));
    })
    .unwrap();
    assert_eq!(seen.len(), 5);
    assert_eq!(seen[4], (String::new(), 560));
    assert_eq!((report.bytes_in, report.bytes_out), (560, 2 * (64 + 8 + 4 + 24)));
    let checkpoint = Checkpoint::open(&output).unwrap();
    assert_eq!(checkpoint.names().count(), 8);
    assert_eq!(checkpoint.layer("l").unwrap().gate.cols(), 32);

    quantize(&input, &output, Convention::ModelOpt).unwrap(); // over the old result
    let error = quantize(&data("floats"), &output, Convention::ModelOpt).unwrap_err().to_string();
    assert!(error.contains("of another checkpoint"), "{error}");

    let error = quantize(&input, &dir.path().join("x.safetensors"), Convention::ModelOpt);
    assert!(error.unwrap_err().to_string().contains("sharded"));
    let error = quantize(&input, &input, Convention::ModelOpt).unwrap_err();
    assert!(error.to_string().contains("is the input itself"), "{error}");
}

#[test]
fn file_to_file_and_what_cannot_be_quantised() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.safetensors"), dir.path().join("out.safetensors"));
    floats(
        &input,
        &[
            ("l.gate_up_proj.weight", Dtype::BF16, &[4, 16]),
            ("k.up_proj.weight", Dtype::F32, &[4, 8]),
            ("i.up_proj.weight", Dtype::I8, &[4, 16]),
            ("e.up_proj.weight", Dtype::F16, &[2, 4, 16]),
            ("norm.weight", Dtype::F32, &[16]),
        ],
    );
    let report = quantize(&input, &output, Convention::CompressedTensors).unwrap();
    assert_eq!(report.files, [output.as_path()]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    assert_eq!(report.quantized[0].tensor, "l.gate_up_proj.weight");
    assert_eq!(report.copied, 4);
    let why: Vec<&str> = report.unsuitable.iter().map(|u| u.1.as_str()).collect();
    assert_eq!(why, ["its shape is [2, 4, 16]", "it is I8", "K = 8 is not a multiple of 16"]);
    let file = SafetensorsFile::open(&output).unwrap();
    assert_eq!(file.metadata().get("format").map(String::as_str), Some("pt"));
    assert_eq!(Checkpoint::open(&output).unwrap().layer("l").unwrap().up.rows(), 2);

    floats(&input, &[("norm.weight", Dtype::F32, &[16])]);
    let error = quantize(&input, &output, Convention::ModelOpt).unwrap_err().to_string();
    assert!(
        error.ends_with("ends in gate_proj.weight or up_proj.weight (nearest: norm.weight)"),
        "{error}"
    );
    let error = quantize(&input, &input, Convention::ModelOpt).unwrap_err();
    assert!(matches!(error, Error::Checkpoint(_)));
}

#[test]
fn odd_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.safetensors"), dir.path().join("out.safetensors"));
    for (value, global) in [(0.0f32, 1.0), (1e-44, 1.0), (f32::MAX, f32::MAX / 2688.0)] {
        let shape = [1, 16];
        let values = [value; 16];
        checkpoint::tensors::write_output(&input, "l.gate_up_proj.weight", &shape, &values)
            .unwrap();
        let report = quantize(&input, &output, Convention::CompressedTensors).unwrap();
        let got = report.quantized[0].global_scale;
        assert!((got / global - 1.0).abs() < 1e-6, "{value:e}: {got:e}");
    }
    let mut values = [1.0; 32];
    values[20] = f32::INFINITY;
    checkpoint::tensors::write_output(&input, "l.up_proj.weight", &[2, 16], &values).unwrap();
    std::fs::remove_file(&output).unwrap();
    let error = quantize(&input, &output, Convention::ModelOpt).unwrap_err().to_string();
    assert!(
        error.contains("tensor l.up_proj.weight: matrix: inf at batch 0, row 1, column 4"),
        "{error}"
    );
    assert!(!output.exists());
}
