#!/usr/bin/env python3
"""Proves that the SM100 kernels synchronize: no deadlock, no race, tensor memory within its life, in every schedule.

Usage: scripts/static_proof.py [--build FOLDER] [--only TEXT] [--jobs N] [--output FILE] [--all | --record]

Reads the PTX of each kernel from the built library, takes the launch that the library's host code makes for a shape
(record_launch: grid, parameter, tensor maps), and gives both to SentryWard (third_party/fetch.sh --proof). A kernel
passes if the result is race_free without a warning. Then faults are put into one kernel, each of which must be found.
Prints a table, writes the results as JSON, and exits with 1 if anything is not as it should be.

A proof of a whole table takes most of an hour. Its results are recorded in docs/sm100-proofs.json by a hash of the PTX,
the input and the pinned verifier, and are taken from there where all three are the same to the byte: what changed is
proved anew, and so are, always, the kernel that faults are put into and the faults. --all proves everything anew;
--record does, and writes the record. NVFP4_PROOF_CACHE (default: target/proofs) is a folder that keeps results likewise.

What a proof covers: one problem shape each, operands that do not overlap. Not: fences between proxies, the size of
shared memory, numbers. With the CLC scheduler each CTA gets one tile: the verifier lets every request for another fail.
"""

import argparse
import concurrent.futures
import copy
import functools
import hashlib
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path

from native.build import ROOT, Build, Failure
from sm100 import mutants, ptx, verifier

VERIFIER = "SentryWard 0.1.1"
# It and its solver, by their hashes.
PINS = (ROOT / "third_party/requirements-proof.txt").read_text()
TILE_K = 256
RECORD = ROOT / "docs/sm100-proofs.json"
# Of the case that faults are put into: small, with stages and accumulators used again.
MUTATED = "sm100_stacked_1sm_128x128_c1x1_static"
MUTATED_CASE = "3 tiles per CTA"
FOUND = ("not_wellsynced", "potential_race", "invalid_lifecycle")


def cases(kernel):
    """(name, shape, options of record_launch) that together reuse every barrier, buffer and tail of a kernel."""
    tile_m, tile_n, _ = kernel["tile"]
    cluster_m, cluster_n, _ = kernel["cluster"]
    rows, columns = tile_m * cluster_m // kernel["sms"], tile_n * cluster_n
    one_cluster = ["--sms", cluster_m * cluster_n]
    yield "stages + 2 k-tiles", (rows, columns, (kernel["stages"] + 2) * TILE_K, 1), []
    ragged = ["--type", "f32", "--glu", "clamped", "--factors"]
    # Work is CTAs by tiles by k-tiles, at some 5 seconds each: wide clusters get less of what narrow ones prove, too.
    batch = 2 if cluster_m * cluster_n < 4 else 1
    ragged_case = f"ragged, batch of {batch}", (rows - 57, columns - 13, TILE_K + 96, batch)
    if kernel["sms"] == 1:
        # The epilogue's other ways out; they are the same code in all kernels, and cheap to prove here.
        yield ("GEMM, residual in place", (rows - 57, 2 * columns - 13, TILE_K + 96, 1),
               ["--gemm", "--bias", "--residual", "--in-place", "--type", "bf16"])
        yield "C in NVFP4", (rows - 57, columns - 32, TILE_K + 96, 1), ["--bias", "--type", "nvfp4"]
    if kernel["scheduler"] == "clc":
        yield (*ragged_case, ragged)
    else:
        yield (*ragged_case, ragged + one_cluster)
        k_tiles = 2 if cluster_m * cluster_n == 1 else 1
        yield ("3 tiles per CTA", (rows, 3 * columns, k_tiles * TILE_K, 1),
               ["--type", "bf16", "--glu", "geglu"] + one_cluster)


class Kept:
    """Results of earlier runs by what was proved: those of the record, and in a folder a file each."""

    def __init__(self, folder, record):
        self.folder = folder
        self.record = record
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, key):
        return self.folder / f"{key}.json"

    def get(self, key):
        if key in self.record:
            return {**self.record[key], "from": "the record"}
        try:
            return json.loads(self.path(key).read_text())
        except FileNotFoundError:
            return None

    def put(self, key, result):
        # Whole or not at all, whoever else writes there.
        with tempfile.NamedTemporaryFile("w", dir=self.folder, suffix=".new", delete=False) as file:
            file.write(json.dumps(result) + "\n")
        os.replace(file.name, self.path(key))


