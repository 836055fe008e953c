//! A compiler cache in front of nvcc and the C++ compiler. Cargo has a build folder for each set of features and each
//! profile: without a cache, each of them compiles the kernels again.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::vars::{self, Env};

/// ccache's settings under which build folders, and checkouts, share what they compile: paths below the base are seen
/// relative to the build folder, and a compiler that was unpacked a second time is the same by its content.
const CCACHE: [(&str, &str); 2] =
    [("CCACHE_NOHASHDIR", "true"), ("CCACHE_COMPILERCHECK", "content")];
const CCACHE_BASEDIR: &str = "CCACHE_BASEDIR";

/// The command that CMake puts in front of compilers, as a list of its words. `None`: the user has one, wants none, or
/// there is none on PATH. `root` is this checkout, `out` the folder of the build.
pub fn launcher(
    env: &Env,
    root: &Path,
    out: &Path,
    cmake: &Path,
) -> Result<Option<Vec<OsString>>, String> {
    match env.get(vars::NVFP4_COMPILER_CACHE).and_then(OsStr::to_str) {
        None => {}
        Some("off") => return Ok(None),
        Some(other) => {
            return Err(format!(
                "{} is \"{other}\"; it is unset or \"off\"",
                vars::NVFP4_COMPILER_CACHE
            ));
        }
    }
    if vars::CMAKE_LAUNCHERS.iter().any(|name| env.get(name).is_some()) {
        return Ok(None);
    }
    if let Some(ccache) = env.on_path("ccache") {
        let mut words: Vec<OsString> = vec![cmake.into(), "-E".into(), "env".into()];
        // What the user has set stays; CMake sees it only when it is given here.
        let base = common_ancestor(root, out);
        words.push(setting(CCACHE_BASEDIR, env.get(CCACHE_BASEDIR).unwrap_or(base.as_os_str())));
        for (name, value) in CCACHE {
            words.push(setting(name, env.get(name).unwrap_or(value.as_ref())));
        }
        words.push(ccache.into());
        return Ok(Some(words));
    }
    Ok(env.on_path("sccache").map(|sccache| vec![sccache.into()]))
}

/// As CMake writes a list.
pub fn as_list(words: &[OsString]) -> OsString {
    words.join(OsStr::new(";"))
}

/// The checkout, where its target folder is inside it.
fn common_ancestor(a: &Path, b: &Path) -> std::path::PathBuf {
    a.components().zip(b.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
}

fn setting(name: &str, value: &OsStr) -> OsString {
    let mut text = OsString::from(name);
    text.push("=");
    text.push(value);
    text
}
