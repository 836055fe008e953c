//! The gate and up projections of one MLP layer.

use safetensors::Dtype;

use super::convention::Convention;
use super::file::{Tensor, near};
use super::input_scale::BadInputScale;
use super::open::Checkpoint;
use super::scheme;
use super::tensors::matrix_of;
use super::{CheckpointError, sidecar::Refusal};
use crate::error::{Error, Operand, Result};
use crate::format::BLOCK;
use crate::gate::Gate;
use crate::matrix::Nvfp4View;

/// Names of separate projections, gate first: Llama and most others, then Mixtral.
const PAIRS: [[&str; 2]; 2] = [["gate_proj", "up_proj"], ["w1", "w3"]];

/// Name of one weight that holds the rows of both, gate first.
const FUSED: &str = "gate_up_proj";

/// Gate and up weights of one layer, borrowed from the file.
///
/// The two global scales stay apart: they differ in most checkpoints, and merging them changes the
/// ratio of gate and up. A fused weight has one, which then stands in both.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct MlpLayer<'a> {
    /// Gate projection B1, \[N, K\].
    pub gate: Nvfp4View<'a>,
    /// Up projection B2, \[N, K\].
    pub up: Nvfp4View<'a>,
    /// Calibrated global scale (multiplier) of the input, as stored with the gate projection.
    pub gate_input_global: Option<f32>,
    /// Calibrated global scale (multiplier) of the input, as stored with the up projection.
    pub up_input_global: Option<f32>,
    /// How the layer was stored.
    pub convention: Convention,
    /// A stored global scale of the input that is in neither of the two: it is not finite and > 0.
    pub(super) bad_input_scale: Option<BadInputScale<'a>>,
}

