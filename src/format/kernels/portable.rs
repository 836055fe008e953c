//! The kernels in safe Rust, written so that compilers vectorize the inner loops: fixed trip counts,
//! no table look-ups, selects instead of branches.

use half::{bf16, f16};

use crate::dtype::Element;
use crate::format::quantize::quantize_block;
use crate::format::scale_layout::{TILE_BYTES, TILE_COLS, TILE_ROWS};
use crate::format::{BLOCK, e2m1, ue4m3};

#[inline(always)]
pub(super) fn pack(codes: &[u8], packed: &mut [u8], _stream: bool) -> bool {
    let mut seen = 0;
    for (pair, byte) in codes.chunks_exact(2).zip(packed) {
        let both = u16::from_le_bytes([pair[0], pair[1]]);
        seen |= both;
        *byte = (both | both >> 4) as u8;
    }
    seen & 0xf0f0 == 0
}

#[inline(always)]
pub(super) fn unpack(packed: &[u8], codes: &mut [u8], _stream: bool) {
    for (&byte, pair) in packed.iter().zip(codes.chunks_exact_mut(2)) {
        let both = u16::from(byte);
        pair.copy_from_slice(&((both | both << 4) & 0x0f0f).to_le_bytes());
    }
}

#[inline(always)]
pub(super) fn max_byte(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |m, &b| m.max(b))
}

/// Without the sign bit, the order of the bits (as integers) is the order of the magnitudes, with
/// infinity and then NaN above all numbers.
#[inline(always)]
pub(super) fn amax_bits_32(values: &[f32]) -> u32 {
    values.iter().fold(0i32, |m, v| m.max((v.to_bits() & 0x7fff_ffff) as i32)) as u32
}

#[inline(always)]
pub(super) fn amax_bits_f16(values: &[f16]) -> u16 {
    values.iter().fold(0i16, |m, v| m.max((v.to_bits() & 0x7fff) as i16)) as u16
}

#[inline(always)]
pub(super) fn amax_bits_bf16(values: &[bf16]) -> u16 {
    values.iter().fold(0i16, |m, v| m.max((v.to_bits() & 0x7fff) as i16)) as u16
}

/// Blocks that are worked on together, so that the arithmetic of their scales vectorizes, too.
pub(super) const GROUP: usize = 16;

#[inline(always)]
pub(super) fn quantize_f32(values: &[f32], global: f32, codes: &mut [u8], scales: &mut [u8]) {
    quantize(values, |v| v, global, codes, scales);
}

#[inline(always)]
pub(super) fn quantize_f16(values: &[f16], global: f32, codes: &mut [u8], scales: &mut [u8]) {
    quantize(values, widen_f16, global, codes, scales);
}

#[inline(always)]
pub(super) fn quantize_bf16(values: &[bf16], global: f32, codes: &mut [u8], scales: &mut [u8]) {
    let widen = |v: bf16| f32::from_bits(u32::from(v.to_bits()) << 16);
    quantize(values, widen, global, codes, scales);
}

#[inline(always)]
fn quantize<T: Element>(
    values: &[T],
    widen: impl Fn(T) -> f32,
    global: f32,
    codes: &mut [u8],
    scales: &mut [u8],
) {
    let (groups, rest) = values.as_chunks::<{ GROUP * BLOCK }>();
    let (code_groups, rest_codes) = codes.as_chunks_mut::<{ GROUP * BLOCK / 2 }>();
    let (scale_groups, rest_scales) = scales.as_chunks_mut::<GROUP>();
    for ((group, codes), scales) in groups.iter().zip(code_groups).zip(scale_groups) {
        quantize_group(group, &widen, global, codes, scales);
    }
    let blocks = rest.chunks_exact(BLOCK).zip(rest_codes.chunks_exact_mut(BLOCK / 2));
    for ((block, codes), scale) in blocks.zip(rest_scales) {
        *scale = quantize_block(block, global, codes);
    }
}

