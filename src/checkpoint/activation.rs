//! Names of activation functions, and which one a model has whose configuration does not say.

use serde_json::{Map, Value};

use crate::glu::Glu;

/// Keys under which configurations name the activation of the MLPs; the first that is there counts.
pub(super) const KEYS: [&str; 21] = [
    "hidden_activation",
    "hidden_act",
    "activation_function",
    "hidden_act_fn",
    "act_fn",
    "ffn_act",
    "ffn_act_fn",
    "ffn_activation",
    "ffn_hidden_act",
    "mlp_hidden_act",
    "mlp_act",
    "mlp_activation",
    "mlp_activation_function",
    "ff_activation",
    "moe_hidden_act",
    "moe_activation",
    "expert_hidden_act",
    "expert_activation",
    "activation_fn",
    "activation_type",
    "activation",
];

/// Objects that hold such a key in some configurations.
const NESTED: [&str; 6] = ["ffn_config", "mlp_config", "moe_config", "ffn", "mlp", "moe"];

/// Models whose classes in `transformers` have `hidden_activation = "gelu_pytorch_tanh"`, and read no
/// other key. Names of whole models stand for their language models.
const GELU_TANH: [&str; 22] = [
    "diffusion_gemma",
    "diffusion_gemma_text",
    "embedding_gemma2",
    "embedding_gemma2_text",
    "gemma2",
    "gemma3",
    "gemma3_text",
    "gemma3n",
    "gemma3n_text",
    "gemma4",
    "gemma4_text",
    "gemma4_unified",
    "gemma4_unified_text",
    "gemma4_vision",
    "recurrent_gemma",
    "shieldgemma2",
    "t5_gemma_module",
    "t5gemma",
    "t5gemma2",
    "t5gemma2_decoder",
    "t5gemma2_text",
    "vaultgemma",
];

/// The first Gemma, which reads `hidden_act` and takes `gelu` for `gelu_pytorch_tanh`.
const GEMMA_1: [&str; 2] = ["gemma", "paligemma"];

/// Models whose classes have `hidden_act = "silu"`, or SiLU whatever is said, and MLPs of gate and up.
const SILU: &[&str] = &[
    "afmoe",
    "aria_text",
    "axk1",
    "axk2",
    "baichuan",
    "bailing_hybrid",
    "bamba",
    "beam",
    "cohere",
    "cohere2",
    "cohere2_moe",
    "cohere_compass_text",
    "csm",
    "csm_depth_decoder_model",
    "cwm",
    "deepseek_ocr2_encoder",
    "deepseek_ocr2_text",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "deepseek_v4",
    "diffllama",
    "doge",
    "dots1",
    "dots3_note",
    "dots3_note_audio_encoder",
    "dots3_note_text",
    "dots3_note_vision_encoder",
    "emu3_text_model",
    "ernie4_5",
    "ernie4_5_moe",
    "ernie4_5_vl_moe",
    "ernie4_5_vl_moe_text",
    "eurobert",
    "exaone",
    "exaone4",
    "exaone4_5",
    "exaone4_5_vision",
    "exaone_moe",
    "falcon_h1",
    "flex_olmo",
    "flint",
    "glm",
    "glm4",
    "glm4_moe",
    "glm4_moe_lite",
    "glm4v",
    "glm4v_moe",
    "glm4v_moe_text",
    "glm4v_moe_vision",
    "glm4v_text",
    "glm4v_vision",
    "glm5_next",
    "glm5_next_text",
    "glm5_next_vision",
    "glm_image_text",
    "glm_moe_dsa",
    "glm_ocr",
    "glm_ocr_text",
    "glm_ocr_vision",
    "gpt_oss",
    "granite",
    "granite4_vision_text",
    "granite_docling_text",
    "granite_swa",
    "granitemoe",
    "granitemoe_swa",
    "granitemoehybrid",
    "granitemoeshared",
    "helium",
    "higgs_audio_v2",
    "hrm_text",
    "hunyuan_v1_dense",
    "hunyuan_v1_moe",
    "hunyuan_vl",
    "hunyuan_vl_text",
    "hy_v3",
    "hy_v4",
    "hy_v4_vl",
    "hy_v4_vl_text",
    "inkling_text",
    "internlm2",
    "internlm3",
    "internvl",
    "jamba",
    "kimi_k2",
    "kimi_k25",
    "kimi_linear",
    "kimi_vl",
    "kolibri1",
    "laguna",
    "lara_mini",
    "lfm2",
    "lfm2_moe",
    "lfm2_vl",
    "llama",
    "llama4",
    "llama4_text",
    "llava",
    "llava_next",
    "longcat_flash",
    "mellum",
    "mimo_v2_flash",
    "minicpm",
    "minicpm3",
    "minimax",
    "minimax_m2",
    "minimax_m3_vl",
    "minimax_m3_vl_text",
    "ministral",
    "ministral3",
    "mistral",
    "mistral3",
    "mistral4",
    "mistral_large4",
    "mistral_large4_text",
    "mixtral",
    "mllama",
    "mllama_text_model",
    "molmo2_text",
    "muse_glimmer_assistant",
    "muse_spark_text",
    "olmo",
    "olmo2",
    "olmo3",
    "olmo_hybrid",
    "olmoe",
    "openai_privacy_filter",
    "ovis2_vision",
    "paddleocr_vl_text",
    "phi3",
    "phi4_multimodal",
    "phimoe",
    "qwen2",
    "qwen2_5_omni",
    "qwen2_5_omni_talker",
    "qwen2_5_omni_text",
    "qwen2_5_omni_thinker",
    "qwen2_5_omni_vision_encoder",
    "qwen2_5_vl",
    "qwen2_5_vl_text",
    "qwen2_5_vl_vision",
    "qwen2_moe",
    "qwen2_vl",
    "qwen2_vl_text",
    "qwen3",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_5_moe_text",
    "qwen3_5_text",
    "qwen3_moe",
    "qwen3_next",
    "qwen3_omni_moe",
    "qwen3_omni_moe_talker_code_predictor",
    "qwen3_omni_moe_talker_text",
    "qwen3_omni_moe_text",
    "qwen3_omni_moe_thinker",
    "qwen3_vl",
    "qwen3_vl_moe",
    "qwen3_vl_moe_text",
    "qwen3_vl_text",
    "qwen4_exp_text",
    "seed_oss",
    "smollm3",
    "solar_open",
    "stablelm",
    "step3p5",
    "step3p7",
    "ultrabert",
    "unlimited_ocr_text",
    "voxtral_realtime_text",
    "youtu",
];

