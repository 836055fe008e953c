//! What may lie beside the tensors of a layer is a closed list.
#![cfg(feature = "checkpoint")]

mod tiny;

use nvfp4_dual_gemm::checkpoint::{Dtype, LayerOptions};
use tiny::{K, N, PREFIX, SILU, Tiny, close};

const GATE: &str = "model.layers.0.mlp.gate_proj";

#[test]
fn biases_are_refused() {
    for (mut tiny, name, rows) in [
        (Tiny::new(), "gate_proj.bias", N),
        (Tiny::new(), "up_proj.bias", N),
        (Tiny::new(), "gate_proj_bias", N),
        (Tiny::new(), "bias", N),
        (Tiny::compressed_tensors(PREFIX), "up_proj.bias", N),
        (Tiny::fused(PREFIX), "gate_up_proj.bias", 2 * N),
        (Tiny::fused(PREFIX), "gate_up_proj_bias", 2 * N),
    ] {
        tiny.add(&format!("{PREFIX}.{name}"), Dtype::BF16, &[rows]);
        let text = tiny.refusal();
        let expected = format!(
            "DIR: layer {PREFIX} is not read: it has a bias, {PREFIX}.{name} BF16 [{rows}], and the \
             epilogue does not add one"
        );
        assert_eq!(text, expected);
    }
    // With Mixtral's names.
    let mut tiny = Tiny::new();
    for (name, tensor) in std::mem::take(&mut tiny.tensors) {
        let name = name.replace("gate_proj", "w1").replace("up_proj", "w3");
        tiny.tensors.insert(name, tensor);
    }
    close(tiny.c(), SILU);
    tiny.add(&format!("{PREFIX}.w3.bias"), Dtype::F16, &[N]);
    assert!(tiny.refusal().contains("w3.bias F16 [16]"));
}

#[test]
fn other_tensors_are_refused_by_name() {
    for name in [
        "gate_proj.anything",
        "gate_proj.lora_A.weight",
        "gate_proj.lora_B.default.weight",
        "gate_proj.linear.weight",
        "gate_proj.input_min",
        "gate_proj.output_max",
        "gate_proj.input_quantizer._amax",
        "gate_proj.weight_quantizer._scale",
        "gate_proj.smooth_scale",
        "gate_proj.channel_scale",
        "gate_proj.output_scale",
        "gate_proj.weight_g_idx",
        "gate_proj.rotation",
        "gate_proj.input_transform.weight",
        "gate_proj.R1_input.weight",
        "gate_proj.weight_packed_2",
        "gate_proj.weight_global_scale",
        "up_proj.hadamard",
        "up_proj.alpha",
        // Directly in the MLP.
        "act_fn.beta",
        "act_fn.alpha_p",
        "gate_up_proj_adapter_list.0.0.weight",
        "gate_up_proj.weight",
        "gate_proj2.weight",
        "gate_proj_lora.weight",
        "suv_gate",
        "norm.weight",
        "input_quantizer._amax",
        "pre_quant_scale",
        "rotation",
        "hadamard_K",
        "sparsity_mask",
        "smooth",
        "scale",
    ] {
        let mut tiny = Tiny::new();
        tiny.add(&format!("{PREFIX}.{name}"), Dtype::F32, &[N]);
        let text = tiny.refusal();
        let expected = format!("there is {PREFIX}.{name} F32 [16], and what it does");
        assert!(text.contains(&expected), "{text}");
    }
    let mut tiny = Tiny::compressed_tensors(PREFIX);
    close(tiny.c(), SILU);
    for name in ["weight", "input_scale", "weight_scale_2"] {
        let mut tiny = Tiny::compressed_tensors(PREFIX);
        tiny.add(&format!("{GATE}.{name}"), Dtype::F32, &[]);
        assert!(tiny.refusal().contains(&format!("{GATE}.{name}")));
    }
    // A zero point is an asymmetric format, by its name.
    tiny.add(&format!("{GATE}.weight_zero_point"), Dtype::I8, &[N, 2]);
    assert!(tiny.refusal().contains("asymmetric"));
}

