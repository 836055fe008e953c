//! The block kernels in NEON intrinsics: a block of 16 is four registers of f32, and one of codes.

use std::arch::aarch64::*;

use half::{bf16, f16};

use super::portable::{self, GROUP};
use crate::format::quantize::quantize_block;
use crate::format::scale_layout::{TILE_BYTES, TILE_COLS, TILE_ROWS};
use crate::format::{BLOCK, e2m1, ue4m3};

/// f32 in a register.
const LANES: usize = 4;

/// A block, in order.
type Block = [float32x4_t; BLOCK / LANES];

// Compilers make the same of these as one would by hand.

#[target_feature(enable = "neon")]
pub(super) fn max_byte(bytes: &[u8]) -> u8 {
    portable::max_byte(bytes)
}

#[target_feature(enable = "neon")]
pub(super) fn amax_bits_32(values: &[f32]) -> u32 {
    portable::amax_bits_32(values)
}

#[target_feature(enable = "neon")]
pub(super) fn amax_bits_f16(values: &[f16]) -> u16 {
    portable::amax_bits_f16(values)
}

#[target_feature(enable = "neon")]
pub(super) fn amax_bits_bf16(values: &[bf16]) -> u16 {
    portable::amax_bits_bf16(values)
}

macro_rules! quantize_kernel {
    ($name:ident, $type:ty, $load:path) => {
        #[target_feature(enable = "neon")]
        pub(super) fn $name(values: &[$type], global: f32, codes: &mut [u8], scales: &mut [u8]) {
            let (groups, rest) = values.as_chunks::<{ GROUP * BLOCK }>();
            let (code_groups, rest_codes) = codes.as_chunks_mut::<{ GROUP * BLOCK / 2 }>();
            let (scale_groups, rest_scales) = scales.as_chunks_mut::<GROUP>();
            for ((group, codes), scales) in groups.iter().zip(code_groups).zip(scale_groups) {
                let (blocks, _) = group.as_chunks::<BLOCK>();
                let mut units = [0.0; GROUP];
                for (amax, block) in units.iter_mut().zip(blocks) {
                    *amax = amax_of_block($load(block));
                }
                portable::scale_group(&mut units, global, scales);
                let (packed, _) = codes.as_chunks_mut::<{ BLOCK / 2 }>();
                for ((block, &unit), packed) in blocks.iter().zip(&units).zip(packed) {
                    code_block($load(block), unit, packed);
                }
            }
            let blocks = rest.chunks_exact(BLOCK).zip(rest_codes.chunks_exact_mut(BLOCK / 2));
            for ((block, codes), scale) in blocks.zip(rest_scales) {
                *scale = quantize_block(block, global, codes);
            }
        }
    };
}

quantize_kernel!(quantize_f32, f32, load_f32);
quantize_kernel!(quantize_f16, f16, load_f16);
quantize_kernel!(quantize_bf16, bf16, load_bf16);

#[inline]
#[target_feature(enable = "neon")]
fn load_f32(block: &[f32; BLOCK]) -> Block {
    let (quads, _) = block.as_chunks::<LANES>();
    // SAFETY: the arrays have 16 bytes, and a block has four.
    std::array::from_fn(|i| unsafe { vld1q_f32(quads[i].as_ptr()) })
}

#[inline]
#[target_feature(enable = "neon")]
fn load_f16(block: &[f16; BLOCK]) -> Block {
    let (quads, _) = block.as_chunks::<LANES>();
    std::array::from_fn(|i| {
        // SAFETY: the arrays have 8 bytes, and a block has four.
        let bits = unsafe { vld1_u16(quads[i].as_ptr().cast()) };
        vcvt_f32_f16(vreinterpret_f16_u16(bits))
    })
}

#[inline]
#[target_feature(enable = "neon")]
fn load_bf16(block: &[bf16; BLOCK]) -> Block {
    let (quads, _) = block.as_chunks::<LANES>();
    std::array::from_fn(|i| {
        // SAFETY: the arrays have 8 bytes, and a block has four.
        let bits = unsafe { vld1_u16(quads[i].as_ptr().cast()) };
        vreinterpretq_f32_u32(vshll_n_u16::<16>(bits))
    })
}

