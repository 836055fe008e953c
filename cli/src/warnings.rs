//! What is no failure, and yet should not go unsaid.

use rayon::prelude::*;
use serde::Serialize;

use nvfp4_dual_gemm::format::Saturation;
use nvfp4_dual_gemm::{DType, Element};
use nvfp4_harness::units;

/// How many values of a result are infinite or NaN.
pub fn non_finite<T: Element>(c: &[T]) -> usize {
    c.par_iter().filter(|value| !value.to_f32().is_finite()).count()
}

/// The sentence about them; `None` where all are finite.
pub fn of_non_finite(count: usize, of: usize, name: &str, dtype: DType) -> Option<String> {
    let hint = match dtype {
        DType::F16 => "f16 ends at 65504; --out-dtype bf16 or f32 goes to 3.4e38",
        _ => "beyond 3.4e38",
    };
    let are = if count == 1 { "is" } else { "are" };
    (count > 0).then(|| format!("{count} of {of} values of {name} {are} not finite ({hint})"))
}

/// What a global scale of activations clips, and what it is too coarse for.
#[derive(Debug, Clone, Serialize)]
pub struct Clipped {
    /// x or h.
    #[serde(skip)]
    what: &'static str,
    /// Blocks of 16 values.
    blocks: usize,
    saturated: usize,
    /// Of the saturated blocks, from 0 to 1.
    share: f64,
    /// Blocks whose scale factors are below the normal ones, without those of zeros.
    underflowed: usize,
    /// Those among them that became 0.
    lost: usize,
    /// Largest magnitude.
    largest: f32,
    /// 2688 times the global scale.
    largest_representable: f64,
}

impl Clipped {
    /// Of x or h.
    pub fn of(what: &'static str, found: Saturation) -> Self {
        Clipped {
            what,
            blocks: found.blocks,
            saturated: found.saturated,
            share: found.share(),
            underflowed: found.underflowed,
            lost: found.lost,
            largest: found.amax,
            largest_representable: found.largest,
        }
    }

    /// The sentences about both ends.
    pub fn sentences(&self) -> impl Iterator<Item = String> {
        self.above().into_iter().chain(self.below())
    }

    /// How the report calls the scale.
    fn scale(&self) -> &'static str {
        if self.what == "x" { "input scale" } else { "scale of h" }
    }

    fn above(&self) -> Option<String> {
        let Clipped { what, blocks, saturated, share, largest, largest_representable, .. } = self;
        let factor = f64::from(*largest) / largest_representable;
        let digits = if factor < 100.0 { 2 } else { 0 };
        (*saturated > 0).then(|| {
            format!(
                "{saturated} of {} of {what} ({}) saturated: the {} reaches {largest_representable:.3e}, {what} goes to \
                 {largest:.3e}, {factor:.digits$} times as far; --input-scale dynamic clips nothing",
                units::count(*blocks, "block"),
                units::percent(*share),
                self.scale(),
            )
        })
    }

    fn below(&self) -> Option<String> {
        let Clipped { what, blocks, underflowed, lost, largest, largest_representable, .. } = self;
        // Under the scale of the values themselves there is no better one.
        let coarse = f64::from(*largest) < 0.999 * largest_representable;
        let hint = match coarse {
            true => format!("; --input-scale dynamic fits the scale to {what}"),
            false => String::new(),
        };
        (*underflowed > 0).then(|| {
            format!(
                "{underflowed} of {} of {what} ({}) underflowed, {lost} of them to 0: their scale factors are below 2^-6 \
                 and have fewer bits; the {} reaches {largest_representable:.3e}, {what} goes to {largest:.3e}{hint}",
                units::count(*blocks, "block"),
                units::percent(*underflowed as f64 / (*blocks).max(1) as f64),
                self.scale(),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvfp4_dual_gemm::{bf16, f16};

    #[test]
    fn infinities_and_nan_are_counted_and_told_from_none() {
        let c = [f16::ONE, f16::INFINITY, f16::NEG_INFINITY, f16::NAN, f16::MAX];
        assert_eq!(non_finite(&c), 3);
        assert_eq!(non_finite(&[f32::MAX, 0.0]), 0);
        assert_eq!(non_finite::<bf16>(&[]), 0);
        let sentence = of_non_finite(3, 5, "C", DType::F16).unwrap();
        assert!(sentence.starts_with("3 of 5 values of C are not finite"), "{sentence}");
        assert!(sentence.contains("bf16"), "{sentence}");
        assert!(!of_non_finite(1, 5, "y", DType::Bf16).unwrap().contains("--out-dtype"));
        assert_eq!(of_non_finite(0, 5, "C", DType::F16), None);
    }

    #[test]
    fn clipped_values_are_told_with_how_far() {
        let mut x = [1.0f32; 64];
        let told = |x: &[f32], global| {
            Clipped::of("x", Saturation::of(x, global)).sentences().collect::<Vec<_>>()
        };
        assert_eq!(told(&x, 1.0), [""; 0]);
        let [coarse] = &told(&x, 1e38)[..] else { panic!("one sentence") };
        assert!(
            coarse.starts_with("4 of 4 blocks of x (100.000 %) underflowed, 4 of them to 0"),
            "{coarse}"
        );
        assert!(coarse.ends_with("--input-scale dynamic fits the scale to x"), "{coarse}");
        x[3] = -26880.0;
        let [sentence] = &told(&x, 1.0)[..] else { panic!("one sentence") };
        let start = "1 of 4 blocks of x (25.000 %) saturated: the input scale reaches 2.688e3, x goes to 2.688e4, \
                     10.00 times as far";
        assert!(sentence.starts_with(start), "{sentence}");
        let of_h = Clipped::of("h", Saturation::of(&x, 1.0)).sentences().next().unwrap();
        let start = "1 of 4 blocks of h (25.000 %) saturated: the scale of h reaches 2.688e3, h goes to 2.688e4";
        assert!(of_h.starts_with(start), "{of_h}");
    }
}
