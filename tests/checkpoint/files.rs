//! Which files of a directory make a checkpoint, what may lie in their place, and what happens when they
//! change.

use nvfp4_dual_gemm::checkpoint::tensors::{self, TensorFile};
use nvfp4_dual_gemm::checkpoint::{Dtype, SafetensorsFile};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{Backend, Checkpoint, DualGemm, Engine, GemmShape, Glu, Operand};
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::parts::*;

const INDEX: &str = "model.safetensors.index.json";

/// Names of the files that a checkpoint is read from.
fn files(checkpoint: &Checkpoint) -> Vec<String> {
    checkpoint.files().map(|f| f.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

/// Writes each part of layer `l` whose name has `word` in it to one file.
fn write_some(path: &Path, word: &str) {
    let some: Vec<Part> = layer("l").into_iter().filter(|p| p.name.contains(word)).collect();
    write(path, &some);
}

/// Layer `m`, which has other numbers than `l`, so that it shows which file was read.
fn write_other(path: &Path) {
    write(path, &layer("m"));
}

fn index(shards: &[(&str, &str)]) -> String {
    let all = layer("l");
    let mut entries = Vec::new();
    for (word, file) in shards {
        let some = all.iter().filter(|p| p.name.contains(word));
        entries.extend(some.map(|p| format!("\"{}\": \"{file}\"", p.name)));
    }
    format!("{{\"metadata\": {{\"total_size\": NaN}}, \"weight_map\": {{{}}}}}", entries.join(", "))
}

#[test]
fn shards_without_an_index() {
    for [first, second] in [
        ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ["model-00000-of-00002.safetensors", "model-00001-of-00002.safetensors"],
        ["consolidated-00001-of-00002.safetensors", "consolidated-00002-of-00002.safetensors"],
        ["a.safetensors", "b.safetensors"],
    ] {
        let dir = tempfile::tempdir().unwrap();
        write_some(&dir.path().join(first), "gate_proj");
        write_some(&dir.path().join(second), "up_proj");
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        assert_eq!(files(&checkpoint), [first, second]);
        assert_layer(&checkpoint.layer("l").unwrap(), [1, 2]);

        // One of them has a tensor of the other once more.
        write(&dir.path().join(second), &layer("l"));
        let error = fault(dir.path(), "l");
        let both = format!("both {first} and {second} have a tensor l.gate_proj.weight");
        assert!(error.contains(&both), "{error}");

        // Half of a checkpoint might lack anything.
        fs::remove_file(dir.path().join(second)).unwrap();
        match second {
            "b.safetensors" => {
                assert!(fault(dir.path(), "l").contains("no tensor l.up_proj.weight"))
            }
            _ => {
                let error = fault(dir.path(), "l");
                assert!(error.contains(&format!("has no index and lacks {second}")), "{error}");
                let alone = Checkpoint::open(dir.path().join(first)).unwrap();
                assert!(alone.tensor("l.gate_proj.weight").is_ok());
            }
        }
    }
}

#[test]
fn the_first_of_several_checkpoints_in_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let read = || files(&Checkpoint::open(dir.path()).unwrap());
    // From the least to the most preferred; each comes beside those before.
    write_other(&at("consolidated.safetensors"));
    assert_eq!(read(), ["consolidated.safetensors"]);
    assert_layer(&Checkpoint::open(dir.path()).unwrap().layer("m").unwrap(), [1, 2]);
    write_some(&at("c1.safetensors"), "gate_proj");
    write_some(&at("c2.safetensors"), "up_proj");
    fs::write(
        at("consolidated.safetensors.index.json"),
        index(&[("gate_proj", "c1.safetensors"), ("up_proj", "c2.safetensors")]),
    )
    .unwrap();
    assert_eq!(read(), ["c1.safetensors", "c2.safetensors"]);
    assert_layer(&Checkpoint::open(dir.path()).unwrap().layer("l").unwrap(), [1, 2]);
    write_some(&at("model-1-of-2.safetensors"), "gate_proj");
    write_some(&at("model-2-of-2.safetensors"), "up_proj");
    assert_eq!(read(), ["model-1-of-2.safetensors", "model-2-of-2.safetensors"]);
    write(&at("model.safetensors"), &layer("l"));
    assert_eq!(read(), ["model.safetensors"]);
    fs::write(at(INDEX), index(&[("l.", "model-1-of-2.safetensors")])).unwrap();
    assert!(fault(dir.path(), "l").starts_with("model-1-of-2.safetensors: no tensor l.up_proj"));
    fs::write(at(INDEX), index(&[("gate_proj", "c1.safetensors"), ("up_proj", "c2.safetensors")]))
        .unwrap();
    assert_eq!(read(), ["c1.safetensors", "c2.safetensors"]);
}

#[test]
fn directories_that_are_no_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(fault(dir.path(), "l"), format!("DIR: has 0 safetensors files and no {INDEX}"));
    fs::write(dir.path().join("pytorch_model.bin"), "PK\x03\x04").unwrap();
    fs::write(dir.path().join(".hidden.safetensors"), "").unwrap();
    let error = fault(dir.path(), "l");
    assert!(
        error.ends_with(
            "; pytorch_model.bin is in another format, and only safetensors files are read"
        ),
        "{error}"
    );
    for name in ["a", "b"] {
        fs::write(dir.path().join(format!("{name}.safetensors.index.json")), "{}").unwrap();
    }
    let error = fault(dir.path(), "l");
    assert!(
        error.ends_with("name one: a.safetensors.index.json, b.safetensors.index.json"),
        "{error}"
    );
}

