//! A layer of N = 16 and K = 32 in a directory of its own, with whatever a test puts beside it.

use nvfp4_dual_gemm::checkpoint::{Checkpoint, Declared, Dtype, LayerOptions, MlpLayer, Writer};
use nvfp4_dual_gemm::{Engine, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// Rows and columns of a projection.
pub const N: usize = 16;
pub const K: usize = 32;
pub const PREFIX: &str = "model.layers.0.mlp";

pub type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// What is in the directory.
pub struct Tiny {
    pub dir: tempfile::TempDir,
    pub tensors: Tensors,
    pub metadata: BTreeMap<String, String>,
}

/// All codes are 1 or -1 and all scales are 1, so that with x of ones every product is `product`.
fn projection(tensors: &mut Tensors, module: &str, rows: usize, product: f32) {
    let (code, global) = (if product < 0.0 { 0xaa } else { 0x22 }, product.abs() / K as f32);
    let mut add = |name: &str, dtype, shape: &[usize], bytes: Vec<u8>| {
        tensors.insert(format!("{module}.{name}"), (dtype, shape.to_vec(), bytes));
    };
    add("weight", Dtype::U8, &[rows, K / 2], vec![code; rows * K / 2]);
    add("weight_scale", Dtype::F8_E4M3, &[rows, K / 16], vec![0x38; rows * K / 16]);
    add("weight_scale_2", Dtype::F32, &[], global.to_le_bytes().to_vec());
}

impl Tiny {
    /// ModelOpt's names; with an x of ones the product of gate is `x1` and that of up `x2`.
    pub fn with_products(prefix: &str, x1: f32, x2: f32) -> Self {
        let mut tensors = Tensors::new();
        projection(&mut tensors, &format!("{prefix}.gate_proj"), N, x1);
        projection(&mut tensors, &format!("{prefix}.up_proj"), N, x2);
        Tiny { dir: tempfile::tempdir().unwrap(), tensors, metadata: BTreeMap::new() }
    }

    pub fn at(prefix: &str) -> Self {
        Self::with_products(prefix, 1.0, 2.0)
    }

    pub fn new() -> Self {
        Self::at(PREFIX)
    }

    /// One weight of 2N rows.
    pub fn fused(prefix: &str) -> Self {
        let mut tensors = Tensors::new();
        projection(&mut tensors, &format!("{prefix}.gate_up_proj"), 2 * N, 1.0);
        Tiny { dir: tempfile::tempdir().unwrap(), tensors, metadata: BTreeMap::new() }
    }

    /// The same layer in compressed-tensors' names.
    pub fn compressed_tensors(prefix: &str) -> Self {
        let mut tiny = Self::at(prefix);
        for (name, (dtype, mut shape, mut bytes)) in std::mem::take(&mut tiny.tensors) {
            let (module, last) = name.rsplit_once('.').unwrap();
            let last = match last {
                "weight" => "weight_packed",
                "weight_scale_2" => {
                    let global = f32::from_le_bytes(bytes[..].try_into().unwrap());
                    (shape, bytes) = (vec![1], (1.0 / global).to_le_bytes().to_vec());
                    "weight_global_scale"
                }
                other => other,
            };
            tiny.tensors.insert(format!("{module}.{last}"), (dtype, shape, bytes));
        }
        tiny
    }

    /// The same with other names.
    pub fn renamed(mut self, rename: impl Fn(&str) -> String) -> Self {
        let all = std::mem::take(&mut self.tensors);
        self.tensors = all.into_iter().map(|(name, tensor)| (rename(&name), tensor)).collect();
        self
    }

    /// A tensor of bytes that are all 1.
    pub fn add(&mut self, name: &str, dtype: Dtype, shape: &[usize]) -> &mut Self {
        let len = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        self.tensors.insert(name.to_owned(), (dtype, shape.to_vec(), vec![1; len]));
        self
    }

    pub fn json(&self, name: &str, text: &str) -> &Self {
        std::fs::write(self.dir.path().join(name), text).unwrap();
        self
    }

    pub fn config(&self, text: &str) -> &Self {
        self.json("config.json", text)
    }

    pub fn open(&self) -> Result<Checkpoint> {
        let list = self.tensors.iter();
        let declared = list.map(|(name, t)| Declared::new(name, t.0, t.1.clone())).collect();
        let path = self.dir.path().join("model.safetensors");
        let mut writer = Writer::create(path, declared, &self.metadata).unwrap();
        for (name, (_, _, bytes)) in &self.tensors {
            writer.write(name, bytes).unwrap();
        }
        writer.finish().unwrap();
        Checkpoint::open(self.dir.path())
    }

    /// C of one row of ones, which is the same in all columns; or the error without the directory.
    pub fn c_with(&self, prefix: &str, options: &LayerOptions) -> std::result::Result<f64, String> {
        let run = || -> Result<f64> {
            let checkpoint = self.open()?;
            let layer = checkpoint.layer_with(prefix, options)?;
            let c = c(&layer)?;
            assert!(c.iter().all(|v| *v == c[0]), "{c:?}");
            Ok(f64::from(c[0]))
        };
        run().map_err(|error| shown(&error.to_string(), self.dir.path()))
    }

    pub fn c(&self) -> std::result::Result<f64, String> {
        self.c_with(PREFIX, &LayerOptions::new())
    }

    /// The error of the layer.
    pub fn refusal(&self) -> String {
        match self.c() {
            Ok(c) => panic!("was read, and C is {c}"),
            Err(text) => text,
        }
    }
}

fn shown(text: &str, dir: &Path) -> String {
    text.replace(&dir.display().to_string(), "DIR")
}

fn c(layer: &MlpLayer) -> Result<Vec<f32>> {
    let a = layer.quantize_input(&[1.0f32; K], 1)?;
    Engine::oracle().run(&layer.weights()?.gemm(&a)?)
}

/// Equal up to roundings of f32.
#[track_caller]
pub fn close(actual: std::result::Result<f64, String>, expected: f64) {
    let actual = actual.unwrap();
    assert!((actual - expected).abs() <= 1e-6 * expected.abs(), "{actual} and {expected}");
}

/// SiLU(1)·2, GELU-tanh(1)·2: what the layer of [`Tiny::new`] computes. From torch in f64.
pub const SILU: f64 = 2.0 * 0.731_058_578_630_004_9;
pub const GELU_TANH: f64 = 2.0 * 0.841_191_990_608_276_8;

/// That a configuration refuses the layer, in these words.
#[track_caller]
pub fn refused(config: &str, words: &[&str]) {
    let tiny = Tiny::new();
    tiny.config(config);
    println!("{config}");
    let text = tiny.refusal();
    for word in words {
        assert!(text.contains(word), "{text}: {word}");
    }
}

/// That the calibrated scale of a layer is refused as it is weight-only.
#[track_caller]
pub fn weight_only(result: Result<f64, String>) {
    let text = result.unwrap_err();
    assert!(text.contains("W4A16_NVFP4"), "{text}");
}
