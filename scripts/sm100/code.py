"""The SM100 kernels' page, and what must be in their machine code."""

from native import page

DOCUMENT = "docs/sm100-instances.md"

HEAD = """# The SM100 kernels as compiled

Written by `scripts/machine_code.py` from the built library (cuobjdump, nvcc {nvcc}, CUTLASS {cutlass}) and from the
results of `scripts/static_proof.py`; CI fails where this page and the build differ. None of it was measured on a GPU.

A kernel's name is `sm100_<mainloop>_<SMs per MMA>sm_<tile M>x<tile N>_c<cluster M>x<cluster N>_<scheduler>`; tile N
counts columns of C, that is rows of each of B1 and B2. K is taken in tiles of 256.
"""

PROOF = """## Static proof of synchronization

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


def collector_uses(code):
    """MMAs that keep their tile of A for the next, and that reuse it."""
    operands = [one.operands for one in code.find("UTCOMMA")]
    return tuple(sum(use in text for text in operands) for use in ("A_KEEP", "A_REUSE"))


def document(kernels, codes, versions, results):
    text = HEAD.format(**versions)
    proofs = [proof for proof in results["proofs"] if "mutant" not in proof]

    def verdict(name):
        of_kernel = [proof for proof in proofs if proof["kernel"] == name]
        good = sum(not proof["objections"] for proof in of_kernel)
        return f"race_free in {good} of {len(of_kernel)}"

    text += "\n## Resources\n\n" + page.table(
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
    text += "\n## Instructions\n\n" + page.table(
        ["kernel", "UTCOMMA", "collector", "UTCCP", "UTMALDG 3D / 4D", "of these multicast", "UTCBAR", "LDTM",
         "MUFU EX2 / RCP", "STG"],
        [[f"`{info['name']}`", f"{code.total('UTCOMMA')}{' .2CTA' if info['sms'] == 2 else ''}",
          "{} A_KEEP, {} A_REUSE".format(*collector_uses(code)),
          code.total("UTCCP"), f"{code.total('UTMALDG', '3D')} / {code.total('UTMALDG', '4D')}",
          f"{code.total('UTMALDG', '3D', 'MULTICAST')} / {code.total('UTMALDG', '4D', 'MULTICAST')}",
          code.total("UTCBAR"), code.total("LDTM"), f"{code.total('MUFU', 'EX2')} / {code.total('MUFU', 'RCP')}",
          page.stores(code)] for info, code in ((info, codes[info["name"]]) for info in kernels)])
    text += """
UTCOMMA is the block-scaled MMA, K = 64 each; UTCCP copies scale factors to tensor memory; UTMALDG loads codes (3D) and
scale factors (4D) by TMA; UTCBAR signals a barrier when MMAs are done; LDTM reads accumulators.

"""
    text += PROOF.format(verifier=results["verifier"]) + "\n" + page.table(
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


def objections(info, code):
    """Why the machine code of a kernel is not what its row of the table means; nothing if it is."""
    found = []

    def expect(good, words):
        if not good:
            found.append(words)

    sms = info["sms"]
    cluster_m, cluster_n, _ = info["cluster"]
    matrices = 1 if info["mainloop"] == "interleaved" else 2
    accumulators = 2 if info["mainloop"] == "two_accumulators" else 1

    # K = 256 is four MMAs for each accumulator; the scales of 128 rows by 64 of K are one copy to tensor memory.
    mma = code.total("UTCOMMA")
    expect(mma == 4 * accumulators, f"{mma} UTCOMMA instead of {4 * accumulators}")
    copies = code.total("UTCCP")
    expect(copies == 4 * 3, f"{copies} UTCCP instead of 12")
    kept, reused = collector_uses(code)
    wanted = 4 if accumulators == 2 else 0
    expect((kept, reused) == (wanted, wanted), f"{kept} A_KEEP and {reused} A_REUSE instead of {wanted} each")
    for name in ("UTCOMMA", "UTCCP", "UTCBAR", "UTMALDG"):
        pair = code.total(name, "2CTA")
        wanted = code.total(name) if sms == 2 else 0
        expect(pair == wanted, f"{pair} {name}.2CTA instead of {wanted}")

    # nvcc may repeat the loop's body: codes and scales of A and of each matrix, as often as it did.
    codes, scales = code.total("UTMALDG", "3D"), code.total("UTMALDG", "4D")
    per_body = 1 + matrices
    expect(codes == scales and codes > 0 and codes % per_body == 0,
           f"{codes} UTMALDG.3D and {scales} UTMALDG.4D for {per_body} operands")
    bodies = codes // per_body
    multicast_codes = bodies * ((cluster_n > 1) + matrices * (cluster_m > sms))
    multicast_scales = bodies * ((cluster_n > 1) + matrices * (cluster_m > 1))
    for dimensions, wanted in (("3D", multicast_codes), ("4D", multicast_scales)):
        number = code.total("UTMALDG", dimensions, "MULTICAST")
        expect(number == wanted, f"{number} UTMALDG.{dimensions}.MULTICAST instead of {wanted}")

    barriers = code.total("UTCBAR")
    expect(barriers == 2, f"{barriers} UTCBAR: one frees a stage, one hands over an accumulator")
    expect(code.total("LDTM") > 0, "no LDTM")
    expect(code.total("MUFU", "EX2") > 0 and code.total("MUFU", "RCP") > 0, "the GLU is not ex2 and rcp")
    expect(code.total("MUFU", "TANH") == 0, "tanh.approx: too coarse for f16")
    expect(code.total("STG", "256") > 0, "no store of 32 bytes")
    expect(code.total("ACQBULK") > 0, "no griddepcontrol.wait: a programmatic launch would read too early")
    clc = code.total("UGETNEXTWORKID") > 0
    expect(clc == (info["scheduler"] == "clc"),
           "cluster launch control " + ("in a static scheduler" if clc else "is missing"))
    return found
