//! What may lie beside the tensors of a layer: everything else might change what it computes.

use super::file::Tensor;
use super::open::Checkpoint;
use super::sidecar::Refusal;

/// Last parts of the tensors of a projection, in ModelOpt's names.
const MODELOPT: [&str; 4] = ["weight", "weight_scale", "weight_scale_2", "input_scale"];

/// The same in compressed-tensors' names.
const COMPRESSED_TENSORS: [&str; 4] =
    ["weight_packed", "weight_scale", "weight_global_scale", "input_global_scale"];

/// Ends of the tensors of a stack of experts, whose names begin with that of the projection.
const STACKED: [&str; 11] = [
    "scale",
    "scale_2",
    "scales",
    "blocks",
    "packed",
    "input_scale",
    "global_scale",
    "weight_scale",
    "weight_scale_2",
    "weight_global_scale",
    "input_global_scale",
];

/// Modules and tensors that may lie beside the projections of a layer: what comes after the product,
/// and the parts of a mixture of experts.
const NEIGHBOURS: [&str; 13] = [
    "down_proj",
    "w2",
    "ffn_sub_norm",
    "gate",
    "router",
    "experts",
    "shared_expert",
    "shared_experts",
    "share_expert",
    "shared_mlp",
    "shared_expert_gate",
    "e_score_correction_bias",
    "moe_statics",
];

/// ComfyUI's NVFP4, by either of its marks: the scales are swizzled, and the first of two codes is in
/// the high half of its byte.
pub(super) fn comfy(checkpoint: &Checkpoint, modules: &[&str]) -> Option<Refusal> {
    let evidence = modules.iter().find_map(|module| {
        let names = checkpoint.starting(&format!("{module}."));
        names.into_iter().find_map(|name| {
            let mark = name.ends_with(".comfy_quant").then(|| format!("there is {name}"));
            mark.or_else(|| {
                let key = "_quantization_metadata";
                checkpoint.metadata_of(name)?.get(key)?;
                Some(format!("the file of {name} has __metadata__.{key}"))
            })
        })
    })?;
    let scheme = "NVFP4 as ComfyUI stores it (scales swizzled, first code in the high half)";
    Some(Refusal { scheme: scheme.to_owned(), evidence })
}

/// Which tensor may change what the layer at `prefix` computes, if one does. `modules` are its
/// projections.
pub(super) fn objection(checkpoint: &Checkpoint, prefix: &str, modules: &[&str]) -> Option<String> {
    for module in modules {
        for name in checkpoint.starting(module) {
            let rest = name.get(module.len()..).unwrap_or_default();
            let known = match rest.split_at_checked(1) {
                None => true, // a stack
                Some((".", last)) => {
                    let packed = checkpoint.get(&format!("{module}.weight_packed")).is_some();
                    let list = if packed { &COMPRESSED_TENSORS } else { &MODELOPT };
                    list.contains(&last)
                }
                Some(("_", last)) => STACKED.contains(&last),
                Some(_) => true, // another module, such as w10 beside w1
            };
            if !known {
                return Some(foreign(checkpoint, name));
            }
        }
    }
    if prefix.is_empty() {
        return None; // whatever else is in the file
    }
    let below = format!("{prefix}.");
    for name in checkpoint.starting(&below) {
        let first =
            name.get(below.len()..).unwrap_or_default().split('.').next().unwrap_or_default();
        let own = modules.iter().any(|module| {
            name.strip_prefix(module)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '_']))
        });
        let down = ["down_proj_", "w2_"].iter().any(|start| first.starts_with(start));
        let expert = !first.is_empty() && first.bytes().all(|b| b.is_ascii_digit());
        if !(own || down || expert || NEIGHBOURS.contains(&first)) {
            return Some(foreign(checkpoint, name));
        }
    }
    None
}

fn foreign(checkpoint: &Checkpoint, name: &str) -> String {
    let shown = checkpoint
        .get(name)
        .map_or(name.to_owned(), |t: Tensor<'_>| format!("{name} {} {:?}", t.dtype(), t.shape()));
    match name.ends_with("bias") {
        true => format!("it has a bias, {shown}, and the epilogue does not add one"),
        false => format!("there is {shown}, and what it does to the layer is not known"),
    }
}