impl Checkpoint {
    /// The MLP layer below `prefix`, such as `model.layers.0.mlp` or
    /// `model.layers.0.mlp.experts.7`: `gate_proj` and `up_proj` (or Mixtral's `w1` and `w3`), or a
    /// fused `gate_up_proj` of 2N rows, gate first. Tensors are named as [`Convention`] says, and may
    /// lie in different shards.
    ///
    /// Every scale byte is checked; the codes are not touched.
    ///
    /// # Errors
    /// [`CheckpointError::MissingLayer`], [`CheckpointError::MissingTensor`];
    /// [`CheckpointError::Scheme`] when the tensors or the configuration beside them are those of
    /// another format; [`CheckpointError::Dtype`], [`CheckpointError::Shape`],
    /// [`CheckpointError::Matrix`] when they are damaged.
    pub fn layer(&self, prefix: &str) -> Result<MlpLayer<'_>> {
        let prefix = prefix.strip_suffix('.').unwrap_or(prefix);
        let module = |name: &str| match prefix {
            "" => name.to_owned(),
            _ => format!("{prefix}.{name}"),
        };
        for pair in PAIRS {
            let [gate, up] = pair.map(module);
            if self.has_module(&gate) || self.has_module(&up) {
                return self.split(prefix, &gate, &up);
            }
        }
        let fused = module(FUSED);
        if self.has_module(&fused) {
            return self.fused(prefix, &fused);
        }
        Err(self.no_layer(prefix))
    }

    /// The gate that `config.json` beside the tensors asks for (`hidden_act`, or Gemma's
    /// `hidden_activation`): SiLU or GELU-tanh. `None` where nothing is said. gpt-oss says `silu` there
    /// and clamps as well: pass [`Gate::GPT_OSS`] for it.
    ///
    /// # Errors
    /// [`CheckpointError::Activation`] for any other function.
    pub fn gate(&self) -> Result<Option<Gate>> {
        match self.sidecar.activation.as_deref() {
            None => Ok(None),
            Some("silu" | "swish") => Ok(Some(Gate::Silu)),
            Some("gelu_pytorch_tanh") => Ok(Some(Gate::GeluTanh)),
            Some(other) => {
                let (path, activation) = (self.path().to_owned(), other.to_owned());
                Err(CheckpointError::Activation { path, activation }.into())
            }
        }
    }

    /// Prefixes of all MLP layers, for [`Checkpoint::layer`]; sorted by name. Whether they are NVFP4
    /// is not looked at.
    pub fn layers(&self) -> Vec<String> {
        let mut prefixes: Vec<String> = Vec::new();
        for name in self.names() {
            let Some((module, "weight" | "weight_packed")) = name.rsplit_once('.') else {
                continue;
            };
            let (prefix, last) = module.rsplit_once('.').unwrap_or(("", module));
            let known = last == FUSED || PAIRS.iter().any(|pair| pair[0] == last);
            if known && prefixes.last().is_none_or(|p| p != prefix) {
                prefixes.push(prefix.to_owned());
            }
        }
        prefixes.sort();
        prefixes.dedup();
        prefixes
    }

    fn split(&self, prefix: &str, gate: &str, up: &str) -> Result<MlpLayer<'_>> {
        self.refuse(prefix, &[gate, up])?;
        let (g, u) = (self.projection(gate)?, self.projection(up)?);
        if g.convention != u.convention {
            let layer = prefix.to_owned();
            let scheme = "a mixture of conventions".to_owned();
            let (of_gate, of_up) = (g.convention, u.convention);
            let evidence = format!("{gate} is stored as {of_gate}, {up} as {of_up}");
            let path = self.path().to_owned();
            return Err(CheckpointError::Scheme { path, layer, scheme, evidence }.into());
        }
        let gate_view = g.view(0, g.rows, Operand::B1)?;
        let up_view = u.view(0, u.rows, Operand::B2)?;
        if (up_view.rows(), up_view.cols()) != (gate_view.rows(), gate_view.cols()) {
            let (n, k) = (gate_view.rows(), gate_view.cols());
            return Err(u
                .codes
                .wrong_shape(format!("N = {n} and K = {k} as in {}", g.codes.name())));
        }
        Ok(MlpLayer {
            gate: gate_view,
            up: up_view,
            gate_input_global: g.input_global,
            up_input_global: u.input_global,
            convention: g.convention,
            bad_input_scale: g.bad_input_scale.or(u.bad_input_scale),
        })
    }

    fn fused(&self, prefix: &str, name: &str) -> Result<MlpLayer<'_>> {
        self.refuse(prefix, &[name])?;
        let both = self.projection(name)?;
        if !both.rows.is_multiple_of(2) {
            return Err(both.codes.wrong_shape("an even number of rows, gate first and then up"));
        }
        let half = both.rows / 2;
        both.view(0, both.rows, Operand::Matrix)?; // so that a bad scale is named by its row in the file
        Ok(MlpLayer {
            gate: both.view(0, half, Operand::B1)?,
            up: both.view(half, both.rows, Operand::B2)?,
            gate_input_global: both.input_global,
            up_input_global: both.input_global,
            convention: both.convention,
            bad_input_scale: both.bad_input_scale,
        })
    }

    /// Whether any tensor belongs to a module.
    fn has_module(&self, module: &str) -> bool {
        self.below(module).next().is_some()
    }

    /// Fails when the modules of a layer are recognised as another scheme.
    fn refuse(&self, prefix: &str, modules: &[&str]) -> Result<()> {
        let names: Vec<String> = modules.iter().map(|&m| m.to_owned()).collect();
        let by_config = self.sidecar.refusal(&names).cloned();
        let by_tensors = || modules.iter().find_map(|module| scheme::refusal(self, module));
        match by_config.or_else(by_tensors) {
            Some(refusal) => Err(self.refused(prefix, refusal)),
            None => Ok(()),
        }
    }

    fn refused(&self, prefix: &str, refusal: Refusal) -> Error {
        let Refusal { scheme, evidence } = refusal;
        let (path, layer) = (self.path().to_owned(), prefix.to_owned());
        CheckpointError::Scheme { path, layer, scheme, evidence }.into()
    }

    fn no_layer(&self, prefix: &str) -> Error {
        if let Some(refusal) = scheme::stacked_experts(self, prefix) {
            return self.refused(prefix, refusal);
        }
        let layers = self.layers();
        let near = match layers.is_empty() {
            true => near(prefix, self.names()),
            false => near(prefix, layers.iter().map(String::as_str)),
        };
        CheckpointError::MissingLayer {
            path: self.path().to_owned(),
            prefix: prefix.to_owned(),
            looked_for: "gate_proj and up_proj, w1 and w3, or gate_up_proj".to_owned(),
            near,
        }
        .into()
    }

    /// The tensors of one module, whose scheme has not been refused.
    fn projection(&self, module: &str) -> Result<Projection<'_>> {
        let convention = match self.get(&format!("{module}.weight_packed")) {
            Some(_) => Convention::CompressedTensors,
            None => Convention::ModelOpt,
        };
        let tensor = |name: &str| self.tensor(&format!("{module}.{name}"));
        let codes = tensor(convention.codes())?;
        let scales = tensor(convention.scales())?;
        for t in [&codes, &scales] {
            if t.shape().len() != 2 {
                return Err(t.wrong_shape("two dimensions (stacked experts are not supported)"));
            }
        }
        let global = multiplier(&tensor(convention.weight_global())?, convention)?;
        let (mut input_global, mut bad_input_scale) = (None, None);
        if let Some(t) = self.get(&format!("{module}.{}", convention.input_global())) {
            // A layer is read with a bad one: its input can be quantised with another.
            let stored = t.scalar()?;
            input_global = usable(stored, convention);
            if input_global.is_none() {
                bad_input_scale = Some(BadInputScale { path: t.path(), tensor: t.name(), stored });
            }
        }
        let rows = codes.shape()[0];
        Ok(Projection { codes, scales, global, input_global, bad_input_scale, convention, rows })
    }
}

