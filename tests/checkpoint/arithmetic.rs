//! What a configuration says of an MLP's arithmetic is applied or refused, never passed over.

use crate::tiny::{GELU_TANH, PREFIX, SILU, Tiny, close, refused};
use nvfp4_dual_gemm::Glu;
use nvfp4_dual_gemm::checkpoint::{Dtype, LayerOptions};

const fn clamped(limit: f32) -> Glu {
    Glu::ClampedSwiglu { limit, slope: 1.0, offset: 0.0 }
}

/// The gate of a layer by a configuration, or the error.
fn glu_of(config: &str, prefix: &str) -> Result<Option<Glu>, String> {
    let tiny = Tiny::new();
    tiny.config(config);
    let checkpoint = tiny.open().unwrap();
    let dir = tiny.dir.path().display().to_string();
    let gate = checkpoint.glu_of(prefix).map_err(|e| e.to_string().replace(&dir, "DIR"));
    // The layer has the same one.
    if prefix == PREFIX {
        let layer = checkpoint.layer(prefix).map(|layer| layer.glu);
        assert_eq!(layer.is_ok(), gate.is_ok(), "{config}");
        if let (Ok(layer), Ok(gate)) = (layer, &gate) {
            assert_eq!(layer, gate.unwrap_or_default(), "{config}");
        }
    }
    gate
}

