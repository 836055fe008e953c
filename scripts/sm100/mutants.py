"""Faults put into a kernel's PTX or into its launch, each of which the proof has to find.

A place is found by what it is: a wait by the instruction that it guards, a barrier operation by its opcode.
"""

import re

from native.build import Failure

SPIN = re.compile(r"LAB_WAIT:\s*\n\s*mbarrier\.try_wait\.parity\.shared::cta\.b64 P1, [^;]*;")
PROBE = re.compile(r"mbarrier\.try_wait\.parity\.shared::cta\.b64 P1, [^;]*;(?=\s*\n\s*selp)")
# What a thread sees that does not wait.
PASSED = "setp.eq.u32 P1, 0, 0;"


def first(pattern, text, what, start=0):
    match = re.compile(pattern).search(text, start)
    if match is None:
        raise Failure(f"the PTX has no {what}")
    return match


def without(match, text):
    return text[:match.start()] + "//" + text[match.start():]


def skip_wait_before(pattern, what):
    """The last blocking wait before an instruction succeeds at once, and so do the probes that may stand for it: those
    after the blocking wait before that."""

    def mutate(text):
        guarded = first(pattern, text, what).start()
        waits = list(SPIN.finditer(text, 0, guarded))
        if not waits:
            raise Failure(f"nothing waits before {what}")
        start = waits[-2].end() if len(waits) > 1 else 0
        skipped = SPIN.sub(lambda wait: wait[0].split("mbarrier")[0] + PASSED, text[start:guarded])
        return text[:start] + PROBE.sub(PASSED, skipped) + text[guarded:]

    return mutate


def drop(pattern, what, which):
    def mutate(text):
        matches = list(re.finditer(pattern, text))
        if not matches:
            raise Failure(f"the PTX has no {what}")
        return without(matches[which], text)

    return mutate


def drop_all(pattern, what):
    def mutate(text):
        text, count = re.subn(f"(?={pattern})", "//", text)
        if count == 0:
            raise Failure(f"the PTX has no {what}")
        return text

    return mutate


def expect_less(text):
    """The full barrier is told of 16 bytes fewer than TMA will bring."""
    match = first(r"(mbarrier\.arrive\.expect_tx\S*\s+_,\s*\[[^\]]*\],\s*)(%?\w+)(;)", text, "expect_tx")
    operand = match[2]
    if operand.startswith("%"):
        value = first(r"mov\.b32\s+" + operand + r",\s*(\d+);", text, f"constant in {operand}")[1]
    else:
        value = operand
    return text[:match.start()] + match[1] + str(int(value) - 16) + match[3] + text[match.end():]


def half_box(config):
    """A's tensor map brings half the rows of a tile."""
    for entry in config["tma_descriptors"]:
        if entry["object"] == "A":
            entry["box_shape"][1] //= 2


MMA = r"tcgen05\.mma\."
# (name, what to do to the PTX, what to do to the input)
MUTANTS = [
    ("no commit to the barrier of an empty stage", drop(r"tcgen05\.commit", "tcgen05.commit", 0), None),
    ("no commit to the barrier of a full accumulator", drop(r"tcgen05\.commit", "tcgen05.commit", -1), None),
    ("MMA does not wait for a full stage", skip_wait_before(r"tcgen05\.cp\.", "tcgen05.cp"), None),
    ("MMA does not wait for an empty accumulator", skip_wait_before(MMA, "tcgen05.mma"), None),
    ("TMA does not wait for an empty stage", skip_wait_before(r"cp\.async\.bulk\.tensor", "TMA load"), None),
    ("epilogue does not wait for a full accumulator", skip_wait_before(r"tcgen05\.ld\.", "tcgen05.ld"), None),
    ("accumulators released without tcgen05.wait::ld", drop_all(r"tcgen05\.wait::ld", "tcgen05.wait::ld"), None),
    ("16 bytes fewer expected than loaded", expect_less, None),
    ("tensor memory given back without a wait", skip_wait_before(r"tcgen05\.dealloc", "tcgen05.dealloc"), None),
    ("half a box of A", None, half_box),
]
