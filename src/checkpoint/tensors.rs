//! Operands and results of a dual GEMM as tensors of a safetensors file.
//!
//! An operand `NAME` is either a triple
//!
//! | tensor | type | shape |
//! |---|---|---|
//! | `NAME.codes` | U8 | \[(L,) M, K/2\], two codes a byte, the even k in the low nibble; or F4 \[(L,) M, K\] |
//! | `NAME.scales` | F8_E4M3 | \[(L,) M, K/16\] row-major, no NaN, sign bits 0 |
//! | `NAME.global` | F32 | \[\] or \[1\], a multiplier; absent = 1 |
//!
//! or one tensor `NAME`, F32, F16 or BF16 \[(L,) M, K\], which is quantized when it is read.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;

use super::file::{SafetensorsFile, Tensor};
use super::writer::{Declared, Writer};
use super::{CheckpointError, file};
use crate::dtype::{DType, Element};
use crate::error::{Error, Operand, Result};
use crate::format::BLOCK;
use crate::matrix::{Nvfp4Matrix, Nvfp4View};
use crate::{bf16, f16};

/// A safetensors file of operands.
///
/// ```
/// use nvfp4_dual_gemm::checkpoint::tensors::{self, TensorFile};
/// use nvfp4_dual_gemm::synth::{Data, Operands};
/// use nvfp4_dual_gemm::{Operand, GemmShape};
/// # fn main() -> nvfp4_dual_gemm::Result<()> {
/// # let dir = tempfile::tempdir().map_err(|e| nvfp4_dual_gemm::Error::Io { path: "".into(), source: e })?;
/// # let path = dir.path().join("in.safetensors");
/// let problem = GemmShape { m: 2, n: 3, k: 32, batch: 1 };
/// let operands = Operands::generate(problem, Data::Full, 1)?;
/// tensors::write_matrices(&path, &operands.named())?;
/// let a = TensorFile::open(&path)?.operand("a", Operand::A)?;
/// assert_eq!(a, operands.a);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TensorFile {
    file: SafetensorsFile,
}

impl TensorFile {
    /// Opens a file; see [`SafetensorsFile`] on files that change meanwhile.
    ///
    /// # Errors
    /// Those of [`SafetensorsFile::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Ok(TensorFile { file: SafetensorsFile::open(path)? })
    }

    /// The file.
    pub fn file(&self) -> &SafetensorsFile {
        &self.file
    }

    /// The operand `name`; quantized if it is stored as floats.
    ///
    /// # Errors
    /// [`CheckpointError::MissingTensor`] when there is neither `name.codes` nor `name`;
    /// [`CheckpointError::Dtype`] and [`CheckpointError::Shape`]; what [`Nvfp4View::new`] and
    /// [`Nvfp4Matrix::quantize`] say of the numbers, with `operand` in it.
    pub fn operand(&self, name: &str, operand: Operand) -> Result<Nvfp4Matrix> {
        if self.file.get(&format!("{name}.codes")).is_some() {
            return self.packed(name, operand);
        }
        let Some(tensor) = self.file.get(name) else {
            return Err(CheckpointError::MissingTensor {
                path: self.file.path().to_owned(),
                tensor: format!("{name}.codes or {name}"),
                near: file::near(name, self.file.names()),
            }
            .into());
        };
        let [batch, rows, cols] = three(&tensor, "[(L,) M, K]")?;
        fn quantize<T: Element>(tensor: &Tensor<'_>, shape: [usize; 3]) -> Result<Nvfp4Matrix> {
            Nvfp4Matrix::quantize(&tensor.values::<T>()?, shape[0], shape[1], shape[2])
        }
        let shape = [batch, rows, cols];
        let matrix = match tensor.dtype() {
            Dtype::F16 => quantize::<f16>(&tensor, shape),
            Dtype::BF16 => quantize::<bf16>(&tensor, shape),
            _ => quantize::<f32>(&tensor, shape),
        };
        matrix
            .and_then(|matrix| matrix.view().check_rows(operand).map(|()| matrix))
            .map_err(|e| place(e, &tensor, operand))
    }

    /// The operand `name`, which has to be stored packed.
    ///
    /// # Errors
    /// Those of [`TensorFile::operand`].
    pub fn packed(&self, name: &str, operand: Operand) -> Result<Nvfp4Matrix> {
        let (codes, scales, global) = self.triple(name)?;
        let matrix = dimensions(&codes, &scales).and_then(|[batch, rows, cols]| {
            let (codes, scales) = (codes.data()?, scales.data()?);
            let matrix = Nvfp4Matrix::new(batch, rows, cols, codes, scales, global)?;
            matrix.view().check_rows(operand).map(|()| matrix)
        });
        matrix.map_err(|e| place(e, &codes, operand))
    }

    /// Codes, scales and global scale of a packed operand.
    fn triple(&self, name: &str) -> Result<(Tensor<'_>, Tensor<'_>, f32)> {
        let codes = self.file.tensor(&format!("{name}.codes"))?;
        let scales = self.file.tensor(&format!("{name}.scales"))?;
        let global = self.file.get(&format!("{name}.global"));
        Ok((codes, scales, global.map_or(Ok(1.0), |t| t.scalar())?))
    }

    /// Type of the elements of the tensor `name`; `None` where it is none of F32, F16 and BF16.
    ///
    /// # Errors
    /// [`CheckpointError::MissingTensor`].
    pub fn dtype(&self, name: &str) -> Result<Option<DType>> {
        Ok(match self.file.tensor(name)?.dtype() {
            Dtype::F32 => Some(DType::F32),
            Dtype::F16 => Some(DType::F16),
            Dtype::BF16 => Some(DType::Bf16),
            _ => None,
        })
    }

    /// Shape and elements of the tensor `name`, as `T`: exact to a wider type, to nearest even to a
    /// narrower one.
    ///
    /// # Errors
    /// [`CheckpointError::MissingTensor`]; [`CheckpointError::Dtype`] when it is none of F32, F16
    /// and BF16.
    pub fn values<T: Element>(&self, name: &str) -> Result<(Vec<usize>, Vec<T>)> {
        let tensor = self.file.tensor(name)?;
        Ok((tensor.shape().to_vec(), tensor.values()?))
    }
}