/// Largest magnitude of finite values.
#[inline]
#[target_feature(enable = "neon")]
fn amax_of_block(x: Block) -> f32 {
    let [a, b, c, d] = x.map(|x| vabsq_f32(x));
    vmaxvq_f32(vmaxq_f32(vmaxq_f32(a, b), vmaxq_f32(c, d)))
}

/// Codes of a block.
#[inline]
#[target_feature(enable = "neon")]
fn code_block(x: Block, unit: f32, packed: &mut [u8; BLOCK / 2]) {
    let unit = vdupq_n_f32(unit);
    let [a, b, c, d] = x.map(|x| encode_e2m1(vdivq_f32(vabsq_f32(x), unit), x));
    // The low 16 bits of each, then the low 8.
    let (ab, cd) = (vuzp1q_u16(a, b), vuzp1q_u16(c, d));
    let codes = vuzp1q_u8(vreinterpretq_u8_u16(ab), vreinterpretq_u8_u16(cd));
    // SAFETY: the array has 8 bytes.
    unsafe { vst1_u8(packed.as_mut_ptr(), pack_pairs(vreinterpretq_u16_u8(codes))) };
}

/// Pairs of bytes below 16 as one byte each, the first in the lower half.
#[inline]
#[target_feature(enable = "neon")]
fn pack_pairs(pairs: uint16x8_t) -> uint8x8_t {
    vmovn_u16(vsraq_n_u16::<4>(pairs, pairs))
}

/// [`e2m1::encode`] of the magnitudes `q` with the signs of `x`, in lanes of 32 bits; NaN (which is 0/0 here) counts as 0.
///
/// From 1 on, the codes of a power of two and of its half are two steps of e2m1 apart: the code of q in \[2^e, 2^(e+1))
/// is 2e plus q in steps of 2^(e-1), and below 1 it is q in steps of 1/2. Such a step is the unit in the last place of
/// 2^(e+22), so that the low bits of 2^(e+22) + q are q in steps, rounded as the format wants it.
#[inline]
#[target_feature(enable = "neon")]
fn encode_e2m1(q: float32x4_t, x: float32x4_t) -> uint16x8_t {
    // `maxnm` of NaN and a number is the number.
    let q = vminq_f32(vmaxnmq_f32(q, vdupq_n_f32(0.0)), vdupq_n_f32(e2m1::MAX));
    let at_least_1 = vreinterpretq_u32_f32(vmaxq_f32(q, vdupq_n_f32(1.0)));
    // (127 + e) << 23
    let power = vandq_u32(at_least_1, vdupq_n_u32(0x7f80_0000));
    // 2·127 + 2e is added below, and 2·127 + 2 is 0 in the bits that count.
    let anchor = vaddq_u32(power, vdupq_n_u32((22 << 23) + 2));
    let sum = vreinterpretq_u32_f32(vaddq_f32(q, vreinterpretq_f32_u32(anchor)));
    let code = vsraq_n_u32::<22>(sum, power);
    let sign = vshrq_n_u32::<28>(vreinterpretq_u32_f32(x));
    // Three bits of the code, and the fourth of the sign.
    let code = vbslq_u32(vdupq_n_u32(7), code, sign);
    vreinterpretq_u16_u32(code)
}

macro_rules! dequantize_kernel {
    ($name:ident, $type:ty, $store:path) => {
        #[target_feature(enable = "neon")]
        pub(super) fn $name(
            codes: &[u8],
            scales: &[u8],
            global: f32,
            out: &mut [$type],
            _stream: bool,
        ) {
            let (blocks, _) = codes.as_chunks::<{ BLOCK / 2 }>();
            let (out, _) = out.as_chunks_mut::<BLOCK>();
            for ((codes, &scale), out) in blocks.iter().zip(scales).zip(out) {
                let scale = ue4m3::VALUES[usize::from(scale & 127)];
                // The product with the scale is exact.
                let values = values_of_codes(codes)
                    .map(|value| vmulq_n_f32(vmulq_n_f32(value, scale), global));
                let (quads, _) = out.as_chunks_mut::<LANES>();
                for (out, value) in quads.iter_mut().zip(values) {
                    $store(value, out);
                }
            }
        }
    };
}

