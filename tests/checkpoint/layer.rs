//! Layers of the checkpoints that the real ModelOpt and compressed-tensors made.

use nvfp4_dual_gemm::checkpoint::tensors::TensorFile;
use nvfp4_dual_gemm::checkpoint::{
    Checkpoint, Convention, Declared, Dtype, MlpLayer, Weight, Writer, write_weights,
};
use nvfp4_dual_gemm::{Backend, DualGemm, Engine, Glu, InputScale, Nvfp4Matrix};
use std::path::{Path, PathBuf};

const PREFIX: &str = "model.layers.0.mlp";

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/checkpoints").join(name)
}

/// Equal up to the f32 roundings of `scale·global`, of `1/divisor` and of the product.
fn assert_close(actual: &[f32], expected: &[f32], ulps: f32, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    assert!(expected.iter().any(|&v| v != 0.0), "{what}");
    for (i, (&x, &y)) in actual.iter().zip(expected).enumerate() {
        assert!((x - y).abs() <= ulps * f32::EPSILON * y.abs(), "{what}[{i}]: {x:e} and {y:e}");
    }
}

fn check(name: &str, open: &str, convention: Convention) {
    let checkpoint = Checkpoint::open(data(open)).unwrap();
    assert_eq!(checkpoint.layers(), [PREFIX]);
    let layer = checkpoint.layer(PREFIX).unwrap();
    assert_eq!(layer.convention, convention);
    assert_eq!((layer.gate_proj.rows(), layer.gate_proj.cols()), (48, 64));

    let expected = TensorFile::open(data(&format!("expected/{name}.safetensors"))).unwrap();
    let values = |tensor| expected.values::<f32>(tensor).unwrap().1;
    assert_close(&layer.gate_proj.dequantize(), &values("gate"), 2.0, "gate");
    assert_close(&layer.up_proj.dequantize(), &values("up"), 2.0, "up");

    let a = layer.quantize_input(&values("x"), 5).unwrap();
    assert_close(&a.matrix().dequantize(), &values("xq"), 2.0, "input");
    let gemm = DualGemm::new(a.matrix(), &layer.gate_proj, &layer.up_proj).unwrap();
    for backend in [Backend::Oracle, Backend::Auto] {
        let y: Vec<f32> = Engine::of(backend).unwrap().run(&gemm).unwrap();
        let expected = values("y");
        let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for (i, (x, y)) in y.iter().zip(&expected).enumerate() {
            assert!((x - y).abs() <= 1e-5 * largest, "{backend}, y[{i}]: {x:e} and {y:e}");
        }
    }
}

#[test]
fn modelopt() {
    check("modelopt", "modelopt", Convention::ModelOpt);
    check("modelopt", "modelopt/model.safetensors", Convention::ModelOpt);
}

#[test]
fn modelopt_fused() {
    check("modelopt-fused", "modelopt-fused", Convention::ModelOpt);
    let checkpoint = Checkpoint::open(data("modelopt-fused")).unwrap();
    let layer = checkpoint.layer(PREFIX).unwrap();
    assert_eq!(layer.gate_proj.global_scale(), layer.up_proj.global_scale());
}

/// F4 codes, scalars of shape \[1\], gate and up in different shards, two global scales.
#[test]
fn modelopt_sharded() {
    check("modelopt-sharded", "modelopt-sharded", Convention::ModelOpt);
    let index = "modelopt-sharded/model.safetensors.index.json";
    check("modelopt-sharded", index, Convention::ModelOpt);
    let checkpoint = Checkpoint::open(data("modelopt-sharded")).unwrap();
    let weight = checkpoint.tensor("model.layers.0.mlp.up_proj.weight").unwrap();
    assert_eq!((weight.dtype(), weight.shape()), (Dtype::F4, &[48, 64][..]));
    let layer = checkpoint.layer("model.layers.0.mlp.").unwrap();
    assert!(layer.up_proj.global_scale() > 2.0 * layer.gate_proj.global_scale());
    assert_eq!(layer.gate_input_global, Some(5.0 / 2688.0));
    assert_eq!(layer.up_input_global, Some(4.0 / 2688.0));
    assert_eq!(layer.input_global_scale().unwrap(), Some(5.0 / 2688.0));
}

