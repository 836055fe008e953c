//! Which tensors are quantized, and which are left alone.

use std::ops::Range;

use safetensors::Dtype;
use serde_json::Value;

use super::QuantizeOptions;
use crate::checkpoint::file::Tensor;
use crate::error::Result;
use crate::format::BLOCK;

/// What is quantized unless the options say otherwise: what [`crate::checkpoint::Checkpoint::layer`] reads.
pub(super) const MLP: [&str; 7] = [
    "gate_proj.weight",
    "up_proj.weight",
    "gate_up_proj.weight",
    "down_proj.weight",
    "w1.weight",
    "w3.weight",
    "w2.weight",
];

/// Names that mean something else where their neighbors are missing: the first generation of Qwen calls its up
/// projection w1, and its gate projection w2. A down projection goes with one of the lists.
const NEIGHBORS: [(&str, &[&[&str]]); 4] = [
    ("w1.weight", &[&["w3.weight"]]),
    ("w3.weight", &[&["w1.weight"]]),
    ("w2.weight", &[&["w1.weight", "w3.weight"]]),
    ("down_proj.weight", &[&["gate_proj.weight", "up_proj.weight"], &["gate_up_proj.weight"]]),
];

/// Parts of a model beside its text layers: no engine expects them in 4 bits, and most lose by it.
const TOWERS: [(&str, &str); 43] = [
    ("visual*", "vision"),
    ("vision*", "vision"),
    ("*_vision*", "vision"),
    ("vit", "vision"),
    ("vpm", "vision"),         // MiniCPM-V
    ("sam_model", "vision"),   // DeepSeek-OCR
    ("qwen2_model", "vision"), // the encoder of DeepSeek-OCR 2
    ("patch_merger", "vision"),
    ("video_*", "vision"),
    ("*_moe_gen", "image generation"), // BAGEL
    ("image_*", "vision"),
    ("audio*", "audio"),
    ("*_audio*", "audio"),
    ("speech*", "audio"),
    ("talker", "audio"),
    ("apm", "audio"), // MiniCPM-o
    ("tts", "audio"),
    ("tts_*", "audio"),
    ("*_tts", "audio"),
    ("whisper*", "audio"),
    ("conformer*", "audio"),
    ("*_conformer", "audio"),
    ("depth_decoder", "audio"), // Moshi and CSM
    ("mimo_layers", "audio"),   // Kimi-Audio
    ("token2wav", "audio"),
    ("code2wav", "audio"),
    ("*projector*", "a projector"),
    ("*resampler*", "a projector"),
    ("aligner*", "a projector"),
    ("*_aligner", "a projector"),
    ("connector*", "a projector"),
    ("*_connector", "a projector"),
    ("*qformer*", "a projector"),
    ("*q_former*", "a projector"),
    ("perceiver*", "a projector"),
    ("*_perceiver", "a projector"),
    ("mtp*", "a multi-token prediction layer"),
    ("nextn*", "a multi-token prediction layer"),
    ("eagle*", "a draft model"),
    ("medusa*", "a draft model"),
    ("drafter*", "a draft model"),
    ("draft_*", "a draft model"),
    ("speculator*", "a draft model"),
];

/// Types of 8 bits or less that only quantized tensors have.
const LOW: [Dtype; 6] =
    [Dtype::F8_E4M3, Dtype::F8_E5M2, Dtype::F8_E8M0, Dtype::F6_E2M3, Dtype::F6_E3M2, Dtype::F4];

/// Modules of text models that engines keep in full precision.
const DELICATE: [(&str, &str); 9] = [
    ("lm_head", "the output head"),
    ("embed_tokens*", "an embedding"),
    ("*_embeddings*", "an embedding"),
    ("wte", "an embedding"),
    ("wpe", "an embedding"),
    ("mlp.gate", "a router"),
    ("*moe.gate", "a router"),
    ("*router*", "a router"),
    ("shared_expert_gate", "a router"),
];

/// What becomes of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    /// It is quantized, \[n, k\].
    Quantize {
        n: usize,
        k: usize,
    },
    Copy,
    /// Copied although its name was asked for: it is in a part that is left alone.
    LeftAlone(String),
    /// Copied although its name was asked for: it cannot be quantized.
    Unsuitable(String),
}

/// The options and what `config.json` says of layers.
pub(super) struct Selection<'a> {
    options: &'a QuantizeOptions,
    /// Numbers of the layers after the last one of the model.
    prediction: Range<u64>,
}

impl<'a> Selection<'a> {
    pub fn new(options: &'a QuantizeOptions, config: Option<&Value>) -> Self {
        // DeepSeek and GLM store the layers of multi-token prediction after those of the model.
        let text = config.and_then(|c| c.get("text_config").or(Some(c)));
        let number = |key: &str| text.and_then(|c| c.get(key)?.as_u64());
        let layers = number("num_hidden_layers").unwrap_or(0);
        let more = number("num_nextn_predict_layers").unwrap_or(0);
        Selection { options, prediction: layers..layers.saturating_add(more) }
    }

