//! `nvfp4 run` and `nvfp4 generate`.

use std::process::Command;

use serde_json::Value;

use nvfp4_dual_gemm::checkpoint::tensors::TensorFile;
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{GemmShape, Glu, bf16, f16, oracle};

use crate::support::{close, json, ok, parse};

#[test]
fn run_on_made_up_operands() {
    let dir = tempfile::tempdir().unwrap();
    let text = ok(dir.path(), &["run", "--shape", "5x24x64x2", "--repeat", "2"]);
    assert!(text.contains("5x24x64x2"), "{text}");
    assert!(!text.contains("warning"), "{text}");
    assert!(text.contains("PASS, all 10 rows of C"), "{text}");
    assert!(!text.contains('\x1b'), "colors without a terminal: {text}");

    let args = ["run", "--shape", "5x24x64", "--data", "full", "--seed", "9", "--check", "3"];
    let value = json(dir.path(), &[&args[..], &["--glu", "gpt-oss", "--repeat", "1"]].concat());
    assert_eq!(value["shape"], serde_json::json!([5, 24, 64, 1]));
    assert_eq!(value["glu"], "gpt-oss");
    assert_eq!(value["check"]["rows"], 3);
    assert_eq!(value["check"]["elements"], 72);
    assert_eq!(value["check"]["allowed_beyond_one_ulp"], 1);
    assert_eq!(value["non_finite"], 0);
    assert_eq!(value["timing"]["runs"], 1);
    assert!(value["reason"].as_str().unwrap().len() > 5);
}

#[test]
fn generate_then_run_gives_what_the_oracle_gives() {
    let dir = tempfile::tempdir().unwrap();
    let shape = ["--shape", "7x40x96x2", "--data", "full", "--seed", "3"];
    json(dir.path(), &[&["generate"], &shape[..], &["-o", "in.safetensors"]].concat());
    let problem = GemmShape { m: 7, n: 40, k: 96, batch: 2 };
    let operands = Operands::generate(problem, Data::Full, 3).unwrap();

    let run = ["run", "--input", "in.safetensors", "-o", "c.safetensors", "--repeat", "1"];
    let read = || TensorFile::open(dir.path().join("c.safetensors")).unwrap();

    ok(dir.path(), &run);
    let (shape, c) = read().values::<f16>("c").unwrap();
    assert_eq!(shape, [2, 7, 40]);
    close(&c, &oracle::exact(&operands.gemm().unwrap()).unwrap());

    ok(dir.path(), &[&run[..], &["--out-dtype", "bf16", "--glu", "clamped:2,1.5,0.5"]].concat());
    let gate = Glu::ClampedSwiglu { limit: 2.0, slope: 1.5, offset: 0.5 };
    let exact = oracle::exact::<bf16>(&operands.gemm().unwrap().with_glu(gate).unwrap()).unwrap();
    close(&read().values::<bf16>("c").unwrap().1, &exact);

    // The oracle as a backend writes the oracle's very bits.
    ok(dir.path(), &[&run[..], &["--out-dtype", "f32", "--backend", "oracle"]].concat());
    let exact = oracle::exact::<f32>(&operands.gemm().unwrap()).unwrap();
    assert_eq!(read().values::<f32>("c").unwrap().1, exact);
}

#[test]
fn names_that_are_no_utf8_do_not_spoil_the_json() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let name = std::ffi::OsStr::from_bytes(b"c\xff.safetensors");
    let output = Command::new(env!("CARGO_BIN_EXE_nvfp4"))
        .args(["run", "--shape", "1x1x16", "--repeat", "1", "--json", "-o"])
        .arg(name)
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let value = parse(std::str::from_utf8(&output.stdout).unwrap());
    assert_eq!(value["output"], "c\u{fffd}.safetensors");
    assert!(dir.path().join(name).is_file());
}

/// What the oracle is compared with is not the oracle.
#[test]
fn the_oracle_is_not_said_to_have_passed() {
    let dir = tempfile::tempdir().unwrap();
    let run = ["run", "--shape", "2x16x32", "--backend", "oracle", "--repeat", "1"];
    assert_eq!(json(dir.path(), &run)["check"], Value::Null);
    let text = ok(dir.path(), &run);
    assert!(!text.contains("PASS") && text.contains("none: the oracle"), "{text}");
}
