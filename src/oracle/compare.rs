//! Distances between a result and the exact one.

use half::f16;

use super::Bound;
use crate::dtype::{DType, Element};

/// How far two values of the same type are apart, in units of the last place: the number of values
/// of the type between them, plus one. Equal values, and two zeros of any sign, are 0 apart; a NaN
/// is [`u64::MAX`] from everything but another NaN.
pub fn ulp_distance<T: Element>(x: T, y: T) -> u64 {
    match (x.to_f32().is_nan(), y.to_f32().is_nan()) {
        (true, true) => 0,
        (false, false) => x.ordinal().abs_diff(y.ordinal()),
        _ => u64::MAX,
    }
}

/// What counts as equal: `|x − exact| ≤ atol + rtol·|exact|`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Tolerance {
    /// Relative part.
    pub rtol: f64,
    /// Absolute part.
    pub atol: f64,
}

impl Tolerance {
    /// The tolerance of this project: `rtol = 1e-3`, `atol = 1e-3·max(1, median |exact|)`.
    pub fn of<T: Element>(exact: &[T]) -> Self {
        let mut magnitudes: Vec<f32> =
            exact.iter().map(|v| v.to_f32().abs()).filter(|v| v.is_finite()).collect();
        let median = if magnitudes.is_empty() {
            0.0
        } else {
            let middle = magnitudes.len() / 2;
            *magnitudes.select_nth_unstable_by(middle, f32::total_cmp).1
        };
        Tolerance { rtol: 1e-3, atol: 1e-3 * f64::from(median).max(1.0) }
    }
}

/// The outcome of [`compare`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Comparison {
    /// Values compared.
    pub count: usize,
    /// The type whose units in the last place are counted: that of the values, but f16 for f32.
    pub ulp_of: DType,
    /// Largest distance in units of the last place of `ulp_of`.
    pub max_ulp: u64,
    /// Index of the largest distance.
    pub worst: usize,
    /// Values more than one unit apart.
    pub beyond_one_ulp: usize,
    /// Values outside of the tolerance.
    pub outside: usize,
    /// Largest `|x − exact|` between finite values.
    pub max_abs_error: f64,
    /// The tolerance used.
    pub tolerance: Tolerance,
    /// What it is held to: by [`compare`], that of most backends.
    pub bound: Bound,
}

impl Comparison {
    /// The same, held to another bound.
    pub fn within(self, bound: Bound) -> Self {
        Comparison { bound, ..self }
    }

    /// The project's bound for a backend: at most 0.1 % of all values that it computes are more than
    /// 1 ULP from the exact ones, more on hardware that truncates ([`Bound`]), and each is within the tolerance.
    ///
    /// It is the same for dual GEMMs and GEMMs, with biases and residuals, of NVFP4 and of 16-bit activations: products
    /// are exact in f32, and what is held to it is how they are summed. An f32 sum of K terms of random signs, in blocks of
    /// about sqrt(K), has an error of some 2^-22 of its standard deviation, which is beyond 1 ULP of f16 where the sum is
    /// below 2^-11 of it: in one of 2000 values.
    ///
    /// How many of `count` values that allows is [`Comparison::allowed_beyond_one_ulp`]. Below 1000
    /// values, where 0.1 % is less than one of them, none may be further away than
    /// [`Comparison::allowed_ulp`], either: few values are often all small, so that the absolute part
    /// of the tolerance alone would let a wrong one through.
    pub fn passes(&self) -> bool {
        self.outside == 0
            && self.beyond_one_ulp <= self.allowed_beyond_one_ulp()
            && self.allowed_ulp().is_none_or(|most| self.max_ulp <= most)
    }

    /// How many values may be more than 1 ULP away: `n·s + 2·sqrt(n·s)` of n = `count` and the share s = 0.1 %, or that of
    /// the bound, rounded down, and at least 1.
    ///
    /// A share of 0.1 % is the mean of a count, whose standard deviation is the square root of that
    /// mean. A backend whose share is 0.05 % has two such values among 1500 in every sixth problem;
    /// it is wrong only where there are more than chance explains. Of a million values this is 0.106 %.
    pub fn allowed_beyond_one_ulp(&self) -> usize {
        let mean = self.count as f64 * self.bound.share(self.ulp_of);
        ((mean + 2.0 * mean.sqrt()) as usize).max(1)
    }

