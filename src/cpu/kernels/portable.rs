//! Plain Rust: the kernel that always exists, and the one to read first.

use std::hint::black_box;
use std::ops::Range;

use crate::cpu::integer::{A_SCALE, B_SCALE, DOUBLED_PAIRS, SCALES, STRIP};
use crate::cpu::schedule::{Kernel, Piece};
use crate::format::BLOCK;
use crate::matrix::Nvfp4View;

pub(in super::super) struct Portable;

/// 16 consecutive k of one row of A.
#[derive(Debug, Clone, Copy, Default)]
pub(in super::super) struct ABlock {
    codes: [i16; BLOCK],
    scale: f32,
}

/// 16 consecutive k of 16 columns of both weights: `codes[weight][k][column]`, so that one value of A
/// meets a vector of columns.
#[derive(Debug, Clone, Copy, Default)]
pub(in super::super) struct BBlock {
    codes: [[[i16; STRIP]; BLOCK]; 2],
    scales: [[f32; STRIP]; 2],
}

impl Kernel for Portable {
    type Input<'a> = Nvfp4View<'a>;
    type A = ABlock;
    type B = BBlock;
    const ROWS: usize = 1;
    const K: usize = BLOCK;

    fn pack(&self, a: &Nvfp4View<'_>, rows: Range<usize>, units: Range<usize>, out: &mut [ABlock]) {
        for ((bytes, &scale), out) in blocks_of_row(a, rows.start, units).zip(out) {
            for (pair, &byte) in out.codes.chunks_exact_mut(2).zip(bytes) {
                pair.copy_from_slice(&DOUBLED_PAIRS[usize::from(byte)].map(i16::from));
            }
            out.scale = SCALES[usize::from(scale)] * A_SCALE;
        }
    }

    fn decode(&self, piece: Piece<'_>, out: &mut [BBlock]) {
        let Piece { strips, units, .. } = piece;
        if strips.iter().any(|b| b.rows() < STRIP) {
            out.fill(BBlock::default());
        }
        for (weight, b) in strips.into_iter().enumerate() {
            for row in 0..b.rows() {
                let blocks = blocks_of_row(&b.weight, b.first + row, units.clone());
                for ((bytes, &scale), out) in blocks.zip(&mut *out) {
                    for (pair, &byte) in out.codes[weight].chunks_exact_mut(2).zip(bytes) {
                        let [low, high] = DOUBLED_PAIRS[usize::from(byte)].map(i16::from);
                        pair[0][row] = low;
                        pair[1][row] = high;
                    }
                    out.scales[weight][row] = SCALES[usize::from(scale)] * B_SCALE;
                }
            }
        }
    }

    fn multiply(&self, a: &[ABlock], b: &[BBlock], acc: [&mut [[f32; STRIP]]; 2], first: bool) {
        for (weight, acc) in acc.into_iter().enumerate() {
            for (acc, a) in acc.iter_mut().zip(a.chunks_exact(b.len())) {
                if first {
                    *acc = [0.0; STRIP];
                }
                for (a, b) in a.iter().zip(b) {
                    // 16 products of at most 12·12 fit an i16. A known count would be unrolled, and
                    // then turned into vectors along k, with more shuffles than products.
                    let mut dot = [0i16; STRIP];
                    for (&a, b) in a.codes.iter().zip(&b.codes[weight]).take(black_box(BLOCK)) {
                        for (dot, &b) in dot.iter_mut().zip(b) {
                            *dot += a * b;
                        }
                    }
                    for ((acc, &dot), scale) in acc.iter_mut().zip(&dot).zip(&b.scales[weight]) {
                        // A dot product of 12 bits times two scales of 4 bits: only the addition
                        // rounds.
                        *acc += f32::from(dot) * scale * a.scale;
                    }
                }
            }
        }
    }
}

/// Packed codes and scale byte of blocks `blocks` of a row.
fn blocks_of_row<'a>(
    view: &Nvfp4View<'a>,
    row: usize,
    blocks: Range<usize>,
) -> impl Iterator<Item = (&'a [u8], &'a u8)> + use<'a> {
    let codes = &view.row_codes(row)[blocks.start * BLOCK / 2..blocks.end * BLOCK / 2];
    codes.chunks_exact(BLOCK / 2).zip(&view.row_scales(row)[blocks])
}
