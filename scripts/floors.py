#!/usr/bin/env python3
"""Checks that the modules of each Rust crate only use what the floors below them offer.

    scripts/floors.py               check what scripts/floors.toml describes
    scripts/floors.py --edges       print who uses whom, as edges of such a file
    scripts/floors.py --self-test   show that planted faults are found

A crate has a list of floors, from the ground up, and each floor a list of modules. A module is named by its path in
the crate (`cuda::ffi`) and has with it all files and modules below it that are not listed themselves; `crate` is the
root file. `edges` says which other modules a module may use; `"*"` stands for all on lower floors. The check fails on

* a file that belongs to no listed module, and a listed module without a file,
* a use that no edge allows, and an edge that nobody uses,
* a use, or an edge, that goes up,
* modules that use each other in a circle, also on one floor,
* with `own_impls = true`, methods that a module adds to a type of another one: who calls them would use the first
  without naming it.

A use is a path: in `use` with all its branches, in code, in macros and in tests. It counts for the module in which the
item is defined, however it is named: by `crate`, `super`, `self`, the name of the crate, a name or a module that was
imported, a glob, or a re-export. A re-export by a module above the item (the root of the crate, say) is a door, through
which only the item is used; one by any other module is a use of both. What a macro writes together out of pieces is
not seen. Comments, links in documentation and strings are no uses, but for paths in strings of attributes, as serde has
them. Not followed, and refused: `#[path]`, `include!` of a .rs file, `extern crate self`.

A section is `[crate.NAME]` with `root`, the folder of its lib.rs from the root of the repository, `floors` and
`edges`; its name in paths is NAME with underscores, or `library`. Binaries in src/bin are modules `bin::NAME`.
"""

import argparse
import contextlib
import io
import re
import sys
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

TOKEN = re.compile(
    r"""
      (?P<skip>\s+|//[^\n]*)
    | (?P<comment>/\*)
    | (?P<raw>(?:br|cr|r)(?P<hashes>\#*)")
    | (?P<string>(?:b|c)?"(?:[^"\\]|\\.)*")
    | (?P<char>b?'(?:[^'\\\n]|\\(?:u\{[^}]*\}|x[0-9a-fA-F]{2}|.))')
    | (?P<lifetime>'(?:r\#)?\w+)
    | (?P<number>\d(?:\w|\.(?=\d))*)
    | (?P<word>(?:r\#)?\w+)
    | (?P<sign>::|\.\.[.=]?|.)
    """,
    re.VERBOSE | re.DOTALL,
)

QUOTES = re.compile(r"""^[bcr]{0,2}#*["']|["']#*$""")
DEFINITIONS = {"fn", "struct", "enum", "union", "trait", "type", "const", "static"}
# More re-exports of re-exports than anybody writes.
DEEPEST = 40


class Fault(Exception):
    """What keeps the check from its work."""


@dataclass
class Use:
    """A path, where it stands, and for an import the name that it binds."""

    path: list
    line: int
    name: str | None = None
    is_glob: bool = False
    is_public: bool = False


@dataclass
class Module:
    """A module of the crate: a file or a block in one."""

    path: tuple
    file: Path
    root: tuple
    parent: "Module | None" = None
    children: dict = field(default_factory=dict)
    items: set = field(default_factory=set)
    imports: list = field(default_factory=list)
    paths: list = field(default_factory=list)
    impls: list = field(default_factory=list)
    calls: list = field(default_factory=list)


def tokens(text, file):
    """Pairs of a token and its line, without comments and lifetimes. A string has its text after one quote."""
    found, at, line = [], 0, 1
    while at < len(text):
        match = TOKEN.match(text, at)
        kind, end = match.lastgroup, match.end()
        if kind == "hashes":
            kind = "raw"
        if kind == "comment":
            depth = 1
            while depth:
                mark = re.compile(r"/\*|\*/").search(text, end)
                if not mark:
                    raise Fault(f"{file}:{line}: a comment without an end")
                depth += 1 if mark.group() == "/*" else -1
                end = mark.end()
        elif kind == "raw":
            close = text.find('"' + match.group("hashes"), end)
            if close < 0:
                raise Fault(f"{file}:{line}: a string without an end")
            end = close + 1 + len(match.group("hashes"))
        if kind in ("raw", "string", "char"):
            found.append(('"' + QUOTES.sub("", text[at:end]), line))
        elif kind in ("word", "sign"):
            found.append((match.group().removeprefix("r#"), line))
        line += text.count("\n", at, end)
        at = end
    return found


def is_word(token):
    return bool(re.match(r"\w", token))