dequantize_kernel!(dequantize_f32, f32, store_f32);
dequantize_kernel!(dequantize_f16, f16, store_f16);
dequantize_kernel!(dequantize_bf16, bf16, store_bf16);

#[inline]
#[target_feature(enable = "neon")]
fn values_of_codes(packed: &[u8; BLOCK / 2]) -> Block {
    // SAFETY: the arrays have 8 and 16 bytes.
    let (packed, upper, lower) = unsafe {
        (vld1_u8(packed.as_ptr()), vld1q_u8(e2m1::UPPER.as_ptr()), vld1q_u8(e2m1::LOWER.as_ptr()))
    };
    let codes = unpack_pairs(packed);
    let (upper, lower) = (vqtbl1q_u8(upper, codes), vqtbl1q_u8(lower, codes));
    let first = vreinterpretq_u16_u8(vzip1q_u8(lower, upper));
    let second = vreinterpretq_u16_u8(vzip2q_u8(lower, upper));
    let widen = |half| vreinterpretq_f32_u32(vshll_n_u16::<16>(half));
    [
        widen(vget_low_u16(first)),
        widen(vget_high_u16(first)),
        widen(vget_low_u16(second)),
        widen(vget_high_u16(second)),
    ]
}

/// The codes of eight bytes, the low four bits of each first.
#[inline]
#[target_feature(enable = "neon")]
fn unpack_pairs(packed: uint8x8_t) -> uint8x16_t {
    let (low, high) = (vand_u8(packed, vdup_n_u8(15)), vshr_n_u8::<4>(packed));
    vcombine_u8(vzip1_u8(low, high), vzip2_u8(low, high))
}

#[inline]
#[target_feature(enable = "neon")]
fn store_f32(value: float32x4_t, out: &mut [f32; LANES]) {
    // SAFETY: the array has 16 bytes.
    unsafe { vst1q_f32(out.as_mut_ptr(), value) };
}

#[inline]
#[target_feature(enable = "neon")]
fn store_f16(value: float32x4_t, out: &mut [f16; LANES]) {
    let bits = vreinterpret_u16_f16(vcvt_f16_f32(value));
    // SAFETY: the array has 8 bytes, of numbers, of which every bit pattern is valid.
    unsafe { vst1_u16(out.as_mut_ptr().cast(), bits) };
}

#[inline]
#[target_feature(enable = "neon")]
fn store_bf16(value: float32x4_t, out: &mut [bf16; LANES]) {
    // To nearest even; there is no NaN.
    let bits = vreinterpretq_u32_f32(value);
    let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
    let rounded = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
    // SAFETY: the array has 8 bytes, of numbers, of which every bit pattern is valid.
    unsafe { vst1_u16(out.as_mut_ptr().cast(), vshrn_n_u32::<16>(rounded)) };
}

#[target_feature(enable = "neon")]
pub(super) fn pack(codes: &[u8], packed: &mut [u8], _stream: bool) -> bool {
    let (pairs, rest_codes) = codes.as_chunks::<32>();
    let (out, rest_packed) = packed.as_chunks_mut::<16>();
    let mut seen = vdupq_n_u8(0);
    for (pairs, out) in pairs.iter().zip(out) {
        // SAFETY: the array has 32 bytes.
        let (a, b) = unsafe { (vld1q_u8(pairs.as_ptr()), vld1q_u8(pairs[16..].as_ptr())) };
        seen = vorrq_u8(seen, vorrq_u8(a, b));
        let (a, b) = (vreinterpretq_u16_u8(a), vreinterpretq_u16_u8(b));
        // SAFETY: the array has 16 bytes.
        unsafe { vst1q_u8(out.as_mut_ptr(), vcombine_u8(pack_pairs(a), pack_pairs(b))) };
    }
    let fits = vmaxvq_u8(seen) < 16;
    fits & portable::pack(rest_codes, rest_packed, false)
}

