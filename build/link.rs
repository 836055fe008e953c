//! What rustc links besides the native library itself.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::{fs, io};

use super::cuda::Toolkit;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cudart {
    /// Binaries start on any machine.
    Static,
    /// libcudart.so is found at run time, so that another can take its place.
    Shared,
}

impl Cudart {
    pub fn parse(value: Option<&std::ffi::OsStr>) -> Result<Self, String> {
        match value.map(|value| value.to_string_lossy()).as_deref() {
            None | Some("static") => Ok(Self::Static),
            Some("shared") => Ok(Self::Shared),
            Some(other) => Err(format!(
                "NVFP4_CUDART is \"{other}\"; it is \"static\" (default) or \"shared\""
            )),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Shared => "shared",
        }
    }
}

/// `out` is the folder of the build script's outputs.
pub fn runtime(toolkit: &Toolkit, cudart: Cudart, out: &Path) -> Result<(), String> {
    match cudart {
        Cudart::Static => println!("cargo::rustc-link-lib=static=cudart_static"),
        Cudart::Shared => {
            let folder = out.join("cudart");
            link_libraries(&toolkit.lib, &folder)
                .map_err(|error| format!("{}: {error}", folder.display()))?;
            println!("cargo::rustc-link-search=native={}", folder.display());
            println!("cargo::rustc-link-lib=dylib=cudart");
        }
    }
    println!("cargo::rustc-link-search=native={}", toolkit.lib.display());
    for library in ["stdc++", "dl", "rt", "pthread"] {
        println!("cargo::rustc-link-lib=dylib={library}");
    }
    Ok(())
}

/// Links `folder` to the libcudart.so of `lib`, by each of its names. `cargo run` and `cargo test` put folders that
/// libraries were found in into LD_LIBRARY_PATH, but only those below the target folder.
fn link_libraries(lib: &Path, folder: &Path) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(lib)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("libcudart.so") {
            symlink(entry.path(), folder.join(entry.file_name()))?;
        }
    }
    Ok(())
}
