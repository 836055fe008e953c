//! The C++ tests: builds them in the folder where the build script built the kernels, so that none is compiled
//! twice, and runs ctest. A filter after `--` goes to `ctest -R`.

use std::path::Path;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        println!("ctest: test");
        return ExitCode::SUCCESS;
    }
    let (Some(cmake), Some(build)) = (option_env!("NVFP4_CMAKE"), option_env!("NVFP4_CMAKE_BUILD"))
    else {
        println!(
            "ctest: skipped, as DOCS_RS was set when the build script ran: nothing native was built"
        );
        return ExitCode::SUCCESS;
    };
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    match run(Path::new(cmake), build, filter) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cmake: &Path, build: &str, filter: Option<&String>) -> Result<(), String> {
    // All on stdout, quiet unless it fails.
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/cpp");
    quietly(Command::new(cmake).args(["-S", source, "-B", build, "-DNVFP4_BUILD_TESTS=ON"]))?;
    quietly(Command::new(cmake).args(["--build", build]))?;
    let mut ctest = Command::new(cmake.with_file_name("ctest"));
    ctest.args(["--test-dir", build, "--output-on-failure", "--parallel", &threads().to_string()]);
    match filter {
        Some(filter) => ctest.args(["-R", filter]),
        None => ctest.arg("--no-tests=error"),
    };
    let status =
        ctest.status().map_err(|error| format!("ctest beside {}: {error}", cmake.display()))?;
    if status.success() { Ok(()) } else { Err(format!("ctest failed ({status})")) }
}

fn quietly(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(format!("{command:?} failed ({}):\n{out}{err}", output.status))
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
