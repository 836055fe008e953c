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
    vec![
        example("04_dual_gemm_cuda", rust("04_dual_gemm_cuda"), "of them more than 1"),
        example(
            "05_cuda_graph",
            rust("05_cuda_graph"),
            "two replays of two layers agree with the oracle",
        ),
        example("06_tensor_parallel", rust("06_tensor_parallel"), "rank 1: 131072 values")
            .on_devices(2),
        example("cpp_dual_gemm", cpp, "C[0] = 0.731"),
    ]
}

fn example(name: &str, path: Option<PathBuf>, says: &'static str) -> Test {
    let path = path.unwrap_or_default();
    let built = path.is_file();
    let test = Test::new(format!("example_{name}"), Needs::Kernels, move || run(&path, says));
    if built { test } else { test.not_here("the example was not built".to_owned()) }
}

fn run(path: &Path, says: &str) {
    let output = Command::new(path).output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains(says), "{out}{err}");
}
