#!/usr/bin/env python3
"""Loads what `nvfp4 quantize` writes with the libraries that it is written for.

    python3 scripts/check_quantize.py NVFP4_BINARY

Makes a tiny Llama with tied embeddings, takes samples of the inputs of its MLPs and of their down
projections, quantizes it in both conventions with samples of all, with those of the MLPs alone (down
projections stay as they are) and weight-only, and asks of each result:

* compressed-tensors' convention: `QuantizationConfig` takes the configuration and `AutoModelForCausalLM`
  loads the folder with no key too many or missing; each loaded weight is what the stored codes, scales
  and divisor mean, computed here; input scales are those of the samples, and a weight-only module has
  none and no scheme of its input; logits are near those of the bf16 model.
* ModelOpt's convention: `convert_hf_quant_config_format` makes config.json's `quantization_config` of
  hf_quant_config.json, and `NVFP4QTensor.dequantize` the same weights as above.

Needs torch, transformers, safetensors and compressed-tensors; the second part nvidia-modelopt, and is
skipped without it. CI does not run this: it has no Python packages.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import compressed_tensors
    import torch
    import transformers
    from compressed_tensors.quantization import QuantizationConfig
    from safetensors.torch import load_file, save_file
except ImportError as e:
    sys.exit(f"check_quantize.py: {e.name} is not installed ({e})")

LAYERS = 2
E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def small_llama():
    torch.manual_seed(7)
    config = transformers.LlamaConfig(
        architectures=["LlamaForCausalLM"], hidden_size=64, intermediate_size=96,
        num_hidden_layers=LAYERS, num_attention_heads=2, num_key_value_heads=1, head_dim=32,
        vocab_size=128, max_position_embeddings=64, tie_word_embeddings=True,
    )
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.gate_proj.weight.mul_(10)
            layer.mlp.up_proj.weight.mul_(30)
    return model.to(torch.bfloat16).eval()


def tokens():
    torch.manual_seed(8)
    return torch.randint(3, 128, (2, 16))


def sample(model):
    """The inputs of the MLPs, by the names that --calibrate looks for."""
    inputs = {}

    def watch(name):
        return lambda _, args: inputs.__setitem__(name, args[0].detach().float().contiguous())

    hooks = [
        module.register_forward_pre_hook(watch(name))
        for i, layer in enumerate(model.model.layers)
        for name, module in (
            (f"model.layers.{i}.mlp", layer.mlp),
            (f"model.layers.{i}.mlp.down_proj", layer.mlp.down_proj),
        )
    ]
    with torch.no_grad():
        logits = model(tokens()).logits.float()
    for hook in hooks:
        hook.remove()
    return inputs, logits


def expect(what, holds):
    print(f"  {'ok' if holds else 'WRONG'}: {what}")
    if not holds:
        sys.exit(1)


def weight(codes, scales, multiplier):
    """What the stored tensors mean, in f32."""
    low_and_high = torch.stack([codes & 15, codes >> 4], -1).flatten(1)
    values = E2M1[low_and_high.long()].unflatten(-1, (-1, 16))
    return (values * scales.float().unsqueeze(-1)).flatten(1) * multiplier


def check_compressed_tensors(out, inputs, logits, with_down):
    stored = load_file(out / "model.safetensors")
    config = json.loads((out / "config.json").read_text())["quantization_config"]
    QuantizationConfig.model_validate(config)
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        out, dtype=torch.bfloat16, output_loading_info=True
    )
    wrong = {k: v for k, v in info.items() if v}
    expect(f"transformers finds every key where it belongs {wrong or ''}", not wrong)
    with torch.no_grad():
        ours = model.eval()(tokens()).logits.float()
    distance = ((ours - logits).norm() / logits.norm()).item()
    expect(f"logits are finite and {distance:.3f} from those in bf16", 0 < distance < 0.4)
    for i, layer in enumerate(model.model.layers):
        for name in ("gate_proj", "up_proj", "down_proj"):
            prefix, module = f"model.layers.{i}.mlp.{name}", getattr(layer.mlp, name)
            scheme = getattr(module, "quantization_scheme", None)
            if name == "down_proj" and not with_down:
                expect(f"{prefix}: left in bf16", scheme is None and f"{prefix}.weight" in stored)
                continue
            part = lambda last: stored[f"{prefix}.{last}"]
            divisor = part("weight_global_scale")
            meant = weight(part("weight_packed"), part("weight_scale"), 1 / divisor)
            from compressed_tensors.compressors import NVFP4PackedCompressor

            local = {k.removeprefix(f"{prefix}."): v for k, v in stored.items() if k.startswith(prefix)}
            theirs = NVFP4PackedCompressor.decompress(local, module.quantization_scheme)["weight"]
            same = torch.equal(theirs, meant.to(theirs.dtype))
            expect(f"{prefix}: the compressor's weight is the stored one", same)
            if inputs:
                amax = inputs[f"model.layers.{i}.mlp" if name != "down_proj" else prefix].abs().max()
                loaded, expected = module.input_global_scale.item(), (torch.tensor(2688.0) / amax).item()
                expect(f"{prefix}: input scale {loaded!r}", loaded == expected)
            else:
                none = getattr(module, "input_global_scale", None) is None
                expect(f"{prefix}: no input scale", none and scheme.input_activations is None)


def check_modelopt(out, same_as):
    try:
        from modelopt.torch.export.convert_hf_config import convert_hf_quant_config_format
        from modelopt.torch.quantization.qtensor import NVFP4QTensor
    except ImportError as e:
        return print(f"  skipped: {e.name} is not installed")
    own = json.loads((out / "hf_quant_config.json").read_text())
    config = json.loads((out / "config.json").read_text())["quantization_config"]
    expected = convert_hf_quant_config_format(own)
    expect("config.json says what ModelOpt makes of hf_quant_config.json", expected | {"quant_method": "modelopt"} == config)
    stored, theirs = load_file(out / "model.safetensors"), load_file(same_as / "model.safetensors")
    for name in (n.removesuffix(".weight_scale") for n in stored if n.endswith(".weight_scale")):
        codes, scales = stored[f"{name}.weight"], stored[f"{name}.weight_scale"]
        shape = (codes.shape[0], codes.shape[1] * 2)
        multiplier = stored[f"{name}.weight_scale_2"]
        meant = weight(codes, scales, multiplier)
        read = NVFP4QTensor(shape, torch.float32, codes).dequantize(
            torch.float32, scale=scales, double_scale=multiplier, block_sizes={-1: 16}
        )
        # The library multiplies the two scales first.
        expect(f"{name}: ModelOpt's weight is the stored one", torch.allclose(read, meant, rtol=3e-7))
        divisor = theirs[f"{name}.weight_global_scale"]
        expect(f"{name}: scales of both conventions agree", abs(divisor * multiplier - 1).item() < 3e-7)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    binary = Path(sys.argv[1]).resolve()
    packages = (torch, transformers, compressed_tensors)
    print(", ".join(f"{m.__name__} {m.__version__}" for m in packages))
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        model = small_llama()
        model.save_pretrained(work / "bf16")
        inputs, logits = sample(model)
        of_mlps = {k: v for k, v in inputs.items() if k.endswith("mlp")}
        for what, samples in (("calibrated", inputs), ("calibrated but for down", of_mlps), ("weight-only", None)):
            outs = {}
            for convention in ("compressed-tensors", "modelopt"):
                out = outs[convention] = work / f"{convention}-{what}".replace(" ", "-")
                command = [binary, "quantize", work / "bf16", "-o", out, "--convention", convention]
                if samples is None:
                    command.append("--weight-only")
                else:
                    save_file(samples, work / "inputs.safetensors")
                    command += ["--calibrate", work / "inputs.safetensors"]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                print(f"{convention}, {what}")
                if convention == "modelopt":
                    check_modelopt(out, outs["compressed-tensors"])
                else:
                    check_compressed_tensors(out, samples, logits, samples is not of_mlps)


main()
