#!/usr/bin/env python3
"""What a user would otherwise run on a CPU: the SwiGLU dual GEMM over dequantized NVFP4 weights.

    python3 bench/peers/cpu.py [--threads N] [--repeat R] [--empty-caches BYTES] [--slow] M,N,K [M,N,K ...]

One line a peer: name, then for each shape a tab and the times in ms ("-" where it cannot run).
Every peer is warmed up twice, and weights are dequantized (and prepacked) outside of the timing
unless the name says otherwise. Needs torch and numpy. llama.cpp's NVFP4 is measured as well where the
package xllamacpp is installed, which has all of ggml in it: activations in f32, which it quantizes to
8 bits in each call.
"""

import argparse
import ctypes
import glob
import importlib.util
import os
import sys
import time

arguments = argparse.ArgumentParser()
arguments.add_argument("--threads", type=int, default=os.cpu_count())
arguments.add_argument("--repeat", type=int, default=15)
arguments.add_argument("--empty-caches", type=int, default=0, metavar="BYTES", help="read so many before each run")
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
CACHES = torch.ones(arguments.empty_caches // 8, dtype=torch.int64)
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


class Ggml:
    """The dual GEMM as a graph of ggml: two products and their SwiGLU."""

    class Params(ctypes.Structure):
        _fields_ = [("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]

    F32 = 0

    def __init__(self, threads):
        package = importlib.util.find_spec("xllamacpp")
        if package is None:
            raise RuntimeError("the package xllamacpp is not installed")
        (library,) = glob.glob(os.path.join(package.submodule_search_locations[0], "xllamacpp*.so"))
        ggml, pointer = ctypes.CDLL(library), ctypes.c_void_p
        self.ggml = ggml
        for name, result, arguments in (
            ("ggml_init", pointer, [self.Params]),
            ("ggml_free", None, [pointer]),
            ("ggml_type_name", ctypes.c_char_p, [ctypes.c_int]),
            ("ggml_row_size", ctypes.c_size_t, [ctypes.c_int, ctypes.c_int64]),
            ("ggml_new_tensor_2d", pointer, [pointer, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]),
            ("ggml_get_data", pointer, [pointer]),
            ("ggml_mul_mat", pointer, [pointer] * 3),
            ("ggml_swiglu_split", pointer, [pointer] * 3),
            ("ggml_new_graph", pointer, [pointer]),
            ("ggml_build_forward_expand", None, [pointer] * 2),
            ("ggml_backend_cpu_init", pointer, []),
            ("ggml_backend_cpu_set_n_threads", None, [pointer, ctypes.c_int]),
            ("ggml_backend_graph_compute", ctypes.c_int, [pointer] * 2),
            (
                "ggml_quantize_chunk",
                ctypes.c_size_t,
                [ctypes.c_int, pointer, pointer] + [ctypes.c_int64] * 3 + [pointer],
            ),
        ):
            function = getattr(ggml, name)
            function.restype, function.argtypes = result, arguments
        self.backend = ggml.ggml_backend_cpu_init()
        ggml.ggml_backend_cpu_set_n_threads(self.backend, threads)
        # Of those that there are: a number beyond the last one has no name to read.
        self.nvfp4 = next(i for i in range(41) if ggml.ggml_type_name(i) == b"nvfp4")

    def peer(self, f32):
        """The graph, and its C to look at."""
        a, b1, b2 = f32
        (m, k), n, ggml = a.shape, b1.shape[0], self.ggml
        weight_bytes = ggml.ggml_row_size(self.nvfp4, k) * n
        # Weights, A, three times C, and what describes them.
        size = 2 * weight_bytes + 4 * (m * k + 3 * m * n) + (16 << 20)
        context = ggml.ggml_init(self.Params(size, None, False))

        def tensor(kind, values):
            out = ggml.ggml_new_tensor_2d(context, kind, values.shape[1], values.shape[0])
            data, values = ggml.ggml_get_data(out), values.contiguous()
            if kind == self.F32:
                ctypes.memmove(data, values.data_ptr(), 4 * values.numel())
            else:
                ggml.ggml_quantize_chunk(kind, values.data_ptr(), data, 0, values.shape[0], values.shape[1], None)
            return out

        x = tensor(self.F32, a)
        gate, up = (ggml.ggml_mul_mat(context, tensor(self.nvfp4, b), x) for b in (b1, b2))
        c = ggml.ggml_swiglu_split(context, gate, up)
        graph = ggml.ggml_new_graph(context)
        ggml.ggml_build_forward_expand(graph, c)

        def run():
            status = ggml.ggml_backend_graph_compute(self.backend, graph)
            assert status == 0, f"ggml: status {status}"

        values = (ctypes.c_float * (m * n)).from_address(ggml.ggml_get_data(c))
        return run, torch.frombuffer(values, dtype=torch.float32).view(m, n), lambda: ggml.ggml_free(context)


def llama_cpp(packed, f32):
    """Checked once: 8 bits of activations and llama.cpp's own quantizer of weights leave about 3 % of an error."""
    global ggml
    ggml = ggml or Ggml(arguments.threads)
    run, c, free = ggml.peer(f32)
    run()
    gemm = plain(*f32)()
    error = ((c - gemm).norm() / gemm.norm()).item()
    if not error < 0.1:
        raise RuntimeError(f"C is not the product: error {error}")
    run.free = free
    return run


ggml = None


PEERS = {
    "torch bf16, oneDNN-prepacked": torch_prepacked,
    "torch bf16, dequantized once": torch_dtype(torch.bfloat16),
    "torch f32 tensors, bf16 math": torch_f32_bf16_math,
    "torch f32, dequantized once": torch_dtype(torch.float32),
    "numpy f32, dequantized once": numpy_f32,
    "llama.cpp NVFP4": llama_cpp,
}
if arguments.slow:
    PEERS["torch bf16, dequantized in each call"] = torch_packed


def times_ms(run):
    for _ in range(2):
        run()
    times = []
    for _ in range(arguments.repeat):
        CACHES.sum()
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
                run = make(packed, f32)
                table[name].append(times_ms(run))
                getattr(run, "free", lambda: None)()
            except (RuntimeError, NotImplementedError, AttributeError, OSError, KeyError) as error:
                print(f"{name}, {shape}: {str(error).splitlines()[0]}", file=sys.stderr)
                table[name].append("-")
for name, times in table.items():
    print("\t".join([name, *times]), flush=True)
