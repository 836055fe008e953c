//! Plain Rust: the kernel that always exists, and the one to read first.

use std::marker::PhantomData;
use std::ops::Range;

use super::{ABlock, BBlock, decode, pack_row};
use crate::cpu::integer::STRIP;
use crate::cpu::schedule::{Kernel, Piece};
use crate::dtype::Element;
use crate::format::{BLOCK, e2m1};
use crate::matrix::ValuesView;

pub(in crate::cpu) struct Portable<T>(PhantomData<T>);

impl<T> Portable<T> {
    pub fn new() -> Self {
        Portable(PhantomData)
    }
}

/// Rows whose sums are kept while a block is unpacked.
const ROWS_AT_ONCE: usize = 8;

impl<T: Element> Kernel for Portable<T> {
    type Input<'a> = ValuesView<'a, T>;
    type A = ABlock;
    type B = BBlock;
    const ROWS: usize = 1;
    const K: usize = BLOCK;

    fn pack(
        &self,
        a: &ValuesView<'_, T>,
        rows: Range<usize>,
        units: Range<usize>,
        out: &mut [ABlock],
    ) {
        pack_row(a, rows.start, units, out);
    }

    fn decode(&self, piece: Piece<'_>, out: &mut [BBlock]) {
        for (weight, b) in piece.strips.into_iter().enumerate() {
            decode(b, weight, piece.units.clone(), out);
        }
    }

    fn multiply(&self, a: &[ABlock], b: &[BBlock], acc: [&mut [[f32; STRIP]]; 2], first: bool) {
        for (weight, acc) in acc.into_iter().enumerate() {
            let rows = a.chunks(ROWS_AT_ONCE * b.len());
            for (a, acc) in rows.zip(acc.chunks_mut(ROWS_AT_ONCE)) {
                let mut sums = [[0.0; STRIP]; ROWS_AT_ONCE];
                for (k, block) in b.iter().enumerate() {
                    let (values, scales) = (unpack(&block.codes[weight]), &block.scales[weight]);
                    let of_rows = a.iter().skip(k).step_by(b.len());
                    for (sum, a) in sums.iter_mut().zip(of_rows) {
                        add_block(sum, a, &values, scales);
                    }
                }
                for (acc, sum) in acc.iter_mut().zip(&sums) {
                    for (acc, sum) in acc.iter_mut().zip(sum) {
                        *acc = if first { *sum } else { *acc + sum };
                    }
                }
            }
        }
    }
}

/// e2m1 values, `[k][column]`.
fn unpack(codes: &[[u32; STRIP]; 2]) -> [[f32; STRIP]; BLOCK] {
    let mut values = [[0.0; STRIP]; BLOCK];
    for (k, values) in values.iter_mut().enumerate() {
        for (value, code) in values.iter_mut().zip(&codes[k / 8]) {
            *value = e2m1::VALUES[(code >> (4 * (k % 8)) & 15) as usize];
        }
    }
    values
}

/// Adds a block's products to the sum of its row.
fn add_block(
    sum: &mut [f32; STRIP],
    a: &ABlock,
    values: &[[f32; STRIP]; BLOCK],
    scales: &[f32; STRIP],
) {
    let mut halves = [[0.0; STRIP]; 2];
    for (half, odd) in halves.iter_mut().zip(0..) {
        for column in 0..STRIP {
            half[column] = a[odd] * values[odd][column];
        }
        for k in (odd + 2..BLOCK).step_by(2) {
            for column in 0..STRIP {
                half[column] += a[k] * values[k][column];
            }
        }
    }
    for column in 0..STRIP {
        sum[column] += (halves[0][column] + halves[1][column]) * scales[column];
    }
}
