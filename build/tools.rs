//! cmake, ninja and libclang.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::lookup::{self, Missing, Place};
use super::vars::{self, Env};

/// As in cpp/CMakeLists.txt.
pub const CMAKE_MINIMUM: [u32; 2] = [3, 25];

const OWN: &str = "install it, so that it is on PATH";

/// A program on PATH, else the fetched one.
fn places(name: &str, env: &Env, root: &Path) -> [Place; 2] {
    [
        Place::new(format!("{name} on PATH"), env.on_path(name)),
        lookup::fetched(&format!("tools/bin/{name}"), env, root),
    ]
}

pub fn cmake(env: &Env, root: &Path) -> Result<PathBuf, Missing> {
    let asked = Place::binding(vars::CMAKE, env.path(vars::CMAKE));
    let [major, minor] = CMAKE_MINIMUM;
    lookup::first(
        format!("CMake, {major}.{minor} or later"),
        OWN,
        std::iter::once(asked).chain(places("cmake", env, root)),
        |_, path| {
            let output =
                Command::new(&path).arg("--version").output().map_err(|error| error.to_string())?;
            let text = String::from_utf8_lossy(&output.stdout);
            let version = cmake_version(&text).ok_or("does not tell its version")?;
            if version < CMAKE_MINIMUM {
                return Err(format!(
                    "is CMake {}.{}, older than {major}.{minor}",
                    version[0], version[1]
                ));
            }
            Ok(path)
        },
    )
}

pub fn ninja(env: &Env, root: &Path) -> Result<PathBuf, Missing> {
    lookup::first("Ninja", OWN, places("ninja", env, root), |_, path| {
        if path.is_file() { Ok(path) } else { Err("No such file".to_owned()) }
    })
}

/// Folder of the libclang that third_party/fetch.sh got; `None`: bindgen looks for the system's.
pub fn fetched_libclang(env: &Env, root: &Path) -> Option<PathBuf> {
    let folder = lookup::fetched("tools/lib", env, root).path?;
    (env.get(vars::LIBCLANG_PATH).is_none() && folder.join("libclang.so").is_file())
        .then_some(folder)
}

/// `[3, 25]` of "cmake version 3.25.1".
pub fn cmake_version(text: &str) -> Option<[u32; 2]> {
    let mut numbers =
        text.lines().next()?.rsplit(' ').next()?.split('.').map(|number| number.parse().ok());
    Some([numbers.next()??, numbers.next()??])
}
