//! Quantizing a checkpoint, against what the libraries make of the same weights.

use nvfp4_dual_gemm::checkpoint::{
    self, Calibration, Checkpoint, Convention, Declared, Dtype, QuantizeOptions, QuantizeReport,
    SafetensorsFile, Scheme, Writer,
};
use nvfp4_dual_gemm::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const PREFIX: &str = "model.layers.0.mlp";

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/checkpoints").join(name)
}

fn run(input: &Path, output: &Path, options: &QuantizeOptions) -> Result<QuantizeReport> {
    checkpoint::quantize_file(input, output, options, &mut |_| ())
}

/// Without calibration.
fn quantize(input: &Path, output: &Path, convention: Convention) -> Result<QuantizeReport> {
    run(input, output, &QuantizeOptions::new(convention))
}

/// With inputs up to 4 for the layer `prefix`.
fn calibrated(convention: Convention, prefix: &str) -> QuantizeOptions {
    QuantizeOptions::new(convention).with_calibration(Calibration::new([(prefix, 4.0)]).unwrap())
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// ModelOpt's QTensor made `modelopt-sharded`, and compressed-tensors made its own, from `floats`.
#[test]
fn same_bytes_as_the_libraries() {
    let dir = tempfile::tempdir().unwrap();
    for (convention, theirs) in [
        (Convention::ModelOpt, "modelopt-sharded"),
        (Convention::CompressedTensors, "compressed-tensors"),
    ] {
        let output = dir.path().join(theirs);
        let mut options = calibrated(convention, PREFIX);
        options.separate_globals = true;
        let report = run(&data("floats"), &output, &options).unwrap();
        assert_eq!(report.quantized.len(), 2);
        let (ours, theirs) =
            (Checkpoint::open(&output).unwrap(), Checkpoint::open(data(theirs)).unwrap());
        let (a, b) = (ours.layer(PREFIX).unwrap(), theirs.layer(PREFIX).unwrap());
        assert_eq!(a.convention, convention);
        for (ours, theirs) in [(&a.gate_proj, &b.gate_proj), (&a.up_proj, &b.up_proj)] {
            assert_eq!(ours.global_scale(), theirs.global_scale());
            // The contract divides amax/6 by the global scale, ModelOpt multiplies the divisors
            // first, and compressed-tensors multiplies by its divisor and divides in bf16: that
            // tips ties, of the scales and of the codes. Values are compared, as a sign of zero is
            // kept here and dropped there.
            let scales = ours.scales().iter().zip(theirs.scales());
            let tipped: Vec<bool> = scales.map(|(x, y)| x != y).collect();
            let (x, y) = (ours.dequantize(), theirs.dequantize());
            let other = (0..x.len()).filter(|&i| !tipped[i / 16] && x[i] != y[i]).count();
            let tipped = tipped.iter().filter(|&&t| t).count();
            println!(
                "{convention}: {tipped} of {} scales, {other} of {} values",
                x.len() / 16,
                x.len()
            );
            assert!(tipped <= 1);
            assert!(other <= if convention == Convention::ModelOpt { 0 } else { x.len() / 100 });
        }
        let multiplier = match convention {
            Convention::ModelOpt => 4.0f32 / 2688.0,
            Convention::CompressedTensors => 1.0 / 672.0,
            _ => unreachable!(),
        };
        assert_eq!(a.input_global_scale().unwrap(), Some(multiplier));
        // The number itself, not another one with the same reciprocal.
        for module in ["gate_proj", "up_proj"] {
            let name = format!("{PREFIX}.{module}.{}", convention.weight_global());
            let stored = [&ours, &theirs].map(|c| c.tensor(&name).unwrap().scalar().unwrap());
            assert_eq!(stored[0].to_bits(), stored[1].to_bits(), "{name}");
        }

        let source = Checkpoint::open(data("floats")).unwrap();
        for name in source.names().filter(|n| !n.contains("gate_proj") && !n.contains("up_proj")) {
            let (x, y) = (source.tensor(name).unwrap(), ours.tensor(name).unwrap());
            assert_eq!(
                (x.dtype(), x.shape(), x.data().unwrap()),
                (y.dtype(), y.shape(), y.data().unwrap()),
                "{name}"
            );
        }
    }
}

/// The groups are those that ModelOpt 0.47 and the presets of compressed-tensors 0.20 write.
#[test]
fn configurations_say_what_was_done() {
    let dir = tempfile::tempdir().unwrap();
    for (convention, theirs, weight_only) in [
        (Convention::ModelOpt, "modelopt", "W4A16_NVFP4"),
        (Convention::CompressedTensors, "compressed-tensors", "NVFP4A16"),
    ] {
        let own_of_library = |name: &str| json(&data(name).join("hf_quant_config.json"));
        let output = dir.path().join(theirs);
        let report = run(&data("floats"), &output, &calibrated(convention, PREFIX)).unwrap();
        assert_eq!(report.scheme, "NVFP4");
        let config = json(&output.join("config.json"));
        assert_eq!(config["hidden_size"], 64);
        let (ours, theirs) =
            (&config["quantization_config"], json(&data(theirs).join("config.json")));
        let theirs = &theirs["quantization_config"];
        for key in ["config_groups", "quant_method", "quant_algo", "format", "quantization_status"]
        {
            assert_eq!(ours[key], theirs[key], "{convention}: {key}");
        }
        let ignore = ours["ignore"].as_array().unwrap();
        for module in ["lm_head", "model.embed_tokens", "model.layers.0.mlp.down_proj"] {
            assert!(ignore.iter().any(|m| m == module), "{module}");
        }
        assert!(!ignore.iter().any(|m| m == "model.layers.0.mlp.gate_proj"));
        let own = output.join("hf_quant_config.json");
        assert_eq!(own.exists(), convention == Convention::ModelOpt);
        if own.exists() {
            let own = &json(&own)["quantization"];
            assert_eq!(
                (&own["quant_algo"], &own["exclude_modules"]),
                (&"NVFP4".into(), &ours["ignore"])
            );
            assert_eq!(own["group_size"], 16);
        }
        // A second time there is nothing that could be quantized.
        let error = quantize(&output, &dir.path().join("again"), convention).unwrap_err();
        assert!(error.to_string().contains("already"), "{error}");

        // Without samples no reader may take the activations for quantized.
        let report = quantize(&data("floats"), &output, convention).unwrap();
        assert_eq!(report.scheme, weight_only);
        let config = json(&output.join("config.json"));
        let name = format!("{convention}-weight-only");
        let theirs = json(&data(&name).join("config.json"));
        for key in ["config_groups", "quant_method", "quant_algo", "format", "quantization_status"]
        {
            let of = |config: &serde_json::Value| config["quantization_config"][key].clone();
            assert_eq!(of(&config), of(&theirs), "{convention}: {key}");
        }
        if convention == Convention::ModelOpt {
            let own = json(&output.join("hf_quant_config.json"));
            for key in ["quant_algo", "kv_cache_quant_algo", "group_size"] {
                assert_eq!(own["quantization"][key], own_of_library(&name)["quantization"][key]);
            }
            assert_eq!(own["quantization"]["quant_algo"], weight_only);
        }
        let checkpoint = Checkpoint::open(&output).unwrap();
        let scale = convention.input_global();
        assert!(checkpoint.names().all(|name| !name.ends_with(scale)));
        let layer = checkpoint.layer(PREFIX).unwrap();
        assert_eq!(layer.scheme, Scheme::W4A16);
        let error = layer.input_global_scale().unwrap_err().to_string();
        assert!(error.contains("W4A16_NVFP4"), "{error}");
    }
}

/// With samples of its input, and weight-only.
#[test]
fn down_projections_are_quantized_as_the_libraries_do() {
    let dir = tempfile::tempdir().unwrap();
    let down = format!("{PREFIX}.down_proj");
    for (convention, library) in
        [(Convention::ModelOpt, "modelopt"), (Convention::CompressedTensors, "compressed-tensors")]
    {
        let output = dir.path().join(library);
        let samples = Calibration::new([(PREFIX, 4.0), (down.as_str(), 2.0)]).unwrap();
        let options = QuantizeOptions::new(convention).with_calibration(samples);
        let report = run(&data("floats"), &output, &options).unwrap();
        assert_eq!((report.quantized.len(), report.notes.len()), (3, 0));
        let ours = Checkpoint::open(&output).unwrap().mlp(PREFIX).unwrap();
        let theirs = Checkpoint::open(data(library)).unwrap().mlp(PREFIX).unwrap();
        let (a, b) = (ours.down_proj.as_ref().unwrap(), theirs.down_proj.as_ref().unwrap());
        assert_eq!((a.rows(), a.cols(), a.global_scale()), (64, 48, b.global_scale()));
        // A tie tips, as in `same_bytes_as_the_libraries`.
        let scales = a.scales().iter().zip(b.scales()).filter(|(x, y)| x != y).count();
        let (x, y) = (a.dequantize(), b.dequantize());
        let values = x.iter().zip(&y).filter(|(x, y)| x != y).count();
        assert!(scales <= 1 && values <= x.len() / 100 + 16, "{scales} scales, {values} values");
        let multiplier = match convention {
            Convention::ModelOpt => 2.0f32 / 2688.0,
            _ => 1.0 / 1344.0,
        };
        assert_eq!(ours.down_input_global, Some(multiplier));
        assert_eq!(ours.scheme, Scheme::W4A4);

        // The same bytes without samples, declared weight-only.
        quantize(&data("floats"), &output, convention).unwrap();
        let weight_only = Checkpoint::open(&output).unwrap().mlp(PREFIX).unwrap();
        assert_eq!((weight_only.scheme, &weight_only.down_proj), (Scheme::W4A16, &ours.down_proj));
        assert_eq!(weight_only.down_input_global, None);
    }
}

/// Nobody asked for them by name, and there is nothing that their scale could be made of.
#[test]
fn down_projections_without_samples_are_left_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    let mut options = calibrated(Convention::ModelOpt, PREFIX);
    let report = run(&data("floats"), &output, &options).unwrap();
    let down = format!("{PREFIX}.down_proj");
    let reason = "there are no samples of its input".to_owned();
    assert_eq!(report.left_alone, [(format!("{down}.weight"), reason)]);
    let note = format!(
        "{down} is not quantized: there are no samples of its input, which {down}.input would be"
    );
    assert_eq!(report.notes, [note]);
    let error = Checkpoint::open(&output).unwrap().mlp(PREFIX).unwrap_err().to_string();
    assert!(error.contains(&format!("{down} is")) && error.contains("BF16"), "{error}");
    // Asked for by name, and with samples of another layer's.
    options.include = vec!["gate_proj".to_owned(), "down_proj".to_owned()];
    let error = run(&data("floats"), &output, &options).unwrap_err().to_string();
    assert!(error.contains(&format!("calibration: {down}: there are no samples")), "{error}");
    let input = dir.path().join("in.safetensors");
    let names: Vec<String> = ["l.0", "l.1"]
        .iter()
        .flat_map(|l| ["gate", "up", "down"].map(|p| format!("{l}.{p}_proj.weight")))
        .collect();
    let tensors: Vec<(&str, Dtype, &[usize])> =
        names.iter().map(|name| (name.as_str(), Dtype::F16, &[16, 16][..])).collect();
    floats(&input, &tensors);
    let with = |samples: &[(&str, f32)]| {
        let samples = Calibration::new(samples.iter().copied()).unwrap();
        let options = QuantizeOptions::default().with_calibration(samples);
        run(&input, &dir.path().join("out.safetensors"), &options).map_err(|e| e.to_string())
    };
    let error = with(&[("l.0", 1.0), ("l.1", 1.0), ("l.0.down_proj", 1.0)]).unwrap_err();
    assert!(error.contains("calibration: l.1.down_proj: there are no samples"), "{error}");
    let report = with(&[("l.0", 1.0), ("l.1", 1.0)]).unwrap();
    assert_eq!((report.quantized.len(), report.left_alone.len()), (4, 2));
    assert!(
        report.notes[0].contains("l.0.down_proj is not quantized (and so for 1 more)"),
        "{:?}",
        report.notes
    );
    let all = [("l.0", 1.0), ("l.1", 1.0), ("l.0.down_proj.input", 2.0), ("l.1.down_proj", 3.0)];
    assert_eq!(with(&all).unwrap().quantized.len(), 6);
}

