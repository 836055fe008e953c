//! Warps that poll: what gets on must not be stopped, what cannot get on is said at once. Grid barriers, and memory that
//! host and device share.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use support::{Outcome, nvcc_or_skip, package, scratch};

/// The command; it puts the library in front of a program.
const EMULATOR: &str = env!("CARGO_BIN_EXE_emulator");

/// `tests/programs/waiting.cu`, compiled once.
fn program(test: &str) -> Outcome<Option<PathBuf>> {
    static ONE: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if one.is_none() {
        let Some(nvcc) = nvcc_or_skip(test) else { return Ok(None) };
        let program = scratch("waiting")?.join("program");
        let mut compiler = Command::new(&nvcc);
        compiler.args(["-std=c++17", "-O1", "-lineinfo", "-cudart", "shared"]);
        compiler.args(["-gencode", "arch=compute_100a,code=compute_100a"]);
        if let Some(toolkit) = nvcc.parent().and_then(Path::parent) {
            compiler.arg("-L").arg(toolkit.join("lib"));
        }
        compiler.arg(package().join("tests/programs/waiting.cu")).arg("-o").arg(&program);
        let output = compiler.output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        *one = Some(program);
    }
    Ok(one.clone())
}

/// Six thread blocks and more on two multiprocessors.
fn run(program: &Path, part: &str, settings: &[&str]) -> Outcome<Output> {
    let mut command = Command::new(EMULATOR);
    command.args(["run", "--sms", "2"]).args(settings).arg("--").arg(program).arg(part);
    Ok(command.output()?)
}

const SCHEDULES: [&[&str]; 5] = [
    &["--schedule", "eager", "--threads", "1"],
    &["--schedule", "eager", "--threads", "3"],
    &["--schedule", "lazy", "--threads", "1"],
    &["--schedule", "random", "--seed", "1", "--threads", "1"],
    &["--schedule", "random", "--seed", "6", "--threads", "2"],
];

fn is_right(test: &str, parts: &[&str]) -> Outcome<()> {
    let Some(program) = program(test)? else { return Ok(()) };
    for part in parts {
        for settings in SCHEDULES {
            let output = run(&program, part, settings)?;
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{part} {settings:?}: {said}");
            assert_eq!(String::from_utf8_lossy(&output.stdout), "right\n", "{part} {settings:?}");
        }
    }
    Ok(())
}

/// Each has to fail with all of these words on stderr.
fn is_refused(test: &str, parts: &[(&str, &[&str])]) -> Outcome<()> {
    let Some(program) = program(test)? else { return Ok(()) };
    for (part, words) in parts {
        for settings in SCHEDULES {
            let output = run(&program, part, settings)?;
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{part} {settings:?}: {said}");
            for word in *words {
                assert!(said.contains(word), "{part} {settings:?}: no `{word}` in {said}");
            }
        }
    }
    Ok(())
}

#[test]
fn blocks_of_a_cooperative_launch_meet_at_the_barrier_of_the_grid() -> Outcome<()> {
    let test = "blocks_of_a_cooperative_launch_meet_at_the_barrier_of_the_grid";
    is_right(test, &["grid"])
}

/// The test before has to be able to fail.
#[test]
fn without_the_barrier_of_the_grid_the_sums_are_wrong() -> Outcome<()> {
    let test = "without_the_barrier_of_the_grid_the_sums_are_wrong";
    let Some(program) = program(test)? else { return Ok(()) };
    let output = run(&program, "grid-without-barrier", SCHEDULES[0])?;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "wrong\n");
    Ok(())
}

#[test]
fn the_barrier_of_the_grid_takes_a_cooperative_launch_that_fits() -> Outcome<()> {
    is_refused(
        "the_barrier_of_the_grid_takes_a_cooperative_launch_that_fits",
        &[
            ("grid-of-plain-launch", &["Trap: the kernel executed trap", "in _Z6rounds"]),
            ("grid-too-large", &["100000 blocks in a cooperative launch; 64 fit at a time"]),
        ],
    )
}

#[test]
fn polling_warps_that_get_on_are_right() -> Outcome<()> {
    is_right(
        "polling_warps_that_get_on_are_right",
        &["later", "later-asleep", "later-together", "locked", "neighbor", "impatient"],
    )
}

/// Long loops that end by themselves, and a flag that the host sets.
#[test]
fn what_ends_by_itself_or_by_the_host_is_right() -> Outcome<()> {
    is_right("what_ends_by_itself_or_by_the_host_is_right", &["counted", "timed", "host"])
}

#[test]
fn warps_that_poll_for_what_nobody_does_are_reported() -> Outcome<()> {
    let flag =
        &["Livelock: ", "in _Z12flag_of_lastPjS_ib, CTA (", "waiting.cu:", "repeats PTX lines"];
    is_refused(
        "warps_that_poll_for_what_nobody_does_are_reported",
        &[
            ("never", flag),
            ("never-asleep", flag),
            ("never-storing", flag),
            ("never-together", flag),
            ("locked-for-ever", &["Livelock: ", "in _Z6locked", "repeats PTX lines"]),
            ("crosswise", &["Livelock: ", "in _Z9crosswisePj", "repeats PTX lines"]),
            ("neighbor-never", &["Livelock: ", "in _Z11of_neighborPjj", "repeats PTX lines"]),
            ("patient", &["Livelock: ", "in _Z9impatient", "mbarrier ", "1 of 1 arrivals"]),
        ],
    )
}

/// A grid that does not fit, and whose first blocks wait for the last.
#[test]
fn blocks_that_cannot_start_are_counted() -> Outcome<()> {
    let Some(program) = program("blocks_that_cannot_start_are_counted")? else { return Ok(()) };
    let output = run(&program, "beyond", SCHEDULES[0])?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("Livelock: "), "{said}");
    assert!(said.contains("; 1 clusters of the grid did not start"), "{said}");
    Ok(())
}

#[test]
fn managed_memory_is_that_of_host_and_device() -> Outcome<()> {
    is_right("managed_memory_is_that_of_host_and_device", &["managed"])
}

/// The host uses a managed variable before it hears that nothing can be launched.
#[test]
fn managed_variables_outlive_a_module_that_is_refused() -> Outcome<()> {
    let test = "managed_variables_outlive_a_module_that_is_refused";
    let Some(program) = program(test)? else { return Ok(()) };
    let path = scratch("waiting")?.join("bad.ptx");
    std::fs::write(&path, ".version 9.0\n.target sm_100a\n.address_size 64\nnonsense;\n")?;
    let mut command = Command::new(EMULATOR);
    command.args(["run", "--"]).arg(&program).arg("managed").env("EMULATOR_PTX", &path);
    let output = command.output()?;
    let (said, told) =
        (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("EMULATOR_PTX: "), "{said}");
    assert!(told.contains("cudaErrorInvalidPtx"), "{told}");
    Ok(())
}
