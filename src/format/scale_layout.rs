//! The 128x4 scale factor layout of the tensor cores (cuBLAS, cuDNN, CUTLASS
//! `sm100_blockscaled_layout.hpp`).
//!
//! For row r and scale column c = k/16, with KT = ceil(SFK/4):
//! `offset = ((r/128)·KT + c/4)·512 + (r%32)·16 + ((r/32)%4)·4 + c%4`.
//! Rows are padded to 128 and scale columns to 4, padding is zero, batches follow each other. A matrix
//! without rows has no tiles, and its layout no bytes.

use rayon::prelude::*;

use crate::error::{Buffer, Error, Operand, Result};
use crate::format::BLOCK;
use crate::format::kernels::{self, Path, THREAD_BYTES};
use crate::memory;
use crate::shape::MatrixShape;

/// Rows of one tile.
pub const TILE_ROWS: usize = 128;
/// Scale columns of one tile.
pub const TILE_COLS: usize = 4;
/// Bytes of one tile.
pub const TILE_BYTES: usize = TILE_ROWS * TILE_COLS;

/// The place of a scale factor: batch, row, scale column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScaleCoord {
    /// Batch index.
    pub batch: usize,
    /// Row; at or beyond the row count in padding.
    pub row: usize,
    /// Scale column k/16; at or beyond the column count in padding.
    pub col: usize,
}

/// The 128x4 layout of the scale factors of `batch` matrices of `rows`×`k`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScaleLayout {
    batch: usize,
    rows: usize,
    cols: usize,
}

impl ScaleLayout {
    /// # Errors
    /// The shape errors of [`crate::Nvfp4View::new`].
    pub fn new(batch: usize, rows: usize, k: usize) -> Result<Self> {
        MatrixShape::new(batch, rows, k)?;
        let layout = ScaleLayout { batch, rows, cols: k / BLOCK };
        // As in `MatrixShape::new`, at least what one row needs: `row_tile_bytes` must not overflow either.
        layout
            .col_tiles()
            .checked_mul(TILE_BYTES)
            .and_then(|row_tile| row_tile.checked_mul(layout.row_tiles().max(1)))
            .and_then(|bytes| bytes.checked_mul(batch))
            .filter(|&bytes| isize::try_from(bytes).is_ok())
            .ok_or(Error::SizeOverflow { operand: Operand::Matrix, batch, rows, cols: k })?;
        Ok(layout)
    }

    fn row_tiles(&self) -> usize {
        self.rows.div_ceil(TILE_ROWS)
    }

    fn col_tiles(&self) -> usize {
        self.cols.div_ceil(TILE_COLS)
    }

    /// Bytes of 128 rows.
    fn row_tile_bytes(&self) -> usize {
        self.col_tiles() * TILE_BYTES
    }

    /// Bytes of one matrix of the batch, padding included.
    pub fn batch_stride(&self) -> usize {
        self.row_tiles() * self.row_tile_bytes()
    }

    /// Bytes in all, padding included.
    pub fn swizzled_len(&self) -> usize {
        self.batch * self.batch_stride()
    }

    /// Bytes of the row-major form, which has no padding.
    pub fn row_major_len(&self) -> usize {
        self.batch * self.rows * self.cols
    }

    /// Byte offset of a scale factor, below [`ScaleLayout::swizzled_len`]; `None` for a place outside of
    /// the layout with its padding.
    pub fn offset(&self, at: ScaleCoord) -> Option<usize> {
        let ScaleCoord { batch, row: r, col: c } = at;
        let (row_tile, col_tile) = (r / TILE_ROWS, c / TILE_COLS);
        let inside =
            batch < self.batch && row_tile < self.row_tiles() && col_tile < self.col_tiles();
        inside.then(|| {
            batch * self.batch_stride()
                + (row_tile * self.col_tiles() + col_tile) * TILE_BYTES
                + (r % 32) * 16
                + (r / 32 % 4) * 4
                + c % 4
        })
    }

