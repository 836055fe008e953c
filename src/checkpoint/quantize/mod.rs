//! Quantizing the weights of a safetensors checkpoint.

mod calibration;
mod declare;
mod folder;
mod fused;
mod select;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::{Value, json};

pub use calibration::Calibration;

use self::declare::{Config, Ignored, Scheme, module};
use self::folder::Folder;
use self::select::{Plan, Selection};
use super::CheckpointError;
use super::convention::Convention;
use super::file::{SafetensorsFile, Tensor, io, near};
use super::header::byte_len;
use super::open::{INDEX, Layout};
use super::quantization::OWN;
use super::replace::write_file;
use super::weights::{self, Globals};
use super::writer::{Declared, Writer};
use crate::dtype::Element;
use crate::error::{Operand, Result};
use crate::format::{e2m1, quantize, ue4m3};
use crate::matrix::Nvfp4Matrix;
use crate::{bf16, f16};

/// What [`quantize_file`] does.
///
/// A pattern matches a tensor when it matches a run of whole parts of its name, between the dots; `*`
/// stands for any characters. `up_proj` and `mlp.up_proj.weight` match `model.layers.0.mlp.up_proj.weight`,
/// and so do `layers.*.up_proj` and `*proj`, but `proj` does not.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct QuantizeOptions {
    /// Names and scales of the result.
    pub convention: Convention,
    /// Patterns of the tensors to quantize; by default the gate, up and down projections, separate or fused,
    /// under the names that [`super::Checkpoint::layer`] reads. Down projections are then left alone where there
    /// is a calibration without samples of any of their inputs.
    pub include: Vec<String>,
    /// Patterns of tensors that are left alone even so.
    pub exclude: Vec<String>,
    /// Quantize what `include` names wherever it is. Otherwise vision and audio parts, projectors,
    /// layers of multi-token prediction, embeddings, output heads and routers are left alone.
    pub all_parts: bool,
    /// Give each weight the global scale of its own largest value. Otherwise weights that engines fuse
    /// (gate and up; q, k and v) share the larger one: vLLM uses one of the stored scales for all.
    pub separate_globals: bool,
    /// Inputs of the layers. Without them no input scale is written, and the result is declared
    /// weight-only (W4A16): activations stay in 16 bits.
    pub calibration: Option<Calibration>,
}

impl Default for QuantizeOptions {
    /// ModelOpt; the gate, up and down projections of text layers, one global scale for gate and up, no
    /// calibration.
    fn default() -> Self {
        QuantizeOptions {
            convention: Convention::default(),
            include: select::MLP.map(str::to_owned).to_vec(),
            exclude: Vec::new(),
            all_parts: false,
            separate_globals: false,
            calibration: None,
        }
    }
}

impl QuantizeOptions {
    /// The default for a convention.
    pub fn new(convention: Convention) -> Self {
        QuantizeOptions { convention, ..Default::default() }
    }

    /// With the inputs of the layers, whose scales are then written.
    #[must_use]
    pub fn with_calibration(mut self, calibration: Calibration) -> Self {
        self.calibration = Some(calibration);
        self
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

/// A weight that was quantized.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Quantized {
    /// Its name in the input.
    pub tensor: String,
    /// N.
    pub rows: usize,
    /// K.
    pub cols: usize,
    /// The multiplier that a reader of the result gets.
    pub global_scale: f32,
    /// The multiplier that a reader gets for the input, where it is calibrated.
    pub input_global_scale: Option<f32>,
}

/// What [`quantize_file`] did.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct QuantizeReport {
    /// What the result is declared to be, in the convention's terms: `NVFP4`, or weight-only
    /// `W4A16_NVFP4` (ModelOpt) and `NVFP4A16` (compressed-tensors).
    pub scheme: String,
    /// Files written.
    pub files: Vec<PathBuf>,
    /// Weights that were quantized.
    pub quantized: Vec<Quantized>,
    /// Tensors copied as they are.
    pub copied: usize,
    /// Tensors among the copied whose name was asked for, and why they are left alone.
    pub left_alone: Vec<(String, String)>,
    /// Tensors among the copied whose name was asked for, and why they cannot be quantized.
    pub unsuitable: Vec<(String, String)>,
    /// Other files of the input's directory that were copied.
    pub companions: Vec<PathBuf>,
    /// Other files of the input's directory that were not copied, and why.
    pub left_behind: Vec<(PathBuf, String)>,
    /// What engines will make of the choice of weights, where that may surprise.
    pub notes: Vec<String>,
    /// Bytes of tensors in the input.
    pub bytes_in: u64,
    /// Bytes of tensors in the result.
    pub bytes_out: u64,
}

