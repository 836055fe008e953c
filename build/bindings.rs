//! Rust declarations of abi.h and of the few CUDA runtime calls that the device layer makes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::{fs, io};

/// Both files, as they are named in OUT_DIR and in build/snapshot.
pub const FILES: [&str; 2] = ["abi.rs", "cudart.rs"];

/// Calls of the runtime; types and constants follow from them. None of them changed between CUDA 12 and 13.
const FUNCTIONS: &[&str] = &[
    "cudaDeviceGetAttribute",
    "cudaDeviceGetPCIBusId",
    "cudaDeviceGetStreamPriorityRange",
    "cudaDeviceSynchronize",
    "cudaDriverGetVersion",
    "cudaEventCreateWithFlags",
    "cudaEventDestroy",
    "cudaEventElapsedTime",
    "cudaEventQuery",
    "cudaEventRecord",
    "cudaEventSynchronize",
    "cudaFree",
    "cudaFreeHost",
    "cudaGetDevice",
    "cudaGetDeviceCount",
    "cudaGetErrorName",
    "cudaGetErrorString",
    "cudaGetLastError",
    "cudaGraphDestroy",
    "cudaGraphExecDestroy",
    "cudaGraphInstantiate",
    "cudaGraphLaunch",
    "cudaMalloc",
    "cudaMallocHost",
    "cudaMemGetInfo",
    "cudaMemcpy",
    "cudaMemcpy2DAsync",
    "cudaMemcpyAsync",
    "cudaMemset",
    "cudaMemsetAsync",
    "cudaPeekAtLastError",
    "cudaPointerGetAttributes",
    "cudaRuntimeGetVersion",
    "cudaSetDevice",
    "cudaStreamBeginCapture",
    "cudaStreamCreateWithFlags",
    "cudaStreamCreateWithPriority",
    "cudaStreamDestroy",
    "cudaStreamEndCapture",
    "cudaStreamGetDevice",
    "cudaStreamIsCapturing",
    "cudaStreamQuery",
    "cudaStreamSynchronize",
    "cudaStreamWaitEvent",
    "cudaThreadExchangeStreamCaptureMode",
];

/// Flags that are macros.
const MACROS: &[&str] = &[
    "CUDART_VERSION",
    "cudaEvent(Default|BlockingSync|DisableTiming)",
    "cudaStream(Default|NonBlocking)",
];

pub fn generate(
    cpp: &Path,
    cuda_include: &Path,
    fetched_libclang: Option<&Path>,
    out: &Path,
) -> Result<(), String> {
    let mut arguments = vec![format!("-I{}", cuda_include.display())];
    if let Some(folder) = fetched_libclang {
        // SAFETY: the build script has one thread.
        unsafe { std::env::set_var(crate::vars::LIBCLANG_PATH, folder) };
        // It comes without clang's own stddef.h and the like.
        arguments.push(format!("-isystem{}", compiler_headers()?));
    }
    let abi = common(&arguments)
        .header(path(&cpp.join("include/nvfp4_dual_gemm/abi.h"))?)
        .allowlist_item("(nvfp4|NVFP4)_.*")
        .blocklist_item("NVFP4_DUAL_GEMM_ABI_H");
    write(abi, &out.join(FILES[0]))?;
    let cudart = FUNCTIONS
        .iter()
        .fold(common(&arguments), |builder, name| builder.allowlist_function(name))
        .header(path(&cuda_include.join("cuda_runtime_api.h"))?);
    let cudart = MACROS.iter().fold(cudart, |builder, name| builder.allowlist_var(name));
    write(cudart, &out.join(FILES[1]))
}

/// Under docs.rs: what `generate` made when the snapshot was taken.
pub fn copy_snapshot(snapshot: &Path, out: &Path) -> io::Result<()> {
    for name in FILES {
        fs::copy(snapshot.join(name), out.join(name))?;
    }
    Ok(())
}

fn common(arguments: &[String]) -> bindgen::Builder {
    bindgen::Builder::default()
        .clang_args(arguments)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .generate_comments(false)
        .disable_header_comment()
        .rust_edition(bindgen::RustEdition::Edition2024)
        .formatter(bindgen::Formatter::Prettyplease)
}

fn write(builder: bindgen::Builder, file: &Path) -> Result<(), String> {
    // bindgen panics where it finds no libclang.
    let generated = catch_unwind(AssertUnwindSafe(|| builder.generate())).map_err(|_| {
        "Feature `cuda` needs libclang, for bindgen. third_party/fetch.sh gets one; or set LIBCLANG_PATH."
    })?;
    let bindings = generated.map_err(|error| format!("bindgen, {}: {error}", file.display()))?;
    bindings.write_to_file(file).map_err(|error| format!("{}: {error}", file.display()))
}

fn path(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| format!("{} is not UTF-8, which bindgen needs", path.display()))
}

fn compiler_headers() -> Result<String, String> {
    let compiler = cc::Build::new().cpp(true).get_compiler();
    let output = Command::new(compiler.path())
        .arg("-print-file-name=include")
        .output()
        .map_err(|error| format!("{}: {error}", compiler.path().display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
