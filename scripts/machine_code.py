#!/usr/bin/env python3
"""Reads the machine code of the kernels, checks what must be in it, and keeps docs/sm100-instances.md and
docs/sm90-instances.md.

Usage: scripts/machine_code.py [--build FOLDER] [--proofs FILE] [--check]

Run scripts/static_proof.py before it: its verdicts are in the table of the SM100 kernels. --check writes nothing and fails
if a committed page is not the one that the build gives. Either way a function of any architecture that spills registers
fails, unless SPILLS has exactly that.
"""

import argparse
import difflib
import json
import re
import sys
from pathlib import Path

import sm90.code
import sm100.code
from native import sass
from native.build import ENTRY, ROOT, Build, Failure, run, tool

# What functions are known to keep in local memory, by name and architecture. To be empty.
SPILLS = {
    ("nvfp4_sm90_widened_128x96_k64_s1", "sm_90a"): {"STACK": 8, "LDL": 6, "STL": 1},
    ("nvfp4_sm90_f16_64x64_k128_s2", "sm_90a"): {"STACK": 48, "LDL": 12, "STL": 18},
    ("nvfp4_sm90_bf16_64x64_k128_s2", "sm_90a"): {"STACK": 24, "LDL": 6, "STL": 9},
}


def version(pattern, text, what):
    found = re.search(pattern, text)
    if found is None:
        raise Failure(f"no version in {what}")
    return ".".join(found.groups())


def cutlass_version(build):
    cache = (build.folder / "CMakeCache.txt").read_text()
    header = Path(re.search(r"^CUTLASS_DIR:\w+=(.*)$", cache, re.M)[1]) / "include/cutlass/version.h"
    lines = r"CUTLASS_MAJOR (\d+)\n#define CUTLASS_MINOR (\d+)\n#define CUTLASS_PATCH (\d+)"
    return version(lines, header.read_text(), header)


def spills_that_are_not_known(functions):
    """A line for each function whose spills are not those of SPILLS, and for each of SPILLS that is not there."""
    known = dict(SPILLS)
    for function in functions:
        expected, found = known.pop((function.name, function.arch), {}), sass.spills(function)
        if found != expected:
            yield f"{function.name} for {function.arch}: spills {found or 'nothing'}, SPILLS has {expected or 'nothing'}"
    for name, arch in known:
        yield f"{name} for {arch} is in SPILLS and not in the library"


def proofs_of(kernels, path):
    """The results of static_proof.py, which has to have proved all of the kernels."""
    if not path.exists():
        raise Failure(f"{path} does not exist: run scripts/static_proof.py first")
    results = json.loads(path.read_text())
    proved = {proof["kernel"] for proof in results["proofs"]}
    missing = [info["name"] for info in kernels if info["name"] not in proved]
    if missing:
        raise Failure(f"{path} has no proof of {', '.join(missing)}")
    return results


def keep(name, text, check):
    """Writes a page, or compares it with the committed one. Whether it is the page that the build gives."""
    path = ROOT / name
    if not check:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        print(f"wrote {name}")
        return True
    committed = path.read_text() if path.exists() else ""
    if committed != text:
        lines = committed.splitlines(True), text.splitlines(True)
        sys.stdout.writelines(difflib.unified_diff(*lines, "committed", "built"))
        print(f"{name} is not what the build gives: run scripts/machine_code.py and commit it")
    return committed == text


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("--build", type=Path, default=ROOT / "target/native",
                           help="CMake build folder of cpp/, with tests")
    arguments.add_argument("--proofs", type=Path, default=ROOT / "target/static_proof.json")
    arguments.add_argument("--check", action="store_true")
    options = arguments.parse_args()

    build = Build(options.build)
    functions = sass.functions(build.library)
    codes = {function.name.removeprefix(ENTRY): function for function in functions if function.name.startswith(ENTRY)}
    wrong = 0
    tables = {}
    for capability, rules in ((100, sm100.code), (90, sm90.code)):
        tables[capability] = build.kernels(capability)
        for info in tables[capability]:
            if info["name"] not in codes:
                raise Failure(f"the library has no machine code of {info['name']}")
            code = codes[info["name"]]
            found = rules.objections(info, code)
            wrong += bool(found)
            print(f"{info['name']}: {code.resources['REG']} registers, " + ("; ".join(found) or "as expected"))
    for words in spills_that_are_not_known(functions):
        wrong += 1
        print(words)
    if wrong:
        print(f"{wrong} things are not as expected")
        return 1
    nvcc = version(r"release (\d+)\.(\d+)", run([tool("nvcc"), "--version"]), "nvcc --version")
    versions = {"nvcc": nvcc, "cutlass": cutlass_version(build)}
    proofs = proofs_of(tables[100], options.proofs)
    pages = {
        sm100.code.DOCUMENT: sm100.code.document(tables[100], codes, versions, proofs),
        sm90.code.DOCUMENT: sm90.code.document(tables[90], codes, versions, functions),
    }
    good = [keep(name, text, options.check) for name, text in pages.items()]
    return 0 if all(good) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"machine_code.py: {failure}")
