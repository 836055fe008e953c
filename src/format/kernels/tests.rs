//! Every path of this machine against the scalar definitions, and against the golden vectors.

use super::*;
use crate::format::quantize::quantize_block;
use crate::format::scale_layout::{ScaleCoord, ScaleLayout, TILE_BYTES};
use crate::format::{BLOCK, e2m1, ue4m3};
use proptest::prelude::*;

fn cases() -> ProptestConfig {
    let cases = if cfg!(miri) { 2 } else { 400 };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Every path, as for small and as for big buffers.
fn paths_and_sizes() -> impl Iterator<Item = (Path, usize)> {
    Path::available().flat_map(|path| [(path, 0), (path, STREAM_BYTES)])
}

/// Quantizes on a path and with [`quantize_block`], and compares.
fn check_quantize<T: Element>(values: &[T], global: f32) {
    let n = values.len() / BLOCK;
    let (mut codes, mut scales) = (vec![0; n * BLOCK / 2], vec![0; n]);
    for (i, block) in values.chunks_exact(BLOCK).enumerate() {
        scales[i] = quantize_block(block, global, &mut codes[i * BLOCK / 2..][..BLOCK / 2]);
    }
    for path in Path::available() {
        let (mut got_codes, mut got_scales) = (vec![0xaa; n * BLOCK / 2], vec![0xaa; n]);
        quantize(path, Values::of(values), global, &mut got_codes, &mut got_scales);
        assert_eq!(got_scales, scales, "{path:?}, global {global:e}, {values:?}");
        assert_eq!(got_codes, codes, "{path:?}, global {global:e}, {values:?}");
    }
}

fn check_quantize_all(values: &[f32], global: f32) {
    check_quantize(values, global);
    let finite_f16 = |v: &f32| f16::from_f32(v.clamp(-65504.0, 65504.0));
    check_quantize::<f16>(&values.iter().map(finite_f16).collect::<Vec<_>>(), global);
    let finite_bf16 = |v: &f32| bf16::from_bits((v.to_bits() >> 16) as u16);
    check_quantize::<bf16>(&values.iter().map(finite_bf16).collect::<Vec<_>>(), global);
}

/// Finite f32 of any kind: ordinary ones, all bit patterns, zeros, and short ones that make ties.
fn value() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -4.0f32..4.0,
        2 => any::<u32>().prop_map(|b| f32::from_bits(b & 0xbfff_ffff)),
        2 => any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |v| v.is_finite()),
        1 => prop_oneof![Just(0.0f32), Just(-0.0f32)],
        3 => (-96i32..96).prop_map(|n| n as f32 / 8.0),
        1 => (-2000i32..2000).prop_map(|n| n as f32 * f32::from_bits(1)),
    ]
}

fn global() -> impl Strategy<Value = f32> {
    prop_oneof![
        Just(1.0f32),
        1e-6f32..1e2,
        (1u32..0x7f80_0000).prop_map(f32::from_bits),
        (-140i32..120).prop_map(|e| 2.0f64.powi(e) as f32),
    ]
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn quantizes_like_the_scalar_code(
        values in prop::collection::vec(value(), 1..700),
        global in global(),
        scale in prop_oneof![Just(1.0f32), Just(1e-30), Just(1e30)],
    ) {
        let blocks = values.len().div_ceil(BLOCK);
        let mut values: Vec<f32> =
            values.iter().map(|v| (v * scale).clamp(f32::MIN, f32::MAX)).collect();
        values.resize(blocks * BLOCK, -0.0);
        check_quantize_all(&values, global);
        let amax = amax(Path::best(), Values::of(&values));
        check_quantize_all(&values, crate::format::quantize::global_of_amax(amax));
    }

    #[test]
    fn dequantizes_like_the_formula(
        bytes in prop::collection::vec((any::<u64>(), 0u8..0x7f), 1..400),
        global in global(),
    ) {
        let codes: Vec<u8> = bytes.iter().flat_map(|b| b.0.to_le_bytes()).collect();
        let scales: Vec<u8> = bytes.iter().map(|b| b.1).collect();
        let want: Vec<f32> = (0..scales.len() * BLOCK)
            .map(|i| {
                let code = codes[i / 2] >> (4 * (i % 2));
                e2m1::decode(code) * ue4m3::decode(scales[i / BLOCK]) * global
            })
            .collect();
        for (path, whole) in paths_and_sizes() {
            let mut out = vec![1.0f32; want.len()];
            dequantize(path, whole, &codes, &scales, global, &mut out);
            prop_assert!(out.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits()));
            let mut out = vec![f16::ONE; want.len()];
            dequantize(path, whole, &codes, &scales, global, &mut out);
            prop_assert!(
                out.iter().zip(&want).all(|(a, &b)| a.to_bits() == f16::from_f32(b).to_bits())
            );
            let mut out = vec![bf16::ONE; want.len()];
            dequantize(path, whole, &codes, &scales, global, &mut out);
            prop_assert!(
                out.iter().zip(&want).all(|(a, &b)| a.to_bits() == bf16::from_f32(b).to_bits())
            );
        }
    }

    #[test]
    fn bytes_and_nibbles(bytes in prop::collection::vec(any::<u8>(), 0..6000)) {
        for (path, whole) in paths_and_sizes() {
            prop_assert_eq!(max_byte(path, &bytes), bytes.iter().copied().max().unwrap_or(0));
            let mut codes = vec![0xaa; 2 * bytes.len()];
            unpack(path, whole, &bytes, &mut codes);
            for (i, &code) in codes.iter().enumerate() {
                prop_assert_eq!(code, bytes[i / 2] >> (4 * (i % 2)) & 15);
            }
            let mut packed = vec![0xaa; bytes.len()];
            prop_assert!(pack(path, whole, &codes, &mut packed));
            prop_assert_eq!(&packed, &bytes);
            if let Some(code) = codes.last_mut() {
                *code = 16;
                prop_assert!(!pack(path, whole, &codes, &mut packed));
            }
        }
    }

    #[test]
    fn row_tiles_follow_the_formula(
        rows in prop_oneof![2 => 1usize..129, 1 => Just(128)],
        cols in prop_oneof![6 => 1usize..200, 2 => (1usize..8).prop_map(|n| 64 * n), 1 => 1000usize..2100],
    ) {
        let layout = ScaleLayout::new(1, rows, cols * BLOCK).unwrap();
        let values: Vec<u8> = (0..rows * cols).map(|i| (i * 37 % 251) as u8 + 1).collect();
        let mut want = vec![0; cols.div_ceil(4) * TILE_BYTES];
        for (i, &v) in values.iter().enumerate() {
            let at = ScaleCoord { batch: 0, row: i / cols, col: i % cols };
            want[layout.offset(at).unwrap()] = v;
        }
        for (path, whole) in paths_and_sizes() {
            let mut tiles = vec![0xaa; want.len()];
            swizzle_row_tile(path, whole, &values, cols, &mut tiles);
            prop_assert_eq!(&tiles, &want);
            let mut back = vec![0; values.len()];
            unswizzle_row_tile(path, whole, &tiles, cols, &mut back);
            prop_assert_eq!(&back, &values);
        }
    }

    #[test]
    fn largest_magnitude(values in prop::collection::vec(value(), 1..300), bad in any::<bool>()) {
        let mut values = values;
        let mut want = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        if bad {
            values[0] = f32::NEG_INFINITY;
            want = f32::INFINITY;
        }
        for path in Path::available() {
            prop_assert_eq!(amax(path, Values::of(&values)), want);
            values[0] = -f32::NAN;
            prop_assert!(amax(path, Values::of(&values)).is_nan());
            values[0] = if bad { f32::INFINITY } else { 0.0 };
            want = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        }
    }
}

