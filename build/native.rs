//! The native part, from look-up to linking.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::cuda::Toolkit;
use crate::cutlass::Cutlass;
use crate::link::{self, Cudart};
use crate::vars::{self, Env};
use crate::{bindings, cuda, cutlass, lookup, tools};

/// Folders below cpp whose change means work. Not the tests: ctest builds them.
const SOURCES: [&str; 6] = ["CMakeLists.txt", "cmake", "include", "kernels", "src", "bridge"];
const BRIDGE: &str = "src/backend/cuda/bridge.rs";

pub fn build(env: &Env) -> Result<(), String> {
    // Cargo's own, so not among the variables that `Env` keeps account of.
    let of_cargo = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let root = of_cargo("CARGO_MANIFEST_DIR").ok_or("this is for cargo to run")?;
    let out = of_cargo("OUT_DIR").ok_or("this is for cargo to run")?;
    let cpp = root.join("cpp");
    rerun_if_changed(&root.join("build"));
    if env.get(vars::DOCS_RS).is_some() {
        return bindings::copy_snapshot(&root.join("build/snapshot"), &out).map_err(words);
    }

    let cudart = Cudart::parse(env.get(vars::NVFP4_CUDART))?;
    let Found { toolkit, cutlass, cmake, ninja } = find(env, &root)?;
    rerun_if_changed(&toolkit.include.join("cuda.h"));
    rerun_if_changed(&cutlass::version_header(&cutlass.root));
    for folder in SOURCES.map(|name| cpp.join(name)).iter().filter(|path| path.exists()) {
        rerun_if_changed(folder);
    }

    let libclang = tools::fetched_libclang(env, &root);
    bindings::generate(&cpp, &toolkit.include, libclang.as_deref(), &out)?;
    bridge(&root, &cpp, &toolkit.include);

    let mut config = cmake::Config::new(&cpp);
    // CMake's own defaults of a release, whatever the profile of the Rust code.
    config.profile("Release").no_default_flags(true).build_target("nvfp4_dual_gemm");
    for (name, value) in env.for_cmake() {
        config.define(name, value);
    }
    if let Some(ninja) = ninja {
        config.generator("Ninja").define("CMAKE_MAKE_PROGRAM", ninja);
    }
    if let Some(compiler) = env.get(vars::NVCC_CCBIN) {
        config.define("CMAKE_CUDA_HOST_COMPILER", compiler);
    }
    if let Some(jobs) = env.get(vars::NVFP4_CUDA_JOBS) {
        config.define(vars::NVFP4_CUDA_JOBS, jobs);
    }
    // SAFETY: the build script has one thread.
    unsafe { std::env::set_var(vars::CMAKE, &cmake) };
    config
        .define("CMAKE_CUDA_COMPILER", &toolkit.nvcc)
        .define("CUTLASS_DIR", &cutlass.root)
        .define(vars::NVFP4_CUDART, cudart.name());
    let built = config.build().join("build");

    println!("cargo::rustc-link-search=native={}", built.display());
    println!("cargo::rustc-link-lib=static=nvfp4_dual_gemm");
    link::runtime(&toolkit, cudart, &out)?;

    // For `nvfp4 doctor` and for the tests that use the same CMake build.
    println!("cargo::rustc-env=NVFP4_CUDA_VERSION={}", toolkit.version);
    println!("cargo::rustc-env=NVFP4_CUDA_FROM={}", toolkit.from);
    println!("cargo::rustc-env=NVFP4_CUTLASS_VERSION={}", cutlass::dotted(cutlass.version));
    println!("cargo::rustc-env=NVFP4_CUDART_LINKED={}", cudart.name());
    println!("cargo::rustc-env=NVFP4_CMAKE={}", cmake.display());
    println!("cargo::rustc-env=NVFP4_CMAKE_BUILD={}", built.display());
    if let Ok(script) = std::env::current_exe() {
        println!("cargo::rustc-env=NVFP4_BUILD_SCRIPT={}", script.display());
    }
    // For build scripts of dependents: DEP_NVFP4_DUAL_GEMM_INCLUDE.
    println!("cargo::metadata=include={}", cpp.join("include").display());
    // The same of a shared runtime, for their binaries' rpath: …_CUDART, …_CUDART_DIR.
    println!("cargo::metadata=cudart={}", cudart.name());
    if cudart == Cudart::Shared {
        println!("cargo::metadata=cudart_dir={}", toolkit.lib.display());
    }
    Ok(())
}

struct Found {
    toolkit: Toolkit,
    cutlass: Cutlass,
    cmake: PathBuf,
    /// `None`: the user chose another generator.
    ninja: Option<PathBuf>,
}

/// All of it, or all that is missing.
fn find(env: &Env, root: &Path) -> Result<Found, String> {
    let toolkit = cuda::find(env, root, Path::new(cuda::SYSTEM));
    let cutlass = cutlass::find(env, root);
    let cmake = tools::cmake(env, root);
    let ninja = match env.get(vars::CMAKE_GENERATOR) {
        Some(_) => Ok(None),
        None => tools::ninja(env, root).map(Some),
    };
    match (toolkit, cutlass, cmake, ninja) {
        (Ok(toolkit), Ok(cutlass), Ok(cmake), Ok(ninja)) => {
            Ok(Found { toolkit, cutlass, cmake, ninja })
        }
        (toolkit, cutlass, cmake, ninja) => {
            let missing = [toolkit.err(), cutlass.err(), cmake.err(), ninja.err()];
            Err(lookup::report(&missing.into_iter().flatten().collect::<Vec<_>>(), root))
        }
    }
}

/// The C++ of the cxx bridge.
fn bridge(root: &Path, cpp: &Path, cuda_include: &Path) {
    if !root.join(BRIDGE).exists() {
        return;
    }
    let sources = std::fs::read_dir(cpp.join("bridge"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let sources =
        sources.filter(|path| path.extension().is_some_and(|extension| extension == "cpp"));
    let mut build = cxx_build::bridge(BRIDGE);
    build
        .files(sources)
        .include(cpp.join("bridge"))
        .include(cpp.join("include"))
        .flag("-isystem")
        .flag(cuda_include)
        .std("c++20")
        .compile("nvfp4_bridge");
}

fn rerun_if_changed(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}

fn words(error: impl Display) -> String {
    error.to_string()
}
