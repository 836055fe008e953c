//! Values that a global scale cannot represent, where it was chosen without them.

use std::cmp::Ordering::{Equal, Less};

use rayon::prelude::*;

use crate::dtype::{Element, Values};
use crate::format::kernels::{self, PIECE, Path};
use crate::format::quantize::amax;
use crate::format::{BLOCK, e2m1, ue4m3};

/// Blocks of 16 values that a global scale clips, or is too coarse for.
///
/// A block needs the scale factor `amax(block) / 6 / global`, and the largest that there is is 448:
/// the block saturates when `amax(block) > 2688·global`. Its values beyond that all become
/// `±2688·global`. A block does not count as saturated for what f32 cannot hold: `2688·(amax/2688)`,
/// or the reciprocal of a stored divisor, may be a few units in the last place less than `amax`, so
/// that the comparison leaves 1 part in 2^22.
///
/// At the other end the smallest normal scale factor is 2^-6: a block underflows when
/// `0 < amax(block) < 6·2^-6·global`. Its scale factor is subnormal (a multiple of 2^-9), or the
/// smallest of those where it would be 0, and has fewer significant bits than the format promises. A
/// block is lost when `0 < amax(block) <= 2^-11·global`: under the smallest scale factor all its codes
/// round to 0. With amax/2688 as global scale this takes values 28672 times smaller than the largest.
///
/// ```
/// use nvfp4_dual_gemm::format::Saturation;
/// let mut values = [1.0f32; 64];
/// values[20] = -5376.0;
/// let found = Saturation::of(&values, 1.0);
/// assert_eq!((found.blocks, found.saturated, found.share()), (4, 1, 0.25));
/// assert_eq!((found.amax, found.largest), (5376.0, 2688.0));
/// assert_eq!(Saturation::of(&values, 2.0).saturated, 0);
/// let coarse = Saturation::of(&values, 16.0); // blocks of 1.0 would need 1.5 for a normal scale factor
/// assert_eq!((coarse.underflowed, coarse.lost), (3, 0));
/// assert_eq!(Saturation::of(&values, 2048.0).lost, 3);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Saturation {
    /// Blocks of 16 values.
    pub blocks: usize,
    /// Those among them that saturate.
    pub saturated: usize,
    /// Those that are not zero and need a scale factor below 2^-6, the smallest normal one.
    pub underflowed: usize,
    /// Those among the underflowed that become zero.
    pub lost: usize,
    /// Largest magnitude of all values; 0 where there are none.
    pub amax: f32,
    /// Largest magnitude that the global scale can represent, `6·448·global`.
    pub largest: f64,
}