#[test]
fn pairs_share_the_larger_scale() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.safetensors"), dir.path().join("out.safetensors"));
    let weights: &[(&str, f32)] = &[
        ("l.mlp.gate_proj", 3.0),
        ("l.mlp.up_proj", 6.0),
        ("l.moe.experts.0.w1", 0.5),
        ("l.moe.experts.0.w3", 0.25),
        ("l.moe.experts.1.w1", 8.0),
        ("l.moe.experts.1.w3", 9.0),
        ("l.experts.gate_proj.1", 21.0),
        ("l.experts.up_proj.1", 42.0),
        ("l.self_attn.q_proj", 1.0),
        ("l.self_attn.k_proj", 2.0),
        ("l.self_attn.v_proj", 4.0),
        ("l.self_attn.o_proj", 16.0),
    ];
    let declared =
        weights.iter().map(|w| Declared::new(format!("{}.weight", w.0), Dtype::F32, [2, 16]));
    let mut writer = Writer::create(&input, declared.collect(), &BTreeMap::new()).unwrap();
    for (name, amax) in weights {
        let mut values = [0.125f32; 32];
        values[17] = -amax;
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        writer.write(&format!("{name}.weight"), &bytes).unwrap();
    }
    writer.finish().unwrap();
    let of = |report: &QuantizeReport, f: fn(&checkpoint::Quantized) -> f32| -> Vec<f32> {
        let find = |name| report.quantized.iter().find(|q| q.tensor == format!("{name}.weight"));
        weights.iter().map(|w| f(find(w.0).unwrap())).collect()
    };
    let amaxes = [6.0, 6.0, 0.5, 0.5, 9.0, 9.0, 42.0, 42.0, 4.0, 4.0, 4.0, 16.0f32];
    let names = ["l.mlp.gate_proj", "l.mlp.up_proj", "l.moe.experts.0", "l.moe.experts.1"];
    let more =
        ["l.experts.gate_proj.1", "l.experts.up_proj.1", "l.self_attn", "l.self_attn.o_proj"];
    let samples = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0];
    let inputs = [20.0, 20.0, 30.0, 30.0, 40.0, 40.0, 60.0, 60.0, 70.0, 70.0, 70.0, 80.0f32];
    for convention in [Convention::ModelOpt, Convention::CompressedTensors] {
        let samples = names.into_iter().chain(more).zip(samples);
        let calibration = Calibration::new(samples).unwrap();
        let mut options = QuantizeOptions::new(convention).with_calibration(calibration);
        options.include = vec!["l".to_owned()];
        let report = run(&input, &output, &options).unwrap();
        let multiplier = |amax: &f32| match convention {
            Convention::ModelOpt => amax / 2688.0,
            Convention::CompressedTensors => 1.0 / (2688.0 / amax),
            _ => unreachable!(),
        };
        let expected: Vec<f32> = amaxes.iter().map(multiplier).collect();
        assert_eq!(of(&report, |q| q.global_scale), expected);
        let expected: Vec<f32> = inputs.iter().map(multiplier).collect();
        assert_eq!(of(&report, |q| q.input_global_scale.unwrap()), expected);
        let layer = Checkpoint::open(&output).unwrap();
        let layer = layer.layer("l.mlp").unwrap();
        assert_eq!(
            [layer.gate_proj.global_scale(), layer.up_proj.global_scale()],
            [multiplier(&6.0); 2]
        );
        assert!((layer.gate_proj.dequantize()[17] + 3.0).abs() < 1e-6);

        options.separate_globals = true;
        let report = run(&input, &output, &options).unwrap();
        let expected: Vec<f32> = weights.iter().map(|w| multiplier(&w.1)).collect();
        assert_eq!(of(&report, |q| q.global_scale), expected);
    }
}

