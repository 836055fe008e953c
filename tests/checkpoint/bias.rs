//! Biases of the projections: where they are found, which numbers they are, and what is refused.

use crate::parts::*;
use crate::tiny::{self, Tiny};
use nvfp4_dual_gemm::checkpoint::{Checkpoint, Dtype, LayerOptions, MlpLayer};
use nvfp4_dual_gemm::{bf16, f16};

const TYPES: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::BF16];
const E: usize = 3;

/// Number `i` of the bias number `seed`, exact in all three types.
fn number(seed: usize, i: usize) -> f32 {
    (i as f32 - 7.0) * 0.25 + seed as f32 * 8.0
}

fn numbers(seed: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| number(seed, i)).collect()
}

fn stored(name: &str, dtype: Dtype, shape: &[usize], values: &[f32]) -> Part {
    let bytes = match dtype {
        Dtype::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
        Dtype::BF16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    };
    part(name, dtype, shape, bytes)
}

#[track_caller]
fn assert_biases(layer: &MlpLayer, [gate, up]: [Option<usize>; 2]) {
    let expected = |seed: Option<usize>| seed.map(|seed| numbers(seed, N));
    assert_eq!(layer.gate_bias.as_deref(), expected(gate).as_deref());
    assert_eq!(layer.up_bias.as_deref(), expected(up).as_deref());
}

#[test]
fn of_modules() {
    for convention in CONVENTIONS {
        for (dtype, [gate, up]) in TYPES
            .into_iter()
            .flat_map(|dtype| [["gate_proj", "up_proj"], ["w1", "w3"]].map(|names| (dtype, names)))
        {
            // By name, and with the number of an expert after it.
            for (prefix, module) in [
                ("l.mlp", (|p, n| format!("{p}.{n}")) as fn(&str, &str) -> String),
                ("l.experts.7", |_, n| format!("l.experts.{n}.7")),
            ] {
                let all = |seeds: [Option<usize>; 2]| {
                    let mut all = Vec::new();
                    for ((name, seed), bias) in [(gate, 1), (up, 2)].into_iter().zip(seeds) {
                        let module = module(prefix, name);
                        all.extend(projection(&module, convention, seed));
                        let name = format!("{module}.bias");
                        all.extend(bias.map(|b| stored(&name, dtype, &[N], &numbers(b, N))));
                    }
                    all
                };
                for seeds in [[None, None], [Some(3), Some(4)], [Some(3), None], [None, Some(4)]] {
                    let layer = open(&all(seeds)).layer(prefix).unwrap();
                    assert_layer(&layer, [1, 2]);
                    assert_biases(&layer, seeds);
                    let biases = layer.weights().unwrap();
                    let or_zeros =
                        |seed: Option<usize>| seed.map_or(vec![0.0; N], |s| numbers(s, N));
                    let expected = seeds.map(or_zeros);
                    match seeds {
                        [None, None] => assert!(biases.biases().is_none()),
                        _ => assert_eq!(biases.biases().unwrap(), [&expected[0][..], &expected[1]]),
                    }
                }
            }
        }
    }
}

/// Numbers of all magnitudes that F16 and BF16 have, subnormal ones and both zeros among them.
#[test]
fn widening_loses_nothing() {
    for (dtype, value) in [
        (Dtype::F16, (|bits| f16::from_bits(bits).to_f64()) as fn(u16) -> f64),
        (Dtype::BF16, |bits| bf16::from_bits(bits).to_f64()),
    ] {
        let finite: Vec<u16> = (0..=u16::MAX).filter(|&bits| value(bits).is_finite()).collect();
        let zeros = [0, 0x8000].repeat(N / 2);
        let pieces = finite.chunks_exact(N).step_by(97).chain([&zeros[..]]);
        for piece in pieces {
            let mut all = layer("l");
            let bytes = piece.iter().flat_map(|b| b.to_le_bytes()).collect();
            all.retain(|p| p.name != "l.gate_proj.bias");
            all.push(part("l.gate_proj.bias", dtype, &[N], bytes));
            let read = open(&all).layer("l").unwrap().gate_bias.unwrap();
            for (&read, &bits) in read.iter().zip(piece) {
                assert_eq!(f64::from(read).to_bits(), value(bits).to_bits());
            }
            assert_eq!(read.len(), N);
        }
    }
}

