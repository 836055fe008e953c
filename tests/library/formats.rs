//! Properties of the formats through the public API.

use nvfp4_dual_gemm::format::scale_layout::{ScaleCoord, ScaleLayout};
use nvfp4_dual_gemm::format::{BLOCK, e2m1, nibble, ue4m3};
use nvfp4_dual_gemm::{Element, Error, Nvfp4Matrix, bf16, f16};
use proptest::prelude::*;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Bytes that look random but follow from their place.
fn noise(n: usize, seed: u64) -> impl Iterator<Item = u64> {
    (0..n as u64).map(move |i| {
        let z = (i ^ seed).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (z ^ (z >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 24
    })
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn nibbles_round_trip(pairs in prop_oneof![0usize..300, 60_000usize..140_000], seed: u64) {
        let codes: Vec<u8> = noise(2 * pairs, seed).map(|z| z as u8 & 15).collect();
        let packed = nibble::pack(&codes).unwrap();
        for (i, &code) in codes.iter().enumerate() {
            assert_eq!(packed[i / 2] >> (4 * (i % 2)) & 15, code);
        }
        prop_assert_eq!(nibble::unpack(&packed), codes);
    }

    #[test]
    fn a_code_that_is_none_is_found(n in 1usize..150_000, at: prop::sample::Index, bit in 4u32..8) {
        let mut codes = vec![15u8; 2 * n];
        let index = at.index(2 * n);
        codes[index] |= 1 << bit;
        match nibble::pack(&codes) {
            Err(Error::Code { code, index: i, .. }) => {
                prop_assert_eq!((code, i), (15 | 1 << bit, index));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn the_first_invalid_scale_is_found(
        n in 1usize..300_000,
        at: prop::sample::Index,
        byte in 0x7fu8..=0xff,
    ) {
        let mut scales = vec![0x7e; n];
        prop_assert_eq!(ue4m3::find_invalid(&scales), None);
        let index = at.index(n);
        scales[index] = byte;
        scales[n - 1] = if index == n - 1 { byte } else { 0xff };
        prop_assert_eq!(ue4m3::find_invalid(&scales), Some(index));
    }

    #[test]
    fn layouts_round_trip(batch in 1usize..4, rows in 1usize..400, cols in 1usize..140, seed: u64) {
        let layout = ScaleLayout::new(batch, rows, cols * BLOCK).unwrap();
        let scales: Vec<u8> =
            noise(batch * rows * cols, seed).map(|z| (z % 126) as u8 + 1).collect();
        let swizzled = layout.swizzle(&scales).unwrap();
        let padding = swizzled.iter().filter(|&&b| b == 0).count();
        prop_assert_eq!(padding, layout.swizzled_len() - layout.row_major_len());
        for (i, &scale) in scales.iter().enumerate() {
            let (row, col) = (i / cols % rows, i % cols);
            let at = ScaleCoord { batch: i / cols / rows, row, col };
            let offset = layout.offset(at).unwrap();
            assert_eq!(swizzled[offset], scale);
            assert_eq!(layout.coord(offset), Some(at));
        }
        prop_assert_eq!(layout.unswizzle(&swizzled).unwrap(), scales);
    }

    /// |x − dequantized| is at most half the widest step (1, between 4 and 6) of the block's unit, and
    /// half a step of e4m3 more where the unit was rounded down and the largest value saturates.
    #[test]
    fn error_bound(seed: u64, exponent in -20i32..20) {
        let values: Vec<f32> = noise(8 * 64, seed)
            .map(|z| (z as i32 as f32) * 2f32.powi(exponent - 31))
            .collect();
        let q = Nvfp4Matrix::quantize(&values, 1, 8, 64).unwrap();
        for (i, (x, y)) in values.iter().zip(q.dequantize()).enumerate() {
            let scale = ue4m3::decode(q.scales()[i / BLOCK]);
            let unit = f64::from(scale) * f64::from(q.global_scale());
            let block = &values[i / BLOCK * BLOCK..][..BLOCK];
            let amax = block.iter().fold(0f32, |m, v| m.max(v.abs()));
            let saturation = (f64::from(amax) - 6.0 * unit).max(0.0);
            let bound = unit.max(saturation) * (1.0 + 1e-6);
            let error = (f64::from(*x) - f64::from(y)).abs();
            prop_assert!(error <= bound, "{x:e} became {y:e}: {error:e} > {bound:e}");
        }
    }

    /// Values on the grid of a global scale that is a power of two are kept, when each block has a 6.
    #[test]
    fn values_on_the_grid_are_kept(seed: u64, exponent in -40i32..40, blocks in 1usize..600) {
        let mut codes: Vec<u8> = noise(blocks * BLOCK / 2, seed).map(|z| z as u8).collect();
        codes.iter_mut().step_by(BLOCK / 2).for_each(|b| *b = *b & 0xf0 | 7);
        let scales: Vec<u8> = noise(blocks, seed ^ 1).map(|z| (z % 126) as u8 + 1).collect();
        let global = 2f32.powi(exponent);
        let cols = blocks * BLOCK;
        let matrix = Nvfp4Matrix::new(1, 1, cols, codes, scales, global).unwrap();
        let again = |m: Result<Nvfp4Matrix, Error>| assert_eq!(m.unwrap(), matrix);
        again(Nvfp4Matrix::quantize_with_global(&matrix.dequantize(), 1, 1, cols, global));
        let values = matrix.view().dequantize_as::<bf16>();
        again(Nvfp4Matrix::quantize_with_global(&values, 1, 1, cols, global));
    }
}

/// What neither format can hold.
#[test]
fn encoding_what_is_no_such_number() {
    for nan in [f32::NAN, -f32::NAN, f32::from_bits(0x7f80_0001)] {
        assert_eq!(e2m1::encode(nan), 7); // 6, as in CUDA
        assert!(!ue4m3::is_valid(ue4m3::encode(nan)));
        assert!(ue4m3::decode(ue4m3::encode(nan)).is_nan());
    }
    for negative in [-0.0f32, -1e-30, -1.0, -448.0, f32::NEG_INFINITY] {
        let byte = ue4m3::encode(negative);
        assert!(!ue4m3::is_valid(byte), "{negative} -> {byte:#04x}");
        assert_eq!(byte & 0x7f, ue4m3::encode(-negative), "{negative}");
    }
    assert_eq!(ue4m3::encode(f32::INFINITY), 0x7e);
    assert!(ue4m3::decode(0x7f).is_nan() && ue4m3::decode(0xff).is_nan());
    assert_eq!(ue4m3::decode(0xb8), -1.0);
}

/// All codes with all scales, in every output type.
#[test]
fn every_code_and_scale_dequantizes() {
    fn check<T: Element>(global: f32) {
        let scales: Vec<u8> = (0..127).collect();
        let codes: Vec<u8> = [0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe].repeat(127);
        let m = Nvfp4Matrix::new(1, 127, 16, codes, scales, global).unwrap();
        for (i, y) in m.view().dequantize_as::<T>().iter().enumerate() {
            let scale = ue4m3::times_512((i / 16) as u8) as f32 / 512.0;
            let want = T::from_f32(e2m1::VALUES[i % 16] * scale * global);
            assert_eq!(y.to_f32().to_bits(), want.to_f32().to_bits(), "{i}");
        }
    }
    for global in [1.0, 0.3, 1e-40, 1e36, 2f32.powi(-20)] {
        check::<f32>(global);
        check::<f16>(global);
        check::<bf16>(global);
    }
}

/// Big enough for threads and for stores past the caches, with lengths that are no multiple of
/// anything but a block.
#[test]
fn big_buffers_are_like_small_ones() {
    let (rows, cols) = (1031, 16 * 521);
    let values: Vec<bf16> =
        noise(rows * cols, 5).map(|z| bf16::from_f32((z as i32 as f32) * 1e-9)).collect();
    let whole = Nvfp4Matrix::quantize(&values, 1, rows, cols).unwrap();
    let (global, codes) = (whole.global_scale(), nibble::unpack(whole.codes()));
    assert_eq!(nibble::pack(&codes).unwrap(), whole.codes());
    let dequantized = whole.dequantize();
    let halves = whole.view().dequantize_as::<f16>();
    for row in [0, 1, 7, 500, rows - 1] {
        let range = row * cols..(row + 1) * cols;
        let one = Nvfp4Matrix::quantize_with_global(&values[range.clone()], 1, 1, cols, global);
        let one = one.unwrap();
        assert_eq!(one.codes(), &whole.codes()[range.start / 2..range.end / 2]);
        assert_eq!(one.scales(), &whole.scales()[range.start / 16..range.end / 16]);
        assert_eq!(nibble::unpack(one.codes()), codes[range.clone()]);
        assert_eq!(one.dequantize(), dequantized[range.clone()]);
        assert_eq!(one.view().dequantize_as::<f16>(), halves[range]);
    }
    let swizzled = whole.view().to_swizzled_scales().unwrap();
    let (codes, scales, _) = whole.clone().into_parts();
    let back = Nvfp4Matrix::from_swizzled(1, rows, cols, codes, &swizzled, global).unwrap();
    assert_eq!(back.scales(), scales);
    assert_eq!(back, whole);
}

/// Padding of the 128x4 layout is not looked at.
#[test]
fn padding_may_hold_anything() {
    let m = Nvfp4Matrix::quantize(&[1.0f32; 3 * 48], 1, 3, 48).unwrap();
    let layout = m.view().scale_layout().unwrap();
    let mut swizzled = m.view().to_swizzled_scales().unwrap();
    for (offset, byte) in swizzled.iter_mut().enumerate() {
        let at = layout.coord(offset).unwrap();
        if at.row >= 3 || at.col >= 3 {
            *byte = 0xff;
        }
    }
    let codes = m.codes().to_vec();
    let back = Nvfp4Matrix::from_swizzled(1, 3, 48, codes, &swizzled, m.global_scale()).unwrap();
    assert_eq!(back, m);
}