/// A stored global scale as a multiplier, if both are finite and > 0.
fn usable(stored: f32, convention: Convention) -> Option<f32> {
    let value = convention.multiplier(stored);
    let good = |v: f32| v.is_finite() && v > 0.0;
    (good(stored) && good(value)).then_some(value)
}

/// The global scale of a weight as a multiplier.
fn multiplier(tensor: &Tensor<'_>, convention: Convention) -> Result<f32> {
    let stored = tensor.scalar()?;
    if let Some(value) = usable(stored, convention) {
        return Ok(value);
    }
    let expected = match convention {
        Convention::ModelOpt => "a finite number > 0",
        Convention::CompressedTensors => "a finite number > 0 whose reciprocal is finite in f32",
    };
    let (path, tensor) = (tensor.path().to_owned(), tensor.name().to_owned());
    Err(CheckpointError::GlobalScale { path, tensor, stored, expected }.into())
}

/// The tensors of one module.
struct Projection<'a> {
    codes: Tensor<'a>,
    scales: Tensor<'a>,
    global: f32,
    input_global: Option<f32>,
    bad_input_scale: Option<BadInputScale<'a>>,
    convention: Convention,
    rows: usize,
}

impl<'a> Projection<'a> {
    /// Rows `from..to`.
    fn view(&self, from: usize, to: usize, operand: Operand) -> Result<Nvfp4View<'a>> {
        let named = |e: Error| match e {
            Error::Checkpoint(_) => e,
            Error::ScaleByte { .. } => self.scales.fault(e.with_operand(operand)),
            _ => self.codes.fault(e.with_operand(operand)),
        };
        if from == 0 && to == self.rows {
            return matrix_of(&self.codes, &self.scales, self.global).map_err(named);
        }
        let cols = match self.codes.dtype() {
            Dtype::F4 => self.codes.shape()[1],
            _ => self.codes.shape()[1] * 2,
        };
        // In range: the whole was a valid matrix of `self.rows` rows.
        let (codes, scales) = (cols / 2, cols / BLOCK);
        let codes = &self.codes.data()[from * codes..to * codes];
        let scales = &self.scales.data()[from * scales..to * scales];
        Nvfp4View::new(1, to - from, cols, codes, scales, self.global).map_err(named)
    }
}
