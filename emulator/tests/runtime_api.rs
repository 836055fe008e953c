//! The C functions against the real ones: names, layouts, and the codes that an H100 gave to the same program.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use emulator::runtime::device::{PROPERTIES, PROPERTIES_BYTES, PROPERTY_MEMORY};

type Outcome = Result<(), Box<dyn Error>>;

/// The command; it puts the library in front of a program.
const EMULATOR: &str = env!("CARGO_BIN_EXE_emulator");

fn cuda() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../third_party/cuda")
}

/// A file of the toolkit; says where there is none that the test is skipped.
fn toolkit(test: &str, file: &str) -> Option<PathBuf> {
    let path = cuda().join(file);
    if path.exists() {
        return Some(path);
    }
    let line = format!("skipped: {test}: no {} (third_party/fetch.sh gets it)\n", path.display());
    let _ = std::io::stderr().write_all(line.as_bytes());
    None
}

/// What a command prints; an error with all it said when it fails.
fn output(command: &mut Command) -> Result<String, Box<dyn Error>> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8(output.stdout)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {}\n{text}{said}", output.status).into());
    }
    Ok(text)
}

/// A folder of a test's own.
fn folder(test: &str) -> Result<PathBuf, Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Compiles a C++ program against the real headers and library.
fn compile(test: &str, source: &str) -> Result<PathBuf, Box<dyn Error>> {
    let folder = folder(test)?;
    let (file, program) = (folder.join("program.cpp"), folder.join("program"));
    std::fs::write(&file, source)?;
    let mut compiler = Command::new("g++");
    compiler.arg(&file).arg("-I").arg(cuda().join("include"));
    compiler.arg("-L").arg(cuda().join("lib")).args(["-lcudart", "-o"]).arg(&program);
    output(&mut compiler)?;
    Ok(program)
}

fn symbols(library: &Path) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let text = output(Command::new("nm").args(["-D", "--defined-only"]).arg(library))?;
    Ok(text.lines().filter_map(|line| line.split_whitespace().nth(2)).map(str::to_owned).collect())
}

/// With their version, `cudaMalloc@@libcudart.so.13`.
#[test]
fn every_symbol_of_the_real_library_is_there() -> Outcome {
    let test = "every_symbol_of_the_real_library_is_there";
    let Some(real) = toolkit(test, "lib/libcudart.so.13") else { return Ok(()) };
    let path = output(Command::new(EMULATOR).arg("path"))?;
    let ours = symbols(&Path::new(path.trim()).join("libcudart.so.13"))?;
    let real = symbols(&real)?;
    assert!(real.len() > 400, "nm shows {}", real.len());
    let missing: Vec<_> = real.difference(&ours).collect();
    assert!(missing.is_empty(), "{missing:?}");
    Ok(())
}

#[test]
fn members_are_where_the_headers_put_them() -> Outcome {
    let test = "members_are_where_the_headers_put_them";
    if toolkit(test, "include/cuda_runtime_api.h").is_none() {
        return Ok(());
    }
    let members = PROPERTIES.iter().map(|(name, offset, ..)| (*name, *offset));
    let mut wanted = format!("{PROPERTIES_BYTES}\n56\n72\n144\n88\n");
    let mut prints = String::new();
    for (name, offset) in members.chain([PROPERTY_MEMORY]) {
        wanted += &format!("{name} {offset}\n");
        prints += &format!("  printf(\"{name} %zu\\n\", offsetof(cudaDeviceProp, {name}));\n");
    }
    let source = format!(
        "#include <cstddef>\n#include <cstdio>\n#include <cuda_runtime_api.h>\nint main() {{\n  \
         printf(\"%zu\\n%zu\\n%zu\\n%zu\\n%zu\\n\", sizeof(cudaDeviceProp), sizeof(cudaLaunchConfig_t),\n    \
         sizeof(cudaLaunchAttribute), sizeof(cudaFuncAttributes), sizeof(cudaPointerAttributes));\n{prints}}}\n"
    );
    let program = compile(test, &source)?;
    assert_eq!(output(Command::new(program).env("LD_LIBRARY_PATH", cuda().join("lib")))?, wanted);
    Ok(())
}

/// The real library needs no driver to name errors.
#[test]
fn errors_have_the_names_of_the_real_library() -> Outcome {
    let test = "errors_have_the_names_of_the_real_library";
    if toolkit(test, "lib/libcudart.so.13").is_none() {
        return Ok(());
    }
    let program = compile(
        test,
        "#include <cstdio>\n#include <cuda_runtime_api.h>\nint main() {\n  for (int code = 0; code < 1100; ++code) \
         printf(\"%d %s\\n\", code, cudaGetErrorName(static_cast<cudaError_t>(code)));\n}\n",
    )?;
    let real = output(Command::new(&program).env("LD_LIBRARY_PATH", cuda().join("lib")))?;
    let ours = output(Command::new(EMULATOR).args(["run", "--"]).arg(&program))?;
    assert!(real.contains("900 cudaErrorStreamCaptureUnsupported"), "{real}");
    for (ours, real) in ours.lines().zip(real.lines()) {
        assert_eq!(ours, real);
    }
    Ok(())
}

/// 600 lines of calls, in and out of captures, and what follows a failed kernel.
#[test]
fn calls_answer_as_on_an_h100() -> Outcome {
    let test = "calls_answer_as_on_an_h100";
    let Some(nvcc) = toolkit(test, "bin/nvcc") else { return Ok(()) };
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let program = folder(test)?.join("program");
    let mut compiler = Command::new(nvcc);
    compiler.args(["-std=c++17", "-O1", "-cudart", "shared", "-o"]).arg(&program);
    compiler.args(["-gencode", "arch=compute_90,code=compute_90"]);
    compiler.arg("-L").arg(cuda().join("lib")).arg(tests.join("programs/runtime_api.cu"));
    output(&mut compiler)?;
    for (part, file) in [
        ("all", "runtime_api_h100.txt"),
        ("illegal", "runtime_api_illegal_h100.txt"),
        ("misaligned", "runtime_api_misaligned_h100.txt"),
    ] {
        let mut run = Command::new(EMULATOR);
        // As many multiprocessors as that H100 has.
        run.args(["run", "--device", "h100", "--sms", "132", "--"]).arg(&program).arg(part);
        let ours = output(&mut run)?;
        let real = std::fs::read_to_string(tests.join("data").join(file))?;
        for (number, (ours, real)) in ours.lines().zip(real.lines()).enumerate() {
            assert_eq!(ours, real, "line {} of {file}", number + 1);
        }
        assert_eq!(ours.lines().count(), real.lines().count(), "{file}");
    }
    Ok(())
}
