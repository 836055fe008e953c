//! Every environment variable that the build reads; `docs/building.md` explains them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Path of nvcc.
pub const NVCC: &str = "NVCC";
/// The same, as CMake calls it.
pub const CUDACXX: &str = "CUDACXX";
/// Roots of CUDA toolkits, in the order of look-up.
pub const CUDA_ROOTS: [&str; 3] = ["CUDA_HOME", "CUDA_PATH", "CUDA_TOOLKIT_PATH"];
/// Where third_party/fetch.sh put its folders, if not beside itself.
pub const NVFP4_TOOLCHAIN_DIR: &str = "NVFP4_TOOLCHAIN_DIR";
/// A CUTLASS checkout.
pub const CUTLASS_DIR: &str = "CUTLASS_DIR";
/// Host compiler of nvcc.
pub const NVCC_CCBIN: &str = "NVCC_CCBIN";
/// Path of cmake.
pub const CMAKE: &str = "CMAKE";
/// CMake's generator; Ninja where unset.
pub const CMAKE_GENERATOR: &str = "CMAKE_GENERATOR";
/// Variables of this prefix become CMake cache entries, but for those that mean something to CMake as they are.
const CMAKE_PREFIX: &str = "CMAKE_";
/// Those that users set, watched also while they are unset: cargo takes names, no patterns.
const CMAKE_WATCHED: [&str; 12] = [
    "CMAKE_BUILD_TYPE",
    "CMAKE_TOOLCHAIN_FILE",
    "CMAKE_PREFIX_PATH",
    "CMAKE_C_COMPILER",
    "CMAKE_VERBOSE_MAKEFILE",
    "CMAKE_CUDA_COMPILER",
    "CMAKE_CUDA_COMPILER_LAUNCHER",
    "CMAKE_CUDA_FLAGS",
    "CMAKE_CUDA_HOST_COMPILER",
    "CMAKE_CXX_COMPILER",
    "CMAKE_CXX_COMPILER_LAUNCHER",
    "CMAKE_CXX_FLAGS",
];
/// Those of them that put a command in front of compilers.
pub const CMAKE_LAUNCHERS: [&str; 2] =
    ["CMAKE_CUDA_COMPILER_LAUNCHER", "CMAKE_CXX_COMPILER_LAUNCHER"];
/// `off`: no compiler cache, though there is one on PATH.
pub const NVFP4_COMPILER_CACHE: &str = "NVFP4_COMPILER_CACHE";
/// Folder of libclang.so, for bindgen.
pub const LIBCLANG_PATH: &str = "LIBCLANG_PATH";
/// `static` (default) or `shared`.
pub const NVFP4_CUDART: &str = "NVFP4_CUDART";
/// Architectures whose kernels are compiled; all where unset.
pub const NVFP4_CUDA_ARCHS: &str = "NVFP4_CUDA_ARCHS";
/// Kernels compiled at a time.
pub const NVFP4_CUDA_JOBS: &str = "NVFP4_CUDA_JOBS";
/// Set by docs.rs, where there is no CUDA: nothing native is built.
pub const DOCS_RS: &str = "DOCS_RS";
/// Where programs are looked for.
pub const PATH: &str = "PATH";

/// A copy of the environment that remembers what was read of it.
pub struct Env {
    values: BTreeMap<String, OsString>,
    read: RefCell<BTreeSet<String>>,
}

impl Env {
    pub fn of_process() -> Self {
        Self::new(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))),
        )
    }

    pub fn new(values: impl IntoIterator<Item = (String, OsString)>) -> Self {
        Self { values: values.into_iter().collect(), read: RefCell::default() }
    }

    /// The value, `None` where unset or empty.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.get_even_empty(name).filter(|value| !value.is_empty())
    }

    /// The value, `None` where unset.
    pub fn get_even_empty(&self, name: &str) -> Option<&OsStr> {
        self.read.borrow_mut().insert(name.to_owned());
        self.values.get(name).map(OsString::as_os_str)
    }

    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    /// The variables to forward to CMake.
    pub fn for_cmake(&self) -> Vec<(String, OsString)> {
        let found: Vec<_> = self
            .values
            .iter()
            .filter(|(name, value)| {
                let apart =
                    [CMAKE_GENERATOR, "CMAKE_BUILD_PARALLEL_LEVEL"].contains(&name.as_str());
                name.starts_with(CMAKE_PREFIX) && !apart && !value.is_empty()
            })
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let mut read = self.read.borrow_mut();
        read.extend(found.iter().map(|(name, _)| name.clone()));
        read.extend(CMAKE_WATCHED.map(str::to_owned));
        drop(read);
        found
    }

    /// The file `name` in the first folder of `PATH` that has it.
    pub fn on_path(&self, name: &str) -> Option<PathBuf> {
        std::env::split_paths(self.get(PATH)?)
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
    }

    pub fn names_read(&self) -> Vec<String> {
        self.read.borrow().iter().cloned().collect()
    }
}