    /// Inverse of [`ScaleLayout::offset`], for places in the padding as well. `None` from
    /// [`ScaleLayout::swizzled_len`] on.
    pub fn coord(&self, offset: usize) -> Option<ScaleCoord> {
        if offset >= self.swizzled_len() {
            return None;
        }
        let (batch, within) = (offset / self.batch_stride(), offset % self.batch_stride());
        let (tile, o) = (within / TILE_BYTES, within % TILE_BYTES);
        Some(ScaleCoord {
            batch,
            row: (tile / self.col_tiles()) * TILE_ROWS + (o % 16) / 4 * 32 + o / 16,
            col: (tile % self.col_tiles()) * TILE_COLS + o % 4,
        })
    }

    /// Row-major scale factors \[batch, rows, k/16\] to the 128x4 layout, padding zero.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::OutOfMemory`].
    pub fn swizzle(&self, row_major: &[u8]) -> Result<Vec<u8>> {
        self.check(Buffer::Scales, self.row_major_len(), row_major.len())?;
        let mut out = memory::filled(0, self.swizzled_len(), Operand::Matrix)?;
        self.swizzle_into(row_major, &mut out)?;
        Ok(out)
    }

    /// [`ScaleLayout::swizzle`] into a buffer of [`ScaleLayout::swizzled_len`] bytes, all of which
    /// are written.
    ///
    /// # Errors
    /// [`Error::Length`].
    pub fn swizzle_into(&self, row_major: &[u8], swizzled: &mut [u8]) -> Result<()> {
        self.check(Buffer::Scales, self.row_major_len(), row_major.len())?;
        self.check(Buffer::SwizzledScales, self.swizzled_len(), swizzled.len())?;
        let (rows, cols, path, whole) = (self.rows, self.cols, Path::best(), swizzled.len());
        let row_tile = |(t, tiles): (usize, &mut [u8])| {
            let (batch, row) = (t / self.row_tiles(), t % self.row_tiles() * TILE_ROWS);
            let count = TILE_ROWS.min(rows - row);
            let values = &row_major[(batch * rows + row) * cols..][..count * cols];
            kernels::swizzle_row_tile(path, whole, values, cols, tiles);
        };
        let row_tile_bytes = self.row_tile_bytes();
        if swizzled.len() <= THREAD_BYTES {
            swizzled.chunks_exact_mut(row_tile_bytes).enumerate().for_each(row_tile);
        } else {
            swizzled
                .par_chunks_exact_mut(row_tile_bytes)
                .with_min_len(THREAD_BYTES.div_ceil(row_tile_bytes))
                .enumerate()
                .for_each(row_tile);
        }
        Ok(())
    }

    /// The 128x4 layout back to row-major; padding is dropped.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::OutOfMemory`].
    pub fn unswizzle(&self, swizzled: &[u8]) -> Result<Vec<u8>> {
        self.check(Buffer::SwizzledScales, self.swizzled_len(), swizzled.len())?;
        let mut out = memory::filled(0, self.row_major_len(), Operand::Matrix)?;
        self.unswizzle_into(swizzled, &mut out)?;
        Ok(out)
    }

    /// [`ScaleLayout::unswizzle`] into a buffer of [`ScaleLayout::row_major_len`] bytes.
    ///
    /// # Errors
    /// [`Error::Length`].
    pub fn unswizzle_into(&self, swizzled: &[u8], row_major: &mut [u8]) -> Result<()> {
        self.check(Buffer::Scales, self.row_major_len(), row_major.len())?;
        self.check(Buffer::SwizzledScales, self.swizzled_len(), swizzled.len())?;
        if row_major.is_empty() {
            return Ok(()); // no rows, no tiles to cut into
        }
        let (cols, path, row_tile_bytes) = (self.cols, Path::best(), self.row_tile_bytes());
        let matrix = (self.rows * cols, self.batch_stride());
        let row_tile = (TILE_ROWS * cols, row_tile_bytes);
        let whole = row_major.len();
        if swizzled.len() <= THREAD_BYTES {
            let matrices =
                row_major.chunks_exact_mut(matrix.0).zip(swizzled.chunks_exact(matrix.1));
            for (values, tiles) in matrices {
                let row_tiles = values.chunks_mut(row_tile.0).zip(tiles.chunks_exact(row_tile.1));
                row_tiles.for_each(|(values, tiles)| {
                    kernels::unswizzle_row_tile(path, whole, tiles, cols, values);
                });
            }
        } else {
            row_major
                .par_chunks_exact_mut(matrix.0)
                .zip(swizzled.par_chunks_exact(matrix.1))
                .flat_map(|(values, tiles)| {
                    values.par_chunks_mut(row_tile.0).zip(tiles.par_chunks_exact(row_tile.1))
                })
                .for_each(|(values, tiles)| {
                    kernels::unswizzle_row_tile(path, whole, tiles, cols, values)
                });
        }
        Ok(())
    }

