#!/usr/bin/env python3
"""What a user would otherwise run on a GPU: the SwiGLU dual GEMM over NVFP4 weights and fp16 activations.

    python3 bench/peers/gpu.py [--peers NAME,...] [--rounds R] [--budget S] [--warm] [--json FILE] M,N,K [M,N,K ...]

`nvfp4 bench --backend cuda --peers` starts it with --serve and takes turns with it, over the same operands. Every time
is that of a node of a CUDA graph, by events around its replays. Weights rotate over so many copies that they hold four
times the L2 cache; --warm uses one. Every result is checked against float64 on eight rows: ||error|| / ||C|| at most
3e-3, and no value of C may be left unwritten. A peer that cannot run or is wrong is left out, with the reason.

    cublas      fp16 weights, dequantized ahead of time: torch.mm on [B1; B2] or on each, and one silu*mul kernel
    humming     W4A16 NVFP4 of PyPI's humming-kernels, on [B1; B2] or on each, and the same kernel
    dequantize  packed weights, dequantized in each call by one kernel, then as cublas
    triton      one kernel over packed weights: both products and the gate

Needs torch and triton; humming is looked for on PYTHONPATH.
"""

import argparse
import ctypes
import gc
import importlib
import importlib.metadata
import json
import os
import statistics
import sys

PEERS = {
    "cublas": "cuBLAS fp16, dequantized ahead",
    "humming": "Humming W4A16 NVFP4",
    "dequantize": "dequantize in each call + cuBLAS fp16",
    "triton": "one Triton kernel",
}
TOLERANCE = 3e-3
ROWS = 8