fn floats(path: &Path, tensors: &[(&str, Dtype, &[usize])]) {
    let declared = tensors.iter().map(|t| Declared::new(t.0, t.1, t.2)).collect();
    let mut writer = Writer::create(path, declared, &BTreeMap::new()).unwrap();
    for (name, dtype, shape) in tensors {
        let len = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        writer.write(name, &vec![0x3c; len]).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn sharded_in_sharded_out() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in");
    std::fs::create_dir(&input).unwrap();
    let mut weight_map = BTreeMap::new();
    for (shard, name) in
        [("a.safetensors", "l.gate_proj.weight"), ("b.safetensors", "l.up_proj.weight")]
    {
        floats(&input.join(shard), &[(name, Dtype::F16, &[4, 32]), (shard, Dtype::I64, &[3])]);
        weight_map.insert(name, shard);
        weight_map.insert(shard, shard);
    }
    let index = serde_json::json!({ "weight_map": weight_map });
    std::fs::write(input.join("model.safetensors.index.json"), index.to_string()).unwrap();

    let output = dir.path().join("out");
    let mut seen = Vec::new();
    let options = calibrated(Convention::ModelOpt, "l");
    let report = checkpoint::quantize_file(&input, &output, &options, &mut |p| {
        seen.push((p.tensor.to_owned(), p.done));
        assert_eq!(p.total, 2 * (256 + 24));
    })
    .unwrap();
    assert_eq!(seen.len(), 5);
    assert_eq!(seen[4], (String::new(), 560));
    assert_eq!((report.bytes_in, report.bytes_out), (560, 2 * (64 + 8 + 4 + 4 + 24)));
    let checkpoint = Checkpoint::open(&output).unwrap();
    assert_eq!(checkpoint.names().count(), 10);
    assert_eq!(checkpoint.layer("l").unwrap().gate_proj.cols(), 32);

    let index = json(&output.join("model.safetensors.index.json"));
    assert_eq!(index["metadata"]["total_size"], report.bytes_out);
    let bytes = |name: &&str| std::fs::read(output.join(name)).unwrap();
    let data =
        |file: Vec<u8>| file.len() as u64 - 8 - u64::from_le_bytes(file[..8].try_into().unwrap());
    let shards = ["a.safetensors", "b.safetensors"];
    assert_eq!(shards.iter().map(bytes).map(data).sum::<u64>(), report.bytes_out);
    for shard in shards {
        let file = SafetensorsFile::open(output.join(shard)).unwrap();
        assert_eq!(file.metadata().get("format").map(String::as_str), Some("pt"));
        for name in file.names() {
            assert_eq!(index["weight_map"][name], shard, "{name}");
        }
    }

    let error = quantize(&input, &dir.path().join("x.safetensors"), Convention::ModelOpt);
    assert!(error.unwrap_err().to_string().contains("sharded"));
    let error = quantize(&input, &input, Convention::ModelOpt).unwrap_err();
    assert!(error.to_string().contains("is the input itself"), "{error}");
}

#[test]
fn file_to_file_and_what_cannot_be_quantized() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.safetensors"), dir.path().join("out.safetensors"));
    floats(
        &input,
        &[
            ("l.gate_up_proj.weight", Dtype::BF16, &[4, 16]),
            ("k.up_proj.weight", Dtype::F32, &[4, 8]),
            ("i.up_proj.weight", Dtype::I8, &[4, 16]),
            ("e.up_proj.weight", Dtype::F16, &[2, 4, 16]),
            ("norm.weight", Dtype::F32, &[16]),
        ],
    );
    let report = quantize(&input, &output, Convention::CompressedTensors).unwrap();
    assert_eq!(report.files, [output.as_path()]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    assert_eq!(report.quantized[0].tensor, "l.gate_up_proj.weight");
    assert_eq!(report.copied, 4);
    let why: Vec<&str> = report.unsuitable.iter().map(|u| u.1.as_str()).collect();
    assert_eq!(why, ["its shape is [2, 4, 16]", "it is I8", "K = 8 is not a multiple of 16"]);
    let file = SafetensorsFile::open(&output).unwrap();
    assert_eq!(file.metadata().get("format").map(String::as_str), Some("pt"));
    assert_eq!(Checkpoint::open(&output).unwrap().layer("l").unwrap().up_proj.rows(), 2);

    floats(&input, &[("norm.weight", Dtype::F32, &[16])]);
    let error = quantize(&input, &output, Convention::ModelOpt).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "is named gate_proj.weight or up_proj.weight or gate_up_proj.weight or down_proj.weight or \
             w1.weight or w3.weight or w2.weight (nearest: norm.weight)"
        ),
        "{error}"
    );
    for dtype in [Dtype::F8_E4M3, Dtype::F8_E5M2] {
        let scale = ("l.up_proj.weight_scale_inv", Dtype::F32, &[1, 1][..]);
        floats(&input, &[("l.up_proj.weight", dtype, &[4, 16]), scale]);
        let error = quantize(&input, &output, Convention::ModelOpt).unwrap_err().to_string();
        assert!(error.contains("tensor l.up_proj.weight is F8_E"), "{error}");
        assert!(error.ends_with("has to be dequantized first, with its scales"), "{error}");
    }
    let error = quantize(&input, &input, Convention::ModelOpt).unwrap_err();
    assert!(matches!(error, Error::Checkpoint(_)));
}

