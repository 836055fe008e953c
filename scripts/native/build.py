"""The built library and the programs beside it."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Where third_party/fetch.sh puts its folders.
FETCHED = Path(os.environ.get("NVFP4_TOOLCHAIN_DIR") or ROOT / "third_party")
LIBRARY = "libnvfp4_dual_gemm.a"
ENTRY = "nvfp4_"  # of a kernel's symbol in the table, for its name in PTX and machine code


class Failure(Exception):
    """Words for whoever runs the script."""


def run(command, **more):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **more)
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, command))} failed with status {done.returncode}:\n{done.stderr.strip()}")
    return done.stdout


def tool(name):
    """A program of the CUDA toolkit: of CUDA_HOME, as fetched, or on PATH."""
    folders = [Path(os.environ["CUDA_HOME"]) / "bin"] if "CUDA_HOME" in os.environ else []
    folders.append(FETCHED / "cuda/bin")
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    found = shutil.which(name)
    if found is None:
        raise Failure(f"{name} is not in CUDA_HOME, {FETCHED}/cuda (third_party/fetch.sh gets it) or PATH")
    return Path(found)


class Build:
    """A CMake build folder of cpp/ with its tests."""

    def __init__(self, folder):
        self.folder = Path(folder).resolve()
        self.library = self.folder / LIBRARY
        if not self.library.exists():
            raise Failure(f"{self.library} does not exist: build cpp/ there first, with -DNVFP4_BUILD_TESTS=ON")

    def recorder(self):
        found = sorted(self.folder.glob("**/record_launch"))
        found = [path for path in found if path.is_file() and os.access(path, os.X_OK)]
        if not found:
            raise Failure(f"there is no record_launch below {self.folder}: configure with -DNVFP4_BUILD_TESTS=ON")
        return found[0]

    def kernels(self, compute_capability):
        """An architecture's part of the table of kernels as compiled, in its order."""
        table = json.loads(run([self.recorder(), "--list"]))
        return [kernel for kernel in table if kernel["compute_capability"] == compute_capability]

    def launch(self, kernel, shape, *options, poison=0):
        """What the host code launches for (M, N, K, batch). `poison` is in all memory that it allocates."""
        environment = {**os.environ, "MALLOC_PERTURB_": str(poison)}
        return json.loads(run([self.recorder(), kernel, *shape, *options], env=environment))

    def ptx(self, scratch):
        """{kernel: PTX} of every kernel in the library."""
        scratch = Path(scratch)
        for old in scratch.glob("*.ptx"):
            old.unlink()
        run([tool("cuobjdump"), "-xptx", "all", self.library], cwd=scratch)
        texts = {}
        for path in sorted(scratch.glob("*.ptx")):
            text = path.read_text()
            for name in entries(text):
                texts[name] = text
        return texts


def entries(ptx):
    """Kernels of the table that a PTX text has an .entry of."""
    return re.findall(r"\.entry\s+" + ENTRY + r"(\w+)\s*\(", ptx)
