//! The built `nvfp4` binary, as a user calls it: exit codes, JSON, files and error sentences.
#![cfg(unix)]

mod config;

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use nvfp4_dual_gemm::checkpoint::tensors::{self, TensorFile};
use nvfp4_dual_gemm::checkpoint::{Checkpoint, Convention, Weight, write_weights};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{DualGemm, Element, Gate, Nvfp4Matrix, Problem, bf16, f16, reference};
use nvfp4_harness::json::check_keys as json_keys;

fn nvfp4(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nvfp4"))
        .args(args)
        .current_dir(dir)
        .env_remove("NVFP4_CPU_ISA")
        .env_remove("NVFP4_CPU_AMX")
        .output()
        .unwrap()
}

fn ok(dir: &Path, args: &[&str]) -> String {
    let output = nvfp4(dir, args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {stderr}");
    assert_eq!(stderr, "", "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Exactly one JSON object, on one line, that names each key once.
fn parse(stdout: &str) -> Value {
    assert_eq!(stdout.matches('\n').count(), 1, "{stdout}");
    json_keys(stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"));
    serde_json::from_str(stdout).unwrap()
}

fn json(dir: &Path, args: &[&str]) -> Value {
    let value = parse(&ok(dir, &[args, &["--json"]].concat()));
    assert_eq!(value["ok"], true);
    assert_eq!(value["command"], args[0]);
    value
}

fn close<T: Element>(actual: &[T], exact: &[T]) {
    let comparison = reference::compare(actual, exact);
    assert_eq!(actual.len(), exact.len());
    assert!(comparison.passes(), "{comparison:?}");
}

#[test]
fn run_on_made_up_operands() {
    let dir = tempfile::tempdir().unwrap();
    let text = ok(dir.path(), &["run", "--shape", "5x24x64x2", "--repeat", "2"]);
    assert!(text.contains("5x24x64x2"), "{text}");
    assert!(!text.contains("warning"), "{text}");
    assert!(text.contains("PASS, all 10 rows of C"), "{text}");
    assert!(!text.contains('\x1b'), "colours without a terminal: {text}");

    let args = ["run", "--shape", "5x24x64", "--data", "full", "--seed", "9", "--check", "3"];
    let value = json(dir.path(), &[&args[..], &["--gate", "gpt-oss", "--repeat", "1"]].concat());
    assert_eq!(value["shape"], serde_json::json!([5, 24, 64, 1]));
    assert_eq!(value["gate"], "gpt-oss");
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
    let problem = Problem { m: 7, n: 40, k: 96, batch: 2 };
    let operands = Operands::generate(problem, Data::Full, 3).unwrap();

    let run = ["run", "--input", "in.safetensors", "-o", "c.safetensors", "--repeat", "1"];
    let read = || TensorFile::open(dir.path().join("c.safetensors")).unwrap();

    ok(dir.path(), &run);
    let (shape, c) = read().values::<f16>("c").unwrap();
    assert_eq!(shape, [2, 7, 40]);
    close(&c, &reference::exact(&operands.gemm().unwrap()).unwrap());

    ok(dir.path(), &[&run[..], &["--out-dtype", "bf16", "--gate", "clamped:2,1.5,0.5"]].concat());
    let gate = Gate::ClampedSwiglu { limit: 2.0, alpha: 1.5, beta: 0.5 };
    let exact =
        reference::exact::<bf16>(&operands.gemm().unwrap().with_gate(gate).unwrap()).unwrap();
    close(&read().values::<bf16>("c").unwrap().1, &exact);

    // The oracle as a backend writes the oracle's very bits.
    ok(dir.path(), &[&run[..], &["--out-dtype", "f32", "--backend", "exact"]].concat());
    let exact = reference::exact::<f32>(&operands.gemm().unwrap()).unwrap();
    assert_eq!(read().values::<f32>("c").unwrap().1, exact);
}

fn wave(rows: usize, cols: usize, step: f32) -> Vec<f32> {
    (0..rows * cols).map(|i| (i as f32 * step).sin() * (1.0 + i as f32 * 1e-3)).collect()
}

#[test]
fn mlp_keeps_the_two_global_scales_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (m, n, k) = (6, 24, 64);
    let gate = Nvfp4Matrix::quantize(&wave(n, k, 0.3), 1, n, k).unwrap();
    let up: Vec<f32> = wave(n, k, 0.7).iter().map(|v| v * 5.0).collect();
    let up = Nvfp4Matrix::quantize(&up, 1, n, k).unwrap();
    assert_ne!(gate.global_scale(), up.global_scale());
    // Powers of two have exact reciprocals, so that both conventions store the same scale.
    let x = wave(m, k, 0.11);
    let global = 2f32.powi(-9);
    for (calibrated, convention) in [
        (None, Convention::ModelOpt),
        (Some(global), Convention::ModelOpt),
        (Some(global), Convention::CompressedTensors),
    ] {
        let modules =
            [("model.layers.0.mlp.gate_proj", &gate), ("model.layers.0.mlp.up_proj", &up)];
        let weights = modules.map(|(module, matrix)| Weight {
            module,
            matrix: matrix.view(),
            input_global: calibrated,
        });
        let path = dir.path().join("model.safetensors");
        write_weights(&path, convention, &weights).unwrap();
        tensors::write_output(dir.path().join("x.safetensors"), "x", &[2, m / 2, k], &x).unwrap();
        let value = json(
            dir.path(),
            &[
                "mlp",
                "model.safetensors",
                "--prefix",
                "model.layers.0.mlp",
                "--input",
                "x.safetensors",
                "-o",
                "y.safetensors",
            ],
        );
        assert_eq!(value["input_scale_calibrated"], calibrated.is_some());
        let origin = if calibrated.is_some() { "calibrated" } else { "dynamic" };
        assert_eq!(value["input_scale"], origin);
        let file = TensorFile::open(dir.path().join("y.safetensors")).unwrap();
        let (shape, y) = file.values::<f16>("y").unwrap();
        assert_eq!(shape, [2, m / 2, n]);
        let a = match calibrated {
            Some(global) => Nvfp4Matrix::quantize_with_global(&x, 1, m, k, global).unwrap(),
            None => Nvfp4Matrix::quantize(&x, 1, m, k).unwrap(),
        };
        let exact: Vec<f16> = reference::exact(&DualGemm::new(&a, &gate, &up).unwrap()).unwrap();
        close(&y, &exact);
    }
    let listing = json(dir.path(), &["mlp", "model.safetensors", "--list"]);
    assert_eq!(listing["layers"], serde_json::json!(["model.layers.0.mlp"]));
}

#[test]
fn quantize_in_both_conventions_then_mlp() {
    let dir = tempfile::tempdir().unwrap();
    let (m, n, k) = (4, 16, 48);
    let weight = wave(2 * n, k, 0.21);
    let path = |name: &str| dir.path().join(name);
    let name = "model.layers.3.mlp.gate_up_proj.weight";
    tensors::write_output(path("float.safetensors"), name, &[2 * n, k], &weight).unwrap();
    let x = wave(m, k, 0.5);
    tensors::write_output(path("x.safetensors"), "x", &[m, k], &x).unwrap();

    for convention in ["modelopt", "compressed-tensors"] {
        let out = format!("{convention}.safetensors");
        let value = json(
            dir.path(),
            &["quantize", "float.safetensors", "-o", &out, "--convention", convention],
        );
        assert_eq!(value["quantized"][0]["tensor"], name);
        assert!(value["scheme"].is_null() && value["calibrated"] == false, "{value}");
        assert!(value["bytes_out"].as_u64().unwrap() * 3 < value["bytes_in"].as_u64().unwrap());
        let run = ["mlp", &out, "--prefix", "model.layers.3.mlp", "--input", "x.safetensors"];
        ok(dir.path(), &[&run[..], &["-o", "y.safetensors", "--out-dtype", "f32"]].concat());
        let (shape, y) =
            TensorFile::open(path("y.safetensors")).unwrap().values::<f32>("y").unwrap();
        assert_eq!(shape, [m, n]);

        let checkpoint = Checkpoint::open(path(&out)).unwrap();
        let layer = checkpoint.layer("model.layers.3.mlp").unwrap();
        let fused = Nvfp4Matrix::quantize(&weight, 1, 2 * n, k).unwrap();
        assert_eq!([layer.gate.codes(), layer.up.codes()].concat(), fused.codes(), "{convention}");
        let a = Nvfp4Matrix::quantize(&x, 1, m, k).unwrap();
        close(&y, &reference::exact(&DualGemm::new(&a, layer.gate, layer.up).unwrap()).unwrap());
    }
}

#[test]
fn quantize_with_samples_then_mlp() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (m, n, k) = (4, 16, 48);
    let prefix = "model.layers.3.mlp";
    let name = format!("{prefix}.gate_up_proj.weight");
    let weight = wave(2 * n, k, 0.21);
    tensors::write_output(path("float.safetensors"), &name, &[2 * n, k], &weight).unwrap();
    let x = wave(m, k, 0.5);
    tensors::write_output(path("x.safetensors"), "x", &[m, k], &x).unwrap();
    let amax = x.iter().fold(0.0f32, |a, v| a.max(v.abs()));
    for (convention, weight_only) in
        [("modelopt", "W4A16_NVFP4"), ("compressed-tensors", "NVFP4A16")]
    {
        let quantize = ["quantize", "float.safetensors", "-o", "out", "--convention", convention];
        let run =
            ["mlp", "out", "--prefix", prefix, "--input", "x.safetensors", "-o", "y.safetensors"];
        let text = ok(dir.path(), &quantize);
        assert!(text.contains(&format!("declared {weight_only}: 4-bit weights only")), "{text}");
        let output = nvfp4(dir.path(), &run);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8(output.stderr).unwrap().contains("W4A16_NVFP4"));

        let calibrated = [&quantize[..], &["--calibrate", "x.safetensors"]].concat();
        let text = ok(dir.path(), &calibrated);
        assert!(text.contains("declared NVFP4: 4-bit weights, and 4-bit activations"), "{text}");
        let value = json(dir.path(), &calibrated);
        assert_eq!((&value["scheme"], &value["calibrated"]), (&"NVFP4".into(), &true.into()));
        let value = json(dir.path(), &run);
        assert_eq!(value["input_scale_calibrated"], true);
        let scale = value["input_global_scale"].as_f64().unwrap();
        assert!((scale / f64::from(amax / 2688.0) - 1.0).abs() < 1e-6, "{scale:e}");
    }
}

#[test]
fn verify_passes_on_every_path() {
    let dir = tempfile::tempdir().unwrap();
    let shapes = ["--shape", "9x35x80", "--shape", "2x16x32x3"];
    let args = [&["verify", "--gate", "gelu-tanh"], &shapes[..]].concat();
    let value = json(dir.path(), &args);
    let results = value["results"].as_array().unwrap();
    assert_eq!(value["failed"], 0);
    assert_eq!(results.len() + 2 * value["not_available"].as_array().unwrap().len(), 2 * 4);
    assert!(results.iter().all(|row| row["pass"] == true));
    let text = ok(dir.path(), &[&args[..], &["--isa", "portable", "--check", "all"]].concat());
    assert!(text.contains("2 of 2 passed"), "{text}");
    // Columns line up: PASS starts at the same place in each row.
    let column = |line: &str| line.find("PASS").map(|at| line[..at].chars().count());
    let columns: Vec<_> = text.lines().take(3).skip(1).map(column).collect();
    assert!(columns[0].is_some() && columns[0] == columns[1], "{text}");
}

#[test]
fn verify_counts_ulp_of_f16_for_f32() {
    let dir = tempfile::tempdir().unwrap();
    let value = json(dir.path(), &["verify", "--shape", "16x96x1024", "--out-dtype", "f32"]);
    for row in value["results"].as_array().unwrap() {
        assert_eq!(row["ulp_of"], "f16");
        assert!(row["max_ulp"].as_u64().unwrap() <= 1, "{row}");
    }
}

#[test]
fn bench_draws_a_plot() {
    let dir = tempfile::tempdir().unwrap();
    // An old plot is replaced, not written over: who has it open keeps it.
    let [plot, kept] = ["plot.svg", "kept.svg"].map(|name| dir.path().join(name));
    std::fs::write(&plot, "old").unwrap();
    std::fs::hard_link(&plot, &kept).unwrap();
    let value = json(
        dir.path(),
        &[
            // Where there is a GPU, auto takes it.
            "bench",
            "--backend",
            "cpu",
            "--shape",
            "4x64x128",
            "--warm",
            "--repeat",
            "2",
            "--plot",
            "plot.svg",
        ],
    );
    let row = &value["results"][0];
    assert_eq!(row["runs"], 2);
    assert!(row["time_over_roofline"].as_f64().unwrap() > 0.0);
    assert!(value["dram_read_gb_per_s"].as_f64().unwrap() > 0.0);
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "old");
    let svg = std::fs::read_to_string(plot).unwrap();
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    assert!(svg.contains("4x64x128"));
}

