//! The down projection: where it is found, and why a layer may be read without it.

use crate::parts::*;
use crate::tiny::{self, Tiny};
use nvfp4_dual_gemm::InputScale;
use nvfp4_dual_gemm::checkpoint::{
    Checkpoint, Convention, Dtype, LayerOptions, MlpLayer, NoDown, Scheme,
};

const E: usize = 3;
/// Rows of the down projection.
const H: usize = K;

/// The down projection number `seed`, \[H, N\], with the scale of its input and a bias.
fn down(module: &str, convention: Convention, seed: usize) -> Vec<Part> {
    let mut all = projection(module, convention, seed);
    (all[0].shape, all[1].shape) = (vec![H, N / 2], vec![H, N / 16]);
    let name = format!("{module}.{}", convention.input_global());
    all.push(floats(&name, &[1], &[convention.stored(global(seed + 1))]));
    all.push(floats(&format!("{module}.bias"), &[H], &[seed as f32; H]));
    all
}

#[track_caller]
fn assert_down(layer: &MlpLayer, seed: usize) {
    assert_eq!(layer.no_down, None);
    let down = layer.down_proj.as_ref().unwrap();
    assert_eq!((down.rows(), down.cols()), (H, N));
    assert_eq!((down.codes(), down.scales()), (&codes(seed)[..], &scales(seed)[..]));
    assert_eq!(down.global_scale(), global(seed));
    assert_eq!(layer.down_input_global, Some(global(seed + 1)));
    assert_eq!(layer.down_bias.as_deref(), Some(&[seed as f32; H][..]));
    let weights = layer.weights().unwrap();
    assert_eq!(weights.down_proj(), Some(down));
    assert_eq!(weights.down_bias(), layer.down_bias.as_deref());
    assert_eq!(weights.down_input_scale().unwrap(), Some(global(seed + 1)));
    assert_eq!(weights.out_features(), H);
}

#[test]
fn of_modules() {
    for convention in CONVENTIONS {
        for names in [["gate_proj", "up_proj", "down_proj"], ["w1", "w3", "w2"]] {
            let name = |e: usize, name: &str, before: bool| match before {
                true => format!("l.experts.{e}.{name}"),
                false => format!("l.experts.{name}.{e}"),
            };
            for before in [true, false] {
                let mut all = Vec::new();
                for e in 0..12 {
                    let [gate, up, last] = names.map(|n| name(e, n, before));
                    all.extend(projection(&gate, convention, 3 * e));
                    all.extend(projection(&up, convention, 3 * e + 1));
                    all.extend(down(&last, convention, 3 * e + 2));
                }
                let checkpoint = open(&all);
                for e in [0, 1, 10, 11] {
                    let layer = checkpoint.mlp(&format!("l.experts.{e}")).unwrap();
                    assert_layer(&layer, [3 * e, 3 * e + 1]);
                    assert_down(&layer, 3 * e + 2);
                }
            }
        }
        // Beside a fused weight, and at the top of the names.
        for prefix in ["l.mlp.", ""] {
            let mut all = projection(&format!("{prefix}gate_up_proj"), convention, 1);
            (all[0].shape, all[0].bytes) = (vec![2 * N, K / 2], [codes(1), codes(2)].concat());
            (all[1].shape, all[1].bytes) = (vec![2 * N, K / 16], [scales(1), scales(2)].concat());
            all.extend(down(&format!("{prefix}down_proj"), convention, 3));
            assert_down(&open(&all).mlp(prefix).unwrap(), 3);
        }
    }
}