# mlp.py has the same arguments.
arguments = argparse.ArgumentParser(
    description=sys.modules["__main__"].__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
arguments.add_argument("--peers", default="", help="names, with commas between them; default: all")
arguments.add_argument("--rounds", type=int, default=3)
arguments.add_argument("--budget", type=float, default=0.25, help="seconds of replays a round")
arguments.add_argument("--nodes", type=int, default=48, help="launches of a graph, at least")
arguments.add_argument("--warm", action="store_true", help="one copy of the weights: they may stay in L2")
arguments.add_argument("--json", metavar="FILE")
arguments.add_argument("--device", type=int, default=0)
arguments.add_argument("--serve", action="store_true", help="requests on stdin, answers on stdout, a JSON object a line")
arguments.add_argument("shapes", nargs="*", metavar="SIZES")
arguments = arguments.parse_args()

try:
    import torch
    import triton
    import triton.language as tl
except ImportError as missing:
    sys.exit(f"{missing}: the peers need torch and triton")
if not torch.cuda.is_available() and not os.environ.get("TRITON_INTERPRET"):
    sys.exit("torch sees no GPU")


# ---- Triton kernels


@triton.jit
def silu_mul_kernel(gate, up, out, stride, n, alpha1, alpha2, BLOCK: tl.constexpr):
    """out[row, :] = silu(alpha1 * gate[row, :]) * (alpha2 * up[row, :]); rows of gate and up are `stride` apart."""
    row = tl.program_id(0)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < n
    g = tl.load(gate + row * stride + columns, mask=inside, other=0.0).to(tl.float32) * alpha1
    u = tl.load(up + row * stride + columns, mask=inside, other=0.0).to(tl.float32) * alpha2
    tl.store(out + row * n + columns, (g / (1.0 + tl.exp(-g)) * u).to(tl.float16), mask=inside)


@triton.jit
def widen(codes, factors, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """e2m1 codes [ROWS, COLUMNS / 2] times factors [ROWS, COLUMNS / 16], as fp16 and divided by 128, exactly.

    Exponent and mantissa of e2m1 in the place of fp16's are the value times 2^-14, subnormals included."""
    codes = codes.to(tl.uint16)
    low = ((codes & 0x07) << 9) | ((codes & 0x08) << 12)
    high = ((codes & 0x70) << 5) | ((codes & 0x80) << 8)
    values = tl.interleave(low, high).to(tl.float16, bitcast=True)
    factors = factors.to(tl.float16) * 128.0
    values = tl.reshape(values, [ROWS, COLUMNS // 16, 16]) * factors[:, :, None]
    return tl.reshape(values, [ROWS, COLUMNS])


@triton.jit
def dequantize_kernel(codes, scales, out, blocks, ROWS: tl.constexpr):
    """out[block, 0:16] = e2m1 * e4m3 for `blocks` blocks of 16 values, ROWS of them a program."""
    block = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = (block < blocks)[:, None]
    packed = tl.load(codes + block[:, None] * 8 + tl.arange(0, 8)[None, :], mask=inside, other=0)
    factors = tl.load(scales + block[:, None] + tl.arange(0, 1)[None, :], mask=inside, other=0.0)
    values = widen(packed, factors, ROWS, 16) * 128.0
    tl.store(out + block[:, None] * 16 + tl.arange(0, 16)[None, :], values, mask=inside)


@triton.jit
def fused_kernel(
    a, codes, scales, c, m, n, alpha1, alpha2,
    K: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """A tile of C from fp16 A [m, K] and packed [B1; B2] [2n, K]; weights are the first operand of the products."""
    tiles = tl.cdiv(m, BM)
    tokens = (tl.program_id(0) % tiles) * BM + tl.arange(0, BM)
    columns = (tl.program_id(0) // tiles) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    code = columns[:, None] * (K // 2) + tl.arange(0, BK // 2)[None, :]
    scale = columns[:, None] * (K // 16) + tl.arange(0, BK // 16)[None, :]
    gate = tl.zeros([BN, BM], dtype=tl.float32)
    up = tl.zeros([BN, BM], dtype=tl.float32)
    for start in range(0, K, BK):
        x = tl.load(a + tokens[None, :] * K + (start + k)[:, None], mask=tokens[None, :] < m, other=0.0)
        w = widen(tl.load(codes + code + start // 2), tl.load(scales + scale + start // 16), BN, BK)
        gate = tl.dot(w, x, gate)
        w = widen(
            tl.load(codes + n * (K // 2) + code + start // 2), tl.load(scales + n * (K // 16) + scale + start // 16), BN, BK
        )
        up = tl.dot(w, x, up)
    gate = tl.trans(gate) * (alpha1 * 128.0)
    up = tl.trans(up) * (alpha2 * 128.0)
    result = (gate / (1.0 + tl.exp(-gate)) * up).to(tl.float16)
    tl.store(c + tokens[:, None] * n + columns[None, :], result, mask=tokens[:, None] < m)


def silu_mul(gate, up, out, problem):
    m, n = out.shape
    block = 1024
    silu_mul_kernel[(m, triton.cdiv(n, block))](
        gate, up, out, gate.stride(0), n, problem.alpha1, problem.alpha2, BLOCK=block, num_warps=4
    )


def dequantize(codes, scales, out):
    blocks, rows = scales.numel(), 256
    dequantize_kernel[(triton.cdiv(blocks, rows),)](codes, scales, out, blocks, ROWS=rows, num_warps=4)


def fused(a, codes, scales, c, problem, config):
    bm, bn, bk, warps, stages = config
    grid = (triton.cdiv(problem.m, bm) * (problem.n // bn),)
    fused_kernel[grid](
        a, codes, scales, c, problem.m, problem.n, problem.alpha1, problem.alpha2,
        K=problem.k, BM=bm, BN=bn, BK=bk, num_warps=warps, num_stages=stages,
    )  # fmt: skip


def fused_configs(m):
    """Tokens, columns and K of a tile, warps, stages."""
    if m <= 16:
        return [(16, 64, 128, 4, 4), (16, 32, 256, 4, 4), (16, 64, 256, 4, 3), (16, 32, 128, 4, 5)]
    if m <= 64:
        bm = 32 if m <= 32 else 64
        return [(bm, 64, 128, 4, 3), (bm, 128, 128, 8, 3), (bm, 64, 64, 4, 4), (bm, 32, 128, 4, 4)]
    return [(64, 128, 64, 8, 3), (128, 64, 64, 4, 3), (128, 128, 64, 8, 3), (256, 64, 64, 8, 3)]


# ---- Operands


def read(folder, name, dtype, shape):
    with open(os.path.join(folder, name), "rb") as file:
        return torch.frombuffer(bytearray(file.read()), dtype=torch.uint8).view(dtype).view(shape).to(DEVICE)


def made_up(rows, k):
    """As the contest's generator: codes of +-{0, .5, 1, 1.5}, scale factors in [0, 1)."""
    codes = torch.randint(0, 256, (rows, k // 2), dtype=torch.uint8, device=DEVICE) & 0xBB
    return codes, torch.rand(rows, k // 16, device=DEVICE).to(torch.float8_e4m3fn)


def exact(codes, scales, dtype):
    """Dequantized by plain torch; exact in fp16 already."""
    table = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    table = torch.tensor(table + [-value for value in table], dtype=dtype, device=codes.device)
    nibbles = torch.stack((codes & 15, codes >> 4), dim=-1).view(codes.shape[0], -1)
    factors = scales.to(dtype).repeat_interleave(16, dim=1)
    return table[nibbles.int()] * factors


class Checked:
    """A result `out`, of which `rows` are compared with `reference`."""

    def compare_with(self, out, reference):
        """`reference` gives rows of the result in float64 for their indices."""
        m = out.shape[0]
        self.out = out
        # From the last one on: it is there that the end of a tile shows.
        self.rows = torch.arange(m - 1, -1, -max(1, m // ROWS), device=DEVICE)
        self.reference = reference(self.rows)

    def error(self, run):
        """The relative error of one call, which has to write all of the result."""
        self.out.fill_(float("nan"))
        run(0)
        torch.cuda.synchronize()
        if not torch.isfinite(self.out).all():
            raise ArithmeticError("there are values that are not finite, or were not written")
        error = (self.out[self.rows].double() - self.reference).norm() / self.reference.norm()
        if not error <= TOLERANCE:
            raise ArithmeticError(f"wrong: relative error {error:.2e}, allowed are {TOLERANCE:.0e}")
        return float(error)


class Problem(Checked):
    """Operands of one shape: fp16 activations, and copies of the packed weights, B1 over B2."""

    def __init__(self, m, n, k, folder=None, alpha1=1.0, alpha2=1.0):
        if k % 256 or n % 128:
            raise ValueError("the peers take N in steps of 128 and K in steps of 256")
        self.m, self.n, self.k, self.alpha1, self.alpha2 = m, n, k, alpha1, alpha2
        if folder is None:
            torch.manual_seed(1)
            a, b1, b2 = made_up(m, k), made_up(n, k), made_up(n, k)
        else:
            a, b1, b2 = (
                (
                    read(folder, f"{name}.codes", torch.uint8, (rows, k // 2)),
                    read(folder, f"{name}.scales", torch.float8_e4m3fn, (rows, k // 16)),
                )
                for name, rows in (("a", m), ("b1", n), ("b2", n))
            )
        self.a = exact(*a, torch.float16)
        self.codes = torch.cat((b1[0], b2[0]))
        self.scales = torch.cat((b1[1].view(torch.uint8), b2[1].view(torch.uint8))).view(torch.float8_e4m3fn)

        def reference(rows):
            rows = self.a[rows].double()
            gate, up = (rows @ exact(*b, torch.float64).T * alpha for b, alpha in ((b1, alpha1), (b2, alpha2)))
            return torch.nn.functional.silu(gate) * up

        self.compare_with(torch.empty(m, n, dtype=torch.float16, device=DEVICE), reference)

    def packed_copies(self):
        copies = rotation(self.codes.numel() + self.scales.numel())
        # Only bytes can be cloned everywhere.
        clone = lambda scales: scales.view(torch.uint8).clone().view(torch.float8_e4m3fn)  # noqa: E731
        return [(self.codes.clone(), clone(self.scales)) for _ in range(copies)]


def rotation(weight_bytes):
    """Copies that are more than four times the L2 cache."""
    return 1 if arguments.warm else min(1024, 4 * L2_BYTES // weight_bytes + 1)


# ---- Peers: each gives, by variant, what runs once on a copy of the weights, the number of copies, and it may give the
# bytes of a copy


def products(a, weights, pre, n, two):
    """Both products, into the halves of `pre` or into its two matrices."""
    if two:
        torch.mm(a, weights[:n].t(), out=pre[0])
        torch.mm(a, weights[n:].t(), out=pre[1])
        return pre[0], pre[1]
    torch.mm(a, weights.t(), out=pre)
    return pre[:, :n], pre[:, n:]


def pre_activations(problem, two):
    shape = (2, problem.m, problem.n) if two else (problem.m, 2 * problem.n)
    return torch.empty(shape, dtype=torch.float16, device=DEVICE)


def peer_cublas(problem):
    copies = rotation(2 * 2 * problem.n * problem.k)
    weights = [exact(problem.codes, problem.scales, torch.float16) for _ in range(copies)]

    def variant(two):
        pre = pre_activations(problem, two)
        return lambda copy: silu_mul(*products(problem.a, weights[copy], pre, problem.n, two), problem.out, problem)

    return {"one GEMM": (variant(False), copies), "two GEMMs": (variant(True), copies)}


def peer_dequantize(problem):
    packed = problem.packed_copies()
    weights = torch.empty(2 * problem.n, problem.k, dtype=torch.float16, device=DEVICE)
    pre = pre_activations(problem, False)

    def run(copy):
        dequantize(*packed[copy], weights)
        silu_mul(*products(problem.a, weights, pre, problem.n, False), problem.out, problem)

    return {"one GEMM": (run, len(packed))}


def peer_triton(problem):
    packed = problem.packed_copies()

    def variant(config):
        return lambda copy: fused(problem.a, *packed[copy], problem.out, problem, config)

    best, fastest, reasons = None, float("inf"), []
    for config in fused_configs(problem.m):
        try:
            run = variant(config)
            problem.error(run)
            time = statistics.median(Graph(run, len(packed)).times_us(0.02))
        except Exception as error:  # too much shared memory, say
            reasons.append(f"{config}: {sentence(error)}")
            continue
        if time < fastest:
            best, fastest = config, time
    if best is None:
        raise RuntimeError("; ".join(reasons))
    bm, bn, bk, warps, stages = best
    return {f"{bm}x{bn}x{bk}, {warps} warps, {stages} stages": (variant(best), len(packed))}


def humming_layer(codes, scales, global_scale=1.0):
    """A linear layer of Humming with fp16 activations."""
    from humming.layer import HummingLayer

    made = HummingLayer(
        shape_n=codes.shape[0],
        shape_k=2 * codes.shape[1],
        weight_config={"quant_method": "modelopt", "quant_algo": "nvfp4"},
        torch_dtype=torch.float16,
    ).to(DEVICE)
    global_scale = torch.full((1,), global_scale, dtype=torch.float32, device=DEVICE)
    made.load_from_tensors({"weight": codes, "weight_scale": scales, "weight_scale_2": global_scale})
    made.transform()
    return made


def peer_humming(problem):
    copies = rotation(problem.codes.numel() + problem.scales.numel())

    def layer(rows):
        # The alphas are applied with the gate: there they cost nothing and may differ.
        return humming_layer(problem.codes[rows], problem.scales.view(torch.uint8)[rows].view(torch.float8_e4m3fn))

    whole = [layer(slice(None)) for _ in range(copies)]
    n = problem.n

    def one(copy):
        pre = whole[copy](problem.a)
        silu_mul(pre[:, :n], pre[:, n:], problem.out, problem)

    variants = {"one 2N layer": (one, copies)}
    try:
        halves = [(layer(slice(0, n)), layer(slice(n, None))) for _ in range(copies)]

        def two(copy):
            gate, up = (half(problem.a) for half in halves[copy])
            silu_mul(gate, up, problem.out, problem)

        problem.error(two)
        variants["two layers"] = (two, copies)
    except Exception as error:
        note(f"humming, two layers: {sentence(error)}")
    return variants


MAKERS = {"cublas": peer_cublas, "humming": peer_humming, "dequantize": peer_dequantize, "triton": peer_triton}


# ---- Timing


class Graph:
    """A CUDA graph of many calls, each on the next copy of the weights."""

    def __init__(self, run, copies):
        self.nodes = copies * -(-arguments.nodes // copies)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # compiles, and lets libraries allocate
            for copy in range(copies):
                run(copy)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            for node in range(self.nodes):
                run(node % copies)
        torch.cuda.synchronize()
        self.launch = self.plain_launch() or self.graph.replay

    def plain_launch(self):
        """cudaGraphLaunch alone, where torch gives the handle: its replay() sets random states by kernels, too."""
        try:
            handle = ctypes.c_void_p(self.graph.raw_cuda_graph_exec())
            runtime = ctypes.CDLL(f"libcudart.so.{torch.version.cuda.split('.')[0]}")
        except Exception as error:
            note(f"graphs are launched by torch: {sentence(error)}")
            return None

        def launch():
            code = runtime.cudaGraphLaunch(handle, ctypes.c_void_p(torch.cuda.current_stream().cuda_stream))
            if code:
                raise RuntimeError(f"cudaGraphLaunch: error {code}")

        return launch

    def replays(self, count):
        """Microseconds a call of `count` replays, queued without a break."""
        events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
        events[0].record()
        for event in events[1:]:
            self.launch()
            event.record()
        torch.cuda.synchronize()
        return [begin.elapsed_time(end) * 1e3 / self.nodes for begin, end in zip(events, events[1:])]

    def times_us(self, budget):
        """Of as many replays as fit `budget` seconds, 5 to 200, after a third as many that do not count."""
        seconds = min(self.replays(3)) * 1e-6 * self.nodes
        count = min(200, max(5, int(budget / seconds)))
        self.replays(-(-count // 3))
        return self.replays(count)


class Session:
    """The peers on one problem at a time, which `problem` makes of a request."""

    def __init__(self, problem, makers):
        self.make_problem, self.makers = problem, makers
        self.problem, self.graphs = None, {}

    def take(self, request):
        self.drop()
        self.problem = self.make_problem(request)

    def drop(self):
        self.problem, self.graphs = None, {}
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def prepare(self, name):
        """Checks the results of a peer and captures its graphs; gives the error and the copies of each variant."""
        variants = self.makers[name](self.problem)
        ready, answer = {}, {}
        for variant, (run, copies, *weight_bytes) in variants.items():
            error = self.problem.error(run)
            graph = Graph(run, copies)
            self.problem.error(lambda _, graph=graph: graph.launch())
            ready[variant] = (graph, run)
            answer[variant] = {"relative_error": error, "copies": copies, "nodes": graph.nodes}
            if weight_bytes:
                answer[variant]["weight_bytes"] = weight_bytes[0]
        self.graphs[name] = ready
        return answer

    def time(self, name):
        """Microseconds of each replay, by variant."""
        return {variant: graph.times_us(arguments.budget) for variant, (graph, _) in self.graphs[name].items()}


def sentence(error):
    lines = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0]}"


def note(text):
    print(text, file=sys.stderr, flush=True)


def versions():
    found = {"python": sys.version.split()[0], "torch": torch.__version__, "triton": triton.__version__}
    if torch.version.cuda:
        found["cuda of torch"] = torch.version.cuda
    for package in ("nvidia-cublas", "nvidia-cublas-cu13", "nvidia-cublas-cu12"):
        try:
            found["cublas"] = importlib.metadata.version(package)
            break
        except importlib.metadata.PackageNotFoundError:
            pass
    try:
        found["humming"] = importlib.import_module("humming._version").version
    except Exception as error:
        note(f"humming: {sentence(error)}")
    return found


def guarded(work):
    """The answer of `work`, or why there is none. An error that leaves CUDA unusable ends the program."""
    try:
        return work()
    except Exception as error:
        reason = sentence(error)
    try:
        torch.cuda.synchronize()
    except Exception as error:
        sys.exit(f"{reason}; after that, {sentence(error)}")
    return {"failed": reason}


def answer(session, request):
    if "folder" in request:
        session.take(request)
        return {"taken": True}
    if "prepare" in request:
        return {"prepared": session.prepare(request["prepare"])}
    if "time" in request:
        return {"times_us": session.time(request["time"])}
    return {"failed": f"what is {request}?"}


def serve(session, peers):
    """One JSON object a line both ways. Libraries print, too: their stdout is our stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(message):
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    say({"peers": list(peers.items()), "versions": versions(), "tolerance": TOLERANCE, "rows": ROWS})
    for line in sys.stdin:
        request = json.loads(line)
        say(guarded(lambda: answer(session, request)))


def alone(session, peers, names):
    report = {"device": torch.cuda.get_device_name(DEVICE), "versions": versions(), "warm": arguments.warm, "results": []}
    for shape in arguments.shapes:
        sizes = [int(size) for size in shape.split(",")]
        session.take({"sizes": sizes})
        row = {"shape": sizes, "peers": {}}
        for name in names:
            row["peers"][name] = guarded(lambda: session.prepare(name))
            if "failed" in row["peers"][name]:
                note(f"{name}, {shape}: {row['peers'][name]['failed']}")
        for _ in range(arguments.rounds):
            for name in session.graphs:
                for variant, times in session.time(name).items():
                    row["peers"][name][variant].setdefault("times_us", []).extend(times)
        report["results"].append(row)
        for name, variants in row["peers"].items():
            for variant, found in variants.items():
                if "times_us" in found:
                    times = found["times_us"]
                    print(
                        f"{shape:>16}  {peers[name]:<38} {variant:<32} median {statistics.median(times):8.2f} us"
                        f"  least {min(times):8.2f}  relative error {found['relative_error']:.1e}",
                        flush=True,
                    )
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(report, file)


DEVICE = torch.device("cuda", arguments.device)
if torch.cuda.is_available():
    torch.cuda.set_device(DEVICE)
    L2_BYTES = torch.cuda.get_device_properties(DEVICE).L2_cache_size
    torch.set_grad_enabled(False)


def main(peers, makers, problem, example):
    names = [name for name in arguments.peers.split(",") if name] or list(peers)
    unknown = set(names) - set(peers)
    if unknown:
        sys.exit(f"{', '.join(sorted(unknown))}: no such peer; there are {', '.join(peers)}")
    if arguments.serve:
        serve(Session(problem, makers), peers)
    elif arguments.shapes:
        alone(Session(problem, makers), peers, names)
    else:
        sys.exit(f"no sizes: give {example}")


def dual_gemm(request):
    sizes = request.get("sizes") or request["shape"]
    return Problem(*sizes, request.get("folder"), request.get("alpha1", 1.0), request.get("alpha2", 1.0))


if __name__ == "__main__":
    main(PEERS, MAKERS, dual_gemm, "M,N,K, such as 256,4096,7168")
