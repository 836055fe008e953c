//! Trying places in order, and saying why each was refused.

use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

use super::vars::{self, Env};

/// A place that may have what is looked for.
pub struct Place {
    /// The variable, or the place in words.
    pub name: String,
    /// `None`: the variable is unset, or there is no such place.
    pub path: Option<PathBuf>,
    /// The user asked for just this: refusing it ends the look-up.
    pub binding: bool,
}

impl Place {
    pub fn new(name: impl Into<String>, path: Option<PathBuf>) -> Self {
        Self { name: name.into(), path, binding: false }
    }

    pub fn binding(name: impl Into<String>, path: Option<PathBuf>) -> Self {
        Self { name: name.into(), path, binding: true }
    }
}

/// Nothing fitted.
#[derive(Debug)]
pub struct Missing {
    wanted: String,
    tried: Vec<(String, String)>,
    own: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Feature `cuda` needs {}. Looked at, in this order:", self.wanted)?;
        let width = self.tried.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, reason) in &self.tried {
            writeln!(f, "  {name:width$}  {reason}")?;
        }
        write!(f, "Either {}, or fetch it.", self.own)
    }
}

/// Everything that is missing in one text, with the one command that gets all of it.
pub fn report(missing: &[Missing], env: &Env, root: &Path) -> String {
    let mut text: String = missing.iter().map(|missing| format!("{missing}\n\n")).collect();
    let script = root.join("third_party/fetch.sh");
    let script = script.display();
    let _ = match env.path(vars::NVFP4_TOOLCHAIN_DIR) {
        Some(folder) => write!(
            text,
            "To fetch what is missing into {}, run:\n  {script} --dest {}",
            vars::NVFP4_TOOLCHAIN_DIR,
            folder.display()
        ),
        None if belongs_to_cargo(root) => write!(
            text,
            "These sources are a copy that cargo keeps, into which nothing should be put. Set CUDA_HOME and CUTLASS_DIR \
             to your own, or fetch what is missing into a folder of your choice and name it:\n  \
             bash {script} --dest DIR\n  export {}=DIR",
            vars::NVFP4_TOOLCHAIN_DIR
        ),
        None => {
            write!(text, "To fetch what is missing, leaving the system as it is, run:\n  {script}")
        }
    };
    text
}

/// Whether these sources came from a registry, a vendored folder or a git dependency, by the files that cargo marks them
/// with.
fn belongs_to_cargo(root: &Path) -> bool {
    [".cargo-ok", ".cargo-checksum.json", ".cargo_vcs_info.json"]
        .iter()
        .any(|name| root.join(name).exists())
}

/// Where `third_party/fetch.sh` puts `name`.
pub fn fetched(name: &str, env: &Env, root: &Path) -> Place {
    match env.path(vars::NVFP4_TOOLCHAIN_DIR) {
        // Named by the user: what is wrong with it is said.
        Some(folder) => {
            Place::new(format!("{name} in {}", vars::NVFP4_TOOLCHAIN_DIR), Some(folder.join(name)))
        }
        None => {
            let path = root.join("third_party").join(name);
            let path = path.exists().then_some(path);
            Place::new(format!("third_party/{name} of this repository"), path)
        }
    }
}

/// The first of `places` that `check` accepts. `own` says how to name one's own.
pub fn first<T>(
    wanted: impl Into<String>,
    own: &'static str,
    places: impl IntoIterator<Item = Place>,
    check: impl Fn(&Place, PathBuf) -> Result<T, String>,
) -> Result<T, Missing> {
    let mut tried = Vec::new();
    for place in places {
        let Some(path) = place.path.clone() else {
            let reason = if place.name.contains(' ') { "not there" } else { "not set" };
            tried.push((place.name, reason.to_owned()));
            continue;
        };
        let shown = path.display().to_string();
        match check(&place, path) {
            Ok(found) => return Ok(found),
            Err(reason) => tried.push((place.name, format!("{shown}: {reason}"))),
        }
        if place.binding {
            break;
        }
    }
    Err(Missing { wanted: wanted.into(), tried, own })
}

/// The number after `#define NAME` in a header.
pub fn defined(header: &str, name: &str) -> Option<u32> {
    header.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("#define") && words.next() == Some(name))
            .then(|| words.next()?.parse().ok())?
    })
}
