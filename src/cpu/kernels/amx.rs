//! AMX-BF16: `tdpbf16ps` multiplies a tile of 16 rows × 32 k with a tile of 32 k × 16 columns.
//!
//! `e2m1·scale` has at most 6 significant bits and is exact in bf16, as are products of two of them
//! in f32: only the additions round.
//!
//! With few rows, decoding the weights takes longer than multiplying them. Tiles are multiplied by a unit of their own,
//! beside the vector instructions, so the first two row tiles take each decoded tile while the next one is decoded.

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

use super::avx512;
use super::strip_rows::{Edge, SPAN, StripRows};
use super::unpack512::Span;
use crate::cpu::epilogue::{Epilogue, Sums};
use crate::cpu::integer::STRIP;
use crate::cpu::schedule::{Kernel, Next, Piece, Strip};
use crate::dtype::Element;
use crate::format::{BLOCK, e2m1, ue4m3};
use crate::matrix::Nvfp4View;
use crate::simd::detect::TileConfig;

/// Below this many rows a tile is too empty, and VNNI is faster.
pub(in super::super) const MIN_ROWS: usize = 17;

/// Rows of a tile.
pub(super) const TILE_ROWS: usize = 16;
/// k of a tile.
pub(super) const TILE_K: usize = 32;

/// 16 rows × 32 k of A in bf16, row-major.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(in super::super) struct ATile(pub(super) [[u16; TILE_K]; TILE_ROWS]);

impl Default for ATile {
    fn default() -> Self {
        ATile([[0; TILE_K]; TILE_ROWS])
    }
}

/// 32 k × 16 columns of both weights in bf16: `[weight][k/2][column][k%2]`.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(in super::super) struct BTiles([[[[u16; 2]; STRIP]; TILE_K / 2]; 2]);

impl Default for BTiles {
    fn default() -> Self {
        BTiles([[[[0; 2]; STRIP]; TILE_K / 2]; 2])
    }
}

/// Proof that the machine has the features.
pub(in super::super) struct Amx(());

impl Amx {
    /// # Safety
    /// The machine has AMX-TILE and AMX-BF16, AVX-512 F, BW and VL, and the system has granted tile
    /// state to this process.
    pub unsafe fn new() -> Self {
        Amx(())
    }
}

impl Kernel for Amx {
    type Input<'a> = Nvfp4View<'a>;
    type A = ATile;
    type B = BTiles;
    const ROWS: usize = TILE_ROWS;
    const K: usize = TILE_K;

    fn pack(&self, a: &Nvfp4View<'_>, rows: Range<usize>, units: Range<usize>, out: &mut [ATile]) {
        for row in 0..TILE_ROWS {
            if row >= rows.len() {
                out.iter_mut().for_each(|tile| tile.0[row].fill(0));
                continue;
            }
            let codes = a.row_codes(rows.start + row);
            let scales = a.row_scales(rows.start + row);
            for (unit, tile) in units.clone().zip(&mut *out) {
                for (half, out) in tile.0[row].chunks_exact_mut(BLOCK).enumerate() {
                    let block = unit * TILE_K / BLOCK + half;
                    let Some(&scale) = scales.get(block) else {
                        out.fill(0);
                        continue;
                    };
                    let values = &VALUES[usize::from(scale)];
                    let bytes = &codes[block * BLOCK / 2..][..BLOCK / 2];
                    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
                        pair[0] = values[usize::from(byte & 15)];
                        pair[1] = values[usize::from(byte >> 4)];
                    }
                }
            }
        }
    }

    fn decode(&self, piece: Piece<'_>, out: &mut [BTiles]) {
        let Piece { strips, units, next } = piece;
        for (weight, b) in strips.into_iter().enumerate() {
            // SAFETY: `Amx` is only made where the features exist.
            unsafe { decode(b, weight, units.start * TILE_K / BLOCK, next, out) };
        }
    }

    fn multiply(&self, a: &[ATile], b: &[BTiles], acc: [&mut [[f32; STRIP]]; 2], first: bool) {
        let [acc1, acc2] = acc;
        let tiles = a.len() / b.len();
        assert!(a.len() == tiles * b.len());
        assert!(acc1.len() == tiles * TILE_ROWS && acc2.len() == tiles * TILE_ROWS);
        let config = TileConfig::FULL;
        // SAFETY: `Amx` is only made where the features exist. The compiler uses no tiles, so the
        // configuration lasts from here to `tilerelease`. Every tile that is loaded or stored lies
        // within `a`, `b`, `acc1` and `acc2`, whose lengths were checked above.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly));
            let mut tile = 0;
            while tile < tiles {
                let a0 = a[tile * b.len()..].as_ptr();
                let c1 = acc1[tile * TILE_ROWS..].as_mut_ptr();
                let c2 = acc2[tile * TILE_ROWS..].as_mut_ptr();
                if tile + 1 < tiles {
                    multiply_two(a0, a0.add(b.len()), b, c1, c2, first);
                    tile += 2;
                } else {
                    multiply_one(a0, b, c1, c2, first);
                    tile += 1;
                }
            }
            asm!("tilerelease", options(nostack, nomem));
        }
    }

    fn decode_multiply(
        &self,
        piece: Piece<'_>,
        room: &mut [BTiles],
        a: &[ATile],
        acc: [&mut [[f32; STRIP]]; 2],
        first: bool,
    ) {
        let tiles = a.len() / room.len();
        assert!(a.len() == tiles * room.len() && piece.units.len() == room.len());
        assert!(acc.iter().all(|acc| acc.len() == tiles * TILE_ROWS));
        let (a, a_rest) = a.split_at(tiles.min(2) * room.len());
        let [(acc1, rest1), (acc2, rest2)] =
            acc.map(|acc| acc.split_at_mut(tiles.min(2) * TILE_ROWS));
        let acc = [acc1, acc2];
        // SAFETY: `Amx` is only made where the features exist; there are one or two row tiles, whose lengths were checked
        // above.
        unsafe {
            match tiles {
                0 => {}
                1 => overlapped::<1>(piece, room, a, acc, first),
                _ => overlapped::<2>(piece, room, a, acc, first),
            }
        }
        if !a_rest.is_empty() {
            self.multiply(a_rest, room, [rest1, rest2], first);
        }
    }

    fn finish<'c, T: Element>(
        &self,
        epilogue: &Epilogue<'_>,
        sums: Sums<'_>,
        c: impl Iterator<Item = &'c mut [T]>,
    ) {
        // SAFETY: `Amx` is only made where the features exist.
        unsafe { avx512::finish(epilogue, sums, c) }
    }
}