class Reader:
    """Reads a file into its module, and those of the blocks in it."""

    def __init__(self, module, text):
        self.tokens = tokens(text, module.file) + [("", 0)] * 4
        self.module = module

    def read(self):
        at, depth, modules = 0, 0, [(0, self.module)]
        while (token := self.tokens[at][0]) != "":
            following, line = self.tokens[at + 1][0], self.tokens[at][1]
            before = self.tokens[at - 1][0] if at else ""
            here = modules[-1][1]
            is_item = depth == modules[-1][0]
            if token == "{":
                depth += 1
            elif token == "}":
                if depth == modules[-1][0] and len(modules) > 1:
                    modules.pop()
                depth -= 1
            elif token == "#" and following in ("[", "!"):
                self.attribute(at, here)
            elif token == "include" and re.match(r'".*\.rs$', self.tokens[at + 3][0]):
                raise Fault(f"{here.file}:{line}: include!({self.tokens[at + 3][0]}\") is not followed")
            elif token == "extern" and following == "crate" and self.tokens[at + 2][0] == "self":
                raise Fault(f"{here.file}:{line}: another name of the crate is not followed")
            elif token == "mod" and is_word(following) and self.tokens[at + 2][0] in ("{", ";"):
                if self.tokens[at + 2][0] == "{":
                    child = here.children.setdefault(following, below(here, following, here.file))
                    depth += 1
                    modules.append((depth, child))
                at += 3
                continue
            elif token == "use" and self.is_use(at):
                at = self.use(at + 1, here, self.is_public(at))
                continue
            elif token == "macro_rules" and following == "!":
                here.items.add(self.tokens[at + 2][0] + "!")
                at += 3
                continue
            elif token in DEFINITIONS and is_item and is_word(following):
                name = at + 1
                while re.match('(mut|fn|unsafe|extern|async)$|"', self.tokens[name][0]):
                    name += 1
                here.items.add(self.tokens[name][0])
                at = name + 1
                continue
            elif token == "impl" and before in ("", ";", "}", "{", "]", "unsafe"):
                self.impl(at + 1, here)
            elif is_word(token) and before not in ("::", "."):
                end = self.path(at, here, line)
                if end != at:
                    at = end
                    continue
                if following == "!" and self.tokens[at + 2][0] in ("(", "[", "{"):
                    here.calls.append(Use([token], line))
            at += 1

    def attribute(self, at, here):
        """Takes the paths in strings of an attribute, as serde has them; `path` itself is refused."""
        first, depth = at, 0
        while True:
            at += 1
            token, line = self.tokens[at]
            depth += (token == "[") - (token == "]")
            if re.match(r'"\w+(::\w+)+$', token):
                here.paths.append(Use(token[1:].split("::"), line))
            if token == "" or token == "]" and depth == 0:
                break
        words = [token for token, _ in self.tokens[first : at + 1]]
        if "path" in words and words[words.index("path") + 1] == "=" and words[2] in ("path", "cfg_attr"):
            raise Fault(f"{here.file}:{self.tokens[first][1]}: #[path] is not followed")

    def is_use(self, at):
        """Whether a `use` brings names in; it also stands in `impl Trait + use<'a>` and in patterns of macros."""
        first, second = self.tokens[at + 1][0], self.tokens[at + 2][0]
        return first != "<" and (first != "$" or second == "crate")

    def is_public(self, at):
        before = [token for token, _ in self.tokens[max(0, at - 12) : at]]
        if before and before[-1] == ")":
            while before and before.pop() != "(":
                pass
        return bool(before) and before[-1] == "pub"

    def use(self, at, here, public):
        """Reads the branches of a `use` up to its semicolon."""

        def branch(at, prefix):
            path = list(prefix)
            while True:
                token, line = self.tokens[at]
                if token == "{":
                    at += 1
                    while self.tokens[at][0] != "}":
                        at = branch(at, path)
                        if self.tokens[at][0] == ",":
                            at += 1
                    return at + 1
                if token == "*":
                    here.imports.append(Use(path, line, None, True, public))
                    return at + 1
                if token == "::":
                    if not path:
                        path.append("::")
                    at += 1
                    continue
                if token == "$":
                    at += 1
                    continue
                if not is_word(token):
                    raise Fault(f"{here.file}:{line}: {token!r} in a use")
                if not (token == "self" and path):
                    path.append(token)
                at += 1
                if self.tokens[at][0] == "::":
                    continue
                name = path[-1]
                if self.tokens[at][0] == "as":
                    name = self.tokens[at + 1][0]
                    at += 2
                here.imports.append(Use(path, line, name, False, public))
                return at

        at = branch(at, [])
        if self.tokens[at][0] != ";":
            raise Fault(f"{here.file}:{self.tokens[at][1]}: a use without an end")
        return at + 1

    def path(self, at, here, line):
        """Reads `a::b::c` in code, and says where it ends; `at` where there is none."""
        if self.tokens[at + 1][0] != "::":
            return at
        before = [token for token, _ in self.tokens[max(0, at - 3) : at]]
        path = [self.tokens[at][0]]
        end = at + 1
        while self.tokens[end][0] == "::" and is_word(self.tokens[end + 1][0]):
            path.append(self.tokens[end + 1][0])
            end += 2
        if before[-2:] == ["(", "in"] and before[:1] == ["pub"]:
            # `pub(in crate::a)` says who may use this.
            return end
        if self.tokens[end][0] == "!":
            path[-1] += "!"
        here.paths.append(Use(path, line))
        return end

    def impl(self, at, here):
        """Notes the type of an `impl` that is of no trait."""
        at = self.generics(at)
        first, line, path = at, self.tokens[at][1], []
        while self.tokens[at][0] not in ("{", ";", "", "where"):
            if self.tokens[at][0] == "for":
                return
            at = self.generics(at) if self.tokens[at][0] == "<" else at + 1
        at = first
        while self.tokens[at][0] in ("&", "mut", "dyn", "$"):
            at += 1
        while is_word(self.tokens[at][0]):
            path.append(self.tokens[at][0])
            if self.tokens[at + 1][0] != "::":
                break
            at += 2
        if path:
            here.impls.append(Use(path, line))

    def generics(self, at):
        """The place after `<...>`, if there is one."""
        if self.tokens[at][0] != "<":
            return at
        depth = 0
        while True:
            token, before = self.tokens[at][0], self.tokens[at - 1][0]
            depth += (token == "<") - (token == ">" and before not in ("-", "="))
            at += 1
            if depth == 0 or token == "":
                return at