#[inline(always)]
pub(super) fn quantize_group<T: Element>(
    group: &[T; GROUP * BLOCK],
    widen: &impl Fn(T) -> f32,
    global: f32,
    codes: &mut [u8; GROUP * BLOCK / 2],
    scales: &mut [u8; GROUP],
) {
    let mut x = [0.0f32; GROUP * BLOCK];
    for (x, &v) in x.iter_mut().zip(group) {
        *x = widen(v);
    }
    let (blocks, _) = x.as_chunks::<BLOCK>();
    let mut unit = [0.0f32; GROUP];
    for (amax, block) in unit.iter_mut().zip(blocks) {
        *amax = f32::from_bits(amax_bits_32(block));
    }
    scale_group(&mut unit, global, scales);
    let (packed, _) = codes.as_chunks_mut::<{ BLOCK / 2 }>();
    for ((block, &unit), packed) in blocks.iter().zip(&unit).zip(packed) {
        let mut code = [0u32; BLOCK];
        for (code, &v) in code.iter_mut().zip(block) {
            *code = encode_e2m1(v.abs() / unit) | (v.to_bits() >> 28 & 8);
        }
        for (i, byte) in packed.iter_mut().enumerate() {
            *byte = (code[2 * i] | code[2 * i + 1] << 4) as u8;
        }
    }
}

/// Scales of blocks, given their largest magnitudes, which become what their values are divided by.
#[inline(always)]
pub(super) fn scale_group(unit: &mut [f32; GROUP], global: f32, scales: &mut [u8; GROUP]) {
    for (unit, scale) in unit.iter_mut().zip(scales) {
        let amax = *unit;
        let byte = encode_ue4m3(amax / e2m1::MAX / global);
        let byte = if amax > 0.0 { byte.max(u32::from(ue4m3::MIN_SUBNORMAL)) } else { byte };
        *scale = byte as u8;
        *unit = decode_ue4m3(byte) * global;
    }
}

/// Exact; infinities and NaN become other large numbers.
#[inline(always)]
fn widen_f16(v: f16) -> f32 {
    let bits = u32::from(v.to_bits());
    let magnitude = (bits & 0x7fff) << 13;
    let normal = f32::from_bits(magnitude + (112 << 23));
    // 2^-14·(1 + f) − 2^-14, exact.
    let subnormal = f32::from_bits(magnitude + (113 << 23)) - f32::from_bits(113 << 23);
    let magnitude = if bits & 0x7c00 == 0 { subnormal } else { normal };
    f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
}

/// [`ue4m3::encode`] of a value >= 0 or infinity.
#[inline(always)]
fn encode_ue4m3(value: f32) -> u32 {
    let value = if value < ue4m3::MAX { value } else { ue4m3::MAX };
    let bits = value.to_bits();
    let normal = ((bits + 0x7_ffff + (bits >> 20 & 1)) >> 20).wrapping_sub(120 << 3);
    // The unit in the last place of numbers from 2^14 on is 2^-9.
    let subnormal = (value + 16384.0).to_bits() - 16384.0f32.to_bits();
    if value < 0.015625 { subnormal } else { normal }
}

/// [`ue4m3::decode`] of a valid byte.
#[inline(always)]
fn decode_ue4m3(byte: u32) -> f32 {
    let normal = f32::from_bits((byte << 20) + (120 << 23));
    if byte < 8 { byte as f32 * (1.0 / 512.0) } else { normal }
}

/// [`e2m1::encode`] of a magnitude or infinity; NaN (which is 0/0 here) becomes 0.
#[inline(always)]
fn encode_e2m1(q: f32) -> u32 {
    u32::from(q > 0.25)
        + u32::from(q >= 0.75)
        + u32::from(q > 1.25)
        + u32::from(q >= 1.75)
        + u32::from(q > 2.5)
        + u32::from(q >= 3.5)
        + u32::from(q > 5.0)
}

#[inline(always)]
pub(super) fn dequantize_f32(
    codes: &[u8],
    scales: &[u8],
    global: f32,
    out: &mut [f32],
    _stream: bool,
) {
    dequantize(codes, scales, global, out);
}

#[inline(always)]
pub(super) fn dequantize_f16(
    codes: &[u8],
    scales: &[u8],
    global: f32,
    out: &mut [f16],
    _stream: bool,
) {
    dequantize(codes, scales, global, out);
}

#[inline(always)]
pub(super) fn dequantize_bf16(
    codes: &[u8],
    scales: &[u8],
    global: f32,
    out: &mut [bf16],
    _stream: bool,
) {
    dequantize(codes, scales, global, out);
}

