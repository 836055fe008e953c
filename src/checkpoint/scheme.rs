//! Telling other formats by their tensors.

use safetensors::Dtype;

use super::file::Tensor;
use super::open::Checkpoint;
use super::verdict::Refusal;
use crate::format::BLOCK;

/// Why the tensors of `module` are not NVFP4 in a convention that is read, if they are not. Tensors
/// that are merely missing or of the wrong shape are no reason: reading them says it better.
pub(super) fn refusal(checkpoint: &Checkpoint, module: &str) -> Option<Refusal> {
    let tensor = |name: &str| checkpoint.get(&format!("{module}.{name}"));
    let refuse = |scheme: &str, evidence: String| {
        Some(Refusal { scheme: scheme.to_owned(), evidence: format!("{module} {evidence}") })
    };
    let has = |name: String| format!("has {name}");

    for name in checkpoint.below(module) {
        if name.contains("svdquant") {
            return refuse("NVFP4_SVD", has(name.to_owned()));
        }
    }
    for (scheme, names) in [
        ("NVFP4_AWQ", &["pre_quant_scale", "input_quantizer._pre_quant_scale"][..]),
        ("INT4 (GPTQ or AWQ)", &["qweight", "qzeros", "g_idx"]),
        ("FP8 in blocks", &["weight_scale_inv"]),
        ("a bitsandbytes format", &["weight.absmax", "weight.quant_map"]),
        ("an integer or asymmetric format", &["weight_zero_point", "weight_shape", "SCB"]),
    ] {
        if let Some(t) = names.iter().find_map(|name| tensor(name)) {
            return refuse(scheme, has(local(&t, module)));
        }
    }

    let codes = tensor("weight_packed").or_else(|| tensor("weight"))?;
    let scales = tensor("weight_scale");
    let of = |t: &Tensor<'_>| format!("has {} {} {:?}", local(t, module), t.dtype(), t.shape());
    match codes.dtype() {
        Dtype::U8 | Dtype::F4 => {}
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => {
            let evidence = format!("{}; `nvfp4 quantize` makes it NVFP4", of(&codes));
            return refuse("not quantized", evidence);
        }
        Dtype::F8_E4M3 => return refuse("FP8", of(&codes)),
        Dtype::F8_E5M2 => return refuse("FP8 (E5M2)", of(&codes)),
        Dtype::I8 => return refuse("INT8", of(&codes)),
        Dtype::I32 | Dtype::U32 => return refuse("INT4 (packed in 32 bits)", of(&codes)),
        other => return refuse(&other.to_string(), of(&codes)),
    }

    let scales = scales?;
    let cols = |t: &Tensor<'_>| match (t.dtype(), t.shape()) {
        (Dtype::F4, [.., last]) => Some(*last),
        (_, [.., last]) => last.checked_mul(2),
        _ => None,
    };
    let blocks = scales.shape().last().copied().filter(|&n| n > 0);
    let group = cols(&codes).zip(blocks).filter(|(k, n)| k % n == 0).map(|(k, n)| k / n);
    match scales.dtype() {
        Dtype::F8_E8M0 => return refuse("MXFP4", of(&scales)),
        Dtype::U8 if group == Some(2 * BLOCK) => {
            return refuse("MXFP4", format!("{}: bytes of E8M0, one for 32", of(&scales)));
        }
        _ => {}
    }
    match group {
        Some(group @ (32 | 64 | 128 | 256)) => {
            let evidence = format!("{}, one for {group}, and NVFP4 has one for 16", of(&scales));
            refuse(&format!("FP4 with groups of {group}"), evidence)
        }
        _ => None,
    }
}

/// Why there is no layer at `prefix`: its experts are stacked in blocks of MXFP4.
pub(super) fn stacked_experts(checkpoint: &Checkpoint, prefix: &str) -> Option<Refusal> {
    let names = ["gate_up_proj_blocks", "experts.gate_up_proj_blocks"];
    let tensor = names.iter().find_map(|name| checkpoint.get(&format!("{prefix}.{name}")))?;
    let (name, dtype, shape) = (tensor.name(), tensor.dtype(), tensor.shape());
    let evidence = format!("there is {name} {dtype} {shape:?}");
    Some(Refusal { scheme: "MXFP4 (gpt-oss)".to_owned(), evidence })
}

/// The name of a tensor without that of its module.
fn local(tensor: &Tensor<'_>, module: &str) -> String {
    let name = tensor.name();
    name.strip_prefix(module).and_then(|n| n.strip_prefix('.')).unwrap_or(name).to_owned()
}