/// Quantizes the weights of a checkpoint and copies its other tensors.
///
/// `input` is anything that [`super::Checkpoint::open`] takes. With a single file, `output` is either
/// a name ending in `.safetensors`, and then only that file is written, or a directory; with a sharded
/// one it is a directory. A file has no configuration, and says in its `__metadata__` what it is, under
/// `nvfp4_quantize`: [`super::Checkpoint`] reads that. A directory gets the same file names, the index, `config.json` with a
/// `quantization_config`, for ModelOpt `hf_quant_config.json`, and a record `nvfp4_quantize.json`.
/// Where `input` is a directory or an index, all other files of its directory but weights of other
/// formats are copied, those of directories in it too. One tensor at a time is in memory.
///
/// A directory is written under a temporary name and takes its place when it is complete and on the
/// disk: an earlier result, told by its record, is replaced whole or not at all. A directory with
/// anything else in it is refused. What cannot be renamed (a mount point) has to be empty.
///
/// The global scale of a weight is amax/2688; compressed-tensors stores the divisor 2688/amax rounded
/// to f32, and the weight is quantized with the reciprocal that readers will use. That of an input is
/// made in the same way of the [`Calibration`]. Without one the configuration says that activations
/// are not quantized: engines read a scale that is declared, and a missing one is whatever their
/// memory held.
///
/// # Errors
/// Those of [`super::Checkpoint::open`]; [`CheckpointError::NothingToQuantize`];
/// [`CheckpointError::Matrix`] for a weight with NaN or infinity; [`CheckpointError::Dtype`] for one in
/// FP8, or another that is quantized already; [`CheckpointError::Calibration`] for a layer without samples of its input;
/// [`CheckpointError::Json`] when the input has a quantization config already;
/// [`CheckpointError::Directory`] when `output` is the input, of the wrong kind, or has other files;
/// [`CheckpointError::Write`].
pub fn quantize_file(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    options: &QuantizeOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<QuantizeReport> {
    let (input, output) = (input.as_ref(), output.as_ref());
    let layout = Layout::find(input)?;
    let config = Config::unquantized(layout.directory())?;
    let to_file = output.extension() == Some(OsStr::new("safetensors")) && !output.is_dir();
    let names: BTreeSet<PathBuf> = match &layout {
        Layout::Single(file) => [file.clone()].into(),
        Layout::Sharded { weight_map, .. } => {
            weight_map.values().map(|shard| layout.directory().join(shard)).collect()
        }
    };
    let files = names.iter().map(SafetensorsFile::open).collect::<Result<Vec<_>>>()?;
    declare::refuse_own(&files)?;
    check_output(&layout, output, to_file)?;
    let tensors: BTreeMap<&str, Tensor<'_>> =
        files.iter().flat_map(SafetensorsFile::tensors).map(|t| (t.name(), t)).collect();
    let selection = Selection::new(options, config.as_ref().map(|c| &c.json));
    let plan = |t: &Tensor<'_>| selection.plan(t, |name| tensors.contains_key(name));
    let mut plans =
        tensors.iter().map(|(&n, t)| Ok((n, plan(t)?))).collect::<Result<BTreeMap<_, _>>>()?;
    let without_samples = options
        .calibration
        .as_ref()
        .and_then(|calibration| leave_without_samples(&mut plans, &selection, calibration));
    let weights: Vec<(&str, usize)> = plans
        .iter()
        .filter_map(|(name, plan)| match plan {
            Plan::Quantize { k, .. } => Some((module(name), *k)),
            _ => None,
        })
        .collect();
    if weights.is_empty() {
        return Err(nothing(input, options, &plans));
    }
    let (inputs, borrowed) = match &options.calibration {
        Some(calibration) => {
            let (inputs, borrowed) = calibration.resolve(&weights)?;
            (Some(inputs), borrowed)
        }
        None => (None, Vec::new()),
    };
    let borrowed = borrowed.first().map(|first| {
        let count = borrowed.len();
        format!(
            "no token of the samples reached {count} of the modules, such as {first}: the largest input \
             of the layer's other experts gave their input scale"
        )
    });
    let total = files.iter().flat_map(SafetensorsFile::tensors).map(|t| t.byte_len() as u64).sum();
    let scheme =
        Scheme { convention: options.convention, calibrated: options.calibration.is_some() };
    let quantized = weights.iter().map(|(module, _)| *module).collect();
    let mut ignored = Ignored::default();
    for tensor in tensors.values() {
        if !matches!(plans.get(tensor.name()), Some(Plan::Quantize { .. })) {
            ignored.add(tensor, selection.tower(tensor.name()));
        }
    }
    let ignored = ignored.list(scheme.convention, &quantized);
    let mut job = Job {
        options,
        progress,
        plans,
        inputs,
        of_samples: borrowed.into_iter().chain(without_samples).collect(),
        shared: BTreeMap::new(),
        own: None,
        report: QuantizeReport { scheme: scheme.name().to_owned(), ..Default::default() },
        total,
        tensors,
    };
    if to_file {
        job.own = Some(scheme.config(&ignored).to_string());
        for file in &files {
            job.file(file, output)?;
        }
        job.report.files.push(output.to_owned());
        job.note(&BTreeSet::new());
    } else {
        let companions = match input.extension().and_then(OsStr::to_str) {
            _ if input.is_dir() => true,
            extension => extension == Some("json"),
        };
        job.directory(&layout, &files, config, output, companions, (scheme, &ignored))?;
    }
    (job.progress)(Progress { tensor: "", done: job.total, total: job.total });
    job.report.bytes_in = job.total;
    Ok(job.report)
}

struct Job<'a> {
    options: &'a QuantizeOptions,
    progress: &'a mut dyn FnMut(Progress<'_>),
    tensors: BTreeMap<&'a str, Tensor<'a>>,
    plans: BTreeMap<&'a str, Plan>,
    /// Largest magnitudes of inputs, by module, where there is calibration.
    inputs: Option<BTreeMap<&'a str, f32>>,
    /// Notes about modules without samples.
    of_samples: Vec<String>,
    /// Largest magnitudes that weights share, by module.
    shared: BTreeMap<String, f32>,
    /// What a single file says of itself.
    own: Option<String>,
    report: QuantizeReport,
    total: u64,
}