#[test]
fn what_is_quantized_already_is_refused_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.safetensors"), dir.path().join("out"));
    let target = ("l.mlp.up_proj.weight", Dtype::BF16, &[4, 16][..]);
    for (name, dtype, scale) in [
        ("l.q_proj.weight", Dtype::F8_E4M3, "l.q_proj.weight_scale_inv"),
        ("l.q_proj.weight", Dtype::F8_E5M2, "l.q_proj.other"),
        ("l.experts.w1", Dtype::F8_E4M3, "l.other"),
        ("l.q_proj.weight", Dtype::I8, "l.q_proj.weight_scale"),
        ("l.q_proj.weight_packed", Dtype::U8, "l.q_proj.weight_scale"),
        ("l.q_proj.qweight", Dtype::I32, "l.q_proj.scales"),
    ] {
        floats(&input, &[target, (name, dtype, &[4, 16]), (scale, Dtype::F32, &[1])]);
        let error = quantize(&input, &output, Convention::ModelOpt).unwrap_err().to_string();
        assert!(error.contains(&format!("tensor {name} is {dtype}")), "{error}");
        assert!(error.contains("dequantized first"), "{error}");
        assert!(!output.exists());
    }
    // Numbers that are no weights stay what they are.
    floats(
        &input,
        &[target, ("l.positions", Dtype::I64, &[4]), ("l.mask.weight", Dtype::U8, &[4, 16])],
    );
    assert_eq!(quantize(&input, &output, Convention::ModelOpt).unwrap().copied, 2);
}

