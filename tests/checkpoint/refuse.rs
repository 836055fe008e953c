//! What is not NVFP4, not there, or damaged is refused by name.

use nvfp4_dual_gemm::checkpoint::{Checkpoint, Declared, Dtype, Scheme, Writer};
use std::path::Path;

type Spec<'a> = (&'a str, Dtype, &'a [usize]);

/// A file of tensors whose bytes are all 0x38: 1 as a scale, an odd but positive f32.
fn write(path: &Path, tensors: &[Spec<'_>]) {
    let declared = tensors.iter().map(|t| Declared::new(t.0, t.1, t.2)).collect();
    let mut writer = Writer::create(path, declared, &Default::default()).unwrap();
    for (name, dtype, shape) in tensors {
        let len = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        writer.write(name, &vec![0x38; len]).unwrap();
    }
    writer.finish().unwrap();
}

/// The error of layer `l` (or of opening), without the path.
fn text(dir: &Path, open: &Path) -> String {
    let result = Checkpoint::open(open).and_then(|c| c.layer("l").map(|_| ()));
    let text = result.unwrap_err().to_string();
    text.replace(&format!("{}/", dir.display()), "").replace(&dir.display().to_string(), "DIR")
}

/// Good tensors of one projection.
fn modelopt(module: &str) -> Vec<(String, Dtype, Vec<usize>)> {
    vec![
        (format!("{module}.weight"), Dtype::U8, vec![4, 16]),
        (format!("{module}.weight_scale"), Dtype::F8_E4M3, vec![4, 2]),
        (format!("{module}.weight_scale_2"), Dtype::F32, vec![]),
    ]
}

/// A good layer with some tensors replaced (or, with no shape, added as they are).
fn with(changes: &[Spec<'_>], without: &[&str]) -> Vec<(String, Dtype, Vec<usize>)> {
    let mut all: Vec<_> = ["l.gate_proj", "l.up_proj"].into_iter().flat_map(modelopt).collect();
    all.retain(|t| !without.contains(&t.0.as_str()));
    for (name, dtype, shape) in changes {
        all.retain(|t| t.0 != *name);
        all.push(((*name).to_owned(), *dtype, shape.to_vec()));
    }
    all
}

fn write_all(path: &Path, tensors: &[(String, Dtype, Vec<usize>)]) {
    let list: Vec<Spec<'_>> = tensors.iter().map(|t| (t.0.as_str(), t.1, t.2.as_slice())).collect();
    write(path, &list);
}

#[test]
fn by_tensors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.safetensors");
    write_all(&path, &with(&[], &[]));
    Checkpoint::open(&path).unwrap().layer("l").unwrap();

    const GATE: &str = "l.gate_proj.weight";
    const SCALE: &str = "l.gate_proj.weight_scale";
    let other: &[(&[Spec<'_>], &[&str])] = &[
        (&[("l.up_proj.pre_quant_scale", Dtype::BF16, &[32])], &[]),
        (&[("l.gate_proj.svdquant_lora_a", Dtype::BF16, &[8, 32])], &[]),
        (&[("l.gate_proj.qweight", Dtype::I32, &[4, 4])], &[]),
        (&[("l.gate_proj.weight_scale_inv", Dtype::F32, &[1, 1])], &[]),
        (&[("l.gate_proj.weight.absmax", Dtype::U8, &[8])], &[]),
        (&[(GATE, Dtype::BF16, &[4, 32])], &[SCALE]),
        (&[(GATE, Dtype::F8_E4M3, &[4, 32])], &[]),
        (&[(GATE, Dtype::I8, &[4, 32])], &[]),
        (&[(GATE, Dtype::I32, &[4, 4])], &[]),
        (&[(SCALE, Dtype::U8, &[4, 1])], &[]),
        (&[(SCALE, Dtype::F8_E8M0, &[4, 1])], &[]),
        (&[(SCALE, Dtype::F8_E4M3, &[4, 1])], &[]),
        (&[("l.gate_proj.weight_packed", Dtype::U8, &[4, 16])], &[GATE]),
        // Damaged ones.
        (&[(SCALE, Dtype::U8, &[4, 2])], &[]),
        (&[(SCALE, Dtype::F8_E4M3, &[2, 4])], &[]),
        (&[(SCALE, Dtype::F8_E4M3, &[1, 4, 2])], &[]),
        (&[(GATE, Dtype::U8, &[2, 4, 16])], &[]),
        (&[(GATE, Dtype::U8, &[0, 16]), (SCALE, Dtype::F8_E4M3, &[0, 2])], &[]),
        (&[("l.gate_proj.weight_scale_2", Dtype::F32, &[4])], &[]),
        (&[("l.gate_proj.weight_scale_2", Dtype::F16, &[])], &[]),
        (&[("l.gate_proj.input_scale", Dtype::F32, &[2])], &[]),
        (&[], &["l.gate_proj.weight_scale_2"]),
        (&[], &[SCALE]),
        (&[], &["l.up_proj.weight", "l.up_proj.weight_scale", "l.up_proj.weight_scale_2"]),
        (&[(GATE, Dtype::U8, &[6, 16]), (SCALE, Dtype::F8_E4M3, &[6, 2])], &[]),
    ];
    let mut texts = Vec::new();
    for (changes, without) in other {
        write_all(&path, &with(changes, without));
        texts.push(text(dir.path(), &path));
    }

    let fused = |rows| [("l.gate_up_proj.weight", Dtype::U8, rows)];
    let odd: Vec<_> =
        fused([3usize, 16]).iter().map(|t| (t.0.to_owned(), t.1, t.2.to_vec())).collect();
    let mut odd = odd;
    odd.push(("l.gate_up_proj.weight_scale".to_owned(), Dtype::F8_E4M3, vec![3, 2]));
    odd.push(("l.gate_up_proj.weight_scale_2".to_owned(), Dtype::F32, vec![1]));
    write_all(&path, &odd);
    texts.push(text(dir.path(), &path));
    for list in [
        &[("l.experts.gate_up_proj_blocks", Dtype::U8, &[2, 4, 1, 16][..])][..],
        &[("l.experts.gate_up_proj", Dtype::BF16, &[2, 16, 16])],
        &[("model.l.gate_proj.weight", Dtype::U8, &[1])],
        &[("x", Dtype::U8, &[1])],
        &[],
    ] {
        write(&path, list);
        texts.push(text(dir.path(), &path));
    }
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn bad_numbers_are_named_as_stored() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.safetensors");
    let mut texts = Vec::new();
    for (last, dtype, at, value) in [
        ("weight_scale", Dtype::F8_E4M3, 5, vec![0x7f]),
        ("weight_scale", Dtype::F8_E4M3, 2, vec![0x80]),
        ("weight_global_scale", Dtype::F32, 0, 0f32.to_le_bytes().to_vec()),
        ("weight_global_scale", Dtype::F32, 0, f32::INFINITY.to_le_bytes().to_vec()),
        ("weight_global_scale", Dtype::F32, 0, 1e-40f32.to_le_bytes().to_vec()),
    ] {
        let list: Vec<Spec<'_>> = vec![
            ("l.gate_up_proj.weight_packed", Dtype::U8, &[4, 16]),
            ("l.gate_up_proj.weight_scale", Dtype::F8_E4M3, &[4, 2]),
            ("l.gate_up_proj.weight_global_scale", Dtype::F32, &[1]),
            ("l.gate_up_proj.input_global_scale", Dtype::F32, &[1]),
        ];
        let declared = list.iter().map(|t| Declared::new(t.0, t.1, t.2)).collect();
        let mut writer = Writer::create(&path, declared, &Default::default()).unwrap();
        for (name, of, shape) in &list {
            let mut bytes = vec![0x38; shape.iter().product::<usize>() * of.bitsize() / 8];
            if name.ends_with(&format!(".{last}")) {
                assert_eq!(*of, dtype);
                bytes[at..at + value.len()].copy_from_slice(&value);
            }
            writer.write(name, &bytes).unwrap();
        }
        writer.finish().unwrap();
        texts.push(text(dir.path(), &path));
    }
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn by_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    write_all(&root.join("m.safetensors"), &with(&[], &[]));
    let mut texts = Vec::new();
    let mut try_with = |name: &str, json: &str| {
        std::fs::write(root.join(name), json).unwrap();
        let result = Checkpoint::open(root).and_then(|c| c.layer("l").map(|layer| layer.scheme));
        texts.push(match result {
            Ok(Scheme::W4A4) => "ok".to_owned(),
            Ok(scheme) => format!("ok, {scheme}"),
            Err(_) => text(root, root),
        });
        std::fs::remove_file(root.join(name)).unwrap();
    };
    for algo in ["NVFP4", "NVFP4_AWQ", "NVFP4_SVD", "W4A16_NVFP4", "W4A8_NVFP4_FP8", "FP8"] {
        let json = format!(r#"{{"quantization": {{"quant_algo": "{algo}", "group_size": 16}}}}"#);
        try_with("hf_quant_config.json", &json);
    }
    let own = "hf_quant_config.json";
    try_with(own, r#"{"quantization": {"quant_algo": "NVFP4", "group_size": 32}}"#);
    let layers = r#"{"l.up_proj": {"quant_algo": "W4A8_AWQ"}, "k": {"quant_algo": "FP8"}}"#;
    let mixed = |layers: &str| {
        format!(
            r#"{{"quantization": {{"quant_algo": "MIXED_PRECISION", "quantized_layers": {layers}}}}}"#
        )
    };
    try_with(own, &mixed(layers));
    try_with(own, &mixed(r#"{"l.up_proj": {"quant_algo": "NVFP4"}, "k": {"quant_algo": "FP8"}}"#));
    let both = r#"{"l.up_proj": {"quant_algo": "NVFP4"}, "l.gate_proj": {"quant_algo": "NVFP4"}, "k": {"quant_algo": "FP8"}}"#;
    try_with(own, &mixed(both));
    try_with(own, "[]");
    try_with(own, "{");

    let config = |quantization: &str| format!(r#"{{"quantization_config": {quantization}}}"#);
    for quantization in [
        "null",
        r#"{"quant_method": "modelopt", "quant_algo": "NVFP4_AWQ"}"#,
        r#"{"quant_method": "mxfp4"}"#,
        r#"{"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}"#,
        r#"{"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized"}"#,
        r#"{"quant_method": "compressed-tensors", "format": "pack-quantized"}"#,
        r#"{"format": "nvfp4-pack-quantized", "config_groups": {"a": {"weights": {"group_size": 32}}}}"#,
        r#"{"format": "nvfp4-pack-quantized", "config_groups": {"a": {"weights": {"group_size": 16}, "input_activations": null}}}"#,
        r#"{"format": "nvfp4-pack-quantized", "config_groups": {"a": {"weights": {"group_size": 16}, "input_activations": {"num_bits": 8}}}}"#,
    ] {
        try_with("config.json", &config(quantization));
    }
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn by_index() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("in");
    std::fs::create_dir(&root).unwrap();
    let mut texts = vec![text(&root, &root)];
    write_all(&root.join("a.safetensors"), &with(&[], &[]));
    write_all(&dir.path().join("outside.safetensors"), &with(&[], &[]));
    std::fs::copy(root.join("a.safetensors"), root.join("b.safetensors")).unwrap();
    texts.push(text(&root, &root));
    let index = root.join("model.safetensors.index.json");
    for shard in [
        r#""../outside.safetensors""#,
        r#""/etc/passwd""#,
        r#""..""#,
        r#""""#,
        r#""x/a.safetensors""#,
        "3",
        r#""gone.safetensors""#,
        r#""model.safetensors.index.json""#,
    ] {
        let json = format!(r#"{{"weight_map": {{"l.up_proj.weight": {shard}}}}}"#);
        std::fs::write(&index, json).unwrap();
        texts.push(text(&root, &root));
    }
    for json in [
        r#"{"weight_map": {"l.up_proj.nix": "a.safetensors"}}"#,
        "{}",
        r#"{"weight_map": 1}"#,
        "nix",
        "",
    ] {
        std::fs::write(&index, json).unwrap();
        texts.push(text(&root, &root));
    }
    texts.push(text(&root, &root.join("gone")));
    insta::assert_snapshot!(texts.join("\n"));
}

#[cfg(unix)]
#[test]
fn symbolic_links() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    // As in the cache of Hugging Face's hub: the names are links to blobs elsewhere.
    let (blobs, snapshot) = (dir.path().join("blobs"), dir.path().join("snapshot"));
    std::fs::create_dir(&blobs).unwrap();
    std::fs::create_dir(&snapshot).unwrap();
    write_all(&blobs.join("0123"), &with(&[], &[]));
    symlink("../blobs/0123", snapshot.join("model.safetensors")).unwrap();
    Checkpoint::open(&snapshot).unwrap().layer("l").unwrap();

    std::fs::remove_file(snapshot.join("model.safetensors")).unwrap();
    symlink("model.safetensors", snapshot.join("model.safetensors")).unwrap();
    assert!(text(&snapshot, &snapshot).contains("symbolic links"));
    std::fs::remove_file(snapshot.join("model.safetensors")).unwrap();
    symlink(&snapshot, snapshot.join("model.safetensors")).unwrap();
    assert!(text(&snapshot, &snapshot).contains("not a regular file"));
}

/// A link whose file is gone is damage, and no statement that nothing is said.
#[cfg(unix)]
#[test]
fn dangling_links() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    write_all(&dir.path().join("model.safetensors"), &with(&[], &[]));
    Checkpoint::open(dir.path()).unwrap().layer("l").unwrap();
    for name in ["config.json", "hf_quant_config.json", "params.json", "adapter_config.json"] {
        let link = dir.path().join(name);
        symlink("../../blobs/gone", &link).unwrap();
        if name == "adapter_config.json" {
            std::fs::write(dir.path().join("adapter_model.safetensors"), []).unwrap();
        }
        let error = Checkpoint::open(dir.path()).unwrap_err();
        assert!(matches!(error, nvfp4_dual_gemm::Error::Io { .. }), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
        std::fs::remove_file(link).unwrap();
    }
}

/// An adapter that is not merged makes another function of the modules that it names.
#[test]
fn adapters() {
    use nvfp4_dual_gemm::checkpoint::LayerOptions;
    let dir = tempfile::tempdir().unwrap();
    write_all(&dir.path().join("model.safetensors"), &with(&[], &[]));
    let config = dir.path().join("adapter_config.json");
    let weights = dir.path().join("adapter_model.safetensors");
    let read = |json: &str, options: &LayerOptions| {
        std::fs::write(&config, json).unwrap();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        checkpoint.layer_with("l", options).map(|_| ()).map_err(|e| e.to_string())
    };
    let plain = LayerOptions::new();
    let lora = r#"{"peft_type": "LORA", "target_modules": ["q_proj", "gate_proj"]}"#;
    read(lora, &plain).unwrap(); // without weights there is none
    std::fs::write(&weights, []).unwrap();
    for json in [
        lora,
        "{}",
        r#"{"target_modules": "all-linear"}"#,
        r#"{"target_modules": ".*up_proj"}"#,
        r#"{"target_modules": ["l.up_proj"]}"#,
        r#"{"target_modules": ["q_proj"], "modules_to_save": ["l"]}"#,
        r#"{"target_modules": ["q_proj"], "target_parameters": ["gate_up_proj.weight"]}"#,
    ] {
        let text = read(json, &plain).unwrap_err();
        assert!(text.contains("adapter_model.safetensors"), "{json}: {text}");
        assert!(text.contains("--ignore-key adapter_config.json"), "{json}: {text}");
        read(json, &LayerOptions::new().ignore("adapter_config.json")).unwrap();
    }
    for json in [
        r#"{"target_modules": ["q_proj", "v_proj", "down_proj"]}"#,
        r#"{"target_modules": ["x.l.up_proj"], "modules_to_save": null}"#,
        r#"{"target_modules": ["proj"], "modules_to_save": ["lm_head"]}"#,
    ] {
        read(json, &plain).unwrap();
    }
    std::fs::remove_file(&config).unwrap();
    Checkpoint::open(dir.path()).unwrap().layer("l").unwrap();
}
