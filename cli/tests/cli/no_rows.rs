//! A step without tokens.

use serde_json::Value;

use nvfp4_dual_gemm::checkpoint::tensors::{self, TensorFile};
use nvfp4_dual_gemm::{bf16, f16};

use crate::support::{MLP, json, ok, write_layer};

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
        for backend in ["cpu", "oracle"] {
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
