//! Samples of the inputs of layers, and the scales that follow.

use nvfp4_dual_gemm::checkpoint::{
    self, Calibration, Checkpoint, Convention, Declared, Dtype, QuantizeOptions, Writer,
};
use std::collections::BTreeMap;
use std::path::Path;

/// A tensor of F32 whose values are 0.5 but for one.
fn write(path: &Path, tensors: &[(&str, &[usize], f32)]) {
    let declared = tensors.iter().map(|t| Declared::new(t.0, Dtype::F32, t.1)).collect();
    let mut writer = Writer::create(path, declared, &BTreeMap::new()).unwrap();
    for (name, shape, value) in tensors {
        let mut values = vec![0.5f32; shape.iter().product()];
        if let Some(last) = values.last_mut() {
            *last = *value;
        }
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        writer.write(name, &bytes).unwrap();
    }
    writer.finish().unwrap();
}

/// The multipliers of the inputs, or the error.
fn scales(
    dir: &Path,
    weights: &[&str],
    samples: &[(&str, &[usize], f32)],
    convention: Convention,
) -> Result<BTreeMap<String, f32>, String> {
    let [input, inputs, output] = ["in", "x", "out"].map(|n| dir.join(format!("{n}.safetensors")));
    let names: Vec<String> = weights.iter().map(|w| format!("{w}.weight")).collect();
    let tensors: Vec<(&str, &[usize], f32)> =
        names.iter().map(|name| (name.as_str(), &[4, 32][..], 1.0)).collect();
    write(&input, &tensors);
    write(&inputs, samples);
    let run = || {
        let calibration = Calibration::read(&inputs)?;
        let mut options = QuantizeOptions::new(convention).with_calibration(calibration);
        options.include = vec!["*".to_owned()];
        checkpoint::quantize_file(&input, &output, &options, &mut |_| ())
    };
    let report = run().map_err(|e| e.to_string())?;
    let checkpoint = Checkpoint::open(&output).unwrap();
    Ok(report
        .quantized
        .into_iter()
        .map(|q| {
            let module = q.tensor.trim_end_matches(".weight").to_owned();
            let tensor =
                checkpoint.tensor(&format!("{module}.{}", convention.input_global())).unwrap();
            let stored = tensor.scalar().unwrap();
            assert_eq!(Some(convention.multiplier(stored)), q.input_global_scale);
            // compressed-tensors' divisor is the number that its own observer would store.
            assert_eq!(tensor.shape().len(), usize::from(convention != Convention::ModelOpt));
            (module, stored)
        })
        .collect())
}

#[test]
fn names_of_samples() {
    let dir = tempfile::tempdir().unwrap();
    let two = ["l.mlp.gate_proj", "l.mlp.up_proj"];
    let x = &[2, 3, 32][..];
    for (weights, samples, expected) in [
        (&two[..], &[("x", x, -7.0)][..], &[7.0, 7.0][..]),
        (&two, &[("l.mlp", x, 3.0)], &[3.0, 3.0]),
        (&two, &[("l.mlp.input", &[32], 3.0)], &[3.0, 3.0]),
        // The nearer name goes first, and the two of a pair share the larger.
        (&two, &[("l.mlp", x, 3.0), ("l.mlp.up_proj", x, 9.0)], &[9.0, 9.0]),
        (&two, &[("l.mlp.gate_proj.input", x, 5.0), ("l.mlp.up_proj.input", x, 2.0)], &[5.0, 5.0]),
        (&["l.gate_up_proj"], &[("x", x, 1.5)], &[1.5]),
        (&["gate_proj", "up_proj"], &[("x", x, 1.5)], &[1.5, 1.5]),
        (
            &["l.experts.0.w1", "l.experts.0.w3", "l.experts.11.w1"],
            &[("l.experts.0", x, 4.0), ("l", x, 6.0)],
            &[4.0, 4.0, 6.0],
        ),
        (
            &["l.mlp.down_proj", "l.mlp.gate_proj"],
            &[("l.mlp.down_proj", x, 8.0), ("l.mlp", x, 2.0)],
            &[8.0, 2.0],
        ),
    ] {
        for convention in [Convention::ModelOpt, Convention::CompressedTensors] {
            let found = scales(dir.path(), weights, samples, convention).unwrap();
            for (module, amax) in weights.iter().zip(expected) {
                let stored = match convention {
                    Convention::ModelOpt => amax / 2688.0,
                    Convention::CompressedTensors => 2688.0f32 / amax,
                    _ => unreachable!(),
                };
                assert_eq!(found[*module], stored, "{module} of {weights:?} with {samples:?}");
            }
        }
    }
}