/// Units of a span.
const UNITS: usize = SPAN * BLOCK / TILE_K;

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn decode(b: Strip<'_>, weight: usize, start: usize, next: Next, out: &mut [BTiles]) {
    let (rows, mut edge) = (StripRows::new(b), Edge::default());
    for (i, out) in out.chunks_mut(UNITS).enumerate() {
        let block = start + i * SPAN;
        rows.prefetch(next, block);
        let span = Span::load(rows.span(block, &mut edge));
        for (j, out) in out.iter_mut().enumerate() {
            decode_tile(&span, j, &mut out.0[weight]);
        }
    }
}

/// Decodes unit `j` of a span.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn decode_tile(span: &Span, j: usize, out: &mut [[[u16; 2]; STRIP]; TILE_K / 2]) {
    // f32 values by code; `vpermps` looks at the low four bits of each lane only.
    // SAFETY: sixteen f32.
    let table = unsafe { _mm512_loadu_ps(e2m1::VALUES.as_ptr()) };
    // Scale factors come as 2^-8 of their value.
    let table = _mm512_mul_ps(table, _mm512_set1_ps(256.0));
    let upper_half = _mm512_set1_epi32(0xffff_0000u32 as i32);
    // Sixteen rows of k-pairs: 4 vectors of codes hold 4 pairs each.
    let pairs = out.as_mut_ptr().cast::<__m512i>();
    for (q, &codes) in span.codes[4 * j..4 * j + 4].iter().enumerate() {
        let scale = span.scales[2 * j + q / 2];
        let mut codes = codes;
        for pair in 0..4 {
            let even = _mm512_permutexvar_ps(codes, table);
            let odd = _mm512_permutexvar_ps(_mm512_srli_epi32::<4>(codes), table);
            let even = _mm512_castps_si512(_mm512_mul_ps(even, scale));
            let odd = _mm512_castps_si512(_mm512_mul_ps(odd, scale));
            // Both products are exact in bf16, the upper half of an f32.
            let both =
                _mm512_or_si512(_mm512_srli_epi32::<16>(even), _mm512_and_si512(odd, upper_half));
            // SAFETY: row `4q + pair` of 16, each 64 bytes and aligned to 64.
            unsafe { _mm512_store_si512(pairs.add(4 * q + pair), both) };
            codes = _mm512_srli_epi32::<8>(codes);
        }
    }
}