#[test]
fn doctor_names_every_backend_and_path() {
    let dir = tempfile::tempdir().unwrap();
    let value = json(dir.path(), &["doctor"]);
    let names = |key: &str| -> Vec<String> {
        let list = value[key].as_array().unwrap().iter();
        list.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("backends"), ["cpu", "exact", "cuda"]);
    assert_eq!(names("cpu_paths"), ["amx", "avx512", "avx2", "portable"]);
    for path in value["cpu_paths"].as_array().unwrap() {
        let note = path["note"].as_str().unwrap();
        assert!(path["usable"] == true || !note.is_empty(), "{path} gives no reason");
    }
    // A GPU that can be used is taken, if it is none on this CPU.
    let device = value["cuda"]["usable"].as_u64();
    let emulated = device.is_some_and(|device| {
        let devices = value["cuda"]["devices"].as_array().unwrap();
        devices.iter().any(|gpu| gpu["ordinal"] == device && gpu["emulated"] == true)
    });
    let taken = if device.is_some() && !emulated { "cuda" } else { "cpu" };
    assert_eq!(value["backends"][2]["usable"], device.is_some());
    let auto = value["auto"]["backend"].as_str().unwrap();
    assert!(auto.starts_with(taken), "{auto}, not {taken}");
    let text = ok(dir.path(), &["doctor"]);
    assert!(text.contains(&format!("auto would run {auto}: ")), "{text}");
}