#[test]
fn a_missing_shard_is_missed_when_it_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = layer("l");
    all.extend(layer("far"));
    let list = |of: &str, file: &str| -> Vec<String> {
        let some = all.iter().filter(|p| p.name.contains(of));
        some.map(|p| format!("\"{}\": \"{file}\"", p.name)).collect()
    };
    let entries = [
        list("l.gate_proj", "here.safetensors"),
        list("l.up_proj", "here.safetensors"),
        list("far.gate_proj", "here.safetensors"),
        list("far.up_proj", "gone.safetensors"),
        vec!["\"l.up_proj.unlisted\": \"gone.safetensors\"".to_owned()],
    ];
    let write_index = |count: usize| {
        let map = entries[..count].concat().join(", ");
        fs::write(dir.path().join(INDEX), format!("{{\"weight_map\": {{{map}}}}}")).unwrap();
    };
    let present: Vec<Part> =
        layer("l").into_iter().chain(layer("far").into_iter().take(3)).collect();
    write(&dir.path().join("here.safetensors"), &present);
    write_index(4);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_layer(&checkpoint.layer("l").unwrap(), [1, 2]);
    assert_eq!(files(&checkpoint), ["here.safetensors"]);
    let shard = "is in the shard gone.safetensors, which is missing";
    let error = checkpoint.layer("far").unwrap_err().to_string();
    assert!(error.contains(&format!("tensor far.up_proj.weight {shard}")), "{error}");
    let error = checkpoint.tensor("far.up_proj.weight_scale").unwrap_err().to_string();
    assert!(error.contains(&format!("tensor far.up_proj.weight_scale {shard}")), "{error}");
    assert!(checkpoint.get("far.up_proj.weight").is_none());
    // Whatever lies beside a weight counts, even what the layer could do without.
    write_index(5);
    let error = fault(dir.path(), "l");
    assert_eq!(error, format!("DIR: tensor l.up_proj.unlisted {shard}"));
    // A layer of which nothing is there.
    fs::remove_file(dir.path().join("here.safetensors")).unwrap();
    write(&dir.path().join("gone.safetensors"), &layer("far")[3..]);
    fs::write(
        dir.path().join(INDEX),
        format!("{{\"weight_map\": {{{}}}}}", entries[..4].concat().join(", ")),
    )
    .unwrap();
    let error = fault(dir.path(), "l");
    assert!(error.contains("is in the shard here.safetensors, which is missing"), "{error}");
    fs::remove_file(dir.path().join("gone.safetensors")).unwrap();
    let error = fault(dir.path(), "l");
    assert!(error.contains("No such file"), "{error}");
}

/// An index that names what its shard lacks is wrong about that tensor alone.
#[test]
fn a_shard_that_lacks_a_tensor_of_the_index() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("s.safetensors"), &layer("l"));
    let listed = index(&[("l.", "s.safetensors")]);
    for (gone, needed) in
        [("lm_head.weight", false), ("l.down_proj.weight", false), ("l.gate_proj_bias", true)]
    {
        let entry = format!("\"weight_map\": {{\"{gone}\": \"s.safetensors\", ");
        let json = listed.replace("\"weight_map\": {", &entry);
        assert_ne!(json, listed);
        fs::write(dir.path().join(INDEX), json).unwrap();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let text = format!("s.safetensors: no tensor {gone}");
        let error = checkpoint.tensor(gone).unwrap_err().to_string();
        assert!(error.contains(&text), "{error}");
        match needed {
            false => assert_layer(&checkpoint.layer("l").unwrap(), [1, 2]),
            true => assert!(fault(dir.path(), "l").starts_with(&text)),
        }
    }
}