/// Decodes a piece of a strip, and multiplies each tile of it while the next one is decoded.
///
/// # Safety
/// AMX is there. `a` holds `out.len()` tiles of each of `R` row tiles, one or two; the accumulators have as many rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn overlapped<const R: usize>(
    piece: Piece<'_>,
    out: &mut [BTiles],
    a: &[ATile],
    acc: [&mut [[f32; STRIP]]; 2],
    first: bool,
) {
    let rows = piece.strips.map(StripRows::new);
    let start = piece.units.start * TILE_K / BLOCK;
    let mut edge = Edge::default();
    let (units, acc) = (out.len(), acc.map(<[_]>::as_mut_ptr));
    let (a, out) = (a.as_ptr(), out.as_mut_ptr());
    let config = TileConfig::FULL;
    // SAFETY: by the contract of this function. The compiler uses no tiles, so the configuration and the accumulators
    // last from here to `tilerelease`. Tiles of `out` are read after they were written, as `asm!` may read all memory.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly));
        load_accumulators::<R>(acc, first);
        let mut before = None;
        for unit in (0..units).step_by(UNITS) {
            let block = start + unit * TILE_K / BLOCK;
            for (weight, rows) in rows.iter().enumerate() {
                rows.prefetch(piece.next, block);
                let span = Span::load(rows.span(block, &mut edge));
                for j in 0..UNITS.min(units - unit) {
                    decode_tile(&span, j, &mut (*out.add(unit + j)).0[weight]);
                    if let Some((unit, weight)) = before {
                        step::<R>(a.add(unit), units, &raw const (*out.add(unit)).0, weight);
                    }
                    before = Some((unit + j, weight));
                }
            }
        }
        if let Some((unit, weight)) = before {
            step::<R>(a.add(unit), units, &raw const (*out.add(unit)).0, weight);
        }
        store_accumulators::<R>(acc);
        asm!("tilerelease", options(nostack, nomem));
    }
}

/// Tile `2·row tile + weight` becomes the accumulator, or zero where that holds nothing yet.
///
/// # Safety
/// AMX is there and configured; both pointers point to 16 rows for each of `R` row tiles.
#[inline(always)]
unsafe fn load_accumulators<const R: usize>(acc: [*mut [f32; STRIP]; 2], first: bool) {
    // SAFETY: by the contract of this function; the stride of all tiles is 64 bytes.
    unsafe {
        if first {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                options(nostack, nomem),
            );
            return;
        }
        asm!(
            "tileloadd tmm0, [{c1} + {stride}]",
            "tileloadd tmm1, [{c2} + {stride}]",
            c1 = in(reg) acc[0],
            c2 = in(reg) acc[1],
            stride = in(reg) 64usize,
            out("tmm0") _, out("tmm1") _,
            options(nostack, readonly),
        );
        if R > 1 {
            asm!(
                "tileloadd tmm2, [{c1} + {stride} + 1024]",
                "tileloadd tmm3, [{c2} + {stride} + 1024]",
                c1 = in(reg) acc[0],
                c2 = in(reg) acc[1],
                stride = in(reg) 64usize,
                out("tmm2") _, out("tmm3") _,
                options(nostack, readonly),
            );
        }
    }
}

/// The inverse of [`load_accumulators`].
///
/// # Safety
/// That of [`load_accumulators`].
#[inline(always)]
unsafe fn store_accumulators<const R: usize>(acc: [*mut [f32; STRIP]; 2]) {
    // SAFETY: by the contract of this function; the stride of all tiles is 64 bytes.
    unsafe {
        asm!(
            "tilestored [{c1} + {stride}], tmm0",
            "tilestored [{c2} + {stride}], tmm1",
            c1 = in(reg) acc[0],
            c2 = in(reg) acc[1],
            stride = in(reg) 64usize,
            options(nostack),
        );
        if R > 1 {
            asm!(
                "tilestored [{c1} + {stride} + 1024], tmm2",
                "tilestored [{c2} + {stride} + 1024], tmm3",
                c1 = in(reg) acc[0],
                c2 = in(reg) acc[1],
                stride = in(reg) 64usize,
                options(nostack),
            );
        }
    }
}

/// `R` row tiles times a tile of one weight; `distance` tiles lie from one row tile to the next.
///
/// # Safety
/// AMX is there and configured, the accumulators are in tiles 0 to 3, and all tiles exist.
#[inline(always)]
unsafe fn step<const R: usize>(
    a: *const ATile,
    distance: usize,
    b: *const [[[[u16; 2]; STRIP]; TILE_K / 2]; 2],
    weight: usize,
) {
    /// One of both weights, whose accumulators are the tiles `$c0` and `$c1`.
    macro_rules! multiply {
        ($c0:literal, $c1:literal, $b:literal, $offset:literal) => {
            // SAFETY: by the contract of the function around; the stride of all tiles is 64 bytes.
            unsafe {
                asm!(
                    concat!("tileloadd tmm", $b, ", [{b} + {stride} + ", $offset, "]"),
                    "tileloaddt1 tmm4, [{a} + {stride}]",
                    concat!("tdpbf16ps tmm", $c0, ", tmm4, tmm", $b),
                    a = in(reg) a,
                    b = in(reg) b,
                    stride = in(reg) 64usize,
                    out("tmm4") _, out("tmm6") _, out("tmm7") _,
                    options(nostack, readonly),
                );
                if R > 1 {
                    asm!(
                        "tileloaddt1 tmm5, [{a} + {stride}]",
                        concat!("tdpbf16ps tmm", $c1, ", tmm5, tmm", $b),
                        a = in(reg) a.add(distance),
                        stride = in(reg) 64usize,
                        out("tmm5") _,
                        options(nostack, readonly),
                    );
                }
            }
        };
    }
    match weight {
        0 => multiply!("0", "2", "6", "0"),
        _ => multiply!("1", "3", "7", "1024"),
    }
}