#[test]
fn stacks_of_experts_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.safetensors"), dir.path().join("out.safetensors"));
    let stack = ("l.mlp.experts.gate_up_proj", Dtype::BF16, &[3, 16, 32][..]);
    let down = ("l.mlp.experts.down_proj", Dtype::BF16, &[3, 16, 16][..]);
    floats(&input, &[stack, down, ("l.shared.up_proj.weight", Dtype::BF16, &[4, 16])]);
    let report = quantize(&input, &output, Convention::ModelOpt).unwrap();
    let reason = |stack: (&str, Dtype, &[usize])| {
        (stack.0.to_owned(), format!("a stack of experts {:?}, which is not quantized", stack.2))
    };
    assert_eq!(report.unsuitable, [reason(down), reason(stack)]);
    floats(&input, &[stack, down]);
    let error = quantize(&input, &output, Convention::ModelOpt).unwrap_err().to_string();
    let (name, reason) = reason(down);
    assert!(error.contains(&format!("({name}: {reason})")), "{error}");
}

#[test]
fn odd_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.safetensors"), dir.path().join("out.safetensors"));
    for (value, global) in [(0.0f32, 1.0), (1e-44, 1.0), (f32::MAX, f32::MAX / 2688.0)] {
        let shape = [1, 16];
        let values = [value; 16];
        checkpoint::tensors::write_output(&input, "l.gate_up_proj.weight", &shape, &values)
            .unwrap();
        let report = quantize(&input, &output, Convention::CompressedTensors).unwrap();
        let got = report.quantized[0].global_scale;
        assert!((got / global - 1.0).abs() < 1e-6, "{value:e}: {got:e}");
    }
    let mut values = [1.0; 32];
    values[20] = f32::INFINITY;
    checkpoint::tensors::write_output(&input, "l.up_proj.weight", &[2, 16], &values).unwrap();
    std::fs::remove_file(&output).unwrap();
    let error = quantize(&input, &output, Convention::ModelOpt).unwrap_err().to_string();
    assert!(
        error.contains("tensor l.up_proj.weight: matrix: inf at batch 0, row 1, column 4"),
        "{error}"
    );
    assert!(!output.exists());
}