class Case:
    def __init__(self, build, kernel, text, name, shape, options):
        self.kernel, self.name, self.shape = kernel, name, shape
        self.launch = build.launch(kernel["name"], shape, *options)
        tile_m, tile_n, _ = kernel["tile"]
        # A GEMM's weight is in two halves.
        tiles_n = math.ceil((math.ceil(shape[1] / 2) if "--gemm" in options else shape[1]) / tile_n)
        # Two 64-column tiles share an atom of scales; see ptx.normalize.
        odd_tiles = kernel["mainloop"] == "two_accumulators" and tile_n == 64 and \
            (tiles_n > 1 or kernel["cluster"][1] > 1)
        self.text, self.changes = ptx.normalize(text, even_tiles=odd_tiles)
        self.config = verifier.kernel_input(self.launch, self.text)
        # Another process, at other addresses: what the kernel reads must not depend on memory that was never written.
        again = build.launch(kernel["name"], shape, *options, poison=0x5C)
        if verifier.kernel_input(again, self.text) != self.config:
            raise Failure(f"{kernel['name']} reads bytes of its parameter that the host code does not write")
        self.ctas = math.prod(self.launch["grid"])
        tiles = math.ceil(shape[0] / tile_m) * kernel["sms"] * tiles_n * shape[3]
        self.tiles_per_cta = math.ceil(tiles / self.ctas)
        self.k_tiles = math.ceil(shape[2] / TILE_K)
        if kernel["scheduler"] != "clc" and name == "3 tiles per CTA" and self.tiles_per_cta != 3:
            raise Failure(f"{kernel['name']}: {self.tiles_per_cta} tiles per CTA where 3 were meant")

    @property
    def work(self):
        return self.ctas * self.tiles_per_cta * self.k_tiles

    @property
    def faulted(self):
        return (self.kernel["name"], self.name) == (MUTATED, MUTATED_CASE)

    def prove(self, stem, kept):
        key = hashlib.sha256(json.dumps([PINS, self.text, self.config]).encode()).hexdigest()
        outcome = kept.get(key)
        if outcome is None:
            started = time.monotonic()
            result = verifier.verify(self.text, self.config, stem)
            outcome = {
                "result": result.get("result"),
                "objections": verifier.objections(result),
                "seconds": round(time.monotonic() - started, 1),
                "peak_mib": round(result.get("peak_rss_mib") or 0),
            }
            kept.put(key, outcome)
        return {
            "kernel": self.kernel["name"],
            "case": self.name,
            "shape": list(self.shape),
            "grid": self.launch["grid"],
            "cluster": self.launch["cluster"],
            "tiles_per_cta": self.tiles_per_cta,
            "k_tiles": self.k_tiles,
            "rewritten": self.changes,
            "key": key,
            **outcome,
        }


def prove_mutant(base, mutant, stem, kept):
    name, change_text, change_config = mutant
    case = copy.copy(base)
    if change_text is not None:
        case.text = change_text(base.text)
        if case.text == base.text:
            raise Failure(f"mutant \"{name}\" changes nothing")
    if change_config is not None:
        case.config = copy.deepcopy(base.config)
        change_config(case.config)
    proof = case.prove(stem, kept)
    proof["mutant"] = name
    proof["found"] = proof["result"] in FOUND
    return proof


def recorded(proofs):
    """What the record keeps: proofs that are not made anew each time."""
    names = ("kernel", "case", "shape", "result", "objections", "seconds", "peak_mib")
    kept = [proof for proof in proofs if (proof["kernel"], proof["case"]) != (MUTATED, MUTATED_CASE)]
    return {"verifier": VERIFIER, "proofs": {proof["key"]: {name: proof[name] for name in names} for proof in kept}}


def line(*columns):
    print("{:<44} {:<20} {:<18} {:>8} {:>7} {:>7} {:>8}  {}".format(*columns), flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("--build", type=Path, default=ROOT / "target/native",
                           help="CMake build folder of cpp/, with tests")
    arguments.add_argument("--only", default="", help="only kernels whose name contains this")
    arguments.add_argument("--jobs", type=int, default=2)
    arguments.add_argument("--output", type=Path, default=ROOT / "target/static_proof.json")
    how = arguments.add_mutually_exclusive_group()
    how.add_argument("--all", action="store_true", help="prove what the record has as well")
    how.add_argument("--record", action="store_true", help="the same, and write the record")
    arguments.add_argument("--keep", type=Path, help="keep PTX, input and full results in this folder")
    options = arguments.parse_args()

    build = Build(options.build)
    anew = options.all or options.record
    record = {} if anew or not RECORD.exists() else json.loads(RECORD.read_text())["proofs"]
    kept = Kept(Path(os.environ.get("NVFP4_PROOF_CACHE") or ROOT / "target/proofs"), record)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.keep or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        texts = build.ptx(scratch)
        all_cases = []
        for kernel in build.kernels(100):
            if options.only not in kernel["name"]:
                continue
            if kernel["name"] not in texts:
                raise Failure(f"the library has no PTX of {kernel['name']}")
            for case in cases(kernel):
                all_cases.append(Case(build, kernel, texts[kernel["name"]], *case))
        jobs = [(case.work, case.prove) for case in all_cases]
        for base in all_cases:
            if base.faulted:
                jobs += [(base.work, functools.partial(prove_mutant, base, mutant)) for mutant in mutants.MUTANTS]
        # The longest first, so that no core idles at the end.
        jobs.sort(key=lambda job: -job[0])

        line("kernel", "case", "M x N x K x batch", "CTAs", "tiles", "k-tiles", "seconds", "result")
        proofs, failed = [], 0
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            running = [pool.submit(prove, folder / f"{number:02}", kept) for number, (_, prove) in enumerate(jobs)]
            for done in concurrent.futures.as_completed(running):
                proof = done.result()
                proofs.append(proof)
                mutant = proof.get("mutant")
                good = proof["found"] if mutant else not proof["objections"]
                failed += not good
                words = proof["result"] if good else "FAILED: " + "; ".join(proof["objections"] or ["race_free"])
                seconds = "record" if "from" in proof else proof["seconds"]
                line(proof["kernel"], proof["case"], "x".join(map(str, proof["shape"])), math.prod(proof["grid"]),
                     proof["tiles_per_cta"], proof["k_tiles"], seconds,
                     f"mutant \"{mutant}\": {words}" if mutant else words)
    order = {id(case): number for number, case in enumerate(all_cases)}
    names = {(case.kernel["name"], case.name): order[id(case)] for case in all_cases}
    proofs.sort(key=lambda proof: (names[proof["kernel"], proof["case"]], proof.get("mutant", "")))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"verifier": VERIFIER, "proofs": proofs}, indent=1) + "\n")
    if options.record and not failed and not options.only:
        RECORD.write_text(json.dumps(recorded(proofs), indent=1) + "\n")
    count = len([proof for proof in proofs if "mutant" in proof])
    print(f"{len(proofs) - count} proofs, {count} mutants, {failed} not as they should be")
    return 1 if failed or not proofs else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"static_proof.py: {failure}")
