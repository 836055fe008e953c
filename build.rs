//! Without the feature `cuda` there is nothing to build. With it: find CUDA, CUTLASS and the tools, compile `cpp`
//! with CMake, generate the Rust declarations, link. docs/building.md explains what it reads.

#[cfg(all(feature = "cuda", unix))]
#[path = "build"]
mod script {
    pub mod archs;
    pub mod bindings;
    pub mod cache;
    pub mod cuda;
    pub mod cutlass;
    pub mod link;
    pub mod lookup;
    pub mod native;
    pub mod tools;
    pub mod vars;
}

#[cfg(not(feature = "cuda"))]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}

#[cfg(all(feature = "cuda", not(unix)))]
fn main() -> std::process::ExitCode {
    eprintln!("Feature `cuda` is for Linux.");
    std::process::ExitCode::FAILURE
}

#[cfg(all(feature = "cuda", unix))]
fn main() -> std::process::ExitCode {
    let env = script::vars::Env::of_process();
    let outcome = script::native::build(&env);
    // After the work, so that every variable that was read is known; and on failure, too.
    for name in env.names_read() {
        println!("cargo::rerun-if-env-changed={name}");
    }
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\n{error}");
            std::process::ExitCode::FAILURE
        }
    }
}
