"""A whole MLP of a checkpoint in float64, with numpy and ml_dtypes alone.

    y = down(glu(x·gateᵀ + b_gate, x·upᵀ + b_up)) + b_down

It reads the file itself, so that nothing of it is the code of a library that wrote the file or of the one
that is tested. Activations are quantized, by stored scales, where the layer is W4A4: as the file of
docs/formats.md says, scale = e4m3(amax/6/global) and code = e2m1(v/(scale·global)) in f32.
"""

import copy
import json
import math

import ml_dtypes
import numpy as np

DTYPES = {
    "U8": np.uint8, "F8_E4M3": ml_dtypes.float8_e4m3fn, "F32": np.float32, "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
}


def read(path):
    """The tensors of a safetensors file."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, data = json.loads(data[8 : 8 + length]), data[8 + length :]
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(data[slice(*t["data_offsets"])], DTYPES[t["dtype"]]).reshape(t["shape"])
        for name, t in header.items()
        if t["dtype"] in DTYPES
    }


def values(codes, scales, multiplier):
    """What codes [N, K/2], scales [N, K/16] and a global scale stand for."""
    pairs = np.stack([codes & 15, codes >> 4], -1).reshape(codes.shape[0], -1)
    e2m1 = pairs.astype(np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float64)
    return e2m1 * np.repeat(scales.astype(np.float64), 16, -1) * float(multiplier)


def quantized(x, multiplier):
    """The NVFP4 values of x [M, K] under a global scale."""
    blocks = x.astype(np.float32).reshape(x.shape[0], -1, 16)
    multiplier = np.float32(multiplier)
    scale = np.abs(blocks).max(-1, keepdims=True) / np.float32(6) / multiplier
    scale = np.minimum(scale, np.float32(448)).astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
    step = scale * multiplier
    ratio = np.divide(blocks, step, out=np.zeros_like(blocks), where=step != 0)
    codes = np.clip(ratio, -6, 6).astype(ml_dtypes.float4_e2m1fn).astype(np.float64)
    return (codes * scale.astype(np.float64) * float(multiplier)).reshape(x.shape)


class Projection:
    """Weight, bias and the global scale of the input of one module."""

    def __init__(self, tensors, module):
        get = lambda last: tensors.get(f"{module}.{last}")
        if get("weight_packed") is not None:
            codes, scale = get("weight_packed"), 1 / get("weight_global_scale").reshape(())
            self.input = get("input_global_scale")
            self.input = None if self.input is None else 1 / self.input.reshape(())
        else:
            codes, scale = get("weight"), get("weight_scale_2").reshape(())
            self.input = get("input_scale")
        self.weight = values(codes, get("weight_scale"), scale)
        bias = get("bias")
        self.bias = np.zeros(len(codes)) if bias is None else bias.astype(np.float64)

    def rows(self, of):
        """The projection of some of the rows."""
        part = copy.copy(self)
        part.weight, part.bias = self.weight[of], self.bias[of]
        return part

    def __call__(self, x):
        return x @ self.weight.T + self.bias


def silu(gate, up):
    return gate / (1 + np.exp(-gate)) * up


def mlp(path, prefix, x, four_bits):
    """h and y for the layer at a prefix of a file. `four_bits` is whether activations are quantized."""
    tensors = read(path)
    read_one = lambda name: Projection(tensors, f"{prefix}.{name}_proj")
    if f"{prefix}.gate_up_proj.weight_scale" in tensors:
        both = read_one("gate_up")
        half = len(both.weight) // 2
        gate, up = both.rows(slice(half)), both.rows(slice(half, None))
    else:
        gate, up = read_one("gate"), read_one("up")
    down = read_one("down")
    if four_bits:
        x = quantized(x, max(gate.input, up.input))
    else:
        assert gate.input is None and down.input is None, "a weight-only layer with input scales"
    h = silu(gate(x.astype(np.float64)), up(x.astype(np.float64)))
    assert all(math.isfinite(v) for v in h.flat)
    return h, down(quantized(h, down.input) if four_bits else h)
