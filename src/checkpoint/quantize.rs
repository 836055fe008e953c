//! Quantising the weights of a safetensors checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::{Value, json};

use super::CheckpointError;
use super::convention::Convention;
use super::file::{SafetensorsFile, Tensor, io, near};
use super::json::read_json;
use super::open::{INDEX, Layout};
use super::weights::{self, Weight};
use super::writer::{Declared, Writer, temporary_beside};
use crate::element::Element;
use crate::error::{Operand, Result};
use crate::format::{BLOCK, e2m1, quantize, ue4m3};
use crate::matrix::Nvfp4Matrix;
use crate::{bf16, f16};

/// What [`quantize_file`] does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantizeOptions {
    /// Names and scales of the result.
    pub convention: Convention,
    /// A tensor `MODULE.weight` is quantised when its name ends in one of these.
    pub suffixes: Vec<String>,
}

impl Default for QuantizeOptions {
    /// ModelOpt; the gate and up projections, separate or fused.
    fn default() -> Self {
        let suffixes = ["gate_proj.weight", "up_proj.weight"].map(str::to_owned).to_vec();
        QuantizeOptions { convention: Convention::default(), suffixes }
    }
}

/// How far [`quantize_file`] is: called before each tensor, and once at the end with an empty name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The tensor that comes next.
    pub tensor: &'a str,
    /// Bytes of tensors done.
    pub done: u64,
    /// Bytes of all tensors of the input.
    pub total: u64,
}

/// A weight that was quantised.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantized {
    /// Its name in the input.
    pub tensor: String,
    /// N.
    pub rows: usize,
    /// K.
    pub cols: usize,
    /// The multiplier that a reader of the result gets.
    pub global_scale: f32,
}

/// What [`quantize_file`] did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QuantizeReport {
    /// Files written.
    pub files: Vec<PathBuf>,
    /// Weights that were quantised.
    pub quantized: Vec<Quantized>,
    /// Tensors copied as they are.
    pub copied: usize,
    /// Tensors among the copied whose name was asked for, and why they cannot be quantised.
    pub unsuitable: Vec<(String, String)>,
    /// Bytes of tensors in the input.
    pub bytes_in: u64,
    /// Bytes of tensors in the result.
    pub bytes_out: u64,
}

/// Quantises the weights of a checkpoint and copies its other tensors.
///
/// `input` is anything that [`super::Checkpoint::open`] takes. With a single file, `output` is either
/// a name ending in `.safetensors`, and then only that file is written, or a directory; with a sharded
/// one it is a directory. A directory gets the same file names, the index, `config.json` with a
/// `quantization_config`, and for ModelOpt `hf_quant_config.json`; tokenizer and other files are not
/// copied. One tensor at a time is in memory.
///
/// Each weight gets its own global scale, amax/2688; compressed-tensors stores the divisor 2688/amax
/// rounded to f32, and the weight is quantised with the reciprocal that readers will use. Activation
/// scales need calibration and are not written: readers quantise the input by its own amax.
///
/// # Errors
/// Those of [`super::Checkpoint::open`]; [`CheckpointError::NothingToQuantize`];
/// [`CheckpointError::Matrix`] for a weight with NaN or infinity; [`CheckpointError::Json`] when the
/// input has a quantisation config already; [`CheckpointError::Directory`] when `output` is the
/// input, of the wrong kind, or has tensors of another checkpoint; [`CheckpointError::Write`].
pub fn quantize_file(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    options: &QuantizeOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<QuantizeReport> {
    let (input, output) = (input.as_ref(), output.as_ref());
    let layout = Layout::find(input)?;
    let config = unquantised_config(layout.directory())?;
    let to_file = output.extension() == Some(OsStr::new("safetensors"));
    let names: BTreeSet<PathBuf> = match &layout {
        Layout::Single(file) => [file.clone()].into(),
        Layout::Sharded { weight_map, .. } => {
            weight_map.values().map(|shard| layout.directory().join(shard)).collect()
        }
    };
    let files = names.iter().map(SafetensorsFile::open).collect::<Result<Vec<_>>>()?;
    check_output(&layout, output, to_file)?;
    if !to_file {
        check_leftovers(&layout, output, &names)?;
    }
    let all: Vec<Tensor<'_>> = files.iter().flat_map(SafetensorsFile::tensors).collect();
    let mut job = Job { options, progress, report: QuantizeReport::default(), total: 0 };
    job.total = all.iter().map(|t| t.byte_len() as u64).sum();
    if !all.iter().any(|t| job.plan(t) == Plan::Quantize) {
        return Err(job.nothing(input, all.iter().map(|t| t.name())));
    }

    let mut weight_map = BTreeMap::new();
    let mut ignored = BTreeSet::new();
    if !to_file {
        std::fs::create_dir_all(output).map_err(|e| io(output, e))?;
    }
    for file in &files {
        let name = file.path().file_name().unwrap_or_default();
        let target = if to_file { output.to_owned() } else { output.join(name) };
        for tensor in job.file(file, &target, &mut ignored)? {
            weight_map.insert(tensor, name.to_string_lossy().into_owned());
        }
    }
    if !to_file {
        if matches!(layout, Layout::Sharded { .. }) {
            let metadata = json!({ "total_size": job.report.bytes_out });
            let index = json!({ "metadata": metadata, "weight_map": weight_map });
            job.json(&output.join(INDEX), &index)?;
        }
        job.sidecars(output, config, &ignored)?;
    }
    (job.progress)(Progress { tensor: "", done: job.total, total: job.total });
    job.report.bytes_in = job.total;
    Ok(job.report)
}

/// What becomes of a tensor.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Quantize,
    Copy,
    /// Copy, although its name was asked for.
    Unsuitable(String),
}