#[test]
fn help_and_version_go_to_stdout() {
    let dir = tempfile::tempdir().unwrap();
    let version = ok(dir.path(), &["--version"]);
    assert_eq!(version.trim(), format!("nvfp4 {}", env!("CARGO_PKG_VERSION")));
    for command in ["run", "mlp", "quantize", "generate", "verify", "bench", "doctor"] {
        let help = ok(dir.path(), &[command, "--help"]);
        assert!(help.contains("Examples:") && help.contains("--json"), "{help}");
    }
}

#[test]
fn an_unknown_instruction_set_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_nvfp4"))
        .args(["run", "--shape", "1x1x16", "--backend", "cpu"])
        .env("NVFP4_CPU_ISA", "sse9")
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("NVFP4_CPU_ISA=sse9"), "{stderr}");
}

/// Arguments, and what the one sentence on stderr has to say.
const WRONG: &[(&[&str], &str)] = &[
    (&["frobnicate"], "unrecognized subcommand"),
    (&["verfy"], "a similar subcommand exists: 'verify'"),
    (&["run"], "--shape"),
    (&["run", "--shape"], "value is required"),
    (&["run", "--shape", "12"], "expected MxNxK or MxNxKxL"),
    (&["run", "--shape", "1x2x17"], "K = 17 is no multiple of 16, 16 and 32 are"),
    (&["run", "--shape", "1x0x16"], "N must not be 0"),
    (&["run", "--shape", "1xtwox16"], "N is \"two\""),
    (&["run", "--shape", "1x1x99999999999999999999999"], "too large"),
    (&["run", "--shape", "1000000x1000000x1600000"], "of memory are available"),
    (&["run", "--shape", "9223372036854775807x9x9223372036854775792x9"], "of memory are available"),
    (&["run", "--shape", "1x1x16", "--data", "random"], "none of contest, full"),
    (&["run", "--shape", "1x1x16", "--seed", "-1"], "invalid value '-1' for '--seed"),
    (&["run", "--shape", "1x1x16", "--gate", "relu"], "expected silu"),
    (&["run", "--shape", "1x1x16", "--gate", "clamped:1,2"], "takes 3 numbers, not 2"),
    (&["run", "--shape", "1x1x16", "--gate", "clamped:-1,1,1"], "limit = -1"),
    (&["run", "--shape", "1x1x16", "--backend", "gpu"], "none of auto, cpu, exact, cuda"),
    (&["run", "--shape", "1x1x16", "--out-dtype", "f64"], "none of f16, bf16, f32"),
    (&["run", "--shape", "1x1x16", "--repeat", "0"], "from 1 to 1000000"),
    (&["run", "--shape", "1x1x16", "--threads", "0"], "from 1 to 4096"),
    (&["run", "--shape", "1x1x16", "--check", "some"], "auto, all or a number"),
    (&["run", "--shape", "1x1x16", "--check", "-1"], "auto, all or a number"),
    (&["run", "--shape", "1x1x16", "--threads", "-1"], "from 1 to 4096"),
    (&["run", "--shape", "1x1x16", "-o", "no/such/dir/c.safetensors"], "no/such/dir"),
    (&["run", "--input", "in.safetensors"], "--output"),
    (&["run", "--input", "in.safetensors", "-o", "./in.safetensors"], "is the input itself"),
    (&["run", "--input", "in.safetensors", "-o", "socket"], "socket: is not a regular file"),
    (&["run", "--shape", "1x1x16", "-o", "."], ".: is a directory"),
    #[cfg(target_os = "linux")]
    (&["run", "--shape", "1x1x16", "-o", "/proc/c"], "/proc: nothing can be created in it"),
    #[cfg(target_os = "linux")]
    (
        &["bench", "--shape", "1x1x16", "--backend", "cpu", "--plot", "/proc/c.svg"],
        "/proc: nothing can be created in it",
    ),
    (
        &["run", "--shape", "1x1x16", "-o", "junk.safetensors/c"],
        "junk.safetensors: not a directory",
    ),
    (&["run", "--input", "missing.safetensors", "-o", "c"], "missing.safetensors: No such file"),
    (&["run", "--input", "junk.safetensors", "-o", "c"], "not a valid safetensors file"),
    (&["run", "--input", "x.safetensors", "-o", "c"], "no tensor a.codes or a"),
    (&["run", "--input", ".", "-o", "c"], ".: is not a regular file"),
    (&["run", "--shape", "1x1x16", "--input", "x.safetensors"], "cannot be used with"),
    (&["generate", "--shape", "1x1x16"], "--output"),
    (&["generate", "--shape", "1x1x16", "-o", "socket"], "socket: is not a regular file"),
    (&["generate", "--shape", "1x1x16", "-o", "no/such/dir/a"], "no/such/dir"),
    (&["mlp", "x.safetensors"], "--prefix"),
    (&["mlp", "x.safetensors", "--list"], "no gate and up projections"),
    (&["mlp", "x.safetensors", "--list", "--backend", "cpu"], "cannot be used with"),
    (&["mlp", "x.safetensors", "--list", "--out-dtype", "f32"], "cannot be used with"),
    (&["mlp", "x.safetensors", "--list", "--threads", "1"], "cannot be used with"),
    (&["mlp", "x.safetensors", "--list", "--input-scale", "dynamic"], "cannot be used with"),
    (
        &["mlp", "gone", "--prefix", "p", "--input", "x.safetensors", "-o", "y"],
        "gone: No such file",
    ),
    (
        &["mlp", "x.safetensors", "--prefix", "p", "--input", "x.safetensors", "-o", "y"],
        "no MLP layer \"p\"",
    ),
    (
        &["mlp", "m", "--prefix", "p", "--input", "x.safetensors", "-o", "x.safetensors"],
        "is the input itself",
    ),
    (
        &["mlp", "model", "--prefix", "p", "--input", "x.safetensors", "-o", "model/m.safetensors"],
        "is the input itself",
    ),
    (
        &["mlp", "model", "--prefix", "p", "--input", "x.safetensors", "-o", "model/config.json"],
        "model/config.json: belongs to the checkpoint model",
    ),
    (
        &[
            "mlp",
            "model/m.safetensors",
            "--prefix",
            "p",
            "--input",
            "x.safetensors",
            "-o",
            "linked",
        ],
        "linked: belongs to the checkpoint model/m.safetensors",
    ),
    (
        &[
            "mlp",
            "model",
            "--prefix",
            "p",
            "--input",
            "x.safetensors",
            "-o",
            "model/m.safetensors.index.json",
        ],
        "belongs to the checkpoint model",
    ),
    (
        &["quantize", "in.safetensors", "-o", "x.safetensors", "--calibrate", "x.safetensors"],
        "is the input itself",
    ),
    (&["quantize", "x.safetensors"], "--output"),
    (&["quantize", "x.safetensors", "-o", "q", "--include", ""], "--include"),
    (&["quantize", "x.safetensors", "-o", "q.safetensors"], "no 2-D F32, F16 or BF16 tensor"),
    (&["quantize", "x.safetensors", "-o", "q", "--calibrate", "gone"], "gone: No such file"),
    (&["quantize", "x.safetensors", "-o", "q", "--convention", "gguf"], "gguf"),
    (&["verify", "--suite", "all"], "possible values: quick, contest, benchmark, decode, hopper"),
    (&["verify", "--isa", "neon"], "expected amx, avx512, avx2, portable or all"),
    (&["verify", "--backend", "exact", "--isa", "all"], "--isa picks a path of the cpu backend"),
    (&["verify", "--backend", "exact"], "would be compared with itself"),
    (&["verify", "--check", "0"], "would check nothing"),
    (&["bench", "--shape", "0x96x64"], "0x96x64: M = 0 leaves nothing to measure"),
    (&["bench", "--plot", "plot.png"], "must end in .svg"),
    (&["bench", "--backend", "cpu", "--peers"], "--peers is for the cuda backend"),
    (&["bench", "--peer", "cublas"], "--peers"),
    (&["bench", "--shpe", "1x1x16"], "a similar argument exists: '--shape'"),
    (&["doctor", "now"], "unexpected argument 'now'"),
];