    /// What becomes of a tensor; `exists` tells whether the input has one of that name.
    pub fn plan(&self, tensor: &Tensor<'_>, exists: impl Fn(&str) -> bool) -> Result<Plan> {
        let name = tensor.name();
        // Listed as not quantized, they would be taken for BF16.
        let packed = ["weight_scale", "weight_scale_inv", "scales", "SCB", "weight.absmax"];
        let has_scales = || {
            let module = name.rsplit_once('.').map_or("", |(module, _)| module);
            packed.iter().any(|scale| exists(&format!("{module}.{scale}")))
        };
        let float = matches!(tensor.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16);
        let weight = ["weight", "weight_packed", "qweight"]
            .iter()
            .any(|end| name.rsplit('.').next() == Some(end));
        if LOW.contains(&tensor.dtype()) {
            let expected =
                "F32, F16 or BF16: an FP8 weight has to be dequantized first, with its scales";
            return Err(tensor.wrong_dtype(expected));
        }
        if weight && !float && has_scales() {
            let expected =
                "F32, F16 or BF16: it has scales, so it has to be dequantized first, with them";
            return Err(tensor.wrong_dtype(expected));
        }
        let stack = float && tensor.shape().len() == 3 && name.split('.').any(|p| p == "experts");
        let whole = if stack { format!("{name}.weight") } else { name.to_owned() };
        let matches = |pattern: &String| matches(pattern, name) || matches(pattern, &whole);
        if !self.options.include.iter().any(matches) {
            return Ok(Plan::Copy);
        }
        if let Some(pattern) = self.options.exclude.iter().find(|p| matches(p)) {
            return Ok(Plan::LeftAlone(format!("{pattern} is excluded")));
        }
        if let Some(reason) = self.left_alone(name) {
            return Ok(Plan::LeftAlone(reason));
        }
        for (own, lists) in NEIGHBORS {
            let Some(start) = name.strip_suffix(own).filter(|_| self.by_default(own)) else {
                continue;
            };
            let there = |other: &&str| exists(&format!("{start}{other}"));
            if whole_part(start) && !lists.iter().any(|list| list.iter().all(there)) {
                let others = lists.iter().map(|list| list.join(" and ")).collect::<Vec<_>>();
                return Ok(Plan::LeftAlone(format!(
                    "there is no {} beside it",
                    others.join(" or ")
                )));
            }
        }
        Ok(match *tensor.shape() {
            _ if !float => Plan::Unsuitable(format!("it is {}", tensor.dtype())),
            ref shape if stack => {
                Plan::Unsuitable(format!("a stack of experts {shape:?}, which is not quantized"))
            }
            ref shape if shape.len() != 2 => Plan::Unsuitable(format!("its shape is {shape:?}")),
            _ if !name.ends_with(".weight") => {
                Plan::Unsuitable("its name does not end in .weight".to_owned())
            }
            [n, k] if n > 0 && k > 0 && k.is_multiple_of(BLOCK) => Plan::Quantize { n, k },
            [_, k] => Plan::Unsuitable(format!("K = {k} is not a multiple of {BLOCK}")),
            ref shape => Plan::Unsuitable(format!("its shape is {shape:?}")),
        })
    }

    /// Whether a down projection is to be quantized because nothing else was asked for: then it is left alone
    /// where there are no samples of its input.
    pub fn is_optional(&self, name: &str) -> bool {
        let down = ["down_proj.weight", "w2.weight"];
        self.options.include == MLP && down.iter().any(|own| matches(own, name))
    }

    fn by_default(&self, own: &str) -> bool {
        self.options.include.iter().any(|pattern| pattern == own)
    }

    /// Why a tensor is left alone, unless all parts are to be quantized.
    fn left_alone(&self, name: &str) -> Option<String> {
        if self.options.all_parts {
            return None;
        }
        if let Some(layer) = layer(name).filter(|layer| self.prediction.contains(layer)) {
            let last = self.prediction.start;
            return Some(format!(
                "layer {layer} is for multi-token prediction, as the model has {last}"
            ));
        }
        let known = TOWERS.iter().chain(&DELICATE);
        known
            .filter_map(|(pattern, what)| Some((run(pattern, name)?, what)))
            .map(|(part, what)| format!("{part} is {what}"))
            .next()
    }

    /// The part of its name by which a tensor belongs to a part of the model that is left alone.
    pub fn tower<'n>(&self, name: &'n str) -> Option<&'n str> {
        let towers = TOWERS.iter().filter(|_| !self.options.all_parts);
        towers.filter_map(|(pattern, _)| run(pattern, name)).next()
    }
}

/// Whether a name ends after a whole part of it.
fn whole_part(start: &str) -> bool {
    start.is_empty() || start.ends_with('.')
}

/// The number in `layers.N`.
fn layer(name: &str) -> Option<u64> {
    let mut parts = name.split('.');
    parts.find(|&part| part == "layers")?;
    parts.next()?.parse().ok()
}