#[test]
fn compressed_tensors() {
    check("compressed-tensors", "compressed-tensors", Convention::CompressedTensors);
    let checkpoint = Checkpoint::open(data("compressed-tensors")).unwrap();
    let layer = checkpoint.layer(PREFIX).unwrap();
    assert!(layer.up_proj.global_scale() > 2.0 * layer.gate_proj.global_scale());
    let stored = checkpoint.tensor("model.layers.0.mlp.gate_proj.weight_global_scale").unwrap();
    assert_eq!(stored.shape(), [1]);
    assert_eq!(layer.gate_proj.global_scale(), 1.0 / stored.scalar().unwrap());
}

#[test]
fn reading_and_mapping_agree() {
    let mapped = Checkpoint::open(data("modelopt")).unwrap();
    let read = Checkpoint::read(data("modelopt")).unwrap();
    let bytes = std::fs::read(data("modelopt/model.safetensors")).unwrap();
    let owned = Checkpoint::from_bytes("memory", bytes).unwrap();
    let layer = mapped.layer(PREFIX).unwrap();
    assert_eq!(read.layer(PREFIX).unwrap(), layer);
    // Bytes have no configuration beside them.
    let mut owned = owned.layer(PREFIX).unwrap();
    assert!(layer.scheme_stated && !std::mem::replace(&mut owned.scheme_stated, true));
    assert_eq!(owned, layer);
}

/// An input scale that no input can be quantized with does not keep the layer from being read.
#[test]
fn bad_input_scales() {
    const K: usize = 32;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.safetensors");
    let x: Vec<f32> = (0..2 * K).map(|i| (i as f32).cos()).collect();
    for (convention, last) in [
        (Convention::ModelOpt, "input_scale"),
        (Convention::CompressedTensors, "input_global_scale"),
    ] {
        for module in ["gate_proj", "up_proj"] {
            for stored in [0.0, -0.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
                let name = format!("{PREFIX}.{module}.{last}");
                write_pair(&path, convention, &[(&name, stored)]);
                let checkpoint = Checkpoint::open(&path).unwrap();
                let layer = checkpoint.layer(PREFIX).unwrap();
                assert_eq!((layer.gate_input_global, layer.up_input_global), (None, None));
                let error = layer.input_global_scale().unwrap_err().to_string();
                assert_eq!(layer.quantize_input(&x, 2).unwrap_err().to_string(), error);
                let start = format!("{}: tensor {name} holds {stored:e}", path.display());
                assert!(error.starts_with(&start), "{error}");
                for way in ["--input-scale dynamic", "--input-scale VALUE", "InputScale::Dynamic"] {
                    assert!(error.contains(way), "{error}");
                }
                let dynamic = layer.quantize_input_with(&x, 2, InputScale::Dynamic).unwrap();
                assert_eq!(dynamic.matrix(), &Nvfp4Matrix::quantize(&x, 1, 2, K).unwrap());
                let fixed = layer.quantize_input_with(&x, 2, InputScale::Fixed(0.25)).unwrap();
                let expected = Nvfp4Matrix::quantize_with_global(&x, 1, 2, K, 0.25).unwrap();
                assert_eq!(fixed.matrix(), &expected);
            }
        }
    }
    // A bad one is not hidden by a good one, and a good one may be passed over.
    let (gate, up) =
        (format!("{PREFIX}.gate_proj.input_scale"), format!("{PREFIX}.up_proj.input_scale"));
    write_pair(&path, Convention::ModelOpt, &[(&gate, 0.5), (&up, f32::NAN)]);
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert!(checkpoint.layer(PREFIX).unwrap().input_global_scale().is_err());
    write_pair(&path, Convention::ModelOpt, &[(&gate, 0.5), (&up, 0.25)]);
    let checkpoint = Checkpoint::open(&path).unwrap();
    let layer = checkpoint.layer(PREFIX).unwrap();
    assert_eq!(layer.quantize_input(&x, 2).unwrap().matrix().global_scale(), 0.5);
    let dynamic = layer.quantize_input_with(&x, 2, InputScale::Dynamic).unwrap();
    assert_eq!(dynamic.matrix().global_scale(), 1.0 / 2688.0);
    for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let error = layer.quantize_input_with(&x, 2, InputScale::Fixed(bad)).unwrap_err();
        assert!(error.to_string().starts_with("a: global scale"), "{error}");
    }
}

