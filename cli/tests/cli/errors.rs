//! What goes wrong is one sentence on stderr, and an object of `--json`.

use std::os::unix::net::UnixListener;
use std::process::Command;

use nvfp4_dual_gemm::GemmShape;
use nvfp4_dual_gemm::checkpoint::tensors;
use nvfp4_dual_gemm::synth::{Data, Operands};

use crate::support::{nvfp4, ok, parse};

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
    (&["run", "--shape", "1x1x16", "--glu", "relu"], "expected swiglu"),
    (&["run", "--shape", "1x1x16", "--glu", "clamped:1,2"], "takes 3 numbers, not 2"),
    (&["run", "--shape", "1x1x16", "--glu", "clamped:-1,1,1"], "limit = -1"),
    (&["run", "--shape", "1x1x16", "--backend", "gpu"], "none of auto, cpu, oracle, cuda"),
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
    #[cfg(all(target_os = "linux", feature = "bench"))]
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
    (&["mlp", "x.safetensors", "--list", "--ignore-key", "k"], "cannot be used with"),
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
    (
        &["verify", "--isa", "sse9"],
        "expected amx, avx512, avxvnni, avx2, i8mm, neon, portable or all",
    ),
    (&["verify", "--backend", "oracle", "--isa", "all"], "--isa picks a path of the cpu backend"),
    (&["verify", "--backend", "oracle"], "would be compared with itself"),
    (&["verify", "--check", "0"], "would check nothing"),
    #[cfg(feature = "bench")]
    (&["bench", "--shape", "0x96x64"], "0x96x64: M = 0 leaves nothing to measure"),
    #[cfg(feature = "bench")]
    (&["bench", "--plot", "plot.png"], "must end in .svg"),
    #[cfg(feature = "bench")]
    (&["bench", "--backend", "cpu", "--peers"], "--peers is for the cuda backend"),
    #[cfg(feature = "bench")]
    (&["bench", "--peer", "cublas"], "--peers"),
    #[cfg(feature = "bench")]
    (&["bench", "--tokens", "16"], "--mlp"),
    #[cfg(feature = "bench")]
    (&["bench", "--mlp", "--tokens", "0"], "from 1 to 1000000"),
    #[cfg(feature = "bench")]
    (&["bench", "--mlp", "64x64"], "expected KxNxH"),
    #[cfg(feature = "bench")]
    (&["bench", "--mlp", "40x64x8"], "K = 40 is no multiple of 32"),
    #[cfg(feature = "bench")]
    (&["bench", "--mlp", "--shape", "1x1x16"], "cannot be used with"),
    #[cfg(feature = "bench")]
    (&["bench", "--mlp", "--out-dtype", "f32"], "cannot be used with"),
    #[cfg(feature = "bench")]
    (&["bench", "--mlp", "--precision", "w8a8"], "none of w4a4, w4a4-dynamic, w4a16"),
    #[cfg(feature = "bench")]
    (&["bench", "--mlp", "--backend", "oracle"], "is what others are compared with"),
    #[cfg(feature = "bench")]
    (
        &["bench", "--mlp", "64x64x8", "--backend", "cpu", "--peers", "--glu", "gpt-oss"],
        "the peers have no GLU but swiglu",
    ),
    #[cfg(feature = "bench")]
    (&["bench", "--shpe", "1x1x16"], "a similar argument exists: '--shape'"),
    (&["doctor", "now"], "unexpected argument 'now'"),
];

#[test]
fn wrong_invocations_get_one_sentence_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("junk.safetensors"), b"no tensors in here").unwrap();
    tensors::write_output(dir.path().join("x.safetensors"), "x", &[1, 16], &[1f32; 16]).unwrap();
    let input = dir.path().join("in.safetensors");
    let problem = GemmShape { m: 1, n: 1, k: 16, batch: 1 };
    tensors::write_matrices(&input, &Operands::generate(problem, Data::Full, 1).unwrap().named())
        .unwrap();
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
