//! Operands and results as tensors of safetensors files.

use nvfp4_dual_gemm::checkpoint::tensors::{self, TensorFile};
use nvfp4_dual_gemm::checkpoint::{Declared, Dtype, Writer};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{GemmShape, Nvfp4Matrix, Operand, bf16, f16};
use safetensors::SafeTensors;
use std::path::Path;

type Named<'a> = (&'a str, Dtype, &'a [usize], Vec<u8>);

fn write(path: &Path, list: &[Named<'_>]) {
    let declared = list.iter().map(|t| Declared::new(t.0, t.1, t.2)).collect();
    let mut writer = Writer::create(path, declared, &Default::default()).unwrap();
    for t in list {
        writer.write(t.0, &t.3).unwrap();
    }
    writer.finish().unwrap();
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn operands_come_back_and_the_safetensors_crate_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.safetensors");
    for batch in [1, 3] {
        let problem = GemmShape { m: 5, n: 7, k: 48, batch };
        let operands = Operands::generate(problem, Data::Full, 9).unwrap();
        tensors::write_matrices(&path, &operands.named()).unwrap();
        let file = TensorFile::open(&path).unwrap();
        assert_eq!(file.operand("a", Operand::A).unwrap(), operands.a);
        assert_eq!(file.operand("b1", Operand::B1).unwrap(), operands.b1);
        assert_eq!(file.packed("b2", Operand::B2).unwrap(), operands.b2);

        let raw = std::fs::read(&path).unwrap();
        let peer = SafeTensors::deserialize(&raw).unwrap();
        assert_eq!(peer.len(), 9);
        let codes = peer.tensor("b1.codes").unwrap();
        assert_eq!(codes.data(), operands.b1.codes());
        let shape: &[usize] = if batch == 1 { &[7, 24] } else { &[3, 7, 24] };
        assert_eq!((codes.dtype(), codes.shape()), (Dtype::U8, shape));
        assert_eq!(peer.tensor("b1.scales").unwrap().dtype(), Dtype::F8_E4M3);
    }
}

#[test]
fn f4_codes_scalar_shapes_and_absent_global() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.safetensors");
    let codes: Vec<u8> = (0..16).collect();
    let scales = vec![0x38, 0x40];
    write(
        &path,
        &[
            ("a.codes", Dtype::F4, &[2, 16], codes.clone()),
            ("a.scales", Dtype::F8_E4M3, &[2, 1], scales.clone()),
            ("a.global", Dtype::F32, &[1], bytes(&[0.25])),
            ("b1.codes", Dtype::U8, &[2, 8], codes.clone()),
            ("b1.scales", Dtype::F8_E4M3, &[2, 1], scales.clone()),
        ],
    );
    let file = TensorFile::open(&path).unwrap();
    let expect =
        |global| Nvfp4Matrix::new(1, 2, 16, codes.clone(), scales.clone(), global).unwrap();
    assert_eq!(file.operand("a", Operand::A).unwrap(), expect(0.25));
    assert_eq!(file.operand("b1", Operand::B1).unwrap(), expect(1.0));
}

#[test]
fn floats_are_quantized_on_the_fly() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.safetensors");
    let values: Vec<f32> = (0..64).map(|i| (i as f32 - 20.0) / 4.0).collect();
    let expect = Nvfp4Matrix::quantize(&values, 1, 4, 16).unwrap();
    tensors::write_output(&path, "a", &[4, 16], &values).unwrap();
    assert_eq!(TensorFile::open(&path).unwrap().operand("a", Operand::A).unwrap(), expect);
    let half: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
    tensors::write_output(&path, "a", &[1, 4, 16], &half).unwrap();
    assert_eq!(TensorFile::open(&path).unwrap().operand("a", Operand::A).unwrap(), expect);
    let brain: Vec<bf16> = values.iter().map(|&v| bf16::from_f32(v)).collect();
    tensors::write_output(&path, "a", &[4, 16], &brain).unwrap();
    let file = TensorFile::open(&path).unwrap();
    assert_eq!(file.operand("a", Operand::A).unwrap(), expect);
    assert_eq!(file.values::<f32>("a").unwrap(), (vec![4, 16], values));
}

#[test]
fn faults_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.safetensors");
    let scales = || vec![0x38u8; 2];
    let mut values = [1.0; 32];
    values[17] = f32::NAN;
    write(
        &path,
        &[
            ("nan.codes", Dtype::U8, &[2, 8], vec![0; 16]),
            ("nan.scales", Dtype::F8_E4M3, &[2, 1], vec![0x38, 0x7f]),
            ("u8.codes", Dtype::U8, &[2, 8], vec![0; 16]),
            ("u8.scales", Dtype::U8, &[2, 1], scales()),
            ("short.codes", Dtype::U8, &[2, 8], vec![0; 16]),
            ("short.scales", Dtype::F8_E4M3, &[1, 2], scales()),
            ("odd.codes", Dtype::U8, &[2, 4], vec![0; 8]),
            ("odd.scales", Dtype::F8_E4M3, &[2, 1], scales()),
            ("zero.codes", Dtype::U8, &[0, 8], vec![]),
            ("zero.scales", Dtype::F8_E4M3, &[0, 1], vec![]),
            ("global.codes", Dtype::U8, &[2, 8], vec![0; 16]),
            ("global.scales", Dtype::F8_E4M3, &[2, 1], scales()),
            ("global.global", Dtype::F32, &[2], bytes(&[1.0, 1.0])),
            ("flat", Dtype::F32, &[32], bytes(&[1.0; 32])),
            ("ints", Dtype::I32, &[2, 16], bytes(&[1.0; 32])),
            ("x", Dtype::F32, &[2, 16], bytes(&values)),
        ],
    );
    let file = TensorFile::open(&path).unwrap();
    let text = |name: &str| {
        let error = file.operand(name, Operand::B1).unwrap_err().to_string();
        error.strip_prefix(&format!("{}: ", path.display())).unwrap().to_owned()
    };
    let all = ["nan", "u8", "short", "odd", "zero", "global", "flat", "ints", "x", "nix"];
    insta::assert_snapshot!(all.map(text).join("\n"));
}

#[test]
fn writer_refuses_what_would_not_be_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.safetensors");
    let create = |list: &[(&str, Dtype, &[usize])]| {
        let declared = list.iter().map(|t| Declared::new(t.0, t.1, t.2)).collect();
        Writer::create(&path, declared, &Default::default())
    };
    assert!(create(&[("a", Dtype::F4, &[3])]).is_err());
    assert!(create(&[("a", Dtype::F32, &[usize::MAX, 2])]).is_err());
    assert!(create(&[("a", Dtype::U8, &[1]), ("a", Dtype::F32, &[1])]).is_err());
    assert!(create(&[("__metadata__", Dtype::U8, &[1])]).is_err());
    let mut writer = create(&[("a", Dtype::U8, &[2])]).unwrap();
    assert!(writer.write("b", &[1, 2]).is_err());
    assert!(writer.write("a", &[1]).is_err());
    writer.write("a", &[1, 2]).unwrap();
    assert!(writer.write("a", &[1, 2]).is_err());
    assert!(!path.exists());
    writer.finish().unwrap();
    assert!(path.exists());
    let unfinished = create(&[("a", Dtype::U8, &[2])]).unwrap();
    assert!(unfinished.finish().is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