/// Of a stack every expert needs all of its tensors, and none of the down projection's.
#[test]
fn a_stack_with_a_missing_shard() {
    let dir = tempfile::tempdir().unwrap();
    let base = "m.experts.gate_up_proj";
    let stack = [
        part(base, Dtype::U8, &[1, 2 * N, K / 2], [codes(1), codes(2)].concat()),
        part(
            &format!("{base}_weight_scale"),
            Dtype::F8_E4M3,
            &[1, 2 * N, K / 16],
            [scales(1), scales(2)].concat(),
        ),
        floats(&format!("{base}_weight_scale_2"), &[1, 2], &[global(1), global(2)]),
    ];
    write(&dir.path().join("here.safetensors"), &stack);
    let listed: Vec<String> =
        stack.iter().map(|p| format!("\"{}\": \"here.safetensors\"", p.name)).collect();
    for (gone, needed) in [
        ("m.experts.down_proj", false),
        ("m.experts.down_proj_weight_scale", false),
        ("m.router.weight", false),
        ("m.experts.gate_up_proj_bias", true),
        ("m.experts.gate_up_proj_input_scale", true),
        ("m.experts.act_fn.weight", true),
    ] {
        let map = format!("{}, \"{gone}\": \"gone.safetensors\"", listed.join(", "));
        fs::write(dir.path().join(INDEX), format!("{{\"weight_map\": {{{map}}}}}")).unwrap();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        match (checkpoint.layer("m.experts.0"), needed) {
            (Ok(layer), false) => assert_layer(&layer, [1, 2]),
            (Err(error), true) => assert!(error.to_string().contains(gone), "{error}"),
            (result, _) => panic!("{gone}: {result:?}"),
        }
    }
}

/// An index does not hide what is in the files.
#[test]
fn tensors_that_the_index_does_not_list() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut all = layer("l");
    all.push(part("l.up_proj.pre_quant_scale", Dtype::BF16, &[K], vec![0; 2 * K]));
    write(&at("s.safetensors"), &all);
    fs::write(at(INDEX), index(&[("l.", "s.safetensors")])).unwrap();
    assert!(fault(dir.path(), "l").contains("l.up_proj has pre_quant_scale"));
    // In two files, nobody knows which; it is of no concern to another layer.
    all.extend(layer("m"));
    write(&at("s.safetensors"), &all);
    write(&at("t.safetensors"), &all[3..7]);
    fs::write(at(INDEX), index(&[("gate_proj", "s.safetensors"), ("up_proj", "t.safetensors")]))
        .unwrap();
    assert_eq!(
        fault(dir.path(), "l"),
        "DIR: has an index without tensor l.up_proj.pre_quant_scale, and both s.safetensors and \
         t.safetensors have one"
    );
    assert_layer(&Checkpoint::open(dir.path()).unwrap().layer("m").unwrap(), [1, 2]);
}

#[test]
fn json_as_python_writes_it() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write(&at("model.safetensors"), &layer("l"));
    let gate = || {
        let checkpoint = Checkpoint::open(dir.path())?;
        assert_layer(&checkpoint.layer("l")?, [1, 2]);
        checkpoint.glu()
    };
    for config in [
        r#"{"time_step_limit": [0.0, Infinity], "hidden_act": "gelu_pytorch_tanh"}"#,
        r#"{"a": NaN, "b": {"c": -Infinity}, "d": 1e999, "hidden_act": "gelu_pytorch_tanh"}"#,
        "\u{feff}{\"hidden_act\": \"relu\", \"hidden_act\": \"gelu_pytorch_tanh\"}",
    ] {
        fs::write(at("config.json"), config).unwrap();
        assert_eq!(gate().unwrap(), Some(Glu::GegluTanh), "{config}");
    }
    // The word in a string is a name.
    fs::write(at("config.json"), r#"{"hidden_act": "NaN"}"#).unwrap();
    assert!(gate().unwrap_err().to_string().contains("activation is \"NaN\""));
    fs::write(at("config.json"), "{\"a\": NaN,\n \"b\": Infinityx}").unwrap();
    let error = fault(dir.path(), "l");
    assert_eq!(error, "config.json: is not JSON: expected value at line 2 column 7");
    fs::remove_file(at("config.json")).unwrap();
    fs::write(
        at("hf_quant_config.json"),
        r#"{"x": -Infinity, "quantization": {"quant_algo": "FP8", "amax": NaN}}"#,
    )
    .unwrap();
    assert!(fault(dir.path(), "l").contains("layer l is FP8"));
}

