//! Programmatic dependent launch: what a kernel does before the launches ahead of it have ended is found where it
//! touches what is theirs, by whatever instruction and under every schedule, and nothing else is.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::Outcome;

/// The command; it puts the library in front of a program.
const EMULATOR: &str = env!("CARGO_BIN_EXE_emulator");

/// Chains that are right, and what they print.
const RIGHT: [(&str, &str); 21] = [
    ("wait", "192"),
    ("weights_early", "192"),
    ("one_warp_and_barrier", "192"),
    ("own_bytes", "192"),
    ("bulk_load_after", "192"),
    ("one_block", "192"),
    ("last_trigger_wait", "192"),
    ("last_trigger_weights_early", "192"),
    ("nothing_triggers_and_it_waits", "192"),
    // All blocks of the first have ended, and so have their reads.
    ("nothing_triggers_and_it_overwrites_what_was_read", "192"),
    ("ordinary_launch", "192"),
    ("chain", "192"),
    ("chain_triggers_after_its_wait", "192"),
    ("chain_ends_with_an_ordinary_launch", "192"),
    ("never_waits", "0"),
    ("memset_between", "192"),
    ("wait_of_the_host_between", "192"),
    ("event_waited_for", "192"),
    ("seen_by_way_of_another_stream", "192"),
    ("graph", "192"),
    ("other_stream", "192"),
];

const READS: &str = "a read";
const WRITES: &str = "a write";

/// Chains that are wrong: what the last kernel does, and what the one ahead of it does with the same bytes.
const WRONG: [(&str, &str, &str); 20] = [
    ("no_wait", READS, "writes"),
    ("last_trigger_no_wait", READS, "writes"),
    ("nothing_triggers", READS, "writes"),
    ("one_warp_alone", READS, "writes"),
    ("one_lane", READS, "writes"),
    ("late_reader", READS, "writes"),
    ("overwrites_what_is_read", WRITES, "reads"),
    ("overwrites_what_is_written", WRITES, "writes"),
    ("bulk_load", READS, "writes"),
    ("bulk_store", WRITES, "reads"),
    ("async_copy", READS, "writes"),
    ("atomic", READS, "writes"),
    ("one_block_alone", READS, "writes"),
    ("chain_without_wait_between", READS, "writes"),
    ("chain_reads_early", READS, "writes"),
    ("event_between", READS, "writes"),
    ("another_stream_alone", READS, "writes"),
    ("graph_no_wait", READS, "writes"),
    ("last_trigger_overwrites_what_is_read", WRITES, "reads"),
    ("last_trigger_atomic", READS, "writes"),
];

fn program(nvcc: &Path, test: &str) -> Outcome<PathBuf> {
    let program = support::scratch(test)?.join("dependent");
    let library = support::package().join("../third_party/cuda/lib");
    let output = Command::new(nvcc)
        .args(["-std=c++17", "-O1", "-cudart", "shared"])
        .args(["-gencode", "arch=compute_90,code=compute_90", "-L"])
        .arg(library)
        .arg("-o")
        .arg(&program)
        .arg(support::package().join("tests/programs/dependent.cu"))
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(program)
}

/// What a chain prints, and what the emulator says.
fn run(program: &Path, options: &[&str], case: &str) -> Outcome<(String, String)> {
    let output = Command::new(EMULATOR)
        .args(["run", "--device", "h100"])
        .args(options)
        .arg("--")
        .arg(program)
        .arg(case)
        .output()?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(format!("{case} {options:?}: {}\n{words}", output.status).into());
    }
    Ok((String::from_utf8_lossy(&output.stdout).trim().to_owned(), words))
}

/// With few multiprocessors thread blocks come one after the other, which is no reason to be in order.
const OPTIONS: [&[&str]; 6] = [
    &["--schedule", "eager", "--threads", "1"],
    &["--schedule", "eager", "--threads", "3"],
    &["--schedule", "lazy", "--threads", "1"],
    &["--schedule", "random", "--seed", "0", "--threads", "1"],
    &["--schedule", "random", "--seed", "3", "--threads", "1"],
    &["--schedule", "eager", "--threads", "1", "--sms", "1"],
];

#[test]
fn chains_in_order_are_right() -> Outcome<()> {
    let Some(nvcc) = support::nvcc_or_skip("dependent") else { return Ok(()) };
    let program = program(&nvcc, "dependent_right")?;
    for (case, expected) in RIGHT {
        for options in OPTIONS {
            let (printed, words) = run(&program, options, case)?;
            assert_eq!(printed, expected, "{case} {options:?}: {words}");
        }
    }
    Ok(())
}

#[test]
fn what_comes_before_the_wait_is_found() -> Outcome<()> {
    let Some(nvcc) = support::nvcc_or_skip("dependent") else { return Ok(()) };
    let program = program(&nvcc, "dependent_wrong")?;
    for (case, does, ahead) in WRONG {
        for options in OPTIONS {
            let (printed, words) = run(&program, options, case)?;
            let what = format!("{case} {options:?}: {words}");
            assert_eq!(printed, "cudaErrorLaunchFailure", "{what}");
            let line = words.lines().find(|line| line.contains("GridDependency")).ok_or(&*what)?;
            assert!(line.contains(&format!("GridDependency: {does} of")), "{what}");
            assert!(line.contains(&format!("before this one {ahead} 0x")), "{what}");
            assert!(words.contains("4last"), "{what}");
        }
    }
    Ok(())
}