struct Job<'a> {
    options: &'a QuantizeOptions,
    progress: &'a mut dyn FnMut(Progress<'_>),
    report: QuantizeReport,
    total: u64,
}

impl Job<'_> {
    fn plan(&self, tensor: &Tensor<'_>) -> Plan {
        let asked = self.options.suffixes.iter().any(|s| tensor.name().ends_with(s.as_str()));
        if !asked {
            return Plan::Copy;
        }
        let float = matches!(tensor.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16);
        match *tensor.shape() {
            _ if !tensor.name().ends_with(".weight") => {
                Plan::Unsuitable("its name does not end in .weight".to_owned())
            }
            _ if !float => Plan::Unsuitable(format!("it is {}", tensor.dtype())),
            [n, k] if n > 0 && k > 0 && k.is_multiple_of(BLOCK) => Plan::Quantize,
            [_, k] => Plan::Unsuitable(format!("K = {k} is not a multiple of {BLOCK}")),
            ref shape => Plan::Unsuitable(format!("its shape is {shape:?}")),
        }
    }

    /// Writes one file; returns the names of its tensors.
    fn file(
        &mut self,
        file: &SafetensorsFile,
        target: &Path,
        ignored: &mut BTreeSet<String>,
    ) -> Result<Vec<String>> {
        let convention = self.options.convention;
        let mut declared = Vec::new();
        for tensor in file.tensors() {
            let shape = tensor.shape();
            match (self.plan(&tensor), shape) {
                (Plan::Quantize, &[n, k]) => {
                    declared.extend(weights::declare(module(tensor.name()), n, k, convention));
                }
                _ => declared.push(Declared::new(tensor.name(), tensor.dtype(), shape)),
            }
        }
        let names = declared.iter().map(|d| d.name.clone()).collect();
        let mut writer = Writer::create(target, declared, &weights::pytorch(file.metadata()))?;
        for tensor in file.tensors() {
            let done = self.report.bytes_in;
            (self.progress)(Progress { tensor: tensor.name(), done, total: self.total });
            self.report.bytes_in += tensor.byte_len() as u64;
            match self.plan(&tensor) {
                Plan::Quantize => self.weight(&mut writer, target, &tensor)?,
                plan => {
                    writer.write(tensor.name(), &tensor.data()?)?;
                    self.report.copied += 1;
                    self.report.bytes_out += tensor.byte_len() as u64;
                    if let Plan::Unsuitable(reason) = plan {
                        self.report.unsuitable.push((tensor.name().to_owned(), reason));
                    }
                    if tensor.shape().len() == 2 && tensor.name().ends_with(".weight") {
                        ignored.insert(module(tensor.name()).to_owned());
                    }
                }
            }
        }
        writer.finish()?;
        self.report.files.push(target.to_owned());
        Ok(names)
    }

    fn weight(&mut self, writer: &mut Writer, path: &Path, tensor: &Tensor<'_>) -> Result<()> {
        let convention = self.options.convention;
        let matrix = match tensor.dtype() {
            Dtype::F16 => quantize_tensor::<f16>(tensor, convention),
            Dtype::BF16 => quantize_tensor::<bf16>(tensor, convention),
            _ => quantize_tensor::<f32>(tensor, convention),
        }?;
        let weight =
            Weight { module: module(tensor.name()), matrix: matrix.view(), input_global: None };
        weights::write(writer, path, &weight, convention)?;
        self.report.bytes_out += (matrix.codes().len() + matrix.scales().len() + 4) as u64;
        self.report.quantized.push(Quantized {
            tensor: tensor.name().to_owned(),
            rows: matrix.rows(),
            cols: matrix.cols(),
            global_scale: matrix.global_scale(),
        });
        Ok(())
    }

    /// `hf_quant_config.json` as ModelOpt's export writes it, and `quantization_config` in
    /// `config.json`.
    fn sidecars(
        &mut self,
        directory: &Path,
        config: Option<Value>,
        ignored: &BTreeSet<String>,
    ) -> Result<()> {
        let producer =
            json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") });
        let args = |dynamic: bool| {
            json!({
                "num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": BLOCK,
                "symmetric": true, "dynamic": dynamic,
            })
        };
        // There are no calibrated input scales, which is what `dynamic` says.
        let group = json!({ "targets": ["Linear"], "weights": args(false), "input_activations": args(true) });
        let mut quantization = json!({ "config_groups": { "group_0": group }, "ignore": ignored });
        match self.options.convention {
            Convention::ModelOpt => {
                let own = json!({
                    "producer": producer,
                    "quantization": {
                        "quant_algo": "NVFP4", "kv_cache_quant_algo": null, "group_size": BLOCK,
                        "exclude_modules": ignored,
                    },
                });
                self.json(&directory.join("hf_quant_config.json"), &own)?;
                quantization["quant_method"] = json!("modelopt");
                quantization["quant_algo"] = json!("NVFP4");
                quantization["producer"] = producer;
            }
            Convention::CompressedTensors => {
                quantization["quant_method"] = json!("compressed-tensors");
                quantization["format"] = json!("nvfp4-pack-quantized");
                quantization["quantization_status"] = json!("compressed");
            }
        }
        let mut config = config.unwrap_or_else(|| json!({}));
        config["quantization_config"] = quantization;
        self.json(&directory.join("config.json"), &config)
    }

    fn json(&mut self, path: &Path, value: &Value) -> Result<()> {
        let mut file = temporary_beside(path)?;
        writeln!(file, "{value:#}").map_err(|e| io(path, e))?;
        file.persist(path).map_err(|e| io(path, e.error))?;
        self.report.files.push(path.to_owned());
        Ok(())
    }

    fn nothing<'t>(&self, input: &Path, names: impl Iterator<Item = &'t str>) -> crate::Error {
        let suffixes = &self.options.suffixes;
        let near = near(suffixes.first().map_or("", String::as_str), names);
        let (path, suffixes) = (input.to_owned(), suffixes.join(" or "));
        CheckpointError::NothingToQuantize { path, suffixes, near }.into()
    }
}