/// Why no activation was found.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Unknown {
    /// A name that no gate computes.
    Named(String),
    /// Two keys that disagree.
    Conflict(String),
}

/// The gate that one object of a configuration names.
pub(super) fn stated(
    config: &Map<String, Value>,
    layer: Option<usize>,
) -> Result<Option<Glu>, Unknown> {
    let kind = model_type(config).unwrap_or_default();
    if GELU_TANH.contains(&kind) {
        let own = config.get("hidden_activation").and_then(|value| name(value, layer));
        return own.map(|own| gate(&own)).transpose();
    }
    let gemma = GEMMA_1.contains(&kind);
    let nested = NESTED.iter().filter_map(|key| config.get(*key)?.as_object());
    let mut found: Option<(&str, Glu)> = None;
    for object in std::iter::once(config).chain(nested) {
        for key in KEYS {
            let Some(name) = object.get(key).and_then(|value| name(value, layer)) else { continue };
            match found {
                None if gemma && name == "gelu" => found = Some((key, Glu::GegluTanh)),
                None => found = Some((key, gate(&name)?)),
                // Gemma's files have both, and the first one counts.
                Some(("hidden_activation", _)) if key == "hidden_act" => {}
                Some((first, one)) => {
                    if gate(&name) != Ok(one) {
                        return Err(Unknown::Conflict(format!("{first} and {key} disagree")));
                    }
                }
            }
        }
    }
    Ok(found.map(|(_, gate)| gate))
}

/// The gate of a model whose configuration names none.
pub(super) fn default_of(model_type: &str) -> Option<Glu> {
    if GELU_TANH.contains(&model_type) || GEMMA_1.contains(&model_type) {
        return Some(Glu::GegluTanh);
    }
    SILU.contains(&model_type).then_some(Glu::Swiglu)
}

/// The `model_type` of one object of a configuration.
pub(super) fn model_type(config: &Map<String, Value>) -> Option<&str> {
    config.get("model_type").and_then(Value::as_str)
}

/// The gate that a value names for a layer.
pub(super) fn named(value: &Value, layer: Option<usize>) -> Option<Glu> {
    gate(&name(value, layer)?).ok()
}

/// A name, `{"name": ..}`, or a list of one for each layer.
fn name(value: &Value, layer: Option<usize>) -> Option<String> {
    match value {
        Value::String(name) => Some(name.clone()),
        Value::Object(object) => object.get("name").and_then(|value| name(value, layer)),
        Value::Array(list) => {
            let first = list.first()?;
            let same = list.iter().all(|other| other == first);
            match layer.and_then(|layer| list.get(layer)) {
                Some(own) => name(own, None),
                None if same => name(first, None),
                None => Some(value.to_string()),
            }
        }
        _ => None,
    }
}

/// The gate that computes the function of this name.
fn gate(name: &str) -> Result<Glu, Unknown> {
    match name.to_lowercase().as_str() {
        "silu" | "swish" | "swiglu" => Ok(Glu::Swiglu),
        "gelu_pytorch_tanh" | "gelu_tanh" | "gelu_new" | "gelu_fast" | "gelu_accurate"
        | "gelu_python_tanh" => Ok(Glu::GegluTanh),
        _ => Err(Unknown::Named(name.to_owned())),
    }
}
