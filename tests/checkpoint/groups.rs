//! The scheme of a layer is that of its group, wherever a configuration says it.

use crate::tiny::{PREFIX, SILU, Tiny, close, weight_only};
use nvfp4_dual_gemm::checkpoint::LayerOptions;

const W4A4: &str = r#""weights": {"num_bits": 4, "type": "float", "group_size": 16},
    "input_activations": {"num_bits": 4, "type": "float", "group_size": 16, "dynamic": "local"}"#;
const W4A16: &str = r#""weights": {"num_bits": 4, "type": "float", "group_size": 16},
    "input_activations": null"#;
const FP8: &str = r#""format": "float-quantized", "weights": {"num_bits": 8, "type": "float"},
    "input_activations": {"num_bits": 8, "type": "float"}"#;

/// A group of a compressed-tensors configuration.
fn group(scheme: &str, targets: &[&str]) -> String {
    format!(r#"{{{scheme}, "targets": {targets:?}}}"#)
}

fn groups(format: &str, groups: &[String], rest: &str) -> String {
    let groups: Vec<String> =
        groups.iter().enumerate().map(|(i, g)| format!(r#""group_{i}": {g}"#)).collect();
    format!(
        r#"{{"quantization_config": {{"quant_method": "compressed-tensors", "format": "{format}",
        "config_groups": {{{}}} {rest}}}}}"#,
        groups.join(", ")
    )
}

fn c(prefix: &str, file: &str, config: &str) -> Result<f64, String> {
    let tiny = Tiny::compressed_tensors(prefix);
    tiny.json(file, config);
    tiny.c_with(prefix, &LayerOptions::new())
}

#[test]
fn the_group_is_that_of_the_targets() {
    for format in ["mixed-precision", "nvfp4-pack-quantized"] {
        for (first, second, is_weight_only) in [
            // The MLP's group by a pattern, before and after the one of the class.
            (group(W4A16, &["re:.*mlp.*"]), group(W4A4, &["Linear"]), true),
            (group(W4A4, &["Linear"]), group(W4A16, &["re:.*mlp.*"]), true),
            (group(W4A4, &["re:.*mlp.*"]), group(W4A16, &["Linear"]), false),
            (group(FP8, &["re:.*self_attn.*"]), group(W4A16, &["re:.*mlp\\..*_proj$"]), true),
            (group(FP8, &["re:.*self_attn.*"]), group(W4A4, &["re:.*mlp\\..*_proj$"]), false),
            (group(W4A4, &["re:.*self_attn.*"]), group(W4A16, &["Linear"]), true),
            (group(W4A16, &["re:.*self_attn.*"]), group(W4A4, &["Linear"]), false),
            // By name, also with another prefix and of the fused module.
            (group(W4A4, &["Linear"]), group(W4A16, &["model.layers.0.mlp.up_proj"]), true),
            (
                group(W4A4, &["Linear"]),
                group(W4A16, &["language_model.model.layers.0.mlp.gate_proj"]),
                true,
            ),
            (group(W4A4, &["Linear"]), group(W4A16, &["model.layers.0.mlp.gate_up_proj"]), true),
            (group(W4A4, &["Linear"]), group(W4A16, &["model.layers.10.mlp.gate_proj"]), false),
            (group(W4A4, &["Linear"]), group(W4A16, &["model.layers.0.mlp.down_proj"]), false),
            // A name counts before a pattern.
            (
                group(W4A16, &["re:.*mlp.*"]),
                group(W4A4, &["model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"]),
                false,
            ),
            // `re.match` is anchored at the start, and not at the end.
            (group(W4A16, &["re:mlp"]), group(W4A4, &["Linear"]), false),
            (group(W4A16, &["re:model.layers.0"]), group(W4A4, &["Linear"]), true),
            (group(W4A16, &["re:.*layers\\.(?!0\\.).*"]), group(W4A4, &["Linear"]), false),
            // No group speaks of it: all have to agree.
            (group(W4A4, &["re:.*q_proj"]), group(W4A16, &["re:.*k_proj"]), true),
            (group(W4A4, &["re:.*q_proj"]), group(W4A4, &["re:.*k_proj"]), false),
            // No targets at all.
            (format!("{{{W4A16}}}"), group(W4A4, &["re:.*q_proj"]), true),
        ] {
            let config = groups(format, &[first, second], "");
            println!("{config}");
            match is_weight_only {
                true => weight_only(c(PREFIX, "config.json", &config)),
                false => close(c(PREFIX, "config.json", &config), SILU),
            }
        }
    }
    // Glu by its name and up by its class: each has its own group.
    for (one, other) in [("gate_proj", "up_proj"), ("up_proj", "gate_proj")] {
        println!("{one} {other}");
        let name = format!("model.layers.0.mlp.{one}");
        let both = [group(W4A4, &[&name]), group(W4A16, &["Linear"])];
        let config = groups("mixed-precision", &both, "");
        weight_only(c(PREFIX, "config.json", &config));
        let fused = Tiny::fused(PREFIX);
        fused.config(&config);
        weight_only(fused.c());
    }
    // Glu alone, and up alone.
    for (gate, up) in [(W4A16, W4A4), (W4A4, W4A16)] {
        let each = [group(gate, &["re:.*gate_proj"]), group(up, &["re:.*up_proj"])];
        weight_only(c(PREFIX, "config.json", &groups("mixed-precision", &each, "")));
    }
}

