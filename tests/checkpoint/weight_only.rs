//! Which layers are weight-only, by everything that can say so, and what that means for their activations.

use crate::tiny::{K, PREFIX, SILU, Tiny, close};
use nvfp4_dual_gemm::checkpoint::{LayerOptions, Scheme};
use nvfp4_dual_gemm::{Engine, InputScale, Precision, oracle};

const NUMBERS: &str = r#"{"num_bits": 4, "type": "float", "group_size": 16}"#;

/// As llm-compressor writes its presets.
fn group(targets: &str, input: &str) -> String {
    format!(
        r#"{{"format": "nvfp4-pack-quantized", "input_activations": {input}, "output_activations": null,
        "targets": [{targets}], "weights": {{"actorder": null, "block_structure": null, "dynamic": false,
        "group_size": 16, "num_bits": 4, "observer": "memoryless_minmax", "observer_kwargs": {{}},
        "scale_dtype": "torch.float8_e4m3fn", "strategy": "tensor_group", "symmetric": true,
        "type": "float", "zp_dtype": null}}}}"#
    )
}

fn groups(groups: &[String]) -> String {
    let groups: Vec<String> =
        groups.iter().enumerate().map(|(i, g)| format!(r#""group_{i}": {g}"#)).collect();
    format!(
        r#"{{"quantization_config": {{"quant_method": "compressed-tensors", "format":
        "nvfp4-pack-quantized", "quantization_status": "compressed", "ignore": ["lm_head"],
        "config_groups": {{{}}}}}}}"#,
        groups.join(", ")
    )
}