#[test]
fn wrong_invocations_get_one_sentence_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("junk.safetensors"), b"no tensors in here").unwrap();
    tensors::write_output(dir.path().join("x.safetensors"), "x", &[1, 16], &[1f32; 16]).unwrap();
    let input = dir.path().join("in.safetensors");
    let problem = Problem { m: 1, n: 1, k: 16, batch: 1 };
    tensors::write_operands(&input, &Operands::generate(problem, Data::Full, 1).unwrap()).unwrap();
    let operands = std::fs::read(&input).unwrap();
    std::fs::create_dir(dir.path().join("model")).unwrap();
    std::fs::copy(&input, dir.path().join("model/m.safetensors")).unwrap();
    for name in ["config.json", "m.safetensors.index.json"] {
        std::fs::write(dir.path().join("model").join(name), "{}").unwrap();
    }
    let index = r#"{"weight_map": {"a.codes": "m.safetensors"}}"#;
    std::fs::write(dir.path().join("model/m.safetensors.index.json"), index).unwrap();
    std::os::unix::fs::symlink("model/config.json", dir.path().join("linked")).unwrap();
    // Replacing a device or a socket by a file would break whatever uses it.
    let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
    for (args, part) in WRONG {
        let output = nvfp4(dir.path(), args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{args:?}: {:?}", output.status);
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
        assert!(stderr.starts_with("error: "), "{args:?}: {stderr}");
        assert_eq!(stderr.matches('\n').count(), 1, "{args:?}: {stderr}");
        assert!(stderr.contains(part), "{args:?}: {stderr}");

        let output = nvfp4(dir.path(), &[args, &["--json"][..]].concat());
        let value = parse(std::str::from_utf8(&output.stdout).unwrap());
        assert!(!output.status.success(), "{args:?}");
        assert_eq!(value["ok"], false, "{args:?}");
        assert!(value["error"].as_str().is_some_and(|e| !e.is_empty()), "{args:?}: {value}");
    }
    assert_eq!(std::fs::read(&input).unwrap(), operands);
    assert!(!std::fs::metadata(dir.path().join("socket")).unwrap().is_file());
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

/// A step without tokens: an empty C, and no failure.
#[test]
fn no_rows_give_an_empty_c() {
    let dir = tempfile::tempdir().unwrap();
    let read = |name: &str| {
        let file = TensorFile::open(dir.path().join(format!("{name}.safetensors"))).unwrap();
        let (shape, values) = file.values::<f16>(name).unwrap();
        assert!(values.is_empty());
        shape
    };
    for (shape, of_c) in [("0x96x64", vec![0, 96]), ("0x5x32x3", vec![3, 0, 5])] {
        for backend in ["cpu", "exact"] {
            let run = ["run", "--repeat", "1", "-o", "c.safetensors", "--backend", backend];
            let value = json(dir.path(), &[&run[..], &["--shape", shape]].concat());
            assert_eq!((&value["shape"][0], &value["non_finite"]), (&0.into(), &0.into()));
            assert_eq!(
                value["check"]["pass"],
                if backend == "cpu" { true.into() } else { Value::Null }
            );
            assert_eq!(read("c"), of_c);
            json(dir.path(), &["generate", "--shape", shape, "-o", "in.safetensors"]);
            ok(dir.path(), &[&run[..], &["--input", "in.safetensors"]].concat());
            assert_eq!(read("c"), of_c);
        }
    }
    let text = ok(dir.path(), &["run", "--shape", "0x96x64", "--repeat", "1", "--backend", "cpu"]);
    assert!(text.contains("PASS, C has no rows"), "{text}");
    assert!(!text.contains("B/s"), "a rate of nothing: {text}");
    let value = json(dir.path(), &["verify", "--shape", "0x96x64", "--shape", "3x16x32"]);
    assert_eq!(value["failed"], 0);
    assert_eq!(value["results"][0]["rows_total"], 0);

    write_layer(&dir.path().join("model.safetensors"), 16, 32, None);
    for (shape, of_y) in [(vec![0, 32], vec![0, 16]), (vec![2, 0, 32], vec![2, 0, 16])] {
        for dtype in ["f16", "bf16", "f32"] {
            let x = dir.path().join("x.safetensors");
            match dtype {
                "f16" => tensors::write_output::<f16>(x, "x", &shape, &[]).unwrap(),
                "bf16" => tensors::write_output::<bf16>(x, "x", &shape, &[]).unwrap(),
                _ => tensors::write_output::<f32>(x, "x", &shape, &[]).unwrap(),
            }
            let value = json(dir.path(), MLP);
            assert_eq!(value["output_shape"], serde_json::json!(of_y));
            assert_eq!(value["saturation"]["blocks"], 0);
            assert_eq!(read("y"), of_y);
        }
    }
}

/// The layer `mlp` of [`MLP`], its weights small and positive.
fn write_layer(path: &Path, n: usize, k: usize, input_global: Option<f32>) {
    let weight = |scale: f32| {
        let values: Vec<f32> = wave(n, k, 0.3).iter().map(|v| scale * (2.0 + v)).collect();
        Nvfp4Matrix::quantize(&values, 1, n, k).unwrap()
    };
    let (gate, up) = (weight(0.5), weight(0.25));
    let modules = [("mlp.gate_proj", &gate), ("mlp.up_proj", &up)];
    let weights =
        modules.map(|(module, matrix)| Weight { module, matrix: matrix.view(), input_global });
    write_weights(path, Convention::ModelOpt, &weights).unwrap();
}

/// That layer on `x`.
const MLP: &[&str] = &[
    "mlp",
    "model.safetensors",
    "--prefix",
    "mlp",
    "--input",
    "x.safetensors",
    "-o",
    "y.safetensors",
    "--backend",
    "cpu",
];

#[test]
fn values_that_are_not_finite_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    write_layer(&dir.path().join("model.safetensors"), 16, 32, None);
    // One token of two whose products go beyond 65504 in every column.
    let x: Vec<f32> = (0..64).map(|i| if i < 32 { 1.0 } else { 1000.0 }).collect();
    tensors::write_output(dir.path().join("x.safetensors"), "x", &[2, 32], &x).unwrap();
    let value = json(dir.path(), MLP);
    assert_eq!((&value["check"]["pass"], &value["non_finite"]), (&true.into(), &16.into()));
    let y = TensorFile::open(dir.path().join("y.safetensors")).unwrap();
    let (_, y) = y.values::<f16>("y").unwrap();
    assert_eq!(y.iter().filter(|v| !v.is_finite()).count(), 16);
    let text = ok(dir.path(), MLP);
    assert!(text.contains("warning"), "{text}");
    assert!(text.contains("16 of 32 values of y are not finite (f16 ends at 65504"), "{text}");
    assert!(text.contains("--out-dtype bf16"), "{text}");
    for dtype in ["bf16", "f32"] {
        let args = [MLP, &["--out-dtype", dtype]].concat();
        assert_eq!(json(dir.path(), &args)["non_finite"], 0);
        assert!(!ok(dir.path(), &args).contains("warning"));
    }

    // The same of a file's operands, in `run`.
    let matrix = |value: f32, rows: usize| {
        Nvfp4Matrix::quantize(&vec![value; rows * 32], 1, rows, 32).unwrap()
    };
    let operands = Operands { a: matrix(1000.0, 2), b1: matrix(1.0, 3), b2: matrix(1.0, 3) };
    tensors::write_operands(dir.path().join("in.safetensors"), &operands).unwrap();
    let run = ["run", "--input", "in.safetensors", "-o", "c.safetensors", "--backend", "cpu"];
    let run = [&run[..], &["--repeat", "1"]].concat();
    assert_eq!(json(dir.path(), &run)["non_finite"], 6);
    let text = ok(dir.path(), &run);
    assert!(text.contains("6 of 6 values of C are not finite"), "{text}");
    assert_eq!(json(dir.path(), &[&run[..], &["--out-dtype", "f32"]].concat())["non_finite"], 0);
}

