//! The CUTLASS headers.

use std::fs;
use std::path::{Path, PathBuf};

use crate::lookup::{self, Missing, Place};
use crate::vars::{self, Env};

/// What the kernels are written against.
pub const MINIMUM: [u32; 3] = [4, 5, 0];

#[derive(Debug)]
pub struct Cutlass {
    pub root: PathBuf,
    pub version: [u32; 3],
}

pub fn find(env: &Env, root: &Path) -> Result<Cutlass, Missing> {
    let own = root.join("third_party/cutlass");
    let places = [
        Place::binding(vars::CUTLASS_DIR, env.path(vars::CUTLASS_DIR)),
        Place::new("third_party/cutlass of this repository", own.is_dir().then_some(own)),
    ];
    lookup::first(
        format!("the headers of CUTLASS, {} or later", dotted(MINIMUM)),
        "set CUTLASS_DIR to your own checkout",
        places,
        |_, path| check(path),
    )
}

pub fn dotted(version: [u32; 3]) -> String {
    version.map(|number| number.to_string()).join(".")
}

pub fn version_header(root: &Path) -> PathBuf {
    root.join("include/cutlass/version.h")
}

fn check(root: PathBuf) -> Result<Cutlass, String> {
    let header = version_header(&root);
    if !header.is_file() {
        let hint = if root.join("cutlass/version.h").is_file() {
            "; name the folder above include"
        } else {
            ""
        };
        return Err(format!("has no include/cutlass/version.h{hint}"));
    }
    let text =
        fs::read_to_string(&header).map_err(|error| format!("{}: {error}", header.display()))?;
    let number = |name: &str| {
        lookup::defined(&text, name)
            .ok_or_else(|| format!("{} defines no {name}", header.display()))
    };
    let version = [number("CUTLASS_MAJOR")?, number("CUTLASS_MINOR")?, number("CUTLASS_PATCH")?];
    if version < MINIMUM {
        return Err(format!("is CUTLASS {}, older than {}", dotted(version), dotted(MINIMUM)));
    }
    // Packages of the Python DSL carry a part of the tree; cute and the utilities are needed as well.
    for folder in ["include/cute", "tools/util/include"] {
        if !root.join(folder).is_dir() {
            return Err(format!("has no {folder}"));
        }
    }
    Ok(Cutlass { root, version })
}
