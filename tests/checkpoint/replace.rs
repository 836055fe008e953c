//! Files and directories appear whole or not at all.

use nvfp4_dual_gemm::checkpoint::{
    self, Calibration, Checkpoint, Convention, Declared, Dtype, QuantizeOptions, Writer,
    check_target, write_file,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A model of two shards whose weights have this bf16 pattern; the second may hold an infinity.
fn model(directory: &Path, pattern: u16, broken: bool) {
    fs::create_dir_all(directory).unwrap();
    let mut weight_map = BTreeMap::new();
    for (shard, module, bits) in [
        ("model-1.safetensors", "l.gate_proj", pattern),
        ("model-2.safetensors", "l.up_proj", if broken { 0x7f80 } else { pattern }),
    ] {
        let name = format!("{module}.weight");
        let declared = vec![Declared::new(&name, Dtype::BF16, [2, 16])];
        let mut writer = Writer::create(directory.join(shard), declared, &BTreeMap::new()).unwrap();
        writer.write(&name, &bits.to_le_bytes().repeat(32)).unwrap();
        writer.finish().unwrap();
        weight_map.insert(name, shard);
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": weight_map });
    fs::write(directory.join("model.safetensors.index.json"), index.to_string()).unwrap();
    // Numbers and order that a parser would not give back.
    let config = "{\n  \"z\": 1e-05,\n  \"a\": 1.50,\n  \"hidden_act\": \"silu\"\n}";
    fs::write(directory.join("config.json"), config).unwrap();
}

fn quantize(input: &Path, output: &Path, convention: Convention) -> Result<(), String> {
    let calibration = Calibration::new([("l", 1.0)]).unwrap();
    let options = QuantizeOptions::new(convention).with_calibration(calibration);
    let report = checkpoint::quantize_file(input, output, &options, &mut |_| ());
    report.map(drop).map_err(|e| e.to_string())
}

const RESULT: [&str; 5] = [
    "config.json",
    "model-1.safetensors",
    "model-2.safetensors",
    "model.safetensors.index.json",
    "nvfp4_quantize.json",
];

#[test]
fn an_earlier_result_is_replaced_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let [input, broken, output] = ["in", "broken", "out"].map(|name| dir.path().join(name));
    model(&input, 0x3f80, false);
    model(&broken, 0x4000, true);
    fs::write(input.join("tokenizer.json"), "{}").unwrap();
    quantize(&input, &output, Convention::ModelOpt).unwrap();
    let with_own =
        [&["config.json", "hf_quant_config.json"], &RESULT[1..], &["tokenizer.json"]].concat();
    assert_eq!(names(&output), with_own);
    let read = |name: &str| fs::read(output.join(name)).unwrap();
    let before: Vec<_> = with_own.iter().map(|name| read(name)).collect();

    // The second shard fails when the first one is written.
    let error = quantize(&broken, &output, Convention::CompressedTensors).unwrap_err();
    assert!(error.contains("tensor l.up_proj.weight") && error.contains("inf"), "{error}");
    assert_eq!(names(&output), with_own);
    assert_eq!(with_own.iter().map(|name| read(name)).collect::<Vec<_>>(), before);
    assert_eq!(names(dir.path()), ["broken", "in", "out"]);

    // Neither ModelOpt's file nor the tokenizer of the other model stays.
    model(&broken, 0x4000, false);
    quantize(&broken, &output, Convention::CompressedTensors).unwrap();
    assert_eq!(names(&output), RESULT);
    assert_eq!(names(dir.path()), ["broken", "in", "out"]);
    let checkpoint = Checkpoint::open(&output).unwrap();
    let layer = checkpoint.layer("l").unwrap();
    assert_eq!(layer.convention, Convention::CompressedTensors);
    assert!(layer.gate_proj.dequantize().iter().all(|&v| v == 2.0));
    let config = fs::read_to_string(output.join("config.json")).unwrap();
    assert!(config.starts_with("{\n  \"z\": 1e-05,\n  \"a\": 1.50,\n"), "{config}");
}

#[test]
fn directories_with_other_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let [input, output] = ["in", "out"].map(|name| dir.path().join(name));
    model(&input, 0x3f80, false);
    fs::create_dir(&output).unwrap();
    fs::write(output.join("notes.txt"), "mine").unwrap();
    let error = quantize(&input, &output, Convention::ModelOpt).unwrap_err();
    assert!(error.contains("has notes.txt and no nvfp4_quantize.json"), "{error}");
    fs::remove_file(output.join("notes.txt")).unwrap();
    quantize(&input, &output, Convention::ModelOpt).unwrap(); // into the empty one
    for foreign in ["notes.txt", "deep/er/notes.txt", "model-3.safetensors"] {
        let path = output.join(foreign);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "mine").unwrap();
        let error = quantize(&input, &output, Convention::ModelOpt).unwrap_err();
        assert!(error.contains(&format!("has {foreign}, which is not of the earlier")), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        fs::remove_file(&path).unwrap();
        let _ = fs::remove_dir_all(output.join("deep"));
    }
    quantize(&input, &output, Convention::ModelOpt).unwrap();
    assert_eq!(names(dir.path()), ["in", "out"]);

    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = quantize(&input, &file, Convention::ModelOpt).unwrap_err();
    assert!(error.ends_with("file: is not a directory"), "{error}");
    let error = quantize(&input, &dir.path().join("x.safetensors"), Convention::ModelOpt);
    assert!(error.unwrap_err().contains("sharded"));
    let error = quantize(&input, &input, Convention::ModelOpt).unwrap_err();
    assert!(error.contains("is the input itself"), "{error}");
}

