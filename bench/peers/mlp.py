#!/usr/bin/env python3
"""What a user would otherwise run on a GPU: the whole MLP of NVFP4 weights with fp16 activations.

    python3 bench/peers/mlp.py [--peers NAME,...] [--rounds R] [--budget S] [--warm] [--json FILE] K,N,H,M [K,N,H,M ...]

`nvfp4 bench --backend cuda --mlp --peers` starts it with --serve and takes turns with it, over the same weights and x.
Times and checks are those of gpu.py, which lies beside it; results are compared with y in float64 of activations that
are not quantized.

    cublas      fp16 weights, dequantized ahead of time and rounded: torch.mm on [gate; up] or on each, one silu*mul
                kernel, torch.mm on down
    humming     W4A16 NVFP4 of PyPI's humming-kernels on [gate; up], the same kernel, and on down

Needs torch and triton; humming is looked for on PYTHONPATH.
"""

import types

import gpu
import torch

PEERS = {"cublas": "cuBLAS fp16, dequantized ahead", "humming": "Humming W4A16 NVFP4"}


class Mlp(gpu.Checked):
    """fp16 x [M, K], and packed weights: [gate; up] [2N, K] and down [H, N], with the global scales of all three."""

    def __init__(self, k, n, h, m, folder=None, globals=None):
        if any(size % 256 for size in (k, n, h)):
            raise ValueError("the peers take K, N and H in steps of 256")
        self.k, self.n, self.h, self.m = k, n, h, m
        shapes = {"gate": (n, k), "up": (n, k), "down": (h, n)}
        if folder is None:
            torch.manual_seed(1)
            self.x = torch.randn(m, k, device=gpu.DEVICE).half()
            packed = {name: gpu.made_up(*shape) for name, shape in shapes.items()}
            # Values of these codes and scale factors have a standard deviation of about 0.54.
            globals = [2 / (0.54 * k**0.5), 2 / (0.54 * k**0.5), 1 / (0.54 * n**0.5)]
        else:
            self.x = gpu.read(folder, "x.bf16", torch.bfloat16, (m, k)).half()
            packed = {
                name: (
                    gpu.read(folder, f"{name}.codes", torch.uint8, (rows, cols // 2)),
                    gpu.read(folder, f"{name}.scales", torch.float8_e4m3fn, (rows, cols // 16)),
                )
                for name, (rows, cols) in shapes.items()
            }
        self.packed, self.globals = packed, dict(zip(shapes, globals))

        def reference(rows):
            x = self.x[rows].double()
            gate, up = (self.product(x, name) for name in ("gate", "up"))
            return self.product(torch.nn.functional.silu(gate) * up, "down")

        self.compare_with(torch.empty(m, h, dtype=torch.float16, device=gpu.DEVICE), reference)

    def product(self, x, name):
        return x @ gpu.exact(*self.packed[name], torch.float64).T * self.globals[name]

    def dense(self, name):
        """In fp16, with the global scale, as a checkpoint in fp16 would have it."""
        return (gpu.exact(*self.packed[name], torch.float32) * self.globals[name]).half()

    def gate_up(self):
        """The packed weights of both, gate over up."""
        (gate, gate_scales), (up, up_scales) = self.packed["gate"], self.packed["up"]
        scales = torch.cat((gate_scales.view(torch.uint8), up_scales.view(torch.uint8)))
        return torch.cat((gate, up)), scales.view(torch.float8_e4m3fn)

    def hidden(self):
        return torch.empty(self.m, self.n, dtype=torch.float16, device=gpu.DEVICE)


def factors(gate, up):
    """What products are multiplied by ahead of the gate."""
    return types.SimpleNamespace(alpha1=gate, alpha2=up)


def peer_cublas(mlp):
    weight_bytes = 2 * mlp.n * (2 * mlp.k + mlp.h)
    copies = gpu.rotation(weight_bytes)
    weights = [(torch.cat((mlp.dense("gate"), mlp.dense("up"))), mlp.dense("down")) for _ in range(copies)]
    hidden, one = mlp.hidden(), factors(1.0, 1.0)

    def variant(each):
        pre = gpu.pre_activations(mlp, each)

        def run(copy):
            gate_up, down = weights[copy]
            gpu.silu_mul(*gpu.products(mlp.x, gate_up, pre, mlp.n, each), hidden, one)
            torch.mm(hidden, down.t(), out=mlp.out)

        return run, copies, weight_bytes

    return {"two GEMMs": variant(False), "three GEMMs": variant(True)}


def peer_humming(mlp):
    copies = gpu.rotation(sum(codes.numel() + scales.numel() for codes, scales in mlp.packed.values()))
    globals = mlp.globals
    layers = [
        (
            gpu.humming_layer(*mlp.gate_up(), globals["gate"]),
            gpu.humming_layer(*mlp.packed["down"], globals["down"]),
        )
        for _ in range(copies)
    ]
    weight_bytes = sum(part.numel() * part.element_size() for layer in layers[0] for part in layer.parameters())
    # One layer has one global scale: that of gate.
    hidden, n, of_up = mlp.hidden(), mlp.n, factors(1.0, globals["up"] / globals["gate"])

    def run(copy):
        gate_up, down = layers[copy]
        pre = gate_up(mlp.x)
        gpu.silu_mul(pre[:, :n], pre[:, n:], hidden, of_up)
        down(hidden, outputs=mlp.out)

    return {"two layers": (run, copies, weight_bytes)}


MAKERS = {"cublas": peer_cublas, "humming": peer_humming}


def mlp(request):
    sizes = request.get("sizes") or [*request["layer"], request["rows"]]
    return Mlp(*sizes, request.get("folder"), request.get("globals"))


if __name__ == "__main__":
    gpu.main(PEERS, MAKERS, mlp, "K,N,H,M, such as 4096,14336,4096,16")
