//! What a single quantized file says of itself, as there is no configuration beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nvfp4_dual_gemm::checkpoint::{
    Calibration, Checkpoint, Convention, Declared, MlpLayer, QuantizeOptions, SafetensorsFile,
    Scheme, Weight, Writer, quantize_file, write_weights,
};
use nvfp4_dual_gemm::{Nvfp4Matrix, Result};

const PREFIX: &str = "model.layers.0.mlp";
const CONVENTIONS: [Convention; 2] = [Convention::ModelOpt, Convention::CompressedTensors];
const KEY: &str = "nvfp4_quantize";

fn floats() -> PathBuf {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/checkpoints");
    data.join("floats/model.safetensors")
}

fn quantize(input: &Path, output: &Path, convention: Convention, samples: bool) -> Result<String> {
    let mut options = QuantizeOptions::new(convention);
    if samples {
        let down = format!("{PREFIX}.down_proj");
        let samples = Calibration::new([(PREFIX, 4.0), (down.as_str(), 2.0)])?;
        options = options.with_calibration(samples);
    }
    quantize_file(input, output, &options, &mut |_| ()).map(|report| report.scheme)
}

fn open(path: &Path) -> Result<MlpLayer> {
    Checkpoint::open(path)?.mlp(PREFIX)
}

/// The same tensors with other metadata.
fn with_metadata(file: &Path, to: &Path, metadata: &BTreeMap<String, String>) {
    let file = SafetensorsFile::open(file).unwrap();
    let declared = file.tensors().map(|t| Declared::new(t.name(), t.dtype(), t.shape())).collect();
    let mut writer = Writer::create(to, declared, metadata).unwrap();
    for tensor in file.tensors() {
        writer.write(tensor.name(), &tensor.data().unwrap()).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn a_file_is_read_in_the_precision_that_it_was_made_for() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out.safetensors");
    for convention in CONVENTIONS {
        for (samples, scheme) in [(false, Scheme::W4A16), (true, Scheme::W4A4)] {
            let said = quantize(&floats(), &output, convention, samples).unwrap();
            assert_eq!(said != "NVFP4", scheme == Scheme::W4A16, "{said}");
            let layer = open(&output).unwrap();
            assert_eq!((layer.scheme, layer.scheme_stated), (scheme, true), "{convention}");
            assert_eq!(layer.weights().unwrap().precision(), scheme.into());
            assert_eq!(layer.down_input_global.is_some(), samples);
            let checkpoint = Checkpoint::open(&output).unwrap();
            assert_eq!(checkpoint.outline(PREFIX).unwrap().scheme, scheme);
            let bytes = std::fs::read(&output).unwrap();
            let of_bytes = Checkpoint::from_bytes("x", bytes).unwrap().mlp(PREFIX).unwrap();
            assert_eq!(of_bytes.scheme, scheme);
            if !samples {
                let error = layer.input_global_scale().unwrap_err().to_string();
                assert!(error.contains("weight-only") && error.contains(KEY), "{error}");
            }
            let metadata = SafetensorsFile::open(&output).unwrap().metadata().clone();
            assert_eq!(metadata["format"], "pt");
        }
    }
}

#[test]
fn a_file_that_says_nothing_is_taken_for_w4a4() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let matrix = Nvfp4Matrix::quantize(&[1f32; 32 * 32], 1, 32, 32).unwrap();
    let modules = ["gate_proj", "up_proj", "down_proj"].map(|name| format!("{PREFIX}.{name}"));
    let weights = modules.each_ref().map(|module| Weight {
        module,
        matrix: matrix.view(),
        input_global: None,
    });
    write_weights(&path, Convention::ModelOpt, &weights).unwrap();
    let layer = open(&path).unwrap();
    assert_eq!((layer.scheme, layer.scheme_stated), (Scheme::W4A4, false));
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/checkpoints");
    assert!(open(&data.join("modelopt-weight-only")).unwrap().scheme_stated);
}

/// Each file speaks of its own tensors, and a configuration beside it has to agree.
#[test]
fn files_and_configurations_agree() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two] = ["one.safetensors", "two.safetensors"].map(|name| dir.path().join(name));
    quantize(&floats(), &one, Convention::ModelOpt, false).unwrap();
    // Another layer, quantized with samples.
    let other = dir.path().join("other.safetensors");
    quantize(&floats(), &other, Convention::ModelOpt, true).unwrap();
    let file = SafetensorsFile::open(&other).unwrap();
    let renamed = |name: &str| name.replace("layers.0", "layers.1").replace("lm_head", "head");
    let tensors: Vec<_> = file.tensors().filter(|t| t.name().contains(".mlp.")).collect();
    let declared =
        tensors.iter().map(|t| Declared::new(renamed(t.name()), t.dtype(), t.shape())).collect();
    let mut writer = Writer::create(&two, declared, file.metadata()).unwrap();
    for tensor in &tensors {
        writer.write(&renamed(tensor.name()), &tensor.data().unwrap()).unwrap();
    }
    writer.finish().unwrap();
    std::fs::remove_file(other).unwrap();
    let both = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(both.layer(PREFIX).unwrap().scheme, Scheme::W4A16);
    assert_eq!(both.layer("model.layers.1.mlp").unwrap().scheme, Scheme::W4A4);

    let config = dir.path().join("config.json");
    let quantization = |algorithm: &str| {
        let quantization =
            serde_json::json!({ "quant_method": "modelopt", "quant_algo": algorithm });
        serde_json::json!({ "hidden_act": "silu", "quantization_config": quantization }).to_string()
    };
    std::fs::write(&config, quantization("W4A16_NVFP4")).unwrap();
    assert_eq!(open(&one).unwrap().scheme, Scheme::W4A16);
    std::fs::write(&config, quantization("NVFP4")).unwrap();
    let error = open(&one).unwrap_err().to_string();
    for part in [KEY, "config.json says quant_algo \"NVFP4\""] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn what_is_not_understood_in_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let [good, bad] = ["good.safetensors", "bad.safetensors"].map(|name| dir.path().join(name));
    quantize(&floats(), &good, Convention::ModelOpt, false).unwrap();
    for (text, part) in [
        ("", "says \"\" of it"),
        ("not JSON", "says \"not JSON\" of it"),
        ("[4]", "says [4] of it"),
        (r#"{"quant_method": "modelopt", "quant_algo": "FP8"}"#, "says quant_algo \"FP8\""),
        (r#"{"quant_method": "gptq"}"#, "says quant_method \"gptq\""),
    ] {
        with_metadata(&good, &bad, &[(KEY.to_owned(), text.to_owned())].into());
        let error = open(&bad).unwrap_err().to_string();
        assert!(error.contains(KEY) && error.contains(part), "{text}: {error}");
    }
    with_metadata(&good, &bad, &BTreeMap::new());
    assert!(!open(&bad).unwrap().scheme_stated);
}

/// What the first run declared would not hold of a second.
#[test]
fn a_result_is_not_quantized_again() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two] = ["one.safetensors", "two.safetensors"].map(|name| dir.path().join(name));
    let mut options = QuantizeOptions::new(Convention::ModelOpt);
    options.include = vec!["gate_proj".to_owned(), "up_proj".to_owned()];
    quantize_file(floats(), &one, &options, &mut |_| ()).unwrap();
    let error = quantize(&one, &two, Convention::ModelOpt, false).unwrap_err().to_string();
    assert!(error.contains(KEY) && error.contains("quantized already"), "{error}");
    assert!(!two.exists());
}
