//! Without the feature `cuda` there is nothing to build. With it: find CUDA, CUTLASS and the tools, compile `cpp`
//! with CMake, generate the Rust declarations, link.

#[cfg(feature = "cuda")]
mod bindings;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
mod cutlass;
#[cfg(feature = "cuda")]
mod link;
#[cfg(feature = "cuda")]
mod lookup;
#[cfg(feature = "cuda")]
mod native;
#[cfg(feature = "cuda")]
mod tools;
#[cfg(feature = "cuda")]
mod vars;

#[cfg(not(feature = "cuda"))]
fn main() {
    println!("cargo::rerun-if-changed=build");
}

#[cfg(feature = "cuda")]
fn main() -> std::process::ExitCode {
    let env = vars::Env::of_process();
    let outcome = native::build(&env);
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