#[test]
fn pointers_of_git_lfs_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
    let text = "is a Git LFS pointer and not the file itself: fetch that with `git lfs pull`";
    fs::write(at("model.safetensors"), pointer).unwrap();
    assert_eq!(fault(dir.path(), "l"), format!("model.safetensors: {text}"));
    let error = TensorFile::open(at("model.safetensors")).unwrap_err().to_string();
    assert!(error.ends_with(text), "{error}");
    write(&at("model.safetensors"), &layer("l"));
    for name in [INDEX, "config.json", "hf_quant_config.json"] {
        fs::write(at(name), pointer).unwrap();
        assert_eq!(fault(dir.path(), "l"), format!("{name}: {text}"));
        fs::remove_file(at(name)).unwrap();
    }
    // The shard of an index.
    fs::write(at(INDEX), index(&[("gate_proj", "a.safetensors"), ("up_proj", "b.safetensors")]))
        .unwrap();
    write_some(&at("a.safetensors"), "gate_proj");
    fs::write(at("b.safetensors"), pointer).unwrap();
    assert_eq!(fault(dir.path(), "l"), format!("b.safetensors: {text}"));
    // It is as good as missing: another layer is read.
    let mut all: Vec<Part> = layer("l").into_iter().take(3).collect();
    all.extend(layer("m"));
    write(&at("a.safetensors"), &all);
    assert_layer(&Checkpoint::open(dir.path()).unwrap().layer("m").unwrap(), [1, 2]);
}

