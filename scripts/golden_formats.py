#!/usr/bin/env python3
"""Writes the golden vectors of the format tests to tests/data/.

Usage: python3 scripts/golden_formats.py [DIRECTORY]

Needs numpy, ml_dtypes and torch; with compressed-tensors and nvidia-modelopt it writes their vectors,
too. Nothing here uses the crate: every vector comes from those packages or from a formulation of its
own. Where two packages define the same thing, both are asked and have to agree.
"""

import importlib
import sys
from pathlib import Path


def need(name, optional=False):
    try:
        return importlib.import_module(name)
    except ImportError:
        if optional:
            print(f"{name} is missing: its vectors are left as they are")
            return None
        sys.exit(f"{name} is missing: pip install {name.replace('_', '-')}")


np = need("numpy")
ml_dtypes = need("ml_dtypes")
torch = need("torch")

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "tests" / "data")
F8 = torch.float8_e4m3fn
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)


def write(name, lines):
    text = "".join(line + "\n" for line in lines)
    (OUT / name).write_text(text)
    print(f"{name}: {len(text)} bytes")


def hexes(array):
    """Unsigned integers, each with all its digits, one after the other."""
    return array.astype(f">u{array.itemsize}").tobytes().hex()


# -- Elements ------------------------------------------------------------------------------------


def all_16_bit(dtype):
    """Every finite value of a 16-bit float type, in the order of its bits."""
    bits = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    values = bits.view(dtype).astype(np.float32)
    finite = np.isfinite(values)
    return bits[finite], values[finite]


def runs(bits, codes):
    """`first last code` for each run of neighboring bit patterns with the same code."""
    lines = []
    start = 0
    for i in range(1, len(bits) + 1):
        if i == len(bits) or codes[i] != codes[start] or int(bits[i]) != int(bits[i - 1]) + 1:
            lines.append(f"{bits[start]:04x} {bits[i - 1]:04x} {codes[start]:02x}")
            start = i
    return lines


def e2m1_code(values):
    """ml_dtypes rounds to nearest even and saturates: float4_e2m1fn has no infinity."""
    codes = np.asarray(values, np.float32).astype(ml_dtypes.float4_e2m1fn).view(np.uint8) & 15
    # The same by distances, ties to the even code.
    distance = np.abs(np.minimum(np.abs(values), 6)[:, None].astype(np.float64) - E2M1.astype(np.float64))
    nearest = distance == distance.min(axis=1, keepdims=True)
    even = np.where(nearest, np.array([0, 1, 0, 1, 0, 1, 0, 1]), 2).argmin(axis=1)
    assert (codes == (even | np.signbit(values).astype(np.uint8) << 3)).all()
    return codes


def ue4m3_byte(values):
    """Saturating: beyond 448 torch has its own rules, so the contract's clamp comes first."""
    clamped = np.minimum(values, np.float32(448))
    by_torch = torch.from_numpy(clamped).to(F8).view(torch.uint8).numpy()
    by_ml_dtypes = clamped.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    assert (by_torch == by_ml_dtypes).all()
    return by_torch


for name, dtype in [("f16", np.float16), ("bf16", ml_dtypes.bfloat16)]:
    bits, values = all_16_bit(dtype)
    write(f"e2m1_of_{name}.txt", runs(bits, e2m1_code(values)))
    positive = bits < 0x8000
    write(f"ue4m3_of_{name}.txt", runs(bits[positive], ue4m3_byte(values[positive])))

all_bytes = np.arange(256, dtype=np.uint8)
by_torch = torch.from_numpy(all_bytes.copy()).view(F8).float().numpy()
by_ml_dtypes = all_bytes.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
assert ((by_torch == by_ml_dtypes) | (np.isnan(by_torch) & np.isnan(by_ml_dtypes))).all()
write(
    "e4m3_values.txt",
    [f"{b:02x} " + ("nan" if np.isnan(v) else f"{v.view(np.uint32):08x}") for b, v in zip(all_bytes, by_torch)],
)

# The float32 neighbors of every tie and bound: a rounding by way of a smaller type fails here.
edges = []
for t in [0.0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 3e38]:
    t = np.float32(t)
    edges += [t, np.nextafter(t, np.float32(0)), np.nextafter(t, np.float32(np.inf))]
edges = np.unique(np.array([e for e in edges if np.isfinite(e)], np.float32))
edges = np.concatenate([edges, -edges])
write("e2m1_of_f32.txt", [f"{v.view(np.uint32):08x} {c:02x}" for v, c in zip(edges, e2m1_code(edges))])

