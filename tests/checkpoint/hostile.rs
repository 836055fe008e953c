//! Hostile files: an error or a result, never a panic and never an allocation by a number of theirs.

use nvfp4_dual_gemm::Operand;
use nvfp4_dual_gemm::checkpoint::SafetensorsFile;
use nvfp4_dual_gemm::checkpoint::tensors::TensorFile;
use proptest::prelude::*;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

use crate::read_everything::read_everything;

const PREFIX: &str = "model.layers.0.mlp";

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/checkpoints").join(name)
}

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn headers() {
    let one = |entry: &str| format!(r#"{{"t":{entry}}}"#);
    let two = |a: &str, b: &str| format!(r#"{{"t":{a},"u":{b}}}"#);
    let u8s = |from: u64, to: u64| {
        format!(
            r#"{{"dtype":"U8","shape":[{}],"data_offsets":[{from},{to}]}}"#,
            to.wrapping_sub(from)
        )
    };
    let max = u64::MAX;
    let giant = (1u64 << 61) - 1;
    let headers = [
        one(&u8s(0, 9)),
        one(&u8s(1, 8)),
        one(&u8s(0, 7)),
        one(&u8s(8, 0)),
        one(&u8s(max - 8, max)),
        two(&u8s(0, 6), &u8s(4, 8)),
        two(&u8s(0, 8), &u8s(0, 8)),
        two(&u8s(0, 3), &u8s(4, 8)),
        two(&u8s(0, 8), &u8s(8, 8 + giant)),
        format!(r#"{{"t":{0},"t":{0}}}"#, u8s(0, 8)),
        r#"{"__metadata__":{},"__metadata__":{}}"#.to_owned(),
        r#"{"__metadata__":{"format":1}}"#.to_owned(),
        one(r#"{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,8]}"#),
        one(r#"{"dtype":"F4","shape":[15],"data_offsets":[0,8]}"#),
        one(r#"{"dtype":"F4","shape":[15,1],"data_offsets":[0,7]}"#),
        one(r#"{"dtype":"U8","shape":[-1],"data_offsets":[0,8]}"#),
        one(r#"{"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,8]}"#),
        one(r#"{"dtype":"E2M1","shape":[8],"data_offsets":[0,8]}"#),
        one(r#"{"dtype":"U8","shape":[8],"data_offsets":[0]}"#),
        one(r#"{"dtype":"U8","data_offsets":[0,8]}"#),
        one("null"),
        "[]".to_owned(),
        "nix".to_owned(),
        String::new(),
        "{".to_owned(),
        "{} x".to_owned(),
        "{}".to_owned(),
        "[".repeat(100_000),
    ];
    let mut texts = Vec::new();
    let mut fault = |bytes: Vec<u8>| {
        let error = SafetensorsFile::from_bytes("f", bytes).unwrap_err().to_string();
        texts.push(error);
    };
    for header in headers {
        fault(file(&header, &[0; 8]));
    }
    fault(vec![]);
    fault(vec![0; 7]);
    fault(vec![0xff; 8]);
    fault(vec![0xff; 100]);
    fault(file("{}", &[])[..9].to_vec());
    fault(100_000_001u64.to_le_bytes().to_vec());
    fault(99_000_000u64.to_le_bytes().to_vec());
    fault([&2u64.to_le_bytes()[..], &[0xff, 0xfe]].concat());
    insta::assert_snapshot!(texts.join("\n"));

    let empty =
        file(r#"{"t":{"dtype":"F32","shape":[0,18446744073709551615],"data_offsets":[0,0]}}"#, &[]);
    assert!(read_everything(&empty));
    assert!(SafetensorsFile::from_bytes("f", file("{}", &[])).is_ok());
}

#[test]
fn every_truncation_is_an_error() {
    for name in
        ["modelopt-fused/model.safetensors", "modelopt-sharded/model-00001-of-00002.safetensors"]
    {
        let bytes = std::fs::read(data(name)).unwrap();
        assert!(read_everything(&bytes));
        for len in (0..bytes.len()).step_by(7) {
            assert!(!read_everything(&bytes[..len]), "{name} cut to {len} bytes");
        }
        assert!(!read_everything(&[&bytes[..], &[0]].concat()));
    }
}

#[test]
fn names_cannot_hide() {
    let entry = |from: u32, to: u32| {
        format!(r#"{{"dtype":"U8","shape":[{}],"data_offsets":[{from},{to}]}}"#, to - from)
    };
    // The second name is the first one written with an escape.
    let header = format!(r#"{{"ab":{},"\u0061b":{}}}"#, entry(0, 4), entry(4, 8));
    let error = SafetensorsFile::from_bytes("f", file(&header, &[0; 8])).unwrap_err();
    assert!(error.to_string().contains("\"ab\" occurs twice"), "{error}");
    let header = format!(r#"{{"":{},"../x":{}}}"#, entry(0, 2), entry(2, 8));
    assert!(read_everything(&file(&header, &[0; 8])));
    let header = format!(r#"{{"\u001b[2J":{}}}"#, entry(0, 8));
    let error = SafetensorsFile::from_bytes("f", file(&header, &[0; 8])).unwrap_err().to_string();
    assert!(error.contains(r#"the tensor name "\u{1b}[2J" has control characters"#), "{error}");
}

/// One projection pair whose numbers are all hostile.
fn layer_file() -> impl Strategy<Value = Vec<u8>> {
    let dtype = prop::sample::select(vec!["U8", "F4", "F8_E4M3", "F32", "BF16", "F8_E8M0", "I32"]);
    let dim = prop_oneof![0usize..40, Just(usize::MAX), Just(usize::MAX / 2 + 1), Just(1 << 33)];
    let shape = prop::collection::vec(dim, 0..4);
    let name = prop::sample::select(vec![
        "weight",
        "weight_packed",
        "weight_scale",
        "weight_scale_2",
        "weight_global_scale",
        "input_scale",
        "bias",
    ]);
    let module = prop::sample::select(vec![
        "gate_proj",
        "up_proj",
        "gate_up_proj",
        "experts.gate_up_proj",
        "experts.gate_proj.1",
        "experts.up_proj.1",
        "down_proj",
        "experts.down_proj",
    ]);
    let bytes = prop_oneof![Just(None), (0usize..2000).prop_map(Some)];
    prop::collection::vec((module, name, dtype, shape, bytes), 1..9).prop_map(|list| {
        let (mut entries, mut end) = (Vec::new(), 0usize);
        for (module, name, dtype, shape, bytes) in list {
            let bits = match dtype {
                "F4" => 4usize,
                "F32" | "I32" => 32,
                "BF16" => 16,
                _ => 8,
            };
            let need = shape.iter().try_fold(bits, |n, &d| n.checked_mul(d)).map(|b| b / 8);
            let len = bytes.or(need.filter(|&n| n < 10_000)).unwrap_or(16);
            entries.push(format!(
                r#""{PREFIX}.{module}.{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{end},{}]}}"#,
                end + len
            ));
            end += len;
        }
        file(&format!("{{{}}}", entries.join(",")), &vec![0x31; end])
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read_everything(&bytes);
    }

    #[test]
    fn random_headers(header in r#"[\[\]{}":,0-9a-zU8\\ ]{0,120}"#, data in prop::collection::vec(any::<u8>(), 0..40)) {
        read_everything(&file(&header, &data));
    }

    #[test]
    fn hostile_layers(bytes in layer_file()) {
        read_everything(&bytes);
    }

    /// Whatever passes the header check here also passes that of the `safetensors` crate, and has
    /// the same tensors there. (That one adds up offsets unchecked: it is only asked about files
    /// which passed.)
    #[test]
    fn mutated_files(
        which in 0usize..3,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), prop::bool::weighted(0.8)), 1..6),
    ) {
        let name = ["modelopt-sharded/model-00002-of-00002.safetensors", "modelopt-fused/model.safetensors",
            "compressed-tensors/model.safetensors"][which];
        let mut bytes = std::fs::read(data(name)).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for (at, value, in_header) in changes {
            let range = if in_header { header } else { bytes.len() };
            bytes[at.index(range)] = value;
        }
        if read_everything(&bytes) {
            let ours = SafetensorsFile::from_bytes("f", bytes.clone()).unwrap();
            let theirs = SafeTensors::deserialize(&bytes).unwrap();
            prop_assert_eq!(ours.names().count(), theirs.len());
            for tensor in ours.tensors() {
                let view = theirs.tensor(tensor.name()).unwrap();
                prop_assert_eq!((view.dtype(), view.shape(), view.data()), (tensor.dtype(), tensor.shape(), &*tensor.data().unwrap()));
            }
        }
    }

    /// Digits of the JSON are where the dangerous numbers are.
    #[test]
    fn mutated_numbers(
        changes in prop::collection::vec((any::<prop::sample::Index>(), b'0'..=b'9'), 1..4),
    ) {
        let mut bytes = std::fs::read(data("modelopt-sharded/model-00001-of-00002.safetensors")).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let digits: Vec<usize> = (8..header).filter(|&i| bytes[i].is_ascii_digit()).collect();
        for (at, digit) in changes {
            bytes[digits[at.index(digits.len())]] = digit;
        }
        read_everything(&bytes);
    }

    #[test]
    fn mutated_operands(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        use nvfp4_dual_gemm::{GemmShape, synth::{Data, Operands}};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let operands = Operands::generate(GemmShape { m: 2, n: 3, k: 16, batch: 1 }, Data::Full, 1).unwrap();
        nvfp4_dual_gemm::checkpoint::tensors::write_matrices(&path, &operands.named()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(file) = TensorFile::open(&path) {
            for name in ["a", "b1", "b2"] {
                let _ = file.operand(name, Operand::A);
            }
        }
    }
}
