//! Tensor parallelism: the part of an MLP that one of several ranks computes.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::MlpWeights;
use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::matrix::Nvfp4Matrix;

impl MlpWeights {
    /// The part of rank `rank` of `ranks`: rows of gate_proj and up_proj, and the same columns of down_proj. Each rank
    /// computes a y \[rows, H\] of the same x, and the sum of all of them, one all-reduce, is y:
    ///
    /// ```text
    /// h_r = glu(x·gate_proj[N_r]ᵀ, x·up_proj[N_r]ᵀ)      y = Σ_r h_r·down_proj[:, N_r]ᵀ
    /// ```
    ///
    /// N is cut into parts that are multiples of 16 and as equal as that allows. The bias of down_proj is with rank 0; a
    /// residual should be as well. Without a down projection the ranks have columns of h, side by side.
    ///
    /// A part of h is quantized as h is, with the calibrated scale of the whole; where its scale is that of the largest
    /// value, it is that of the part. Rows share their memory with the whole, columns are copied.
    ///
    /// # Errors
    /// [`Error::Shard`] when there is no such rank, or fewer blocks of 16 than ranks.
    pub fn shard(&self, rank: usize, ranks: usize) -> Result<MlpWeights> {
        let n = self.intermediate_features();
        let blocks = n.div_ceil(BLOCK);
        if rank >= ranks || ranks > blocks {
            return Err(Error::Shard { rank, ranks, n });
        }
        let at = |rank: usize| (blocks * rank / ranks * BLOCK).min(n);
        let part = at(rank)..at(rank + 1);
        let of_bias = |bias: &[f32]| -> Arc<[f32]> { bias[part.clone()].into() };
        let mut shard =
            MlpWeights::new(rows_of(self.gate_proj(), &part)?, rows_of(self.up_proj(), &part)?)?
                .with_glu(self.glu())?
                .with_calibration(self.calibration().clone())
                .with_precision(self.precision());
        if let Some([gate, up]) = self.biases() {
            shard = shard.with_biases(of_bias(gate), of_bias(up))?;
        }
        let Some(down) = self.down_proj() else { return Ok(shard) };
        shard = shard.with_down(columns_of(down, &part)?)?;
        if let Some(calibration) = self.down_calibration() {
            shard = shard.with_down_calibration(calibration.clone())?;
        }
        match self.down_bias() {
            Some(bias) if rank == 0 => shard.with_down_bias(bias),
            _ => Ok(shard),
        }
    }
}

/// Rows of one matrix, in the same memory.
fn rows_of(matrix: &Nvfp4Matrix, rows: &Range<usize>) -> Result<Nvfp4Matrix> {
    let cols = matrix.cols();
    let (codes, scales) = matrix.shared();
    let part = |bytes: &Bytes, of_row: usize| bytes.slice(rows.start * of_row..rows.end * of_row);
    let (codes, scales) = (part(codes, cols / 2), part(scales, cols / BLOCK));
    Nvfp4Matrix::new(1, rows.len(), cols, codes, scales, matrix.global_scale())
}

/// Columns of one matrix, whole blocks of them.
fn columns_of(matrix: &Nvfp4Matrix, columns: &Range<usize>) -> Result<Nvfp4Matrix> {
    let cols = matrix.cols();
    let part = |bytes: &[u8], per: usize| -> Vec<u8> {
        let rows = bytes.chunks_exact(cols / per);
        rows.flat_map(|row| row[columns.start / per..columns.end / per].iter().copied()).collect()
    };
    let (codes, scales) = (part(matrix.codes(), 2), part(matrix.scales(), BLOCK));
    Nvfp4Matrix::new(1, matrix.rows(), columns.len(), codes, scales, matrix.global_scale())
}
