//! Operands of the integer kernels.
//!
//! With doubled codes `2·e2m1`, integers in \[-12, 12\], a block of 16 is an exact integer dot
//! product of magnitude at most 2304. Weights are biased by 12 to be unsigned, which is what
//! `vpdpbusd` and `vpmaddubsw` take on one side; `Σ a·(b+12) − 12·Σa` takes the bias out again,
//! and −12·Σa is known when A is packed.
//!
//! Four k of a block make a quad, in the order in which masking takes them out of packed bytes: the
//! low nibbles of bytes 0..4 (k = 0, 2, 4, 6), their high nibbles (k = 1, 3, 5, 7), then the same of
//! bytes 4..8.

// The biased codes are for x86-64: the products of NEON take two signed operands.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]

use crate::format::{BLOCK, e2m1, ue4m3};
use crate::matrix::Nvfp4View;

/// Columns of one strip.
pub(super) const STRIP: usize = 16;

/// Makes codes unsigned.
pub(super) const BIAS: i32 = 12;

/// The bits of 1.5·2^23. An integer |d| < 2^22 added to them gives the bits of the f32
/// 1.5·2^23 + d: the conversion to float is then one subtraction, which an FMA does for free.
pub(super) const MAGIC_BITS: i32 = 0x4b40_0000;
/// The same as a number.
pub(super) const MAGIC: f32 = 12_582_912.0;

/// Decoded weight scales are 2^-8 of their value, since that is what a UE4M3 byte shifted into
/// the place of an f16's exponent and mantissa means.
pub(super) const B_SCALE: f32 = 1.0 / 256.0;
/// The scales of A make up for it, and for the doubling of both codes.
pub(super) const A_SCALE: f32 = 256.0 / 4.0;

/// 16 consecutive k of one row of A.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct ABlock {
    /// Doubled codes, quad by quad.
    pub codes: [i8; BLOCK],
    /// `MAGIC_BITS − 12·Σ codes`.
    pub start: i32,
    /// Scale factor times [`A_SCALE`].
    pub scale: f32,
}

impl ABlock {
    /// Quad `q` as a word.
    #[inline(always)]
    pub fn quad(&self, q: usize) -> i32 {
        let c = &self.codes[4 * q..4 * q + 4];
        i32::from_ne_bytes([c[0] as u8, c[1] as u8, c[2] as u8, c[3] as u8])
    }
}

/// 16 consecutive k of 16 columns of both weights; `[weight]` is 0 for B1 and 1 for B2.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct BBlock {
    /// Biased doubled codes: `[weight][quad][column]`.
    pub codes: [[[[u8; 4]; STRIP]; 4]; 2],
    /// Scale factors times 2^-8.
    pub scales: [[f32; STRIP]; 2],
}

impl Default for BBlock {
    fn default() -> Self {
        BBlock { codes: [[[[0; 4]; STRIP]; 4]; 2], scales: [[0.0; STRIP]; 2] }
    }
}

/// Packs blocks `blocks` of row `row` of A.
pub(super) fn pack_row(
    a: &Nvfp4View<'_>,
    row: usize,
    blocks: std::ops::Range<usize>,
    out: &mut [ABlock],
) {
    let codes = &a.row_codes(row)[blocks.start * BLOCK / 2..blocks.end * BLOCK / 2];
    let scales = &a.row_scales(row)[blocks];
    for ((bytes, &scale), out) in codes.chunks_exact(BLOCK / 2).zip(scales).zip(out) {
        let mut sum = 0;
        for (quads, bytes) in out.codes.chunks_exact_mut(8).zip(bytes.chunks_exact(4)) {
            for (i, &byte) in bytes.iter().enumerate() {
                let [low, high] = DOUBLED_PAIRS[usize::from(byte)];
                (quads[i], quads[4 + i]) = (low, high);
                sum += i32::from(low) + i32::from(high);
            }
        }
        out.start = MAGIC_BITS - BIAS * sum;
        out.scale = SCALES[usize::from(scale)] * A_SCALE;
    }
}

/// Both doubled codes of a packed byte.
pub(super) static DOUBLED_PAIRS: [[i8; 2]; 256] = {
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [e2m1::DOUBLED[byte & 15], e2m1::DOUBLED[byte >> 4]];
        byte += 1;
    }
    table
};

/// The value of each valid scale byte.
pub(super) static SCALES: [f32; 128] = {
    let mut table = [0.0; 128];
    let mut byte = 0;
    while byte < 127 {
        table[byte] = ue4m3::times_512(byte as u8) as f32 / 512.0;
        byte += 1;
    }
    table
};
