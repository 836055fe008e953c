#!/usr/bin/env python3
"""Reads the machine code of the SM100 kernels, checks what must be in it, and keeps docs/sm100-instances.md.

Usage: scripts/machine_code.py [--build FOLDER] [--proofs FILE] [--check]

Run scripts/static_proof.py before it: its verdicts are in the table. --check writes nothing and fails if the committed
table is not the one that the build gives.
"""

import argparse
import difflib
import json
import re
import sys
from pathlib import Path

from sm100 import sass
from sm100.build import ROOT, Build, Failure, run, tool

DOCUMENT = ROOT / "docs/sm100-instances.md"

HEAD = """# The SM100 kernels as compiled

Written by `scripts/machine_code.py` from the built library (cuobjdump, nvcc {nvcc}, CUTLASS {cutlass}) and from the
results of `scripts/static_proof.py`; CI fails where this page and the build differ. None of it was measured on a GPU.

A kernel's name is `sm100_<mainloop>_<SMs per MMA>sm_<tile M>x<tile N>_c<cluster M>x<cluster N>_<scheduler>`; tile N
counts columns of C, that is rows of each of B1 and B2. K is taken in tiles of 256.
"""

PROOF = """## Static proof of synchronisation

{verifier} on the PTX of the library with the launch that the host code makes, parameter and tensor maps included.
`race_free`: in every schedule the kernel ends, TMA brings the bytes that its barriers expect, no two accesses to
shared, tensor or global memory conflict, and tensor memory is used while it is allocated. Each line holds for its shape;
operands do not overlap. Fences between proxies, the size of shared memory and the numbers are outside of the proof.

* `collector::a` is left out for the verifier, which does not know it, after a check that each kept tile of A is taken
  by the next MMA with the same descriptor.
* In 64-column tiles at an odd place, MMAs read their scales two columns into what a `tcgen05.cp` wrote. The verifier
  orders an MMA after a `tcgen05.cp` by the first column only; such launches (marked *) are proved with the scales read
  from there.
* An MMA of N = 192, whose scales the verifier does not know, is proved as one of 128 and one of 64 that together read and
  write the same.
* `mad`, which the verifier does not follow into an address of tensor memory, is proved as `mul` and `add`.
* The CLC scheduler is proved for one tile per CTA: the verifier lets every request for another tile fail.
"""

MUTANTS = """## Faults that the proof finds

Put into the PTX or the launch of `{kernel}`, {case}, one at a time, on every run:

| fault | result |
|---|---|
"""


def table(head, rows):
    lines = [" | ".join(head), "|".join("---" for _ in head)]
    return "\n".join(f"| {line} |" if number != 1 else f"|{line}|"
                     for number, line in enumerate(lines + [" | ".join(map(str, row)) for row in rows])) + "\n"


def stores(code):
    widths = [f"{code.total('STG', '256')} of 32 B", f"{code.total('STG', '128')} of 16 B"]
    narrow = code.total("STG") - code.total("STG", "256") - code.total("STG", "128")
    return ", ".join(widths + [f"{narrow} narrower"])


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