#[test]
fn what_an_input_scale_clips_is_told() {
    let dir = tempfile::tempdir().unwrap();
    // The calibrated scale reaches 2688·2^-9 = 5.25.
    write_layer(&dir.path().join("model.safetensors"), 16, 64, Some(2f32.powi(-9)));
    let mut x = vec![1.0f32; 2 * 64];
    let write = |x: &[f32]| {
        tensors::write_output(dir.path().join("x.safetensors"), "x", &[2, 64], x).unwrap();
    };
    x[5] = -5.25;
    write(&x);
    let value = json(dir.path(), MLP);
    assert_eq!(value["saturation"]["saturated"], 0);
    assert!(!ok(dir.path(), MLP).contains("warning"));

    (x[6], x[7], x[100]) = (52_500.0, -6.0, 5.5);
    write(&x);
    let value = json(dir.path(), MLP);
    assert_eq!(
        value["saturation"],
        serde_json::json!({
            "blocks": 8, "saturated": 2, "share": 0.25, "underflowed": 0, "lost": 0, "largest_x": 52_500.0, "largest_representable": 5.25
        })
    );
    let text = ok(dir.path(), MLP);
    assert!(text.contains("warning"), "{text}");
    assert!(text.contains("2 of 8 blocks of x (25.000 %) saturated"), "{text}");
    assert!(text.contains("10000 times as far"), "{text}");

    // Without a stored scale nothing can, nor with that of x.
    let dynamic = json(dir.path(), &[MLP, &["--input-scale", "dynamic"]].concat());
    assert_eq!(dynamic["saturation"]["saturated"], 0);
    write_layer(&dir.path().join("model.safetensors"), 16, 64, None);
    assert_eq!(json(dir.path(), MLP)["saturation"], dynamic["saturation"]);
}