/// Quotients at, just below and just above every tie, for units with all kinds of mantissas.
#[test]
fn neighbors_of_ties() {
    let rounds = if cfg!(miri) { 2 } else { 4000 };
    let mut bits = 0x3f80_0001u32;
    for round in 0..rounds {
        bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let exponent = 127 - 40 + (round as u32 % 80);
        let global = f32::from_bits(exponent << 23 | bits & 0x7f_ffff);
        let mut values = Vec::new();
        for block in 0..16u8 {
            let unit = ue4m3::decode(1 + block * 7) * global;
            values.extend([6.0 * unit, -0.0]); // fixes the scale of the block
            for tie in [0.25f32, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0] {
                let x = tie * unit;
                let step = (bits >> (8 + block % 8) & 3) as i32 - 1;
                values.push(f32::from_bits((x.to_bits() as i32 + step) as u32));
                values.push(-x);
            }
        }
        check_quantize(&values, global);
    }
}

/// Blocks of nothing but zeros, which have the scale 0, among others and in whole groups.
#[test]
fn blocks_of_zeros() {
    let blocks = 0..3 * 16u16;
    let values: Vec<f32> = blocks
        .flat_map(|block| (0..BLOCK as u16).map(move |i| (block, i)))
        .map(|(block, i)| {
            let zero = if i % 2 == 0 { 0.0 } else { -0.0 };
            if block < 16 || block % 3 == 0 || i % 5 == 0 { zero } else { f32::from(i) - 7.0 }
        })
        .collect();
    for global in [1.0, 1.0 / 2688.0, f32::from_bits(1)] {
        check_quantize_all(&values, global);
    }
}

/// Every f16 and bf16 in a block of its own kind, and all pairs of a scale byte and a code.
#[test]
fn exhaustive_16_bit_values() {
    let step = if cfg!(miri) { 509 } else { 1 };
    for global in [1.0f32, 1.0 / 2688.0, 2f32.powi(-24) / 1e4, 0.37] {
        let f16s: Vec<f16> =
            (0..=u16::MAX).step_by(step).map(f16::from_bits).filter(|v| v.is_finite()).collect();
        check_quantize(&f16s[..f16s.len() / BLOCK * BLOCK], global);
        let bf16s: Vec<bf16> =
            (0..=u16::MAX).step_by(step).map(bf16::from_bits).filter(|v| v.is_finite()).collect();
        check_quantize(&bf16s[..bf16s.len() / BLOCK * BLOCK], global);
        // Neighbors in a block have about the same size above: mix them.
        let mixed: Vec<f16> =
            (0..f16s.len() / BLOCK * BLOCK).map(|i| f16s[i * 40_503 % f16s.len()]).collect();
        check_quantize(&mixed, global);
    }
}
