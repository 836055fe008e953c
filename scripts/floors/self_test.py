"""Planted faults, each of which the check has to find."""

import contextlib
import io
import tempfile
from pathlib import Path

from .crate import run
from .source import Fault

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
