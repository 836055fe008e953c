"""Who uses whom in a crate, and what of that its floors do not allow."""

import tomllib

from .source import Fault, Module, Reader, below

# More re-exports of re-exports than anybody writes.
DEEPEST = 40


class Crate:
    """The modules of a crate, and who uses whom."""

    def __init__(self, name, section, base):
        self.name = name
        self.library = section.get("library", name.replace("-", "_"))
        self.directory = base / section["root"]
        self.base = base
        self.own_impls = section.get("own_impls", False)
        self.floors = section["floors"]
        self.edges = section.get("edges", {})
        self.faults = []
        # (module, module) -> uses, as (file, line, path)
        self.uses = {}
        self.floor_of = {}
        for height, floor in enumerate(self.floors):
            for module in floor["modules"]:
                if module in self.floor_of:
                    self.faults.append(f"{name}: {module} is on two floors")
                self.floor_of[module] = height
        self.listed = {
            () if module == "crate" else tuple(module.split("::")): module for module in self.floor_of
        }
        self.root = Module((), self.directory / "lib.rs", ())
        self.modules = [self.root]
        self.read()
        self.macros = {}
        for module in self.modules:
            for item in module.items:
                if item.endswith("!"):
                    self.macros.setdefault(item, []).append(module)

    # What there is.

    def read(self):
        files = sorted(self.directory.rglob("*.rs"))
        if not files:
            raise Fault(f"{self.name}: no .rs file in {self.directory}")
        by_file = {}
        for file in files:
            path = list(file.relative_to(self.directory).with_suffix("").parts)
            if path[-1] in ("mod", "lib") and path != ["bin", "lib"]:
                path.pop()
            elif path[0] == "bin" and len(path) == 3 and path[-1] == "main":
                path.pop()
            by_file[file] = self.node(tuple(path), file)
        for file, module in by_file.items():
            if self.of(module) is None:
                self.faults.append(f"{self.show(file)}: it belongs to no module that is listed")
            Reader(module, file.read_text()).read()
        self.modules = list(every(self.root))
        used = {self.of(module) for module in self.modules}
        for name in self.floor_of:
            if name not in used:
                self.faults.append(f"{self.name}: there is no file of {name}, which is listed")

    def node(self, path, file):
        """The module of a file. Binaries are crates of their own."""
        module = self.root
        for depth, name in enumerate(path, 1):
            if name not in module.children:
                child = below(module, name, file)
                if path[0] == "bin" and depth == 2 or path == ("main",):
                    child.root = child.path
                module.children[name] = child
            module = module.children[name]
        module.file = file
        return module

    def of(self, module):
        """The listed module that a module belongs to."""
        for length in range(len(module.path), 0, -1):
            if module.path[:length] in self.listed:
                return self.listed[module.path[:length]]
        return self.listed.get(()) if module.file == self.root.file else None

    def show(self, file):
        return file.relative_to(self.base) if file.is_relative_to(self.base) else file

    # Who uses whom.

    def at(self, path):
        module = self.root
        for name in path:
            module = module.children[name]
        return module

    def charges(self, here, path, depth=0):
        """The listed modules that a path uses, and the module and item where it ends; no end in another crate."""
        if depth > DEEPEST:
            return set(), None
        first, rest, end = path[0], path[1:], None
        if first == "::":
            # Of our crates only the library can be named so, by a binary.
            return self.walk((self.root, None), rest[1:], set(), depth) if rest[:1] == [self.library] else (set(), None)
        if first == "crate":
            end = (self.at(here.root), None)
        elif first in ("self", "super"):
            rest = path[1:] if first == "self" else path
            while rest[:1] == ["super"]:
                here, rest = here.parent or here, rest[1:]
            end = (here, None)
        elif first in here.children:
            end = (here.children[first], None)
        else:
            found = self.imported(here, first, depth)
            if found is not None:
                charged, end = found
                return self.walk(end, rest, charged, depth)
            if first in here.items or first.rstrip("!") + "!" in here.items:
                end = (here, first)
            elif first == self.library and here.root != ():
                end = (self.root, None)
        return self.walk(end, rest, set(), depth) if end else (set(), None)

    def imported(self, here, name, depth):
        """What a name is that a module imports: who is charged, and where it ends."""
        charged, ends = set(), []
        for use in here.imports:
            # `use half;` names another crate: not itself.
            if not use.is_glob and use.name == name.rstrip("!") and use.path != [name]:
                # There are several where each has its own #[cfg].
                more, end = self.charges(here, use.path, depth + 1)
                charged |= more
                ends.append(end or (None, name))
        if ends:
            return charged, next((end for end in ends if end[0] is not None), ends[0])
        for use in here.imports:
            if use.is_glob:
                charged, end = self.charges(here, use.path, depth + 1)
                if end is None or end[0] is None or end[1] is not None:
                    continue
                target = end[0]
                if name in target.children:
                    return charged, (target.children[name], None)
                if name in target.items:
                    return self.defined(target) | charged, (target, name)
                found = self.imported(target, name, depth + 1) if depth < DEEPEST else None
                if found is not None and found[1][0] is not None:
                    return charged | found[0], found[1]
        return None

    def defined(self, module):
        of = self.of(module)
        return {of} if of else set()

    def walk(self, end, rest, charged, depth):
        """Goes on from a module by the names that are left."""
        module, item = end
        charged = set(charged)
        if module is None:
            return charged, end
        for place, name in enumerate(rest):
            if item is not None:
                break
            if name in module.children and name not in module.items:
                module = module.children[name]
                continue
            if name in module.items or name.rstrip("!") + "!" in module.items:
                item = name
                break
            exported = self.macros_of_root(name) if module is self.root else None
            if exported:
                return charged | self.defined(exported), (exported, name)
            found = self.imported(module, name, depth + 1)
            if found is None:
                # Something that a macro defines, or nothing that we know.
                item = name
                break
            more, (target, item_there) = found
            charged |= more
            if target is None:
                # Another crate's, through a module of ours.
                return charged | (set() if module is self.root else self.defined(module)), (None, name)
            if module.path != target.path[: len(module.path)]:
                charged |= self.defined(module)
            return self.walk((target, item_there), rest[place + 1 :], charged, depth + 1)
        if item is not None or module.path not in (self.root.path, module.root):
            charged |= self.defined(module)
        return charged, (module, item)

    def macros_of_root(self, name):
        found = self.macros.get(name.rstrip("!") + "!", [])
        return found[0] if len(found) == 1 and name.rstrip("!") not in self.root.children else None

    def collect(self):
        for module in self.modules:
            of = self.of(module)
            if of is None:
                continue
            for use in module.imports:
                charged, end = self.charges(module, use.path)
                if use.is_glob and end and end[0] is not None and end[1] is None:
                    for other in end[0].imports:
                        if other.is_public or module.path[: len(end[0].path)] == end[0].path:
                            charged |= self.charges(end[0], other.path)[0]
                    if end[0] is self.root and self.root.items:
                        charged |= self.defined(self.root)
                path = "::".join(use.path) + ("::*" if use.is_glob else "")
                self.note(of, charged, module, use.line, path)
            for use in module.paths:
                charged, _ = self.charges(module, use.path)
                self.note(of, charged, module, use.line, "::".join(use.path))
            for use in module.calls:
                self.macro(of, module, use)
            if self.own_impls:
                for use in module.impls:
                    self.method(of, module, use)

    def macro(self, of, module, use):
        """A macro by its bare name, which comes from the text above or from #[macro_use]."""
        name = use.path[0] + "!"
        scope = module
        while scope is not None:
            if name in scope.items or self.imported(scope, use.path[0], 0) is not None:
                return
            scope = scope.parent
        found = self.macros.get(name, [])
        if len(found) == 1:
            self.note(of, self.defined(found[0]), module, use.line, name)

    def method(self, of, module, use):
        charged, end = self.charges(module, use.path)
        if end is None or end[0] is None:
            return
        owner = self.of(end[0])
        if owner not in (None, of):
            where = f"{self.show(module.file)}:{use.line}"
            path = "::".join(use.path)
            self.faults.append(f"{where}: {of} adds methods to {path}, which is of {owner}")

    def note(self, of, charged, module, line, path):
        for other in charged - {of}:
            self.uses.setdefault((of, other), []).append((self.show(module.file), line, path))

    # What is wrong.

    def check(self):
        self.collect()
        name, floor = self.name, self.floor_of
        allowed = set()
        for module, others in self.edges.items():
            if module not in floor:
                self.faults.append(f"{name}: edges of {module}, which is not listed")
                continue
            for other in others:
                if other == "*":
                    lower = {(module, below) for below in floor if floor[below] < floor[module]}
                    allowed |= lower
                elif other not in floor:
                    self.faults.append(f"{name}: an edge from {module} to {other}, which is not listed")
                elif floor[other] > floor[module]:
                    self.faults.append(f"{name}: the edge from {module} to {other} goes up")
                else:
                    allowed.add((module, other))
                    if (module, other) not in self.uses:
                        self.faults.append(f"{name}: nobody uses the edge from {module} to {other}")
        for (module, other), uses in sorted(self.uses.items()):
            floors = f"{self.floors[floor[module]]['name']} -> {self.floors[floor[other]]['name']}"
            if floor[other] > floor[module]:
                why = f"goes up: {module} -> {other} ({floors})"
            elif (module, other) not in allowed:
                why = f"no edge allows {module} -> {other} ({floors})"
            else:
                continue
            for file, line, path in sorted(set(uses)):
                self.faults.append(f"{file}:{line}: `{path}` {why}")
        for circle in circles(self.uses):
            steps = []
            for module, other in zip(circle, circle[1:] + circle[:1]):
                file, line, path = min(self.uses[module, other])
                steps.append(f"\n    {module} -> {other}: `{path}` at {file}:{line}")
            self.faults.append(f"{name}: a circle of {len(circle)} modules{''.join(steps)}")
        return self.faults