#[test]
fn of_fused_modules_and_stacks() {
    let both = |seed| [numbers(seed, N), numbers(seed + 1, N)].concat();
    for (convention, dtype) in CONVENTIONS.into_iter().flat_map(|c| TYPES.map(|t| (c, t))) {
        // A module of 2N rows, gate first.
        let mut all = projection("l.gate_up_proj", convention, 1);
        for (part, of) in all.iter_mut().zip([codes as fn(usize) -> Vec<u8>, scales]) {
            (part.shape[0], part.bytes) = (2 * N, [of(1), of(2)].concat());
        }
        all.push(stored("l.gate_up_proj.bias", dtype, &[2 * N], &both(5)));
        assert_biases(&open(&all).layer("l").unwrap(), [Some(5), Some(6)]);

        for (join, bias) in [(".", ".bias"), (".", "_bias"), ("_", "_bias"), ("_", ".bias")] {
            let stack = |base: &str, rows: usize| -> Vec<Part> {
                let of = |f: fn(usize) -> Vec<u8>| (0..E * rows / N).flat_map(f).collect();
                let name = |last: &str| format!("{base}{join}{last}");
                vec![
                    part(&name(convention.codes()), Dtype::U8, &[E, rows, K / 2], of(codes)),
                    part(
                        &name(convention.scales()),
                        Dtype::F8_E4M3,
                        &[E, rows, K / 16],
                        of(scales),
                    ),
                    floats(&name(convention.weight_global()), &[], &[1.0]),
                ]
            };
            for name in ["gate_up_proj", "w13"] {
                let base = format!("l.experts.{name}");
                let mut all = stack(&base, 2 * N);
                let values: Vec<f32> = (0..E).flat_map(|e| both(2 * e)).collect();
                all.push(stored(&format!("{base}{bias}"), dtype, &[E, 2 * N], &values));
                for e in 0..E {
                    let layer = open(&all).layer(&format!("l.experts.{e}")).unwrap();
                    assert_biases(&layer, [Some(2 * e), Some(2 * e + 1)]);
                }
            }
            for [gate, up] in [["gate_proj", "up_proj"], ["w1", "w3"]] {
                let mut all = Vec::new();
                for (name, seed) in [(gate, 0), (up, E)] {
                    let base = format!("l.experts.{name}");
                    all.extend(stack(&base, N));
                    let values: Vec<f32> = (0..E).flat_map(|e| numbers(seed + e, N)).collect();
                    all.push(stored(&format!("{base}{bias}"), dtype, &[E, N], &values));
                }
                for e in 0..E {
                    let layer = open(&all).layer(&format!("l.experts.{e}")).unwrap();
                    assert_biases(&layer, [Some(e), Some(E + e)]);
                }
            }
        }
    }
}

#[test]
fn what_is_no_bias_is_refused_by_name() {
    let with = |bias: Part| {
        let mut all = layer("l");
        all.push(bias);
        refused(&all, "l")
    };
    let up = "l.up_proj.bias";
    for shape in [&[][..], &[1], &[N - 1], &[N + 1], &[2 * N], &[1, N], &[N, 1], &[0]] {
        let len = shape.iter().product();
        let text = with(floats(up, shape, &vec![0.5; len]));
        let expected = format!(
            "tensor {up} is F32 {shape:?}, expected [16], one for each row of l.up_proj.weight"
        );
        assert!(text.ends_with(&expected), "{text}");
    }
    for (dtype, size) in
        [(Dtype::U8, 1), (Dtype::F8_E4M3, 1), (Dtype::I32, 4), (Dtype::F64, 8), (Dtype::I8, 1)]
    {
        let text = with(part(up, dtype, &[N], vec![0; N * size]));
        let expected =
            format!("tensor {up} is {dtype} [16], expected F16, BF16 or F32 [16], a bias");
        assert!(text.ends_with(&expected), "{text}");
    }
    for (at, value) in [(0, f32::NAN), (7, f32::INFINITY), (N - 1, f32::NEG_INFINITY)] {
        for dtype in TYPES {
            let mut values = numbers(1, N);
            values[at] = value;
            let text = with(stored(up, dtype, &[N], &values));
            let expected = format!("tensor {up} holds {value} at [{at}], expected a finite number");
            assert!(text.ends_with(&expected), "{text}");
        }
    }
    // Names that nobody writes for a module.
    for name in ["l.bias", "l.gate_proj_bias", "l.gate_proj.biases", "l.gate_up_proj_bias"] {
        let text = with(floats(name, &[N], &[0.0; N]));
        assert!(text.contains(&format!("there is {name} F32 [16]")), "{text}");
    }
}

