#!/usr/bin/env python3
"""What a user would otherwise run on a CPU: the SwiGLU dual GEMM over dequantized NVFP4 weights.

    python3 benches/peers/cpu.py [--threads N] [--repeat R] [--slow] M,N,K [M,N,K ...]

One line a peer: name, then for each shape a tab and the times in ms ("-" where it cannot run).
Every peer is warmed up twice, and weights are dequantized (and prepacked) outside of the timing
unless the name says otherwise. Needs torch and numpy.
"""

import argparse
import os
import sys
import time

arguments = argparse.ArgumentParser()
arguments.add_argument("--threads", type=int, default=os.cpu_count())
arguments.add_argument("--repeat", type=int, default=15)
arguments.add_argument("--slow", action="store_true", help="also dequantize in each call")
arguments.add_argument("shapes", nargs="+")
arguments = arguments.parse_args()
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = str(arguments.threads)

try:
    import numpy
    import torch
except ImportError as missing:
    sys.exit(f"{missing}: the peers need torch and numpy")

torch.set_num_threads(arguments.threads)
torch.manual_seed(1)
silu = torch.nn.functional.silu
E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def operand(rows, k):
    """Packed codes and scale factors with values of about one."""
    codes = torch.randint(0, 256, (rows, k // 2), dtype=torch.uint8)
    scales = (torch.rand(rows, k // 16) * 0.02 + 0.01).to(torch.float8_e4m3fn)
    return codes, scales


def dequantize(packed, dtype):
    codes, scales = packed
    nibbles = torch.stack((codes & 15, codes >> 4), dim=-1).view(codes.shape[0], -1).int()
    values = E2M1.to(dtype)[nibbles].view(codes.shape[0], -1, 16)
    return (values * scales.to(dtype).unsqueeze(-1)).view(codes.shape[0], -1)


def plain(a, b1, b2):
    return lambda: silu(a @ b1.T) * (a @ b2.T)


def torch_dtype(dtype):
    return lambda packed, f32: plain(*(x.to(dtype) for x in f32))


def torch_f32_bf16_math(packed, f32):
    run = plain(*f32)

    def medium():
        torch.set_float32_matmul_precision("medium")
        try:
            return run()
        finally:
            torch.set_float32_matmul_precision("highest")

    return medium


def torch_prepacked(packed, f32):
    a, b1, b2 = (x.to(torch.bfloat16) for x in f32)
    pack = torch.ops.mkldnn._reorder_linear_weight
    linear = torch.ops.mkldnn._linear_pointwise
    p1, p2 = pack(b1, a.shape[0]), pack(b2, a.shape[0])
    return lambda: silu(linear(a, p1, None, "none", [], "")) * linear(a, p2, None, "none", [], "")


def torch_packed(packed, f32):
    a = f32[0].to(torch.bfloat16)
    _, b1, b2 = packed
    return lambda: plain(a, dequantize(b1, torch.bfloat16), dequantize(b2, torch.bfloat16))()


def numpy_f32(packed, f32):
    a, b1, b2 = (x.numpy() for x in f32)

    def run():
        gate = a @ b1.T
        return gate / (1 + numpy.exp(-gate)) * (a @ b2.T)

    return run


PEERS = {
    "torch bf16, oneDNN-prepacked": torch_prepacked,
    "torch bf16, dequantized once": torch_dtype(torch.bfloat16),
    "torch f32 tensors, bf16 math": torch_f32_bf16_math,
    "torch f32, dequantized once": torch_dtype(torch.float32),
    "numpy f32, dequantized once": numpy_f32,
}
if arguments.slow:
    PEERS["torch bf16, dequantized in each call"] = torch_packed


def times_ms(run):
    for _ in range(2):
        run()
    times = []
    for _ in range(arguments.repeat):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return " ".join(f"{t:.3f}" for t in times)


table = {name: [] for name in PEERS}
with torch.no_grad():
    for shape in arguments.shapes:
        m, n, k = map(int, shape.split(","))
        packed = operand(m, k), operand(n, k), operand(n, k)
        f32 = [dequantize(x, torch.float32) for x in packed]
        for name, make in PEERS.items():
            try:
                table[name].append(times_ms(make(packed, f32)))
            except (RuntimeError, NotImplementedError, AttributeError) as error:
                print(f"{name}, {shape}: {str(error).splitlines()[0]}", file=sys.stderr)
                table[name].append("-")
for name, times in table.items():
    print("\t".join([name, *times]), flush=True)