    /// How far away the furthest value may be, in ULP: `max(4, n/8)` of n = `count` below 1000,
    /// `None` (as far as the tolerance goes) from there on. With the share of the bound, `max(4, 125·n·s)`.
    ///
    /// What is far off is a product next to zero, where terms cancel: half as often for twice the
    /// distance. So the distance that is as improbable among n values grows with n.
    pub fn allowed_ulp(&self) -> Option<u64> {
        let furthest = (125.0 * self.count as f64 * self.bound.share(self.ulp_of)) as u64;
        (self.count < 1000).then_some(furthest.max(4))
    }
}

/// Compares a result with the exact one, element by element.
///
/// Distances are [`ulp_distance`] in the type of the values, except for f32: backends sum in f32, so
/// that its last place says nothing of them, and both sides are rounded to f16 first. Beyond 65504
/// both become infinite and only the tolerance tells them apart. Differences and the tolerance are
/// those of the values as they are. For bf16, whose range is that of f32, values of magnitude up to 2^-126, the least
/// normal one, count as 0 where that makes a distance smaller: a GPU may flush what is below.
/// Slices of different length are compared over the shorter, and the rest counts as outside.
pub fn compare<T: Element>(actual: &[T], exact: &[T]) -> Comparison {
    let tolerance = Tolerance::of(exact);
    let mut result = Comparison {
        count: exact.len(),
        ulp_of: if T::DTYPE == DType::F32 { DType::F16 } else { T::DTYPE },
        max_ulp: 0,
        worst: 0,
        beyond_one_ulp: 0,
        outside: actual.len().abs_diff(exact.len()),
        max_abs_error: 0.0,
        tolerance,
        bound: Bound::default(),
    };
    for (i, (&x, &y)) in actual.iter().zip(exact).enumerate() {
        let ulp = match T::DTYPE {
            DType::F32 => ulp_distance(f16::from_f32(x.to_f32()), f16::from_f32(y.to_f32())),
            DType::Bf16 => ulp_distance(x, y).min(ulp_distance(flush(x), flush(y))),
            DType::F16 => ulp_distance(x, y),
        };
        let neighbors = ulp_distance(x, y) <= 1;
        if ulp > result.max_ulp {
            (result.max_ulp, result.worst) = (ulp, i);
        }
        result.beyond_one_ulp += usize::from(ulp > 1);
        let (x, y) = (f64::from(x.to_f32()), f64::from(y.to_f32()));
        let error = (x - y).abs();
        if error.is_finite() {
            result.max_abs_error = result.max_abs_error.max(error);
        }
        // Equal infinities have ULP distance 0; an infinity next to the largest finite value is a
        // rounding, anything else that is not finite on one side only is outside. An infinite
        // `exact` makes the bound infinite too, which must not let everything through.
        let within = error.is_finite() && error <= tolerance.atol + tolerance.rtol * y.abs();
        result.outside += usize::from(!neighbors && !within);
    }
    result
}

/// [`compare`], with values that may be off by their `slack` besides: each is moved towards the exact one by so much, and
/// not beyond it. For the rows of a whole MLP ([`MlpRows`](super::MlpRows)). Values without a slack have none.
pub fn compare_within<T: Element>(actual: &[T], exact: &[T], slack: &[f32]) -> Comparison {
    let mut moved = actual.to_vec();
    for ((x, y), &slack) in moved.iter_mut().zip(exact).zip(slack) {
        let (from, to) = (f64::from(x.to_f32()), f64::from(y.to_f32()));
        let distance = (to - from).abs();
        if distance <= f64::from(slack) {
            *x = *y;
        } else if distance.is_finite() && slack > 0.0 {
            *x = T::from_f64(from + f64::from(slack).copysign(to - from));
        }
    }
    compare(&moved, exact)
}

