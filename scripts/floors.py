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
import sys
from pathlib import Path

from floors.crate import run
from floors.self_test import self_test
from floors.source import Fault

REPOSITORY = Path(__file__).resolve().parent.parent


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
