//! What the build script promises: where it looks, in which order, what it refuses and in which words; that it
//! works without CUDA under docs.rs; that a second build does nothing.

// What one binary uses of the build script's modules, the other may not.
#![allow(dead_code)]

#[cfg(feature = "cuda")]
mod run_by_cargo;
#[path = "../../build"]
mod script {
    pub mod archs;
    pub mod cache;
    pub mod cuda;
    pub mod cutlass;
    pub mod link;
    pub mod lookup;
    pub mod tools;
    pub mod vars;
}

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use script::vars::Env;
use script::{archs, cache, cuda, cutlass, link, lookup, tools};

/// A folder with whatever toolkits and checkouts a case wants.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// A toolkit whose cuda.h says `version`, such as 12090.
    fn toolkit(&self, name: &str, version: u32) -> PathBuf {
        self.file(&format!("{name}/bin/nvcc"), "");
        self.file(&format!("{name}/include/cuda.h"), &format!("#define CUDA_VERSION {version}\n"));
        self.file(&format!("{name}/lib64/libcudart_static.a"), "");
        self.path(name)
    }

    fn cutlass(&self, name: &str, [major, minor, patch]: [u32; 3]) -> PathBuf {
        let text = format!(
            "#define CUTLASS_MAJOR {major}\n#define CUTLASS_MINOR {minor}\n#define CUTLASS_PATCH {patch}\n"
        );
        self.file(&format!("{name}/include/cutlass/version.h"), &text);
        self.file(&format!("{name}/include/cute/tensor.hpp"), "");
        self.path(name)
    }

    fn find_cuda(&self, env: &Env) -> Result<cuda::Toolkit, String> {
        self.find_cuda_for("x86_64", env)
    }

    fn find_cuda_for(&self, arch: &str, env: &Env) -> Result<cuda::Toolkit, String> {
        cuda::find(env, &self.path("repository"), &self.path("system"), arch)
            .map_err(|error| error.to_string())
    }

    fn find_cutlass(&self, env: &Env) -> Result<cutlass::Cutlass, String> {
        cutlass::find(env, &self.path("repository")).map_err(|e| e.to_string())
    }
}

fn env<const N: usize>(values: [(&str, &Path); N]) -> Env {
    Env::new(values.map(|(name, value)| (name.to_owned(), OsString::from(value))))
}

#[test]
fn cuda_is_looked_up_in_the_documented_order() {
    let machine = Machine::new();
    let at = |name: &str| machine.toolkit(name, 13050);
    let nvcc = |name: &str| at(name).join("bin/nvcc");
    let (a, b, c, d, e, f) = (nvcc("a"), nvcc("b"), at("c"), at("d"), at("e"), at("f").join("bin"));
    at("repository/third_party/cuda");
    at("system");
    let mut values = vec![
        ("NVCC", a),
        ("CUDACXX", b),
        ("CUDA_HOME", c),
        ("CUDA_PATH", d),
        ("CUDA_TOOLKIT_PATH", e),
        ("PATH", f),
    ];
    let mut order = Vec::new();
    while !values.is_empty() {
        let set = values.iter().map(|(name, path)| ((*name).to_owned(), path.into()));
        order.push(machine.find_cuda(&Env::new(set)).unwrap().from);
        values.remove(0);
    }
    order.push(machine.find_cuda(&env([])).unwrap().from);
    fs::remove_dir_all(machine.path("repository/third_party/cuda")).unwrap();
    let last = machine.find_cuda(&env([])).unwrap().from;
    let system = format!("{} of this machine", machine.path("system").display());
    assert_eq!(
        order,
        [
            "NVCC",
            "CUDACXX",
            "CUDA_HOME",
            "CUDA_PATH",
            "CUDA_TOOLKIT_PATH",
            "nvcc on PATH",
            "third_party/cuda of this repository"
        ]
    );
    assert_eq!(last, system);
}

