//! What may lie beside the tensors of a layer is a closed list.

use crate::tiny::{K, N, PREFIX, SILU, Tiny, close};
use nvfp4_dual_gemm::checkpoint::{Dtype, LayerOptions};

const GATE: &str = "model.layers.0.mlp.gate_proj";

/// As they are read, bias.rs says; these are none of a projection.
#[test]
fn biases_that_are_not_understood_are_refused() {
    for (mut tiny, name) in [
        (Tiny::new(), "gate_proj_bias"),
        (Tiny::new(), "bias"),
        (Tiny::new(), "act_fn.bias"),
        (Tiny::compressed_tensors(PREFIX), "up_proj_bias"),
        (Tiny::fused(PREFIX), "gate_up_proj_bias"),
    ] {
        tiny.add(&format!("{PREFIX}.{name}"), Dtype::BF16, &[N]);
        let text = tiny.refusal();
        let expected = format!(
            "DIR: layer {PREFIX} is not read: there is {PREFIX}.{name} BF16 [{N}], and what it does to the \
             layer is not known"
        );
        assert_eq!(text, expected);
    }
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
        // Ends that belong to stacks of experts.
        "gate_proj_weight",
        "gate_proj_scale",
        "gate_proj_scales",
        "gate_proj_packed",
        "gate_proj_blocks",
        "gate_proj_weight_scale",
        "gate_proj_weight_scale_2",
        "up_proj_input_scale",
        "up_proj_global_scale",
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
fn neighbors_are_let_be() {
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

    // Experts: the neighbor's bias is not ours.
    let mut tiny = Tiny::at("l.mlp.experts.1");
    tiny.add("l.mlp.experts.10.gate_proj.bias", Dtype::F32, &[N]);
    tiny.add("l.mlp.gate.bias", Dtype::F32, &[N]);
    close(tiny.c_with("l.mlp.experts.1", &LayerOptions::new()), SILU);
    let bias = |tiny: &Tiny| tiny.open().unwrap().layer("l.mlp.experts.1").unwrap().gate_bias;
    assert_eq!(bias(&tiny), None);
    tiny.add("l.mlp.experts.1.gate_proj.bias", Dtype::F32, &[N]);
    assert_eq!(bias(&tiny).as_deref(), Some(&[f32::from_bits(0x0101_0101); N][..]));
    tiny.add("l.mlp.experts.1.gate_proj.beta", Dtype::F32, &[N]);
    let text = tiny.c_with("l.mlp.experts.1", &LayerOptions::new()).unwrap_err();
    assert!(text.contains("l.mlp.experts.1.gate_proj.beta"), "{text}");

    // At the root whatever else is in the file.
    let mut tiny = Tiny::new();
    for (name, tensor) in std::mem::take(&mut tiny.tensors) {
        tiny.tensors.insert(name.replace("model.layers.0.mlp.", ""), tensor);
    }
    tiny.add("model.embed_tokens.weight", Dtype::F32, &[N]);
    close(tiny.c_with("", &LayerOptions::new()), SILU);
    tiny.add("gate_proj_bias", Dtype::F32, &[N]);
    assert!(tiny.c_with("", &LayerOptions::new()).unwrap_err().contains("gate_proj_bias"));
}

const EXPERTS: &str = "model.layers.0.mlp.experts";

/// Expert 0 of `parent` by number before its projections, by number after them, and in a stack.
fn experts(parent: &str) -> [Tiny; 3] {
    let prefix = format!("{parent}.0");
    [
        Tiny::at(&prefix),
        Tiny::at(&prefix).renamed(|name| {
            let (module, last) = name.rsplit_once('.').unwrap();
            let projection = module.rsplit_once('.').unwrap().1;
            format!("{parent}.{projection}.0.{last}")
        }),
        stacked(parent, "."),
    ]
}

/// A stack of one expert; the names of its tensors are those of the projections, `join` and the rest.
fn stacked(parent: &str, join: &str) -> Tiny {
    let mut tiny = Tiny::at(parent).renamed(|name| {
        let (module, last) = name.rsplit_once('.').unwrap();
        format!("{module}{join}{last}")
    });
    for (_, shape, _) in tiny.tensors.values_mut().filter(|(_, shape, _)| shape.len() == 2) {
        shape.insert(0, 1);
    }
    tiny
}

#[track_caller]
fn refused_at(tiny: &Tiny, prefix: &str, name: &str) {
    match tiny.c_with(prefix, &LayerOptions::new()) {
        Ok(c) => panic!("was read beside {name}, and C is {c}"),
        Err(text) => assert!(text.contains(name), "{text}: {name}"),
    }
}

#[test]
fn what_lies_beside_experts_counts_for_each() {
    let prefix = format!("{EXPERTS}.0");
    for name in [
        "experts.gate_up_proj_bias",
        "experts.gate_up_proj.bias",
        "experts.w13_bias",
        "experts.up_proj_bias",
        "experts.gate_proj_bias",
        "experts.gate_proj.bias",
        "experts.gate_proj_lora.weight",
        "experts.gate_proj_scales",
        "experts.gate_proj_blocks",
        "experts.bias",
        "experts.expert_bias",
        "experts.pre_quant_scale",
        "experts.gate_up_proj.pre_quant_scale",
        "experts.input_quantizer._pre_quant_scale",
        "experts.act_fn.beta",
        "experts.norm.weight",
        "pre_quant_scale",
        "bias",
        "act_fn.beta",
        "norm.weight",
        "gate_proj_bias",
        "gate_up_proj.bias",
    ] {
        let name = format!("{PREFIX}.{name}");
        for mut tiny in experts(EXPERTS) {
            close(tiny.c_with(&prefix, &LayerOptions::new()), SILU);
            tiny.add(&name, Dtype::BF16, &[2 * N]);
            refused_at(&tiny, &prefix, &name);
        }
    }
    // Routers, other experts, and the decoder layer around them.
    for mut tiny in experts(EXPERTS) {
        for name in [
            "mlp.experts.1.gate_proj.bias",
            "mlp.experts.gate_proj.1.bias",
            "mlp.experts.down_proj",
            "mlp.experts.down_proj_bias",
            "mlp.experts.w2_weight_scale",
            "mlp.experts.e_score_correction_bias",
            "mlp.experts.router.weight",
            "mlp.gate.weight",
            "mlp.gate.e_score_correction_bias",
            "mlp.router_bias",
            "mlp.expert_bias",
            "mlp.e_score_correction_bias",
            "mlp.shared_expert.gate_proj.bias",
            "mlp.shared_experts.gate_up_proj.bias",
            "mlp.shared_expert_gate.weight",
            "mlp.gate_proj.weight",
            "mlp.gate_proj.bias",
            "mlp.down_proj.weight",
            "input_layernorm.weight",
            "self_attn.q_proj.bias",
        ] {
            tiny.add(&format!("model.layers.0.{name}"), Dtype::BF16, &[N]);
        }
        close(tiny.c_with(&prefix, &LayerOptions::new()), SILU);
    }
    // Experts directly in a decoder layer, and a layer that only has a number.
    for parent in ["model.layers.0.experts", "l.experts"] {
        for mut tiny in experts(parent) {
            let layer = parent.rsplit_once('.').unwrap().0;
            tiny.add(&format!("{layer}.self_attn.q_proj.bias"), Dtype::BF16, &[N]);
            tiny.add(&format!("{layer}.post_attention_layernorm.weight"), Dtype::BF16, &[N]);
            close(tiny.c_with(&format!("{parent}.0"), &LayerOptions::new()), SILU);
        }
    }
    let mut tiny = Tiny::at("model.layers.3");
    tiny.add("model.layers.norm.weight", Dtype::BF16, &[N]);
    close(tiny.c_with("model.layers.3", &LayerOptions::new()), SILU);
}

/// A stack allows the names of its own spelling, and no other.
#[test]
fn ends_of_other_spellings_are_refused() {
    for (join, other) in [(".", "_weight_scale"), ("_", ".weight_scale"), ("_", "_scale")] {
        let mut tiny = stacked(EXPERTS, join);
        let prefix = format!("{EXPERTS}.0");
        close(tiny.c_with(&prefix, &LayerOptions::new()), SILU);
        let name = format!("{EXPERTS}.gate_proj{other}");
        tiny.add(&name, Dtype::F32, &[1]);
        refused_at(&tiny, &prefix, &name);
    }
}

/// Step-3.x has its experts beside their router.
#[test]
fn a_router_beside_its_experts() {
    for mut tiny in experts("model.layers.0.moe") {
        for name in [
            "moe.gate.weight",
            "moe.router_bias",
            "moe.e_score_correction_bias",
            "moe.shared_expert.gate_proj.bias",
            "moe.down_proj.weight",
            "share_expert.gate_proj.weight",
        ] {
            tiny.add(&format!("model.layers.0.{name}"), Dtype::BF16, &[1, N]);
        }
        let prefix = "model.layers.0.moe.0";
        assert!(tiny.open().unwrap().layers().iter().any(|listed| listed == prefix));
        close(tiny.c_with(prefix, &LayerOptions::new()), SILU);
        tiny.add("model.layers.0.moe.gate_proj_bias", Dtype::BF16, &[N]);
        refused_at(&tiny, prefix, "moe.gate_proj_bias");
    }
}

/// What an index places into a shard that is not there lies beside the layer all the same.
#[test]
fn tensors_of_missing_shards_count() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    let check = |tiny: &Tiny, prefix: &str, name: &str, counts: bool| {
        let first = tiny.tensors.keys().next().unwrap();
        let name = format!("{PREFIX}.{name}");
        let map = format!(r#""{first}": "model.safetensors", "{name}": "gone.safetensors""#);
        tiny.json("model.safetensors.index.json", &format!(r#"{{"weight_map": {{{map}}}}}"#));
        for (lfs, error) in [(false, name.as_str()), (true, "gone.safetensors: is a Git LFS")] {
            let gone = tiny.dir.path().join("gone.safetensors");
            if lfs {
                std::fs::write(&gone, pointer).unwrap();
            } else if gone.exists() {
                std::fs::remove_file(&gone).unwrap();
            }
            match counts {
                true => refused_at(tiny, prefix, error),
                false => close(tiny.c_with(prefix, &LayerOptions::new()), SILU),
            }
        }
    };
    for (name, counts) in [
        ("gate_proj_bias", true),
        ("bias", true),
        ("act_fn.beta", true),
        ("pre_quant_scale", true),
        ("up_proj.input_scale", true),
        ("gate_up_proj.bias", true),
        ("down_proj.weight", false),
        ("down_proj.bias", false),
        ("gate.weight", false),
        ("shared_expert.gate_proj.bias", false),
    ] {
        check(&Tiny::new(), PREFIX, name, counts);
    }
    let fused = Tiny::fused(PREFIX);
    fused.json(
        "model.safetensors.index.json",
        &format!(
            r#"{{"weight_map": {{"{PREFIX}.gate_up_proj.weight": "model.safetensors",
            "{PREFIX}.gate_up_proj_bias": "gone.safetensors"}}}}"#
        ),
    );
    refused_at(&fused, PREFIX, "gate_up_proj_bias");
    for (name, counts) in [
        ("experts.gate_up_proj_bias", true),
        ("experts.act_fn.beta", true),
        ("experts.bias", true),
        ("pre_quant_scale", true),
        ("experts.down_proj", false),
        ("experts.e_score_correction_bias", false),
        ("experts.1.gate_proj.bias", false),
        ("gate.weight", false),
        ("shared_experts.up_proj.weight", false),
    ] {
        for tiny in experts(EXPERTS) {
            check(&tiny, &format!("{EXPERTS}.0"), name, counts);
        }
    }
    // The scale of a stack's input, which it could do without.
    let stack = stacked(EXPERTS, "_");
    check(&stack, &format!("{EXPERTS}.0"), "experts.gate_proj_input_scale", true);
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
    assert_eq!((layer.gate_proj.rows(), layer.gate_proj.cols()), (N, K));
}
