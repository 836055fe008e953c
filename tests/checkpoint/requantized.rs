//! Statements of ModelOpt beside what is left of the checkpoint that was quantized anew.

use crate::tiny::{PREFIX, SILU, Tiny, close, weight_only};
use nvfp4_dual_gemm::checkpoint::{Dtype, LayerOptions};

/// DeepSeek-V4-NVFP4: the experts are ModelOpt's, and all else keeps the method of the source.
#[test]
fn algorithms_of_single_layers_beside_another_method() {
    let config = |rest: &str| {
        format!(
            r#"{{"quantization_config": {{"quant_method": "fp8", "weight_block_size": [128, 128],
            "activation_scheme": "dynamic", {rest},
            "ignore": ["mtp.*", "*.attn.*", "*.ffn.shared_experts.*"]}}}}"#
        )
    };
    let layers = |of: &str| {
        format!(
            r#""quant_algo": "MIXED_PRECISION", "quantized_layers": {{"layers.0.ffn.experts":
            {{"quant_algo": "{of}", "group_size": 16}}}}"#
        )
    };
    let experts =
        |of: &str| format!(r#""quant_algo": "MIXED_PRECISION", "moe_quant_algo": "{of}""#);
    let both = format!(r#"{}, "moe_quant_algo": "NVFP4""#, layers("NVFP4"));
    let (first, second) = ("layers.0.ffn.experts.0", "layers.1.ffn.experts.7");
    for (rest, prefix, word) in [
        (both.clone(), first, ""),
        (both.clone(), second, ""),
        (layers("NVFP4"), first, ""),
        (layers("nvfp4"), first, ""),
        (experts("NVFP4"), first, ""),
        (r#""moe_quant_algo": "NVFP4""#.to_owned(), first, ""),
        (layers("NVFP4"), second, "quant_method \"fp8\""),
        (layers("W4A16_NVFP4"), first, "W4A16_NVFP4"),
        (layers("FP8"), first, "FP8"),
        (experts("W4A16_NVFP4"), first, "moe_quant_algo \"W4A16_NVFP4\""),
        (experts("NVFP4"), "layers.0.ffn.shared_experts", "quant_method \"fp8\""),
        (experts("NVFP4"), "layers.0.ffn", "quant_method \"fp8\""),
        (experts("NVFP4"), "mtp.0.ffn.experts.0", "said not to be quantized"),
    ] {
        let result = |tiny: Tiny| {
            tiny.config(&config(&rest));
            tiny.c_with(prefix, &LayerOptions::new())
        };
        println!("{rest} {prefix}");
        match word {
            "" => close(result(Tiny::at(prefix)), SILU),
            _ => {
                let text = result(Tiny::at(prefix)).unwrap_err();
                assert!(text.contains(word), "{text}");
            }
        }
    }
    // Names of Mixtral and DeepSeek; and tensors that are FP8 whatever is said.
    let mut tiny = Tiny::at(first);
    let all = std::mem::take(&mut tiny.tensors).into_iter();
    let renamed = |name: String| name.replace("gate_proj", "w1").replace("up_proj", "w3");
    tiny.tensors = all.map(|(name, tensor)| (renamed(name), tensor)).collect();
    tiny.config(&config(&both));
    close(tiny.c_with(first, &LayerOptions::new()), SILU);
    tiny.add(&format!("{first}.w1.weight"), Dtype::F8_E4M3, &[16, 32]);
    assert!(tiny.c_with(first, &LayerOptions::new()).unwrap_err().contains("FP8"));
    // ModelOpt's other way around, in its own file.
    let moe = |all: &str, of: &str, prefix: &str| {
        let text = format!(
            r#"{{"quantization": {{"quant_algo": "{all}", "moe_quant_algo": "{of}", "group_size": 16}}}}"#
        );
        let tiny = Tiny::at(prefix);
        tiny.json("hf_quant_config.json", &text);
        tiny.c_with(prefix, &LayerOptions::new())
    };
    close(moe("FP8", "NVFP4", first), SILU);
    close(moe("NVFP4", "FP8", PREFIX), SILU);
    weight_only(moe("NVFP4", "W4A16_NVFP4", first));
    assert!(moe("FP8", "NVFP4", PREFIX).is_err());
}

/// DeepSeek-V3-0324-FP4: `config.json` still has the method of the source.
#[test]
fn a_stale_method_of_the_source() {
    let block = r#"{"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
        "weight_block_size": [128, 128]}"#;
    let with = |config: &str, own: &str| {
        let tiny = Tiny::new();
        tiny.config(&format!(r#"{{"hidden_act": "silu", "quantization_config": {config}}}"#));
        tiny.json("hf_quant_config.json", own);
        tiny.c()
    };
    let own = |rest: &str| {
        format!(r#"{{"producer": {{"name": "modelopt"}}, "quantization": {{{rest}}}}}"#)
    };
    let nvfp4 = own(r#""quant_algo": "NVFP4", "group_size": 16, "exclude_modules": ["lm_head"]"#);
    let layers = own(r#""quant_algo": "MIXED_PRECISION", "quantized_layers": {
        "model.layers.0.mlp.gate_proj": {"quant_algo": "NVFP4"},
        "model.layers.0.mlp.up_proj": {"quant_algo": "NVFP4"}}"#);
    close(with(block, &nvfp4), SILU);
    close(with(block, &layers), SILU);
    for method in ["fp8", "mxfp4", "gptq", "awq", "bitsandbytes"] {
        close(with(&format!(r#"{{"quant_method": "{method}"}}"#), &nvfp4), SILU);
    }
    for (config, own, word) in [
        // Which says nothing of the layer, or no.
        (block, own(r#""kv_cache_quant_algo": "FP8""#), "quant_method \"fp8\""),
        (block, own(r#""quant_algo": "FP8""#), "FP8"),
        (block, own(r#""quant_algo": "W4A16_NVFP4""#), "W4A16_NVFP4"),
        (
            block,
            own(r#""quant_algo": "NVFP4", "exclude_modules": ["model.layers.0.mlp*"]"#),
            "said not to be quantized",
        ),
        // These may well store such tensors.
        (r#"{"quant_method": "modelopt", "quant_algo": "W4A16_NVFP4"}"#, nvfp4.clone(), "W4A16"),
        (r#"{"quant_method": "new"}"#, nvfp4.clone(), "quant_method \"new\""),
        (r#"{"quant_method": "fp8", "quant_algo": "FP8"}"#, nvfp4.clone(), "FP8"),
    ] {
        let text = with(config, &own).unwrap_err();
        assert!(text.contains(word), "{text}: {word}");
    }
    let tiny = Tiny::new();
    tiny.config(&format!(r#"{{"quantization_config": {block}}}"#));
    assert!(tiny.refusal().contains("quant_method \"fp8\""));
}

/// Kimi-K2.5-NVFP4: the part that was quantized to INT4 before keeps its old configuration.
#[test]
fn a_stale_nested_configuration() {
    let tiny = Tiny::at("language_model.model.layers.1.mlp.experts.0");
    let stale = r#"{"model_type": "kimi_k25", "text_config": {"model_type": "kimi_k2",
        "hidden_act": "silu", "quantization_config": {"quant_method": "compressed-tensors",
        "format": "pack-quantized", "config_groups": {"group_0": {"input_activations": null,
        "weights": {"num_bits": 4, "type": "int", "group_size": 32}, "targets": ["Linear"]}}}}}"#;
    let run = || tiny.c_with("language_model.model.layers.1.mlp.experts.0", &LayerOptions::new());
    tiny.config(stale);
    assert!(run().is_err());
    tiny.json(
        "hf_quant_config.json",
        r#"{"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4",
        "kv_cache_quant_algo": "FP8", "group_size": 16,
        "exclude_modules": ["language_model.lm_head", "language_model.model.layers.0*",
        "language_model.model.layers.1.self_attn*", "language_model.model.layers.1.mlp.gate",
        "vision_tower*", "mm_projector*"]}}"#,
    );
    close(run(), SILU);
}