fn modelopt(rest: &str) -> String {
    format!(r#"{{"producer": {{"name": "modelopt"}}, "quantization": {{{rest}}}}}"#)
}

/// The scheme of a layer in a directory with these files, or its refusal.
fn scheme(prefix: &str, files: &[(&str, &str)]) -> Result<Scheme, String> {
    let tiny = Tiny::at(prefix);
    for (name, text) in files {
        tiny.json(name, text);
    }
    let layer = tiny.open().and_then(|c| c.layer(prefix)).map_err(|e| e.to_string())?;
    let calibrated = tiny.c_with(prefix, &LayerOptions::new());
    match layer.scheme {
        Scheme::W4A16 => {
            assert_eq!(Precision::from(layer.scheme), Precision::W4A16);
            let text = calibrated.unwrap_err();
            let said = format!("DIR: layer {prefix} is weight-only (W4A16_NVFP4)");
            assert!(text.contains(&said), "{text}");
        }
        _ => {
            assert_eq!(Precision::from(layer.scheme), Precision::default());
            close(calibrated, SILU);
        }
    }
    Ok(layer.scheme)
}

const OWN: &str = "hf_quant_config.json";
const CONFIG: &str = "config.json";

#[test]
fn what_says_so() {
    let linear = r#""Linear""#;
    let short = |name: &str| {
        format!(
            r#"{{"quantization_config": {{"format": "nvfp4-pack-quantized", "config_groups": {{"{name}": ["Linear"]}}}}}}"#
        )
    };
    let converted = |algo: &str, input: &str| {
        format!(
            r#"{{"quantization_config": {{"quant_method": "modelopt", "quant_algo": "{algo}", "ignore": [],
            "config_groups": {{"group_0": {{{input} "weights": {{"dynamic": false, "num_bits": 4,
            "type": "float", "group_size": 16}}, "targets": ["Linear"]}}}}}}}}"#
        )
    };
    let input = format!(r#""input_activations": {NUMBERS},"#);
    for (file, text, expected) in [
        (OWN, modelopt(r#""quant_algo": "W4A16_NVFP4", "group_size": 16"#), Scheme::W4A16),
        (OWN, modelopt(r#""quant_algo": "w4a16_nvfp4""#), Scheme::W4A16),
        (OWN, modelopt(r#""quant_algo": "NVFP4", "group_size": 16"#), Scheme::W4A4),
        (OWN, modelopt(r#""quant_algo": "NVFP4_AWQ""#), Scheme::W4A4),
        (OWN, modelopt(r#""quant_algo": null"#), Scheme::W4A4),
        (CONFIG, converted("W4A16_NVFP4", ""), Scheme::W4A16),
        (CONFIG, converted("NVFP4", &input), Scheme::W4A4),
        (CONFIG, groups(&[group(linear, "null")]), Scheme::W4A16),
        (CONFIG, groups(&[group(linear, NUMBERS)]), Scheme::W4A4),
        (CONFIG, short("NVFP4A16"), Scheme::W4A16),
        (CONFIG, short("NVFP4"), Scheme::W4A4),
        (CONFIG, "{}".to_owned(), Scheme::W4A4),
    ] {
        assert_eq!(scheme(PREFIX, &[(file, &text)]), Ok(expected), "{text}");
    }
}

/// Some layers with 4-bit activations, and some without.
#[test]
fn layer_by_layer() {
    let [first, second] = ["model.layers.0.mlp", "model.layers.1.mlp"];
    let entries: Vec<String> = [(first, "NVFP4"), (second, "W4A16_NVFP4")]
        .iter()
        .flat_map(|(layer, algo)| {
            ["gate_proj", "up_proj"].map(|name| {
                format!(r#""{layer}.{name}": {{"quant_algo": "{algo}", "group_size": 16}}"#)
            })
        })
        .collect();
    let layers = modelopt(&format!(
        r#""quant_algo": "MIXED_PRECISION", "quantized_layers": {{{}}}"#,
        entries.join(", ")
    ));
    let by_pattern = groups(&[
        group(r#""re:.*layers\\.0\\..*""#, NUMBERS),
        group(r#""re:.*layers\\.1\\..*""#, "null"),
    ]);
    let by_class =
        groups(&[group(r#""Linear""#, NUMBERS), group(r#""re:.*layers\\.1\\.mlp.*""#, "null")]);
    for (file, text) in [(OWN, &layers), (CONFIG, &by_pattern), (CONFIG, &by_class)] {
        assert_eq!(scheme(first, &[(file, text)]), Ok(Scheme::W4A4), "{text}");
        assert_eq!(scheme(second, &[(file, text)]), Ok(Scheme::W4A16), "{text}");
    }
    // Experts.
    let experts = modelopt(r#""quant_algo": "NVFP4", "moe_quant_algo": "W4A16_NVFP4""#);
    assert_eq!(scheme("model.layers.0.mlp.experts.3", &[(OWN, &experts)]), Ok(Scheme::W4A16));
    assert_eq!(scheme(first, &[(OWN, &experts)]), Ok(Scheme::W4A4));
}

/// One layer has one precision, and all that is said has to agree.
#[test]
fn disagreement_is_refused() {
    let config = |algo: &str| {
        format!(
            r#"{{"quantization_config": {{"quant_method": "modelopt", "quant_algo": "{algo}"}}}}"#
        )
    };
    let own = |algo: &str| modelopt(&format!(r#""quant_algo": "{algo}""#));
    let both = |a: &str, b: &str| scheme(PREFIX, &[(OWN, &own(a)), (CONFIG, &config(b))]);
    assert_eq!(both("W4A16_NVFP4", "W4A16_NVFP4"), Ok(Scheme::W4A16));
    assert_eq!(both("NVFP4", "NVFP4"), Ok(Scheme::W4A4));
    for (a, b) in [("NVFP4", "W4A16_NVFP4"), ("W4A16_NVFP4", "NVFP4")] {
        let text = both(a, b).unwrap_err();
        assert!(text.contains("is W4A16_NVFP4 in part"), "{text}");
        let said =
            |file: &str, algo: &str| text.contains(&format!("{file} says quant_algo {algo:?}"));
        assert!(said("hf_quant_config.json", a) && said("config.json", b), "{text}");
    }
    // Left of the source, beside what ModelOpt says.
    let stale = r#"{"quantization_config": {"quant_method": "fp8"}}"#;
    let of = scheme(PREFIX, &[(OWN, &own("W4A16_NVFP4")), (CONFIG, stale)]);
    assert_eq!(of, Ok(Scheme::W4A16));

    let name = |p: &str| format!(r#""{PREFIX}.{p}""#);
    let (gate, up) = (name("gate_proj"), name("up_proj"));
    let numbers = format!(r#""weights": {NUMBERS}, "targets": ["Linear"]"#);
    let converted = |algo: &str, rest: &str| {
        format!(
            r#"{{"quantization_config": {{"quant_method": "modelopt", "quant_algo": "{algo}",
            "config_groups": {{"group_0": {{{rest} {numbers}}}}}}}}}"#
        )
    };
    let input = format!(r#""input_activations": {NUMBERS},"#);
    let layers = |g: &str, u: &str| {
        modelopt(&format!(
            r#""quant_algo": "MIXED_PRECISION", "quantized_layers": {{{gate}: {{"quant_algo": "{g}"}}, {up}: {{"quant_algo": "{u}"}}}}"#
        ))
    };
    for (file, text) in [
        (OWN, layers("NVFP4", "W4A16_NVFP4")),
        (OWN, layers("W4A16_NVFP4", "NVFP4")),
        (CONFIG, groups(&[group(&gate, NUMBERS), group(&up, "null")])),
        (CONFIG, groups(&[group(&gate, "null"), group(r#""Linear""#, NUMBERS)])),
        // Two groups that match equally well, and two of which neither does.
        (CONFIG, groups(&[group(r#""Linear""#, NUMBERS), group(r#""Linear""#, "null")])),
        (CONFIG, groups(&[group(r#""re:.*q_proj""#, NUMBERS), group(r#""re:.*k_proj""#, "null")])),
        // An algorithm that its own groups deny.
        (CONFIG, converted("NVFP4", "")),
        (CONFIG, converted("W4A16_NVFP4", &input)),
    ] {
        let error = scheme(PREFIX, &[(file, &text)]).unwrap_err();
        assert!(error.contains("is W4A16_NVFP4 in part"), "{error}");
    }
    // What looks alike and is not NVFP4, or of which nothing is said.
    for (file, text, word) in [
        (OWN, modelopt(r#""quant_algo": "W4A16_NVFP4", "group_size": 32"#), "groups of 32"),
        (OWN, modelopt(r#""quant_algo": "W4A16_AWQ""#), "W4A16_AWQ"),
        (OWN, modelopt(r#""quant_algo": "W4A8_NVFP4_FP8""#), "W4A8_NVFP4_FP8"),
        (
            OWN,
            modelopt(r#""quant_algo": "W4A16_NVFP4", "exclude_modules": ["*mlp*"]"#),
            "said not to be",
        ),
        (
            CONFIG,
            groups(&[group(r#""Linear""#, "null").replace(r#""num_bits": 4"#, r#""num_bits": 8"#)]),
            "W8A16",
        ),
        (
            CONFIG,
            groups(&[
                group(r#""Linear""#, "null").replace(r#""type": "float""#, r#""type": "int""#)
            ]),
            "INT4",
        ),
        (
            CONFIG,
            groups(&[group(r#""Linear""#, "null").replace("nvfp4-pack", "mxfp4-pack")]),
            "MXFP4",
        ),
        (
            CONFIG,
            groups(&[
                group(r#""Linear""#, "null").replace(r#""group_size": 16"#, r#""group_size": 32"#)
            ]),
            "groups of 32",
        ),
        (
            CONFIG,
            groups(&[
                r#"{"targets": ["Linear"], "weights": null, "input_activations": null}"#.to_owned()
            ]),
            "neither weights nor",
        ),
    ] {
        let error = scheme(PREFIX, &[(file, &text)]).unwrap_err();
        assert!(error.contains(word), "{error}: {word}");
    }
}

/// 4-bit activations are a choice of the caller: with a scale that is made of them, or given.
#[test]
fn four_bit_activations_all_the_same() {
    let tiny = Tiny::new();
    tiny.json(OWN, &modelopt(r#""quant_algo": "W4A16_NVFP4""#));
    let layer = tiny.open().unwrap().layer(PREFIX).unwrap();
    let (weights, x) = (layer.weights().unwrap(), [1.0f32; K]);
    for scale in [InputScale::Dynamic, InputScale::PerRow, InputScale::Fixed(1.0 / 2688.0)] {
        let a = layer.quantize_input_with(&x, 1, scale).unwrap();
        let c: Vec<f32> = Engine::oracle().run(&weights.gemm(&a).unwrap()).unwrap();
        assert!((f64::from(c[0]) / SILU - 1.0).abs() < 1e-6, "{scale}: {}", c[0]);
    }
    let c: Vec<f32> = oracle::mlp(&weights, &x, 1, Precision::from(layer.scheme)).unwrap();
    assert!((f64::from(c[0]) / SILU - 1.0).abs() < 1e-6, "{}", c[0]);
    let error = weights.quantize(&x, 1, InputScale::Calibrated).unwrap_err().to_string();
    for part in ["quant_algo \"W4A16_NVFP4\"", "run it as W4A16", "InputScale::Dynamic"] {
        assert!(error.contains(part), "{error}: {part}");
    }
}

/// A scale of the input that is there, although nothing is said to need it, can be asked for.
#[test]
fn a_scale_that_is_stored_all_the_same() {
    let mut tiny = Tiny::new();
    let scale = (1.0f32 / 2688.0).to_le_bytes().to_vec();
    let name = format!("{PREFIX}.gate_proj.input_scale");
    tiny.tensors.insert(name, (nvfp4_dual_gemm::checkpoint::Dtype::F32, vec![], scale));
    tiny.json(OWN, &modelopt(r#""quant_algo": "W4A16_NVFP4""#));
    let layer = tiny.open().unwrap().layer(PREFIX).unwrap();
    assert_eq!((layer.scheme, layer.gate_input_global), (Scheme::W4A16, Some(1.0 / 2688.0)));
    close(tiny.c(), SILU);
}
