//! The tensors of one projection of a layer.

use bytes::Bytes;
use safetensors::Dtype;

use super::CheckpointError;
use super::convention::Convention;
use super::file::Tensor;
use super::open::Checkpoint;
use super::tensors::dimensions;
use crate::error::{Error, Operand, Result};
use crate::format::BLOCK;
use crate::matrix::Nvfp4Matrix;
use crate::op::UnusableScale;

/// Full names of the tensors of one projection, and what they mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    pub codes: String,
    pub scales: String,
    pub weight_global: String,
    pub input_global: String,
    /// Under which of these names a bias is stored, if there is one.
    pub biases: Vec<String>,
    pub convention: Convention,
}

impl Names {
    /// Whether one of these is the name.
    pub fn has(&self, name: &str) -> bool {
        [&self.codes, &self.scales, &self.weight_global, &self.input_global]
            .into_iter()
            .chain(&self.biases)
            .any(|own| own == name)
    }
}

/// What of these tensors belongs to the projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Which one of a stack \[E, N, K\], if they are that.
    pub expert: Option<usize>,
    /// Whether the rows are those of gate and up, which may have global scales of their own.
    pub fused: bool,
}

/// One projection \[N, K\], or a fused one \[2N, K\], in private memory; its numbers are not checked yet.
pub(super) struct Projection<'a> {
    pub codes: Tensor<'a>,
    scales: Tensor<'a>,
    code_bytes: Bytes,
    scale_bytes: Bytes,
    part: Part,
    pub rows: usize,
    cols: usize,
    /// Multipliers of gate and up; the same twice unless the projection is fused and has two.
    global: [f32; 2],
    pub input_global: [Option<f32>; 2],
    pub unusable_scale: Option<UnusableScale>,
    /// One number for each row, finite.
    pub bias: Option<Vec<f32>>,
    pub convention: Convention,
}

impl Checkpoint {
    /// Names of the tensors of a module.
    pub(super) fn names_of(&self, module: &str) -> Names {
        let convention = match self.get(&format!("{module}.weight_packed")) {
            Some(_) => Convention::CompressedTensors,
            None => Convention::ModelOpt,
        };
        let name = |last: &str| format!("{module}.{last}");
        Names {
            codes: name(convention.codes()),
            scales: name(convention.scales()),
            weight_global: name(convention.weight_global()),
            input_global: name(convention.input_global()),
            biases: vec![name("bias")],
            convention,
        }
    }

    /// Reads a projection whose scheme has not been refused.
    pub(super) fn projection(&self, names: &Names, part: Part) -> Result<Projection<'_>> {
        let convention = names.convention;
        let codes = self.tensor(&names.codes)?;
        let scales = self.tensor(&names.scales)?;
        let (dims, expected) = match part.expert {
            Some(_) => (3, "three dimensions, a stack of experts"),
            None => (2, "two dimensions (of a stack of experts name one, as in PREFIX.0)"),
        };
        for t in [&codes, &scales] {
            if t.shape().len() != dims {
                return Err(t.wrong_shape(expected));
            }
        }
        let [experts, rows, cols] = dimensions(&codes, &scales)?;
        let expert = part.expert.unwrap_or(0);
        if part.expert.is_some_and(|expert| expert >= experts) {
            return Err(codes.wrong_shape(format!("more than {expert} experts")));
        }
        let stack = part.expert.map(|expert| (expert, experts));
        let stored = self.tensor(&names.weight_global)?;
        let global = stored_globals(&stored, stack, part.fused)?
            .map(|value| multiplier(&stored, value, convention));
        let global = match global {
            [Ok(gate), Ok(up)] => [gate, up],
            [Err(e), _] | [_, Err(e)] => return Err(e),
        };
        let (mut input_global, mut unusable_scale) = ([None; 2], None);
        if let Some(t) = self.get(&names.input_global) {
            // A layer is read with a bad one: its input can be quantized with another.
            let stored = stored_globals(&t, stack, part.fused)?;
            input_global = stored.map(|value| usable(value, convention));
            let bad = stored.into_iter().find(|&value| usable(value, convention).is_none());
            if let Some(stored) = bad {
                input_global = [None; 2];
                let (path, tensor) = (t.path().to_owned(), t.name().to_owned());
                unusable_scale = Some(UnusableScale { path, tensor, stored });
            }
        }
        let piece = |t: &Tensor<'_>| {
            let len = t.byte_len() / experts.max(1);
            expert * len..(expert + 1) * len
        };
        let bias = self.bias(names, stack, rows)?;
        Ok(Projection {
            code_bytes: codes.part(piece(&codes))?,
            scale_bytes: scales.part(piece(&scales))?,
            codes,
            scales,
            part,
            rows,
            cols,
            global,
            input_global,
            unusable_scale,
            bias,
            convention,
        })
    }

    /// The bias of a projection with `rows` rows: F16, BF16 or F32 \[N\], in a stack \[E, N\]. Exact in f32.
    fn bias(
        &self,
        names: &Names,
        stack: Option<(usize, usize)>,
        rows: usize,
    ) -> Result<Option<Vec<f32>>> {
        let mut found = names.biases.iter().filter_map(|name| self.get(name));
        let Some(tensor) = found.next() else { return Ok(None) };
        if let Some(other) = found.next() {
            let reason = format!("it has a bias both as {} and as {}", tensor.name(), other.name());
            return Err(self.not_understood(&names.codes, reason));
        }
        let (expected, expert) = match stack {
            None => (vec![rows], None),
            Some((expert, experts)) => (vec![experts, rows], Some(expert)),
        };
        if !matches!(tensor.dtype(), Dtype::F16 | Dtype::BF16 | Dtype::F32) {
            return Err(tensor.wrong_dtype(format!("F16, BF16 or F32 {expected:?}, a bias")));
        }
        if tensor.shape() != expected {
            let codes = &names.codes;
            return Err(tensor.wrong_shape(format!("{expected:?}, one for each row of {codes}")));
        }
        let first = expert.unwrap_or(0) * rows;
        let values: Vec<f32> = tensor.values_in(first..first + rows)?;
        if let Some(row) = values.iter().position(|value| !value.is_finite()) {
            return Err(CheckpointError::NonFinite {
                path: tensor.path().to_owned(),
                tensor: tensor.name().to_owned(),
                index: expert.into_iter().chain([row]).collect(),
                value: values[row],
            }
            .into());
        }
        Ok(Some(values))
    }
}

