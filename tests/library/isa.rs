//! `NVFP4_CPU_ISA` rules the kernels of the GEMM and those of the formats alike. A process reads it once, so
//! each value gets one of its own.

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
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
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
    // The formats have no use for AMX, and none for integer dot products.
    let of_formats = |isa: Isa| match isa {
        Isa::Amx => Isa::Avx512,
        Isa::AvxVnni => Isa::Avx2,
        other => other,
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
}

/// The GEMM refuses what means nothing; the formats, whose results are the same on each, go on.
#[test]
fn a_value_that_means_nothing() {
    let text = report_of(Some("sse9"));
    assert!(text.contains("NVFP4_CPU_ISA=sse9"), "{text}");
}
