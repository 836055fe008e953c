#!/usr/bin/env python3
"""What a user would otherwise run on a CPU: the whole MLP of dequantized NVFP4 weights, by torch.

`nvfp4 bench --backend cpu --mlp --peers` starts it with --serve and takes turns with it, over the same weights and x:
requests on stdin, answers on stdout, a JSON object a line. Weights are dequantized, and prepacked, outside of the
timing. Every result is checked against float64 on eight rows: ||error|| / ||y|| at most 1e-2, that of bf16.

Needs torch.
"""

import argparse
import gc
import json
import os
import sys
import time

PEERS = {
    "torch-prepacked": "torch bf16, oneDNN-prepacked",
    "torch-bf16": "torch bf16",
    "torch-f32": "torch f32",
}
TOLERANCE = 1e-2
ROWS = 8

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--serve", action="store_true", required=True)
arguments.add_argument("--threads", type=int, default=os.cpu_count())
arguments.add_argument("--budget", type=float, default=1.0, help="seconds of runs a round")
arguments.add_argument("--empty-caches", type=int, default=0, metavar="BYTES", help="read so many before each run")
arguments = arguments.parse_args()
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = str(arguments.threads)

try:
    import torch
except ImportError as missing:
    sys.exit(f"{missing}: the peers need torch")

torch.set_num_threads(arguments.threads)
torch.set_grad_enabled(False)
silu = torch.nn.functional.silu
E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
CACHES = torch.ones(arguments.empty_caches // 8, dtype=torch.int64)


def read(folder, name, dtype, shape):
    with open(os.path.join(folder, name), "rb") as file:
        return torch.frombuffer(bytearray(file.read()), dtype=torch.uint8).view(dtype).view(shape)


class Mlp:
    """x [M, K] in bf16, and the weights of gate, up [N, K] and down [H, N] in f32."""

    def __init__(self, folder, k, n, h, m, globals):
        self.x = read(folder, "x.bf16", torch.bfloat16, (m, k))
        self.weights = []
        for (name, rows, cols), scale in zip((("gate", n, k), ("up", n, k), ("down", h, n)), globals):
            codes = read(folder, f"{name}.codes", torch.uint8, (rows, cols // 2))
            scales = read(folder, f"{name}.scales", torch.float8_e4m3fn, (rows, cols // 16))
            values = E2M1[torch.stack((codes & 15, codes >> 4), dim=-1).view(rows, cols // 16, 16).int()]
            self.weights.append((values * scales.float().unsqueeze(-1) * scale).view(rows, cols))
        # From the last one on: it is there that the end of a tile shows.
        self.rows = torch.arange(m - 1, -1, -max(1, m // ROWS))
        gate, up, down = (weight.double() for weight in self.weights)
        x = self.x[self.rows].double()
        self.reference = (silu(x @ gate.T) * (x @ up.T)) @ down.T

    def error(self, run):
        error = (run()[self.rows].double() - self.reference).norm() / self.reference.norm()
        if not error <= TOLERANCE:
            raise ArithmeticError(f"wrong: relative error {error:.2e}, allowed are {TOLERANCE:.0e}")
        return float(error)


def plain(dtype):
    def peer(mlp):
        x = mlp.x.to(dtype)
        gate, up, down = (weight.to(dtype) for weight in mlp.weights)
        return lambda: (silu(x @ gate.T) * (x @ up.T)) @ down.T

    return peer


def prepacked(mlp):
    pack = torch.ops.mkldnn._reorder_linear_weight
    linear = torch.ops.mkldnn._linear_pointwise
    x, m = mlp.x, mlp.x.shape[0]
    gate, up, down = (pack(weight.to(torch.bfloat16), m) for weight in mlp.weights)

    def product(x, weight):
        return linear(x, weight, None, "none", [], "")

    return lambda: product(silu(product(x, gate)) * product(x, up), down)


MAKERS = {
    "torch-prepacked": (prepacked, 2),
    "torch-bf16": (plain(torch.bfloat16), 2),
    "torch-f32": (plain(torch.float32), 4),
}


class Session:
    """The peers on one layer at a time."""

    def __init__(self):
        self.mlp, self.ready = None, {}

    def take(self, request):
        self.mlp, self.ready = None, {}
        gc.collect()
        self.mlp = Mlp(request["folder"], *request["layer"], request["rows"], request["globals"])

    def prepare(self, name):
        maker, size = MAKERS[name]
        run = maker(self.mlp)
        error = self.mlp.error(run)
        self.ready[name] = run
        weight_bytes = size * sum(weight.numel() for weight in self.mlp.weights)
        return {"": {"relative_error": error, "copies": 1, "weight_bytes": weight_bytes}}

    def time(self, name):
        """Microseconds of as many runs as fit the budget, 1 to 200, after one that does not count."""
        run, times = self.ready[name], []
        begin = None
        while len(times) <= 200 and (begin is None or len(times) < 2 or time.perf_counter() - begin < arguments.budget):
            CACHES.sum()
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1e6)
            begin = begin or start
        return {"": times[1:]}


def answer(session, request):
    if "folder" in request:
        session.take(request)
        return {"taken": True}
    if "prepare" in request:
        return {"prepared": session.prepare(request["prepare"])}
    if "time" in request:
        return {"times_us": session.time(request["time"])}
    return {"failed": f"what is {request}?"}


def main():
    # Libraries print, too: their stdout is our stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(message):
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    session = Session()
    versions = {"python": sys.version.split()[0], "torch": torch.__version__}
    say({"peers": list(PEERS.items()), "versions": versions, "tolerance": TOLERANCE, "rows": ROWS})
    for line in sys.stdin:
        try:
            say(answer(session, json.loads(line)))
        except Exception as error:
            lines = str(error).strip().splitlines() or ["no message"]
            say({"failed": f"{type(error).__name__}: {lines[0]}"})


if __name__ == "__main__":
    main()
