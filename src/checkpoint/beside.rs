//! What may lie beside the tensors of a layer: everything else might change what it computes.

use super::file::Tensor;
use super::open::Checkpoint;
use super::place;
use super::projection::Names;
use super::stack::join;
use super::verdict::Refusal;
use crate::error::Result;

/// Last parts of the tensors of a projection, in ModelOpt's names.
const MODELOPT: [&str; 5] = ["weight", "weight_scale", "weight_scale_2", "input_scale", "bias"];

/// The same in compressed-tensors' names.
const COMPRESSED_TENSORS: [&str; 5] =
    ["weight_packed", "weight_scale", "weight_global_scale", "input_global_scale", "bias"];

/// Names of down projections, and of the norm before one (BitNet).
const DOWN: [&str; 3] = ["down_proj", "w2", "ffn_sub_norm"];

/// Modules and tensors that may lie beside the projections of a layer: what comes after the product,
/// and the parts of a mixture of experts.
const NEIGHBORS: [&str; 14] = [
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
    "router_bias",
    "moe_statics",
];

/// What else may lie beside a module `experts`: parts of the choice of experts and of their mixing.
const ABOVE: [&str; 2] = ["expert_bias", "coefficient"];

/// Projections of an MLP, by which tensors beside an expert are told from those of other modules.
const PROJECTIONS: [&str; 6] = ["gate_proj", "up_proj", "w1", "w3", "gate_up_proj", "w13"];

/// By these a decoder layer is known, of which an MLP is only a part.
const DECODER_LAYER: [&str; 6] =
    ["self_attn", "attn", "attention", "self_attention", "linear_attn", "input_layernorm"];

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

/// Whose tensors lie in a module.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    /// Of the layer itself.
    Layer,
    /// Of all experts.
    Experts,
    /// Of the module that has `experts`.
    Above,
}

/// What a tensor is to the layer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It is read.
    Own,
    /// It does not change what the layer computes.
    Other,
    Unknown,
}

/// The tensors of a layer.
pub(super) struct Layer<'a> {
    pub prefix: &'a str,
    /// Its projections.
    pub modules: &'a [&'a str],
    /// Names of their tensors, if they are in stacks of experts.
    pub stacks: &'a [&'a Names],
}

/// Fails when a tensor may change what the layer computes and is not understood, or cannot be read.
///
/// # Errors
/// [`super::CheckpointError::NotUnderstood`]; those of a tensor that is not to be had.
pub(super) fn check(checkpoint: &Checkpoint, layer: &Layer<'_>) -> Result<()> {
    for (scope, level) in scopes(checkpoint, layer) {
        let role = |rest: &str| role(checkpoint, layer, scope, level, rest);
        if let Some(rest) = checkpoint.below(scope).find(|rest| role(rest) == Role::Unknown) {
            let reason = foreign(checkpoint, &join(scope, rest));
            return Err(checkpoint.not_understood(layer.prefix, reason));
        }
        if let Some(rest) = checkpoint.absent_below(scope).find(|rest| role(rest) != Role::Other) {
            return checkpoint.require(&join(scope, rest));
        }
    }
    Ok(())
}

/// Why a tensor may change what the down projection computes and is not understood, if there is one. `layer`
/// has the down projection in place of gate and up.
pub(super) fn objection_to_down(checkpoint: &Checkpoint, layer: &Layer<'_>) -> Option<String> {
    scopes(checkpoint, layer).into_iter().filter(|(_, level)| *level != Level::Above).find_map(
        |(scope, level)| {
            let unknown = |rest: &&str| {
                of_down(rest) && role(checkpoint, layer, scope, level, rest) != Role::Own
            };
            let rest = checkpoint.below(scope).find(unknown)?;
            Some(foreign(checkpoint, &join(scope, rest)))
        },
    )
}

/// The error of a tensor of the down projection that cannot be read, if there is one.
pub(super) fn require_down(checkpoint: &Checkpoint, layer: &Layer<'_>) -> Result<()> {
    for (scope, level) in scopes(checkpoint, layer) {
        let counts = |rest: &&str| level != Level::Above && of_down(rest);
        if let Some(rest) = checkpoint.absent_below(scope).find(counts) {
            return checkpoint.require(&join(scope, rest));
        }
    }
    Ok(())
}

/// Whether a tensor of a layer or of a module of experts, by its name in there, may have to do with the down
/// projection of that layer or of every expert. `down_proj.7` is of one expert.
fn of_down(rest: &str) -> bool {
    let mut parts = rest.split('.');
    let first = parts.next().unwrap_or(rest);
    let named =
        DOWN.contains(&first) || ["down_proj_", "w2_"].iter().any(|start| first.starts_with(start));
    named && !parts.next().is_some_and(is_number)
}