    fn check(&self, buffer: Buffer, expected: usize, actual: usize) -> Result<()> {
        if expected == actual {
            return Ok(());
        }
        Err(Error::Length {
            operand: Operand::Matrix,
            buffer,
            expected,
            actual,
            batch: self.batch,
            rows: self.rows,
            cols: self.cols * BLOCK,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes in 128 bits are sizes in 64, or the shape is refused. Without overflow checks, too, a layout that
    /// wrapped would show here.
    #[test]
    fn no_size_wraps() {
        let edges = [0usize, 1, 2, 3, 127, 128, 129, 1 << 20, 1 << 31, 1 << 32, 1 << 55, 1 << 57];
        let huge = [(1 << 59) + 16, (1 << 61) - 16, 1 << 61, isize::MAX as usize, usize::MAX];
        let all = || edges.into_iter().chain(huge);
        let mut accepted = 0;
        for (batch, rows) in all().flat_map(|l| all().map(move |m| (l, m))) {
            for k in all().map(|k| k / 16 * 16).chain(all()).chain([16, 48, 64]) {
                let wide = |n: usize| n as u128;
                let tiles = wide(rows).div_ceil(128) * wide(k / BLOCK).div_ceil(4);
                let len = wide(batch).checked_mul(tiles * 512);
                let what = format!("{batch} x {rows} x {k}");
                let Ok(layout) = ScaleLayout::new(batch, rows, k) else { continue };
                assert_eq!(Some(wide(layout.swizzled_len())), len, "{what}");
                assert!(isize::try_from(layout.swizzled_len()).is_ok(), "{what}");
                let row_major = wide(batch) * wide(rows) * wide(k / BLOCK);
                assert_eq!(wide(layout.row_major_len()), row_major, "{what}");
                accepted += 1;

                let end = layout.swizzled_len();
                for outside in [end, usize::MAX] {
                    assert_eq!(layout.coord(outside), None, "{what}");
                }
                let first = ScaleCoord { batch: 0, row: 0, col: 0 };
                assert_eq!(layout.offset(first), (rows > 0).then_some(0), "{what}");
                for at in [
                    ScaleCoord { batch, ..first },
                    ScaleCoord { batch: usize::MAX, ..first },
                    ScaleCoord { row: rows.next_multiple_of(128), ..first },
                    ScaleCoord { row: usize::MAX, ..first },
                    ScaleCoord { col: (k / BLOCK).next_multiple_of(4), ..first },
                    ScaleCoord { col: usize::MAX, ..first },
                ] {
                    assert_eq!(layout.offset(at), None, "{what} {at:?}");
                }
                if let Some(last) = end.checked_sub(1) {
                    let at = layout.coord(last).unwrap();
                    assert_eq!(at.batch, batch - 1, "{what}");
                    assert!(at.row >= rows - 1 && at.col >= k / BLOCK - 1, "{what}");
                    assert_eq!(layout.offset(at), Some(last), "{what}");
                }
            }
        }
        assert!(accepted > 500, "{accepted}");
    }

    #[test]
    fn lengths_are_checked_first() {
        let layout = ScaleLayout::new(1, 1 << 40, 1 << 14).unwrap();
        for wrong in [&[][..], &[0; 512]] {
            assert!(matches!(layout.swizzle(wrong), Err(Error::Length { .. })));
            assert!(matches!(layout.unswizzle(wrong), Err(Error::Length { .. })));
        }
    }
}
