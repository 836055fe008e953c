//! What headers tell of a layer is what the layer is.

use std::path::Path;

use nvfp4_dual_gemm::Checkpoint;

#[test]
fn outlines_are_those_of_the_layers() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/checkpoints");
    let mut seen = 0;
    for name in [
        "modelopt",
        "modelopt-fused",
        "modelopt-sharded",
        "modelopt-bias",
        "modelopt-weight-only",
        "compressed-tensors",
        "compressed-tensors-weight-only",
        "gpt-oss",
    ] {
        let checkpoint = Checkpoint::open(data.join(name)).unwrap();
        for prefix in checkpoint.layers() {
            let Ok(layer) = checkpoint.layer(&prefix) else { continue };
            let outline = checkpoint.outline(&prefix).unwrap();
            assert_eq!(outline.scheme, layer.scheme, "{name} {prefix}");
            assert_eq!(outline.in_features, layer.gate_proj.cols());
            assert_eq!(outline.intermediate_features, layer.gate_proj.rows());
            assert_eq!(outline.out_features, layer.down_proj.map(|down| down.rows()));
            assert_eq!(outline.no_down, layer.no_down);
            seen += 1;
        }
        let missing = checkpoint.outline("no.such.mlp").unwrap_err().to_string();
        assert!(missing.contains("no.such.mlp"), "{missing}");
    }
    assert!(seen >= 8, "{seen}");
    let floats = Checkpoint::open(data.join("floats")).unwrap();
    let prefix = &floats.layers()[0];
    let refused = floats.outline(prefix).unwrap_err().to_string();
    assert!(refused.contains("BF16") || refused.contains("not quantized"), "{refused}");
}
