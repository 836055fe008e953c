"""The Hopper kernels' page, and what must be in their machine code."""

import re

from native import page

DOCUMENT = "docs/sm90-instances.md"

HEAD = """# The Hopper kernels as compiled

Written by `scripts/machine_code.py` from the built library (cuobjdump, nvcc {nvcc}, CUTLASS {cutlass}); CI fails where
this page and the build differ. What was measured is in [hopper-tuning.md](hopper-tuning.md).

A kernel's name is `sm90_<mainloop>_<tile M>x<tile N>_k<tile K>_s<slices>`, where activations of 16 bits have their type in
place of the main loop; tile N counts columns of C, that is rows of each of B1 and B2, and slices are the warpgroups that
share the K of the same columns. The cluster is chosen for each launch.
"""

RESOURCES = """
Registers are per thread at the launch, and after `setmaxnreg` of producers / consumers. Spilled is what the compiler keeps
in local memory for want of registers. Shared memory is dynamic, in bytes of 232448; 1024 more are the system's. The last
column is the kernel that widens A ahead of the GEMM: its registers; tiles of eight tokens and activations of 16 bits have
none.
"""

INSTRUCTIONS = """
HGMMA is the matrix instruction, K = 16 each. The main loop is the shortest loop that has any: its instructions for each 64
of K of a warpgroup, which are four HGMMA, and among them R2UR, a value moved to the registers that descriptors are
taken from. UTMALDG loads by TMA. F2FP to E5M2 promotes the leading bits of a long sum where a byte of
it is kept; where 16 bits are, a PRMT does. MEMBAR.GPU waits for all memory
of the device. The last column: loads of global memory that some path from the beginning reaches without ACQBULK, which
is `griddepcontrol.wait`, before it, of all loads. Such a load is ordered after the kernel before only by what it depends
on.
"""

# Loads that are not behind a wait of their own thread.
UNORDERED_LOADS = {}


def of_values(info):
    """Whether activations have 16 bits."""
    return not info["name"].startswith("sm90_widened_")


def widening(functions, info):
    """The kernel that widens A ahead of this one; none for tiles of eight tokens and activations of 16 bits."""
    if of_values(info):
        return None
    tokens, columns, k = info["tile"]
    named = re.compile(rf"_ZN5nvfp44sm9012widen_tokensINS0_4TileILi{tokens}ELi{columns}ELi{k}E")
    found = [function for function in functions if named.match(function.name)]
    return found[0] if found else None


def registers_after(code):
    """setmaxnreg's operands: of those that give registers back, and of those that get them."""
    def value(qualifier):
        changes = code.find("USETMAXREG", qualifier)
        return sorted({int(re.search(r"0x[0-9a-f]+", one.operands)[0], 16) for one in changes})
    return value("DEALLOC"), value("TRY_ALLOC")


def unordered_loads(code):
    return code.reached_without("ACQBULK", "LDG")


def document(kernels, codes, versions, functions):
    def resources(info):
        code, ahead = codes[info["name"]], widening(functions, info)
        spilled = page.spilled(code)
        after = " / ".join(",".join(map(str, values)) for values in registers_after(code))
        return [f"`{info['name']}`", "{}x{}x{}".format(*info["tile"]), info["stages"], info["threads"],
                f"{code.resources['REG']}, {after}", spilled, info["smem_bytes"], info["params_bytes"],
                "none" if ahead is None else f"{ahead.resources['REG']}, spilled: {page.spilled(ahead)}"]

    def instructions(info):
        code = codes[info["name"]]
        loop = code.loop_around("HGMMA")
        groups = sum(one.name.startswith("HGMMA") for one in loop) // 4
        moved = sum(one.name.startswith("R2UR") for one in loop)
        return [f"`{info['name']}`", len(code.instructions), code.total("HGMMA"),
                f"{len(loop) / groups:g}", f"{moved / groups:g}", code.total("UTMALDG", "3D"),
                code.total("F2FP", "E5M2"), code.total("MEMBAR", "GPU"),
                f"{code.total('MUFU', 'EX2')} / {code.total('MUFU', 'RCP')}", page.stores(code),
                f"{len(unordered_loads(code))} of {code.total('LDG')}"]

    text = HEAD.format(**versions)
    text += "\n## Resources\n\n" + page.table(
        ["kernel", "tile", "stages", "threads", "registers: launch, producers / consumers", "spilled", "shared memory",
         "parameter", "ahead of it"],
        [resources(info) for info in kernels]) + RESOURCES
    text += "\n## Instructions\n\n" + page.table(
        ["kernel", "all", "HGMMA", "main loop, of 64 K", "R2UR in it", "UTMALDG", "F2FP to E5M2", "MEMBAR.GPU",
         "MUFU EX2 / RCP", "STG", "LDG without ACQBULK"],
        [instructions(info) for info in kernels]) + INSTRUCTIONS
    return text


def objections(info, code):
    """Why the machine code of a kernel is not what its row of the table means; nothing if it is."""
    found = []

    def expect(good, words):
        if not good:
            found.append(words)

    tokens, _, tile_k = info["tile"]
    operands = ".BF16" if info["name"].startswith("sm90_bf16_") else ""
    wrong = {one.name for one in code.find("HGMMA")} - {f"HGMMA.64x{tokens}x16.F32{operands}"}
    expect(not wrong, f"{', '.join(sorted(wrong))} for tiles of {tokens} tokens")
    loop = code.loop_around("HGMMA")
    multiplied = sum(one.name.startswith("HGMMA") for one in loop)
    expect(multiplied > 0 and multiplied % 4 == 0, f"{multiplied} HGMMA in the main loop: not whole groups of 64 K")
    # One group of K is multiplied while the next is widened: what ptxas calls serialized waits for each.
    waits = [one.operands for one in loop if one.name.startswith("WARPGROUP.DEPBAR") and "0x0" in one.operands]
    expect(not waits, f"{len(waits)} waits in the main loop for all that is being multiplied")
    expect(all(len(values) == 1 for values in registers_after(code)), "setmaxnreg is not one number for each role")
    # Codes and scales of both matrices; tokens a group of K at a time, where they come in stages.
    loads, per_tile = code.total("UTMALDG", "3D"), 4
    expect(loads >= per_tile + (tile_k // 64 if tokens > 8 else 0), f"{loads} UTMALDG.3D")
    in_bytes = not of_values(info) or tokens in (64, 256)
    expect(not in_bytes or code.total("F2FP", "E5M2") > 0, "long sums are left to the tensor cores, which truncate")
    expect(code.total("MUFU", "EX2") > 0 and code.total("MUFU", "RCP") > 0, "the GLU is not ex2 and rcp")
    expect(code.total("MUFU", "TANH") == 0, "tanh.approx: too coarse for f16")
    expect(code.total("ACQBULK") > 0, "no griddepcontrol.wait: a programmatic launch would read too early")
    expect(code.total("PREEXIT") > 0, "no griddepcontrol.launch_dependents")
    unordered, known = len(unordered_loads(code)), UNORDERED_LOADS.get(info["name"], 0)
    expect(unordered == known,
           f"{unordered} LDG with no griddepcontrol.wait before them, where UNORDERED_LOADS has {known}")
    return found
