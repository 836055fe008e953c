//! What streams, events, graphs and waits order: a program that leaves one of them out gets another result when queued
//! work runs late, or in an order that is drawn; one that has them all never does.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::Outcome;

/// The command; it puts the library in front of a program.
const EMULATOR: &str = env!("CARGO_BIN_EXE_emulator");

/// A schedule of streams, and its seed.
type Schedule = (&'static str, u64);

const EAGER: Schedule = ("eager", 0);
const LAZY: Schedule = ("lazy", 0);
const SEEDS: u64 = 24;

/// Cases by name; what they print when they are right; and when something is left out, if there is something.
const CASES: [(&str, &str, Option<&str>); 17] = [
    ("event_orders_streams", "8", Some("1")),
    ("event_is_recorded_again", "8", Some("1")),
    ("buffer_is_used_again", "8", Some("1")),
    ("host_reads_after_a_wait", "7", Some("1")),
    ("host_polls", "7", Some("1")),
    ("page_locked_source_is_kept", "7", Some("0")),
    ("pageable_source_is_free_at_once", "7", None),
    ("memory_is_given_back_in_order", "8", Some("cudaErrorIllegalAddress")),
    ("memory_is_used_after_it_is_made", "8", Some("cudaErrorIllegalAddress")),
    ("memory_is_freed_after_all_work", "8", None),
    ("graph_keeps_the_order_of_its_capture", "9", Some("2")),
    ("graph_follows_itself", "2", Some("1")),
    ("legacy_stream_waits_for_blocking_ones", "8", Some("1")),
    ("blocking_streams_wait_for_the_legacy_one", "8", Some("1")),
    ("copies_to_the_host_wait", "7", Some("1")),
    ("functions_of_the_host_come_in_order", "7", Some("1")),
    ("work_outlives_its_stream", "7", None),
];

/// The program, compiled once for the tests that run it.
fn program(nvcc: &Path, test: &str) -> Outcome<PathBuf> {
    let program = support::scratch(test)?.join("queues");
    let library = support::package().join("../third_party/cuda/lib");
    let output = Command::new(nvcc)
        .args(["-std=c++17", "-O1", "-cudart", "shared", "-diag-suppress=550"])
        .args(["-gencode", "arch=compute_90,code=compute_90", "-L"])
        .arg(library)
        .arg("-o")
        .arg(&program)
        .arg(support::package().join("tests/programs/queues.cu"))
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(program)
}

fn run(program: &Path, (streams, seed): Schedule, arguments: &[&str]) -> Outcome<String> {
    let output = Command::new(EMULATOR)
        .args(["run", "--device", "h100", "--threads", "1", "--streams", streams])
        .args(["--seed", &seed.to_string(), "--"])
        .arg(program)
        .args(arguments)
        .output()?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{arguments:?}, {streams} {seed}: {}\n{words}", output.status).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn schedules() -> impl Iterator<Item = Schedule> {
    [EAGER, LAZY].into_iter().chain((0..SEEDS).map(|seed| ("random", seed)))
}

#[test]
fn what_is_in_order_is_right_and_what_is_not_is_found() -> Outcome<()> {
    let Some(nvcc) = support::nvcc_or_skip("queues") else { return Ok(()) };
    let program = program(&nvcc, "queues_orders")?;
    for (case, right, wrong) in CASES {
        for schedule in schedules() {
            assert_eq!(run(&program, schedule, &[case, "right"])?, right, "{case}, {schedule:?}");
        }
        let Some(wrong) = wrong else { continue };
        // This is why the other schedules are there.
        assert_eq!(run(&program, EAGER, &[case, "broken"])?, right, "{case}");
        let mut found = None;
        for schedule in schedules() {
            let printed = run(&program, schedule, &[case, "broken"])?;
            assert!(printed == right || printed == wrong, "{case}, {schedule:?}: {printed}");
            found = found.or((printed == wrong).then_some(schedule));
        }
        let Some(schedule) = found else { return Err(format!("{case}: nothing finds it").into()) };
        println!("{case}: {schedule:?}");
    }
    Ok(())
}

#[test]
fn a_failure_of_queued_work_stays() -> Outcome<()> {
    let Some(nvcc) = support::nvcc_or_skip("queues") else { return Ok(()) };
    let program = program(&nvcc, "queues_failure")?;
    for schedule in schedules().take(6) {
        let printed = run(&program, schedule, &["failure_of_queued_work"])?;
        let lines: Vec<&str> = printed.lines().collect();
        let expected = [
            "launch cudaSuccess",
            "wait cudaErrorIllegalAddress",
            "wait again cudaErrorIllegalAddress",
            "allocate cudaErrorIllegalAddress",
            "reset cudaSuccess",
            "allocate cudaSuccess",
        ];
        assert_eq!(lines, expected, "{schedule:?}");
    }
    Ok(())
}

/// What a device refuses is over with its call; what only the emulator cannot do is not.
#[test]
fn a_launch_that_only_the_emulator_refuses_stays_an_error() -> Outcome<()> {
    let Some(nvcc) = support::nvcc_or_skip("queues") else { return Ok(()) };
    let program = program(&nvcc, "queues_refused")?;
    for schedule in schedules().take(3) {
        let printed = run(&program, schedule, &["refused_by_the_device"])?;
        let lines: Vec<&str> = printed.lines().skip(1).collect();
        let expected = ["last error cudaSuccess", "launch cudaSuccess", "wait cudaSuccess"];
        assert_eq!(lines, expected, "{schedule:?}");
        assert_ne!(printed.lines().next(), Some("launch cudaSuccess"), "{schedule:?}");
        let printed = run(&program, schedule, &["refused_by_the_emulator"])?;
        let lines: Vec<&str> = printed.lines().collect();
        let expected =
            ["launch", "wait", "launch"].map(|what| format!("{what} cudaErrorNotSupported"));
        assert_eq!(lines, expected, "{schedule:?}");
    }
    Ok(())
}
