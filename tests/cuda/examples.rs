//! The examples, run as they were built.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Needs, Test};

pub fn all() -> Vec<Test> {
    let rust = |name: &str| {
        let executable = std::env::current_exe().unwrap_or_default();
        executable.ancestors().nth(2).map(|folder| folder.join("examples").join(name))
    };
    // Built by the tests in C++, which cargo runs first.
    let cpp = option_env!("NVFP4_CMAKE_BUILD")
        .map(|build| PathBuf::from(build).join("examples/dual_gemm/dual_gemm"));
    let mut all = vec![
        example("04_dual_gemm_cuda", rust("04_dual_gemm_cuda"), "of them more than 1"),
        example(
            "05_cuda_graph",
            rust("05_cuda_graph"),
            "two replays of two layers agree with the oracle",
        ),
        example("06_tensor_parallel", rust("06_tensor_parallel"), "rank 1: 131072 values")
            .on_devices(2),
        example("cpp_dual_gemm", cpp, "C[0] = 0.731"),
    ];
    // What did nothing has not succeeded.
    for name in ["04_dual_gemm_cuda", "05_cuda_graph", "06_tensor_parallel"] {
        let test = format!("example_{name}_fails_without_a_device");
        all.push(of(rust(name), test, Needs::NoDevice, |path| fail(path, "nothing to run on: ")));
    }
    let test = "example_06_tensor_parallel_fails_on_one_device".to_owned();
    let says = "two GPUs that kernels are built for, not 1";
    all.push(of(rust("06_tensor_parallel"), test, Needs::Emulator, move |path| fail(path, says)));
    all
}

fn example(name: &str, path: Option<PathBuf>, says: &'static str) -> Test {
    of(path, format!("example_{name}"), Needs::Kernels, move |path| run(path, says))
}

fn of(
    path: Option<PathBuf>,
    test: String,
    needs: Needs,
    run: impl Fn(&Path) + Send + Sync + 'static,
) -> Test {
    let path = path.unwrap_or_default();
    let built = path.is_file();
    let test = Test::new(test, needs, move || run(&path));
    if built { test } else { test.not_here("the example was not built".to_owned()) }
}

fn output(path: &Path) -> (bool, String, String) {
    let output = Command::new(path).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

fn run(path: &Path, says: &str) {
    let (success, out, err) = output(path);
    assert!(success && out.contains(says), "{out}{err}");
}

fn fail(path: &Path, says: &str) {
    let (success, out, err) = output(path);
    assert!(!success && err.contains(says), "{out}{err}");
}
