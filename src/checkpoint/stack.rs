//! Experts in a stack: one tensor \[E, N, K\] for all experts of a layer.

use safetensors::Dtype;

use super::beside::concerns_experts;
use super::convention::Convention;
use super::file::Tensor;
use super::open::Checkpoint;
use super::projection::Names;
use super::read::{FUSED, PAIRS};
use super::verdict::Refusal;
use crate::error::Result;

/// Ends of the names of a stack's codes, scales, global scales of the weights and of the input. The
/// first part is that of a projection, such as `experts.gate_up_proj`.
const ENDS: [([&str; 4], Convention); 6] = [
    // A module, as for a single expert.
    ([".weight", ".weight_scale", ".weight_scale_2", ".input_scale"], Convention::ModelOpt),
    (
        [".weight_packed", ".weight_scale", ".weight_global_scale", ".input_global_scale"],
        Convention::CompressedTensors,
    ),
    // Parameters of the module `experts`: ModelOpt's export, then vLLM's own names.
    (["", "_weight_scale", "_weight_scale_2", "_input_scale"], Convention::ModelOpt),
    (["", "_scale", "_scale_2", "_input_scale"], Convention::ModelOpt),
    (["_weight", "_weight_scale", "_weight_scale_2", "_input_scale"], Convention::ModelOpt),
    (
        ["_weight_packed", "_weight_scale", "_weight_global_scale", "_input_global_scale"],
        Convention::CompressedTensors,
    ),
];

/// Names of a fused projection, gate first.
pub(super) const FUSED_STACKS: [&str; 2] = [FUSED, "w13"];

/// More experts than this are no stack of experts; it bounds what a list of layers can grow to.
const MAX_EXPERTS: usize = 1 << 16;

/// Which stacks hold gate and up of the experts of one module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stack {
    Fused(String, Names),
    Split([(String, Names); 2]),
    /// There is one of the two beside the one of the down projection.
    NoGate {
        present: [&'static str; 2],
        absent: &'static str,
    },
}

impl Stack {
    /// Name of the projections that belong to these.
    pub fn down(&self) -> &'static str {
        let last = |base: &str, name: &str| base.rsplit('.').next() == Some(name);
        match self {
            Stack::Fused(base, _) if last(base, FUSED) => "down_proj",
            Stack::Split([(base, _), _]) => {
                PAIRS.iter().find(|pair| last(base, pair.gate)).map_or("w2", |pair| pair.down)
            }
            Stack::Fused(..) => "w2",
            Stack::NoGate { present: [_, down], .. } => down,
        }
    }
}

impl Checkpoint {
    /// The stacks below `parent`, such as `model.layers.0.mlp.experts`.
    pub(super) fn stack(&self, parent: &str) -> Option<Stack> {
        let of = |name: &str| {
            let base = join(parent, name);
            Some((base.clone(), self.stack_names(&base)?))
        };
        if let Some((base, names)) = FUSED_STACKS.iter().find_map(|name| of(name)) {
            return Some(Stack::Fused(base, names));
        }
        PAIRS.iter().find_map(|pair| match (of(pair.gate), of(pair.up)) {
            (Some(gate), Some(up)) => Some(Stack::Split([gate, up])),
            _ => {
                of(pair.single).and(of(pair.down))?;
                let absent = if pair.single == pair.up { pair.gate } else { pair.up };
                Some(Stack::NoGate { present: [pair.single, pair.down], absent })
            }
        })
    }

    /// Names of the tensors of a stack, if there are codes of three dimensions.
    pub(super) fn stack_names(&self, base: &str) -> Option<Names> {
        let found =
            |([codes, scales, weight_global, input_global], convention): &([&str; 4], _)| {
                let name = |end: &str| format!("{base}{end}");
                let codes = name(codes);
                (self.get(&codes)?.shape().len() == 3).then(|| Names {
                    codes,
                    scales: name(scales),
                    weight_global: name(weight_global),
                    input_global: name(input_global),
                    biases: vec![name(".bias"), name("_bias")],
                    convention: *convention,
                })
            };
        let all: Vec<Names> = ENDS.iter().filter_map(found).collect();
        let complete = all.iter().find(|names| self.get(&names.scales).is_some());
        complete.or(all.first()).cloned()
    }

    /// Why stacks of these names must not be read, if they must not: they are not quantized, or
    /// transposed.
    pub(super) fn stack_refusal(&self, stacks: &[&Names]) -> Option<Refusal> {
        let refuse =
            |scheme: &str, evidence: String| Some(Refusal { scheme: scheme.to_owned(), evidence });
        let of = |t: &Tensor<'_>| format!("{} is {} {:?}", t.name(), t.dtype(), t.shape());
        stacks.iter().find_map(|names| {
            let codes = self.get(&names.codes)?;
            if matches!(codes.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16) {
                return refuse("not quantized", of(&codes));
            }
            let scales = self.get(&names.scales)?;
            let (&[_, k, n], &[_, blocks, columns]) = (codes.shape(), scales.shape()) else {
                return None; // reading them says it better
            };
            if n != columns || Some(k) != blocks.checked_mul(8) {
                return None;
            }
            let evidence =
                format!("{}, {}: [E, K/2, N] and not [E, N, K/2]", of(&codes), of(&scales));
            refuse("a transposed stack of experts", evidence)
        })
    }

    /// Fails when something of the stacks below `parent` cannot be read.
    pub(super) fn require_stacks(&self, parent: &str) -> Result<()> {
        match self.absent_below(parent).find(|name| concerns_experts(parent, name)) {
            Some(name) => self.require(&join(parent, name)),
            None => Ok(()),
        }
    }
}

/// What a tensor of this name is a stack of, if it is one: the prefix of its experts, and how many.
pub(super) fn experts<'a>(name: &'a str, tensor: &Tensor<'_>) -> Option<(&'a str, usize)> {
    let &[experts, _, _] = tensor.shape() else { return None };
    if experts > MAX_EXPERTS || tensor.byte_len() == 0 {
        return None;
    }
    let known =
        |last: &str| FUSED_STACKS.contains(&last) || PAIRS.iter().any(|pair| pair.gate == last);
    ENDS.iter().find_map(|([codes, ..], _)| {
        let base = name.strip_suffix(codes)?;
        let (parent, last) = base.rsplit_once('.').unwrap_or(("", base));
        known(last).then_some((parent, experts))
    })
}

/// `parent.name`, or `name` at the top.
pub(super) fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}
