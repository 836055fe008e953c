"""PTX text: what a kernel reads of its parameter, and the rewriting that the verifier needs."""

import re

from native.build import Failure

PARAMETER = re.compile(r"\.param\s+\.align\s+\d+\s+\.b8\s+(\w+)\[(\d+)\]")
MMA = re.compile(
    r"tcgen05\.mma\.\S*?kind::mxf4nvf4\S*\s+\[(%\w+)\],\s*(%\w+),\s*(%\w+),\s*(%\w+),"
    r"\s*\[(%\w+)\],\s*\[(%\w+)\],\s*(\w+|%\w+)\s*;")


def parameter(text):
    """Name and size of the kernel's one parameter."""
    found = PARAMETER.findall(text)
    if len(found) != 1:
        raise Failure(f"the PTX declares {len(found)} structures as parameters instead of 1")
    return found[0][0], int(found[0][1])


def parameter_words(text):
    """{(offset, bytes)} of all words that the kernel loads from its parameter."""
    name, _ = parameter(text)
    base = {name: 0}
    # Address arithmetic on the parameter stands before its use; two passes follow any chain nvcc makes.
    for _ in range(2):
        for target, source in re.findall(r"mov\.[bu]64\s+(%\w+),\s*([%\w]+);", text):
            if source in base:
                base[target] = base[source]
        for target, source, offset in re.findall(r"add\.s64\s+(%\w+),\s*(%\w+),\s*(\d+);", text):
            if source in base:
                base[target] = base[source] + int(offset)
    # Of an array of two, for the two parts of C, one element is chosen at run time (common/output.hpp).
    chosen = {target: base[source] for target, source in re.findall(r"add\.s64\s+(%\w+),\s*(%\w+),\s*%\w+;", text)
              if source in base}
    words = set()
    load = re.compile(
        r"ld\.param(?:::entry)?(?:\.v([248]))?\.[busf](8|16|32|64)\s+(?:\{[^}]*\}|%\w+),\s*\[([%\w]+)(?:\+(\d+))?\]")
    for vector, bits, register, offset in load.findall(text):
        if register not in base:
            if register in chosen and not vector:
                start, width = chosen[register] + int(offset or 0), int(bits) // 8
                words |= {(start, width), (start + width, width)}
                continue
            if register.startswith("%"):
                raise Failure(f"ld.param through {register}, whose offset in the parameter is not a constant")
            continue  # the parameter of a call
        width = int(bits) // 8
        start = base[register] + int(offset or 0)
        words |= {(start + i * width, width) for i in range(int(vector or 1))}
    # Where one load takes two words that another takes one by one.
    def inside(word, other):
        return word != other and other[0] <= word[0] and word[0] + word[1] <= other[0] + other[1]

    return {word for word in words if not any(inside(word, other) for other in words)}


def definitions(text):
    """{register: (opcode, operands)} of registers with one plain definition."""
    found, several = {}, set()
    for opcode, operands in re.findall(r"^\s*([a-z][\w.:]*)\s+(%\w+,[^;{}\[\]]*);", text, re.M):
        target, *sources = [word.strip() for word in operands.split(",")]
        if target in found:
            several.add(target)
        found[target] = (opcode, sources)
    return {target: what for target, what in found.items() if target not in several}


def check_collector(text):
    """Every A tile that is kept in the collector is taken by the next MMA, with the same descriptor."""
    kept = None
    pairs = 0
    for line in text.splitlines():
        match = MMA.search(line)
        if not match:
            continue
        use = re.search(r"collector::a::(\w+)", line)
        use = use[1] if use else "discard"
        if kept is not None and (use != "lastuse" or match[2] != kept):
            raise Failure(f"the A tile {kept} is kept, but the next MMA has {match[2]} and {use}")
        if kept is None and use in ("lastuse", "use"):
            raise Failure(f"an MMA takes {match[2]} from the collector, and none before it kept that")
        kept = match[2] if use == "fill" else None
        pairs += use == "fill"
    if kept is not None:
        raise Failure(f"the A tile {kept} is kept to the end")
    return pairs