/// Two row tiles times the strip of both weights: four accumulators.
///
/// A is loaded with the hint that it will not be needed again soon, so that it does not push the
/// decoded strip out of L1, and the accumulators of the next rows are asked for meanwhile: 45 instead
/// of 58 ns a step of 32 k on a quiet Emerald Rapids Xeon, where the same loop takes 30 out of L1.
///
/// # Safety
/// AMX is there and configured. `a0` and `a1` point to `b.len()` tiles; `c1` and `c2` point to 32 rows.
unsafe fn multiply_two(
    a0: *const ATile,
    a1: *const ATile,
    b: &[BTiles],
    c1: *mut [f32; STRIP],
    c2: *mut [f32; STRIP],
    first: bool,
) {
    // SAFETY: by the contract of this function; the stride of all tiles is 64 bytes.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "test {first:e}, {first:e}",
            "jnz 2f",
            "tileloadd tmm0, [{c1} + {stride}]",
            "tileloadd tmm1, [{c2} + {stride}]",
            "tileloadd tmm2, [{c1} + {stride} + 1024]",
            "tileloadd tmm3, [{c2} + {stride} + 1024]",
            "2:",
            "prefetchw [{next1}]",
            "prefetchw [{next1} + 64]",
            "prefetchw [{next2}]",
            "prefetchw [{next2} + 64]",
            "tileloaddt1 tmm4, [{a0} + {stride}]",
            "tileloadd tmm6, [{b} + {stride}]",
            "tileloaddt1 tmm5, [{a1} + {stride}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {stride} + 1024]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a0}, 1024",
            "add {a1}, 1024",
            "add {b}, 2048",
            "sub {next1}, -128",
            "sub {next2}, -128",
            "dec {count}",
            "jnz 2b",
            "tilestored [{c1} + {stride}], tmm0",
            "tilestored [{c2} + {stride}], tmm1",
            "tilestored [{c1} + {stride} + 1024], tmm2",
            "tilestored [{c2} + {stride} + 1024], tmm3",
            a0 = inout(reg) a0 => _,
            a1 = inout(reg) a1 => _,
            b = inout(reg) b.as_ptr() => _,
            count = inout(reg) b.len() => _,
            next1 = inout(reg) c1.wrapping_add(2 * TILE_ROWS) => _,
            next2 = inout(reg) c2.wrapping_add(2 * TILE_ROWS) => _,
            c1 = in(reg) c1,
            c2 = in(reg) c2,
            first = in(reg) u32::from(first),
            stride = in(reg) 64usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// One row tile times the strip of both weights.
///
/// # Safety
/// AMX is there and configured. `a` points to `b.len()` tiles; `c1` and `c2` point to 16 rows.
unsafe fn multiply_one(
    a: *const ATile,
    b: &[BTiles],
    c1: *mut [f32; STRIP],
    c2: *mut [f32; STRIP],
    first: bool,
) {
    // SAFETY: by the contract of this function; the stride of all tiles is 64 bytes.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "test {first:e}, {first:e}",
            "jnz 2f",
            "tileloadd tmm0, [{c1} + {stride}]",
            "tileloadd tmm1, [{c2} + {stride}]",
            "2:",
            "tileloaddt1 tmm4, [{a} + {stride}]",
            "tileloadd tmm6, [{b} + {stride}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {stride} + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {a}, 1024",
            "add {b}, 2048",
            "dec {count}",
            "jnz 2b",
            "tilestored [{c1} + {stride}], tmm0",
            "tilestored [{c2} + {stride}], tmm1",
            a = inout(reg) a => _,
            b = inout(reg) b.as_ptr() => _,
            count = inout(reg) b.len() => _,
            c1 = in(reg) c1,
            c2 = in(reg) c2,
            first = in(reg) u32::from(first),
            stride = in(reg) 64usize,
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// bf16 bits of `e2m1·scale` by scale byte and code.
static VALUES: [[u16; 16]; 127] = {
    let mut table = [[0; 16]; 127];
    let mut scale = 0;
    while scale < 127 {
        let mut code = 0;
        while code < 16 {
            let doubled = e2m1::DOUBLED[code] as i64 * ue4m3::times_512(scale as u8);
            table[scale][code] = ((doubled as f32 / 1024.0).to_bits() >> 16) as u16;
            code += 1;
        }
        scale += 1;
    }
    table
};