#[test]
fn what_an_input_scale_is_too_coarse_for_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let x = tensors::write_output(dir.path().join("x.safetensors"), "x", &[2, 64], &[1f32; 128]);
    x.unwrap();
    let stored = dir.path().join("model.safetensors");
    for (scale, lost) in [(100.0, 0), (1e38, 8)] {
        write_layer(&stored, 16, 64, None);
        let given = scale.to_string();
        let args = [MLP, &["--input-scale", &given]].concat();
        let value = json(dir.path(), &args);
        let found = &value["saturation"];
        assert_eq!((&found["saturated"], &found["underflowed"]), (&0.into(), &8.into()));
        assert_eq!(found["lost"], lost);
        let text = ok(dir.path(), &args);
        assert!(text.contains("warning") && text.contains("8 of 8 blocks of x"), "{text}");
        write_layer(&stored, 16, 64, Some(scale));
        assert_eq!(json(dir.path(), MLP)["saturation"], value["saturation"]);
        assert!(ok(dir.path(), MLP).contains("--input-scale dynamic"));
    }
    assert!(!ok(dir.path(), &[MLP, &["--input-scale", "dynamic"]].concat()).contains("warning"));
}

#[test]
fn what_was_read_is_told() {
    let dir = tempfile::tempdir().unwrap();
    write_layer(&dir.path().join("model.safetensors"), 16, 64, None);
    tensors::write_output(dir.path().join("x.safetensors"), "x", &[1, 64], &[1f32; 64]).unwrap();
    let value = json(dir.path(), MLP);
    assert_eq!(value["files"], serde_json::json!(["model.safetensors"]));
    assert!(value["config"].is_null(), "{value}");
    assert!(ok(dir.path(), MLP).contains("gate silu (no config.json found)"));
    let chosen = ok(dir.path(), &[MLP, &["--gate", "silu"]].concat());
    assert!(!chosen.contains("no config.json"), "{chosen}");
    std::fs::write(dir.path().join("config.json"), r#"{"hidden_act": "silu"}"#).unwrap();
    assert_eq!(json(dir.path(), MLP)["config"], "./config.json");
    assert!(!ok(dir.path(), MLP).contains("no config.json"));
}

#[test]
fn the_input_scale_is_a_choice() {
    let dir = tempfile::tempdir().unwrap();
    let (m, k) = (3, 64);
    let x = wave(m, k, 0.11);
    tensors::write_output(dir.path().join("x.safetensors"), "x", &[m, k], &x).unwrap();
    let model = dir.path().join("model.safetensors");
    let y_of = |a: &Nvfp4Matrix| -> Vec<f32> {
        let checkpoint = Checkpoint::open(&model).unwrap();
        let layer = checkpoint.layer("mlp").unwrap();
        reference::exact(&DualGemm::new(a, layer.gate, layer.up).unwrap()).unwrap()
    };
    fn with(scale: &str) -> Vec<&str> {
        [MLP, &["--out-dtype", "f32", "--input-scale", scale]].concat()
    }
    let calibrated = 2f32.powi(-9);
    let fixed = |global| Nvfp4Matrix::quantize_with_global(&x, 1, m, k, global).unwrap();
    let cases = [
        ("calibrated", "calibrated", fixed(calibrated)),
        ("dynamic", "dynamic", Nvfp4Matrix::quantize(&x, 1, m, k).unwrap()),
        ("0.001", "given", fixed(0.001)),
        ("2.5e-4", "given", fixed(2.5e-4)),
    ];
    // An expert that no token of the calibration reached.
    for stored in [calibrated, 0.0, f32::INFINITY, f32::NAN] {
        write_layer(&model, 16, k, Some(calibrated));
        if stored != calibrated {
            replace(&model, &calibrated.to_le_bytes(), &stored.to_le_bytes());
        }
        for (scale, origin, a) in &cases {
            if stored != calibrated && *scale == "calibrated" {
                let output = nvfp4(dir.path(), &with(scale));
                let stderr = String::from_utf8(output.stderr).unwrap();
                assert_eq!(output.status.code(), Some(1), "{stored}");
                assert!(!stderr.contains("tensor x"), "{stderr}");
                for part in ["mlp.gate_proj.input_scale", "--input-scale dynamic"] {
                    assert!(stderr.contains(part), "{stderr}");
                }
                continue;
            }
            let value = json(dir.path(), &with(scale));
            assert_eq!(value["input_scale"], *origin);
            assert_eq!(value["input_scale_calibrated"], *origin == "calibrated");
            let global = value["input_global_scale"].as_f64().unwrap();
            assert_eq!(global as f32, a.global_scale(), "{scale}");
            let y = TensorFile::open(dir.path().join("y.safetensors")).unwrap();
            close(&y.values::<f32>("y").unwrap().1, &y_of(a));
        }
    }
    for wrong in ["0", "-1", "-2.5e-3", "nan", "inf", "static", ""] {
        let output = nvfp4(dir.path(), &with(wrong));
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!stderr.contains("unexpected argument"), "{wrong}: {stderr}");
    }
}