#[test]
fn activations_by_name() {
    let (silu, gelu) = (Ok(Some(Glu::Swiglu)), Ok(Some(Glu::GegluTanh)));
    for (config, expected) in [
        (r#"{"hidden_act": "silu"}"#, &silu),
        (r#"{"hidden_act": "swish"}"#, &silu),
        (r#"{"hidden_activation": "gelu_pytorch_tanh"}"#, &gelu),
        (r#"{"hidden_act": "gelu_new"}"#, &gelu),
        (r#"{"activation_function": "silu"}"#, &silu),
        (r#"{"ffn_act": "gelu_pytorch_tanh"}"#, &gelu),
        (r#"{"ffn_config": {"ffn_act_fn": {"name": "silu"}}}"#, &silu),
        (r#"{"hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh"}"#, &gelu),
        (r#"{"hidden_act": "relu", "text_config": {"hidden_act": "silu"}}"#, &silu),
        (r#"{"hidden_act": "relu", "llm_config": {"hidden_act": "silu"}}"#, &silu),
        (r#"{"language_config": {"hidden_act": "gelu_pytorch_tanh"}}"#, &gelu),
        (r#"{"thinker_config": {"text_config": {"hidden_act": "gelu_tanh"}}}"#, &gelu),
        (r#"{"mlp_config": {"x": 1}, "text_config": {"hidden_act": "gelu_tanh"}}"#, &gelu),
        (r#"{"vision_config": {"hidden_act": "gelu"}, "hidden_act": "silu"}"#, &silu),
        // An unknown model that names it.
        (r#"{"model_type": "new", "hidden_act": "silu"}"#, &silu),
        (
            r#"{"model_type": "wrapper", "text_config": {"model_type": "new"}, "hidden_act": "silu"}"#,
            &silu,
        ),
        (r#"{"hidden_act": ["silu", "relu"]}"#, &silu),
        // Nothing is said.
        ("{}", &Ok(None)),
        (r#"{"hidden_act": null}"#, &Ok(None)),
        (r#"{"quantization_config": null}"#, &Ok(None)),
    ] {
        assert_eq!(&glu_of(config, PREFIX), expected, "{config}");
    }
    for (config, word) in [
        (r#"{"hidden_act": "relu2"}"#, "\"relu2\""),
        (r#"{"hidden_act": "gelu"}"#, "\"gelu\""),
        (r#"{"hidden_act": "quick_gelu"}"#, "\"quick_gelu\""),
        (r#"{"mlp_hidden_act": "relu2"}"#, "\"relu2\""),
        (r#"{"activation_function": "relu"}"#, "\"relu\""),
        (r#"{"hidden_act": "silu", "ffn_act": "gelu_new"}"#, "disagree"),
        (r#"{"hidden_act": "silu", "moe": {"hidden_act": "gelu_new"}}"#, "disagree"),
        (r#"{"model_type": "new"}"#, "model_type \"new\""),
        (r#"{"architectures": ["GemmaLike"]}"#, "names no activation"),
        // The wrapper's default is not that of a part which it does not know.
        (
            r#"{"model_type": "gemma3", "text_config": {"model_type": "new"}}"#,
            "names no activation",
        ),
    ] {
        refused(config, &[word, "--glu", "LayerOptions::glu"]);
    }
    close(Tiny::new().c(), SILU); // no configuration at all
}

#[test]
fn activations_by_model_type() {
    for (config, expected) in [
        (r#"{"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}}"#, GELU_TANH),
        (r#"{"model_type": "gemma3", "text_config": {"hidden_size": 32}}"#, GELU_TANH),
        (r#"{"model_type": "gemma3_text"}"#, GELU_TANH),
        (r#"{"model_type": "gemma2"}"#, GELU_TANH),
        (r#"{"model_type": "gemma"}"#, GELU_TANH),
        // "A legacy value that is meant to target the tanh approximation"
        (r#"{"model_type": "gemma", "hidden_act": "gelu"}"#, GELU_TANH),
        (r#"{"model_type": "paligemma", "text_config": {"model_type": "gemma"}}"#, GELU_TANH),
        // Its class reads the other key.
        (r#"{"model_type": "gemma3_text", "hidden_act": "silu"}"#, GELU_TANH),
        (r#"{"model_type": "gemma3_text", "hidden_activation": "silu"}"#, SILU),
        (r#"{"model_type": "gemma4", "text_config": {"model_type": "gemma4_text"}}"#, GELU_TANH),
        (r#"{"model_type": "recurrent_gemma"}"#, GELU_TANH),
        (r#"{"model_type": "vaultgemma"}"#, GELU_TANH),
        (r#"{"model_type": "t5gemma2_text"}"#, GELU_TANH),
        (r#"{"model_type": "llama"}"#, SILU),
        (r#"{"model_type": "llava", "text_config": {"model_type": "mistral"}}"#, SILU),
        (r#"{"model_type": "mllama", "text_config": {"model_type": "mllama_text_model"}}"#, SILU),
        (r#"{"model_type": "qwen3_moe"}"#, SILU),
        (r#"{"model_type": "lfm2"}"#, SILU),
        (r#"{"model_type": "lfm2_vl", "text_config": {"model_type": "lfm2"}}"#, SILU),
    ] {
        let tiny = Tiny::new();
        tiny.config(config);
        println!("{config}");
        close(tiny.c(), expected);
    }
    refused(
        r#"{"model_type": "gemma3_text", "hidden_activation": "gelu"}"#,
        &["\"gelu\"", "--glu"],
    );
}

#[test]
fn other_parts_have_their_own_activation() {
    let config = r#"{"model_type": "m", "vision_config": {"hidden_act": "silu"},
        "audio_config": {"hidden_act": "gelu_pytorch_tanh"}, "text_config": {"hidden_act": "relu"},
        "talker_config": {"text_config": {"hidden_act": "silu"}}}"#;
    for (prefix, expected) in [
        ("visual.blocks.0.mlp", Glu::Swiglu),
        ("model.vision_tower.encoder.layers.0.mlp", Glu::Swiglu),
        ("audio_tower.layers.0.mlp", Glu::GegluTanh),
        ("talker.model.layers.0.mlp", Glu::Swiglu),
    ] {
        assert_eq!(glu_of(config, prefix), Ok(Some(expected)), "{prefix}");
    }
    assert!(glu_of(config, PREFIX).unwrap_err().contains("\"relu\""));
    let text = glu_of(r#"{"hidden_act": "silu"}"#, "visual.blocks.0.mlp").unwrap_err();
    assert!(text.contains("--glu"), "{text}");
}

#[test]
fn clamps_are_taken_where_they_are_understood() {
    // silu(min(1, 0.5))·min(2, 0.5)
    let tiny = Tiny::new();
    tiny.config(r#"{"model_type": "deepseek_v4", "hidden_act": "silu", "swiglu_limit": 0.5}"#);
    close(tiny.c(), 0.5 * 0.5 * 0.622_459_331_201_854_6);

    // (clamp(-90) + 1)·7·sigmoid(1.702·7)
    let tiny = Tiny::with_products(PREFIX, 50.0, -90.0);
    tiny.config(r#"{"model_type": "gpt_oss", "hidden_act": "silu", "swiglu_limit": 7.0}"#);
    close(tiny.c(), -6.0 * 7.0 / (1.0 + (-11.914f64).exp()));

    let gpt = Glu::GPT_OSS;
    for (config, expected) in [
        (r#"{"model_type": "gpt_oss", "hidden_act": "silu"}"#, gpt),
        (r#"{"model_type": "gpt_oss", "swiglu_limit": 7.0}"#, gpt),
        (
            r#"{"model_type": "gpt_oss", "swiglu_limit": 9, "swiglu_alpha": 2.0, "swiglu_beta": 0.5}"#,
            Glu::ClampedSwiglu { limit: 9.0, slope: 2.0, offset: 0.5 },
        ),
        (r#"{"model_type": "openai_privacy_filter"}"#, gpt),
        (
            r#"{"model_type": "minimax_m3_vl", "text_config": {"model_type": "minimax_m3_vl_text",
            "hidden_act": "swigluoai", "swiglu_limit": 7.0, "swiglu_alpha": 1.702}}"#,
            gpt,
        ),
        (
            r#"{"model_type": "deepseek_v4", "hidden_act": "silu", "swiglu_limit": 10.0}"#,
            clamped(10.0),
        ),
        (r#"{"model_type": "deepseek_v4"}"#, clamped(10.0)),
        (r#"{"model_type": "glm5_next", "text_config": {"swiglu_limit": 10.0}}"#, clamped(10.0)),
        (r#"{"model_type": "glm_moe_dsa", "swiglu_limit": 10.0}"#, clamped(10.0)),
        (r#"{"model_type": "deepseek_v3", "hidden_act": "silu", "swiglu_limit": 0}"#, Glu::Swiglu),
        (
            r#"{"model_type": "deepseek_v4", "swiglu_limit": null, "swiglu_limits": [0.0, 3]}"#,
            Glu::Swiglu,
        ),
        (r#"{"model_type": "deepseek_v4", "swiglu_limits": [3, 0]}"#, clamped(3.0)),
        (r#"{"model_type": "deepseek_v4", "swiglu_limit": null}"#, Glu::Swiglu),
        (r#"{"model_type": "llama", "swiglu_limit": null}"#, Glu::Swiglu),
        (r#"{"model_type": "llama", "swiglu_limits": [0, 0.0, null]}"#, Glu::Swiglu),
        (
            r#"{"model_type": "step3p5", "swiglu_limits": null, "swiglu_limits_shared": []}"#,
            Glu::Swiglu,
        ),
    ] {
        assert_eq!(glu_of(config, PREFIX), Ok(Some(expected)), "{config}");
    }
    for (config, word) in [
        (r#"{"hidden_act": "silu", "swiglu_limit": 10.0}"#, "swiglu_limit is 10"),
        (
            r#"{"model_type": "new", "hidden_act": "silu", "swiglu_limit": 10.0}"#,
            "swiglu_limit is 10",
        ),
        (r#"{"hidden_act": "silu", "text_config": {"swiglu_limit": 10.0}}"#, "swiglu_limit is 10"),
        (r#"{"hidden_act": "silu", "swiglu_limits": [10.0]}"#, "swiglu_limits is given"),
        (r#"{"hidden_act": "silu", "swiglu_alpha": 1.702}"#, "swiglu_alpha is given"),
        (r#"{"hidden_act": "silu", "swiglu_clip": 1.702}"#, "swiglu_clip is 1.702"),
        (r#"{"hidden_act": "silu", "ffn_clamp_value": 7}"#, "ffn_clamp_value is 7"),
        (r#"{"hidden_act": "silu", "act_limit": 7}"#, "act_limit is 7"),
        (r#"{"hidden_act": "silu", "mlp_gate_softcap": 7}"#, "mlp_gate_softcap is 7"),
        (r#"{"hidden_act": "silu", "moe": {"swiglu_max_limit": 7}}"#, "moe.swiglu_max_limit is 7"),
        (r#"{"hidden_act": "silu", "moe": {"swiglu_limit": 7}}"#, "moe.swiglu_limit is 7"),
        (
            r#"{"text_config": {"hidden_act": "silu"}, "llm_config": {"swiglu_limit": 7}}"#,
            "llm_config.swiglu_limit is 7",
        ),
        // Without its limit it still has its slope and its offset.
        (r#"{"model_type": "gpt_oss", "swiglu_limit": null}"#, "swiglu_limit is off"),
        (r#"{"model_type": "gpt_oss", "swiglu_limit": 0}"#, "swiglu_limit is off"),
        (r#"{"model_type": "deepseek_v4", "swiglu_limit": -1}"#, "no limit"),
        (r#"{"model_type": "deepseek_v4", "swiglu_limit": "ten"}"#, "no limit"),
        (r#"{"model_type": "deepseek_v4", "swiglu_limit": 1e300}"#, "swiglu_limit"),
        (r#"{"model_type": "deepseek_v4", "swiglu_limit": 9, "swiglu_limits": [3]}"#, "both"),
        (
            r#"{"model_type": "deepseek_v4", "swiglu_limit": 9, "swiglu_alpha": 1.7}"#,
            "swiglu_alpha",
        ),
        (r#"{"model_type": "deepseek_v4", "hidden_act": "gelu_new"}"#, "not silu"),
    ] {
        refused(config, &[word, "--glu", "LayerOptions::glu"]);
        // Which the gate answers.
        let tiny = Tiny::new();
        tiny.config(config);
        close(tiny.c_with(PREFIX, &LayerOptions::new().glu(Glu::Swiglu)), SILU);
    }
}

/// Lists have an entry for each layer, and one for shared experts in Step's models, which clamp after
/// the activation.
#[test]
fn clamps_of_single_layers() {
    let exaone = r#"{"model_type": "exaone_moe", "swiglu_limits": [0.0, 7.0]}"#;
    for (prefix, expected) in [
        ("model.layers.0.mlp", Glu::Swiglu),
        ("model.layers.1.mlp", clamped(7.0)),
        ("model.layers.1.mlp.experts.5", clamped(7.0)),
        ("model.layers.1.mlp.shared_experts", clamped(7.0)),
    ] {
        assert_eq!(glu_of(exaone, prefix), Ok(Some(expected)), "{prefix}");
    }
    for prefix in ["model.layers.2.mlp", "mlp", "mtp.layers.1.mlp"] {
        assert!(glu_of(exaone, prefix).unwrap_err().contains("swiglu_limits"), "{prefix}");
    }

    let step = r#"{"model_type": "step3p5", "swiglu_limits": [0, 7, 0], "swiglu_limits_shared": [0, 0, 16]}"#;
    for prefix in
        ["model.layers.0.mlp", "model.layers.1.share_expert", "model.layers.2.moe.experts.1"]
    {
        assert_eq!(glu_of(step, prefix), Ok(Some(Glu::Swiglu)), "{prefix}");
    }
    for prefix in
        ["model.layers.1.moe.experts.0", "model.layers.2.share_expert", "model.layers.2.mlp"]
    {
        assert!(glu_of(step, prefix).unwrap_err().contains("silu(gate)"), "{prefix}");
    }

    // Experts may lie in a module of any name, and be of any spelling.
    let step = r#"{"model_type": "step3p5", "swiglu_limits": [0, 0.5, 0], "swiglu_limits_shared": [0, 0, 16]}"#;
    for prefix in ["model.layers.1.moe.0", "layers.1.mlp.7", "model.layers.2.moe.shared_expert.0"] {
        assert!(glu_of(step, prefix).unwrap_err().contains("silu(gate)"), "{prefix}");
    }
    for prefix in ["model.layers.2.moe.0", "model.layers.1", "model.layers.0.moe.0"] {
        assert_eq!(glu_of(step, prefix), Ok(Some(Glu::Swiglu)), "{prefix}");
    }
    let bailing = r#"{"model_type": "bailing_hybrid", "expert_swiglu_limit_list": [0.5]}"#;
    for prefix in ["model.layers.0.mlp.experts.0", "model.layers.0.mlp.0", "model.layers.0.moe.0"] {
        assert!(glu_of(bailing, prefix).unwrap_err().contains("silu(gate)"), "{prefix}");
    }
    for (swapped, router) in [(false, true), (true, true), (true, false)] {
        let mut tiny = Tiny::at("model.layers.1.moe.0").renamed(|name| match swapped {
            true => name.replace("0.gate_proj", "gate_proj.0").replace("0.up_proj", "up_proj.0"),
            false => name.to_owned(),
        });
        if router {
            tiny.add("model.layers.1.moe.gate.weight", Dtype::BF16, &[1, 32]);
            tiny.add("model.layers.1.moe.router_bias", Dtype::F32, &[1]);
        }
        close(tiny.c_with("model.layers.1.moe.0", &LayerOptions::new()), SILU);
        tiny.config(step);
        let text = tiny.c_with("model.layers.1.moe.0", &LayerOptions::new()).unwrap_err();
        assert!(text.contains("swiglu_limits is 0.5"), "{text}");
    }

    let routed = r#"{"model_type": "hy_v4", "swiglu_limit": 10.0}"#;
    assert_eq!(glu_of(routed, "model.layers.1.mlp.moe.0"), Ok(Some(clamped(10.0))));
    assert_eq!(glu_of(routed, "model.layers.1.mlp.experts.0"), Ok(Some(clamped(10.0))));
    assert_eq!(glu_of(routed, "model.layers.1.mlp.shared_experts"), Ok(Some(Glu::Swiglu)));
    assert_eq!(glu_of(routed, "model.layers.0.mlp"), Ok(Some(Glu::Swiglu)));

    // What all layers have in common.
    let gate = |config: &str| {
        let tiny = Tiny::new();
        tiny.config(config);
        tiny.open().unwrap().glu().map_err(|e| e.to_string())
    };
    assert!(gate(exaone).unwrap_err().contains("limit for each layer"));
    assert!(gate(routed).unwrap_err().contains("routed experts"));
    assert_eq!(
        gate(r#"{"model_type": "exaone_moe", "swiglu_limits": [0.0]}"#),
        Ok(Some(Glu::Swiglu))
    );
    assert_eq!(gate(r#"{"model_type": "deepseek_v4"}"#), Ok(Some(clamped(10.0))));
    assert_eq!(gate(r#"{"model_type": "llama"}"#), Ok(Some(Glu::Swiglu)));
}

/// Their fused weights alternate gate and up, and here gate comes first.
#[test]
fn fused_rows_of_gpt_oss() {
    let tiny = Tiny::fused(PREFIX);
    close(tiny.c(), SILU / 2.0);
    tiny.config(r#"{"model_type": "gpt_oss", "hidden_act": "silu"}"#);
    let text = tiny.refusal();
    assert!(text.contains("gpt_oss") && text.contains("in turns"), "{text}");
    // A stack by the name that vLLM has for it.
    let mut tiny = Tiny::fused("l.experts").renamed(|name| name.replace("gate_up_proj.", "w13_"));
    for (_, shape, _) in tiny.tensors.values_mut().filter(|(_, shape, _)| shape.len() == 2) {
        shape.insert(0, 1);
    }
    close(tiny.c_with("l.experts.0", &LayerOptions::new()), SILU / 2.0);
    tiny.config(r#"{"model_type": "gpt_oss", "hidden_act": "silu"}"#);
    let text = tiny.c_with("l.experts.0", &LayerOptions::new()).unwrap_err();
    assert!(text.contains("gpt_oss") && text.contains("in turns"), "{text}");
}

#[test]
fn multipliers() {
    // y = up(x)·silu(gate(x)·0.5); down's factor acts on what is made of it.
    let tiny = Tiny::new();
    tiny.config(
        r#"{"model_type": "falcon_h1", "hidden_act": "silu", "mlp_multipliers": [0.5, 0.25]}"#,
    );
    close(tiny.c(), 2.0 * 0.5 * 0.622_459_331_201_854_6);
    let checkpoint = tiny.open().unwrap();
    let layer = checkpoint.layer(PREFIX).unwrap();
    assert_eq!(
        (layer.gate_proj.global_scale(), layer.up_proj.global_scale()),
        (0.5 / 32.0, 2.0 / 32.0)
    );
    assert_eq!(layer.down_multiplier, 0.25);
    // A gate does not answer it; being told does.
    close(tiny.c_with(PREFIX, &LayerOptions::new().glu(Glu::Swiglu)), 0.622_459_331_201_854_6);
    close(tiny.c_with(PREFIX, &LayerOptions::new().ignore("mlp_multipliers")), SILU);

    for config in [
        r#"{"hidden_act": "silu", "mlp_multipliers": [1.0, 1]}"#,
        r#"{"hidden_act": "silu", "mlp_multipliers": null}"#,
        r#"{"hidden_act": "silu", "ffn_multiplier": 1.0}"#,
    ] {
        let tiny = Tiny::new();
        tiny.config(config);
        close(tiny.c(), SILU);
    }
    for config in [
        r#"{"hidden_act": "silu", "model_type": "llama", "mlp_multipliers": [0.5, 1]}"#,
        r#"{"hidden_act": "silu", "mlp_multipliers": [0.0, 1.5]}"#,
        r#"{"hidden_act": "silu", "mlp_multipliers": [-1, 1]}"#,
        r#"{"hidden_act": "silu", "mlp_multipliers": [0.5]}"#,
        r#"{"hidden_act": "silu", "mlp_multipliers": 0.5}"#,
        r#"{"hidden_act": "silu", "mlp_multiplier": 0.5}"#,
        r#"{"hidden_act": "silu", "up_multiplier": 0.5}"#,
        r#"{"hidden_act": "silu", "text_config": {"gate_multiplier": 0.5}}"#,
    ] {
        refused(config, &["multiplier", "--ignore-key", "LayerOptions::ignore"]);
        let tiny = Tiny::new();
        tiny.config(config);
        let mut options = LayerOptions::new().glu(Glu::Swiglu);
        assert!(tiny.c_with(PREFIX, &options).is_err(), "{config}");
        for key in ["mlp_multipliers", "mlp_multiplier", "up_multiplier", "gate_multiplier"] {
            options = options.ignore(key);
        }
        close(tiny.c_with(PREFIX, &options), SILU);
    }
    let config = r#"{"model_type": "falcon_h1", "mlp_multipliers": [1e-300, 1]}"#;
    refused(config, &["multiplier"]);
}

#[test]
fn sparsity_and_transforms() {
    let sparse = r#"{"model_type": "gemma3n_text", "activation_sparsity_pattern": [0.95, 0.0]}"#;
    assert!(glu_of(sparse, "model.layers.0.mlp").unwrap_err().contains("0.95"));
    assert_eq!(glu_of(sparse, "model.layers.1.mlp"), Ok(Some(Glu::GegluTanh)));
    // The default of its class.
    let default = r#"{"model_type": "gemma3n", "text_config": {"model_type": "gemma3n_text"}}"#;
    assert!(glu_of(default, "model.layers.9.mlp").unwrap_err().contains("first ten"));
    assert_eq!(glu_of(default, "model.layers.10.mlp"), Ok(Some(Glu::GegluTanh)));
    for (key, value) in [
        ("activation_sparsity", "0.5"),
        ("mlp_sparsity", "{\"n\": 2, \"m\": 4}"),
        ("transform_config", "{\"config_groups\": {\"R4\": {\"type\": \"hadamard\"}}}"),
        ("online_transform", "true"),
        ("use_hadamard", "true"),
        ("hadamard_dim", "32"),
        ("online_rotation", "\"R4\""),
        ("rotate_down_proj", "1"),
        ("use_clipped_linears", "true"),
    ] {
        let config = |value: &str| format!(r#"{{"hidden_act": "silu", "{key}": {value}}}"#);
        refused(&config(value), &[key, "--ignore-key", "LayerOptions::ignore"]);
        for off in ["null", "false", "0", "{}", "[]", "\"\"", "{\"a\": null}"] {
            let tiny = Tiny::new();
            tiny.config(&config(off));
            close(tiny.c(), SILU);
        }
        let tiny = Tiny::new();
        tiny.config(&config(value));
        assert!(tiny.c_with(PREFIX, &LayerOptions::new().glu(Glu::Swiglu)).is_err());
        close(tiny.c_with(PREFIX, &LayerOptions::new().ignore(key)), SILU);
    }
}

/// Mistral's own configuration.
#[test]
fn params_json() {
    let params = |text: &str| {
        let tiny = Tiny::new();
        tiny.json("params.json", text);
        tiny.c()
    };
    close(
        params(r#"{"dim": 32, "n_layers": 1, "hidden_dim": 16, "ffn_dim_multiplier": 1.3}"#),
        SILU,
    );
    close(params(r#"{"dim": 32, "activation": "gelu_pytorch_tanh"}"#), GELU_TANH);
    assert!(params(r#"{"dim": 32, "swiglu_limit": 7.0}"#).unwrap_err().contains("swiglu_limit"));
    assert!(
        params(r#"{"moe": {"expert_multiplier": 2}}"#).unwrap_err().contains("expert_multiplier")
    );
    // Both files count.
    let tiny = Tiny::new();
    tiny.config(r#"{"model_type": "mistral", "hidden_act": "silu"}"#);
    for params in
        [r#"{"gate_multiplier": 3}"#, r#"{"swiglu_limit": 3}"#, r#"{"activation": "gelu_new"}"#]
    {
        tiny.json("params.json", params);
        assert!(tiny.refusal().contains("params.json"), "{params}");
    }
    tiny.json("params.json", r#"{"dim": 32, "activation": "silu"}"#);
    close(tiny.c(), SILU);
}
