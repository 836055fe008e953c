"""Machine code of the built library: what each kernel uses and which instructions it has."""

import collections
import re

from .build import ENTRY, Failure, run, tool

INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)([^;]*);")


class Kernel:
    def __init__(self):
        self.resources = {}
        self.count = collections.Counter()  # of an instruction with all its qualifiers
        self.operands = collections.defaultdict(list)  # of the tensor core's instructions

    def total(self, *parts):
        """Instructions whose dotted name begins with the first part and has the others among its qualifiers."""
        return sum(number for name, number in self.count.items()
                   if name.split(".")[0] == parts[0] and set(parts[1:]) <= set(name.split(".")[1:]))


def kernels(library):
    """{kernel of the table: Kernel}"""
    found = collections.defaultdict(Kernel)
    current = None
    for line in run([tool("cuobjdump"), "-sass", library]).splitlines():
        function = re.search(r"Function : (\w+)", line)
        if function:
            name = function[1]
            current = found[name[len(ENTRY):]] if name.startswith(ENTRY) else None
            continue
        instruction = INSTRUCTION.match(line)
        if instruction and current is not None:
            current.count[instruction[1]] += 1
            if instruction[1].startswith("UTCOMMA"):
                current.operands["UTCOMMA"].append(instruction[2])
    usage = run([tool("cuobjdump"), "-res-usage", library])
    for name, words in re.findall(r"Function " + ENTRY + r"(\w+):\s*\n\s*(.*)", usage):
        found[name].resources = {key: int(value) for key, value in re.findall(r"(\w+)(?:\[0\])?:(\d+)", words)}
    if not found:
        raise Failure(f"{library} has no machine code of a kernel")
    return found


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
    for memory in ("STACK", "LOCAL"):
        expect(code.resources.get(memory) == 0, f"{memory} is {code.resources.get(memory)}")
    for spill in ("LDL", "STL"):
        expect(code.total(spill) == 0, f"{code.total(spill)} {spill}: local memory")

    # K = 256 is four MMAs for each accumulator; the scales of 128 rows by 64 of K are one copy to tensor memory.
    mma = code.total("UTCOMMA")
    expect(mma == 4 * accumulators, f"{mma} UTCOMMA instead of {4 * accumulators}")
    copies = code.total("UTCCP")
    expect(copies == 4 * 3, f"{copies} UTCCP instead of 12")
    kept = sum("A_KEEP" in operands for operands in code.operands["UTCOMMA"])
    reused = sum("A_REUSE" in operands for operands in code.operands["UTCOMMA"])
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
    expect(code.total("MUFU", "EX2") > 0 and code.total("MUFU", "RCP") > 0, "the gate is not ex2 and rcp")
    expect(code.total("MUFU", "TANH") == 0, "tanh.approx: too coarse for f16")
    expect(code.total("STG", "256") > 0, "no store of 32 bytes")
    expect(code.total("ACQBULK") > 0, "no griddepcontrol.wait: a programmatic launch would read too early")
    clc = code.total("UGETNEXTWORKID") > 0
    expect(clc == (info["scheduler"] == "clc"),
           "cluster launch control " + ("in a static scheduler" if clc else "is missing"))
    return found