values = by_torch[:127]
ties = (values[:-1] + values[1:]) / 2
edges = np.concatenate([values, ties, [np.float32(464), np.float32(1e30)]]).astype(np.float32)
edges = np.concatenate([edges, np.nextafter(edges, np.float32(0)), np.nextafter(edges, np.float32(np.inf))])
edges = np.unique(edges)
write("ue4m3_of_f32.txt", [f"{v.view(np.uint32):08x} {c:02x}" for v, c in zip(edges, ue4m3_byte(edges))])

# torch has float4_e2m1fn_x2 as a name for bytes only: no conversion shows its nibble order. That order
# is in the vectors of compressed-tensors and ModelOpt below.

# -- The 128x4 layout ------------------------------------------------------------------------------


def to_128x4(scales):
    """Pad, cut into tiles of 128x4, and within a tile put the four groups of 32 rows side by side."""
    batch, rows, cols = scales.shape
    rt, ct = -(-rows // 128), -(-cols // 4)
    padded = np.zeros((batch, rt * 128, ct * 4), scales.dtype)
    padded[:, :rows, :cols] = scales
    tiles = padded.reshape(batch, rt, 4, 32, ct, 4)
    return tiles.transpose(0, 1, 4, 3, 2, 5).reshape(batch, -1)


lines = []
for batch, rows, cols in [(1, 1, 1), (1, 128, 4), (2, 130, 5), (1, 257, 9), (3, 33, 6), (1, 96, 20)]:
    # Numbered from 1, so that zero is padding.
    index = np.arange(1, batch * rows * cols + 1, dtype=np.uint16).reshape(batch, rows, cols)
    lines.append(f"{batch} {rows} {cols} {hexes(to_128x4(index))}")
write("scale_layout.txt", lines)

# -- The two-level quantizer -----------------------------------------------------------------------


def contract(x, global_scale=None):
    """The formulas of the contract in torch's float32 arithmetic."""
    x = x.float()
    amax = x.abs().max()
    if global_scale is None:
        global_scale = amax / torch.tensor(6.0 * 448.0) if amax > 0 else torch.tensor(1.0)
        global_scale = global_scale.clamp(min=2.0**-149)  # it has to be > 0
    blocks = x.reshape(-1, 16)
    block_amax = blocks.abs().amax(dim=1)
    scale = (block_amax / 6.0 / global_scale).clamp(max=448).to(F8)
    scale = torch.where((scale.float() == 0) & (block_amax > 0), torch.tensor(2.0**-9), scale.float())
    unit = scale * global_scale
    q = torch.where(blocks == 0, blocks, blocks / unit[:, None])
    q = q.clamp(-6, 6).numpy()
    codes = q.astype(ml_dtypes.float4_e2m1fn).view(np.uint8) & 15
    return global_scale, pack(codes), scale.to(F8).view(torch.uint8).numpy()


def pack(codes):
    codes = codes.reshape(-1, 2)
    return codes[:, 0] | codes[:, 1] << 4


def raw(x):
    if x.dtype == torch.float32:
        return x.numpy().view(np.uint32)
    return x.view(torch.int16).numpy().view(np.uint16)


TYPES = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}


def line(name, x, global_scale, codes, scales):
    g = np.float32(float(global_scale)).view(np.uint32)
    rows, cols = x.shape
    return f"{name} {TYPES[x.dtype]} {rows} {cols} {g:08x} {hexes(raw(x))} {hexes(codes)} {hexes(scales)}"


def inputs():
    torch.manual_seed(20260)
    rows, cols = 12, 64

    def normal(std=1.0):
        return torch.randn(rows, cols) * std

    for dtype in TYPES:
        yield "normal", normal(0.02).to(dtype)
    yield "wide", torch.ldexp(normal(), torch.randint(-40, 40, (rows, cols)))
    x = normal().to(torch.float16)
    x[0] = 0.0
    x[1, :16] = -0.0
    x[2, ::3] = 0.0
    x[3, ::5] = -0.0
    yield "zeros", x
    yield "all_zero", torch.tensor([[0.0, -0.0] * 16])
    for dtype in TYPES:
        x = normal(1e-3)
        x[5, 17], x[7, 40] = 60.0, -600.0
        yield "outliers", x.to(dtype)
    # Blocks whose scales are subnormal or underflow, next to one that needs 448.
    x = torch.ldexp(normal(), torch.arange(0, -rows, -1)[:, None] * 2)
    yield "subnormal_scales", x
    yield "subnormal_f16", torch.randint(-0x3FF, 0x400, (rows, cols)).float().mul(2.0**-24).to(torch.float16)
    yield "subnormal_f32", torch.randint(-1000, 1000, (rows, cols)).float() * 2.0**-149
    yield "tiny", normal() * 1e-36
    yield "huge", (normal() * 1e38).clamp(-3.4e38, 3.4e38)
    # Quotients that are exact ties: global is 2^-3, so every unit is a scale byte times that.
    ties = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0])
    x = torch.cat([ties, -ties]).repeat(rows, cols // 16)
    x = x * torch.arange(1, rows * cols // 16 + 1).reshape(rows, -1).repeat_interleave(16, 1) / 8
    x[0, 0] = 336.0
    yield "ties", x
    yield "ties_bf16", x.to(torch.bfloat16)


lines = []
for name, x in inputs():
    lines.append(line(name, x, *contract(x)))
torch.manual_seed(7)
for name, global_scale in [("saturating", 1e-5), ("coarse", 1.0), ("least", 2.0**-149), ("greatest", 3e38)]:
    x = torch.randn(12, 64)
    x[0, :5] = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 1e-40])
    lines.append(line(name, x, *contract(x, torch.tensor(global_scale))))