/// What comes after the product, routers and other experts.
#[test]
fn neighbours_are_let_be() {
    let mut tiny = Tiny::new();
    for name in [
        "down_proj.weight",
        "down_proj.weight_scale",
        "down_proj.bias",
        "down_proj.pre_quant_scale",
        "down_proj.lora_A.weight",
        "down_proj_bias",
        "gate.weight",
        "gate.e_score_correction_bias",
        "router.weight",
        "router.bias",
        "shared_expert.gate_proj.bias",
        "shared_expert_gate.weight",
        "shared_experts.up_proj.weight",
        "experts.0.gate_proj.bias",
        "experts.gate_up_proj_bias",
        "ffn_sub_norm.weight",
        "moe_statics.e_score_correction_bias",
    ] {
        tiny.add(&format!("{PREFIX}.{name}"), Dtype::BF16, &[N]);
    }
    tiny.add("model.layers.0.mlp_other.weight", Dtype::BF16, &[N]);
    tiny.add("model.layers.0.input_layernorm.bias", Dtype::BF16, &[N]);
    tiny.add("model.layers.0.self_attn.k_proj.k_scale", Dtype::F32, &[]);
    tiny.add("model.layers.0.self_attn.q_proj.bias", Dtype::BF16, &[N]);
    close(tiny.c(), SILU);
}

#[test]
fn calibrated_scales_and_other_layers_are_let_be() {
    let mut tiny = Tiny::new();
    for module in ["gate_proj", "up_proj"] {
        let scale = (1.0f32 / 2688.0).to_le_bytes().to_vec();
        tiny.tensors.insert(format!("{PREFIX}.{module}.input_scale"), (Dtype::F32, vec![], scale));
    }
    tiny.add("model.layers.1.mlp.gate_proj.bias", Dtype::F32, &[N]);
    tiny.add("model.layers.10.mlp.gate_proj.bias", Dtype::F32, &[N]);
    close(tiny.c(), SILU);

    // Experts: the neighbour's bias is not ours.
    let mut tiny = Tiny::at("l.mlp.experts.1");
    tiny.add("l.mlp.experts.10.gate_proj.bias", Dtype::F32, &[N]);
    tiny.add("l.mlp.gate.bias", Dtype::F32, &[N]);
    close(tiny.c_with("l.mlp.experts.1", &LayerOptions::new()), SILU);
    tiny.add("l.mlp.experts.1.gate_proj.bias", Dtype::F32, &[N]);
    let text = tiny.c_with("l.mlp.experts.1", &LayerOptions::new()).unwrap_err();
    assert!(text.contains("l.mlp.experts.1.gate_proj.bias"), "{text}");

    // At the root whatever else is in the file.
    let mut tiny = Tiny::new();
    for (name, tensor) in std::mem::take(&mut tiny.tensors) {
        tiny.tensors.insert(name.replace("model.layers.0.mlp.", ""), tensor);
    }
    tiny.add("model.embed_tokens.weight", Dtype::F32, &[N]);
    close(tiny.c_with("", &LayerOptions::new()), SILU);
    tiny.add("gate_proj.bias", Dtype::F32, &[N]);
    assert!(tiny.c_with("", &LayerOptions::new()).unwrap_err().contains("gate_proj.bias"));
}

/// Its scales are swizzled and its nibbles swapped, in tensors of the same names and shapes.
#[test]
fn comfy_ui_is_refused_by_either_mark() {
    for module in ["gate_proj", "up_proj"] {
        let mut tiny = Tiny::new();
        tiny.add(&format!("{PREFIX}.{module}.comfy_quant"), Dtype::U8, &[19]);
        let text = tiny.refusal();
        let expected = format!("there is {PREFIX}.{module}.comfy_quant");
        assert!(text.contains("ComfyUI") && text.contains(&expected), "{text}");
    }
    let mut tiny = Tiny::new();
    let layers =
        format!(r#"{{"format_version": "1.0", "layers": {{"{GATE}": {{"format": "nvfp4"}}}}}}"#);
    tiny.metadata.insert("_quantization_metadata".to_owned(), layers);
    let text = tiny.refusal();
    assert!(text.contains("ComfyUI") && text.contains("_quantization_metadata"), "{text}");
    tiny.metadata = [("format".to_owned(), "pt".to_owned())].into();
    close(tiny.c(), SILU);
}

#[test]
fn sizes_are_as_said() {
    let tiny = Tiny::new();
    let checkpoint = tiny.open().unwrap();
    let layer = checkpoint.layer(PREFIX).unwrap();
    assert_eq!((layer.gate.rows(), layer.gate.cols()), (N, K));
}
