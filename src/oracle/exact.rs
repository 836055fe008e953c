//! Integer accumulation, f64 epilogue, one rounding at the end.
//!
//! Twice an e2m1 value is an integer in \[-12, 12\] and 2^9 times a UE4M3 value an integer up to
//! 229376, so every product of two dequantized values (before the global scales) is an integer
//! multiple of 2^-20 below 2^43 in that unit. 2^19 of them fit an i64; longer dot products are
//! summed in pieces. Nothing is rounded before the epilogue, which is f64 with a relative error of a
//! few 2^-53, and C is rounded once.

use rayon::prelude::*;

use crate::dtype::Element;
use crate::error::{Error, Operand, Result};
use crate::format::{BLOCK, e2m1, ue4m3};
use crate::matrix::Nvfp4View;
use crate::memory;
use crate::op::DualGemm;
use crate::shape::GemmShape;

/// Blocks whose exact sum fits an i64 with room to spare: 2^19 terms.
const BLOCKS_PER_I64: usize = (1 << 19) / BLOCK;

/// Rows of the weights that are held as integers at a time.
const WEIGHT_ROWS: usize = 8;

/// Bytes of the rows of A that are held as integers at a time, and how many rows at most.
const A_BYTES: usize = 64 << 20;
const A_ROWS: usize = 256;

/// C \[batch, M, N\], exact up to one rounding.
///
/// # Errors
/// [`Error::OutOfMemory`]: C can be far larger than the operands.
pub fn exact<T: Element>(gemm: &DualGemm<'_>) -> Result<Vec<T>> {
    let mut c = memory::filled(T::default(), gemm.c_len(), Operand::C)?;
    exact_into(gemm, &mut c)?;
    Ok(c)
}

/// [`exact()`] into a buffer.
///
/// # Errors
/// [`Error::Length`], [`Error::OutOfMemory`].
pub fn exact_into<T: Element>(gemm: &DualGemm<'_>, c: &mut [T]) -> Result<()> {
    gemm.check_c(c.len())?;
    let GemmShape { m, n, k, .. } = gemm.shape();
    let at_once = rows_at_once(k);
    // With no rows there is nothing to cut: the least size keeps `chunks_exact_mut` from panicking.
    for (l, c) in c.chunks_exact_mut((m * n).max(1)).enumerate() {
        for (i, c) in c.chunks_mut(at_once * n).enumerate() {
            let first = i * at_once;
            rows_of_batch(gemm, l, (first..first + c.len() / n).collect(), c)?;
        }
    }
    Ok(())
}

/// Some rows of C, each named by (batch, row): \[rows.len(), N\]. The cost is that of these rows alone;
/// rows of one batch should stand together.
///
/// # Errors
/// [`Error::RowOutOfRange`], [`Error::SizeOverflow`], [`Error::OutOfMemory`].
pub fn exact_rows<T: Element>(gemm: &DualGemm<'_>, rows: &[(usize, usize)]) -> Result<Vec<T>> {
    let GemmShape { m, n, k, batch } = gemm.shape();
    let operand = Operand::C;
    if let Some(&(l, row)) = rows.iter().find(|&&(l, row)| l >= batch || row >= m) {
        return Err(Error::RowOutOfRange { operand, batch: l, row, batches: batch, rows: m });
    }
    let overflow = Error::SizeOverflow { operand, batch: 1, rows: rows.len(), cols: n };
    let mut c = memory::filled(T::default(), rows.len().checked_mul(n).ok_or(overflow)?, operand)?;
    let mut rest = &mut c[..];
    for of_batch in rows.chunk_by(|a, b| a.0 == b.0) {
        for rows in of_batch.chunks(rows_at_once(k)) {
            let (c, after) = rest.split_at_mut(rows.len() * n);
            rows_of_batch(gemm, rows[0].0, rows.iter().map(|&(_, row)| row).collect(), c)?;
            rest = after;
        }
    }
    Ok(c)
}

/// Rows of A that are worked on together.
fn rows_at_once(k: usize) -> usize {
    let row_bytes = k / BLOCK * size_of::<([i16; BLOCK], i64)>();
    (A_BYTES / row_bytes).clamp(1, A_ROWS)
}

