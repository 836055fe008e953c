"""Reads Rust: the modules of a crate, what they define, and the paths in them."""

import re
from dataclasses import dataclass, field
from pathlib import Path

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