#[test]
fn of_stacks() {
    let stack =
        |base: &str, join: &str, convention: Convention, shape: [usize; 2], first: usize| {
            let of = |f: fn(usize) -> Vec<u8>| {
                (first..first + E * shape[0] * shape[1] / (N * K)).flat_map(f).collect()
            };
            let name = |last: &str| format!("{base}{join}{last}");
            let [rows, cols] = shape;
            vec![
                part(&name(convention.codes()), Dtype::U8, &[E, rows, cols / 2], of(codes)),
                part(&name(convention.scales()), Dtype::F8_E4M3, &[E, rows, cols / 16], of(scales)),
            ]
        };
    for convention in CONVENTIONS {
        for join in [".", "_"] {
            for (gate_up, last) in [
                (&["gate_up_proj"][..], "down_proj"),
                (&["w13"], "w2"),
                (&["gate_proj", "up_proj"], "down_proj"),
                (&["w1", "w3"], "w2"),
            ] {
                let mut all = Vec::new();
                let global_name = convention.weight_global();
                for name in gate_up {
                    let base = format!("l.experts.{name}");
                    let rows = 2 * N / gate_up.len();
                    all.extend(stack(&base, join, convention, [rows, K], 1));
                    all.push(floats(&format!("{base}{join}{global_name}"), &[], &[1.0]));
                }
                let base = format!("l.experts.{last}");
                all.extend(stack(&base, join, convention, [H, N], 20));
                let each = |shift: usize| -> Vec<f32> {
                    (0..E).map(|e| convention.stored(global(20 + e + shift))).collect()
                };
                all.push(floats(&format!("{base}{join}{global_name}"), &[E], &each(0)));
                let input = convention.input_global();
                all.push(floats(&format!("{base}{join}{input}"), &[E, 1], &each(1)));
                let biases: Vec<f32> = (0..E).flat_map(|e| [(20 + e) as f32; H]).collect();
                all.push(floats(&format!("{base}{join}bias"), &[E, H], &biases));
                for e in 0..E {
                    assert_down(&open(&all).mlp(&format!("l.experts.{e}")).unwrap(), 20 + e);
                }
            }
        }
    }
}