def scale_column_shift(text):
    """The registers by which MMAs move their B scales by 0 or 2 columns, which only 64-column tiles do."""
    defined = definitions(text)
    shifts, seen = set(), set()

    def is_shift(register):
        opcode, sources = defined.get(register, ("", []))
        if opcode == "and.b32" and sources[1] == "2":
            return True
        if opcode == "shl.b32" and sources[1] == "1":
            inner, operands = defined.get(sources[0], ("", []))
            return inner == "and.b32" and operands[1] == "1"
        return False

    def walk(register):
        if register in seen:
            return
        seen.add(register)
        if is_shift(register):
            shifts.add(register)
            return
        opcode, sources = defined.get(register, ("", []))
        if opcode in ("add.s32", "mov.b32", "or.b32", "mad.lo.s32"):
            for source in sources:
                walk(source)

    for match in MMA.finditer(text):
        walk(match[6])
    return shifts


def split_wide(text):
    """Each MMA of N = 192 as one of 128 and one of 64 with the same operands, whose columns and rows together are its."""
    count = 0

    def split(match):
        nonlocal count
        accumulator, a, b, descriptor, a_scales, b_scales, predicate = match.groups()
        constant = re.findall(r"mov\.b32\s+" + descriptor + r",\s*(\d+);", text)
        if len(set(constant)) != 1:
            raise Failure(f"{descriptor}, an MMA's instruction descriptor, is not one constant")
        value = int(constant[0])
        # Bits 17 to 22 of the descriptor: N / 8 (PTX ISA, instruction descriptor of kind::mxf4nvf4).
        rest = value & ~(0x3F << 17)
        if (value ^ rest) >> 17 != 192 // 8:
            return match[0]
        count += 1
        opcode = match[0].split("[")[0].strip()
        # The rows of B are divided among the CTAs of the MMA; descriptors count 16 bytes.
        rows = 128 // (2 if "cta_group::2" in opcode else 1)
        return (f"{{\n\t.reg .b32 %first, %second, %columns, %atom;\n\t.reg .b64 %rows;\n"
                f"\tmov.b32 \t%first, {rest | 128 // 8 << 17};\n\tmov.b32 \t%second, {rest | 64 // 8 << 17};\n"
                f"\tadd.s32 \t%columns, {accumulator}, 128;\n\tadd.s64 \t%rows, {b}, {rows * 128 // 16};\n"
                f"\tadd.s32 \t%atom, {b_scales}, 4;\n"
                f"\t{opcode} [{accumulator}], {a}, {b}, %first, [{a_scales}], [{b_scales}], {predicate};\n"
                f"\t{opcode} [%columns], {a}, %rows, %second, [{a_scales}], [%atom], {predicate};\n\t}}")

    return MMA.sub(split, text), count


def normalize(text, even_tiles):
    """The PTX as the verifier can read it, and words for what changed.

    * `collector::a` qualifiers go: they say where a copy of A comes from, not what is read or written.
    * mad on addresses of tensor memory becomes mul and add, which it follows.
    * an MMA of N = 192 becomes two, as the verifier has no scales of 192 rows.
    * `even_tiles`: scales of B are read where the tcgen05.cp before wrote from, not two columns further on. Both are
      columns of the same tcgen05.cp, and the verifier orders an MMA after a tcgen05.cp only by its first column.
    """
    changes = []
    # Names of variables of CUTLASS's headers, which the kernel does not use, have a hash of the build folder in them.
    text = re.sub(r"(_INTERNAL_|_GLOBAL__N__)[0-9a-f]{8}_", r"\g<1>0_", text)
    pairs = check_collector(text)
    if pairs:
        text = re.sub(r"\.collector::a::\w+", "", text)
        changes.append(f"collector qualifiers of {pairs} pairs of MMAs checked and left out")

    def mul_add(match):
        target, a, b, c = match.groups()
        return (f"{{\n\t.reg .b32 %product;\n\tmul.lo.s32 \t%product, {a}, {b};\n"
                f"\tadd.s32 \t{target}, %product, {c};\n\t}}")

    text, count = re.subn(r"mad\.lo\.s32\s+(%\w+),\s*(%\w+),\s*([-%\w]+),\s*(%\w+);", mul_add, text)
    if count:
        changes.append(f"{count} mad split")
    text, count = split_wide(text)
    if count:
        changes.append(f"{count} MMAs of N = 192 split into 128 and 64")
    if even_tiles:
        shifts = scale_column_shift(text)
        if not shifts:
            raise Failure("no MMA moves its scales by the parity of the tile; the proof's case needs another look")
        for register in shifts:
            definition = re.compile(r"^\s*(?:and|shl)\.b32\s+" + register + r",[^;]*;", re.M)
            text, count = definition.subn(f"\tmov.b32 \t{register}, 0;", text)
            if count != 1:
                raise Failure(f"{register} has {count} definitions")
        changes.append("scales of odd tiles read from the first columns of their tcgen05.cp")
    return text, changes
