//! The built `nvfp4` binary, as a user calls it: exit codes, JSON, files and error sentences.
#![cfg(all(feature = "cli", unix))]

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use nvfp4_dual_gemm::checkpoint::tensors::{self, TensorFile};
use nvfp4_dual_gemm::checkpoint::{Checkpoint, Convention, Weight, write_weights};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{DualGemm, Element, Gate, Nvfp4Matrix, Problem, bf16, f16, reference};

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

/// Exactly one JSON object, on one line.
fn json(dir: &Path, args: &[&str]) -> Value {
    let stdout = ok(dir, &[args, &["--json"]].concat());
    assert_eq!(stdout.matches('\n').count(), 1, "{stdout}");
    let value: Value = serde_json::from_str(&stdout).unwrap();
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
    assert!(text.contains("PASS, all 10 rows of C"), "{text}");
    assert!(!text.contains('\x1b'), "colours without a terminal: {text}");

    let args = ["run", "--shape", "5x24x64", "--data", "full", "--seed", "9", "--check", "3"];
    let value = json(dir.path(), &[&args[..], &["--gate", "gpt-oss", "--repeat", "1"]].concat());
    assert_eq!(value["shape"], serde_json::json!([5, 24, 64, 1]));
    assert_eq!(value["gate"], "gpt-oss");
    assert_eq!(value["check"]["rows"], 3);
    assert_eq!(value["check"]["elements"], 72);
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
    close(&c, &reference::exact(&operands.gemm().unwrap()));

    ok(dir.path(), &[&run[..], &["--out-dtype", "bf16", "--gate", "clamped:2,1.5,0.5"]].concat());
    let gate = Gate::ClampedSwiglu { limit: 2.0, alpha: 1.5, beta: 0.5 };
    let exact = reference::exact::<bf16>(&operands.gemm().unwrap().with_gate(gate).unwrap());
    close(&read().values::<bf16>("c").unwrap().1, &exact);

    // The oracle as a backend writes the oracle's very bits.
    ok(dir.path(), &[&run[..], &["--out-dtype", "f32", "--backend", "exact"]].concat());
    let exact = reference::exact::<f32>(&operands.gemm().unwrap());
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
        let weight = |module, matrix: &'static Nvfp4Matrix| Weight {
            module,
            matrix: matrix.view(),
            input_global: calibrated,
        };
        let leak =
            |matrix: &Nvfp4Matrix| -> &'static Nvfp4Matrix { Box::leak(Box::new(matrix.clone())) };
        let weights = [
            weight("model.layers.0.mlp.gate_proj", leak(&gate)),
            weight("model.layers.0.mlp.up_proj", leak(&up)),
        ];
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
        let file = TensorFile::open(dir.path().join("y.safetensors")).unwrap();
        let (shape, y) = file.values::<f16>("y").unwrap();
        assert_eq!(shape, [2, m / 2, n]);
        let a = match calibrated {
            Some(global) => Nvfp4Matrix::quantize_with_global(&x, 1, m, k, global).unwrap(),
            None => Nvfp4Matrix::quantize(&x, 1, m, k).unwrap(),
        };
        let exact: Vec<f16> = reference::exact(&DualGemm::new(&a, &gate, &up).unwrap());
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
        close(&y, &reference::exact(&DualGemm::new(&a, layer.gate, layer.up).unwrap()));
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
    let args = ["verify", "--shape", "9x35x80", "--shape", "2x16x32x3", "--gate", "gelu-tanh"];
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
        &["bench", "--shape", "4x64x128", "--warm", "--repeat", "2", "--plot", "plot.svg"],
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
    assert!(ok(dir.path(), &["doctor"]).contains("auto would run cpu"));
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
        .args(["run", "--shape", "1x1x16"])
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
    (&["run", "--shape", "0x2x16"], "M must not be 0"),
    (&["run", "--shape", "1xtwox16"], "N is \"two\""),
    (&["run", "--shape", "1x1x99999999999999999999999"], "too large"),
    (&["run", "--shape", "1000000x1000000x1600000"], "of memory are available"),
    (&["run", "--shape", "9223372036854775807x9x9223372036854775792x9"], "of memory are available"),
    (&["run", "--shape", "1x1x16", "--data", "random"], "none of contest, full"),
    (&["run", "--shape", "1x1x16", "--seed", "-1"], "unexpected argument '-1'"),
    (&["run", "--shape", "1x1x16", "--gate", "relu"], "expected silu"),
    (&["run", "--shape", "1x1x16", "--gate", "clamped:1,2"], "takes 3 numbers, not 2"),
    (&["run", "--shape", "1x1x16", "--gate", "clamped:-1,1,1"], "limit = -1"),
    (&["run", "--shape", "1x1x16", "--backend", "gpu"], "none of auto, cpu, exact, cuda"),
    (&["run", "--shape", "1x1x16", "--out-dtype", "f64"], "none of f16, bf16, f32"),
    (&["run", "--shape", "1x1x16", "--repeat", "0"], "from 1 to 1000000"),
    (&["run", "--shape", "1x1x16", "--threads", "0"], "from 1 to 4096"),
    (&["run", "--shape", "1x1x16", "--check", "some"], "auto, all or a number"),
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
    (&["quantize", "x.safetensors"], "--output"),
    (&["quantize", "x.safetensors", "-o", "q", "--include", ""], "--include"),
    (&["quantize", "x.safetensors", "-o", "q.safetensors"], "no 2-D F32, F16 or BF16 tensor"),
    (&["quantize", "x.safetensors", "-o", "q", "--calibrate", "gone"], "gone: No such file"),
    (&["quantize", "x.safetensors", "-o", "q", "--convention", "gguf"], "gguf"),
    (&["verify", "--suite", "all"], "possible values: quick, contest, benchmark, decode, hopper"),
    (&["verify", "--isa", "neon"], "expected amx, avx512, avx2, portable or all"),
    (&["verify", "--backend", "exact", "--isa", "all"], "--isa picks a path of the cpu backend"),
    (&["verify", "--check", "0"], "would check nothing"),
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
        let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
            panic!("{args:?}: {e}: {:?}", String::from_utf8_lossy(&output.stdout))
        });
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
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["output"], "c\u{fffd}.safetensors");
    assert!(dir.path().join(name).is_file());
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
