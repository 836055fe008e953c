//! Keys of a configuration that are not known by name: those that may change an MLP are seen, and the
//! others are let be.

use crate::tiny::{GELU_TANH, PREFIX, SILU, Tiny, close, refused};
use nvfp4_dual_gemm::Glu;
use nvfp4_dual_gemm::checkpoint::LayerOptions;

/// The gate of a layer by a configuration, or the error.
fn glu_of(config: &str, prefix: &str) -> Result<Option<Glu>, String> {
    let tiny = Tiny::new();
    tiny.config(config);
    tiny.open().unwrap().glu_of(prefix).map_err(|e| e.to_string())
}

/// Keys by which another function is computed, under names that no class of `transformers` reads.
#[test]
fn other_spellings_are_seen() {
    for key in [
        r#""glu_linear_offset": 1.0"#,
        r#""gate_activation": "gelu_new""#,
        r#""expert_activation_function": "gelu""#,
        r#""moe_activation_function": "relu2""#,
        r#""mlp_act_type": "gelu_tanh""#,
        r#""mlp_act_fn": "gelu_tanh""#,
        r#""dense_act_fn": "gelu_new""#,
        r#""experts_act": "gelu_new""#,
        r#""hidden_activations": ["relu", "silu"]"#,
        r#""glu_type": "geglu_tanh""#,
        r#""glu_type": "reglu""#,
        r#""glu_activation": "relu""#,
        r#""ffn_clip": 7"#,
        r#""mlp_clip": [-7, 7]"#,
        r#""clip_value": 7"#,
        r#""use_ffn_clip": true"#,
        r#""silu_limit": 7"#,
        r#""expert_limit": 7"#,
        r#""moe_limits": [0, 7.0]"#,
        r#""gate_offset": 1"#,
        r#""silu_alpha": 1.7"#,
        r#""ffn_cfg": {"hidden_act": "gelu_new"}"#,
        r#""model_cfg": {"blocks": {"mlp_act": "gelu_new"}}"#,
        r#""block_configs": [{"ffn": {"hidden_act": "gelu_new"}}, {"ffn": {"hidden_act": "silu"}}]"#,
    ] {
        let config = format!(r#"{{"model_type": "llama", "hidden_act": "silu", {key}}}"#);
        refused(&config, &["is not understood", "--glu", "LayerOptions::ignore"]);
        let tiny = Tiny::new();
        tiny.config(&config);
        close(tiny.c_with(PREFIX, &LayerOptions::new().glu(Glu::Swiglu)), SILU);
    }
    for (key, name) in [
        (r#""mlp_scale": 0.5"#, "mlp_scale"),
        (r#""mlp_output_scale": 0.5"#, "mlp_output_scale"),
        (r#""ffn_scaling": 2"#, "ffn_scaling"),
        (r#""use_gated_mlp": false"#, "use_gated_mlp"),
        (r#""gated_mlp": false"#, "gated_mlp"),
        (r#""use_glu": false"#, "use_glu"),
        (r#""is_gated_act": false"#, "is_gated_act"),
        (r#""block_configs": [{"ffn": {"gated": false}}]"#, "gated"),
        (r#""quarot": true"#, "quarot"),
        (r#""spinquant": {"r1": true}"#, "spinquant"),
        (r#""spinquant_config": {"r1": true}"#, "spinquant_config"),
    ] {
        let config = format!(r#"{{"model_type": "llama", "hidden_act": "silu", {key}}}"#);
        refused(&config, &[name, "--ignore-key", "LayerOptions::ignore"]);
        let tiny = Tiny::new();
        tiny.config(&config);
        assert!(tiny.c_with(PREFIX, &LayerOptions::new().glu(Glu::Swiglu)).is_err());
        close(tiny.c_with(PREFIX, &LayerOptions::new().ignore(name)), SILU);
    }
    // Off, or the same function once more.
    for (config, expected) in [
        (r#""hidden_act": "silu", "gate_activation": "silu", "glu_type": "swiglu""#, SILU),
        (r#""hidden_act": "silu", "moe_activation_function": "swish""#, SILU),
        (r#""hidden_act": "gelu_new", "mlp_act_type": "gelu_tanh""#, GELU_TANH),
        (r#""hidden_act": "silu", "mlp_act_fn": null, "ffn_clip": null, "glu_limit": 0"#, SILU),
        (r#""hidden_act": "silu", "mlp_scale": 1.0, "glu_linear_offset": 0.0"#, SILU),
        (r#""hidden_act": "silu", "use_gated_mlp": true, "use_glu": true, "gated": true"#, SILU),
        (r#""hidden_act": "silu", "quarot": false, "spinquant": null"#, SILU),
        (
            r#""hidden_act": "silu", "block_configs": [{"ffn": {"hidden_act": "silu", "gated": true}},
            {"ffn": {"hidden_act": "relu"}}]"#,
            SILU,
        ),
        (r#""hidden_act": "silu", "qformer": {"hidden_act": "gelu"}"#, SILU),
        (r#""hidden_act": "silu", "part": {"model_type": "other", "hidden_act": "gelu"}"#, SILU),
    ] {
        let config = format!(r#"{{"model_type": "llama", {config}}}"#);
        println!("{config}");
        let tiny = Tiny::new();
        tiny.config(&config);
        close(tiny.c(), expected);
    }
    // Its limits are said elsewhere.
    let config = r#"{"model_type": "deepseek_v4", "swiglu_limit": 10.0, "expert_act": "silu"}"#;
    assert_eq!(
        glu_of(config, PREFIX),
        Ok(Some(Glu::ClampedSwiglu { limit: 10.0, slope: 1.0, offset: 0.0 }))
    );
    // Each layer has its own entry.
    let config = r#"{"model_type": "llama", "hidden_act": "silu", "block_configs": [
        {"ffn": {"hidden_act": "silu"}}, {"ffn": {"hidden_act": "gelu_new"}}]}"#;
    assert_eq!(glu_of(config, "model.layers.0.mlp"), Ok(Some(Glu::Swiglu)));
    let text = glu_of(config, "model.layers.1.mlp").unwrap_err();
    assert!(text.contains("block_configs.ffn.hidden_act is \"gelu_new\""), "{text}");
}

/// Keys of real configurations that have nothing to do with gate and up.
#[test]
fn inert_keys_are_let_be() {
    let tiny = Tiny::new();
    tiny.config(
        r#"{"model_type": "granite", "hidden_act": "silu", "transformers_version": "5.24.0",
        "rope_theta": 1e4, "rope_scaling": {"rope_type": "yarn", "attention_factor": 1.2, "clamp": 3},
        "embedding_multiplier": 12.0, "attention_multiplier": 0.0156, "residual_multiplier": 0.22,
        "logits_scaling": 8.0, "routed_scaling_factor": 2.5, "initializer_range": 0.02,
        "initializer_factor": 3, "num_experts": 64, "num_local_experts": 8, "decoder_sparse_step": 1,
        "sparse_attention": true, "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0,
        "key_multiplier": 0.5, "ssm_multipliers": [0.1, 0.2], "ssm_in_multiplier": 1.2,
        "ssm_out_multiplier": 0.3, "attention_in_multiplier": 0.4, "attention_out_multiplier": 0.5,
        "lm_head_multiplier": 0.04, "output_multiplier": 0.19, "logits_mup_width_multiplier": 24.0,
        "depth_multiplier": 2, "ffn_dim_multiplier": 1.5, "time_step_limit": [0.0, 1.0],
        "clip_qkv": 8.0, "attention_clamp": 3, "num_patch_transformer_layers": 2,
        "transformer_layers_config": [], "bypass_transformer": true, "partial_rotary_factor": 0.5,
        "use_swiglu_ffn": true, "mlp_bias": false, "router_aux_loss_coef": 0.1, "clamp_len": 4,
        "aux_loss_alpha": 0.001, "moe_router_scaling_factor": 3.0, "q_lora_rank": 1536,
        "activation_dropout": 0.1, "activation_checkpointing": true, "activation_dtype": "bf16",
        "recompute_activation": "full", "classifier_activation": "gelu", "pooler_act": "tanh",
        "projector_hidden_act": "gelu", "summary_activation": "tanh", "encoder_hidden_act": "gelu",
        "conv_activation": "swish", "mamba_hidden_act": "relu", "speech_encoder_hidden_act": "swish",
        "vision_feature_activation": "gelu", "feat_extract_activation": "gelu", "adapter_act": "relu",
        "moe_router_activation_func": "sigmoid", "router_act": "relu", "moe_device_limit": 3,
        "gradient_clipping": 1.0, "altup_coef_clip": 120.0, "qk_l2_clip_threshold": 22.6,
        "rel_l2_clip_threshold": 8.0, "frames_per_clip": 64, "attn_gate_scale": 2, "lora_alpha": 16,
        "expert_layer_offset": 1, "expert_layer_period": 2, "mlp_alpha_factor": 3.5,
        "mlp_beta_factor": 1, "layernorm_mlp_alpha": 3.55, "layernorm_mlp_beta": 1.5,
        "bias_activation_fusion": true, "mlp_init_scale": 0.5, "expert_weights_scale": 2.5,
        "task_specific_params": {"t": {"transform": true}}, "id2label": {"0": "rotation"},
        "label2id": {"clamp": 1}, "auto_map": {"AutoModel": "m.Transform"}, "image_transform": "crop",
        "embd_layer": {"use_hd_transform": true, "hd_transform_order": "sub_glb"},
        "vision_config": {"hidden_act": "gelu", "use_clipped_linears": true, "rotate": true},
        "audio_config": {"use_clipped_linears": true, "gradient_clipping": 1e10},
        "block_configs": [{"ffn": {"no_op": false, "sparsify": null, "intermediate_size": 16}}]}"#,
    );
    close(tiny.c(), SILU);
}
