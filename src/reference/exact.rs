//! Integer accumulation, f64 epilogue, one rounding at the end.
//!
//! Twice an e2m1 value is an integer in \[-12, 12\] and 2^9 times a UE4M3 value an integer up to
//! 229376, so every product of two dequantised values (before the global scales) is an integer
//! multiple of 2^-20 below 2^43 in that unit. 2^19 of them fit an i64; longer dot products are
//! summed in pieces. Nothing is rounded before the epilogue, which is f64 with a relative error of a
//! few 2^-53, and C is rounded once.

use rayon::prelude::*;

use crate::element::Element;
use crate::error::{Error, Operand, Result};
use crate::format::{BLOCK, e2m1, ue4m3};
use crate::matrix::Nvfp4View;
use crate::problem::{DualGemm, Problem};

/// Blocks whose exact sum fits an i64 with room to spare: 2^19 terms.
const BLOCKS_PER_I64: usize = (1 << 19) / BLOCK;

/// Rows of the weights that are held as integers at a time.
const WEIGHT_ROWS: usize = 8;

/// C \[batch, M, N\], exact up to one rounding.
pub fn exact<T: Element>(gemm: &DualGemm<'_>) -> Vec<T> {
    let Problem { m, n, batch, .. } = gemm.problem();
    let mut c = vec![T::default(); batch * m * n];
    exact_checked(gemm, &mut c);
    c
}

/// [`exact()`] into a buffer.
///
/// # Errors
/// [`Error::Length`].
pub fn exact_into<T: Element>(gemm: &DualGemm<'_>, c: &mut [T]) -> Result<()> {
    gemm.check_c(c.len())?;
    exact_checked(gemm, c);
    Ok(())
}

/// Some rows of C, each named by (batch, row): \[rows.len(), N\]. The cost is that of these rows alone.
///
/// # Errors
/// [`Error::RowOutOfRange`].
pub fn exact_rows<T: Element>(gemm: &DualGemm<'_>, rows: &[(usize, usize)]) -> Result<Vec<T>> {
    let Problem { m, n, batch, .. } = gemm.problem();
    if let Some(&(l, row)) = rows.iter().find(|&&(l, row)| l >= batch || row >= m) {
        let operand = Operand::C;
        return Err(Error::RowOutOfRange { operand, batch: l, row, batches: batch, rows: m });
    }
    let mut c = vec![T::default(); rows.len() * n];
    for l in 0..batch {
        let at: Vec<usize> = (0..rows.len()).filter(|&i| rows[i].0 == l).collect();
        let wanted: Vec<usize> = at.iter().map(|&i| rows[i].1).collect();
        let part = one_batch::<T>(gemm, l, &wanted);
        for (&i, row) in at.iter().zip(part.chunks_exact(n)) {
            c[i * n..][..n].copy_from_slice(row);
        }
    }
    Ok(c)
}

fn exact_checked<T: Element>(gemm: &DualGemm<'_>, c: &mut [T]) {
    let Problem { m, n, .. } = gemm.problem();
    let all: Vec<usize> = (0..m).collect();
    // With no rows there is nothing to cut: the least size keeps `chunks_exact_mut` from panicking.
    for (l, c) in c.chunks_exact_mut((m * n).max(1)).enumerate() {
        c.copy_from_slice(&one_batch(gemm, l, &all));
    }
}

/// Rows of C of batch `l`: \[rows.len(), N\].
fn one_batch<T: Element>(gemm: &DualGemm<'_>, l: usize, rows: &[usize]) -> Vec<T> {
    let n = gemm.problem().n;
    let (a, b1, b2) = (gemm.a().slice(l), gemm.b1().slice(l), gemm.b2().slice(l));
    let a: Vec<IntegerRow> = rows.par_iter().map(|&r| IntegerRow::new(&a, r)).collect();
    let (alpha1, alpha2) = (gemm.alpha1(), gemm.alpha2());
    let (unit, gate) = (2f64.powi(-20), gemm.gate());

    // Strips of columns in parallel; each strip holds its weights as integers and sweeps all rows.
    let strips: Vec<Vec<T>> = (0..n)
        .collect::<Vec<_>>()
        .par_chunks(WEIGHT_ROWS)
        .map(|columns| {
            let of = |b: &Nvfp4View<'_>| -> Vec<IntegerRow> {
                columns.iter().map(|&j| IntegerRow::new(b, j)).collect()
            };
            let (b1, b2) = (of(&b1), of(&b2));
            let mut strip = Vec::with_capacity(rows.len() * columns.len());
            for a in &a {
                for (b1, b2) in b1.iter().zip(&b2) {
                    let x1 = a.dot(b1) as f64 * unit * alpha1;
                    let x2 = a.dot(b2) as f64 * unit * alpha2;
                    strip.push(T::from_f64(gate.apply(x1, x2)));
                }
            }
            strip
        })
        .collect();

    let mut c = vec![T::default(); rows.len() * n];
    for (s, strip) in strips.iter().enumerate() {
        let width = strip.len() / rows.len().max(1);
        for (i, values) in strip.chunks_exact(width.max(1)).enumerate() {
            c[i * n + s * WEIGHT_ROWS..][..width].copy_from_slice(values);
        }
    }
    c
}

/// One row as integers: doubled codes, and scale factors times 2^9.
struct IntegerRow {
    codes: Vec<[i16; BLOCK]>,
    scales: Vec<i64>,
}

impl IntegerRow {
    fn new(view: &Nvfp4View<'_>, row: usize) -> Self {
        let codes = view
            .row_codes(row)
            .chunks_exact(BLOCK / 2)
            .map(|bytes| {
                let mut block = [0; BLOCK];
                for (pair, byte) in block.chunks_exact_mut(2).zip(bytes) {
                    pair[0] = i16::from(e2m1::DOUBLED[usize::from(byte & 15)]);
                    pair[1] = i16::from(e2m1::DOUBLED[usize::from(byte >> 4)]);
                }
                block
            })
            .collect();
        let scales = view.row_scales(row).iter().map(|&b| ue4m3::times_512(b)).collect();
        IntegerRow { codes, scales }
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