def every(module):
    yield module
    for child in module.children.values():
        yield from every(child)


def circles(edges):
    """A shortest circle through each module that is in one and in none of those before."""
    after = {}
    for module, other in sorted(edges):
        after.setdefault(module, []).append(other)
    seen, found = set(), []
    for module in after:
        if module in seen:
            continue
        ways, left = {module: [module]}, [module]
        while left:
            here = left.pop(0)
            for other in after.get(here, []):
                if other == module:
                    found.append(ways[here])
                    seen |= set(ways[here])
                    left = []
                    break
                if other not in ways:
                    ways[other] = [*ways[here], other]
                    left.append(other)
    return found


def crates(config):
    sections = tomllib.loads(config.read_text()).get("crate", {})
    if not sections:
        raise Fault(f"{config}: no section [crate.NAME]")
    # Roots are relative to the folder above that of the file.
    base = config.resolve().parent.parent
    return [Crate(name, section, base) for name, section in sections.items()]


def run(config, print_edges=False):
    """Checks all crates of a file; the number of faults."""
    count = 0
    for crate in crates(config):
        faults = crate.check()
        if print_edges:
            print(f'[crate."{crate.name}".edges]')
            for module in sorted(crate.floor_of, key=crate.floor_of.get):
                others = sorted(other for of, other in crate.uses if of == module)
                if others:
                    key = module if "::" not in module else f'"{module}"'
                    print(f"{key} = [" + ", ".join(f'"{other}"' for other in others) + "]")
            continue
        for fault in faults:
            print(fault)
        count += len(faults)
        if not faults:
            files = len({module.file for module in crate.modules})
            print(
                f"{crate.name}: {files} files, {len(crate.floor_of)} modules on {len(crate.floors)} floors, "
                f"{len(crate.uses)} edges, no circle"
            )
    return count
