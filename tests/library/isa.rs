//! `NVFP4_CPU_ISA` rules the kernels of the GEMM and those of the formats alike. A process reads it once, so
//! each value gets one of its own.

use std::ffi::OsString;
use std::process::Command;

use nvfp4_dual_gemm::format;
use nvfp4_dual_gemm::{ISA_VARIABLE, Isa};

/// Not a test: what the others start.
#[test]
#[ignore = "started by the other tests, with the variable set"]
fn report() {
    let gemm = Isa::choose().map_or_else(|e| e.to_string(), |choice| choice.isa.to_string());
    println!("gemm: {gemm}; formats: {}.", format::isa());
}

/// What [`report`] prints in a process with this value.
fn report_of(value: Option<&str>) -> String {
    // A program for another architecture is started by its emulator, with these arguments.
    let runner = std::env::var("NVFP4_TEST_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace().map(OsString::from).collect::<Vec<_>>();
    words.push(std::env::current_exe().unwrap().into());
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .args(["--ignored", "--exact", "isa::report", "--nocapture"])
        .env_remove("NVFP4_CPU_AMX");
    match value {
        Some(value) => command.env(ISA_VARIABLE, value),
        None => command.env_remove(ISA_VARIABLE),
    };
    let out = command.output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{text}");
    let start = text.find("gemm: ").unwrap();
    text[start..].split_once('.').unwrap().0.to_owned()
}

#[test]
fn the_variable_rules_both() {
    // The formats have no use for AMX and I8MM, and none for the dot products that the GEMM needs.
    let of_formats = |isa: Isa| match isa {
        Isa::Amx => Isa::Avx512,
        Isa::AvxVnni => Isa::Avx2,
        Isa::I8mm => Isa::Neon,
        _ => isa,
    };
    for isa in Isa::ALL {
        if let Err(why) = isa.check() {
            eprintln!("SKIPPED {isa}: {why}");
            continue;
        }
        let want = format!("gemm: {isa}; formats: {}", of_formats(isa));
        assert_eq!(report_of(Some(&isa.to_string())), want);
    }
    assert_eq!(report_of(Some("portable")), "gemm: portable; formats: portable");
}

#[test]
fn without_it_both_take_the_fastest() {
    let fastest = report_of(None);
    assert_eq!(report_of(Some("")), fastest); // empty is not set
    let best = Isa::available()[0];
    assert!(fastest.starts_with(&format!("gemm: {best};")), "{fastest}");
    if best <= Isa::Avx512 {
        assert!(fastest.ends_with("formats: avx512"), "{fastest}");
    }
    if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
        assert!(fastest.ends_with("formats: neon"), "{fastest}");
    }
}

/// Forced to use what it has not, the GEMM says what is missing.
#[test]
fn what_is_missing_is_refused() {
    for isa in Isa::ALL {
        if let Err(why) = isa.check() {
            let text = report_of(Some(&isa.to_string()));
            let reason = why.to_string();
            let reason = reason.split('.').next().unwrap();
            assert!(text.contains(reason), "{text}, not {reason}");
        }
    }
}

/// Those that the variable `NVFP4_TEST_ISAS` names, joined by commas: whoever sets it knows the machine, where no test
/// should be skipped.
#[test]
fn those_that_are_expected() {
    let Ok(expected) = std::env::var("NVFP4_TEST_ISAS") else { return };
    let there: Vec<String> = Isa::available().iter().map(Isa::to_string).collect();
    assert_eq!(there.join(","), expected);
}

/// The GEMM refuses what means nothing; the formats, whose results are the same on each, go on.
#[test]
fn a_value_that_means_nothing() {
    let text = report_of(Some("sse9"));
    assert!(text.contains("NVFP4_CPU_ISA=sse9"), "{text}");
}