/// A block has at most 16 different values, so one table of 16 for each block.
#[inline(always)]
fn dequantize<T: Element>(codes: &[u8], scales: &[u8], global: f32, out: &mut [T]) {
    let (blocks, _) = codes.as_chunks::<{ BLOCK / 2 }>();
    let (out, _) = out.as_chunks_mut::<BLOCK>();
    for ((codes, &scale), out) in blocks.iter().zip(scales).zip(out) {
        let scale = decode_ue4m3(u32::from(scale));
        let table = e2m1::VALUES.map(|v| T::from_f32(v * scale * global));
        for (i, byte) in codes.iter().enumerate() {
            out[2 * i] = table[usize::from(byte & 15)];
            out[2 * i + 1] = table[usize::from(byte >> 4)];
        }
    }
}

/// Rows r, r+32, r+64 and r+96 of a tile stand next to each other, 4 columns each.
const ROW_GROUPS: usize = 4;
/// Rows of such a group.
const LANES: usize = TILE_ROWS / ROW_GROUPS;
/// Tiles worked on together: what they need of a row is one cache line.
const TILES: usize = 64 / TILE_COLS;

#[inline(always)]
pub(super) fn swizzle_row_tile(rows: &[u8], cols: usize, tiles: &mut [u8], _stream: bool) {
    if rows.len() < TILE_ROWS * cols || !cols.is_multiple_of(TILE_COLS) {
        tiles.fill(0);
        for (row, values) in rows.chunks_exact(cols).enumerate() {
            for (values, tile) in values.chunks(TILE_COLS).zip(tiles.chunks_exact_mut(TILE_BYTES)) {
                tile[row_start(row)..][..values.len()].copy_from_slice(values);
            }
        }
        return;
    }
    let (tiles, _) = tiles.as_chunks_mut::<TILE_BYTES>();
    for (i, tiles) in tiles.chunks_mut(TILES).enumerate() {
        for lane in 0..LANES {
            let start = i * TILES * TILE_COLS;
            let quads: [&[[u8; TILE_COLS]]; ROW_GROUPS] = std::array::from_fn(|group| {
                let row = &rows[(group * LANES + lane) * cols..][..cols];
                // A row is no stream that the hardware would see: ask for the next row tile.
                super::prefetch(&row[start..start + 1], TILE_ROWS * cols);
                row[start..].as_chunks().0
            });
            let zipped = quads[0].iter().zip(quads[1]).zip(quads[2]).zip(quads[3]);
            for (tile, (((a, b), c), d)) in tiles.iter_mut().zip(zipped) {
                let (lanes, _) = tile.as_chunks_mut::<{ ROW_GROUPS * TILE_COLS }>();
                lanes[lane] = (u128::from(u32::from_le_bytes(*a))
                    | u128::from(u32::from_le_bytes(*b)) << 32
                    | u128::from(u32::from_le_bytes(*c)) << 64
                    | u128::from(u32::from_le_bytes(*d)) << 96)
                    .to_le_bytes();
            }
        }
    }
}

#[inline(always)]
pub(super) fn unswizzle_row_tile(tiles: &[u8], cols: usize, rows: &mut [u8], _stream: bool) {
    if rows.len() < TILE_ROWS * cols || !cols.is_multiple_of(TILE_COLS) {
        for (row, values) in rows.chunks_exact_mut(cols).enumerate() {
            for (values, tile) in values.chunks_mut(TILE_COLS).zip(tiles.chunks_exact(TILE_BYTES)) {
                values.copy_from_slice(&tile[row_start(row)..][..values.len()]);
            }
        }
        return;
    }
    let (tiles, _) = tiles.as_chunks::<TILE_BYTES>();
    for (i, tiles) in tiles.chunks(TILES).enumerate() {
        for (row, values) in rows.chunks_exact_mut(cols).enumerate() {
            let (lane, group) = (row % LANES, row / LANES);
            let start = i * TILES * TILE_COLS;
            if let Some(tile) = tiles.get(row / 8) {
                super::prefetch(&tile[row % 8 * 64..][..1], TILES * TILE_BYTES);
            }
            let (quads, _) = values[start..].as_chunks_mut::<TILE_COLS>();
            for (quad, tile) in quads.iter_mut().zip(tiles) {
                let (lanes, _) = tile.as_chunks::<{ ROW_GROUPS * TILE_COLS }>();
                let (groups, _) = lanes[lane].as_chunks::<TILE_COLS>();
                *quad = groups[group];
            }
        }
    }
}

/// Byte of a tile where the four columns of a row start.
#[inline(always)]
fn row_start(row: usize) -> usize {
    (row % LANES) * ROW_GROUPS * TILE_COLS + row / LANES * TILE_COLS
}
