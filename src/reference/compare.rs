//! Distances between a result and the exact one.

use crate::element::Element;

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
pub struct Comparison {
    /// Values compared.
    pub count: usize,
    /// Largest distance in units of the last place.
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
}

impl Comparison {
    /// The project's bound for a backend: at most 1 ULP on 99.9 % of the values, and all of them
    /// within the tolerance.
    pub fn passes(&self) -> bool {
        self.outside == 0 && self.beyond_one_ulp as f64 <= 1e-3 * self.count as f64
    }
}

/// Compares a result with the exact one, element by element.
///
/// # Panics
/// Never; slices of different length are compared over the shorter, and the rest counts as outside.
pub fn compare<T: Element>(actual: &[T], exact: &[T]) -> Comparison {
    let tolerance = Tolerance::of(exact);
    let mut result = Comparison {
        count: exact.len(),
        max_ulp: 0,
        worst: 0,
        beyond_one_ulp: 0,
        outside: actual.len().abs_diff(exact.len()),
        max_abs_error: 0.0,
        tolerance,
    };
    for (i, (&x, &y)) in actual.iter().zip(exact).enumerate() {
        let ulp = ulp_distance(x, y);
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
        // rounding, anything else that is not finite on one side only is outside.
        let close = ulp <= 1 || error <= tolerance.atol + tolerance.rtol * y.abs();
        result.outside += usize::from(!close || (x.is_nan() != y.is_nan()));
    }
    result
}
