use nvfp4_dual_gemm::checkpoint::Checkpoint;

/// Reads all that a file of these bytes has to offer: the body of the fuzz target, and of the
/// property tests in `tests/checkpoint/hostile.rs`. Returns whether the header was accepted.
pub fn read_everything(bytes: &[u8]) -> bool {
    let Ok(checkpoint) = Checkpoint::from_bytes("fuzz", bytes.to_vec()) else { return false };
    for prefix in checkpoint.layers() {
        if let Ok(layer) = checkpoint.layer(&prefix) {
            assert_eq!(
                layer.gate_proj.codes().len(),
                layer.gate_proj.rows() * layer.gate_proj.cols() / 2
            );
            assert_eq!(
                layer.up_proj.scales().len(),
                layer.up_proj.rows() * layer.up_proj.cols() / 16
            );
            assert!(layer.gate_proj.dequantize().iter().all(|v| !v.is_nan()));
            let biases = [&layer.gate_bias, &layer.up_bias, &layer.down_bias];
            assert!(biases.into_iter().flatten().flat_map(|b| b.iter()).all(|v| v.is_finite()));
            assert_eq!(layer.down_proj.is_none(), layer.no_down.is_some());
            if let Some(down) = &layer.down_proj {
                assert_eq!(down.cols(), layer.gate_proj.rows());
            }
            let _ = layer.weights();
        }
    }
    for name in checkpoint.names() {
        let tensor = checkpoint.tensor(name).expect("a name of the file itself");
        let _ = tensor.values::<f32>();
        let _ = tensor.scalar();
        let _ = checkpoint.layer(name);
    }
    true
}