/// The name of a weight without `.weight`.
fn module(name: &str) -> &str {
    name.strip_suffix(".weight").unwrap_or(name)
}

fn quantize_tensor<T: Element>(tensor: &Tensor<'_>, convention: Convention) -> Result<Nvfp4Matrix> {
    let values = tensor.values::<T>()?;
    let &[rows, cols] = tensor.shape() else {
        return Err(tensor.wrong_shape("[N, K]"));
    };
    let matrix = quantize::global_scale(&values, rows, cols).and_then(|multiplier| {
        let global = match convention {
            Convention::ModelOpt => multiplier,
            Convention::CompressedTensors => 1.0 / divisor(&values),
        };
        Nvfp4Matrix::quantize_with_global(&values, 1, rows, cols, global)
    });
    matrix.map_err(|e| tensor.fault(e.with_operand(Operand::Matrix)))
}

/// `2688 / amax`, or 1 where that is not finite: `generate_gparam` of compressed-tensors.
fn divisor<T: Element>(values: &[T]) -> f32 {
    let amax = values.iter().fold(0.0f32, |m, v| m.max(v.to_f32().abs()));
    let divisor = e2m1::MAX * ue4m3::MAX / amax;
    if divisor.is_finite() { divisor } else { 1.0 }
}

/// `config.json` of the input, which must not be quantised already.
fn unquantised_config(directory: &Path) -> Result<Option<Value>> {
    let fault =
        |path: PathBuf, reason: &str| CheckpointError::Json { path, reason: reason.to_owned() };
    let own = directory.join("hf_quant_config.json");
    if own.exists() {
        return Err(fault(own, "says that the checkpoint is quantised already").into());
    }
    let path = directory.join("config.json");
    if !path.exists() {
        return Ok(None);
    }
    let config = read_json(&path)?;
    match config.get("quantization_config").filter(|q| !q.is_null()) {
        Some(_) => Err(fault(path, "has a quantization_config already").into()),
        None => Ok(Some(config)),
    }
}

/// Refuses to write over the input, or a sharded checkpoint to one file.
fn check_output(layout: &Layout, output: &Path, to_file: bool) -> Result<()> {
    let fault = |reason: &str| CheckpointError::Directory {
        path: output.to_owned(),
        reason: reason.to_owned(),
    };
    let input = match layout {
        Layout::Single(file) if to_file => file.as_path(),
        Layout::Sharded { .. } if to_file => {
            return Err(fault("is a file, and the input is sharded: name a directory").into());
        }
        _ => layout.directory(),
    };
    let same = |a: &Path, b: &Path| matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
    if same(input, output) {
        return Err(fault("is the input itself").into());
    }
    Ok(())
}

/// Refuses a directory with tensors of another checkpoint: readers would mix them up with the result.
fn check_leftovers(layout: &Layout, output: &Path, inputs: &BTreeSet<PathBuf>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(output) else { return Ok(()) };
    let indexed = matches!(layout, Layout::Sharded { .. });
    for entry in entries {
        let name = entry.map_err(|e| io(output, e))?.file_name();
        let tensors = Path::new(&name).extension() == Some(OsStr::new("safetensors"));
        let replaced = inputs.iter().any(|input| input.file_name() == Some(&name));
        if (tensors && !replaced) || (name == INDEX && !indexed) {
            let reason = format!("has {} of another checkpoint", name.to_string_lossy());
            return Err(CheckpointError::Directory { path: output.to_owned(), reason }.into());
        }
    }
    Ok(())
}