#[test]
fn prefixes_are_normalized() {
    for (tensors, config) in [
        ("model.language_model.layers.0.mlp", "language_model.model.layers.0.mlp"),
        ("language_model.model.layers.0.mlp", "model.language_model.layers.0.mlp"),
        ("model.language_model.layers.0.mlp", "model.layers.0.mlp"),
        ("model.layers.0.mlp", "language_model.layers.0.mlp"),
        ("language_model.model.layers.0.mlp.experts.3", "model.layers.0.mlp.experts.3"),
    ] {
        for target in [
            format!("{config}.gate_proj"),
            format!("re:{}.*", config.replace('.', "\\.")),
            format!("re:^{config}"),
        ] {
            let both = [group(W4A4, &["Linear"]), group(W4A16, &[&target])];
            weight_only(c(tensors, "config.json", &groups("mixed-precision", &both, "")));
        }
        let layers = format!(
            r#"{{"quantization": {{"quant_algo": "MIXED_PRECISION", "quantized_layers": {{
                "{config}.gate_proj": {{"quant_algo": "W4A16_NVFP4", "group_size": 16}},
                "{config}.up_proj": {{"quant_algo": "W4A16_NVFP4", "group_size": 16}},
                "other": {{"quant_algo": "NVFP4"}}}}}}}}"#
        );
        weight_only(c(tensors, "hf_quant_config.json", &layers));
        let right = layers
            .replace("W4A16_NVFP4", "NVFP4")
            .replace(r#""other": {"quant_algo": "NVFP4"#, r#""other": {"quant_algo": "FP8"#);
        close(c(tensors, "hf_quant_config.json", &right), SILU);
    }
    // Another part of the model is not this one.
    let both = [
        group(W4A4, &["Linear"]),
        group(W4A16, &["model.visual.layers.0.mlp.gate_proj", "re:visual.*"]),
    ];
    close(c("model.layers.0.mlp", "config.json", &groups("mixed-precision", &both, "")), SILU);
}