write("quantize.txt", lines)

# -- The quantizers of the checkpoints' makers -----------------------------------------------------
#
# Both differ from the contract in three ways:
# * a block of zeros gets a scale that is not 0 (its values are the same), and -0 loses its sign; the
#   data here has no zeros;
# * ModelOpt computes amax / (6·global), one rounding less; compressed-tensors computes
#   (2688/amax) · amax(block)/6. A block scale next to a tie of e4m3 could go the other way; none does
#   in this data;
# * compressed-tensors computes x / (scale / divisor): a quotient next to a tie of e2m1 can go the
#   other way. bf16 data has a few such quotients, which are checked to be just that.


def peer_inputs():
    torch.manual_seed(4)
    for dtype in TYPES:
        x = (torch.randn(16, 128) * 0.03).to(dtype)
        x[x == 0] = 0.01
        yield x


def compare(who, x, codes, scales, global_scale):
    _, want_codes, want_scales = contract(x, global_scale)
    assert (scales == want_scales).all()
    unpacked, want = (np.stack([c & 15, c >> 4], 1).reshape(-1) for c in (codes, want_codes))
    differ = unpacked != want
    unit = torch.from_numpy(scales.copy()).view(F8).double() * global_scale.double()
    q = (x.double().reshape(-1, 16) / unit[:, None]).abs().numpy().reshape(-1)[differ]
    ties = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
    assert (np.abs(q[:, None] / ties - 1).min(axis=1, initial=1) < 2.0**-21).all()
    print(f"{who} {TYPES[x.dtype]}: {differ.sum()} of {differ.size} codes differ, all at ties")


lines = []
modelopt = need("modelopt.torch.quantization.qtensor.nvfp4_tensor", optional=True)
if modelopt:
    for x in peer_inputs():
        q, scale, global_scale = modelopt.NVFP4QTensor.quantize(x.clone(), 16)
        codes = q._quantized_data.numpy().reshape(-1)
        scales = scale.view(torch.uint8).numpy().reshape(-1)
        compare("modelopt", x, codes, scales, global_scale.reshape(()))
        lines.append(line("modelopt", x, global_scale, codes, scales))
    write("quantize_modelopt.txt", lines)

lines = []
helpers = need("compressed_tensors.quantization.utils.helpers", optional=True)
if helpers:
    from compressed_tensors.compressors.nvfp4.helpers import pack_fp4_to_uint8
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import quantize

    args = QuantizationArgs(
        num_bits=4, type="float", strategy="tensor_group", group_size=16, symmetric=True,
        scale_dtype=F8, zp_dtype=F8,
    )
    for x in peer_inputs():
        x32 = x.float()
        divisor = helpers.generate_gparam(x32.min(), x32.max())
        groups = x32.reshape(x.shape[0], -1, 16)
        scale, zero = helpers.calculate_qparams(groups.amin(-1), groups.amax(-1), args, global_scale=divisor)
        q = quantize(x32, scale, zero, args, global_scale=divisor)
        codes = pack_fp4_to_uint8(q).numpy().reshape(-1)
        scales = scale.to(F8).view(torch.uint8).numpy().reshape(-1)
        # The multiplier of the contract, not 1/divisor: both are roundings of amax/2688.
        global_scale = x32.abs().max() / torch.tensor(2688.0)
        compare("compressed-tensors", x, codes, scales, global_scale)
        lines.append(line("compressed-tensors", x, global_scale, codes, scales))
    write("quantize_compressed_tensors.txt", lines)