/// Where there is nothing to quantize but in parts that are left alone, the sentence says so.
#[test]
fn parts_that_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in");
    std::fs::create_dir(&input).unwrap();
    let text =
        ["l.0.mlp.gate_proj", "l.0.mlp.up_proj", "l.1.moe.experts.0.w1", "l.1.moe.experts.0.w3"];
    let towers = ["visual.b.0.mlp.gate_proj", "visual.b.0.mlp.up_proj", "mtp.layers.0.mlp.up_proj"];
    let down = ["l.0.mlp.down_proj", "l.1.moe.experts.0.w2"];
    let other = ["visual.b.0.attn.qkv", "l.0.self_attn.q_proj", "l.1.moe.gate"];
    // Qwen's first generation: no w3, and w1 is its up projection. A down projection without the others.
    let odd = ["h.0.mlp.w1", "h.0.mlp.w2", "h.1.mlp.down_proj", "model.layers.2.mlp.up_proj"];
    let mut tensors: Vec<(String, &[usize])> = [&text[..], &down, &towers, &other, &odd]
        .concat()
        .iter()
        .map(|name| (format!("{name}.weight"), &[2, 16][..]))
        .collect();
    tensors.push(("l.2.mlp.experts.gate_up_proj".to_owned(), &[3, 4, 16]));
    tensors.push(("l.2.mlp.experts.down_proj".to_owned(), &[3, 16, 16]));
    tensors.push(("visual.patch.proj.weight".to_owned(), &[4, 3, 2, 2, 2]));
    tensors.push(("norm.weight".to_owned(), &[16]));
    let listed: Vec<(&str, Dtype, &[usize])> =
        tensors.iter().map(|(name, shape)| (name.as_str(), Dtype::BF16, *shape)).collect();
    floats(&input.join("model.safetensors"), &listed);
    let config =
        r#"{"num_hidden_layers": 2, "num_nextn_predict_layers": 1, "tie_word_embeddings": true}"#;
    std::fs::write(input.join("config.json"), config).unwrap();

    let names = |list: &[(String, String)]| -> Vec<String> {
        list.iter().map(|(name, _)| name.trim_end_matches(".weight").to_owned()).collect()
    };
    let modules = |report: &QuantizeReport| -> Vec<String> {
        report.quantized.iter().map(|q| q.tensor.trim_end_matches(".weight").to_owned()).collect()
    };
    let output = dir.path().join("out");
    for convention in [Convention::ModelOpt, Convention::CompressedTensors] {
        let report = quantize(&input, &output, convention).unwrap();
        let quantized: BTreeSet<String> = modules(&report).into_iter().collect();
        let whole: BTreeSet<String> =
            [&text[..], &down].concat().into_iter().map(str::to_owned).collect();
        assert_eq!(quantized, whole);
        let left: BTreeSet<String> = names(&report.left_alone).into_iter().collect();
        let expected = [&towers[..], &odd].concat();
        assert_eq!(left, expected.into_iter().map(str::to_owned).collect());

        let config = json(&output.join("config.json"));
        let ignore = config["quantization_config"]["ignore"].as_array().unwrap();
        let ignore: Vec<&str> = ignore.iter().map(|m| m.as_str().unwrap()).collect();
        let stacks =
            ["l.2.mlp.experts", "l.2.mlp.experts.gate_up_proj", "l.2.mlp.experts.down_proj"];
        for name in [&towers[..], &other, &odd, &stacks, &["lm_head", "visual.patch.proj"]].concat()
        {
            assert!(ignore.contains(&name), "{convention}: {name} is not in {ignore:?}");
        }
        for name in text.into_iter().chain(down) {
            assert!(!ignore.contains(&name), "{name}");
        }
        let patterns: &[&str] = match convention {
            Convention::ModelOpt => &["visual.*", "*.visual.*", "mtp.*", "l.2.mlp.experts.*"],
            Convention::CompressedTensors => {
                &["re:(.*[.])?visual[.].*", "re:(.*[.])?mtp[.].*", "re:l[.]2[.]mlp[.]experts[.].*"]
            }
            _ => unreachable!(),
        };
        for pattern in patterns {
            assert!(ignore.contains(pattern), "{pattern} is not in {ignore:?}");
        }
    }

    let mut options = QuantizeOptions::default();
    options.include = vec!["visual.*.up_proj".to_owned()];
    let error = run(&input, &output, &options).unwrap_err().to_string();
    let part =
        "visual.*.up_proj and is not left alone (visual.b.0.mlp.up_proj.weight: visual is vision)";
    assert!(error.contains(part), "{error}");
    options.all_parts = true;
    let report = run(&input, &output, &options).unwrap();
    assert_eq!(modules(&report), ["visual.b.0.mlp.up_proj"]);
    // vLLM fuses it with a gate projection that stays in bf16.
    assert!(report.notes[0].contains("visual.b.0.mlp.gate_proj is not"), "{:?}", report.notes);
    let config = json(&output.join("config.json"));
    let ignore = config["quantization_config"]["ignore"].as_array().unwrap();
    assert!(!ignore.iter().any(|m| m.as_str().unwrap().contains("visual.*")));

    options = QuantizeOptions::default();
    options.exclude = vec!["l.0".to_owned()];
    let report = run(&input, &output, &options).unwrap();
    assert_eq!(modules(&report), [text[2], down[1], text[3]]);
    assert!(
        report.left_alone.contains(&("l.0.mlp.up_proj.weight".into(), "l.0 is excluded".into()))
    );
}