def below(parent, name, file):
    return Module((*parent.path, name), file, parent.root, parent)


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


# A crate that keeps its floors, and what each planted fault adds to it, with a part of what has to be said.

GOOD = {
    "lib.rs": "//! See [`crate::top::Roof`].\npub mod base;\npub mod mid;\npub mod top;\npub use base::Brick;\n",
    "base.rs": "//! `use crate::top::Roof;`\n/* crate::top::f() /* nested */ crate::top::f() */\n"
    'pub struct Brick;\npub fn text() -> &\'static str { r#"crate::top::f()"# }\n'
    "pub const MARK: char = '\"';\npub fn lent<'a>(x: &'a str) -> &'a str { x }\n",
    "mid/mod.rs": "pub mod wall;\npub use wall::Wall;\n",
    "mid/wall.rs": "use crate::Brick;\npub struct Wall(pub Brick);\n",
    "top.rs": "use crate::{base::Brick, mid::Wall};\npub struct Roof(Wall, Brick);\npub fn f() {}\n",
    "bin/tool.rs": "use sample::top;\nfn main() { top::f() }\n",
}

SECTION = """
[crate.sample]
root = "src"
own_impls = true
floors = [
    { name = "ground", modules = ["base", "other"] },
    { name = "walls", modules = ["mid"] },
    { name = "roof", modules = ["top", "crate", "bin"] },
]
[crate.sample.edges]
mid = ["base"]
top = ["base", "mid"]
crate = ["base"]
bin = ["top"]
"""

UP = "goes up: base -> top"
GROUP = "use crate::{\n    base::{self, Brick},\n    top::{\n        Roof as R,\n    },\n};"
SLATE = "macro_rules! slate { () => {} }"


def exports(line):
    return {"lib.rs": GOOD["lib.rs"] + line}


def deep(line):
    return {"base/deep.rs": line}


