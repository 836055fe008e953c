//! The program in the README: it is the file, it is right, and the README has what is said of it when it is broken.

mod support;

use std::path::Path;
use std::process::Command;

use support::{Outcome, nvcc_or_skip, package, scratch};

/// The command; it puts the library in front of a program.
const EMULATOR: &str = env!("CARGO_BIN_EXE_emulator");

/// What a program says, stderr first: without the folder, and with any line of the PTX, which depends on nvcc.
fn said(nvcc: &Path, text: &str, name: &str, schedule: &str) -> Outcome<String> {
    let folder = scratch(&format!("example/{name}"))?;
    let (file, program) = (folder.join("sum.cu"), folder.join("sum"));
    std::fs::write(&file, text)?;
    let mut compiler = Command::new(nvcc);
    compiler.args(["-std=c++17", "-lineinfo", "-cudart", "shared"]);
    compiler.args(["-gencode", "arch=compute_100a,code=compute_100a"]);
    if let Some(toolkit) = nvcc.parent().and_then(Path::parent) {
        compiler.arg("-L").arg(toolkit.join("lib"));
    }
    let output = compiler.arg(&file).arg("-o").arg(&program).output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = Command::new(EMULATOR)
        .args(["run", "--schedule", schedule, "--"])
        .arg(&program)
        .output()?;
    let all = String::from_utf8(output.stderr)? + &String::from_utf8(output.stdout)?;
    Ok(without_ptx_lines(&all.replace(&format!("{}/", folder.display()), "")))
}

fn without_ptx_lines(text: &str) -> String {
    let mut parts = text.split("PTX line ");
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        all += "PTX line ?";
        all += part.trim_start_matches(|letter: char| letter.is_ascii_digit());
    }
    all
}

#[test]
fn the_readme_has_the_program_and_what_is_said_of_it() -> Outcome<()> {
    let test = "the_readme_has_the_program_and_what_is_said_of_it";
    let Some(nvcc) = nvcc_or_skip(test) else { return Ok(()) };
    let readme = std::fs::read_to_string(package().join("README.md"))?;
    let program = std::fs::read_to_string(package().join("examples/sum.cu"))?;
    assert!(readme.contains(&format!("```cuda\n{program}```\n")));
    let right = "32640, cudaSuccess\n";
    for schedule in ["eager", "lazy", "random"] {
        assert_eq!(said(&nvcc, &program, "right", schedule)?, right, "{schedule}");
    }
    let readme = without_ptx_lines(&readme);

    let wait = program.lines().find(|line| line.contains("try_wait")).ok_or("no wait")?;
    let unwaited = program.replace(&format!("{wait}\n"), "");
    assert_eq!(said(&nvcc, &unwaited, "unwaited", "eager")?, right);
    let words = said(&nvcc, &unwaited, "unwaited", "lazy")?;
    assert!(words.starts_with("emulator: Uninitialised: ") && readme.contains(&words), "{words}");

    let expects =
        program.replace("expect_tx.shared.b64 _, [%0], 1024", "expect_tx.shared.b64 _, [%0], 2048");
    let words = said(&nvcc, &expects, "expects", "eager")?;
    let first: Vec<&str> = words.split_inclusive('\n').take(2).collect();
    assert!(
        words.starts_with("emulator: Deadlock: ") && readme.contains(&first.concat()),
        "{words}"
    );
    Ok(())
}