#[test]
fn experts_without_their_down_projection_are_noted() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.safetensors"), dir.path().join("out.safetensors"));
    let names = ["w1", "w2", "w3"].map(|w| format!("l.experts.0.{w}.weight"));
    let tensors: Vec<(&str, Dtype, &[usize])> =
        names.iter().map(|name| (name.as_str(), Dtype::F16, &[16, 16][..])).collect();
    floats(&input, &tensors);
    let mut options = QuantizeOptions::default();
    assert_eq!(run(&input, &output, &options).unwrap().notes, [""; 0]);
    options.exclude.push("w2.weight".to_owned());
    let report = run(&input, &output, &options).unwrap();
    assert!(report.notes[0].starts_with("l.experts.0.w2 is not quantized"), "{:?}", report.notes);
}

/// Biases are copied, and read again with the weights.
#[test]
fn biases_stay_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.safetensors"), dir.path().join("out.safetensors"));
    floats(
        &input,
        &[
            ("l.gate_proj.weight", Dtype::F16, &[32, 16]),
            ("l.up_proj.weight", Dtype::F16, &[32, 16]),
            ("l.down_proj.weight", Dtype::F16, &[16, 32]),
            ("l.gate_proj.bias", Dtype::F16, &[32]),
            ("l.down_proj.bias", Dtype::BF16, &[16]),
        ],
    );
    for convention in [Convention::ModelOpt, Convention::CompressedTensors] {
        let report = quantize(&input, &output, convention).unwrap();
        assert_eq!((report.quantized.len(), report.copied), (3, 2));
        let layer = Checkpoint::open(&output).unwrap().mlp("l").unwrap();
        // 0x3c3c in both types.
        assert_eq!(layer.gate_bias.as_deref(), Some(&[1.058_593_8f32; 32][..]));
        assert_eq!(layer.down_bias.as_deref(), Some(&[0.011_474_609f32; 16][..]));
        assert_eq!(layer.up_bias, None);
    }
}

/// 2688/3 = 896, and 895.99994 has the same reciprocal in f32: it is what 1/(1/896) gives.
#[test]
fn divisors_are_stored_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.safetensors"), dir.path().join("out.safetensors"));
    let mut values = [1.0f32; 32];
    values[5] = -3.0;
    checkpoint::tensors::write_output(&input, "l.gate_up_proj.weight", &[2, 16], &values).unwrap();
    let calibration = Calibration::new([("l", 3.0)]).unwrap();
    let options = QuantizeOptions::new(Convention::CompressedTensors).with_calibration(calibration);
    let report = run(&input, &output, &options).unwrap();
    let file = SafetensorsFile::open(&output).unwrap();
    for last in ["weight_global_scale", "input_global_scale"] {
        let stored = file.tensor(&format!("l.gate_up_proj.{last}")).unwrap().scalar().unwrap();
        assert_eq!(stored, 896.0, "{last}");
    }
    assert_eq!(report.quantized[0].global_scale, 1.0 / 896.0);
}
