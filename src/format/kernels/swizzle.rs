//! The 128x4 scale layout in AVX-512 intrinsics: 16 rows of 16 tiles at a time, which is one cache line
//! of each row and one of each tile.

use std::arch::x86_64::*;

use super::avx512::{head, put_line};
use crate::format::scale_layout::{TILE_BYTES, TILE_COLS, TILE_ROWS};

const LINE: usize = 64;
/// Tiles whose columns make one line of a row.
const TILES: usize = LINE / TILE_COLS;
/// Rows that share a line of a tile: four neighbors of each of the four groups of 32.
const ROWS: usize = 16;
/// Columns of the rows that are gathered before they are streamed.
const STRIP: usize = 1024;

/// Where lines are put together that are then streamed in order of their addresses: buffers need not
/// begin at a line, and a line that is streamed in two parts with others in between costs twice.
#[repr(align(64))]
struct Stage<const N: usize>([u8; N]);

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi2")]
pub(super) fn swizzle_row_tile(rows: &[u8], cols: usize, tiles: &mut [u8], stream: bool) {
    let mut stage = Stage([0; TILES * TILE_BYTES]);
    for (i, tiles) in tiles.chunks_mut(TILES * TILE_BYTES).enumerate() {
        let stage = &mut stage.0[..tiles.len()];
        let to = if stream { &mut *stage } else { &mut *tiles };
        let (start, width) = (i * LINE, LINE.min(cols - i * LINE));
        for part in 0..TILE_BYTES / LINE {
            prefetch_next(rows, i * (TILE_BYTES / LINE) + part);
            let mut x = [_mm512_setzero_si512(); ROWS];
            for (i, x) in x.iter_mut().enumerate() {
                let at = row(part, i) * cols + start;
                *x = rows.get(at..at + width).map_or(*x, |values| load(values));
            }
            let lines = tiles_of_rows(x);
            for (tile, line) in to.as_chunks_mut::<TILE_BYTES>().0.iter_mut().zip(lines) {
                put_line(line, &mut tile.as_chunks_mut().0[part], false);
            }
        }
        if stream {
            stream_copy(stage, tiles);
        }
    }
    _mm_sfence(); // orders streamed stores before whatever tells other threads of them
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi2")]
pub(super) fn unswizzle_row_tile(tiles: &[u8], cols: usize, rows: &mut [u8], stream: bool) {
    let mut stage = Stage([0; ROWS * STRIP]);
    for part in 0..TILE_BYTES / LINE {
        for start in (0..cols).step_by(STRIP) {
            let width = STRIP.min(cols - start);
            for offset in (0..width).step_by(LINE) {
                let first = (start + offset) / LINE;
                prefetch_next(tiles, part * cols.div_ceil(LINE) + first);
                let mut lines = [_mm512_setzero_si512(); TILES];
                let (tiles, _) = tiles[first * TILES * TILE_BYTES..].as_chunks::<TILE_BYTES>();
                for (line, tile) in lines.iter_mut().zip(tiles) {
                    *line = load(&tile[part * LINE..][..LINE]);
                }
                let count = LINE.min(width - offset);
                for (i, x) in rows_of_tiles(lines).into_iter().enumerate() {
                    if stream {
                        store(x, &mut stage.0[i * width + offset..][..count]);
                    } else {
                        let at = row(part, i) * cols + start + offset;
                        if let Some(to) = rows.get_mut(at..at + count) {
                            store(x, to);
                        }
                    }
                }
            }
            if stream {
                // Four neighbors have no gap between them when the strip is all of a row.
                let together = if width == cols { 4 } else { 1 };
                for (i, values) in stage.0[..ROWS * width].chunks(together * width).enumerate() {
                    let at = (row(part, i * together) * cols + start).min(rows.len());
                    let count = values.len().min(rows.len() - at);
                    stream_copy(&values[..count], &mut rows[at..][..count]);
                }
            }
        }
    }
    _mm_sfence(); // as above
}

/// The i-th row of those in a part of a tile.
fn row(part: usize, i: usize) -> usize {
    i / 4 * (TILE_ROWS / 4) + part * 4 + i % 4
}

/// Asks for the i-th piece of the next row tile, which follows this one: within a row tile, the lines are
/// read in an order that the hardware does not foresee.
#[inline]
fn prefetch_next(row_tile: &[u8], i: usize) {
    const BYTES: usize = ROWS * LINE;
    if let Some(piece) = row_tile.get(i * BYTES..(i + 1) * BYTES) {
        super::prefetch(piece, row_tile.len());
    }
}

/// Up to 64 bytes, the others zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(bytes: &[u8]) -> __m512i {
    // SAFETY: the mask has the bits of the slice's bytes only, and others are not read.
    unsafe { _mm512_maskz_loadu_epi8(mask(bytes.len()), bytes.as_ptr().cast()) }
}

