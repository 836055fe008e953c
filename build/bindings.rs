//! Rust declarations of types.h and of the few CUDA runtime calls that the device layer makes.

use std::panic::catch_unwind;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

use super::cuda::{Toolkit, Version};
use super::vars::{self, Env};

/// Both files, as they are named in OUT_DIR and in build/snapshot.
pub const FILES: [&str; 2] = ["abi.rs", "cudart.rs"];

/// The C declarations, below cpp.
const HEADER: &str = "include/nvfp4_dual_gemm/types.h";

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

/// How the declarations came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Bindgen,
    Snapshot,
}

impl Source {
    pub fn name(self) -> &'static str {
        match self {
            Self::Bindgen => "bindgen",
            Self::Snapshot => "snapshot",
        }
    }
}

/// With bindgen where there is a libclang, else those of `snapshot`. `fetched_libclang`: the folder of the one that
/// third_party/fetch.sh got.
pub fn generate(
    env: &Env,
    cpp: &Path,
    toolkit: &Toolkit,
    fetched_libclang: Option<&Path>,
    snapshot: &Path,
    out: &Path,
) -> Result<Source, String> {
    let mut arguments = vec![format!("-I{}", toolkit.include.display())];
    if let Some(folder) = fetched_libclang {
        // SAFETY: the build script has one thread.
        unsafe { std::env::set_var(vars::LIBCLANG_PATH, folder) };
        // It comes without clang's own stddef.h and the like.
        arguments.push(format!("-isystem{}", compiler_headers()?));
    }
    if !libclang_loads() {
        if let Some(folder) = env.path(vars::LIBCLANG_PATH) {
            return Err(format!(
                "{} is {}, and there is no libclang that can be loaded. Unset, the declarations of build/snapshot do.",
                vars::LIBCLANG_PATH,
                folder.display()
            ));
        }
        copy_snapshot(snapshot, Some(toolkit.version), out).map_err(|error| error.to_string())?;
        return Ok(Source::Snapshot);
    }
    let abi = common(&arguments)
        .header(path(&cpp.join(HEADER))?)
        .allowlist_item("(nvfp4|NVFP4)_.*")
        .blocklist_item("NVFP4_DUAL_GEMM_TYPES_H");
    write(abi, &out.join(FILES[0]))?;
    let cudart = FUNCTIONS
        .iter()
        .fold(common(&arguments), |builder, name| builder.allowlist_function(name))
        .header(path(&toolkit.include.join("cuda_runtime_api.h"))?);
    let cudart = MACROS.iter().fold(cudart, |builder, name| builder.allowlist_var(name));
    write(cudart, &out.join(FILES[1]))?;
    Ok(Source::Bindgen)
}

/// What `generate` made when the snapshot was taken, with the version of the toolkit at hand if there is one.
pub fn copy_snapshot(snapshot: &Path, version: Option<Version>, out: &Path) -> io::Result<()> {
    for name in FILES {
        let text = fs::read_to_string(snapshot.join(name))?;
        let text = version.map_or(text.clone(), |version| with_version(&text, version));
        fs::write(out.join(name), text)?;
    }
    Ok(())
}

fn with_version(text: &str, version: Version) -> String {
    const NAME: &str = "pub const CUDART_VERSION: u32 = ";
    let lines = text.split_inclusive('\n').map(|line| {
        if line.starts_with(NAME) {
            format!("{NAME}{};\n", version.major * 1000 + version.minor * 10)
        } else {
            line.to_owned()
        }
    });
    lines.collect()
}

/// Whether bindgen finds a libclang. It panics where it does not, with words for those who need one.
fn libclang_loads() -> bool {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let loads = catch_unwind(bindgen::clang_version).is_ok();
    std::panic::set_hook(hook);
    loads
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
    let bindings =
        builder.generate().map_err(|error| format!("bindgen, {}: {error}", file.display()))?;
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
