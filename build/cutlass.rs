//! The CUTLASS headers.

use std::fs;
use std::path::{Path, PathBuf};

use super::lookup::{self, Missing, Place};
use super::vars::{self, Env};

/// What the kernels are written against, and what everything is tested with.
pub const MINIMUM: [u32; 3] = [4, 5, 0];
/// The newest release that kernels are compiled with in CI (scripts/version_range.sh).
pub const NEWEST_TESTED: [u32; 3] = [4, 8, 1];

#[derive(Debug)]
pub struct Cutlass {
    pub root: PathBuf,
    pub version: [u32; 3],
}

pub fn find(env: &Env, root: &Path) -> Result<Cutlass, Missing> {
    let places = [
        Place::binding(vars::CUTLASS_DIR, env.path(vars::CUTLASS_DIR)),
        lookup::fetched("cutlass", env, root),
    ];
    lookup::first(
        format!("the headers of CUTLASS, {} or later", dotted(MINIMUM)),
        "set CUTLASS_DIR to your own checkout",
        places,
        |_, path| check(path),
    )
}

/// What to say of a release that is newer than any that was tried.
pub fn untested(cutlass: &Cutlass) -> Option<String> {
    (cutlass.version > NEWEST_TESTED).then(|| {
        format!(
            "CUTLASS {} in {} is newer than {}, the newest that the kernels were compiled with",
            dotted(cutlass.version),
            cutlass.root.display(),
            dotted(NEWEST_TESTED)
        )
    })
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
    // Some packages carry a part of the headers.
    if !root.join("include/cute").is_dir() {
        return Err("has no include/cute".to_owned());
    }
    Ok(Cutlass { root, version })
}