#[test]
fn files_that_are_no_weights_are_copied() {
    let dir = tempfile::tempdir().unwrap();
    let [input, output] = ["in", "in/out"].map(|name| dir.path().join(name));
    model(&input, 0x3f80, false);
    let copied = [
        "chat_template.jinja",
        "custom/modeling.py",
        "generation_config.json",
        "modeling_mine.py",
        "preprocessor_config.json",
        "tokenizer.model",
    ];
    let left =
        ["original/consolidated.00.pth", "pytorch_model.bin", "pytorch_model.bin.index.json"];
    for name in copied.iter().chain(&left).chain(&[".git/HEAD", "__pycache__/x.pyc"]) {
        fs::create_dir_all(input.join(name).parent().unwrap()).unwrap();
        fs::write(input.join(name), *name).unwrap();
    }
    // A hub's snapshot is made of links.
    #[cfg(unix)]
    {
        let blob = dir.path().join("blob");
        fs::rename(input.join("tokenizer.model"), &blob).unwrap();
        std::os::unix::fs::symlink(&blob, input.join("tokenizer.model")).unwrap();
    }
    let options = QuantizeOptions::default();
    for _ in 0..2 {
        let report = checkpoint::quantize_file(&input, &output, &options, &mut |_| ()).unwrap();
        let companions: Vec<_> = report.companions.iter().map(|c| c.to_str().unwrap()).collect();
        assert_eq!(companions, copied);
        let behind: Vec<_> = report.left_behind.iter().map(|c| c.0.to_str().unwrap()).collect();
        assert_eq!(behind, left);
        for name in copied {
            assert_eq!(fs::read_to_string(output.join(name)).unwrap(), name);
            assert!(!fs::symlink_metadata(output.join(name)).unwrap().is_symlink());
        }
        for name in left.iter().chain(&[".git", "__pycache__", "out"]) {
            assert!(!output.join(name).exists(), "{name}");
        }
    }
    // A file by its name stands for itself alone.
    let single = dir.path().join("single");
    let file = input.join("model-1.safetensors");
    checkpoint::quantize_file(&file, &single, &options, &mut |_| ()).unwrap();
    let expected =
        ["config.json", "hf_quant_config.json", "model-1.safetensors", "nvfp4_quantize.json"];
    assert_eq!(names(&single), expected);
}

