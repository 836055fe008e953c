#!/usr/bin/env python3
"""Makes the checkpoints of tests/data/checkpoints with the real libraries.

    python3 scripts/make_checkpoints.py             write tests/data/checkpoints anew
    python3 scripts/make_checkpoints.py --whole      write those of whole MLPs anew, and nothing else
    python3 scripts/make_checkpoints.py --check DIR  read what `nvfp4 quantize` made of floats/ into DIR

Needs torch, transformers, safetensors, nvidia-modelopt (and requests, which it imports),
compressed-tensors, numpy and ml_dtypes. The files are committed: tests do not need Python.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

try:
    import compressed_tensors
    import mlp_reference
    import numpy
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


def llama(bias=False):
    """A tiny Llama in bf16 whose up projection is 3 times as large as its gate projection."""
    torch.manual_seed(20)
    more = {"mlp_bias": True} if bias else {}
    config = transformers.LlamaConfig(architectures=["LlamaForCausalLM"], **SMALL, **more)
    model = transformers.LlamaForCausalLM(config)
    mlp = model.model.layers[0].mlp
    with torch.no_grad():
        mlp.gate_proj.weight.mul_(10)
        mlp.up_proj.weight.mul_(30)
        for name in ("gate_proj", "up_proj", "down_proj") if bias else ():
            getattr(mlp, name).bias.normal_()
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


def export_modelopt(model, directory, config="NVFP4_DEFAULT_CFG"):
    """mtq.quantize with NVFP4_DEFAULT_CFG, or another of its configurations, and export_hf_checkpoint."""
    import modelopt.torch.quantization as mtq
    from modelopt.torch.export import export_hf_checkpoint

    model = mtq.quantize(model, getattr(mtq, config), lambda m: m(tokens()))
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


def compress(model, directory, preset):
    """A preset with min-max calibration, ModelCompressor.compress_model, update_config."""
    scheme = preset_name_to_scheme(preset, ["Linear"])
    groups = QuantizationConfig(config_groups={"group_0": scheme}, ignore=["lm_head"])
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
            if scheme.input_activations is not None:
                module.input_global_scale.copy_(generate_gparam(x.min(), x.max()))
            divisor = generate_gparam(weight.min(), weight.max())
            module.weight_global_scale.copy_(divisor)
            blocks = weight.unflatten(-1, (-1, 16))
            scale, _ = calculate_qparams(
                blocks.amin(-1), blocks.amax(-1), scheme.weights, global_scale=divisor
            )
            module.weight_scale.copy_(scale)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(directory)
    compressor.update_config(directory)


def make_compressed_tensors():
    directory = ROOT / "compressed-tensors"
    compress(llama(), directory, "NVFP4")
    tensors = load_file(directory / "model.safetensors")
    part = lambda module, k: tensors[f"{PREFIX}.{module}.{k}"]
    names = ("weight_packed", "weight_scale", "weight_global_scale")
    gate, up = (
        compressed_dequantize(*(part(m, k) for k in names)) for m in ("gate_proj", "up_proj")
    )
    xq = compressed_fake_quantize(layer_input(), part("gate_proj", "input_global_scale"))
    expect("compressed-tensors", gate, up, xq)


def make_whole():
    """Whole MLPs: those with biases and the weight-only ones of both libraries, and what the reference
    makes of these and of the plain ones."""
    makers = {
        "modelopt-bias": lambda d: export_modelopt(llama(bias=True), d),
        "modelopt-weight-only": lambda d: export_modelopt(llama(), d, "W4A16_NVFP4_CFG"),
        "compressed-tensors-bias": lambda d: compress(llama(bias=True), d, "NVFP4"),
        "compressed-tensors-weight-only": lambda d: compress(llama(bias=True), d, "NVFP4A16"),
    }
    for name, make in makers.items():
        shutil.rmtree(ROOT / name, ignore_errors=True)
        make(ROOT / name)
    # Exact in 16 bits, as weight-only layers take it.
    x = layer_input().to(torch.bfloat16).float().numpy()
    for name in ("modelopt", "modelopt-fused", "compressed-tensors", *makers):
        path = ROOT / name / "model.safetensors"
        h, y = mlp_reference.mlp(path, PREFIX, x, four_bits="weight-only" not in name)
        save_mlp(name, x=x, h=h, y=y)
        if name == "modelopt":
            samples = {"x": x, f"{PREFIX}.down_proj.input": h}
            save_file({k: torch.from_numpy(numpy.float32(v)) for k, v in samples.items()}, ROOT / "samples.safetensors")
    make_gpt_oss()


def save_mlp(name, **arrays):
    (ROOT / "expected").mkdir(exist_ok=True)
    tensors = {k: torch.from_numpy(numpy.ascontiguousarray(v, numpy.float32)) for k, v in arrays.items()}
    save_file(tensors, ROOT / f"expected/{name}-mlp.safetensors")


def make_gpt_oss():
    """Two experts of gpt-oss, one module for each projection, and what GptOssExperts makes of them in float64:
    rows of gate and up in turns, clamped SwiGLU, biases. x and the weights are large enough to be clamped."""
    from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts

    torch.manual_seed(24)
    experts, k, n = 2, 32, 48
    config = transformers.GptOssConfig(
        num_hidden_layers=1, num_local_experts=experts, hidden_size=k, intermediate_size=n,
        num_attention_heads=1, num_key_value_heads=1, head_dim=16, vocab_size=32, num_experts_per_tok=1,
        architectures=["GptOssForCausalLM"], pad_token_id=0, eos_token_id=2,
    )
    module = GptOssExperts(config).double()
    stored = {}

    def weight(name, rows, cols):
        codes, scales, scale_2 = modelopt_quantize(torch.randn(rows, cols))
        stored[f"{name}.weight"], stored[f"{name}.weight_scale"] = codes, scales
        stored[f"{name}.weight_scale_2"] = scale_2.reshape(())
        parts = (codes.numpy(), scales.view(torch.uint8).numpy().view(mlp_reference.DTYPES["F8_E4M3"]))
        return torch.from_numpy(mlp_reference.values(*parts, scale_2.item()))

    def bias(name, rows):
        stored[f"{name}.bias"] = torch.randn(rows).to(torch.bfloat16)
        return stored[f"{name}.bias"].double()

    with torch.no_grad():
        for e in range(experts):
            name = lambda p: f"{PREFIX}.experts.{e}.{p}_proj"
            for first, p in enumerate(("gate", "up")):
                module.gate_up_proj[e, :, first::2] = weight(name(p), n, k).T
                module.gate_up_proj_bias[e, first::2] = bias(name(p), n)
            module.down_proj[e] = weight(name("down"), k, n).T
            module.down_proj_bias[e] = bias(name("down"), k)
    x = (2 * torch.randn(5, k)).to(torch.bfloat16).double()
    arrays = {"x": x.numpy()}
    with torch.no_grad():
        for e in range(experts):
            gate_up = x @ module.gate_up_proj[e] + module.gate_up_proj_bias[e]
            clamped = (gate_up.abs() > config.swiglu_limit).double().mean().item()
            assert 0.05 < clamped < 0.95, clamped
            chosen = torch.full((5, 1), e), torch.ones(5, 1, dtype=torch.float64)
            arrays |= {f"h{e}": module._apply_gate(gate_up).numpy(), f"y{e}": module(x, *chosen).numpy()}
    directory = ROOT / "gpt-oss"
    directory.mkdir(exist_ok=True)
    save_file(stored, directory / "model.safetensors", {"format": "pt"})
    config.save_pretrained(directory)
    save_mlp("gpt-oss", **arrays)


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
    parser.add_argument("--whole", action="store_true")
    args = parser.parse_args()
    try:
        import modelopt
    except ImportError as e:
        sys.exit(f"make_checkpoints.py: {e.name} is not installed ({e})")
    if args.check:
        return check(args.check)
    if not args.whole:
        shutil.rmtree(ROOT, ignore_errors=True)
        ROOT.mkdir(parents=True)
        make_floats()
        make_compressed_tensors()
        make_sharded()
        make_modelopt()
    make_whole()
    for unused in ROOT.rglob("generation_config.json"):
        unused.unlink()
    versions = {m.__name__: m.__version__ for m in (torch, transformers, compressed_tensors, modelopt)}
    versions = ", ".join(f"{k} {v}" for k, v in versions.items())
    if args.whole:
        return print(f"whole MLPs made with {versions}: say so in {ROOT / 'README.md'}")
    (ROOT / "README.md").write_text(
        "Made by `python3 scripts/make_checkpoints.py`, which says how each was quantized and by whose code,\n"
        f"with {versions}.\n"
        "`expected/` has the weights and the input as the library itself dequantizes them, and the layer in f64;\n"
        "`expected/*-mlp` the whole MLP in f64, of `scripts/mlp_reference.py` or of `GptOssExperts`;\n"
        "`samples.safetensors` inputs of gate, up and down to calibrate with, of the plain MLP.\n"
    )


main()