impl Projection<'_> {
    /// All rows, with the global scale of the gate.
    pub fn whole(&self, operand: Operand) -> Result<Nvfp4Matrix> {
        let (codes, scales) = (self.code_bytes.clone(), self.scale_bytes.clone());
        self.matrix(self.rows, codes, scales, self.global[0], operand)
    }

    /// Of weights, which have rows.
    fn matrix(
        &self,
        rows: usize,
        codes: Bytes,
        scales: Bytes,
        global: f32,
        operand: Operand,
    ) -> Result<Nvfp4Matrix> {
        Nvfp4Matrix::new(1, rows, self.cols, codes, scales, global)
            .and_then(|matrix| matrix.view().check_rows(operand).map(|()| matrix))
            .map_err(|e| self.named(e, operand))
    }

    /// Gate and up of a fused projection, gate first.
    pub fn halves(&self) -> Result<[Nvfp4Matrix; 2]> {
        if !self.rows.is_multiple_of(2) {
            return Err(self.codes.wrong_shape("an even number of rows, gate first and then up"));
        }
        self.whole(Operand::Matrix)?; // so that a bad scale is named by its row in the file
        let half = self.rows / 2;
        // In range: the whole is a valid matrix.
        let (mut codes, mut scales) = (self.code_bytes.clone(), self.scale_bytes.clone());
        let more_codes = codes.split_off(half * self.cols / 2);
        let more_scales = scales.split_off(half * self.cols / BLOCK);
        let [gate, up] = self.global;
        Ok([
            self.matrix(half, codes, scales, gate, Operand::B1)?,
            self.matrix(half, more_codes, more_scales, up, Operand::B2)?,
        ])
    }

    /// An error of the numbers with the tensor, and the place in it.
    fn named(&self, error: Error, operand: Operand) -> Error {
        match error.with_operand(operand) {
            e @ Error::Checkpoint(_) => e,
            Error::ScaleByte { operand, byte, row, block, .. } => {
                let batch = self.part.expert.unwrap_or(0);
                self.scales.fault(Error::ScaleByte { operand, byte, batch, row, block })
            }
            e => self.codes.fault(e),
        }
    }
}

/// The numbers of a global scale as they are stored, for gate and up: one for both, or in a fused
/// projection one for each; in a stack one for all experts, or one or two for each.
fn stored_globals(
    tensor: &Tensor<'_>,
    stack: Option<(usize, usize)>,
    fused: bool,
) -> Result<[f32; 2]> {
    let expected = match (stack, fused) {
        (None, false) => "[] or [1]".to_owned(),
        (None, true) => "[], [1] or [2], gate first".to_owned(),
        (Some((_, experts)), false) => format!("[], [1], [{experts}] or [{experts}, 1]"),
        (Some((_, e)), true) => format!("[], [1], [{e}], [{e}, 1] or [{e}, 2], gate first"),
    };
    if tensor.dtype() != Dtype::F32 {
        return Err(tensor.wrong_dtype(format!("F32 {expected}")));
    }
    // Dimensions of 1 at the end change nothing.
    let trailing = tensor.shape().iter().rev().take_while(|&&n| n == 1).count();
    let shape = &tensor.shape()[..tensor.shape().len() - trailing];
    let at = match (shape, stack) {
        ([], None) if tensor.shape().len() > 1 => None, // such as [1, 1], which nobody writes
        ([], _) => Some((0, 0)),
        ([2], None) if fused => Some((0, 1)),
        ([n], Some((expert, experts))) if *n == experts => Some((expert, expert)),
        ([n, 2], Some((expert, experts))) if fused && *n == experts => {
            Some((2 * expert, 2 * expert + 1))
        }
        _ => None,
    };
    let Some((gate, up)) = at else {
        return Err(tensor.wrong_shape(expected));
    };
    let data = tensor.data()?;
    let (values, _) = data.as_chunks::<4>();
    match (values.get(gate), values.get(up)) {
        (Some(&gate), Some(&up)) => Ok([gate, up].map(f32::from_le_bytes)),
        _ => Err(tensor.wrong_shape(expected)),
    }
}

/// A stored global scale as a multiplier, if both are finite and > 0.
fn usable(stored: f32, convention: Convention) -> Option<f32> {
    let value = convention.multiplier(stored);
    let good = |v: f32| v.is_finite() && v > 0.0;
    (good(stored) && good(value)).then_some(value)
}

/// The global scale of a weight as a multiplier.
fn multiplier(tensor: &Tensor<'_>, stored: f32, convention: Convention) -> Result<f32> {
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