impl Job<'_> {
    fn directory(
        &mut self,
        layout: &Layout,
        files: &[SafetensorsFile],
        config: Option<Config>,
        output: &Path,
        companions: bool,
        (scheme, ignored): (Scheme, &BTreeSet<String>),
    ) -> Result<()> {
        let folder = Folder::create(output)?;
        let stage = folder.path();
        let mut weight_map = BTreeMap::new();
        for file in files {
            let name = file.path().file_name().unwrap_or_default();
            for tensor in self.file(file, &stage.join(name))? {
                weight_map.insert(tensor, name.to_string_lossy().into_owned());
            }
            self.report.files.push(output.join(name));
        }
        self.note(ignored);
        let mut write = |name: &str, text: String| {
            self.report.files.push(output.join(name));
            write_file(stage.join(name), text)
        };
        if matches!(layout, Layout::Sharded { .. }) {
            let metadata = json!({ "total_size": self.report.bytes_out });
            write(INDEX, pretty(&json!({ "metadata": metadata, "weight_map": weight_map })))?;
        }
        if let Some(own) = scheme.own(ignored) {
            write(declare::MODELOPT, pretty(&own))?;
        }
        let quantization = scheme.config(ignored);
        write(
            "config.json",
            match config {
                Some(config) => config.with(&quantization),
                None => pretty(&json!({ "quantization_config": quantization })),
            },
        )?;
        if companions {
            let skip = folder.own();
            let (copied, left) = folder::copy_companions(layout.directory(), stage, &skip)?;
            self.report.files.extend(copied.iter().map(|name| output.join(name)));
            (self.report.companions, self.report.left_behind) = (copied, left);
        }
        let QuantizeOptions { include, exclude, all_parts, separate_globals, .. } = self.options;
        let about = json!({
            "producer": declare::producer(), "convention": scheme.convention.to_string(),
            "scheme": scheme.name(), "include": include, "exclude": exclude, "all_parts": all_parts,
            "separate_globals": separate_globals,
        });
        write_file(stage.join(folder::RECORD), pretty(&folder::record(stage, about)?))?;
        self.report.files.push(output.join(folder::RECORD));
        folder.finish()
    }

    /// Writes one file; returns the names of its tensors.
    fn file(&mut self, file: &SafetensorsFile, target: &Path) -> Result<Vec<String>> {
        let convention = self.options.convention;
        let mut declared = Vec::new();
        for tensor in file.tensors() {
            match self.plans.get(tensor.name()) {
                Some(&Plan::Quantize { n, k }) => {
                    let input = self.inputs.is_some();
                    declared.extend(weights::declare(
                        module(tensor.name()),
                        n,
                        k,
                        convention,
                        input,
                    ));
                }
                _ => declared.push(Declared::new(tensor.name(), tensor.dtype(), tensor.shape())),
            }
        }
        let bytes = declared.iter().filter_map(|d| byte_len(d.dtype, &d.shape));
        self.report.bytes_out += bytes.map(|n| n as u64).sum::<u64>();
        let names = declared.iter().map(|d| d.name.clone()).collect();
        let mut metadata = weights::pytorch(file.metadata());
        metadata.extend(self.own.iter().map(|own| (OWN.to_owned(), own.clone())));
        let mut writer = Writer::create(target, declared, &metadata)?;
        for tensor in file.tensors() {
            let done = self.report.bytes_in;
            (self.progress)(Progress { tensor: tensor.name(), done, total: self.total });
            self.report.bytes_in += tensor.byte_len() as u64;
            let plan = self.plans.get(tensor.name()).cloned().unwrap_or(Plan::Copy);
            if let Plan::Quantize { .. } = plan {
                match tensor.dtype() {
                    Dtype::F16 => self.weight::<f16>(&mut writer, &tensor)?,
                    Dtype::BF16 => self.weight::<bf16>(&mut writer, &tensor)?,
                    _ => self.weight::<f32>(&mut writer, &tensor)?,
                }
                continue;
            }
            writer.write(tensor.name(), &tensor.data()?)?;
            self.report.copied += 1;
            let name = tensor.name().to_owned();
            match plan {
                Plan::LeftAlone(reason) => self.report.left_alone.push((name, reason)),
                Plan::Unsuitable(reason) => self.report.unsuitable.push((name, reason)),
                Plan::Quantize { .. } | Plan::Copy => {}
            }
        }
        writer.finish()?;
        Ok(names)
    }

    fn weight<T: Element>(&mut self, writer: &mut Writer, tensor: &Tensor<'_>) -> Result<()> {
        let values = tensor.values::<T>()?;
        let &[rows, cols] = tensor.shape() else {
            return Err(tensor.wrong_shape("[N, K]"));
        };
        let own = amax(tensor, &values, rows, cols)?;
        let group = match self.options.separate_globals {
            true => Vec::new(),
            false => fused::group(module(tensor.name())),
        };
        let amax = self.shared_amax(own, module(tensor.name()), &group)?;
        let convention = self.options.convention;
        let globals = Globals {
            weight: global(amax, convention),
            input: self
                .input_amax(module(tensor.name()), &group)
                .map(|amax| global(amax, convention)),
        };
        let multiplier = convention.multiplier(globals.weight);
        let matrix = Nvfp4Matrix::quantize_with_global(&values, 1, rows, cols, multiplier)
            .map_err(|e| tensor.fault(e.with_operand(Operand::Matrix)))?;
        weights::write(writer, module(tensor.name()), matrix.view(), globals, convention)?;
        self.report.quantized.push(Quantized {
            tensor: tensor.name().to_owned(),
            rows,
            cols,
            global_scale: multiplier,
            input_global_scale: globals.input.map(|stored| convention.multiplier(stored)),
        });
        Ok(())
    }

    /// The largest magnitude among a weight and those of its group that are quantized.
    fn shared_amax(&mut self, own: f32, module: &str, group: &[String]) -> Result<f32> {
        if let Some(&amax) = self.shared.get(module) {
            return Ok(amax);
        }
        let mut largest = own;
        let mut members = Vec::new();
        for member in group.iter().filter(|member| *member != module) {
            let name = format!("{member}.weight");
            let quantized = matches!(self.plans.get(&*name), Some(Plan::Quantize { .. }));
            let Some(tensor) = self.tensors.get(&*name).filter(|_| quantized) else { continue };
            let &[rows, cols] = tensor.shape() else { continue };
            let amax = match tensor.dtype() {
                Dtype::F16 => amax(tensor, &tensor.values::<f16>()?, rows, cols),
                Dtype::BF16 => amax(tensor, &tensor.values::<bf16>()?, rows, cols),
                _ => amax(tensor, &tensor.values::<f32>()?, rows, cols),
            }?;
            largest = largest.max(amax);
            members.push(member.clone());
        }
        self.shared.extend(members.into_iter().map(|member| (member, largest)));
        Ok(largest)
    }

    /// The largest magnitude of the input of a weight and those of its group.
    fn input_amax(&self, module: &str, group: &[String]) -> Option<f32> {
        let inputs = self.inputs.as_ref()?;
        let all = group.iter().map(String::as_str).chain([module]);
        all.filter_map(|m| inputs.get(m).copied()).reduce(f32::max)
    }

    fn note(&mut self, ignored: &BTreeSet<String>) {
        let quantized = self.report.quantized.iter().map(|q| module(&q.tensor)).collect();
        let exists = |name: &str| self.tensors.contains_key(name);
        self.report.notes = declare::notes(self.options.convention, &quantized, exists, ignored);
        self.report.notes.append(&mut self.of_samples);
    }
}