#[target_feature(enable = "neon")]
pub(super) fn unpack(packed: &[u8], codes: &mut [u8], _stream: bool) {
    let (halves, rest_packed) = packed.as_chunks::<8>();
    let (out, rest_codes) = codes.as_chunks_mut::<16>();
    for (half, out) in halves.iter().zip(out) {
        // SAFETY: the arrays have 8 and 16 bytes.
        unsafe { vst1q_u8(out.as_mut_ptr(), unpack_pairs(vld1_u8(half.as_ptr()))) };
    }
    portable::unpack(rest_packed, rest_codes, false);
}

/// Rows r, r+32, r+64 and r+96 of a tile stand next to each other, 4 columns each.
const ROW_GROUPS: usize = 4;
/// Rows of such a group.
const GROUP_ROWS: usize = TILE_ROWS / ROW_GROUPS;
/// Tiles worked on together: what they need of a row is one register.
const TILES: usize = 16 / TILE_COLS;

#[target_feature(enable = "neon")]
pub(super) fn swizzle_row_tile(rows: &[u8], cols: usize, tiles: &mut [u8], stream: bool) {
    if rows.len() < TILE_ROWS * cols || !cols.is_multiple_of(TILES * TILE_COLS) {
        return portable::swizzle_row_tile(rows, cols, tiles, stream);
    }
    let (tiles, _) = tiles.as_chunks_mut::<TILE_BYTES>();
    for (i, tiles) in tiles.chunks_exact_mut(TILES).enumerate() {
        for lane in 0..GROUP_ROWS {
            let of_group = |group| {
                let row = &rows[(group * GROUP_ROWS + lane) * cols..][..cols];
                load(&row.as_chunks().0[i])
            };
            let lanes = transpose(std::array::from_fn(of_group));
            for (tile, value) in tiles.iter_mut().zip(lanes) {
                store(value, &mut tile.as_chunks_mut().0[lane]);
            }
        }
    }
}

#[target_feature(enable = "neon")]
pub(super) fn unswizzle_row_tile(tiles: &[u8], cols: usize, rows: &mut [u8], stream: bool) {
    if rows.len() < TILE_ROWS * cols || !cols.is_multiple_of(TILES * TILE_COLS) {
        return portable::unswizzle_row_tile(tiles, cols, rows, stream);
    }
    let (tiles, _) = tiles.as_chunks::<TILE_BYTES>();
    for (i, tiles) in tiles.chunks_exact(TILES).enumerate() {
        for lane in 0..GROUP_ROWS {
            let of_tile = |tile: usize| load(&tiles[tile].as_chunks().0[lane]);
            let groups = transpose(std::array::from_fn(of_tile));
            for (group, value) in groups.into_iter().enumerate() {
                let row = &mut rows[(group * GROUP_ROWS + lane) * cols..][..cols];
                store(value, &mut row.as_chunks_mut().0[i]);
            }
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn load(bytes: &[u8; 16]) -> uint32x4_t {
    // SAFETY: the array has 16 bytes.
    vreinterpretq_u32_u8(unsafe { vld1q_u8(bytes.as_ptr()) })
}

#[inline]
#[target_feature(enable = "neon")]
fn store(value: uint32x4_t, to: &mut [u8; 16]) {
    // SAFETY: the array has 16 bytes.
    unsafe { vst1q_u8(to.as_mut_ptr(), vreinterpretq_u8_u32(value)) };
}

/// Transposition of four rows of four words.
#[inline]
#[target_feature(enable = "neon")]
fn transpose(rows: [uint32x4_t; 4]) -> [uint32x4_t; 4] {
    let [a, b, c, d] = rows;
    let (even, odd) = ([vtrn1q_u32(a, b), vtrn1q_u32(c, d)], [vtrn2q_u32(a, b), vtrn2q_u32(c, d)]);
    let wide = |pair: [uint32x4_t; 2]| pair.map(|words| vreinterpretq_u64_u32(words));
    let ([e0, e1], [o0, o1]) = (wide(even), wide(odd));
    [vtrn1q_u64(e0, e1), vtrn1q_u64(o0, o1), vtrn2q_u64(e0, e1), vtrn2q_u64(o0, o1)]
        .map(|pairs| vreinterpretq_u32_u64(pairs))
}