PLANTED = [
    ("super", deep("use super::super::top;"), UP),
    ("a group", deep("use std::{\n    fmt,\n};\n" + GROUP), UP),
    ("a path in code", deep("fn g() { let x: Vec<crate::top::Roof> = vec![]; }"), UP),
    ("a path by super", deep("fn g() { super::super::top::f() }"), UP),
    ("tests", deep("#[cfg(test)]\nmod tests {\n    use super::super::super::top;\n}"), UP),
    ("a re-export", deep("pub(crate) use crate::top::Roof;"), UP),
    ("a use in a function", deep("fn g() { if true { use crate::top::f; f() } }"), UP),
    ("another name", deep("use crate::top as sky;"), UP),
    ("a macro's path", deep("macro_rules! m { () => { $crate::top::f() } }"), UP),
    ("an attribute before", deep("#[allow(unused)]\nuse crate::top::f;"), UP),
    ("after a range", deep("fn g() { for _ in 0..crate::top::N {} }"), UP),
    ("after a struct's rest", deep("fn g() { S { ..crate::top::s() } }"), UP),
    ("a raw name", deep("use crate::r#top::f;"), UP),
    ("after a character", deep("const C: char = '{'; const Q: u8 = b'\\''; use crate::top::f;"), UP),
    ("the root's re-export", exports("pub use top::Roof;") | deep("use crate::Roof;"), UP),
    ("the root's glob", exports("pub use top::*;") | deep("use crate::Roof;"), UP),
    ("a glob of the root", exports("pub use top::Roof;") | deep("use crate::*;"), UP),
    (
        "the root's re-export of two",
        exports("#[cfg(x)]\npub use base::g;\n#[cfg(not(x))]\npub use top::g;") | deep("use crate::g;"),
        UP,
    ),
    ("the root's own import", exports("use top::f;") | deep("use super::super::*;\nfn g() { f() }"), UP),
    ("super behind self", deep("use self::super::super::top::f;"), UP),
    ("an item of the root", exports("pub fn start() {}") | deep("use crate::start;"), "base -> crate"),
    ("a module's name", deep("use crate as house;\nfn g() { house::top::f() }"), UP),
    (
        "the parent's import",
        {"base.rs": GOOD["base.rs"] + "use crate::top;"} | deep("fn g() { super::top::f() }"),
        "base/deep.rs:1",
    ),
    ("a macro by name", {"top.rs": GOOD["top.rs"] + SLATE} | deep("slate!();"), UP),
    (
        "a macro of the root",
        {"top.rs": GOOD["top.rs"] + "#[macro_export]\n" + SLATE} | deep("crate::slate!();"),
        UP,
    ),
    (
        "methods of another",
        {"top.rs": GOOD["top.rs"] + "impl<T: Into<u8>> Brick<T> { fn h() {} }"},
        "adds methods to Brick",
    ),
    ("a path in a string of serde", deep('#[serde(with = "crate::top::wire")]\nstruct S;'), UP),
    ("a path in an attribute", deep("#[arg(value_parser = crate::top::parse)]\nstruct S;"), UP),
    ("an attribute of an import", deep("#[cfg(test)]\nuse crate::{\n    /* why */ top::f,\n};"), UP),
    (
        "another name of a macro",
        {"top.rs": GOOD["top.rs"] + SLATE + "\npub(crate) use slate as tile;"} | deep("crate::top::tile!();"),
        UP,
    ),
    (
        "methods in a function",
        {"top.rs": GOOD["top.rs"] + "fn h() { impl Brick { fn i() {} } }"},
        "adds methods to Brick",
    ),
    ("the crate by another name", deep("extern crate self as house;"), "is not followed"),
    ("text of another file", deep('include!("../top.rs");'), "is not followed"),
    ("a binary", {"bin/tool.rs": "use ::sample::{mid as _, top};"}, "no edge allows bin -> mid"),
    ("no edge", {"other.rs": "use crate::base::Brick;"}, "no edge allows other -> base"),
    ("a file of nobody", {"stray.rs": ""}, "belongs to no module"),
    ("another file", {"base/deep.rs": '#[path = "../top.rs"]\nmod sky;'}, "#[path] is not followed"),
    ("an unused edge", {"mid/wall.rs": "pub struct Wall;"}, "nobody uses the edge from mid to base"),
    (
        "a circle on one floor",
        {
            "base.rs": GOOD["base.rs"] + "use crate::other::x;",
            "other.rs": "pub fn x() {}\nfn y() { crate::base::text(); }",
        },
        "a circle of 2 modules",
    ),
    (
        "a circle of files of two floors",
        {"base/deep.rs": "use crate::mid::wall::Wall;"},
        "a circle of 2 modules",
    ),
]


def self_test():
    """Checks a good crate, and each planted fault; the number of those that went wrong."""
    bad = 0
    for name, files, expected in [("nothing", {}, None), *PLANTED]:
        with tempfile.TemporaryDirectory() as directory:
            base = Path(directory)
            for path, text in {**GOOD, "other.rs": "pub fn x() {}", **files}.items():
                file = base / "src" / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
            (base / "scripts").mkdir()
            config = base / "scripts" / "floors.toml"
            config.write_text(SECTION)
            said = io.StringIO()
            try:
                with contextlib.redirect_stdout(said):
                    run(config)
            except Fault as fault:
                said.write(str(fault))
            said = said.getvalue()
            right = expected in said if expected else "no circle" in said
            bad += not right
            print(f"{'found' if expected and right else 'fine' if right else 'WRONG'}: {name}")
            if not right:
                print(f"  expected {expected or 'no fault'}; it said:\n  {said}")
    return bad


def main():
    parser = argparse.ArgumentParser(description="Checks the floors of the crates.")
    parser.add_argument("--config", type=Path, default=REPOSITORY / "scripts" / "floors.toml")
    parser.add_argument("--edges", action="store_true", help="print who uses whom")
    parser.add_argument("--self-test", action="store_true", help="show that planted faults are found")
    arguments = parser.parse_args()
    try:
        faults = self_test() if arguments.self_test else run(arguments.config, arguments.edges)
    except Fault as fault:
        sys.exit(str(fault))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