#[test]
fn what_is_quantized_already_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let [input, output] = ["in", "out"].map(|name| dir.path().join(name));
    for (file, text, part) in [
        (
            "config.json",
            r#"{"quantization_config": {"quant_method": "fp8"}}"#,
            "of fp8: dequantize",
        ),
        (
            "config.json",
            r#"{"text_config": {"quantization_config": {}}}"#,
            "quantization_config already",
        ),
        ("config.json", r#"{"quantization": {"bits": 4}}"#, "has a quantization already"),
        ("config.json", r#"{"compression_config": {}}"#, "has a compression_config already"),
        ("params.json", r#"{"quantization": {"qformat_weight": "fp8_e4m3"}}"#, "params.json: has"),
        ("hf_quant_config.json", "{}", "quantized already"),
    ] {
        model(&input, 0x3f80, false);
        fs::write(input.join(file), text).unwrap();
        let error = quantize(&input, &output, Convention::ModelOpt).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
        fs::remove_file(input.join(file)).unwrap();
    }
    // `null` is as good as nothing, and must not stay beside the new one.
    model(&input, 0x3f80, false);
    fs::write(input.join("config.json"), r#"{"quantization_config": null, "a": 1}"#).unwrap();
    quantize(&input, &output, Convention::ModelOpt).unwrap();
    let config = fs::read_to_string(output.join("config.json")).unwrap();
    assert_eq!(config.matches("quantization_config").count(), 1, "{config}");
    fs::write(input.join("config.json"), "{}").unwrap();
    quantize(&input, &output, Convention::ModelOpt).unwrap();
    Checkpoint::open(&output).unwrap().layer("l").unwrap();
}

#[cfg(unix)]
#[test]
fn links_and_permissions_stay() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = tempfile::tempdir().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let chmod =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let path = |name: &str| dir.path().join(name);

    // What the umask makes of a new file and a new directory.
    fs::write(path("plain"), "").unwrap();
    fs::create_dir(path("directory")).unwrap();
    let (new_file, new_directory) = (mode(&path("plain")), mode(&path("directory")));
    fs::remove_dir(path("directory")).unwrap();
    write_file(path("new"), "1").unwrap();
    assert_eq!(mode(&path("new")), new_file);
    for bits in [0o600, 0o640, 0o755] {
        chmod(&path("new"), bits);
        write_file(path("new"), "2").unwrap();
        assert_eq!((mode(&path("new")), fs::read(path("new")).unwrap()), (bits, b"2".to_vec()));
    }

    fs::create_dir(path("elsewhere")).unwrap();
    symlink("elsewhere/file", path("link")).unwrap();
    symlink("link", path("link to link")).unwrap();
    for text in ["dangling", "existing"] {
        write_file(path("link to link"), text).unwrap();
        assert!(fs::symlink_metadata(path("link to link")).unwrap().is_symlink());
        assert!(fs::symlink_metadata(path("link")).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(path("elsewhere/file")).unwrap(), text);
    }
    symlink("circle", path("circle")).unwrap();
    assert!(write_file(path("circle"), "").unwrap_err().to_string().contains("links in a row"));

    chmod(&path("new"), 0o444);
    let error = write_file(path("new"), "3").unwrap_err().to_string();
    assert!(error.ends_with("new: is read-only"), "{error}");
    assert_eq!(fs::read(path("new")).unwrap(), b"2");

    // The same for the directory of a result.
    let input = path("in");
    model(&input, 0x3f80, false);
    quantize(&input, &path("out"), Convention::ModelOpt).unwrap();
    assert_eq!(mode(&path("out")), new_directory);
    assert_eq!(mode(&path("out/config.json")), new_file);
    assert_eq!(mode(&path("out/model-1.safetensors")), new_file);
    chmod(&path("out"), 0o750);
    symlink("out", path("to out")).unwrap();
    quantize(&input, &path("to out"), Convention::CompressedTensors).unwrap();
    assert!(fs::symlink_metadata(path("to out")).unwrap().is_symlink());
    assert_eq!(mode(&path("out")), 0o750);
    assert_eq!(names(&path("out")), RESULT);
    let hidden = names(dir.path()).into_iter().filter(|name| name.starts_with('.'));
    assert_eq!(hidden.count(), 0);
}

#[test]
fn targets_that_cannot_be_written_are_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    check_target(dir.path().join("fine")).unwrap();
    assert_eq!(names(dir.path()), [""; 0]);
    let refused = |path: &Path, part: &str| {
        let error = check_target(path).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(dir.path(), "is a directory");
    refused(&dir.path().join("gone/file"), "gone: ");
    // Nobody can create a file there, not even root.
    #[cfg(target_os = "linux")]
    refused(Path::new("/proc/nvfp4"), "/proc: nothing can be created in it");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let closed = dir.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
        match fs::write(closed.join("probe"), "") {
            Ok(()) => println!("skipped a read-only directory: this user may write to it (root?)"),
            Err(_) => {
                refused(&closed.join("file"), "closed: nothing can be created in it: permission")
            }
        }
    }
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let declared = vec![Declared::new("x", Dtype::U8, [4])];
    let writer = Writer::create(dir.path().join("x"), declared, &BTreeMap::new()).unwrap();
    assert_eq!(names(dir.path()).len(), 1);
    drop(writer);
    assert_eq!(names(dir.path()), [""; 0]);
}