/// Replaces the same number of bytes wherever they stand in a file.
fn replace(path: &Path, from: &[u8], to: &[u8]) {
    let mut bytes = std::fs::read(path).unwrap();
    let mut found = 0;
    for at in 0..=bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + from.len()].copy_from_slice(to);
            found += 1;
        }
    }
    assert_eq!(found, 2, "gate and up");
    std::fs::write(path, bytes).unwrap();
}

/// What the oracle is compared with is not the oracle.
#[test]
fn the_oracle_is_not_said_to_have_passed() {
    let dir = tempfile::tempdir().unwrap();
    let run = ["run", "--shape", "2x16x32", "--backend", "exact", "--repeat", "1"];
    assert_eq!(json(dir.path(), &run)["check"], Value::Null);
    let text = ok(dir.path(), &run);
    assert!(!text.contains("PASS") && text.contains("none: the oracle"), "{text}");
}

/// Two operands of 9 MB each make a C of 2 TB: the system would kill the process, not fail it.
#[test]
fn a_file_whose_c_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    ok(dir.path(), &["generate", "--shape", "1000000x1000000x16", "-o", "in.safetensors"]);
    let output =
        nvfp4(dir.path(), &["run", "--input", "in.safetensors", "-o", "c", "--check", "0"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("of memory are available"), "{stderr}");
}