#[test]
fn other_formats_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    for (bytes, kind) in [
        (&b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0"[..], "a GGUF file"),
        (b"PK\x03\x04\0\0\x08\x08\0\0", "a zip archive, as PyTorch's .bin, .pt and .pth"),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "a Python pickle"),
        (b"\x89HDF\r\n\x1a\n\0\0\0\0", "an HDF5 file"),
        (b"<!DOCTYPE html>\n<html>", "a web page"),
        (b"{\"weight_map\": {}}", "a JSON file"),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = fault(&path, "l");
        let expected = format!("model.gguf: not a valid safetensors file: it is {kind}");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn metadata_may_be_null() {
    let file = |metadata: &str| {
        let json = format!(
            r#"{{"__metadata__":{metadata},"t":{{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}}}"#
        );
        let bytes = [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &[1, 2]].concat();
        SafetensorsFile::from_bytes("f", bytes)
    };
    let read = file("null").unwrap();
    assert!(read.metadata().is_empty());
    assert_eq!(&*read.tensor("t").unwrap().data().unwrap(), [1, 2]);
    assert_eq!(file(r#"{"format":"pt"}"#).unwrap().metadata()["format"], "pt");
    for bad in ["1", "[]", r#"{"format":null}"#, r#""pt""#] {
        assert!(file(bad).is_err(), "{bad}");
    }
    assert!(file(r#"null,"__metadata__":null"#).unwrap_err().to_string().contains("occurs twice"));
}

/// A pipe has no writer here: a program that opens it and waits never ends.
#[cfg(unix)]
#[test]
fn pipes_are_refused_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = |name: &str| -> PathBuf {
        let path = dir.path().join(name);
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        path
    };
    let of = |error: nvfp4_dual_gemm::Error| error.to_string();
    let path = pipe("model.safetensors");
    assert!(of(Checkpoint::open(&path).unwrap_err()).ends_with("is not a regular file"));
    assert!(of(Checkpoint::read(&path).unwrap_err()).ends_with("is not a regular file"));
    assert!(of(TensorFile::open(&path).unwrap_err()).ends_with("is not a regular file"));
    // SAFETY: nothing is mapped, as there is no file to map.
    let mapped = unsafe { Checkpoint::open_mapped(&path) };
    assert!(of(mapped.unwrap_err()).ends_with("is not a regular file"));
    fs::remove_file(&path).unwrap();
    write(&path, &layer("l"));
    for name in ["config.json", "hf_quant_config.json", INDEX] {
        let path = pipe(name);
        assert_eq!(fault(dir.path(), "l"), format!("{name}: is not a regular file"));
        fs::remove_file(path).unwrap();
    }
}

/// Overwrites a file where it lies, and gives it a time at which it was not opened.
fn overwrite(path: &Path, byte: u8) {
    let len = fs::metadata(path).unwrap().len() as usize;
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    std::io::Write::write_all(&mut file, &vec![byte; len]).unwrap();
    touch(&file);
}

fn touch(file: &File) {
    let now = file.metadata().unwrap().modified().unwrap();
    file.set_modified(now + Duration::from_secs(10)).unwrap();
}

fn truncate(path: &Path, len: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

#[test]
fn a_file_that_changes_before_its_layer_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    write(&path, &layer("l"));
    let len = fs::metadata(&path).unwrap().len();
    let refused = |change: &dyn Fn()| {
        write(&path, &layer("l"));
        let checkpoint = Checkpoint::open(&path).unwrap();
        change();
        let error = checkpoint.layer("l").unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: changed after it was opened", path.display())));
        let tensor = checkpoint.tensor("l.gate_proj.weight").unwrap();
        assert!(tensor.data().is_err());
        error
    };
    assert!(refused(&|| truncate(&path, 100)).contains(&format!("it had {len} bytes and has 100")));
    assert!(refused(&|| truncate(&path, 0)).contains("and has 0"));
    assert!(refused(&|| truncate(&path, len + 1)).contains(&format!("and has {}", len + 1)));
    assert!(refused(&|| overwrite(&path, 0xff)).contains("it was written to"));

    // Replacing is another thing: the file that was opened is still there.
    write(&path, &layer("l"));
    let checkpoint = Checkpoint::open(&path).unwrap();
    write(&path, &layer("m"));
    assert_layer(&checkpoint.layer("l").unwrap(), [1, 2]);
}

/// What was checked stays as it was: neither another number nor a panic comes out of a layer.
#[test]
fn a_file_that_changes_after_its_layer_was_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    for change in [&(|| overwrite(&path, 0xff)) as &dyn Fn(), &|| truncate(&path, 0)] {
        for open in [Checkpoint::open as fn(_) -> _, Checkpoint::read] {
            write(&path, &layer("l"));
            let checkpoint: Checkpoint = open(path.as_path()).unwrap();
            let layer = checkpoint.layer("l").unwrap();
            let a = layer.quantize_input(&[1.0f32; 3 * K], 3).unwrap();
            let gemm = DualGemm::new(a.matrix(), &layer.gate_proj, &layer.up_proj).unwrap();
            let run = || {
                [Backend::Cpu, Backend::Oracle]
                    .map(|b| Engine::of(b).unwrap().run::<f32>(&gemm).unwrap())
            };
            let before = run();
            change();
            assert_eq!(run(), before);
            assert_layer(&layer, [1, 2]);
            let again = checkpoint.layer("l");
            match checkpoint.tensor("l.up_proj.weight").unwrap().data() {
                Ok(_) => assert_layer(&again.unwrap(), [1, 2]), // all in memory
                Err(_) => assert!(again.unwrap_err().to_string().contains("changed after")),
            }
        }
    }
}

#[test]
fn operands_whose_file_changes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.safetensors");
    let problem = GemmShape { m: 3, n: 5, k: 48, batch: 1 };
    let operands = Operands::generate(problem, Data::Full, 7).unwrap();
    tensors::write_matrices(&path, &operands.named()).unwrap();
    let file = TensorFile::open(&path).unwrap();
    let packed = file.packed("b1", Operand::B1).unwrap();
    assert_eq!(packed, operands.b1);
    overwrite(&path, 0xff);
    assert_eq!(packed, operands.b1);
    for error in
        [file.operand("a", Operand::A).unwrap_err(), file.packed("b2", Operand::B2).unwrap_err()]
    {
        assert!(error.to_string().contains("changed after it was opened"), "{error}");
    }
}

#[test]
fn mapped_files_are_read_as_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    write(&path, &layer("l"));
    // SAFETY: nobody else knows of the directory, and the file stays as it is.
    let checkpoint = unsafe { Checkpoint::open_mapped(dir.path()) }.unwrap();
    assert_layer(&checkpoint.layer("l").unwrap(), [1, 2]);
}