/// The modules in which tensors may concern a layer.
fn scopes<'a>(checkpoint: &Checkpoint, layer: &Layer<'a>) -> Vec<(&'a str, Level)> {
    let mut scopes = vec![(layer.prefix, Level::Layer)];
    let numbered = place::expert(layer.prefix);
    // Stacks are those of experts, whatever their module is called.
    let numbered = numbered.or(match layer.stacks {
        [] => None,
        _ => super::read::expert(layer.prefix),
    });
    if let Some((parent, _)) = numbered {
        scopes.push((parent, Level::Experts));
        if let Some((above, "experts")) = parent.rsplit_once('.')
            && !is_decoder_layer(checkpoint, above)
        {
            scopes.push((above, Level::Above));
        }
    }
    scopes
}

/// What the tensor `scope.rest` is to a layer.
fn role(checkpoint: &Checkpoint, layer: &Layer<'_>, scope: &str, level: Level, rest: &str) -> Role {
    let name = join(scope, rest);
    let of_stack = layer.stacks.iter().any(|names| names.has(&name));
    let of_module = || {
        layer.modules.iter().find_map(|module| {
            let last = name.strip_prefix(module)?.strip_prefix('.')?;
            let packed = format!("{module}.weight_packed");
            let packed = checkpoint.get(&packed).is_some();
            let list = if packed { &COMPRESSED_TENSORS } else { &MODELOPT };
            Some(if list.contains(&last) { Role::Own } else { Role::Unknown })
        })
    };
    if of_stack {
        return Role::Own;
    }
    if layer.stacks.is_empty()
        && let Some(role) = of_module()
    {
        return role;
    }
    let first = rest.split('.').next().unwrap_or(rest);
    let other = match level {
        Level::Layer => is_neighbor(rest),
        Level::Experts => !concerns_experts(scope, rest),
        Level::Above => {
            // An MLP beside the experts.
            let mlp = || {
                let has = |last: &str| checkpoint.get(&join(scope, &format!("{first}.{last}")));
                rest != first && has("weight").or_else(|| has("weight_packed")).is_some()
            };
            is_neighbor(rest) || ABOVE.contains(&first) || (PROJECTIONS.contains(&first) && mlp())
        }
    };
    let elsewhere = scope.is_empty() && !of_projection(first); // whatever else is in the file
    if other || elsewhere { Role::Other } else { Role::Unknown }
}

/// Whether a tensor of a layer or of a module of experts, by its name in there, comes after the product
/// or belongs to another part of a mixture.
fn is_neighbor(rest: &str) -> bool {
    let first = rest.split('.').next().unwrap_or(rest);
    let down = ["down_proj_", "w2_"].iter().any(|start| first.starts_with(start));
    down || is_number(first) || NEIGHBORS.contains(&first)
}

/// Whether a tensor of the module of all experts, by its name in there, may have to do with gate and up
/// of every expert.
pub(super) fn concerns_experts(parent: &str, rest: &str) -> bool {
    let mut parts = rest.split('.');
    let first = parts.next().unwrap_or(rest);
    if parent.is_empty() && !of_projection(first) {
        return false; // whatever else is in the file
    }
    // `gate_proj.7` is of one expert.
    let single = PROJECTIONS.contains(&first) && parts.next().is_some_and(is_number);
    !single && !is_neighbor(rest)
}

/// Whether a tensor or module is named for a projection.
fn of_projection(first: &str) -> bool {
    PROJECTIONS.iter().any(|name| {
        first.strip_prefix(name).is_some_and(|end| end.is_empty() || end.starts_with('_'))
    })
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())
}

fn is_decoder_layer(checkpoint: &Checkpoint, module: &str) -> bool {
    let last = module.rsplit('.').next().unwrap_or(module);
    let has = |part: &&str| {
        let inside = join(module, part);
        checkpoint.below(&inside).next().is_some()
            || checkpoint.absent_below(&inside).next().is_some()
    };
    is_number(last) || DECODER_LAYER.iter().any(has)
}

fn foreign(checkpoint: &Checkpoint, name: &str) -> String {
    let shown = checkpoint
        .get(name)
        .map_or(name.to_owned(), |t: Tensor<'_>| format!("{name} {} {:?}", t.dtype(), t.shape()));
    format!("there is {shown}, and what it does to the layer is not known")
}
