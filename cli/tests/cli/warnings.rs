//! What is no failure, and yet is said.

use nvfp4_dual_gemm::checkpoint::tensors::{self, TensorFile};
use nvfp4_dual_gemm::checkpoint::{Convention, Weight, write_weights};
use nvfp4_dual_gemm::synth::Operands;
use nvfp4_dual_gemm::{Nvfp4Matrix, f16};

use crate::support::{MLP, json, ok, wave, write_layer};

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
    tensors::write_matrices(dir.path().join("in.safetensors"), &operands.named()).unwrap();
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
            "blocks": 8, "saturated": 2, "share": 0.25, "underflowed": 0, "lost": 0, "largest": 52_500.0, "largest_representable": 5.25
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
fn what_the_scale_of_h_clips_is_told_apart_from_that_of_x() {
    let dir = tempfile::tempdir().unwrap();
    let matrix = |rows: usize, cols: usize| {
        let values: Vec<f32> = wave(rows, cols, 0.3).iter().map(|v| 2.0 + v).collect();
        Nvfp4Matrix::quantize(&values, 1, rows, cols).unwrap()
    };
    let (gate, up, down) = (matrix(48, 64), matrix(48, 64), matrix(16, 48));
    // Every value of h is beyond 64·64, and far from the largest f32.
    let write = |of_h: f32| {
        let modules = [("mlp.gate_proj", &gate), ("mlp.up_proj", &up), ("mlp.down_proj", &down)];
        let weights = modules.map(|(module, matrix)| Weight {
            module,
            matrix: matrix.view(),
            input_global: Some(if module == "mlp.down_proj" { of_h } else { 1.0 / 2688.0 }),
        });
        write_weights(dir.path().join("model.safetensors"), Convention::ModelOpt, &weights)
            .unwrap();
    };
    let x = tensors::write_output(dir.path().join("x.safetensors"), "x", &[2, 64], &[1f32; 128]);
    x.unwrap();
    let whole = MLP.iter().filter(|arg| !["--only", "gate-up"].contains(arg)).copied();
    let whole = [&whole.collect::<Vec<_>>()[..], &["--out-dtype", "f32"]].concat();
    write(1.0 / 2688.0);
    let value = json(dir.path(), &whole);
    assert_eq!(
        (&value["saturation"]["saturated"], &value["check"]["pass"]),
        (&0.into(), &true.into())
    );
    let of_h = &value["saturation_h"];
    assert_eq!((&of_h["blocks"], &of_h["saturated"]), (&6.into(), &6.into()));
    assert!(of_h["largest"].as_f64().unwrap() > 64.0 * 64.0, "{of_h}");
    let text = ok(dir.path(), &whole);
    let told =
        "6 of 6 blocks of h (100.000 %) saturated: the scale of h reaches 1.000e0, h goes to";
    assert!(text.contains("warning") && text.contains(told), "{text}");
    assert!(!text.contains("blocks of x"), "{text}");
    // A number is the scale of x alone.
    assert!(ok(dir.path(), &[&whole[..], &["--input-scale", "1"]].concat()).contains(told));

    write(1e30);
    let text = ok(dir.path(), &whole);
    assert!(text.contains("6 of 6 blocks of h (100.000 %) underflowed, 6 of them to 0"), "{text}");
    for scale in ["dynamic", "per-row"] {
        let args = [&whole[..], &["--input-scale", scale]].concat();
        assert_eq!(json(dir.path(), &args)["saturation_h"]["saturated"], 0);
        assert!(!ok(dir.path(), &args).contains("warning"));
    }
    write(16.0);
    assert!(!ok(dir.path(), &whole).contains("warning"));
    assert!(json(dir.path(), MLP)["saturation_h"].is_null());
    let w4a16 = json(dir.path(), &[&whole[..], &["--precision", "w4a16"]].concat());
    assert!(w4a16["saturation"].is_null() && w4a16["saturation_h"].is_null());
}
