//! What the library's build script knows, for this package's binaries: where a shared CUDA runtime is.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Set by feature `cuda`, through `links` of the library.
    if let Ok(cudart) = std::env::var("DEP_NVFP4_DUAL_GEMM_CUDART") {
        println!("cargo::rustc-env=NVFP4_CUDART_LINKED={cudart}");
    }
    // LD_LIBRARY_PATH goes before it.
    if let Ok(folder) = std::env::var("DEP_NVFP4_DUAL_GEMM_CUDART_DIR") {
        println!("cargo::rustc-link-arg-bins=-Wl,--enable-new-dtags,-rpath,{folder}");
    }
}