/// Some rows of C of batch `l`: \[rows.len(), N\], neither of which is 0.
fn rows_of_batch<T: Element>(
    gemm: &DualGemm<'_>,
    l: usize,
    rows: Vec<usize>,
    c: &mut [T],
) -> Result<()> {
    let n = gemm.shape().n;
    let (a, b1, b2) = (gemm.a().slice(l), gemm.b1().slice(l), gemm.b2().slice(l));
    let a = rows
        .par_iter()
        .map(|&r| IntegerRow::new(&a, r, Operand::A))
        .collect::<Result<Vec<IntegerRow>>>()?;
    let (unit, glu) = (2f64.powi(-20), gemm.glu());
    let first = l * gemm.shape().m;

    // Strips of columns in parallel; each strip holds its weights as integers and sweeps all rows.
    let mut strips = memory::filled(T::default(), c.len(), Operand::C)?;
    let strip_len = rows.len() * WEIGHT_ROWS;
    strips.par_chunks_mut(strip_len).enumerate().try_for_each(|(s, strip)| -> Result<()> {
        let columns = s * WEIGHT_ROWS..n.min((s + 1) * WEIGHT_ROWS);
        let integers = |b: &Nvfp4View<'_>, operand| {
            columns.clone().map(|j| IntegerRow::new(b, j, operand)).collect::<Result<Vec<_>>>()
        };
        let (b1, b2) = (integers(&b1, Operand::B1)?, integers(&b2, Operand::B2)?);
        for ((a, values), row) in a.iter().zip(strip.chunks_exact_mut(columns.len())).zip(&rows) {
            let [alpha1, alpha2] = gemm.alphas(first + row);
            for (value, (b1, b2)) in values.iter_mut().zip(b1.iter().zip(&b2)) {
                let x1 = a.dot(b1) as f64 * unit * alpha1;
                let x2 = a.dot(b2) as f64 * unit * alpha2;
                *value = T::from_f64(glu.apply(x1, x2));
            }
        }
        Ok(())
    })?;

    for (s, strip) in strips.chunks(strip_len).enumerate() {
        let width = strip.len() / rows.len();
        for (row, values) in c.chunks_exact_mut(n).zip(strip.chunks_exact(width)) {
            row[s * WEIGHT_ROWS..][..width].copy_from_slice(values);
        }
    }
    Ok(())
}

/// One row as integers: doubled codes, and scale factors times 2^9.
struct IntegerRow {
    codes: Vec<[i16; BLOCK]>,
    scales: Vec<i64>,
}

impl IntegerRow {
    fn new(view: &Nvfp4View<'_>, row: usize, operand: Operand) -> Result<Self> {
        let (bytes, scale_bytes) = (view.row_codes(row), view.row_scales(row));
        let mut codes = memory::filled([0; BLOCK], scale_bytes.len(), operand)?;
        for (block, bytes) in codes.iter_mut().zip(bytes.chunks_exact(BLOCK / 2)) {
            for (pair, byte) in block.chunks_exact_mut(2).zip(bytes) {
                pair[0] = i16::from(e2m1::DOUBLED[usize::from(byte & 15)]);
                pair[1] = i16::from(e2m1::DOUBLED[usize::from(byte >> 4)]);
            }
        }
        let mut scales = memory::filled(0, scale_bytes.len(), operand)?;
        for (scale, &byte) in scales.iter_mut().zip(scale_bytes) {
            *scale = ue4m3::times_512(byte);
        }
        Ok(IntegerRow { codes, scales })
    }

    /// The dot product of two rows in units of 2^-20.
    fn dot(&self, other: &IntegerRow) -> i128 {
        let blocks = self.codes.len();
        let mut sum = 0i128;
        for start in (0..blocks).step_by(BLOCKS_PER_I64) {
            let end = blocks.min(start + BLOCKS_PER_I64);
            let mut piece = 0i64;
            for i in start..end {
                let (x, y) = (&self.codes[i], &other.codes[i]);
                let block: i32 = (0..BLOCK).map(|j| i32::from(x[j]) * i32::from(y[j])).sum();
                piece += i64::from(block) * (self.scales[i] * other.scales[i]);
            }
            sum += i128::from(piece);
        }
        sum
    }
}
