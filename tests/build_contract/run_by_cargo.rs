//! The build script itself, run as cargo runs it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::{Machine, cuda};

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
    if Path::new(cuda::SYSTEM).exists() {
        eprintln!("skipped: this machine has {}", cuda::SYSTEM);
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
fn a_wrong_value_stops_the_build_before_anything_is_looked_for() {
    let machine = Machine::new();
    for (name, value, problem) in [
        ("NVFP4_CUDA_ARCHS", "90a,120a", "there are no kernels for \"120a\""),
        ("NVFP4_CUDA_ARCHS", "", "NVFP4_CUDA_ARCHS is set and empty"),
        ("NVFP4_CUDA_JOBS", "0", "NVFP4_CUDA_JOBS is \"0\""),
        ("NVFP4_CUDA_JOBS", "all", "NVFP4_CUDA_JOBS is \"all\""),
        ("NVFP4_CUDART", "none", "NVFP4_CUDART is \"none\""),
    ] {
        let Some(output) = run(&machine.path(""), &machine.path(""), &[(name, value)]) else {
            return;
        };
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{name}={value}");
        assert!(text.contains(problem) && !text.contains("panicked"), "{name}={value}: {text}");
        assert!(!text.contains("the CUDA toolkit"), "{name}={value}: {text}");
        let script = String::from_utf8(output.stdout).unwrap();
        let watched = format!("cargo::rerun-if-env-changed={name}\n");
        assert!(script.contains(&watched), "{name}: {script}");
    }
}

#[test]
fn without_libclang_the_snapshot_is_taken_with_the_version_of_the_toolkit() {
    let machine = Machine::new();
    machine.toolkit("fetched/cuda", 13010);
    machine.cutlass("fetched/cutlass", [4, 5, 0]);
    machine.file("fetched/tools/bin/ninja", "");
    let cmake = machine.file(
        "fetched/tools/bin/cmake",
        "#!/bin/sh\ntest \"$1\" = --version && echo cmake version 4.0.0\n",
    );
    fs::set_permissions(&cmake, fs::Permissions::from_mode(0o755)).unwrap();
    let out = machine.path("out");
    fs::create_dir(&out).unwrap();
    let fetched = machine.path("fetched");
    let fetched = ("NVFP4_TOOLCHAIN_DIR", fetched.to_str().unwrap());
    let arch = ("CARGO_CFG_TARGET_ARCH", "x86_64");
    // The declarations come first. Then it fails: there is neither a C++ compiler here nor a CMake that builds.
    let Some(output) = run(Path::new(ROOT), &out, &[fetched, arch]) else { return };
    let text = String::from_utf8(output.stderr).unwrap();
    if text.contains("bindgen, ") {
        eprintln!("skipped: this machine has a libclang of its own");
        return;
    }
    let snapshot =
        |name: &str| fs::read_to_string(Path::new(ROOT).join("build/snapshot").join(name)).unwrap();
    let made = |name: &str| fs::read_to_string(out.join(name)).unwrap_or_else(|_| panic!("{text}"));
    assert_eq!(made("abi.rs"), snapshot("abi.rs"));
    let (taken, here) = ("CUDART_VERSION: u32 = 13050;", "CUDART_VERSION: u32 = 13010;");
    assert!(snapshot("cudart.rs").contains(taken));
    assert_eq!(made("cudart.rs"), snapshot("cudart.rs").replace(taken, here));
    // One that the user named has to be there.
    let named = ("LIBCLANG_PATH", "/nowhere");
    let Some(output) = run(Path::new(ROOT), &out, &[fetched, arch, named]) else { return };
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(text.contains("LIBCLANG_PATH is /nowhere, and there is no libclang"), "{text}");
}

/// Says why a comparison is left out; under scripts/test.sh it must not be.
fn skip(reason: &str) {
    let all = std::env::var_os("NVFP4_TEST_ALL").is_some();
    assert!(!all, "NVFP4_TEST_ALL is set, but {reason}");
    eprintln!("skipped: {reason}");
}

#[test]
fn the_snapshot_is_what_bindgen_makes() {
    let Some(version) = option_env!("NVFP4_CUDA_VERSION") else {
        return skip("DOCS_RS was set when the build script ran");
    };
    if option_env!("NVFP4_BINDINGS") != Some("bindgen") {
        return skip("there was no libclang for bindgen when the build script ran");
    }
    for (name, made) in [
        ("abi.rs", include_str!(concat!(env!("OUT_DIR"), "/abi.rs"))),
        ("cudart.rs", include_str!(concat!(env!("OUT_DIR"), "/cudart.rs"))),
    ] {
        if name == "cudart.rs" && version != "13.5" {
            skip(&format!("{name} was taken with CUDA 13.5, and this is {version}"));
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
    let (Some(cmake), Some(build)) = (option_env!("NVFP4_CMAKE"), option_env!("NVFP4_CMAKE_BUILD"))
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