#[test]
fn in_another_shard() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (layer("l"), down("l.down_proj", Convention::ModelOpt, 3));
    let [a, b] = ["a.safetensors", "b.safetensors"].map(|name| dir.path().join(name));
    write(&a, &first);
    let of = |parts: &[Part], shard: &str| -> Vec<String> {
        parts.iter().map(|p| format!(r#""{}": "{shard}""#, p.name)).collect()
    };
    let map = [of(&first, "a.safetensors"), of(&second, "b.safetensors")].concat().join(", ");
    let index = format!(r#"{{"weight_map": {{{map}}}}}"#);
    std::fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    for (there, word) in
        [(false, "is in the shard b.safetensors, which is missing"), (true, "Git LFS")]
    {
        if there {
            std::fs::write(&b, pointer).unwrap();
        }
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let layer = checkpoint.layer("l").unwrap();
        assert_layer(&layer, [1, 2]);
        assert!(
            matches!(&layer.no_down, Some(NoDown::Missing { reason }) if reason.contains(word))
        );
        assert_eq!(layer.weights().unwrap().down_proj(), None);
        let error = checkpoint.mlp("l").unwrap_err().to_string();
        assert!(
            error.contains("layer l has gate and up projections alone") && error.contains(word),
            "{error}"
        );
    }
    write(&b, &second);
    assert_down(&Checkpoint::open(dir.path()).unwrap().mlp("l").unwrap(), 3);
}

/// The reason that gate and up are read alone; they are, and the whole MLP is refused with that reason.
#[track_caller]
fn without(checkpoint: &Checkpoint, prefix: &str) -> NoDown {
    let layer = checkpoint.layer(prefix).unwrap();
    assert_eq!((&layer.down_proj, &layer.down_bias, layer.down_input_global), (&None, &None, None));
    let reason = layer.no_down.clone().unwrap();
    let error = checkpoint.mlp(prefix).unwrap_err().to_string();
    assert!(error.contains(&format!("layer {prefix} has gate and up")), "{error}");
    assert!(error.ends_with(&reason.to_string()), "{error}");
    let options = LayerOptions::new().gate_up_only();
    let alone = checkpoint.layer_with(prefix, &options).unwrap();
    assert_eq!(alone.weights().unwrap().down_proj(), None);
    // Headers tell the same, but for numbers that are damaged and keys of the arithmetic.
    let outline = checkpoint.outline(prefix).unwrap();
    assert_eq!(outline.out_features.is_none(), outline.no_down.is_some());
    match (&outline.no_down, &reason) {
        (None, NoDown::Damaged { .. } | NoDown::NotUnderstood { .. }) => {}
        (found, _) => assert_eq!(found.as_ref(), Some(&reason)),
    }
    match &reason {
        // What is there and damaged is not passed over in silence.
        NoDown::Damaged { .. } => assert_eq!(layer.weights().unwrap_err().to_string(), error),
        _ => assert_eq!(layer.weights().unwrap(), alone.weights().unwrap()),
    }
    reason
}

#[test]
fn other_formats_are_named() {
    let absent = without(&open(&layer("l")), "l");
    assert_eq!(absent, NoDown::Absent { module: "l.down_proj".to_owned() });
    let float =
        |dtype| part("l.down_proj.weight", dtype, &[H, N], vec![0; H * N * dtype.bitsize() / 8]);
    let with_scale = |dtype, scale: &str| {
        vec![float(dtype), floats(&format!("l.down_proj.{scale}"), &[1], &[1.0])]
    };
    for (parts, scheme) in [
        (vec![float(Dtype::BF16)], "not quantized"),
        (vec![float(Dtype::F16)], "not quantized"),
        (with_scale(Dtype::F8_E4M3, "weight_scale"), "FP8"),
        (with_scale(Dtype::F8_E4M3, "weight_scale_inv"), "FP8 in blocks"),
        (with_scale(Dtype::I8, "weight_scale"), "INT8"),
        (
            [
                down("l.down_proj", Convention::ModelOpt, 3),
                vec![floats("l.down_proj.pre_quant_scale", &[N], &[1.0; N])],
            ]
            .concat_parts(),
            "NVFP4_AWQ",
        ),
        (down("l.down_proj", Convention::CompressedTensors, 3), "of another convention"),
        (
            vec![
                part("l.down_proj.weight", Dtype::U8, &[H, N / 2], codes(1)),
                part("l.down_proj.weight_scale", Dtype::U8, &[H, 1], scales(1)),
            ],
            "",
        ),
    ] {
        let all = [layer("l"), parts].concat_parts();
        match without(&open(&all), "l") {
            NoDown::Format { module, scheme: found, evidence } => {
                assert_eq!(
                    (module.as_str(), found.as_str()),
                    ("l.down_proj", scheme),
                    "{evidence}"
                );
                assert!(!evidence.is_empty());
            }
            NoDown::Damaged { reason } => assert!(scheme.is_empty(), "{scheme}: {reason}"),
            other => panic!("{scheme}: {other:?}"),
        }
    }
    // A stack in floats, one in the other orientation, and down as a module beside stacks.
    let stacks = |downs: Vec<Part>| {
        let of = |f: fn(usize) -> Vec<u8>| (0..2 * E).flat_map(f).collect();
        let base = "l.experts.gate_up_proj";
        let all = vec![
            part(base, Dtype::U8, &[E, 2 * N, K / 2], of(codes)),
            part(&format!("{base}_weight_scale"), Dtype::F8_E4M3, &[E, 2 * N, K / 16], of(scales)),
            floats(&format!("{base}_weight_scale_2"), &[], &[1.0]),
        ];
        without(&open(&[all, downs].concat_parts()), "l.experts.1").to_string()
    };
    let name = "l.experts.down_proj";
    let text = stacks(vec![part(name, Dtype::BF16, &[E, H, N], vec![0; E * H * N * 2])]);
    assert!(text.contains("l.experts.down_proj is not quantized"), "{text}");
    let scale = format!("{name}_weight_scale");
    let text = stacks(vec![
        part(name, Dtype::U8, &[E, 16, 64], vec![0; E * 16 * 64]),
        part(&scale, Dtype::F8_E4M3, &[E, 2, 64], vec![0x38; E * 2 * 64]),
    ]);
    assert!(text.contains("is a transposed stack of experts"), "{text}");
    let text = stacks(down("l.experts.1.down_proj", Convention::ModelOpt, 3));
    assert!(text.contains("there is l.experts.1.down_proj."), "{text}");
    let text = stacks(vec![part(name, Dtype::U8, &[1], vec![0])]);
    assert!(text.contains("there is l.experts.down_proj U8 [1]"), "{text}");
    let text = stacks(vec![]);
    assert_eq!(text, "there is no l.experts.down_proj");
}

#[test]
fn what_is_not_known_beside_it_is_named() {
    let good = || [layer("l"), down("l.down_proj", Convention::ModelOpt, 3)].concat_parts();
    assert_down(&open(&good()).mlp("l").unwrap(), 3);
    for name in [
        "l.down_proj.lora_A.weight",
        "l.down_proj.anything",
        "l.down_proj.weight_packed_2",
        "l.down_proj.output_scale",
        "l.down_proj_bias",
        "l.down_proj_scale",
        "l.w2.weight",
        "l.w2_bias",
        "l.ffn_sub_norm.weight", // between the gate and the down projection
    ] {
        let all = [good(), vec![floats(name, &[1], &[0.5])]].concat_parts();
        let reason = without(&open(&all), "l");
        assert!(matches!(&reason, NoDown::NotUnderstood { .. }), "{reason:?}");
        assert!(reason.to_string().contains(&format!("there is {name} F32 [1]")), "{reason}");
    }
    // Of another expert, or of the MLP beside the experts.
    let (gate, expert) = ("l.mlp.experts.1", "l.mlp.experts.1.down_proj");
    let mut all = [layer(gate), down(expert, Convention::ModelOpt, 3)].concat_parts();
    for name in
        ["l.mlp.experts.2.down_proj.lora", "l.mlp.experts.down_proj.2.lora", "l.mlp.down_proj.lora"]
    {
        all.push(floats(name, &[1], &[0.5]));
    }
    assert_down(&open(&all).mlp(gate).unwrap(), 3);
    all.push(floats("l.mlp.experts.down_proj_bias", &[1], &[0.5]));
    let reason = without(&open(&all), gate).to_string();
    assert!(reason.contains("there is l.mlp.experts.down_proj_bias F32 [1]"), "{reason}");
}

#[test]
fn what_is_damaged_is_named() {
    let name = |last: &str| format!("l.down_proj.{last}");
    let change = |last: &str, shape: Option<Vec<usize>>, edit: &dyn Fn(&mut Part)| {
        let mut all = [layer("l"), down("l.down_proj", Convention::ModelOpt, 3)].concat_parts();
        let part = all.iter_mut().find(|p| p.name == name(last)).unwrap();
        if let Some(shape) = shape {
            part.bytes = vec![0x38; shape.iter().product::<usize>() * part.dtype.bitsize() / 8];
            part.shape = shape;
        }
        edit(part);
        match without(&open(&all), "l") {
            NoDown::Damaged { reason } => reason,
            other => panic!("{other:?}"),
        }
    };
    let float = |part: &mut Part, at: usize, value: f32| {
        part.bytes[4 * at..4 * at + 4].copy_from_slice(&value.to_le_bytes());
    };
    let none: &dyn Fn(&mut Part) = &|_| {};
    for (text, expected) in [
        (
            change("weight_scale", Some(vec![H, 2]), none),
            "expected [32, 1], one scale per 16 elements",
        ),
        (change("weight_scale", Some(vec![1, H, 1]), none), "expected two dimensions"),
        (
            change("weight_scale", None, &|p| p.bytes[7] = 0x7f),
            "scale 0x7f (NaN) at batch 0, row 7, block 0",
        ),
        (change("weight_scale_2", None, &|p| float(p, 0, 0.0)), "weight_scale_2 holds 0e0"),
        (change("weight_scale_2", None, &|p| float(p, 0, f32::NAN)), "weight_scale_2 holds NaN"),
        (
            change("weight_scale_2", Some(vec![H]), none),
            "weight_scale_2 is F32 [32], expected [] or [1]",
        ),
        (change("input_scale", Some(vec![2]), none), "input_scale is F32 [2], expected [] or [1]"),
        (
            change("bias", None, &|p| float(p, 31, f32::INFINITY)),
            "bias holds inf at [31], expected a finite number",
        ),
        (
            change("bias", None, &|p| float(p, 2, f32::NAN)),
            "bias holds NaN at [2], expected a finite number",
        ),
        (
            change("bias", Some(vec![N]), none),
            "bias is F32 [16], expected [32], one for each row of l.down_proj.weight",
        ),
        (
            change("bias", None, &|p| p.dtype = Dtype::I32),
            "bias is I32 [32], expected F16, BF16 or F32 [32], a bias",
        ),
    ] {
        assert!(text.contains("l.down_proj.") && text.contains(expected), "{text}: {expected}");
    }
    // As gate and up are: K = 32 in place of N = 16.
    let all = [layer("l"), projection("l.down_proj", Convention::ModelOpt, 3)].concat_parts();
    let reason = without(&open(&all), "l").to_string();
    let expected = "tensor l.down_proj.weight is U8 [16, 16], expected K = 16, as many columns as gate has rows";
    assert!(reason.ends_with(expected), "{reason}");
    // Without rows, and without one of its tensors.
    let mut all = [layer("l"), down("l.down_proj", Convention::ModelOpt, 3)].concat_parts();
    all.retain(|p| p.name != "l.down_proj.weight_scale_2");
    let reason = without(&open(&all), "l").to_string();
    assert!(reason.contains("no tensor l.down_proj.weight_scale_2"), "{reason}");
}

/// A scale of its input that nothing can be quantized with is an error when it is asked for, and no sooner.
#[test]
fn bad_input_scales() {
    for stored in [0.0, -1.0, f32::INFINITY, f32::NAN] {
        let mut all = [layer("l"), down("l.down_proj", Convention::ModelOpt, 3)].concat_parts();
        for part in all.iter_mut().filter(|p| p.name == "l.down_proj.input_scale") {
            part.bytes = stored.to_le_bytes().to_vec();
        }
        let layer = open(&all).mlp("l").unwrap();
        assert_eq!(layer.down_input_global, None);
        let weights = layer.weights().unwrap();
        let error = layer.down_input_global_scale().unwrap_err().to_string();
        assert!(error.contains(&format!("l.down_proj.input_scale holds {stored:e}")), "{error}");
        assert_eq!(weights.down_input_scale().unwrap_err().to_string(), error);
        let h = [1.0f32; N];
        assert_eq!(
            weights.quantize_down(&h, 1, InputScale::Calibrated).unwrap_err().to_string(),
            error
        );
        weights.quantize_down(&h, 1, InputScale::Dynamic).unwrap();
    }
}

/// [`Tiny`] with a down projection of ones, H = K.
fn tiny() -> Tiny {
    let mut tiny = Tiny::new();
    let module = format!("{}.down_proj", tiny::PREFIX);
    let rows = tiny::K;
    for (last, dtype, shape, bytes) in [
        ("weight", Dtype::U8, vec![rows, tiny::N / 2], vec![0x22; rows * tiny::N / 2]),
        ("weight_scale", Dtype::F8_E4M3, vec![rows, tiny::N / 16], vec![0x38; rows * tiny::N / 16]),
        ("weight_scale_2", Dtype::F32, vec![], 1.0f32.to_le_bytes().to_vec()),
    ] {
        tiny.tensors.insert(format!("{module}.{last}"), (dtype, shape, bytes));
    }
    tiny
}

/// What the configuration says of it, with gate and up read all the same.
#[test]
fn by_configuration() {
    let down = format!("{}.down_proj", tiny::PREFIX);
    let modelopt = |rest: &str| format!(r#"{{"quantization": {{{rest}}}}}"#);
    let groups = |groups: &str, rest: &str| {
        format!(
            r#"{{"quantization_config": {{"quant_method": "compressed-tensors", "format":
            "nvfp4-pack-quantized", "config_groups": {{{groups}}} {rest}}}}}"#
        )
    };
    let numbers = r#"{"num_bits": 4, "type": "float", "group_size": 16}"#;
    let w4a4 = |target: &str| {
        format!(
            r#"{{"targets": ["{target}"], "weights": {numbers}, "input_activations": {numbers}}}"#
        )
    };
    let w4a16 = |target: &str| {
        format!(r#"{{"targets": ["{target}"], "weights": {numbers}, "input_activations": null}}"#)
    };
    let fp8 = |target: &str| {
        format!(
            r#"{{"targets": ["{target}"], "format": "float-quantized", "weights": {{"num_bits": 8}}}}"#
        )
    };
    let two =
        |first: String, second: String| groups(&format!(r#""a": {first}, "b": {second}"#), "");
    let transform = |location: &str, target: &str, more: &str| {
        let rest = format!(
            r#", "transform_config": {{"config_groups": {{"R": {{"type": "hadamard", "apply": [
            {{"targets": ["{target}"], "location": "{location}"}} {more}]}}}}}}"#
        );
        groups(&format!(r#""a": {}"#, w4a4("Linear")), &rest)
    };
    let layers = |of: &[(&str, &str)]| {
        let entries: Vec<String> = of
            .iter()
            .map(|(name, algo)| format!(r#""{}.{name}": {{"quant_algo": "{algo}"}}"#, tiny::PREFIX))
            .collect();
        modelopt(&format!(
            r#""quant_algo": "MIXED_PRECISION", "quantized_layers": {{{}}}"#,
            entries.join(", ")
        ))
    };
    let (g, u, d) = ("gate_proj", "up_proj", "down_proj");
    let (own, config) = ("hf_quant_config.json", "config.json");
    for (file, json, word) in [
        (own, modelopt(r#""quant_algo": "NVFP4""#), ""),
        (own, layers(&[(g, "NVFP4"), (u, "NVFP4"), (d, "NVFP4")]), ""),
        (own, layers(&[(g, "NVFP4"), (u, "NVFP4")]), "does not name layers.0.mlp.down_proj"),
        (own, layers(&[(g, "NVFP4"), (u, "NVFP4"), (d, "FP8")]), "FP8"),
        (own, layers(&[(g, "NVFP4"), (u, "NVFP4"), (d, "W4A16_NVFP4")]), "W4A16_NVFP4 in part"),
        (
            own,
            layers(&[(g, "W4A16_NVFP4"), (u, "W4A16_NVFP4"), (d, "NVFP4")]),
            "W4A16_NVFP4 in part",
        ),
        (
            own,
            modelopt(&format!(r#""quant_algo": "NVFP4", "exclude_modules": ["{down}"]"#)),
            "said not to be quantized",
        ),
        (config, two(w4a4("Linear"), w4a4(&down)), ""),
        (config, two(w4a4("Linear"), w4a16(&down)), "W4A16_NVFP4 in part"),
        (config, two(w4a16("Linear"), w4a4(&down)), "W4A16_NVFP4 in part"),
        (config, two(w4a4("Linear"), fp8("re:.*down_proj")), "float-quantized"),
        (
            config,
            groups(&format!(r#""a": {}"#, w4a4("Linear")), &format!(r#", "ignore": ["{down}"]"#)),
            "said not to be quantized",
        ),
        (config, transform("input", "re:.*down_proj$", ""), "transforms at input"),
        (config, transform("output", "re:.*down_proj$", ""), "transforms at output"),
        (config, transform("weight_input", "re:.*down_proj$", ""), "transforms at weight_input"),
        (config, transform("weight_output", "re:.*down_proj$", ""), "transforms at weight_output"),
        (config, transform("output", "re:.*mlp$", ""), "transforms at output"),
        (config, transform("output", "LlamaMLP", ""), "output of every LlamaMLP"),
        (config, transform("output", "LlamaAttention", ""), ""),
        // A rotation of the residual stream: what down writes, gate and up read.
        (
            config,
            transform(
                "weight_output",
                "re:.*down_proj$",
                r#", {"targets": ["re:.*up_proj$", "re:.*gate_proj$"], "location": "weight_input"}"#,
            ),
            "",
        ),
    ] {
        let tiny = tiny();
        tiny.json(file, &json);
        let checkpoint = tiny.open().unwrap();
        println!("{json}");
        match word {
            "" => assert_eq!(checkpoint.mlp(tiny::PREFIX).unwrap().no_down, None),
            _ => {
                let reason = without(&checkpoint, tiny::PREFIX).to_string();
                assert!(reason.contains(word), "{reason}: {word}");
            }
        }
        if word.starts_with("transforms") {
            assert!(checkpoint.mlp(tiny::PREFIX).unwrap_err().to_string().contains("--ignore-key"));
            let options = LayerOptions::new().ignore("transform_config");
            checkpoint.mlp_with(tiny::PREFIX, &options).unwrap();
        }
    }
    // An adapter, and biases.
    let adapted = tiny();
    adapted.json("adapter_config.json", r#"{"target_modules": ["q_proj", "down_proj"]}"#);
    adapted.json("adapter_model.safetensors", "");
    let reason = without_in(&adapted);
    assert!(reason.contains("adapter_model.safetensors"), "{reason}");
    let mut biased = tiny();
    for name in ["gate_proj", "up_proj"] {
        biased.add(&format!("{}.{name}.bias", tiny::PREFIX), Dtype::F32, &[tiny::N]);
    }
    biased.config(r#"{"model_type": "llama", "mlp_bias": true}"#);
    let reason = without_in(&biased);
    assert!(reason.contains("mlp_bias is true, and the down projection has no bias"), "{reason}");
    biased.add(&format!("{down}.bias"), Dtype::F32, &[tiny::K]);
    biased.open().unwrap().mlp(tiny::PREFIX).unwrap();
}

/// Read from the directory, in which there may be other safetensors files.
fn without_in(tiny: &Tiny) -> String {
    without(&tiny.open().unwrap(), tiny::PREFIX).to_string()
}

/// Falcon-H1's factor is that of the product and of the bias.
#[test]
fn the_multiplier_is_in_the_weights() {
    let mut tiny = tiny();
    let bias = [3.0f32; tiny::K].iter().flat_map(|v| v.to_le_bytes()).collect();
    tiny.tensors
        .insert(format!("{}.down_proj.bias", tiny::PREFIX), (Dtype::F32, vec![tiny::K], bias));
    tiny.config(r#"{"model_type": "falcon_h1", "mlp_multipliers": [1.0, 0.25]}"#);
    let layer = tiny.open().unwrap().mlp(tiny::PREFIX).unwrap();
    assert_eq!((layer.scheme, layer.down_multiplier), (Scheme::W4A4, 0.25));
    assert_eq!(layer.down_proj.as_ref().unwrap().global_scale(), 1.0);
    assert_eq!(layer.down_bias.as_deref(), Some(&[3.0; tiny::K][..]));
    let weights = layer.weights().unwrap();
    assert_eq!(weights.down_proj().unwrap().global_scale(), 0.25);
    assert_eq!(weights.down_bias(), Some(&[0.75; tiny::K][..]));
}
