//! Tensors of tiny layers, N = 16 and K = 32, whose bytes tell which projection they are of.

use nvfp4_dual_gemm::checkpoint::{Checkpoint, Convention, Declared, Dtype, MlpLayer, Writer};
use std::path::Path;

pub const N: usize = 16;
pub const K: usize = 32;
pub const CONVENTIONS: [Convention; 2] = [Convention::ModelOpt, Convention::CompressedTensors];

pub struct Part {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

pub fn part(name: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Part {
    Part { name: name.to_owned(), dtype, shape: shape.to_vec(), bytes }
}

pub fn floats(name: &str, shape: &[usize], values: &[f32]) -> Part {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    part(name, Dtype::F32, shape, bytes)
}

/// Codes \[N, K/2\] of the projection number `seed`.
pub fn codes(seed: usize) -> Vec<u8> {
    (0..N * K / 2).map(|i| ((i * 7 + seed * 13 + i / 16) % 256) as u8).collect()
}

/// Scales \[N, K/16\] of the projection number `seed`, all of them valid.
pub fn scales(seed: usize) -> Vec<u8> {
    (0..N * K / 16).map(|i| (0x20 + (i * 5 + seed * 3) % 0x40) as u8).collect()
}

/// The global scale of the projection number `seed`: a power of two, so that its reciprocal is exact.
pub fn global(seed: usize) -> f32 {
    (2.0f32).powi(-(seed as i32) - 1)
}

/// Codes, scales and global scale of the projection number `seed`.
pub fn projection(module: &str, convention: Convention, seed: usize) -> Vec<Part> {
    let name = |last: &str| format!("{module}.{last}");
    vec![
        part(&name(convention.codes()), Dtype::U8, &[N, K / 2], codes(seed)),
        part(&name(convention.scales()), Dtype::F8_E4M3, &[N, K / 16], scales(seed)),
        floats(&name(convention.weight_global()), &[], &[convention.stored(global(seed))]),
    ]
}

/// Glu number 1 and up number 2 below `prefix`, in ModelOpt's names.
pub fn layer(prefix: &str) -> Vec<Part> {
    let of = |name: &str, seed| projection(&format!("{prefix}.{name}"), Convention::ModelOpt, seed);
    [of("gate_proj", 1), of("up_proj", 2)].into_iter().flatten().collect()
}

pub fn write(path: &Path, parts: &[Part]) {
    let declared = parts.iter().map(|p| Declared::new(&p.name, p.dtype, p.shape.clone())).collect();
    let mut writer = Writer::create(path, declared, &Default::default()).unwrap();
    for part in parts {
        writer.write(&part.name, &part.bytes).unwrap();
    }
    writer.finish().unwrap();
}

/// That a layer has the bytes and the global scales of two projections.
pub fn assert_layer(layer: &MlpLayer, [gate, up]: [usize; 2]) {
    for (view, seed) in [(&layer.gate_proj, gate), (&layer.up_proj, up)] {
        assert_eq!((view.rows(), view.cols()), (N, K));
        assert_eq!(view.codes(), codes(seed), "codes of {seed}");
        assert_eq!(view.scales(), scales(seed), "scales of {seed}");
        assert_eq!(view.global_scale(), global(seed), "global scale of {seed}");
    }
}

/// The error of a layer, or of opening, without the path of the directory.
pub fn fault(open: &Path, prefix: &str) -> String {
    let result = Checkpoint::open(open).and_then(|c| c.layer(prefix).map(|_| ()));
    let text = result.unwrap_err().to_string();
    let directory = if open.is_dir() { open } else { open.parent().unwrap() };
    text.replace(&format!("{}/", directory.display()), "")
        .replace(&directory.display().to_string(), "DIR")
}

/// A file with these tensors, opened.
pub fn open(parts: &[Part]) -> Checkpoint {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    write(&path, parts);
    Checkpoint::open(&path).unwrap()
}

/// The error of a layer of a file with these tensors.
pub fn refused(parts: &[Part], prefix: &str) -> String {
    open(parts).layer(prefix).unwrap_err().to_string()
}

/// Parts after each other.
pub trait Concat {
    fn concat_parts(self) -> Vec<Part>;
}

impl<const M: usize> Concat for [Vec<Part>; M] {
    fn concat_parts(self) -> Vec<Part> {
        self.into_iter().flatten().collect()
    }
}
