//! What the build script promises: where it looks, in which order, what it refuses and in which words; that it
//! works without CUDA under docs.rs; that a second build does nothing.

// What one binary uses of the build script's modules, the other may not.
#![allow(dead_code)]

#[path = "../build/cuda.rs"]
mod cuda;
#[path = "../build/cutlass.rs"]
mod cutlass;
#[path = "../build/link.rs"]
mod link;
#[path = "../build/lookup.rs"]
mod lookup;
#[path = "../build/tools.rs"]
mod tools;
#[path = "../build/vars.rs"]
mod vars;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use vars::Env;

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
        self.file(&format!("{name}/tools/util/include/x.h"), "");
        self.path(name)
    }

    fn find_cuda(&self, env: &Env) -> Result<cuda::Toolkit, String> {
        cuda::find(env, &self.path("repository"), &self.path("system")).map_err(|e| e.to_string())
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
    let old = machine.toolkit("old", 12080);
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
        "CUDA toolkit, 12.9 or later".to_owned(),
        "NVCC not set".to_owned(),
        "CUDACXX not set".to_owned(),
        format!("{}: is CUDA 12.8, older than 12.9", old.display()),
        format!("{}: has no bin/nvcc", empty.display()),
        "CUDA_TOOLKIT_PATH not set".to_owned(),
        format!("{}: has nvcc, but no include/cuda.h", headless.display()),
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
    let toolkit = machine.toolkit("cuda", 12090);
    let targets = toolkit.join("targets/x86_64-linux");
    fs::create_dir_all(&targets).unwrap();
    fs::rename(toolkit.join("include"), targets.join("include")).unwrap();
    fs::rename(toolkit.join("lib64"), targets.join("lib")).unwrap();
    let bin = machine.path("bin");
    fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(toolkit.join("bin/nvcc"), bin.join("nvcc-12")).unwrap();
    let found = machine.find_cuda(&env([("NVCC", Path::new("nvcc-12")), ("PATH", &bin)])).unwrap();
    assert_eq!(found.nvcc, bin.join("nvcc-12"));
    assert_eq!(found.include, fs::canonicalize(targets.join("include")).unwrap());
    assert_eq!(found.lib, fs::canonicalize(targets.join("lib")).unwrap());
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
        cuda::find(&none, &repository, &machine.path("system")).unwrap_err(),
        cutlass::find(&none, &repository).unwrap_err(),
        tools::ninja(&none, &repository).unwrap_err(),
    ];
    let text = lookup::report(&missing, &repository);
    assert_eq!(text.matches("Feature `cuda` needs").count(), 3, "{text}");
    assert!(text.ends_with("repository/third_party/fetch.sh"), "{text}");
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

/// The build script itself, run as cargo runs it.
#[cfg(feature = "cuda")]
mod script {
    use super::{Machine, fs};
    use std::path::Path;
    use std::process::{Command, Output};

    const ROOT: &str = env!("CARGO_MANIFEST_DIR");

    /// With an empty environment but for `values`. `None`: this build was itself made under DOCS_RS.
    fn run(root: &Path, out: &Path, values: &[(&str, &str)]) -> Option<Output> {
        let Some(script) = option_env!("NVFP4_BUILD_SCRIPT") else {
            eprintln!("skipped: DOCS_RS was set when the build script ran");
            return None;
        };
        let mut command = Command::new(script);
        command.env_clear().env("CARGO_MANIFEST_DIR", root).env("OUT_DIR", out);
        Some(command.envs(values.iter().copied()).current_dir(root).output().unwrap())
    }

    #[test]
    fn nothing_there_is_one_error_and_no_panic() {
        if Path::new(super::cuda::SYSTEM).exists() {
            eprintln!("skipped: this machine has {}", super::cuda::SYSTEM);
            return;
        }
        let machine = Machine::new();
        let Some(output) = run(&machine.path(""), &machine.path(""), &[]) else { return };
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        for part in ["the CUDA toolkit", "CUTLASS", "CMake", "Ninja", "third_party/fetch.sh"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains("panicked"), "{text}");
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("cargo::rerun-if-env-changed=CUTLASS_DIR"), "{script}");
        assert!(!script.contains("cargo::warning"), "{script}");
    }

    #[test]
    fn docs_rs_needs_no_cuda_and_links_nothing() {
        let machine = Machine::new();
        let out = machine.path("out");
        fs::create_dir(&out).unwrap();
        let Some(output) = run(Path::new(ROOT), &out, &[("DOCS_RS", "1")]) else { return };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for name in ["abi.rs", "cudart.rs"] {
            let snapshot = Path::new(ROOT).join("build/snapshot").join(name);
            assert_eq!(fs::read(out.join(name)).unwrap(), fs::read(snapshot).unwrap());
        }
        assert!(!String::from_utf8_lossy(&output.stdout).contains("rustc-link-lib"));
    }

    #[test]
    fn the_snapshot_is_what_bindgen_makes() {
        let Some(version) = option_env!("NVFP4_CUDA_VERSION") else {
            eprintln!("skipped: DOCS_RS was set when the build script ran");
            return;
        };
        for (name, made) in [
            ("abi.rs", include_str!(concat!(env!("OUT_DIR"), "/abi.rs"))),
            ("cudart.rs", include_str!(concat!(env!("OUT_DIR"), "/cudart.rs"))),
        ] {
            if name == "cudart.rs" && version != "13.5" {
                eprintln!("skipped: {name} was taken with CUDA 13.5, and this is {version}");
                continue;
            }
            let snapshot = Path::new(ROOT).join("build/snapshot").join(name);
            let source = concat!(env!("OUT_DIR"), "/");
            assert!(
                fs::read_to_string(&snapshot).unwrap() == made,
                "{} is out of date: cp {source}{name} {}",
                snapshot.display(),
                snapshot.display()
            );
        }
    }

    #[test]
    fn nothing_is_left_to_compile_after_a_build() {
        let (Some(cmake), Some(build)) =
            (option_env!("NVFP4_CMAKE"), option_env!("NVFP4_CMAKE_BUILD"))
        else {
            eprintln!("skipped: DOCS_RS was set when the build script ran");
            return;
        };
        if !Path::new(build).join("build.ninja").exists() {
            eprintln!("skipped: CMAKE_GENERATOR is not Ninja");
            return;
        }
        let output = Command::new(cmake)
            .args(["--build", build, "--target", "nvfp4_dual_gemm"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("no work to do"), "{text}");
    }
}