/// Projections of 16 x 32 with some F32 scalars beside them.
fn write_pair(path: &Path, convention: Convention, scalars: &[(&str, f32)]) {
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for module in ["gate_proj", "up_proj"] {
        let name = |last: &str| format!("{PREFIX}.{module}.{last}");
        tensors.push((name(convention.codes()), Dtype::U8, vec![16, 16], vec![0x21; 256]));
        tensors.push((name(convention.scales()), Dtype::F8_E4M3, vec![16, 2], vec![0x38; 32]));
        let global = 1f32.to_le_bytes().to_vec();
        tensors.push((name(convention.weight_global()), Dtype::F32, vec![], global));
    }
    for (name, value) in scalars {
        tensors.push(((*name).to_owned(), Dtype::F32, vec![], value.to_le_bytes().to_vec()));
    }
    let declared = tensors.iter().map(|t| Declared::new(&t.0, t.1, t.2.clone())).collect();
    let mut writer = Writer::create(path, declared, &Default::default()).unwrap();
    for (name, _, _, bytes) in &tensors {
        writer.write(name, bytes).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn input_scales_are_written_as_they_are_read() {
    for (text, scale) in [
        ("calibrated", InputScale::Calibrated),
        ("dynamic", InputScale::Dynamic),
        ("2.5e-1", InputScale::Fixed(0.25)),
    ] {
        assert_eq!(text.parse::<InputScale>().unwrap(), scale);
        assert_eq!(scale.to_string(), text);
    }
    assert_eq!(InputScale::default(), InputScale::Calibrated);
    for bad in ["", "static", "0", "-1", "nan", "inf", "1e99", "0x1"] {
        assert!(bad.parse::<InputScale>().is_err(), "{bad}");
    }
}

#[test]
fn written_weights_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.safetensors");
    let values = |scale: f32| -> Vec<f32> { (0..1024).map(|i| scale * (i as f32).sin()).collect() };
    let gate = Nvfp4Matrix::quantize(&values(1.0), 1, 16, 64).unwrap();
    let up = Nvfp4Matrix::quantize(&values(7.3), 1, 16, 64).unwrap();
    for convention in [Convention::ModelOpt, Convention::CompressedTensors] {
        for (first, second) in [("gate_proj", "up_proj"), ("w1", "w3")] {
            let [first, second] = [first, second].map(|m| format!("{PREFIX}.{m}"));
            let weights = [
                Weight { module: &first, matrix: gate.view(), input_global: Some(0.5) },
                Weight { module: &second, matrix: up.view(), input_global: None },
            ];
            write_weights(&path, convention, &weights).unwrap();
            let checkpoint = Checkpoint::open(&path).unwrap();
            let MlpLayer { gate_proj: g, up_proj: u, .. } = checkpoint.layer(PREFIX).unwrap();
            assert_eq!((g.codes(), g.scales()), (gate.codes(), gate.scales()));
            assert_eq!((u.codes(), u.scales()), (up.codes(), up.scales()));
            assert_close(&[g.global_scale()], &[gate.global_scale()], 1.0, "gate");
            assert_close(&[u.global_scale()], &[up.global_scale()], 1.0, "up");
            assert_eq!(checkpoint.layer(PREFIX).unwrap().input_global_scale().unwrap(), Some(0.5));
        }
    }
    let tiny = Nvfp4Matrix::new(1, 1, 16, vec![0; 8], vec![0], 1e-40).unwrap();
    let weights = [Weight { module: "m", matrix: tiny.view(), input_global: None }];
    write_weights(&path, Convention::ModelOpt, &weights).unwrap();
    let error = write_weights(&path, Convention::CompressedTensors, &weights).unwrap_err();
    assert!(error.to_string().contains("m.weight_global_scale: the global scale 1e-40"), "{error}");
}

#[test]
fn the_gate_is_that_of_the_config() {
    assert_eq!(Checkpoint::open(data("modelopt")).unwrap().glu().unwrap(), Some(Glu::Swiglu));
    assert_eq!(Checkpoint::open(data("modelopt-sharded")).unwrap().glu().unwrap(), None);
    let dir = tempfile::tempdir().unwrap();
    let source = data("modelopt-fused/model.safetensors");
    std::fs::copy(source, dir.path().join("model.safetensors")).unwrap();
    let gate = |config: &str| {
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        Checkpoint::open(dir.path()).unwrap().glu()
    };
    let gemma = r#"{"hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh"}"#;
    assert_eq!(gate(gemma).unwrap(), Some(Glu::GegluTanh));
    let nested = r#"{"hidden_act": "relu", "text_config": {"hidden_act": "silu"}}"#;
    assert_eq!(gate(nested).unwrap(), Some(Glu::Swiglu));
    let error = gate(r#"{"hidden_act": "relu2"}"#).unwrap_err().to_string();
    assert!(
        error.contains("activation is \"relu2\", expected silu or gelu_pytorch_tanh"),
        "{error}"
    );
}