/// Leaves down projections alone that nobody named, where there are samples of no input of theirs; a note about
/// it.
fn leave_without_samples(
    plans: &mut BTreeMap<&str, Plan>,
    selection: &Selection<'_>,
    calibration: &Calibration,
) -> Option<String> {
    let is_optional = |name: &str, plan: &Plan| {
        matches!(plan, Plan::Quantize { .. }) && selection.is_optional(name)
    };
    let down: Vec<&str> = plans
        .iter()
        .filter(|(name, plan)| is_optional(name, plan))
        .map(|(name, _)| *name)
        .collect();
    if down.iter().any(|name| calibration.knows(module(name))) {
        return None;
    }
    for name in &down {
        plans.insert(name, Plan::LeftAlone("there are no samples of its input".to_owned()));
    }
    let first = module(down.first()?);
    let more = match down.len() {
        1 => String::new(),
        n => format!(" (and so for {} more)", n - 1),
    };
    Some(format!(
        "{first} is not quantized{more}: there are no samples of its input, which {first}.input would be"
    ))
}

/// The largest magnitude of a weight, which must be finite.
fn amax<T: Element>(tensor: &Tensor<'_>, values: &[T], rows: usize, cols: usize) -> Result<f32> {
    quantize::global_scale(values, rows, cols)
        .map_err(|e| tensor.fault(e.with_operand(Operand::Matrix)))?;
    Ok(quantize::amax(values))
}