/// 0 in place of what is not above the least normal f32, which arithmetic without subnormal numbers cannot be held
/// to: a value that rounds up to it may have been below.
fn flush<T: Element>(value: T) -> T {
    if value.to_f32().abs() <= f32::MIN_POSITIVE { T::default() } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn distances_count_the_steps_between_values() {
        let f = f16::from_bits;
        assert_eq!(ulp_distance(f(0x3c00), f(0x3c03)), 3);
        assert_eq!(ulp_distance(f(0x0001), f(0x8001)), 2);
        assert_eq!(ulp_distance(f(0x0000), f(0x8000)), 0);
        assert_eq!(ulp_distance(f(0x7c00), f(0x7bff)), 1);
        assert_eq!(ulp_distance(f16::NAN, f16::NAN), 0);
        assert_eq!(ulp_distance(f16::NAN, f16::ONE), u64::MAX);
        assert_eq!(ulp_distance(1.0f32, 1.0 + f32::EPSILON), 1);
    }

    #[test]
    fn tolerance_grows_with_the_median_but_not_below_one() {
        assert_eq!(Tolerance::of(&[0.1f32, 0.2, 0.3]).atol, 1e-3);
        assert_eq!(Tolerance::of(&[-40.0f32, 1.0, 2000.0]).atol, 40.0 * 1e-3);
        assert_eq!(Tolerance::of::<f32>(&[f32::NAN]).atol, 1e-3);
    }

    #[test]
    fn what_underflows_in_f32_is_0_for_bf16() {
        let of = |x: f32, y: f32| compare(&[bf16::from_f32(x)], &[bf16::from_f32(y)]).max_ulp;
        let least = f32::MIN_POSITIVE;
        assert_eq!(of(-0.0, least), 0);
        assert_eq!(of(0.0, f32::from_bits(1 << 16)), 0);
        assert_eq!(of(-least, least / 2.0), 0);
        // The next number is one step from the least normal one, and 129 from 0.
        let next = least * (1.0 + 2f32.powi(-7));
        assert_eq!(of(least, next), 1);
        assert_eq!(of(0.0, next), 129);
        assert_eq!(of(least, 2.0 * least), 128);
        assert!(of(0.0, 1e-36) > 700);
        assert_eq!(of(f32::NAN, 0.0), u64::MAX);
    }

    #[test]
    fn f32_is_measured_in_steps_of_f16() {
        let step = 2f32.powi(-10); // of f16 at 1
        let result = compare(&[1.0 + 0.4 * step, 1.0 + 1.6 * step], &[1.0f32, 1.0]);
        assert_eq!((result.ulp_of, result.max_ulp, result.worst), (DType::F16, 2, 1));
        assert_eq!((result.beyond_one_ulp, result.outside), (1, 0));
        // In bf16 the same values are equal, or neighbors at most.
        let round = |v: f32| bf16::from_f32(v);
        let result = compare(&[round(1.0 + 1.6 * step)], &[round(1.0)]);
        assert_eq!((result.ulp_of, result.max_ulp), (DType::Bf16, 0));
        // Both infinite in f16, and yet far apart.
        let result = compare(&[1e6f32], &[1e5]);
        assert_eq!((result.max_ulp, result.outside, result.passes()), (0, 1, false));
    }

    #[test]
    fn an_infinity_equals_itself_and_its_neighbor_only() {
        let inf = f16::INFINITY;
        for (x, outside) in [(inf, 0), (f16::MAX, 0), (f16::ONE, 1), (-inf, 1), (f16::NAN, 1)] {
            assert_eq!(compare(&[x], &[inf]).outside, outside, "{x}");
            assert_eq!(compare(&[inf], &[x]).outside, outside, "{x}");
        }
        assert_eq!(compare(&[0.0f32], &[f32::INFINITY]).outside, 1);
        assert_eq!(compare(&[f16::NAN], &[f16::NAN]).outside, 0);
    }

    #[test]
    fn slack_moves_towards_the_exact_value_only() {
        let exact = [1.0f32, -2.0, 3.0, 0.0];
        let actual = [1.5f32, -2.5, 2.0, 0.0];
        let all = compare_within(&actual, &exact, &[0.5, 0.6, 1.0, 9.0]);
        assert_eq!((all.max_ulp, all.outside), (0, 0));
        let some = compare_within(&actual, &exact, &[0.25, 0.5, 1.0, 0.0]);
        assert_eq!((some.outside, some.worst, some.max_abs_error), (1, 0, 0.25));
        assert_eq!(compare_within(&actual, &exact, &[]).outside, 3);
        assert_eq!(compare_within(&[f32::NAN], &[1.0], &[1.0]).outside, 1);
        assert_eq!(compare_within(&[f32::INFINITY], &[1.0], &[1.0]).outside, 1);
    }

    /// `far` of `count` ones are `steps` values of f16 away.
    fn far(count: usize, far: usize, steps: u16) -> Comparison {
        let exact = vec![f16::ONE; count];
        let mut actual = exact.clone();
        actual[..far].fill(f16::from_bits(0x3c00 + steps));
        compare(&actual, &exact)
    }

    #[test]
    fn as_many_may_be_two_steps_away_as_chance_explains() {
        // By hand: n/1000 + 2·sqrt(n/1000), the last n of each number and the next.
        for (count, allowed) in [
            (1, 1),
            (16, 1),
            (535, 1),
            (536, 2),
            (684, 2),
            (999, 2),
            (1000, 3),
            (1527, 3),
            (1528, 4),
            (10_000, 16),
            (16_384, 24),
            (1_000_000, 1063),
        ] {
            assert_eq!(far(count, allowed, 2).allowed_beyond_one_ulp(), allowed, "{count}");
            assert!(far(count, allowed, 2).passes(), "{count}");
            if count > allowed {
                assert!(!far(count, allowed + 1, 2).passes(), "{count}");
            }
        }
        // One step away may be all of them.
        assert!(far(700, 700, 1).passes());
        assert!(compare::<f16>(&[], &[]).passes());
        // What is missing is outside.
        let exact = [f16::ONE; 2000];
        assert_eq!(compare(&exact[..1999], &exact).outside, 1);
        assert!(!compare(&exact[..1999], &exact).passes());
    }

    #[test]
    fn a_bound_with_truncations_allows_more_of_the_same() {
        // 448 truncations of each of two sums: 0.82498 %.
        let bound = Bound::truncated(448, 2);
        for (count, allowed) in [(100, 2), (16_384, 158)] {
            assert_eq!(far(count, allowed, 2).within(bound).allowed_beyond_one_ulp(), allowed);
            assert!(far(count, allowed, 2).within(bound).passes());
            assert!(!far(count, allowed + 1, 2).within(bound).passes());
        }
        assert_eq!(far(100, 1, 2).within(bound).allowed_ulp(), Some(103));
        assert_eq!(far(1000, 1, 2).within(bound).allowed_ulp(), None);
        // The tolerance is the same.
        let wrong = compare(&[f16::from_f32(1.01)], &[f16::ONE]).within(bound);
        assert_eq!((wrong.outside, wrong.passes()), (1, false));
    }

    #[test]
    fn among_few_values_none_may_be_far_off() {
        // Within the tolerance, whose absolute part is 1e-3, all of them are.
        let exact = |count: usize| vec![f16::from_f32(1e-4); count];
        let off = |count: usize, steps: u16| {
            let mut actual = exact(count);
            let last = count - 1;
            actual[last] = f16::from_bits(actual[last].to_bits() + steps);
            compare(&actual, &exact(count))
        };
        for (count, most) in [(1, 4), (16, 4), (39, 4), (40, 5), (684, 85), (999, 124)] {
            assert!(off(count, most).passes(), "{count}");
            let further = off(count, most + 1);
            assert_eq!((further.outside, further.beyond_one_ulp), (0, 1), "{count}");
            assert!(!further.passes(), "{count}");
        }
        assert!(off(1000, 400).passes());
        // A C of 1x16 with one value that is missing, doubled, of the other sign or no number.
        for wrong in [0.0, 2e-4, -1e-4, f32::NAN] {
            let mut actual = exact(16);
            actual[7] = f16::from_f32(wrong);
            assert!(!compare(&actual, &exact(16)).passes(), "{wrong}");
        }
    }
}
