//! Plain Rust: the kernel that always exists, and the one to read first.

use std::ops::Range;

use crate::backend::cpu::integer::{self, ABlock, BBlock, MAGIC_BITS, STRIP};
use crate::backend::cpu::schedule::Kernel;
use crate::format::BLOCK;
use crate::matrix::Nvfp4View;

pub(in super::super) struct Portable;

impl Kernel for Portable {
    type A = ABlock;
    type B = BBlock;
    const ROWS: usize = 1;
    const K: usize = BLOCK;

    fn pack(&self, a: &Nvfp4View<'_>, rows: Range<usize>, units: Range<usize>, out: &mut [ABlock]) {
        integer::pack_row(a, rows.start, units, out);
    }

    fn decode(
        &self,
        b: [&Nvfp4View<'_>; 2],
        column: usize,
        units: Range<usize>,
        out: &mut [BBlock],
    ) {
        for (weight, b) in b.into_iter().enumerate() {
            integer::decode_strip(b, weight, column, units.clone(), out);
        }
    }

    fn multiply(&self, a: &[ABlock], b: &[BBlock], acc: [&mut [[f32; STRIP]]; 2], first: bool) {
        for (weight, acc) in acc.into_iter().enumerate() {
            for (acc, a) in acc.iter_mut().zip(a.chunks_exact(b.len())) {
                if first {
                    *acc = [0.0; STRIP];
                }
                for (a, b) in a.iter().zip(b) {
                    let mut dot = [a.start - MAGIC_BITS; STRIP];
                    for (a, b) in a.codes.chunks_exact(4).zip(&b.codes[weight]) {
                        for (dot, b) in dot.iter_mut().zip(b) {
                            // 4 products of at most 12·24 fit an i16 by far.
                            let quad: i16 = (0..4).map(|i| i16::from(a[i]) * i16::from(b[i])).sum();
                            *dot += i32::from(quad);
                        }
                    }
                    for ((acc, &dot), scale) in acc.iter_mut().zip(&dot).zip(&b.scales[weight]) {
                        // dot·scale has at most 16 significant bits: only the last step rounds.
                        *acc += dot as f32 * scale * a.scale;
                    }
                }
            }
        }
    }
}