/// The global scale to store for a largest magnitude.
fn global(amax: f32, convention: Convention) -> f32 {
    match convention {
        Convention::ModelOpt => quantize::global_of_amax(amax),
        // 1 where it is not finite: `generate_gparam` of compressed-tensors.
        Convention::CompressedTensors => {
            let divisor = e2m1::MAX * ue4m3::MAX / amax;
            if divisor.is_finite() { divisor } else { 1.0 }
        }
    }
}

fn pretty(json: &Value) -> String {
    format!("{json:#}\n")
}

fn nothing(input: &Path, options: &QuantizeOptions, plans: &BTreeMap<&str, Plan>) -> crate::Error {
    let include = &options.include;
    let asked = plans.iter().find_map(|(name, plan)| match plan {
        Plan::LeftAlone(reason) => Some(format!(" and is not left alone ({name}: {reason})")),
        Plan::Unsuitable(reason) => Some(format!(" ({name}: {reason})")),
        Plan::Quantize { .. } | Plan::Copy => None,
    });
    let near = near(include.first().map_or("", String::as_str), plans.keys().copied());
    let (path, patterns, why) = (input.to_owned(), include.join(" or "), asked.unwrap_or_default());
    CheckpointError::NothingToQuantize { path, patterns, why, near }.into()
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
    // An earlier result is replaced whole.
    let below = |a: &Path, b: &Path| matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a.starts_with(&b));
    if !to_file && below(layout.directory(), output) {
        return Err(fault("holds the input").into());
    }
    Ok(())
}
