//! AMX-BF16: `tdpbf16ps` multiplies a tile of 16 rows × 32 k with a tile of 32 k × 16 columns.
//!
//! `e2m1·scale` has at most 6 significant bits and is exact in bf16, as are products of two of them
//! in f32: only the additions round.

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

use super::avx512;
use super::unpack512::{SPAN, Span, StripRows};
use crate::cpu::epilogue::{Epilogue, Sums};
use crate::cpu::integer::STRIP;
use crate::cpu::schedule::{Kernel, Next, Strip};
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

    fn decode(&self, b: [Strip<'_>; 2], units: Range<usize>, next: Next, out: &mut [BTiles]) {
        for (weight, b) in b.into_iter().enumerate() {
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

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn decode(b: Strip<'_>, weight: usize, start: usize, next: Next, out: &mut [BTiles]) {
    // f32 values by code; `vpermps` looks at the low four bits of each lane only.
    // SAFETY: sixteen f32.
    let table = unsafe { _mm512_loadu_ps(e2m1::VALUES.as_ptr()) };
    // Scale factors come as 2^-8 of their value.
    let table = _mm512_mul_ps(table, _mm512_set1_ps(256.0));
    let upper_half = _mm512_set1_epi32(0xffff_0000u32 as i32);
    let rows = StripRows::new(b);
    for (i, out) in out.chunks_mut(SPAN * BLOCK / TILE_K).enumerate() {
        let block = start + i * SPAN;
        rows.prefetch(next, block);
        let Span { codes, scales } = rows.load(block);
        for (j, out) in out.iter_mut().enumerate() {
            // Sixteen rows of k-pairs: 4 vectors of codes hold 4 pairs each.
            let pairs = out.0[weight].as_mut_ptr().cast::<__m512i>();
            for (q, &codes) in codes[4 * j..4 * j + 4].iter().enumerate() {
                let scale = scales[2 * j + q / 2];
                let mut codes = codes;
                for pair in 0..4 {
                    let even = _mm512_permutexvar_ps(codes, table);
                    let odd = _mm512_permutexvar_ps(_mm512_srli_epi32::<4>(codes), table);
                    let even = _mm512_castps_si512(_mm512_mul_ps(even, scale));
                    let odd = _mm512_castps_si512(_mm512_mul_ps(odd, scale));
                    // Both products are exact in bf16, the upper half of an f32.
                    let both = _mm512_or_si512(
                        _mm512_srli_epi32::<16>(even),
                        _mm512_and_si512(odd, upper_half),
                    );
                    // SAFETY: row `4q + pair` of 16, each 64 bytes and aligned to 64.
                    unsafe { _mm512_store_si512(pairs.add(4 * q + pair), both) };
                    codes = _mm512_srli_epi32::<8>(codes);
                }
            }
        }
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