#[test]
fn of_a_stack_that_does_not_fit_is_refused_by_name() {
    let base = "l.experts.gate_up_proj";
    let good = || -> Vec<Part> {
        let of = |f: fn(usize) -> Vec<u8>| (0..2 * E).flat_map(f).collect();
        vec![
            part(base, Dtype::U8, &[E, 2 * N, K / 2], of(codes)),
            part(&format!("{base}_weight_scale"), Dtype::F8_E4M3, &[E, 2 * N, K / 16], of(scales)),
            floats(&format!("{base}_weight_scale_2"), &[], &[1.0]),
        ]
    };
    let with = |name: &str, shape: &[usize], values: &[f32]| {
        let mut all = good();
        all.push(floats(&format!("{base}{name}"), shape, values));
        open(&all).layer("l.experts.1").map_err(|e| e.to_string())
    };
    assert!(with("_bias", &[E, 2 * N], &[0.5; E * 2 * N]).is_ok());
    for shape in
        [&[E - 1, 2 * N][..], &[E + 1, 2 * N], &[2 * N], &[E, N], &[E * 2 * N], &[2 * N, E]]
    {
        let text = with("_bias", shape, &vec![0.5; shape.iter().product()]).unwrap_err();
        assert!(
            text.contains(&format!("{base}_bias is F32 {shape:?}, expected [3, 32]")),
            "{text}"
        );
    }
    // Only the expert that is asked for has to have good ones.
    let mut values = [0.5; E * 2 * N];
    values[2 * 2 * N + 3] = f32::NAN;
    assert!(with("_bias", &[E, 2 * N], &values).is_ok());
    values[2 * N + 20] = f32::INFINITY;
    let text = with("_bias", &[E, 2 * N], &values).unwrap_err();
    assert!(text.ends_with("_bias holds inf at [1, 20], expected a finite number"), "{text}");

    let mut all = good();
    for name in ["_bias", ".bias"] {
        all.push(floats(&format!("{base}{name}"), &[E, 2 * N], &[0.5; E * 2 * N]));
    }
    let text = refused(&all, "l.experts.1");
    assert!(text.contains(&format!("a bias both as {base}.bias and as {base}_bias")), "{text}");
    // Of one expert, beside the stack of all.
    let mut all = good();
    all.push(floats("l.experts.1.gate_up_proj.bias", &[2 * N], &[0.5; 2 * N]));
    assert!(refused(&all, "l.experts.1").contains("l.experts.gate_up_proj"));
}

