"""Machine code of the built library: what each function uses and which instructions it has."""

import collections
import re

from .build import Failure, run, tool

LINE = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)([^;]*);")

Instruction = collections.namedtuple("Instruction", "address, predicate, name, operands")


class Function:
    """A kernel, or a function that kernels call, in the code of one architecture."""

    def __init__(self, arch, name):
        self.arch, self.name = arch, name
        self.resources = {}
        self.instructions = []

    def find(self, *parts):
        """Instructions whose dotted name begins with the first part and has the others among its qualifiers."""
        return [one for one in self.instructions
                if one.name.split(".")[0] == parts[0] and set(parts[1:]) <= set(one.name.split(".")[1:])]

    def total(self, *parts):
        return len(self.find(*parts))

    def loop_around(self, name):
        """The shortest loop with that instruction: what lies between a branch back and its target."""
        wanted = [one.address for one in self.find(name)]
        loops = []
        for one in self.find("BRA"):
            target = branch_target(one)
            if target is not None and any(target <= address < one.address for address in wanted):
                loops.append((one.address - target, target, one.address))
        if not loops:
            return []
        _, first, last = min(loops)
        return [one for one in self.instructions if first <= one.address <= last]

    def reached_without(self, barrier, name):
        """Instructions `name` that some path from the entry reaches without a `barrier` before."""
        at = {one.address: number for number, one in enumerate(self.instructions)}
        joins = collections.defaultdict(set)  # of a convergence barrier
        for one in self.find("BSSY"):
            register, target = re.match(r"\s*(B\d+), (0x[0-9a-f]+)", one.operands).groups()
            joins[register].add(int(target, 16))
        seen, waiting, found = set(), [0], []
        while waiting:
            number = waiting.pop()
            if number in seen or number >= len(self.instructions):
                continue
            seen.add(number)
            one = self.instructions[number]
            kind = one.name.split(".")[0]
            if kind == barrier:
                continue
            if kind == name:
                found.append(one)
            if kind in ("BRX", "JMX", "CALL", "RET"):
                raise Failure(f"{self.name}: {one.name} at {one.address:#x}: where it goes is not known")
            ends = kind in ("BRA", "EXIT") and one.predicate is None and "ANY" not in one.name and "DIV" not in one.name
            # A condition may also be an operand: BRA P0, 0x100.
            ends = ends and not re.match(r"\s*!?U?P\d", one.operands)
            following = set() if ends else {number + 1}
            if kind == "BSYNC":
                # Mostly the last instruction before the place of its BSSY; otherwise any of that register will do.
                places = {at[place] for place in joins[one.operands.strip()]}
                following = following & places or following | places
            elif branch_target(one) is not None:
                following.add(at[branch_target(one)])
            waiting += following
        return sorted(found)


def branch_target(one):
    if one.name.split(".")[0] != "BRA":
        return None
    target = re.search(r"(0x[0-9a-f]+)\s*$", one.operands)
    return None if target is None else int(target[1], 16)


def functions(library):
    """All functions of the library, for every architecture."""
    found = {}

    def of(arch, name):
        return found.setdefault((arch, name), Function(arch, name))

    arch = current = None
    for line in run([tool("cuobjdump"), "-sass", library]).splitlines():
        if named := re.match(r"arch = (\w+)", line):
            arch = named[1]
        elif named := re.search(r"Function : (\S+)", line):
            current = of(arch, named[1])
        elif current is not None and (parts := LINE.match(line)):
            address, predicate, name, operands = parts.groups()
            current.instructions.append(Instruction(int(address, 16), predicate, name, operands))
    for line in run([tool("cuobjdump"), "-res-usage", library]).splitlines():
        if named := re.match(r"arch = (\w+)", line):
            arch = named[1]
        elif named := re.match(r"\s*Function (\S+):", line):
            current = of(arch, named[1])
        elif re.match(r"\s*REG:", line):
            current.resources = {key: int(value) for key, value in re.findall(r"(\w+)(?:\[0\])?:(\d+)", line)}
    if not found:
        raise Failure(f"{library} has no machine code")
    for function in found.values():
        if not function.instructions or not function.resources:
            raise Failure(f"{function.name} for {function.arch}: cuobjdump shows no instructions, or no resources")
    return list(found.values())


def spills(function):
    """What a function keeps in local memory: nothing, if its registers are enough."""
    found = {memory: function.resources.get(memory, 0) for memory in ("STACK", "LOCAL")}
    found |= {name: function.total(name) for name in ("LDL", "STL")}
    return {name: number for name, number in found.items() if number}
