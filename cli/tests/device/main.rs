//! What the command `nvfp4` says of a device, and does on one.

#[allow(dead_code)] // of which a part is used here
#[path = "../../../tests/cuda/harness.rs"]
mod harness;

use std::process::{Command, Output};

use nvfp4_dual_gemm::cuda::Kernel;
use nvfp4_harness::json;
use serde_json::Value;

use harness::{Needs, Test, device, tests};

fn main() {
    let mut all = tests![Needs::Kernels; verify_and_run_take_the_device];
    #[cfg(feature = "bench")]
    all.extend(tests![Needs::Kernels; whole_mlps_are_measured_by_stages]);
    all.extend(tests![Needs::Emulator;
        doctor_shows_the_emulator_as_what_it_is, bench_gives_no_times_of_an_emulated_device,
        auto_does_not_take_an_emulated_device]);
    if !std::path::Path::new(env!("CARGO_BIN_EXE_nvfp4")).is_file() {
        let elsewhere =
            |test: Test| test.not_here("the command is not where it was built".to_owned());
        all = all.into_iter().map(elsewhere).collect();
    }
    harness::main(all);
}

fn nvfp4(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nvfp4")).args(arguments).output().unwrap()
}

fn report(arguments: &[&str]) -> Value {
    let output = nvfp4(&[arguments, &["--json"]].concat());
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {out}{err}");
    assert_eq!(json::check_keys(&out), Ok(()), "{arguments:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn verify_and_run_take_the_device() {
    let on_device = ["--backend", "cuda", "--shape", "70x100x288x2"];
    let first = Kernel::all().find(|kernel| kernel.runs_on(&device())).unwrap();
    let kernel = ["--kernel", first.name(), "--check", "all"];
    let verify = report(&[&["verify"], &on_device[..], &kernel[..]].concat());
    assert_eq!(verify["results"][0]["pass"], true);
    assert_eq!(verify["results"][0]["rows"], 140);
    let run = report(&[&["run", "--repeat", "1"], &on_device[..]].concat());
    assert_eq!(run["backend"], "cuda");
    assert!(run["reason"].as_str().unwrap().contains(device().name()), "{run}");
}

fn doctor_shows_the_emulator_as_what_it_is() {
    let value = report(&["doctor"]);
    let device = &value["cuda"]["devices"][0];
    assert_eq!(device["emulated"], true);
    assert_eq!(device["has_kernels"], true);
    assert_eq!(device["compute_capability"], "10.0");
    assert_eq!(value["cuda"]["usable"], 0);
    let output = nvfp4(&["doctor"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("emulated, functional only"), "{text}");
}

fn bench_gives_no_times_of_an_emulated_device() {
    for what in [["--shape", "1x1x16"], ["--mlp", "32x32x8"]] {
        let output = nvfp4(&[&["bench", "--backend", "cuda"], &what[..]].concat());
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text.contains("emulated") && text.contains("nvfp4 verify"), "{text}");
    }
}

/// The library measures an emulated device as well: what is looked at is what it launches, and that y is checked.
#[cfg(feature = "bench")]
fn whole_mlps_are_measured_by_stages() {
    use nvfp4_bench::mlp::{self, Layer, Mode, Shape};
    use nvfp4_dual_gemm::{Engine, Glu};

    let engine = Engine::cuda(device().ordinal()).unwrap();
    let common = nvfp4_bench::Settings { warm: true, repeat: Some(1), ..Default::default() };
    let settings = mlp::Settings { common, modes: Mode::ALL.to_vec(), ..Default::default() };
    let mut bench = mlp::device::Bench::new(settings, &engine).unwrap();
    let layer = Layer::generate(Shape { k: 64, n: 96, h: 40 }, Glu::Swiglu, 1).unwrap();
    let row = bench.measure(&bench.load(&layer).unwrap(), 3).unwrap();
    let stages: Vec<Vec<&str>> = row
        .ours
        .iter()
        .filter_map(|own| Some(own.measured.as_ref()?.stages.iter().map(|s| &*s.stage).collect()))
        .collect();
    assert_eq!(
        stages[..2],
        [vec!["x", "gate and up", "down"], vec!["x", "gate and up", "h", "down"]]
    );
    // W4A16 needs a kernel of its own.
    match &row.ours[2].failed {
        None => assert_eq!(stages[2..], [["gate and up", "down"]]),
        Some(reason) => assert!(!reason.is_empty() && stages.len() == 2, "{reason}"),
    }
    for own in row.ours.iter().filter_map(|own| own.measured.as_ref()) {
        // Each of gate and up 96x64, down 40x96; scale factors lie in atoms of 128 rows and 4 blocks.
        let scales = 2 * 128 * 4 + 2 * 128 * 8;
        assert_eq!(own.memory.weight_bytes, 96 * (64 + 64 + 40) / 2 + scales);
        assert!(own.memory.scratch_bytes > Some(0) && own.kernels.len() == 2);
    }
}

fn auto_does_not_take_an_emulated_device() {
    let value = report(&["run", "--shape", "2x32x64", "--repeat", "1"]);
    assert_eq!(value["backend"], "cpu");
    assert!(value["reason"].as_str().unwrap().contains("emulated"), "{value}");
}