#[test]
fn without_cuda_every_place_is_named_with_its_reason() {
    let machine = Machine::new();
    let old = machine.toolkit("old", 12090);
    let empty = machine.path("empty");
    fs::create_dir(&empty).unwrap();
    let headless = machine.file("headless/bin/nvcc", "");
    let text = machine
        .find_cuda(&env([
            ("CUDA_HOME", &old),
            ("CUDA_PATH", &empty),
            ("PATH", headless.parent().unwrap()),
        ]))
        .unwrap_err();
    for part in [
        "CUDA toolkit, 13.0 or later".to_owned(),
        "NVCC not set".to_owned(),
        "CUDACXX not set".to_owned(),
        format!("{}: is CUDA 12.9, older than 13.0", old.display()),
        format!("{}: has no bin/nvcc", empty.display()),
        "CUDA_TOOLKIT_PATH not set".to_owned(),
        format!("{}: has nvcc, but no cuda.h in include,", headless.display()),
        "third_party/cuda of this repository not there".to_owned(),
        format!("{} of this machine", machine.path("system").display()),
        "set CUDA_HOME".to_owned(),
    ] {
        // Columns are as wide as the longest name, which is that of a temporary folder.
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeezed(&text).contains(&squeezed(&part)), "{part} is missing in\n{text}");
    }
}

#[test]
fn newer_releases_of_cuda_and_cutlass_are_welcome() {
    let machine = Machine::new();
    let cuda = machine.toolkit("cuda", 99_120);
    let cutlass = machine.cutlass("cutlass", [12, 0, 3]);
    let found = machine.find_cuda(&env([("CUDA_HOME", &cuda)])).unwrap();
    assert_eq!(found.version.to_string(), "99.12");
    assert_eq!(
        machine.find_cutlass(&env([("CUTLASS_DIR", &cutlass)])).unwrap().version,
        [12, 0, 3]
    );
}

#[test]
fn an_nvcc_that_was_named_and_does_not_fit_is_an_error_and_not_skipped() {
    let machine = Machine::new();
    machine.toolkit("system", 13050);
    let text = machine.find_cuda(&env([("NVCC", &machine.path("nowhere/nvcc"))])).unwrap_err();
    assert!(text.contains("nowhere/nvcc: No such file"), "{text}");
    assert!(!text.contains("CUDA_HOME  "), "looked further:\n{text}");
}

#[test]
fn nvcc_may_be_a_bare_name_or_a_link_and_headers_may_be_below_targets() {
    let machine = Machine::new();
    let toolkit = machine.toolkit("cuda", 13000);
    let targets = toolkit.join("targets/x86_64-linux");
    fs::create_dir_all(&targets).unwrap();
    fs::rename(toolkit.join("include"), targets.join("include")).unwrap();
    fs::rename(toolkit.join("lib64"), targets.join("lib")).unwrap();
    let bin = machine.path("bin");
    fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(toolkit.join("bin/nvcc"), bin.join("nvcc-13")).unwrap();
    let found = machine.find_cuda(&env([("NVCC", Path::new("nvcc-13")), ("PATH", &bin)])).unwrap();
    assert_eq!(found.nvcc, bin.join("nvcc-13"));
    assert_eq!(found.include, fs::canonicalize(targets.join("include")).unwrap());
    assert_eq!(found.lib, fs::canonicalize(targets.join("lib")).unwrap());
}

/// A toolkit that has its headers and libraries in other folders than `include` and `lib64`.
fn laid_out(machine: &Machine, name: &str, include: &str, lib: &str) -> PathBuf {
    let toolkit = machine.toolkit(name, 13050);
    for (from, to) in [("include", include), ("lib64", lib)] {
        if from != to {
            fs::create_dir_all(toolkit.join(to).parent().unwrap()).unwrap();
            fs::rename(toolkit.join(from), toolkit.join(to)).unwrap();
        }
    }
    toolkit
}