#[test]
fn more_threads_than_any_machine_has_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_nvfp4"))
        .arg("doctor")
        .env("RAYON_NUM_THREADS", "65536")
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("RAYON_NUM_THREADS=65536: expected at most 4096"), "{stderr}");
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A process that is asked to stop leaves nothing either. Where it is done before it is asked, there is
/// the whole result.
#[test]
fn a_process_that_is_stopped_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.safetensors");
    let (rows, cols) = (1 << 13, 1 << 12);
    let header = serde_json::json!({
        "l.gate_up_proj.weight": {
            "dtype": "BF16", "shape": [rows, cols], "data_offsets": [0, 2 * rows * cols],
        },
    });
    let mut header = header.to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let start = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    std::fs::write(&input, &start).unwrap();
    // Zeros that take no room on the disk.
    let file = std::fs::OpenOptions::new().write(true).open(&input).unwrap();
    file.set_len((start.len() + 2 * rows * cols) as u64).unwrap();

    let mut child = Command::new(env!("CARGO_BIN_EXE_nvfp4"))
        .args(["quantize", "in.safetensors", "-o", "out"])
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while child.try_wait().unwrap().is_none() && names(dir.path()).len() == 1 {
        std::thread::yield_now();
    }
    let stopped = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    let status = child.wait().unwrap();
    println!("kill: {stopped}, nvfp4: {status}");
    match status.code() {
        None => println!("skipped: signals are ignored here, so the command sets no handler"),
        Some(130) => assert_eq!(names(dir.path()), ["in.safetensors"]),
        _ => assert_eq!(names(dir.path()), ["in.safetensors", "out"]),
    }
}