#[test]
fn an_expert_without_tokens_takes_the_largest_of_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let gates = [0, 1, 2].map(|n| format!("l.experts.{n}.gate_proj"));
    let gates: Vec<&str> = gates.iter().map(String::as_str).collect();
    let (x, none) = (&[2, 32][..], &[0, 32][..]);
    for (samples, expected) in [
        (
            &[
                ("l.experts.0", none, 0.0),
                ("l.experts.1", x, 3.0),
                ("l.experts.2.input", x, 5.0),
                ("k.experts.1", x, 9.0),
            ][..],
            [5.0, 3.0, 5.0],
        ),
        // Where no expert has any, the layer's own samples count.
        (
            &[
                ("l.experts.0", none, 0.0),
                ("l.experts.1", none, 0.0),
                ("l.experts.2", none, 0.0),
                ("l", x, 7.0),
            ],
            [7.0, 7.0, 7.0],
        ),
    ] {
        let found = scales(dir.path(), &gates, samples, Convention::ModelOpt).unwrap();
        for (gate, amax) in gates.iter().zip(expected) {
            assert_eq!(found[*gate], amax / 2688.0, "{gate}");
        }
    }
    let all = [("l.experts.0", none, 0.0), ("l.experts.1", none, 0.0), ("l.experts.2", none, 0.0)];
    let error = scales(dir.path(), &gates, &all, Convention::ModelOpt).unwrap_err();
    for part in ["l.experts.0.gate_proj: ", "tensor l.experts.0, is 0", "`.experts`"] {
        assert!(error.contains(part), "{error}");
    }

    let weight = dir.path().join("in.safetensors");
    let calibration =
        Calibration::new([("l.experts.0", 0.0), ("l.experts.1", 3.0), ("l.experts.2", 5.0)]);
    let options = QuantizeOptions::default().with_calibration(calibration.unwrap());
    let output = dir.path().join("out.safetensors");
    let report = checkpoint::quantize_file(&weight, &output, &options, &mut |_| ()).unwrap();
    let note = report.notes.iter().find(|note| note.contains("l.experts.0.gate_proj"));
    assert!(report.notes.iter().any(|n| n.contains("reached 1 of the modules")), "{note:?}");
}

#[test]
fn samples_that_do_not_do() {
    let dir = tempfile::tempdir().unwrap();
    let two = ["l.mlp.gate_proj", "l.mlp.up_proj"];
    let four = ["l.mlp.gate_proj", "l.mlp.up_proj", "m.mlp.gate_proj", "m.mlp.up_proj"];
    let x = &[2, 32][..];
    for (weights, samples, parts) in [
        (
            &two[..],
            &[("y", x, 1.0)][..],
            &["l.mlp.gate_proj: ", "l.mlp.input, l.mlp, x", "2 layers", "l.mlp.up_proj"][..],
        ),
        (
            &four,
            &[("x", x, 1.0)],
            &["no samples", "4 layers have none, also l.mlp.up_proj, m.mlp.gate_proj"],
        ),
        (&four, &[("l.mlp", x, 1.0)], &["m.mlp.gate_proj: there are no samples"]),
        // The input of a down projection is another one.
        (&["l.mlp.down_proj"], &[("l.mlp", x, 1.0)], &["l.mlp.down_proj: there are no samples"]),
        (
            &["l.mlp.down_proj", "l.mlp.up_proj"],
            &[("x", x, 1.0)],
            &["l.mlp.down_proj: there are no samples"],
        ),
        (&two, &[("x", &[2, 48], 1.0)], &["tensor x, have 48 columns, and K is 32"]),
        (
            &two,
            &[("l.mlp", x, 1.0), ("l.mlp.input", x, 1.0)],
            &["both as l.mlp.input and as l.mlp"],
        ),
        (&two, &[("x", x, f32::NAN)], &["x.safetensors: tensor x", "NaN", "row 1, column 31"]),
        (&two, &[("x", x, f32::NEG_INFINITY)], &["-inf", "row 1, column 31"]),
        (
            &two,
            &[("x", &[0, 32], 1.0)],
            &["calibration: x: the largest magnitude of its samples is 0"],
        ),
    ] {
        let error = scales(dir.path(), weights, samples, Convention::ModelOpt).unwrap_err();
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in: {error}");
        }
    }
    for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let error = Calibration::new([("l", bad)]).unwrap_err().to_string();
        assert!(error.contains("calibration: l: "), "{error}");
    }
}