#[test]
fn toolkits_of_arm_servers_of_conda_and_of_debian_are_found() {
    let machine = Machine::new();
    let (sbsa, arm) = ("targets/sbsa-linux", "targets/aarch64-linux");
    for (number, (arch, include, lib)) in [
        ("aarch64", "include".to_owned(), "lib64".to_owned()),
        ("aarch64", "include".to_owned(), "lib".to_owned()),
        ("aarch64", format!("{sbsa}/include"), format!("{sbsa}/lib")),
        ("aarch64", format!("{arm}/include"), format!("{arm}/lib")),
        ("aarch64", "include".to_owned(), "lib/aarch64-linux-gnu".to_owned()),
        (
            "x86_64",
            "targets/x86_64-linux/include".to_owned(),
            "targets/x86_64-linux/lib".to_owned(),
        ),
        ("x86_64", "include".to_owned(), "lib/x86_64-linux-gnu".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        let toolkit = laid_out(&machine, &format!("cuda{number}"), &include, &lib);
        let env = env([("CUDA_HOME", &toolkit)]);
        let found = machine.find_cuda_for(arch, &env).unwrap();
        assert_eq!(found.include, toolkit.join(&include), "{arch}");
        assert_eq!(found.lib, toolkit.join(&lib), "{arch}");
    }
    // Both are there where NVIDIA's cross packages are installed: each build takes its own.
    let both = laid_out(&machine, "both", &format!("{sbsa}/include"), &format!("{sbsa}/lib"));
    let x86 = both.join("targets/x86_64-linux");
    machine.file("both/targets/x86_64-linux/include/cuda.h", "#define CUDA_VERSION 13050\n");
    machine.file("both/targets/x86_64-linux/lib/libcudart_static.a", "");
    let env_of_both = env([("CUDA_HOME", &both)]);
    assert_eq!(machine.find_cuda_for("x86_64", &env_of_both).unwrap().lib, x86.join("lib"));
    let found = machine.find_cuda_for("aarch64", &env_of_both).unwrap();
    assert_eq!(found.lib, both.join(sbsa).join("lib"));
    // And one of another machine alone is refused, with the folders that were looked at.
    fs::remove_dir_all(x86).unwrap();
    let text = machine.find_cuda_for("x86_64", &env_of_both).unwrap_err();
    assert!(text.contains("no cuda.h in include, targets/x86_64-linux/include of"), "{text}");
}

#[test]
fn a_named_folder_of_fetched_tools_takes_the_place_of_third_party() {
    let machine = Machine::new();
    machine.toolkit("repository/third_party/cuda", 13050);
    machine.cutlass("repository/third_party/cutlass", [4, 5, 0]);
    machine.toolkit("elsewhere/cuda", 13010);
    machine.cutlass("elsewhere/cutlass", [4, 6, 0]);
    let ninja = machine.file("elsewhere/tools/bin/ninja", "");
    machine.file("elsewhere/tools/lib/libclang.so", "");
    let elsewhere = machine.path("elsewhere");
    let named = env([("NVFP4_TOOLCHAIN_DIR", &elsewhere)]);
    let repository = machine.path("repository");
    assert_eq!(machine.find_cuda(&named).unwrap().version.to_string(), "13.1");
    assert_eq!(machine.find_cutlass(&named).unwrap().version, [4, 6, 0]);
    assert_eq!(tools::ninja(&named, &repository).unwrap(), ninja);
    let libclang = tools::fetched_libclang(&named, &repository);
    assert_eq!(libclang, Some(elsewhere.join("tools/lib")));
    // What is not there is not looked for in third_party instead.
    let empty = machine.path("empty");
    let text = machine.find_cutlass(&env([("NVFP4_TOOLCHAIN_DIR", &empty)])).unwrap_err();
    let reason = format!("{}: has no include/cutlass/version.h", empty.join("cutlass").display());
    assert!(text.contains(&reason), "{text}");
    assert!(!text.contains("third_party"), "{text}");
}

#[test]
fn one_warning_for_a_cutlass_that_nobody_tried() {
    let machine = Machine::new();
    let warning = |version| {
        let root = machine.cutlass(&format!("{version:?}"), version);
        cutlass::untested(&machine.find_cutlass(&env([("CUTLASS_DIR", &root)])).unwrap())
    };
    assert_eq!(warning([4, 5, 0]), None);
    assert_eq!(warning([4, 8, 1]), None);
    let text = warning([4, 8, 2]).unwrap();
    assert!(text.starts_with("CUTLASS 4.8.2 in ") && text.contains("newer than 4.8.1"), "{text}");
    // CMake, which people use without cargo, knows the same releases.
    let cmake = include_str!("../../cpp/cmake/Cutlass.cmake");
    for (name, version) in [("minimum", cutlass::MINIMUM), ("tested", cutlass::NEWEST_TESTED)] {
        let line = format!("set(nvfp4_cutlass_{name} {})", cutlass::dotted(version));
        assert!(cmake.lines().any(|found| found == line), "{line}");
    }
    let line = format!("find_package(CUDAToolkit {} REQUIRED)", cuda::MINIMUM);
    assert!(include_str!("../../cpp/CMakeLists.txt").contains(&line), "{line}");
}

#[test]
fn architectures_are_a_list_of_known_names() {
    let parse = |text: &'static str| archs::parse(Some(text.as_ref()));
    assert_eq!(archs::parse(None).unwrap(), ["90a", "100a"]);
    assert_eq!(parse("90a").unwrap(), ["90a"]);
    assert_eq!(parse("100f").unwrap(), ["100f"]);
    assert_eq!(parse(" 100a, 90a ,90a").unwrap(), ["90a", "100a"]);
    assert_eq!(archs::for_cmake(&parse("100f,90a").unwrap()), "90a;100f");
    for (value, problem) in [
        ("", "NVFP4_CUDA_ARCHS is set and empty."),
        ("  ", "NVFP4_CUDA_ARCHS is set and empty."),
        ("90a,", "is \"90a,\", with nothing on one side of a comma."),
        ("90", "is \"90\", and there are no kernels for \"90\"."),
        ("90a,sm_100a", "there are no kernels for \"sm_100a\"."),
        ("90a;100a", "there are no kernels for \"90a;100a\"."),
        ("120a", "there are no kernels for \"120a\"."),
        ("100f,100a", "100a and 100f are the same kernels: name one of them"),
    ] {
        let text = parse(value).unwrap_err();
        assert!(text.contains(problem), "{value}: {text}");
        let names = ["90a (H100", "100a (B200", "100f (", "unset, it is 90a,100a"];
        let known = names.iter().all(|name| text.contains(name));
        assert!(known || value == "100f,100a", "{value}: {text}");
    }
}

#[test]
fn a_compiler_cache_on_path_is_used_unless_the_user_says_otherwise() {
    let machine = Machine::new();
    let ccache = machine.file("both/ccache", "");
    machine.file("both/sccache", "");
    let sccache = machine.file("other/sccache", "");
    let (both, other) = (ccache.parent().unwrap(), sccache.parent().unwrap());
    let (root, cmake) = (Path::new("/a/checkout"), Path::new("/usr/bin/cmake"));
    let inside = root.join("target/debug/build/x/out");
    let words = |env: &Env, out: &Path| {
        let launcher = cache::launcher(env, root, out, cmake).unwrap();
        let words = launcher.into_iter().flatten();
        words.map(|word| word.display().to_string()).collect::<Vec<_>>()
    };
    let with_base = |base: &str| {
        [
            "/usr/bin/cmake",
            "-E",
            "env",
            &format!("CCACHE_BASEDIR={base}"),
            "CCACHE_NOHASHDIR=true",
            "CCACHE_COMPILERCHECK=content",
            &ccache.display().to_string(),
        ]
        .map(str::to_owned)
    };
    assert_eq!(words(&env([("PATH", both)]), &inside), with_base("/a/checkout"));
    let outside = Path::new("/a/folder/of/targets");
    assert_eq!(words(&env([("PATH", both)]), outside), with_base("/a"));
    let own_base = env([("PATH", both), ("CCACHE_BASEDIR", Path::new("/mine"))]);
    assert_eq!(words(&own_base, &inside), with_base("/mine"));
    assert_eq!(words(&env([("PATH", other)]), &inside), [sccache.display().to_string()]);
    let none: [String; 0] = [];
    assert_eq!(words(&env([]), &inside), none);
    for (name, value) in [
        ("NVFP4_COMPILER_CACHE", "off"),
        ("CMAKE_CUDA_COMPILER_LAUNCHER", "distcc"),
        ("CMAKE_CXX_COMPILER_LAUNCHER", "distcc"),
    ] {
        assert_eq!(
            words(&env([("PATH", both), (name, Path::new(value))]), &inside),
            none,
            "{name}"
        );
    }
    let wrong = env([("NVFP4_COMPILER_CACHE", Path::new("on"))]);
    let text = cache::launcher(&wrong, root, &inside, cmake).unwrap_err();
    assert!(text.contains("NVFP4_COMPILER_CACHE is \"on\""), "{text}");
}

#[test]
fn an_old_cutlass_is_refused_with_both_versions() {
    let machine = Machine::new();
    machine.cutlass("repository/third_party/cutlass", [4, 5, 0]);
    assert_eq!(machine.find_cutlass(&env([])).unwrap().version, [4, 5, 0]);
    let old = machine.cutlass("old", [4, 4, 9]);
    let text = machine.find_cutlass(&env([("CUTLASS_DIR", &old)])).unwrap_err();
    assert!(text.contains("is CUTLASS 4.4.9, older than 4.5.0"), "{text}");
    let text = machine.find_cutlass(&env([("CUTLASS_DIR", &old.join("include"))])).unwrap_err();
    assert!(text.contains("name the folder above include"), "{text}");
}

#[test]
fn an_old_cmake_on_path_gives_way_to_the_fetched_one() {
    let machine = Machine::new();
    let program = |name: &str, version: &str| {
        let path = machine.file(name, &format!("#!/bin/sh\necho cmake version {version}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let old = program("bin/cmake", "3.18.4");
    let env = env([("PATH", old.parent().unwrap())]);
    let repository = machine.path("repository");
    let text = tools::cmake(&env, &repository).unwrap_err().to_string();
    assert!(text.contains("is CMake 3.18, older than 3.25"), "{text}");
    let fetched = program("repository/third_party/tools/bin/cmake", "4.4.4");
    assert_eq!(tools::cmake(&env, &repository).unwrap(), fetched);
}

#[test]
fn everything_that_is_missing_is_reported_at_once_with_the_one_command() {
    let machine = Machine::new();
    let none = env([]);
    let repository = machine.path("repository");
    let missing = [
        cuda::find(&none, &repository, &machine.path("system"), "x86_64").unwrap_err(),
        cutlass::find(&none, &repository).unwrap_err(),
        tools::ninja(&none, &repository).unwrap_err(),
    ];
    let text = lookup::report(&missing, &none, &repository);
    assert_eq!(text.matches("Feature `cuda` needs").count(), 3, "{text}");
    assert!(text.ends_with("repository/third_party/fetch.sh"), "{text}");
    // Into a folder that has been named.
    let named = env([("NVFP4_TOOLCHAIN_DIR", Path::new("/tools"))]);
    let text = lookup::report(&missing, &named, &repository);
    assert!(text.ends_with("repository/third_party/fetch.sh --dest /tools"), "{text}");
    // And never into cargo's own folders.
    for mark in [".cargo-ok", ".cargo-checksum.json", ".cargo_vcs_info.json"] {
        let mark = machine.file(&format!("repository/{mark}"), "");
        let text = lookup::report(&missing, &none, &repository);
        for part in ["CUDA_HOME and CUTLASS_DIR", "fetch.sh --dest DIR", "NVFP4_TOOLCHAIN_DIR=DIR"]
        {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        fs::remove_file(mark).unwrap();
    }
}

#[test]
fn the_runtime_is_static_unless_asked_for_and_nothing_else() {
    use link::Cudart;
    let parse = |value: &'static str| Cudart::parse(Some(value.as_ref()));
    assert_eq!(Cudart::parse(None), Ok(Cudart::Static));
    assert_eq!(parse("static"), Ok(Cudart::Static));
    assert_eq!(parse("shared"), Ok(Cudart::Shared));
    assert!(parse("dynamic").unwrap_err().contains("NVFP4_CUDART is \"dynamic\""));
}

#[test]
fn each_variable_that_is_read_is_known() {
    let machine = Machine::new();
    let machine_env = env([("CMAKE_CUDA_FLAGS", Path::new("-G")), ("CUDA_PATH", Path::new(""))]);
    let _ = machine.find_cuda(&machine_env);
    machine_env.for_cmake();
    let read = machine_env.names_read();
    for name in [
        "CMAKE_CUDA_COMPILER_LAUNCHER",
        "CMAKE_CUDA_FLAGS",
        "CMAKE_TOOLCHAIN_FILE",
        "CUDACXX",
        "CUDA_HOME",
        "CUDA_PATH",
        "CUDA_TOOLKIT_PATH",
        "NVCC",
        "PATH",
    ] {
        assert!(read.iter().any(|read| read == name), "{name} is not watched");
    }
}