def document(build, kernels, codes, results):
    nvcc = version(r"release (\d+)\.(\d+)", run([tool("nvcc"), "--version"]), "nvcc --version")
    text = HEAD.format(nvcc=nvcc, cutlass=cutlass_version(build))
    proofs = [proof for proof in results["proofs"] if "mutant" not in proof]

    def verdict(name):
        of_kernel = [proof for proof in proofs if proof["kernel"] == name]
        good = sum(not proof["objections"] for proof in of_kernel)
        return f"race_free in {good} of {len(of_kernel)}"

    text += "\n## Resources\n\n" + table(
        ["kernel", "tile", "cluster", "stages", "accumulator buffers", "registers", "shared memory",
         "TMEM columns of 512", "parameter", "static proof"],
        [[f"`{info['name']}`", "{}x{}x{}".format(*info["tile"]), "{}x{}".format(*info["cluster"]), info["stages"],
          "2, overlapping" if info["accumulator_stages"] == 1 else info["accumulator_stages"],
          codes[info["name"]].resources["REG"], info["smem_bytes"], info["tmem_columns"], info["params_bytes"],
          verdict(info["name"])] for info in kernels])
    text += """
Registers are per thread of 256, none is spilled and no kernel has local memory. Shared memory is dynamic, in bytes of
232448; 1024 more are the system's. Two overlapping accumulator buffers share columns, which the epilogue empties first.
"""
    text += "\n## Instructions\n\n" + table(
        ["kernel", "UTCOMMA", "collector", "UTCCP", "UTMALDG 3D / 4D", "of these multicast", "UTCBAR", "LDTM",
         "MUFU EX2 / RCP", "STG"],
        [[f"`{info['name']}`", f"{code.total('UTCOMMA')}{' .2CTA' if info['sms'] == 2 else ''}",
          "{} A_KEEP, {} A_REUSE".format(*(sum(use in operands for operands in code.operands["UTCOMMA"])
                                           for use in ("A_KEEP", "A_REUSE"))),
          code.total("UTCCP"), f"{code.total('UTMALDG', '3D')} / {code.total('UTMALDG', '4D')}",
          f"{code.total('UTMALDG', '3D', 'MULTICAST')} / {code.total('UTMALDG', '4D', 'MULTICAST')}",
          code.total("UTCBAR"), code.total("LDTM"), f"{code.total('MUFU', 'EX2')} / {code.total('MUFU', 'RCP')}",
          stores(code)] for info, code in ((info, codes[info["name"]]) for info in kernels)])
    text += """
UTCOMMA is the block-scaled MMA, K = 64 each; UTCCP copies scale factors to tensor memory; UTMALDG loads codes (3D) and
scale factors (4D) by TMA; UTCBAR signals a barrier when MMAs are done; LDTM reads accumulators.

"""
    text += PROOF.format(verifier=results["verifier"]) + "\n" + table(
        ["kernel", "case", "M x N x K x batch", "grid", "tiles per CTA", "result"],
        [[f"`{proof['kernel']}`", proof["case"], "x".join(map(str, proof["shape"])), "x".join(map(str, proof["grid"])),
          proof["tiles_per_cta"],
          proof["result"] + (" *" if any("odd tiles" in change for change in proof["rewritten"]) else "")]
         for proof in proofs])
    mutants = [proof for proof in results["proofs"] if "mutant" in proof]
    if mutants:
        text += "\n" + MUTANTS.format(kernel=mutants[0]["kernel"], case=mutants[0]["case"])
        text += "".join(f"| {proof['mutant']} | {proof['result']} |\n" for proof in mutants)
    return text


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("--build", type=Path, default=ROOT / "target/native",
                           help="CMake build folder of cpp/, with tests")
    arguments.add_argument("--proofs", type=Path, default=ROOT / "target/static_proof.json")
    arguments.add_argument("--check", action="store_true")
    options = arguments.parse_args()

    build = Build(options.build)
    kernels, codes = build.kernels(), sass.kernels(build.library)
    wrong = 0
    for info in kernels:
        if info["name"] not in codes:
            raise Failure(f"the library has no machine code of {info['name']}")
        code = codes[info["name"]]
        found = sass.objections(info, code)
        wrong += bool(found)
        print(f"{info['name']}: {code.resources['REG']} registers, " + ("; ".join(found) if found else "as expected"))
    if wrong:
        print(f"{wrong} kernels are not as expected")
        return 1
    if not options.proofs.exists():
        raise Failure(f"{options.proofs} does not exist: run scripts/static_proof.py first")
    results = json.loads(options.proofs.read_text())
    proved = {proof["kernel"] for proof in results["proofs"]}
    missing = [info["name"] for info in kernels if info["name"] not in proved]
    if missing:
        raise Failure(f"{options.proofs} has no proof of {', '.join(missing)}")
    text = document(build, kernels, codes, results)
    if not options.check:
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(text)
        print(f"wrote {DOCUMENT.relative_to(ROOT)}")
        return 0
    committed = DOCUMENT.read_text() if DOCUMENT.exists() else ""
    if committed == text:
        return 0
    sys.stdout.writelines(difflib.unified_diff(committed.splitlines(True), text.splitlines(True), "committed", "built"))
    print(f"{DOCUMENT.relative_to(ROOT)} is not what the build gives: run scripts/machine_code.py and commit it")
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"machine_code.py: {failure}")
