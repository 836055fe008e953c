"""Unpacks the wheels that fetch.sh downloads: unpack.py build|proof|range FOLDER_OF_WHEELS DESTINATION"""

import os
import pathlib
import shutil
import sys
import zipfile

# Wheel, folder in it, folder here.
BUILD = [
    *((f"nvidia_{name}", "nvidia/cu13/", "cuda/") for name in (
        "cuda_nvcc", "nvvm", "cuda_crt", "cuda_runtime", "cuda_cccl", "cuda_cuobjdump", "cuda_nvdisasm")),
    ("nvidia_cuda_nvcc", "*.dist-info/licenses/", "cuda/licenses/"),
    ("flashinfer_python", "flashinfer/data/cutlass/include/", "cutlass/include/"),
    ("flashinfer_python", "flashinfer/data/cutlass/tools/util/", "cutlass/tools/util/"),
    ("flashinfer_python", "*.dist-info/licenses/LICENSE", "cutlass/licenses/flashinfer/LICENSE"),
    ("cmake", "cmake/data/bin/", "tools/bin/"),
    ("cmake", "cmake/data/share/cmake-", "tools/share/cmake-"),
    ("cmake", "*.dist-info/licenses/", "tools/licenses/cmake/"),
    ("ninja", "*.data/scripts/", "tools/bin/"),
    ("ninja", "*.dist-info/licenses/", "tools/licenses/ninja/"),
    ("libclang", "*.data/platlib/clang/native/", "tools/lib/"),
    ("libclang", "*.dist-info/LICENSE.TXT", "tools/licenses/libclang/LICENSE.TXT"),
]
PROOF = [("sentryward", "", "proof/"), ("z3_solver", "", "proof/")]
RANGE = [
    *((f"nvidia_{name}", "nvidia/cu13/", "cuda-oldest/") for name in (
        "cuda_nvcc", "nvvm", "cuda_crt", "cuda_runtime", "cuda_cccl")),
    ("nvidia_cuda_nvcc", "*.dist-info/licenses/", "cuda-oldest/licenses/"),
    *(("sgl_deep_gemm", f"deep_gemm/include/{name}/", f"cutlass-newest/include/{name}/") for name in ("cute", "cutlass")),
    ("sgl_deep_gemm", "*.dist-info/licenses/LICENSE", "cutlass-newest/licenses/sgl-deep-gemm/LICENSE"),
]
RULES = {"build": BUILD, "proof": PROOF, "range": RANGE}


def extract(wheel, prefix, target, root):
    """Members below `prefix`, whose first part may be a `*.suffix`, with their permissions."""
    count = 0
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            name = member.filename
            if prefix.startswith("*"):
                first, _, rest = name.partition("/")
                suffix, _, below = prefix[1:].partition("/")
                if not first.endswith(suffix):
                    continue
                name, head = rest, below
            else:
                head = prefix
            if not name.startswith(head) or name.endswith("/"):
                continue
            path = root / (target + name[len(head):])
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, open(path, "wb") as sink:
                shutil.copyfileobj(source, sink)
            path.chmod(0o755 if member.external_attr >> 16 & 0o100 else 0o644)
            count += 1
    if count == 0:
        raise SystemExit(f"unpack.py: {wheel.name} has nothing in {prefix}")


def finish_toolkit(cuda):
    # The wheel has the library under its soname only; the linker and CMake look for this name.
    runtime, = (cuda / "lib").glob("libcudart.so.*")
    (cuda / "lib/libcudart.so").symlink_to(runtime.name)


def finish_cutlass(cutlass):
    # The wheels lack CUTLASS's LICENSE.txt; every header begins with the whole text.
    header = (cutlass / "include/cutlass/version.h").read_text()
    lines = header[:header.index("*/")].splitlines()
    text = "\n".join(line.strip().lstrip("*").strip() for line in lines[1:] if not line.startswith(" ***"))
    (cutlass / "LICENSE.txt").write_text(text.strip() + "\n")


def finish(which, root):
    if which == "build":
        finish_toolkit(root / "cuda")
        finish_cutlass(root / "cutlass")
        for program in (root / "tools/bin").iterdir():
            program.chmod(0o755)
    elif which == "range":
        finish_toolkit(root / "cuda-oldest")
        # Where this nvcc tells the linker to look.
        (root / "cuda-oldest/lib64").symlink_to("lib")
        finish_cutlass(root / "cutlass-newest")


def main():
    which, wheels, destination = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]).resolve()
    # Beside the final place, so that a broken run leaves nothing half done there.
    fresh = destination / f".unpacking-{which}"
    shutil.rmtree(fresh, ignore_errors=True)
    for name, prefix, target in RULES[which]:
        wheel, = wheels.glob(f"{name}-*.whl")
        extract(wheel, prefix, target, fresh)
    finish(which, fresh)
    for folder in sorted(path.name for path in fresh.iterdir()):
        old = destination / folder
        if old.is_symlink():
            old.unlink()
        elif old.exists():
            shutil.rmtree(old)
        os.replace(fresh / folder, old)
    fresh.rmdir()


if __name__ == "__main__":
    main()