/// L, M and K of codes (U8 \[(L,) M, K/2\] or F4 \[(L,) M, K\]) and scales (F8_E4M3
/// \[(L,) M, K/16\]) that agree. That K is a multiple of 16 is not looked at.
pub(super) fn dimensions(codes: &Tensor<'_>, scales: &Tensor<'_>) -> Result<[usize; 3]> {
    let [batch, rows, last] = three(codes, "[(L,) M, K/2]")?;
    let cols = match codes.dtype() {
        // A K that overflows here could not come from a file of that many bytes.
        Dtype::U8 => last.saturating_mul(2),
        Dtype::F4 => last,
        _ => return Err(codes.wrong_dtype("U8 [(L,) M, K/2] or F4 [(L,) M, K]")),
    };
    if scales.dtype() != Dtype::F8_E4M3 {
        // U8 scales are E8M0 in MXFP4 files: reading them as E4M3 would be wrong without a sign.
        return Err(scales.wrong_dtype(
            "F8_E4M3 [(L,) M, K/16] (scales of other types, U8 among them, may be another format)",
        ));
    }
    let expected = [batch, rows, cols / BLOCK];
    if cols.is_multiple_of(BLOCK) && three(scales, "[(L,) M, K/16]")? != expected {
        let [batch, rows, blocks] = expected;
        let name = codes.name();
        let shape = if codes.shape().len() == 2 {
            format!("[{rows}, {blocks}]")
        } else {
            format!("[{batch}, {rows}, {blocks}]")
        };
        return Err(scales.wrong_shape(format!("{shape}, one scale per 16 elements of {name}")));
    }
    Ok([batch, rows, cols])
}

/// (batch, rows, last) of a tensor of two or three dimensions.
fn three(tensor: &Tensor<'_>, expected: &str) -> Result<[usize; 3]> {
    match *tensor.shape() {
        [rows, last] => Ok([1, rows, last]),
        [batch, rows, last] => Ok([batch, rows, last]),
        _ => Err(tensor.wrong_shape(expected)),
    }
}

/// Names the operand, and the tensor where the error does not.
fn place(error: Error, tensor: &Tensor<'_>, operand: Operand) -> Error {
    match error {
        Error::Checkpoint(_) | Error::Io { .. } => error,
        _ => tensor.fault(error.with_operand(operand)),
    }
}

/// Writes matrices as packed triples. The leading dimension L is left out where it is 1.
///
/// # Errors
/// [`Error::Io`], [`CheckpointError::Write`] for a name that occurs twice.
pub fn write_matrices(path: impl AsRef<Path>, matrices: &[(&str, Nvfp4View<'_>)]) -> Result<()> {
    let mut declared = Vec::new();
    for (name, matrix) in matrices {
        let shape = |last: usize| match matrix.batch() {
            1 => vec![matrix.rows(), last],
            batch => vec![batch, matrix.rows(), last],
        };
        let (codes, scales) = (shape(matrix.cols() / 2), shape(matrix.cols() / BLOCK));
        declared.push(Declared::new(format!("{name}.codes"), Dtype::U8, codes));
        declared.push(Declared::new(format!("{name}.scales"), Dtype::F8_E4M3, scales));
        declared.push(Declared::new(format!("{name}.global"), Dtype::F32, []));
    }
    let mut writer = Writer::create(path, declared, &BTreeMap::new())?;
    for (name, matrix) in matrices {
        writer.write(&format!("{name}.codes"), matrix.codes())?;
        writer.write(&format!("{name}.scales"), matrix.scales())?;
        writer.write(&format!("{name}.global"), &matrix.global_scale().to_le_bytes())?;
    }
    writer.finish()
}

/// Writes one tensor of floats, such as `c` \[(L,) M, N\].
///
/// # Errors
/// [`Error::Io`]; [`CheckpointError::Write`] when `values` does not have as many elements as
/// `shape`.
pub fn write_output<T: Element>(
    path: impl AsRef<Path>,
    name: &str,
    shape: &[usize],
    values: &[T],
) -> Result<()> {
    let declared = Declared::new(name, dtype_of(T::DTYPE), shape);
    let mut writer = Writer::create(path, vec![declared], &BTreeMap::new())?;
    writer.write(name, &bytes_of(values))?;
    writer.finish()
}

/// The safetensors name of a float type.
pub fn dtype_of(dtype: DType) -> Dtype {
    match dtype {
        DType::F16 => Dtype::F16,
        DType::Bf16 => Dtype::BF16,
        DType::F32 => Dtype::F32,
    }
}

/// Little-endian bytes of floats.
fn bytes_of<T: Element>(values: &[T]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.len() * T::DTYPE.size());
    for v in values {
        let v = v.to_f32(); // and back: exact
        match T::DTYPE {
            DType::F16 => bytes.extend(f16::from_f32(v).to_le_bytes()),
            DType::Bf16 => bytes.extend(bf16::from_f32(v).to_le_bytes()),
            DType::F32 => bytes.extend(v.to_le_bytes()),
        }
    }
    bytes
}