/// The first bytes of a line, as many as the slice has, 64 at most.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store(line: __m512i, bytes: &mut [u8]) {
    // SAFETY: the mask has the bits of the slice's bytes only, and others are not written.
    unsafe { _mm512_mask_storeu_epi8(bytes.as_mut_ptr().cast(), mask(bytes.len()), line) };
}

#[inline]
fn mask(count: usize) -> u64 {
    if count >= LINE { u64::MAX } else { (1 << count) - 1 }
}

/// Copies a slice past the caches.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn stream_copy(from: &[u8], to: &mut [u8]) {
    let n = head(to, true).min(from.len());
    let (from_head, from) = from.split_at(n);
    let (to_head, to) = to.split_at_mut(n);
    to_head.copy_from_slice(from_head);
    let (from, from_rest) = from.as_chunks::<LINE>();
    let (to, to_rest) = to.as_chunks_mut::<LINE>();
    for (from, to) in from.iter().zip(to) {
        put_line(load(from), to, true);
    }
    to_rest.copy_from_slice(from_rest);
}

/// Lines of 16 tiles, given those of the [`row`]s of a part.
#[inline]
#[target_feature(enable = "avx512f")]
fn tiles_of_rows(x: [__m512i; ROWS]) -> [__m512i; TILES] {
    let y: [_; 4] = std::array::from_fn(|l| transpose_words([x[l], x[4 + l], x[8 + l], x[12 + l]]));
    let z: [_; 4] = std::array::from_fn(|m| transpose_lanes([y[0][m], y[1][m], y[2][m], y[3][m]]));
    std::array::from_fn(|tile| z[tile % 4][tile / 4])
}

/// Inverse of [`tiles_of_rows`].
#[inline]
#[target_feature(enable = "avx512f")]
fn rows_of_tiles(z: [__m512i; TILES]) -> [__m512i; ROWS] {
    let y: [_; 4] = std::array::from_fn(|m| transpose_lanes([z[m], z[4 + m], z[8 + m], z[12 + m]]));
    let x: [_; 4] = std::array::from_fn(|l| transpose_words([y[0][l], y[1][l], y[2][l], y[3][l]]));
    std::array::from_fn(|row| x[row % 4][row / 4])
}

/// Transposes the 4x4 words of 32 bits in each 128 bits of four registers.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_words([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (low, high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (low2, high2) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(low, low2),
        _mm512_unpackhi_epi64(low, low2),
        _mm512_unpacklo_epi64(high, high2),
        _mm512_unpackhi_epi64(high, high2),
    ]
}

/// Transposes the 4x4 lanes of 128 bits of four registers.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_lanes([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (even, odd) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
    let (even2, odd2) = (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
    [
        _mm512_shuffle_i32x4::<0x88>(even, even2),
        _mm512_shuffle_i32x4::<0x88>(odd, odd2),
        _mm512_shuffle_i32x4::<0xdd>(even, even2),
        _mm512_shuffle_i32x4::<0xdd>(odd, odd2),
    ]
}
