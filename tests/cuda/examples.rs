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
    [
        ("04_dual_gemm_cuda", rust("04_dual_gemm_cuda"), Needs::Kernels, "of them more than 1"),
        (
            "05_cuda_graph",
            rust("05_cuda_graph"),
            Needs::Kernels,
            "two replays of two layers agree with the oracle",
        ),
        ("06_tensor_parallel", rust("06_tensor_parallel"), Needs::Driver, "rank 1: 131072 values"),
        ("cpp_dual_gemm", cpp, Needs::Kernels, "C[0] = 0.731"),
    ]
    .map(|(name, path, needs, says)| {
        let path = path.unwrap_or_default();
        let built = path.is_file();
        let test = Test::new(format!("example_{name}"), needs, move || run(&path, says));
        // NCCL calls the driver, and is for several GPUs.
        let test = if needs == Needs::Driver { test.on_devices(2) } else { test };
        if built { test } else { test.not_here("the example was not built".to_owned()) }
    })
    .into()
}

fn run(path: &Path, says: &str) {
    let output = Command::new(path).output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains(says), "{out}{err}");
}