/// A bias that an index places into a file that is gone is a part of the layer.
#[test]
fn in_a_missing_shard() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("a.safetensors"), &layer("l"));
    let mut map: Vec<String> =
        layer("l").iter().map(|p| format!(r#""{}": "a.safetensors""#, p.name)).collect();
    map.push(r#""l.up_proj.bias": "b.safetensors""#.to_owned());
    let index = format!(r#"{{"weight_map": {{{}}}}}"#, map.join(", "));
    std::fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    let text = fault(dir.path(), "l");
    assert!(
        text.contains("tensor l.up_proj.bias is in the shard b.safetensors, which is missing"),
        "{text}"
    );
    write(&dir.path().join("b.safetensors"), &[floats("l.up_proj.bias", &[N], &numbers(9, N))]);
    let layer = Checkpoint::open(dir.path()).unwrap().layer("l").unwrap();
    assert_biases(&layer, [None, Some(9)]);
}

/// With a bias on gate and up, b1 = 0.5 and b2 = -3.
fn biased(prefix: &str) -> Tiny {
    let mut tiny = Tiny::at(prefix);
    for (module, value) in [("gate_proj", 0.5f32), ("up_proj", -3.0)] {
        let bytes = [value; tiny::N].iter().flat_map(|v| v.to_le_bytes()).collect();
        let name = format!("{prefix}.{module}.bias");
        tiny.tensors.insert(name, (Dtype::F32, vec![tiny::N], bytes));
    }
    tiny
}

/// The products are 1 and 2: silu(1.5)·(-1), from torch in f64.
#[test]
fn they_are_added_before_the_gate() {
    let tiny = biased(tiny::PREFIX);
    tiny::close(tiny.c(), -1.226_361_714_290_465_6);
    // Falcon-H1 multiplies the product and its bias: silu(2·1.5)·(-1).
    tiny.config(r#"{"model_type": "falcon_h1", "mlp_multipliers": [2.0, 0.5], "mlp_bias": true}"#);
    tiny::close(tiny.c(), -2.857_722_380_467_3);
    let layer = tiny.open().unwrap().layer(tiny::PREFIX).unwrap();
    assert_eq!(layer.gate_bias.as_deref(), Some(&[1.0; tiny::N][..]));
    assert_eq!(layer.up_bias.as_deref(), Some(&[-3.0; tiny::N][..]));
}

/// Keys that say whether there are biases have to say what the tensors do.
#[test]
fn what_the_configuration_says_of_them() {
    let config = |model: &str, key: &str, value: &str| {
        format!(r#"{{"model_type": "{model}", "hidden_act": "silu", "{key}": {value}}}"#)
    };
    for (model, key) in [
        ("llama", "mlp_bias"),
        ("granite", "mlp_bias"),
        ("llama", "use_mlp_bias"),
        ("llama", "ffn_bias"),
        ("ernie4_5", "use_bias"),
    ] {
        let (with, without) = (biased(tiny::PREFIX), Tiny::new());
        with.config(&config(model, key, "true"));
        with.c().unwrap();
        without.config(&config(model, key, "false"));
        without.c().unwrap();
        with.config(&config(model, key, "false"));
        without.config(&config(model, key, "true"));
        for (tiny, said) in [
            (&with, format!("{key} is false, and the gate projection has a bias")),
            (&without, format!("{key} is true, and the gate projection has no bias")),
        ] {
            let text = tiny.refusal();
            assert!(text.contains(&format!("config.json: {said}")), "{text}");
            assert!(text.contains(&format!("--ignore-key {key}")), "{text}");
            tiny.c_with(tiny::PREFIX, &LayerOptions::new().ignore(key)).unwrap();
        }
        // One of the two.
        let mut half = biased(tiny::PREFIX);
        half.tensors.remove(&format!("{}.up_proj.bias", tiny::PREFIX));
        half.config(&config(model, key, "true"));
        assert!(half.refusal().contains("the up projection has no bias"), "{}", half.refusal());
        // Where nothing is said the tensors say it.
        for silent in ["null", "3", "\"yes\""] {
            for tiny in [&with, &without, &half] {
                tiny.config(&config(model, key, silent));
                tiny.c().unwrap();
            }
        }
    }
    // Inside of the language model, and of other parts.
    let tiny = Tiny::new();
    tiny.config(r#"{"model_type": "x", "text_config": {"model_type": "llama", "mlp_bias": true}}"#);
    assert!(tiny.refusal().contains("mlp_bias is true"));
    for other in [
        r#"{"model_type": "llama", "attention_bias": true, "bias": true, "use_bias": true}"#,
        r#"{"model_type": "llama", "vision_config": {"mlp_bias": true}}"#,
        r#"{"model_type": "llama", "moe_router_bias": true, "use_expert_bias": true, "mlp_norm_bias": true}"#,
    ] {
        tiny.config(other);
        tiny.c().unwrap();
    }
    // The experts of a model are of another class than its dense layers.
    let tiny = Tiny::at("model.layers.0.mlp.experts.0");
    tiny.config(&config("llama", "mlp_bias", "true"));
    tiny.c_with("model.layers.0.mlp.experts.0", &LayerOptions::new()).unwrap();
}
