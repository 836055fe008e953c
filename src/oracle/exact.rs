//! Integer accumulation, f64 epilogue, one rounding at the end.
//!
//! Nothing of an NVFP4 or an f16 dot product is rounded before the epilogue; of a bf16 one at most 2^-49 of `Σ|a·b|`
//! is ([`super::integer`]). The epilogue is f64 with a relative error of a few 2^-53 of its largest term, and C is
//! rounded once.

use rayon::prelude::*;

use super::integer::{ExactRow, IntegerRow};
use crate::dtype::{Element, Values, each_type};
use crate::error::{Error, Operand, Result};
use crate::format::BLOCK;
use crate::memory;
use crate::op::{Join, Operation, Problem};
use crate::shape::GemmShape;

/// Rows of the weights that are held as integers at a time.
const WEIGHT_ROWS: usize = 8;

/// Bytes of the rows of A that are held as integers at a time, and how many rows at most.
const A_BYTES: usize = 64 << 20;
const A_ROWS: usize = 256;

/// C \[batch, M, N\] of a [`DualGemm`](crate::DualGemm) or a [`Gemm`](crate::Gemm), exact up to one rounding.
///
/// # Errors
/// [`Error::OutOfMemory`]: C can be far larger than the operands.
pub fn exact<T: Element>(operation: &impl Operation) -> Result<Vec<T>> {
    let mut c = memory::filled(T::default(), operation.problem().c_len(), Operand::C)?;
    exact_into(operation, &mut c)?;
    Ok(c)
}

/// [`exact()`] into a buffer.
///
/// # Errors
/// [`Error::Length`], [`Error::OutOfMemory`].
pub fn exact_into<T: Element>(operation: &impl Operation, c: &mut [T]) -> Result<()> {
    let problem = operation.problem();
    problem.check_c(c.len())?;
    let GemmShape { m, n, k, .. } = problem.shape;
    let at_once = rows_at_once(k);
    // With no rows there is nothing to cut: the least size keeps `chunks_exact_mut` from panicking.
    for (l, c) in c.chunks_exact_mut((m * n).max(1)).enumerate() {
        for (i, c) in c.chunks_mut(at_once * n).enumerate() {
            let first = i * at_once;
            rows_of_batch(&problem, l, (first..first + c.len() / n).collect(), c)?;
        }
    }
    Ok(())
}

/// Some rows of C, each named by (batch, row): \[rows.len(), N\]. The cost is that of these rows alone;
/// rows of one batch should stand together.
///
/// # Errors
/// [`Error::RowOutOfRange`], [`Error::SizeOverflow`], [`Error::OutOfMemory`].
pub fn exact_rows<T: Element>(
    operation: &impl Operation,
    rows: &[(usize, usize)],
) -> Result<Vec<T>> {
    let problem = operation.problem();
    let GemmShape { m, n, k, batch } = problem.shape;
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
            rows_of_batch(&problem, rows[0].0, rows.iter().map(|&(_, row)| row).collect(), c)?;
            rest = after;
        }
    }
    Ok(c)
}

/// Rows of A that are worked on together.
fn rows_at_once(k: usize) -> usize {
    let row_bytes = k / BLOCK * size_of::<[i64; BLOCK]>();
    (A_BYTES / row_bytes).clamp(1, A_ROWS)
}

/// Some rows of C of batch `l`: \[rows.len(), N\], neither of which is 0.
fn rows_of_batch<T: Element>(
    problem: &Problem<'_>,
    l: usize,
    rows: Vec<usize>,
    c: &mut [T],
) -> Result<()> {
    let GemmShape { m, n, .. } = problem.shape;
    let a = rows
        .par_iter()
        .map(|&r| ExactRow::new(&problem.a, l * m + r))
        .collect::<Result<Vec<ExactRow>>>()?;
    // A GEMM has one weight.
    let (count, operands) = match problem.join {
        Join::Glu(_) => (2, [Operand::B1, Operand::B2]),
        Join::Add(_) => (1, [Operand::W; 2]),
    };

    // Strips of columns in parallel; each strip holds its weights as integers and sweeps all rows.
    let mut strips = memory::filled(T::default(), c.len(), Operand::C)?;
    let strip_len = rows.len() * WEIGHT_ROWS;
    strips.par_chunks_mut(strip_len).enumerate().try_for_each(|(s, strip)| -> Result<()> {
        let columns = s * WEIGHT_ROWS..n.min((s + 1) * WEIGHT_ROWS);
        let mut weights = [const { Vec::new() }; 2];
        for ((integers, weight), operand) in
            weights.iter_mut().zip(&problem.weights).zip(operands).take(count)
        {
            *integers = columns
                .clone()
                .map(|j| IntegerRow::new(weight, l * n + j, operand))
                .collect::<Result<Vec<_>>>()?;
        }
        for ((a, values), &row) in a.iter().zip(strip.chunks_exact_mut(columns.len())).zip(&rows) {
            let alphas = problem.alphas(l * m + row);
            for (i, (value, column)) in values.iter_mut().zip(columns.clone()).enumerate() {
                let x = |weight: usize| {
                    let product = a.dot(&weights[weight][i]) * alphas[weight];
                    match problem.biases {
                        Some(biases) => product + f64::from(biases[weight][l * n + column]),
                        None => product,
                    }
                };
                *value = T::from_f64(match problem.join {
                    Join::Glu(glu) => glu.apply(x(0), x(1)),
                    Join::Add(None) => x(0),
                    Join::Add(Some(r)) => x(0) + value_at(r, (l * m + row) * n + column),
                });
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

fn value_at(values: Values<'_>, index: usize) -> f64 {
    f64::from(each_type!(Values, values, values => values[index].to_f32()))
}