/// Whether a pattern matches a run of whole parts of a name, between its dots.
fn matches(pattern: &str, name: &str) -> bool {
    run(pattern, name).is_some()
}

/// The first run of whole parts that a pattern matches; `*` stands for any characters, dots too.
fn run<'n>(pattern: &str, name: &'n str) -> Option<&'n str> {
    let starts = || std::iter::once(0).chain(name.match_indices('.').map(|(at, _)| at + 1));
    let ends = || name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
    starts().find_map(|start| {
        ends()
            .filter(|&end| end > start)
            .map(|end| &name[start..end])
            .find(|run| glob(pattern, run))
    })
}

/// Whether all of `text` is as the pattern says.
fn glob(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_parts() {
        for (pattern, name, expected) in [
            ("up_proj.weight", "l.up_proj.weight", true),
            ("up_proj.weight", "up_proj.weight", true),
            ("up_proj.weight", "l.gate_up_proj.weight", false),
            ("*up_proj.weight", "l.gate_up_proj.weight", true),
            ("up_proj", "l.up_proj.weight", true),
            ("up", "l.up_proj.weight", false),
            ("layers.1", "model.layers.1.mlp.up_proj.weight", true),
            ("layers.1", "model.layers.11.mlp.up_proj.weight", false),
            ("layers.*.up_proj", "model.layers.11.mlp.up_proj.weight", true),
            ("layers.*1", "model.layers.12.mlp.up_proj.weight", false),
            ("*", "x", true),
            ("", "x", false),
            ("a*b*c", "abc", true),
            ("a*b*b", "ab", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn towers_of_published_models() {
        let options = QuantizeOptions::default();
        let selection = Selection::new(&options, None);
        for name in [
            "visual.blocks.0.mlp.gate_proj.weight",
            "model.visual.blocks.0.mlp.gate_proj.weight",
            "vision_tower.transformer.layers.0.feed_forward.gate_proj.weight",
            "model.vision_tower.encoder.layers.0.mlp.up_proj.weight",
            "vision_model.model.layers.0.mlp.fc1.weight",
            "vision_encoder.transformer.layers.0.feed_forward.w1.weight",
            "model.embed_vision.embedding_projection.weight",
            "model.audio_tower.conformer.0.ffw_layer_start.ffw_layer_1.weight",
            "thinker.audio_tower.layers.0.fc1.weight",
            "talker.model.layers.0.mlp.gate_proj.weight",
            "multi_modal_projector.linear_1.weight",
            "mm_projector.proj.0.weight",
            "mtp.layers.0.mlp.up_proj.weight",
            "tts.model.layers.0.mlp.gate_proj.weight",
            "model.qwen2_model.model.layers.0.mlp.gate_proj.weight",
            "model.mimo_layers.0.mlp.up_proj.weight",
            "language_model.model.layers.0.mlp_moe_gen.gate_proj.weight",
            "depth_decoder.model.layers.0.mlp.gate_proj.weight",
            "model.sam_model.blocks.0.mlp.up_proj.weight",
            "vpm.encoder.layers.0.mlp.up_proj.weight",
            "apm.layers.0.up_proj.weight",
            "whisper_model.layers.0.up_proj.weight",
            "aligner.layers.0.up_proj.weight",
            "gen_aligner.up_proj.weight",
            "model.connector.modality_projection.gate_proj.weight",
            "patch_merger.up_proj.weight",
            "model.qformer.layer.0.up_proj.weight",
            "perceiver_sampler.layers.0.mlp.gate_proj.weight",
            "encoder.conformer.0.w1.weight",
            "video_tower.layers.0.mlp.up_proj.weight",
            "medusa_head.0.up_proj.weight",
            "drafter.layers.0.mlp.gate_proj.weight",
        ] {
            assert!(selection.left_alone(name).is_some(), "{name}");
            assert!(selection.tower(name).is_some(), "{name}");
        }
        for name in [
            "model.layers.0.mlp.gate.weight",
            "model.layers.0.block_sparse_moe.gate.weight",
            "model.layers.0.feed_forward.router.weight",
            "model.layers.0.mlp.shared_expert_gate.weight",
            "lm_head.weight",
            "model.embed_tokens.weight",
        ] {
            assert!(selection.left_alone(name).is_some(), "{name}");
            assert!(selection.tower(name).is_none(), "{name}");
        }
        for name in [
            "model.layers.0.mlp.gate_proj.weight",
            "model.language_model.layers.0.mlp.up_proj.weight",
            "language_model.model.layers.0.mlp.gate_up_proj.weight",
            "model.layers.0.block_sparse_moe.experts.0.w1.weight",
            "model.layers.0.mlp.shared_expert.gate_proj.weight",
            "backbone.layers.0.mixer.up_proj.weight",
            "layers.0.feed_forward.w3.weight",
        ] {
            assert_eq!(selection.left_alone(name), None, "{name}");
        }
    }
}
