#!/usr/bin/env python3
"""Makes the checkpoints of tests/data/checkpoints with the real libraries.

    python3 scripts/make_checkpoints.py             write tests/data/checkpoints anew
    python3 scripts/make_checkpoints.py --check DIR  read what `nvfp4 quantize` made of floats/ into DIR

Needs torch, transformers, safetensors, nvidia-modelopt (and requests, which it imports) and
compressed-tensors. The files are committed: tests do not need Python.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

try:
    import compressed_tensors
    import torch
    import transformers
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
    from compressed_tensors.quantization import (
        QuantizationConfig,
        apply_quantization_config,
        preset_name_to_scheme,
    )
    from compressed_tensors.quantization.lifecycle.forward import dequantize, fake_quantize
    from compressed_tensors.quantization.utils import (
        calculate_qparams,
        compute_dynamic_scales_and_zp,
        generate_gparam,
    )
    from safetensors.torch import load_file, save_file
except ImportError as e:
    sys.exit(f"make_checkpoints.py: {e.name} is not installed ({e})")

ROOT = Path(__file__).resolve().parent.parent / "tests/data/checkpoints"
PREFIX = "model.layers.0.mlp"
SMALL = dict(
    hidden_size=64, intermediate_size=48, num_hidden_layers=1, num_attention_heads=1,
    num_key_value_heads=1, head_dim=16, vocab_size=32, max_position_embeddings=64,
    pad_token_id=0, bos_token_id=1, eos_token_id=2,
)


def llama():
    """A tiny Llama in bf16 whose up projection is 3 times as large as its gate projection."""
    torch.manual_seed(20)
    config = transformers.LlamaConfig(architectures=["LlamaForCausalLM"], **SMALL)
    model = transformers.LlamaForCausalLM(config)
    mlp = model.model.layers[0].mlp
    with torch.no_grad():
        mlp.gate_proj.weight.mul_(10)
        mlp.up_proj.weight.mul_(30)
    return model.to(torch.bfloat16)


def phi3():
    """A tiny Phi-3, which has a fused gate_up_proj."""
    torch.manual_seed(21)
    config = transformers.Phi3Config(architectures=["Phi3ForCausalLM"], **SMALL)
    model = transformers.Phi3ForCausalLM(config)
    with torch.no_grad():
        model.model.layers[0].mlp.gate_up_proj.weight.mul_(20)
    return model.to(torch.bfloat16)


def tokens():
    torch.manual_seed(22)
    return torch.randint(3, SMALL["vocab_size"], (2, 16))


def layer_input():
    torch.manual_seed(23)
    return torch.randn(5, SMALL["hidden_size"])


# The two libraries on one matrix, in f32.

def modelopt_dequantize(codes, scales, scale_2, shape):
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    tensor = NVFP4QTensor(shape, torch.float32, codes)
    return tensor.dequantize(
        torch.float32, scale=scales, double_scale=scale_2, block_sizes={-1: 16}
    )


def modelopt_quantize(x, scale_2=None):
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    tensor, scales, scale_2 = NVFP4QTensor.quantize(x.clone(), 16, None, scale_2)
    return tensor._quantized_data, scales, scale_2


SCHEME = preset_name_to_scheme("NVFP4", ["Linear"])


def compressed_dequantize(codes, scales, divisor):
    values = unpack_fp4_from_uint8(codes, codes.shape[0], codes.shape[1] * 2, torch.float32)
    return dequantize(
        values, scales.float(), args=SCHEME.weights, global_scale=divisor, dtype=torch.float32
    )


def compressed_fake_quantize(x, divisor):
    args = SCHEME.input_activations
    scale, zero = compute_dynamic_scales_and_zp(
        x, args, torch.nn.Module(), global_scale=divisor
    )
    return fake_quantize(x, scale, zero, args, global_scale=divisor)


def expect(name, gate, up, xq):
    """What tests compare with: weights and input as the library dequantizes them, and the layer."""
    x1, x2 = xq.double() @ gate.double().T, xq.double() @ up.double().T
    y = torch.nn.functional.silu(x1) * x2
    tensors = {"gate": gate, "up": up, "x": layer_input(), "xq": xq, "y": y}
    (ROOT / "expected").mkdir(exist_ok=True)
    save_file(
        {k: v.float().contiguous() for k, v in tensors.items()},
        ROOT / f"expected/{name}.safetensors",
    )


def expect_modelopt(name, tensors, fused=False):
    def weight(module):
        part = {k: tensors[f"{PREFIX}.{module}.{k}"] for k in ("weight", "weight_scale", "weight_scale_2")}
        codes = part["weight"].view(torch.uint8)
        return modelopt_dequantize(
            codes, part["weight_scale"], part["weight_scale_2"], (codes.shape[0], codes.shape[1] * 2)
        )

    gate, up = weight("gate_up_proj").chunk(2) if fused else map(weight, ("gate_proj", "up_proj"))
    first = "gate_up_proj" if fused else "gate_proj"
    codes, scales, scale_2 = modelopt_quantize(layer_input(), tensors[f"{PREFIX}.{first}.input_scale"])
    expect(name, gate, up, modelopt_dequantize(codes, scales, scale_2, layer_input().shape))


def export_modelopt(model, directory):
    """mtq.quantize with NVFP4_DEFAULT_CFG and export_hf_checkpoint."""
    import modelopt.torch.quantization as mtq
    from modelopt.torch.export import export_hf_checkpoint

    model = mtq.quantize(model, mtq.NVFP4_DEFAULT_CFG, lambda m: m(tokens()))
    with torch.inference_mode():
        export_hf_checkpoint(model, export_dir=directory)
    return load_file(directory / "model.safetensors")


def make_modelopt():
    expect_modelopt("modelopt", export_modelopt(llama(), ROOT / "modelopt"))
    expect_modelopt("modelopt-fused", export_modelopt(phi3(), ROOT / "modelopt-fused"), fused=True)


def make_sharded():
    """NVFP4QTensor.quantize on each projection: two global scales. Codes are F4, scalars have shape
    [1], gate and up lie in different shards."""
    directory = ROOT / "modelopt-sharded"
    directory.mkdir()
    mlp = llama().model.layers[0].mlp
    weight_map, every = {}, {}
    for i, (name, amax) in enumerate((("gate_proj", 5.0), ("up_proj", 4.0)), 1):
        codes, scales, scale_2 = modelopt_quantize(getattr(mlp, name).weight.detach().float())
        tensors = {
            "weight": codes.view(torch.float4_e2m1fn_x2),
            "weight_scale": scales,
            "weight_scale_2": scale_2.reshape(1),
            "input_scale": torch.tensor([amax / 2688]),
        }
        tensors = {f"{PREFIX}.{name}.{k}": v for k, v in tensors.items()}
        shard = f"model-{i:05}-of-00002.safetensors"
        save_file(tensors, directory / shard, {"format": "pt"})
        weight_map |= dict.fromkeys(tensors, shard)
        every |= tensors
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    expect_modelopt("modelopt-sharded", every)


def make_compressed_tensors():
    """The NVFP4 preset with min-max calibration, ModelCompressor.compress_model, update_config."""
    directory = ROOT / "compressed-tensors"
    model = llama()
    groups = QuantizationConfig(config_groups={"group_0": SCHEME}, ignore=["lm_head"])
    inputs = {}

    def watch(name):
        def hook(_, args):
            inputs[name] = args[0].detach().float()

        return hook

    linear = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    hooks = [m.register_forward_pre_hook(watch(n)) for n, m in linear.items()]
    with torch.no_grad():
        model(tokens())
    for hook in hooks:
        hook.remove()
    apply_quantization_config(model, groups)
    with torch.no_grad():
        for name, module in linear.items():
            if not hasattr(module, "quantization_scheme"):
                continue
            weight, x = module.weight.float(), inputs[name]
            module.input_global_scale.copy_(generate_gparam(x.min(), x.max()))
            divisor = generate_gparam(weight.min(), weight.max())
            module.weight_global_scale.copy_(divisor)
            blocks = weight.unflatten(-1, (-1, 16))
            scale, _ = calculate_qparams(
                blocks.amin(-1), blocks.amax(-1), SCHEME.weights, global_scale=divisor
            )
            module.weight_scale.copy_(scale)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(directory)
    compressor.update_config(directory)

    tensors = load_file(directory / "model.safetensors")
    part = lambda module, k: tensors[f"{PREFIX}.{module}.{k}"]
    names = ("weight_packed", "weight_scale", "weight_global_scale")
    gate, up = (
        compressed_dequantize(*(part(m, k) for k in names)) for m in ("gate_proj", "up_proj")
    )
    xq = compressed_fake_quantize(layer_input(), part("gate_proj", "input_global_scale"))
    expect("compressed-tensors", gate, up, xq)


def make_floats():
    llama().save_pretrained(ROOT / "floats")


def check(directory):
    """Loads DIR with the library that its config names and compares it with floats/."""
    floats = load_file(ROOT / "floats/model.safetensors")
    tensors = load_file(directory / "model.safetensors")
    config = json.loads((directory / "config.json").read_text())["quantization_config"]
    modules = [n.removesuffix(".weight_scale") for n in tensors if n.endswith(".weight_scale")]
    if not modules:
        sys.exit(f"{directory}: nothing is quantized")
    for module in modules:
        weight = floats[f"{module}.weight"].float()
        if config["quant_method"] == "modelopt":
            # Gate and up share a global scale unless --separate-globals was given.
            scale_2 = tensors[f"{module}.weight_scale_2"]
            codes, scales, scale_2 = modelopt_quantize(weight, scale_2)
            stored = [tensors[f"{module}.{k}"] for k in ("weight", "weight_scale", "weight_scale_2")]
            back = modelopt_dequantize(*stored, weight.shape)
        else:
            divisor = tensors[f"{module}.weight_global_scale"]
            blocks = weight.unflatten(-1, (-1, 16))
            scales, _ = calculate_qparams(blocks.amin(-1), blocks.amax(-1), SCHEME.weights, divisor)
            from compressed_tensors.compressors.nvfp4.helpers import quantize_and_pack_fp4

            codes, scale_2 = quantize_and_pack_fp4(weight, scales.float(), divisor), divisor
            names = ("weight_packed", "weight_scale", "weight_global_scale")
            stored = [tensors[f"{module}.{k}"] for k in names]
            back = compressed_dequantize(*stored)
        same = [
            (a.view(torch.uint8) == b.view(torch.uint8)).float().mean().item()
            for a, b in zip(stored[:2], (codes, scales.to(torch.float8_e4m3fn)))
        ]
        error = ((back - weight).norm() / weight.norm()).item()
        print(f"{module}: codes {same[0]:.4%} and scales {same[1]:.4%} as the library's,"
              f" global {stored[2].item()!r} (library {scale_2.item()!r}), relative error {error:.4f}")
        # Roundings in another order tip a tie now and then.
        if min(same) < 0.99 or error > 0.12:
            sys.exit(f"{module}: too far apart")
    if config["quant_method"] == "compressed-tensors":
        model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
        with torch.no_grad():
            ours, theirs = model(tokens_ := tokens()).logits, llama()(tokens_).logits
        print(f"transformers loads it; logits differ by {(ours - theirs).abs().max().item():.4f}"
              f" of {theirs.abs().max().item():.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=Path, metavar="DIR")
    args = parser.parse_args()
    try:
        import modelopt
    except ImportError as e:
        sys.exit(f"make_checkpoints.py: {e.name} is not installed ({e})")
    if args.check:
        return check(args.check)
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    make_floats()
    make_compressed_tensors()
    make_sharded()
    make_modelopt()
    for unused in ROOT.rglob("generation_config.json"):
        unused.unlink()
    versions = {m.__name__: m.__version__ for m in (torch, transformers, compressed_tensors, modelopt)}
    versions = ", ".join(f"{k} {v}" for k, v in versions.items())
    (ROOT / "README.md").write_text(
        "Made by `python3 scripts/make_checkpoints.py`, which says how each was quantized and by whose code,\n"
        f"with {versions}.\n"
        "`expected/` has the weights and the input as the library itself dequantizes them, and the layer in f64.\n"
    )


main()