#[test]
fn what_a_group_may_say() {
    let one = |scheme: &str| {
        c(PREFIX, "config.json", &groups("mixed-precision", &[group(scheme, &["Linear"])], ""))
    };
    close(one(W4A4), SILU);
    close(one(&W4A4.replace("\"local\"", "true")), SILU);
    close(
        one(&format!(r#"{W4A4}, "format": "nvfp4-pack-quantized", "output_activations": null"#)),
        SILU,
    );
    for (from, to, word) in [
        (r#""input_activations""#, r#""x""#, "W4A16_NVFP4"),
        (
            r#""input_activations": {"num_bits": 4"#,
            r#""input_activations": {"num_bits": 8"#,
            "W4A8",
        ),
        (r#""weights": {"num_bits": 4"#, r#""weights": {"num_bits": 8"#, "W8A4"),
        (
            r#""weights": {"num_bits": 4, "type": "float""#,
            r#""weights": {"num_bits": 4, "type": "int""#,
            "INT4",
        ),
        (r#""group_size": 16}"#, r#""group_size": 32}"#, "groups of 32"),
        (r#""group_size": 16, "dynamic""#, r#""group_size": 32, "dynamic""#, "groups of 32"),
        (r#""dynamic": "local"}"#, r#""strategy": "token"}"#, "strategy"),
        (r#""dynamic": "local"}"#, r#""symmetric": false}"#, "asymmetric"),
        (
            r#""dynamic": "local"}"#,
            r#""dynamic": "local"}, "output_activations": {"num_bits": 8}"#,
            "outputs",
        ),
        (
            r#""dynamic": "local"}"#,
            r#""dynamic": "local"}, "format": "pack-quantized""#,
            "pack-quantized",
        ),
    ] {
        let text = one(&W4A4.replacen(from, to, 1)).unwrap_err();
        assert!(text.contains(word), "{text}: {word}");
    }
    // The short form.
    let preset = |name: &str| {
        c(
            PREFIX,
            "config.json",
            &format!(
                r#"{{"quantization_config": {{"format": "nvfp4-pack-quantized",
            "config_groups": {{"{name}": ["Linear"]}}}}}}"#
            ),
        )
    };
    close(preset("NVFP4"), SILU);
    weight_only(preset("NVFP4A16"));
    assert!(preset("FP8_DYNAMIC").is_err());
    let unreadable = group(W4A4, &["Linear", "re:(unclosed"]);
    let text = c(PREFIX, "config.json", &groups("mixed-precision", &[unreadable], "")).unwrap_err();
    assert!(text.contains("re:(unclosed") && text.contains("cannot be read"), "{text}");
    let text = c(PREFIX, "config.json", &groups("mixed-precision", &[], "")).unwrap_err();
    assert!(text.contains("mixed-precision"), "{text}");
}

/// A layer that is packed, and listed among those that are not.
#[test]
fn ignored_modules() {
    let with = |ignore: &str| {
        let rest = format!(r#", "ignore": {ignore}"#);
        c(
            PREFIX,
            "config.json",
            &groups("nvfp4-pack-quantized", &[group(W4A4, &["Linear"])], &rest),
        )
    };
    for ignore in [
        r#"["lm_head"]"#,
        r#"["lm_head", "re:.*lm_head", "re:visual.*", "re:.*mlp.gate$", "re:.*self_attn.*"]"#,
        r#"["model.layers.0.mlp.gate", "model.layers.0.mlp.down_proj", "re:.*mlp\\.gate\\..*"]"#,
        r#"["*.mlp.gate.*", "model.layers.0.mlp.gate*", "model.layers.0.self_attn*"]"#,
        "[]",
        "null",
    ] {
        close(with(ignore), SILU);
    }
    for ignore in [
        r#"["model.layers.0.mlp.gate_proj"]"#,
        r#"["language_model.model.layers.0.mlp.up_proj"]"#,
        r#"["re:.*layers\\.0\\..*"]"#,
        r#"["model.layers.0.*"]"#,
        r#"["model.layers.0*"]"#,
        r#"["*mlp*"]"#,
    ] {
        let text = with(ignore).unwrap_err();
        assert!(text.contains("said not to be quantized"), "{ignore}: {text}");
    }
    assert!(with(r#"["re:["]"#).unwrap_err().contains("cannot be read"));
    let excluded = r#"{"quantization": {"quant_algo": "NVFP4", "exclude_modules": ["*.mlp*"]}}"#;
    assert!(c(PREFIX, "hf_quant_config.json", excluded).is_err());
}

/// The same sentence in all places where it is looked for.
#[test]
fn wherever_it_is_said() {
    let algorithm = |algo: &str| format!(r#""quant_algo": "{algo}", "group_size": 16"#);
    for (file, before, after) in [
        ("hf_quant_config.json", r#"{"quantization": {"#, "}}"),
        ("hf_quant_config.json", "{", "}"),
        ("hf_quant_config.json", r#"{"quantization_config": {"#, "}}"),
        ("config.json", r#"{"quantization_config": {"quant_method": "modelopt", "#, "}}"),
        (
            "config.json",
            r#"{"quantization_config": {"quant_method": "modelopt", "quantization": {"#,
            "}}}",
        ),
        ("config.json", r#"{"quantization_config": {"quantization": {"#, "}}}"),
        (
            "config.json",
            r#"{"quantization_config": {"quant_method": "compressed-tensors", "quantization": {"#,
            "}}}",
        ),
        ("config.json", r#"{"quantization": {"#, "}}"),
        ("config.json", r#"{"compression_config": {"#, "}}"),
        ("config.json", r#"{"text_config": {"quantization_config": {"#, "}}}"),
        ("config.json", r#"{"llm_config": {"quantization_config": {"quantization": {"#, "}}}}"),
        ("config.json", r#"{"thinker_config": {"text_config": {"quantization_config": {"#, "}}}}"),
        ("params.json", r#"{"quantization": {"#, "}}"),
    ] {
        let with = |algo: &str| c(PREFIX, file, &format!("{before}{}{after}", algorithm(algo)));
        println!("{file} {before}");
        close(with("NVFP4"), SILU);
        close(with("nvfp4"), SILU);
        weight_only(with("W4A16_NVFP4"));
        for other in ["W4A8_NVFP4_FP8", "FP8", "MIXED_PRECISION", "NVFP4_SVD", "w4a16_nvfp4"] {
            assert!(with(other).is_err(), "{file} {before} {other}");
        }
    }
    assert!(
        c(PREFIX, "params.json", r#"{"quantization": {"qformat_weight": "fp8_e4m3"}}"#).is_err()
    );
    // ModelOpt's groups in config.json.
    let modelopt = |inputs: &str| {
        c(
            PREFIX,
            "config.json",
            &format!(
                r#"{{"quantization_config": {{"quant_method": "modelopt",
            "quant_algo": "NVFP4", "ignore": ["lm_head"], "config_groups": {{"group_0": {{{inputs}
            "weights": {{"num_bits": 4, "type": "float", "group_size": 16}}, "targets": ["Linear"]}}}}}}}}"#
            ),
        )
    };
    close(
        modelopt(r#""input_activations": {"num_bits": 4, "type": "float", "group_size": 16},"#),
        SILU,
    );
    weight_only(modelopt(""));
    // Its groups of NVFP4_AWQ say 8 bits and 128, whatever the tensors are; the scale is in the norm.
    let awq = r#"{"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4_AWQ",
        "config_groups": {"group_0": {"input_activations": {"num_bits": 8, "group_size": 128},
        "weights": {"num_bits": 4, "group_size": 128}, "targets": ["Linear"]}}}}"#;
    close(c(PREFIX, "config.json", awq), SILU);
}

/// What says nothing hides nothing, and half a statement is none.
#[test]
fn statements_without_content() {
    for empty in ["{}", "null", r#"{"quant_method": null}"#, r#"{"quantization": {}}"#] {
        let config = |algo: &str| {
            format!(
                r#"{{"quantization_config": {empty}, "text_config": {{"quantization_config":
                {{"quant_method": "modelopt", "quant_algo": "{algo}", "group_size": 16}}}}}}"#
            )
        };
        weight_only(c(PREFIX, "config.json", &config("W4A16_NVFP4")));
        close(c(PREFIX, "config.json", &config("NVFP4")), SILU);
    }
    for inputs in ["{}", r#"{"dynamic": "local"}"#, r#"{"num_bits": null}"#, "true"] {
        let scheme = format!(
            r#""weights": {{"num_bits": 4, "type": "float", "group_size": 16}}, "input_activations": {inputs}"#
        );
        let config = groups("nvfp4-pack-quantized", &[group(&scheme, &["Linear"])], "");
        let text = c(PREFIX, "config.json", &config).unwrap_err();
        assert!(text.contains("input_activations"), "{inputs}: {text}");
    }
    // Both projections have to be named, be it by what is around them.
    let layers = |names: &[&str]| {
        let entries: Vec<_> =
            names.iter().map(|n| format!(r#""{n}": {{"quant_algo": "NVFP4"}}"#)).collect();
        let text = format!(
            r#"{{"quantization": {{"quant_algo": "MIXED_PRECISION", "quantized_layers": {{{}}}}}}}"#,
            entries.join(", ")
        );
        c(PREFIX, "hf_quant_config.json", &text)
    };
    let (gate, up) = ("model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj");
    for names in [&[gate, up][..], &["model.layers.0.mlp"], &["model.layers.0.mlp.gate_up_proj"]] {
        close(layers(names), SILU);
    }
    for (names, absent) in [([gate], "mlp.up_proj"), ([up], "mlp.gate_proj")] {
        let text = layers(&names).unwrap_err();
        assert!(text.contains("does not name") && text.contains(absent), "{text}");
    }
}

/// ModelOpt excludes what is below a module, too; compressed-tensors does not.
#[test]
fn modules_around_the_excluded_ones() {
    let modelopt = |module: &str| {
        let text = format!(
            r#"{{"quantization": {{"quant_algo": "NVFP4", "exclude_modules": ["{module}"]}}}}"#
        );
        c(PREFIX, "hf_quant_config.json", &text)
    };
    for module in ["model.layers.0.mlp", "language_model.model.layers.0", "model.layers.0.mlp*"] {
        let text = modelopt(module).unwrap_err();
        assert!(text.contains("said not to be quantized"), "{module}: {text}");
    }
    for module in [
        "model.layers.0.mlp.gate",
        "model.layers.0.ml",
        "model.layers.0.mlp.gate_pro",
        "model.layers.1",
        "mlp",
        "layers.0.mlp.down_proj",
    ] {
        close(modelopt(module), SILU);
    }
    let ignore = r#", "ignore": ["model.layers.0.mlp"]"#;
    let config = groups("nvfp4-pack-quantized", &[group(W4A4, &["Linear"])], ignore);
    close(c(PREFIX, "config.json", &config), SILU);
}

#[test]
fn transforms() {
    let with = |transform: &str| {
        let rest = format!(r#", "transform_config": {transform}"#);
        let tiny = Tiny::compressed_tensors(PREFIX);
        tiny.config(&groups("nvfp4-pack-quantized", &[group(W4A4, &["Linear"])], &rest));
        tiny
    };
    let apply = |location: &str, targets: &str, ignore: &str| {
        with(&format!(
            r#"{{"config_groups": {{"R1": {{"type": "hadamard", "apply": [
            {{"targets": {targets}, "location": "{location}", "inverse": false, "ignore": {ignore}}}]}}}}}}"#
        ))
    };
    for (location, targets, ignore) in [
        ("input", r#"["Linear"]"#, "[]"),
        ("input", r#""re:.*gate_proj$""#, "[]"),
        ("input", r#"["re:.*up_proj"]"#, "[]"),
        ("input", r#"["language_model.model.layers.0.mlp.up_proj"]"#, r#"["lm_head"]"#),
        ("output", r#"["re:.*mlp.*"]"#, "[]"),
        ("weight_output", r#"["re:.*up_proj"]"#, "[]"),
        ("somewhere", r#"["Linear"]"#, "[]"),
        ("weight_input", r#"["Linear"]"#, "[]"), // which nothing undoes
        // The input of the MLP is that of gate and up.
        ("input", r#"["re:.*mlp$"]"#, "[]"),
        ("input", r#"["model.layers.0.mlp"]"#, "[]"),
        ("input", r#"["LlamaMLP"]"#, "[]"),
        ("input", r#"["Qwen3MoeSparseMoeBlock"]"#, "[]"),
        ("input", r#"["NormGatedMLP"]"#, "[]"),
        ("input", r#"["re:.*mlp$"]"#, r#"["re:.*gate_proj$"]"#),
        ("input", r#"["re:("]"#, "[]"),
        ("input", r#"["Linear"]"#, r#"["re:("]"#),
    ] {
        let tiny = apply(location, targets, ignore);
        let text = tiny.refusal();
        assert!(text.contains("transform_config") && text.contains("--ignore-key"), "{text}");
        let options = LayerOptions::new().ignore("transform_config");
        close(tiny.c_with(PREFIX, &options), SILU);
    }
    for (location, targets, ignore) in [
        ("input", r#"["re:.*down_proj$"]"#, "[]"),
        ("input", r#"["re:.*self_attn.*", "re:visual.*"]"#, "[]"),
        ("input", r#"["Linear"]"#, r#"["re:.*mlp.*"]"#),
        ("weight_input", r#"["re:.*down_proj$"]"#, "[]"),
        ("weight_output", r#"["re:.*down_proj$", "re:.*o_proj$"]"#, "[]"),
        ("k_cache", r#"["re:.*"]"#, "[]"),
        ("input", r#"["re:.*mlp$"]"#, r#"["re:.*mlp$"]"#),
        ("output", r#"["re:.*mlp$"]"#, "[]"), // after the down projection
        ("output", r#"["LlamaMLP"]"#, "[]"),
        ("input", r#"["LlamaAttention"]"#, "[]"),
        ("q_attn", r#"["re:.*"]"#, "[]"),
    ] {
        close(apply(location, targets, ignore).c(), SILU);
    }
    // Of an expert, that of the modules which route to it.
    let expert = "model.layers.0.mlp.experts.3";
    for target in ["re:.*mlp$", "re:.*experts$", "re:.*experts\\\\.3$"] {
        let transform = format!(
            r#"{{"config_groups": {{"R1": {{"apply": [{{"targets": ["{target}"], "location": "input"}}]}}}}}}"#
        );
        let rest = format!(r#", "transform_config": {transform}"#);
        let config = groups("nvfp4-pack-quantized", &[group(W4A4, &["Linear"])], &rest);
        let text = c(expert, "config.json", &config).unwrap_err();
        assert!(text.contains("transform_config"), "{target}: {text}");
    }
    // Rotations of the residual stream, all folded into weights.
    let folded = r#"{"config_groups": {"R1": {"type": "hadamard", "apply": [
        {"targets": ["re:.*embed_tokens$", "re:.*o_proj$", "re:.*down_proj$"],
         "location": "weight_output", "inverse": false, "ignore": []},
        {"targets": ["re:.*q_proj$", "re:.*up_proj$", "re:.*gate_proj$", "lm_head"],
         "location": "weight_input", "inverse": true, "ignore": []}]}}}"#;
    close(with(folded).c(), SILU);
    for off in ["null", "{}", r#"{"config_groups": {}}"#, r#"{"config_groups": null}"#] {
        close(with(off).c(), SILU);
    }
    for unknown in
        ["[1]", r#""R1""#, r#"{"config_groups": {"R1": {"type": "hadamard"}}}"#, r#"{"R1": {}}"#]
    {
        assert!(with(unknown).refusal().contains("transform_config"), "{unknown}");
    }
    let nested = r#"{"quantization": {"quant_algo": "NVFP4", "rotation": "hadamard"}}"#;
    assert!(c(PREFIX, "hf_quant_config.json", nested).unwrap_err().contains("rotation"));
}

#[test]
fn sparse_storage() {
    let with = |key: &str, value: &str| {
        let rest = format!(r#", "{key}": {value}"#);
        c(
            PREFIX,
            "config.json",
            &groups("nvfp4-pack-quantized", &[group(W4A4, &["Linear"])], &rest),
        )
    };
    close(with("sparsity_config", "{}"), SILU);
    close(with("sparsity_config", r#"{"format": "dense", "global_sparsity": 0.1}"#), SILU);
    close(with("moe_sparsity_config", r#"{"method": "prune", "num_experts": [128]}"#), SILU);
    let text = with("sparsity_config", r#"{"format": "sparse-24-bitmask"}"#).unwrap_err();
    assert!(text.contains("sparsity_config") && text.contains("--ignore-key"), "{text}");
    assert!(with("online_rotation", "true").unwrap_err().contains("online_rotation"));
}
