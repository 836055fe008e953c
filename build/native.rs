//! The native part, from look-up to linking.

use std::ffi::OsString;
use std::fmt::Display;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::cuda::Toolkit;
use super::cutlass::Cutlass;
use super::link::{self, Cudart};
use super::vars::{self, Env};
use super::{archs, bindings, cache, cuda, cutlass, lookup, tools};

/// Folders below cpp whose change means work. Not the tests: ctest builds them.
const SOURCES: [&str; 6] = ["CMakeLists.txt", "cmake", "include", "kernels", "src", "bridge"];
/// The cxx bridge, from the root.
const BRIDGE: &str = "src/cuda/ffi/bridge.rs";
/// Two, as each takes 4 GB to 5 GB of memory.
const DEFAULT_JOBS: NonZeroU32 = NonZeroU32::new(2).unwrap();
const SNAPSHOT: &str = "build/snapshot";

pub fn build(env: &Env) -> Result<(), String> {
    // Cargo's own, so not among the variables that `Env` keeps account of.
    let of_cargo = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let root = of_cargo("CARGO_MANIFEST_DIR").ok_or("this is for cargo to run")?;
    let out = of_cargo("OUT_DIR").ok_or("this is for cargo to run")?;
    let cpp = root.join("cpp");
    rerun_if_changed(&root.join("build"));
    if env.get(vars::DOCS_RS).is_some() {
        return bindings::copy_snapshot(&root.join(SNAPSHOT), None, &out).map_err(words);
    }

    let cudart = Cudart::parse(env.get(vars::NVFP4_CUDART))?;
    let archs = archs::parse(env.get_even_empty(vars::NVFP4_CUDA_ARCHS))?;
    let jobs = jobs(env)?;
    let Found { toolkit, cutlass, cmake, ninja } = find(env, &root)?;
    let launcher = cache::launcher(env, &root, &out, &cmake)?;
    if let Some(warning) = cutlass::untested(&cutlass) {
        println!("cargo::warning={warning}");
    }
    rerun_if_changed(&toolkit.include.join("cuda.h"));
    rerun_if_changed(&cutlass::version_header(&cutlass.root));
    for folder in SOURCES.map(|name| cpp.join(name)).iter().filter(|path| path.exists()) {
        rerun_if_changed(folder);
    }

    let libclang = tools::fetched_libclang(env, &root);
    let snapshot = root.join(SNAPSHOT);
    let bindings = bindings::generate(env, &cpp, &toolkit, libclang.as_deref(), &snapshot, &out)?;
    bridge(&root, &cpp, &toolkit.include);

    let mut defines = Defines(Vec::new());
    for (name, value) in env.for_cmake() {
        defines.add(&name, value);
    }
    if let Some(ninja) = &ninja {
        defines.add("CMAKE_MAKE_PROGRAM", ninja);
    }
    if let Some(compiler) = env.get(vars::NVCC_CCBIN) {
        defines.add("CMAKE_CUDA_HOST_COMPILER", compiler);
    }
    if let Some(launcher) = &launcher {
        for name in vars::CMAKE_LAUNCHERS {
            defines.add(name, cache::as_list(launcher));
        }
    }
    defines.add("CMAKE_CUDA_COMPILER", &toolkit.nvcc);
    defines.add("CUTLASS_DIR", &cutlass.root);
    // It was said above.
    defines.add("NVFP4_CUTLASS_UNTESTED", "ON");
    defines.add(vars::NVFP4_CUDART, cudart.name());
    defines.add(vars::NVFP4_CUDA_ARCHS, archs::for_cmake(&archs));
    defines.add(vars::NVFP4_CUDA_JOBS, jobs.to_string());

    let mut config = cmake::Config::new(&cpp);
    // CMake's own defaults of a release, whatever the profile of the Rust code.
    config.profile("Release").no_default_flags(true).build_target("nvfp4_dual_gemm");
    if ninja.is_some() {
        config.generator("Ninja");
    }
    if defines.replace(&out.join("defines.txt")).map_err(words)? {
        config.configure_arg("--fresh");
    }
    for (name, value) in &defines.0 {
        config.define(name, value);
    }
    // SAFETY: the build script has one thread.
    unsafe {
        std::env::set_var(vars::CMAKE, &cmake);
        // The pool of cpp/CMakeLists.txt is Ninja's. Other generators get the limit as a whole, and not cargo's.
        if env
            .get(vars::CMAKE_GENERATOR)
            .is_some_and(|name| !name.to_string_lossy().starts_with("Ninja"))
        {
            std::env::set_var("NUM_JOBS", jobs.to_string());
            std::env::remove_var("CARGO_MAKEFLAGS");
        }
    }
    let built = config.build().join("build");

    println!("cargo::rustc-link-search=native={}", built.display());
    println!("cargo::rustc-link-lib=static=nvfp4_dual_gemm");
    link::runtime(&toolkit, cudart, &out)?;

    // For `nvfp4 doctor` and for the tests that use the same CMake build.
    println!("cargo::rustc-env=NVFP4_CUDA_VERSION={}", toolkit.version);
    println!("cargo::rustc-env=NVFP4_CUDA_FROM={}", toolkit.from);
    println!("cargo::rustc-env=NVFP4_CUDA_ARCHS_BUILT={}", archs.join(","));
    println!("cargo::rustc-env=NVFP4_CUTLASS_VERSION={}", cutlass::dotted(cutlass.version));
    println!("cargo::rustc-env=NVFP4_CUDART_LINKED={}", cudart.name());
    println!("cargo::rustc-env=NVFP4_BINDINGS={}", bindings.name());
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

fn jobs(env: &Env) -> Result<NonZeroU32, String> {
    let Some(value) = env.get(vars::NVFP4_CUDA_JOBS) else {
        return Ok(DEFAULT_JOBS);
    };
    value.to_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
        format!(
            "{} is \"{}\"; it is how many kernels to compile at a time, 1 or more",
            vars::NVFP4_CUDA_JOBS,
            value.display()
        )
    })
}

/// Entries of CMake's cache.
struct Defines(Vec<(String, OsString)>);

impl Defines {
    fn add(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.push((name.to_owned(), value.into()));
    }

    /// Notes them in `file`. Whether CMake has to forget those that were there: an entry that is no longer given would
    /// stay in its cache, and of another compiler it takes nothing but that compiler.
    fn replace(&self, file: &Path) -> io::Result<bool> {
        let of_cmake = self.0.iter().filter(|(name, _)| name.starts_with("CMAKE_"));
        let text: String =
            of_cmake.map(|(name, value)| format!("{name}={}\n", value.display())).collect();
        let before = fs::read_to_string(file).unwrap_or_default();
        fs::write(file, &text)?;
        Ok(!before.is_empty() && before != text)
    }
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
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let toolkit = cuda::find(env, root, Path::new(cuda::SYSTEM), &arch);
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
            Err(lookup::report(&missing.into_iter().flatten().collect::<Vec<_>>(), env, root))
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
