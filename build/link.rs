//! What rustc links besides the native library itself.

use crate::cuda::Toolkit;

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

pub fn runtime(toolkit: &Toolkit, cudart: Cudart) {
    println!("cargo::rustc-link-search=native={}", toolkit.lib.display());
    match cudart {
        Cudart::Static => println!("cargo::rustc-link-lib=static=cudart_static"),
        Cudart::Shared => println!("cargo::rustc-link-lib=dylib=cudart"),
    }
    for library in ["stdc++", "dl", "rt", "pthread"] {
        println!("cargo::rustc-link-lib=dylib={library}");
    }
}