impl Saturation {
    /// Looks at `values` \[..., K\], row-major with K a multiple of 16, that are to be quantized with `global_scale`,
    /// as by [`crate::Nvfp4Matrix::quantize_with_global`].
    ///
    /// A block with a NaN or an infinity counts as saturated, and every block does if `global_scale` is NaN; the
    /// quantizer refuses both.
    pub fn of<T: Element>(values: &[T], global_scale: f32) -> Self {
        let largest = f64::from(e2m1::MAX * ue4m3::MAX) * f64::from(global_scale);
        let most = largest * (1.0 + 2f64.powi(-22));
        let unit = f64::from(global_scale);
        let least = f64::from(e2m1::MAX) * 2f64.powi(-6) * unit * (1.0 - 2f64.powi(-22));
        let nothing = 2f64.powi(-11) * unit;
        let path = Path::best();
        let count = |piece: &[T]| {
            piece.chunks(BLOCK).fold([0; 3], |[saturated, underflowed, lost], block| {
                let amax = f64::from(kernels::amax(path, Values::of(block)));
                // A comparison with NaN is false.
                let clipped = !matches!(amax.partial_cmp(&most), Some(Less | Equal));
                let small = |limit: bool| usize::from(amax > 0.0 && limit);
                [
                    saturated + usize::from(clipped),
                    underflowed + small(amax < least),
                    lost + small(amax <= nothing),
                ]
            })
        };
        let add = |a: [usize; 3], b: [usize; 3]| [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
        let [saturated, underflowed, lost] =
            values.par_chunks(PIECE).map(count).reduce(|| [0; 3], add);
        let (blocks, amax) = (values.len().div_ceil(BLOCK), amax(values));
        Saturation { blocks, saturated, underflowed, lost, amax, largest }
    }

    /// The counts of both together, each with its own global scale; `largest` is the larger of the two.
    pub fn and(&self, other: &Saturation) -> Self {
        let amax = if self.amax.is_nan() { self.amax } else { other.amax.max(self.amax) };
        Saturation {
            blocks: self.blocks + other.blocks,
            saturated: self.saturated + other.saturated,
            underflowed: self.underflowed + other.underflowed,
            lost: self.lost + other.lost,
            amax: if other.amax.is_nan() { other.amax } else { amax },
            largest: self.largest.max(other.largest),
        }
    }

    /// Share of the blocks that saturate, from 0 to 1; 0 where there are none.
    pub fn share(&self) -> f64 {
        self.saturated as f64 / self.blocks.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::quantize::{dequantize_into, quantize_into};
    use half::{bf16, f16};

    #[test]
    fn the_largest_representable_value_does_not_saturate_and_the_next_that_is_more_does() {
        let of = |value: f32, global: f32| Saturation::of(&[value; 16], global).saturated;
        assert_eq!(of(2688.0, 1.0), 0);
        assert_eq!(of(-2688.0, 1.0), 0);
        // 2688 has units of 2^-12 in f32: 1 part in 2^22 are between 2 and 3 of them.
        assert_eq!(of(2688.0 + 2f32.powi(-11), 1.0), 0);
        assert_eq!(of(2688.0 + 3.0 * 2f32.powi(-12), 1.0), 1);
        assert_eq!(of(-2689.0, 1.0), 1);
        assert_eq!(of(1e-30, 1e-30), 0);
        assert_eq!(of(1e-26, 1e-30), 1);
        // A scale factor between 448 and 464 would round to 448, and is too large all the same.
        assert_eq!(of(6.0 * 449.0, 1.0), 1);
        assert_eq!(of(f32::INFINITY, 1.0), 1);
        assert_eq!(of(f32::NAN, 1.0), 1);
        assert_eq!(of(0.0, f32::NAN), 1);
        let none = Saturation::of::<f32>(&[], 1.0);
        assert_eq!((none.blocks, none.saturated, none.share(), none.amax), (0, 0, 0.0, 0.0));
    }

    #[test]
    fn small_blocks_underflow_and_what_becomes_zero_is_lost() {
        let of = |value: f32, global: f32| {
            let found = Saturation::of(&[value; 16], global);
            assert_eq!(found.saturated, 0);
            let (mut codes, mut scales, mut back) = ([0; 8], [0; 1], [f32::NAN; 16]);
            quantize_into(&[value; 16], global, &mut codes, &mut scales);
            dequantize_into(&codes, &scales, global, &mut back);
            let zero = back.iter().all(|&v| v == 0.0) && value != 0.0;
            assert_eq!(usize::from(zero), found.lost, "{value:e} under {global:e}");
            (found.underflowed, found.lost)
        };
        assert_eq!(of(0.09375, 1.0), (0, 0)); // 6·2^-6
        assert_eq!(of(-0.0937, 1.0), (1, 0));
        assert_eq!(of(0.0005, 1.0), (1, 0));
        assert_eq!(of(-(2f32.powi(-11)), 1.0), (1, 1)); // 0.25 rounds to the even code
        assert_eq!(of(1.0, 10.0), (0, 0));
        assert_eq!(of(1.0, 100.0), (1, 0));
        assert_eq!(of(1.0, 1e4), (1, 1));
        assert_eq!(of(1.0, 1e38), (1, 1));
        assert_eq!(of(1e-45, 1e-30), (1, 1));
        for zero in [0.0, -0.0] {
            assert_eq!(of(zero, 1e38), (0, 0));
        }
        assert_eq!(Saturation::of(&[f32::NAN; 16], 1.0).underflowed, 0);
        let mut values = [1.0f32; 48];
        values[3] = 28_673.0;
        let found = Saturation::of(&values, values[3] / 2688.0);
        assert_eq!((found.underflowed, found.lost), (2, 0));
    }

    /// Scales from the values themselves clip nothing, stored as multipliers or as divisors.
    #[test]
    fn the_scale_of_the_values_themselves_saturates_nothing() {
        let mut bits = 12345u32;
        for _ in 0..20_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let amax = f32::from_bits(0x2000_0000 + (bits >> 2)); // from 1e-19 on
            let of = |global: f32| Saturation::of(&[amax], global).saturated;
            assert_eq!(of(amax / 2688.0), 0, "{amax:e}");
            assert_eq!(of(1.0 / (2688.0 / amax)), 0, "{amax:e}");
            assert_eq!(of(amax / 2689.0), 1, "{amax:e}");
        }
    }

    /// What saturates is what comes back smaller than it was by more than rounding takes.
    #[test]
    fn counts_blocks_on_all_threads_and_in_each_type() {
        fn check<T: Element>() {
            let (rows, cols, global) = (96, 2048, 2f32.powi(-6)); // three pieces; up to 42
            let mut values = vec![T::from_f32(1.5); rows * cols];
            let clipped = [0, 15, 16, 65_535, 65_536, 65_552, 196_607];
            for i in clipped {
                values[i] = T::from_f32(-60.0);
            }
            values[700] = T::from_f32(42.0); // the largest
            let found = Saturation::of(&values, global);
            assert_eq!((found.blocks, found.saturated), (rows * cols / 16, 6));
            assert_eq!((found.amax, found.largest), (60.0, 42.0));
            let elements = rows * cols;
            let (mut codes, mut scales) = (vec![0; elements / 2], vec![0; elements / 16]);
            quantize_into(&values, global, &mut codes, &mut scales);
            let mut back = vec![0f32; elements];
            dequantize_into(&codes, &scales, global, &mut back);
            assert!(clipped.iter().all(|&i| back[i] == -42.0));
            assert_eq!(back[700], 42.0);
        }
        check::<f32>();
        check::<f16>();
        check::<bf16>();
    }
}
