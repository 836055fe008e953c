//! Whole MLPs of the real libraries' checkpoints, against a reference in float64 (scripts/mlp_reference.py) and
//! transformers' own experts of gpt-oss.

use nvfp4_dual_gemm::checkpoint::tensors::TensorFile;
use nvfp4_dual_gemm::checkpoint::{Checkpoint, LayerOptions, NoDown, Scheme};
use nvfp4_dual_gemm::{Glu, InputScale, Precision, oracle};
use std::path::{Path, PathBuf};

const PREFIX: &str = "model.layers.0.mlp";

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/checkpoints").join(name)
}

fn expected(name: &str) -> impl Fn(&str) -> Vec<f32> {
    let file = TensorFile::open(data(&format!("expected/{name}-mlp.safetensors"))).unwrap();
    move |tensor| file.values::<f32>(tensor).unwrap().1
}

/// Close enough for sums in another order, of numbers of the size of the largest.
#[track_caller]
fn close(actual: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    assert_eq!(actual.len(), expected.len(), "{what}");
    assert!(largest > 0.0, "{what}");
    for (i, (x, y)) in actual.iter().zip(expected).enumerate() {
        assert!((x - y).abs() <= tolerance * largest, "{what}[{i}]: {x:e} and {y:e}");
    }
}

/// Half a unit of bf16: what rounding h may change.
const BF16: f32 = 1.0 / 256.0;

fn check(name: &str, scheme: Scheme, biases: bool) {
    let checkpoint = Checkpoint::open(data(name)).unwrap();
    let layer = checkpoint.mlp(PREFIX).unwrap();
    assert_eq!((layer.scheme, &layer.no_down), (scheme, &None), "{name}");
    for (bias, rows) in [(&layer.gate_bias, 48), (&layer.up_bias, 48), (&layer.down_bias, 64)] {
        assert_eq!(bias.as_ref().map(|b| b.len()), biases.then_some(rows), "{name}");
    }
    let down = layer.down_proj.as_ref().unwrap();
    assert_eq!((down.rows(), down.cols()), (64, 48));
    let values = expected(name);
    let (x, weights) = (values("x"), layer.weights().unwrap());
    assert_eq!(weights.out_features(), 64);
    let precision = Precision::from(scheme);
    let h: Vec<f32> = oracle::mlp(&weights.gate_up(), &x, 5, precision).unwrap();
    close(&h, &values("h"), 1e-6, name);
    let y: Vec<f32> = oracle::mlp(&weights, &x, 5, precision).unwrap();
    // The reference does not round h to 16 bits, and W4A4 does not either.
    close(&y, &values("y"), if scheme == Scheme::W4A16 { BF16 } else { 1e-6 }, name);
}

#[test]
fn four_bit_activations() {
    for convention in ["modelopt", "compressed-tensors"] {
        check(convention, Scheme::W4A4, false);
        check(&format!("{convention}-bias"), Scheme::W4A4, true);
    }
    check("modelopt-fused", Scheme::W4A4, false);
}

#[test]
fn weight_only() {
    check("modelopt-weight-only", Scheme::W4A16, false);
    check("compressed-tensors-weight-only", Scheme::W4A16, true);
    for name in ["modelopt-weight-only", "compressed-tensors-weight-only"] {
        let layer = Checkpoint::open(data(name)).unwrap().layer(PREFIX).unwrap();
        assert_eq!((layer.gate_input_global, layer.down_input_global), (None, None));
        assert_eq!(layer.down_input_global_scale().unwrap(), None);
        let (values, weights) = (expected(name), layer.weights().unwrap());
        let x = values("x");
        for error in [
            layer.input_global_scale().unwrap_err(),
            layer.quantize_input(&x, 5).unwrap_err(),
            weights.check(Precision::default()).unwrap_err(),
        ] {
            let text = error.to_string();
            for part in [PREFIX, "weight-only (W4A16_NVFP4)", "config", "--input-scale dynamic"] {
                assert!(text.contains(part), "{text}: {part}");
            }
        }
        // Other scales are a matter of the caller: the result is that of W4A16 but for the activations.
        for scale in [InputScale::Dynamic, InputScale::PerRow, InputScale::Fixed(1e-2)] {
            let precision = Precision::W4A4 { scale };
            let y: Vec<f32> = oracle::mlp(&weights, &x, 5, precision).unwrap();
            close(&y, &values("y"), 0.3, name);
            layer.quantize_input_with(&x, 5, scale).unwrap();
        }
    }
}

/// Clamped SwiGLU with biases: `GptOssExperts.forward` in float64, whose rows of gate and up are in turns.
#[test]
fn gpt_oss() {
    let checkpoint = Checkpoint::open(data("gpt-oss")).unwrap();
    let values = expected("gpt-oss");
    let x = values("x");
    let prefixes = [0, 1].map(|e| format!("{PREFIX}.experts.{e}"));
    assert_eq!(checkpoint.layers(), prefixes);
    for (e, prefix) in prefixes.iter().enumerate() {
        let layer = checkpoint.mlp(prefix).unwrap();
        assert_eq!(layer.glu, Glu::GPT_OSS);
        let weights = layer.weights().unwrap();
        let h: Vec<f32> = oracle::mlp(&weights.gate_up(), &x, 5, Precision::W4A16).unwrap();
        close(&h, &values(&format!("h{e}")), 1e-6, "h");
        let y: Vec<f32> = oracle::mlp(&weights, &x, 5, Precision::W4A16).unwrap();
        close(&y, &values(&format!("y{e}")), BF16, "y");
    }
}

/// What is not asked for is not read.
#[test]
fn gate_and_up_alone() {
    let checkpoint = Checkpoint::open(data("modelopt-bias")).unwrap();
    let (whole, options) = (checkpoint.mlp(PREFIX).unwrap(), LayerOptions::new().gate_up_only());
    let part = checkpoint.layer_with(PREFIX, &options).unwrap();
    assert_eq!((&part.no_down, &part.down_proj), (&Some(NoDown::NotAsked), &None));
    assert_eq!((&part.down_bias, part.down_input_global), (&None, None));
    assert_eq!(part.weights().unwrap(), whole.weights().unwrap().gate_up());
    let error = checkpoint.mlp_with(PREFIX, &options).unwrap_err().to_string();
    assert!(error.ends_with("alone: the down projection was not asked for"), "{error}");
}
