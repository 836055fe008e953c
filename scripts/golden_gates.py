#!/usr/bin/env python3
"""Writes the golden numbers of the gates to tests/data/gates.txt.

Usage: python3 scripts/golden_gates.py [FILE]

Needs torch (its CPU half), transformers and mpmath. Nothing here uses the crate. Each line is

    gate limit alpha beta x1 x2 library exact

where `library` is what torch or transformers computes in float64 and `exact` the same formula in 60 digits, rounded
once. Both have to agree as well as float64 allows: 1 + tanh(y) cancels in the negative tail, so that `library` is only
good to an absolute error of a few 2^-53 * |x1 * x2| there, and `exact` is the number to compare a relative error with.
Numbers are the shortest decimals that give the same float64; all but the results are float32 values, too.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import mpmath
import torch
import transformers
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "tests" / "data" / "gates.txt")
mp = mpmath.mp.clone()
mp.dps = 60


def f32(value):
    return torch.tensor(value, dtype=torch.float32).item()


def f64(value):
    return torch.tensor(value, dtype=torch.float64)


def silu(x1, x2):
    return (torch.nn.functional.silu(f64(x1)) * f64(x2)).item(), mp.mpf(x1) / (1 + mp.exp(-mp.mpf(x1))) * mp.mpf(x2)


def gelu_tanh(x1, x2):
    library = torch.nn.functional.gelu(f64(x1), approximate="tanh") * f64(x2)
    x = mp.mpf(x1)
    y = mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3)
    # Far down, 1 + tanh(y) cancels in 60 digits, too: 2 / (1 + e^-2y) is the same.
    return library.item(), x / (1 + mp.exp(-2 * y)) * mp.mpf(x2)


def clamped_swiglu(limit, alpha, x1, x2):
    """transformers adds 1: that is beta."""
    experts = SimpleNamespace(limit=limit, alpha=alpha)
    library = GptOssExperts._apply_gate(experts, torch.stack([f64(x1), f64(x2)]))
    gate = min(mp.mpf(x1), mp.mpf(limit))
    up = max(min(mp.mpf(x2), mp.mpf(limit)), -mp.mpf(limit))
    return library.item(), (up + 1) * gate / (1 + mp.exp(-mp.mpf(alpha) * gate))


def neighbor(x, towards):
    return torch.nextafter(torch.tensor(x, dtype=torch.float32), torch.tensor(towards)).item()


def above(x):
    return neighbor(x, float("inf"))


def below(x):
    return neighbor(x, -float("inf"))


TAIL = [-0.5, -1.0, -2.75, -5.0, -6.5, -8.5, -9.75, -11.5, -13.0, -20.0, -38.5, -87.0, -88.0, -88.5, -89.0, -103.5, -150.0, -260.0, -700.0]
OPEN = [1e-30, 1e-3, 0.25, 0.7978, 1.0, 2.0, 3.7, 6.5, 17.0, 90.0, 1e4, 1e30]
X1 = [f32(x) for x in TAIL + [0.0, -1e-30, -1e-3] + OPEN]
X2 = [f32(x) for x in [1.0, -1.0, 0.3, 1e3, -2e4, 1e30, -3e38, 0.0]]

lines = []


def line(name, parameters, x1, x2, result, error):
    library, exact = result
    exact = float(exact)
    assert abs(library - exact) <= error, (name, parameters, x1, x2, library, exact)
    lines.append(" ".join([name, *map(repr, parameters), repr(x1), repr(x2), repr(library), repr(exact)]))


NONE = (0.0, 0.0, 0.0)
for i, x1 in enumerate(X1):
    for x2 in X2[i % 2 :: 2]:
        error = 4 * 2.0**-53 * abs(x1 * x2)
        line("silu", NONE, x1, x2, silu(x1, x2), error)
        line("gelu-tanh", NONE, x1, x2, gelu_tanh(x1, x2), error)

GPT_OSS = (f32(7.0), f32(1.702), 1.0)
for parameters in [GPT_OSS, (f32(0.5), f32(-0.6), 1.0), (f32(100.0), f32(3.3), 1.0)]:
    limit, alpha, _ = parameters
    gates = [limit, above(limit), below(limit), -limit, 2 * limit, f32(1e30)] + X1[::2]
    ups = [limit, above(limit), below(limit), -limit, below(-limit), above(-limit), 3 * limit, f32(-1e30), 0.0, -1.0, f32(0.3)]
    for i, x1 in enumerate(gates):
        x2 = ups[i % len(ups)]
        result = clamped_swiglu(limit, alpha, x1, x2)
        line("clamped", parameters, x1, x2, result, 8 * 2.0**-53 * abs(min(x1, limit)) * (limit + 1))

header = f"# torch {torch.__version__}, transformers {transformers.__version__}, mpmath {mpmath.__version__}"
OUT.write_text("\n".join([header, "# gate limit alpha beta x1 x2 library exact"] + lines) + "\n")
print(f"{OUT.name}: {len(lines)} lines")
