//! The check of a result against the exact oracle, on all rows or on some.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use nvfp4_dual_gemm::oracle::{Bound, MlpRows};
use nvfp4_dual_gemm::{Backend, DualGemm, Element, Engine, GemmShape, Operation, oracle};

use crate::units;

/// Rows of C to check.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rows {
    /// As many as take about a second.
    Auto,
    /// Every row.
    All,
    /// At most this many; none skips the check.
    Some(usize),
}

impl FromStr for Rows {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Rows::Auto),
            "all" => Ok(Rows::All),
            _ => text
                .parse()
                .map(Rows::Some)
                .map_err(|_| "expected auto, all or a number of rows".to_owned()),
        }
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rows::Auto => f.write_str("auto"),
            Rows::All => f.write_str("all"),
            Rows::Some(n) => write!(f, "{n}"),
        }
    }
}

/// Multiply-adds of the oracle that take about a second on two cores.
const AUTO_PRODUCTS: f64 = 2e9;

impl Rows {
    /// The rows, each as (batch, row): the last, the first if there are two, and others at random places.
    ///
    /// Where a kernel handles the end of its tiles wrongly, it is the last row that shows it.
    pub fn choose(self, problem: &GemmShape) -> Vec<(usize, usize)> {
        let GemmShape { m, n, k, batch } = *problem;
        let total = batch * m;
        let count = match self {
            Rows::All => total,
            Rows::Some(count) => count.min(total),
            Rows::Auto => {
                let affordable = AUTO_PRODUCTS / (2.0 * n as f64 * k as f64);
                (affordable as usize).max(4).min(total)
            }
        };
        if count == 0 {
            return Vec::new();
        }
        let (last, place) = (total - 1, |row: usize| (row / m, row % m));
        // Past a half the random picks would mostly hit rows that are taken.
        if count > 1 && count > total / 2 {
            let evenly = |i: usize| (i as u128 * last as u128 / (count - 1) as u128) as usize;
            return (0..count).map(|i| place(evenly(i))).collect();
        }
        let mut rows: BTreeSet<usize> = [last, 0].into_iter().take(count).collect();
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        while rows.len() < count {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            rows.insert((state >> 33) as usize % total);
        }
        rows.into_iter().map(place).collect()
    }
}

/// Exact values of some rows, ready to be compared with several results.
pub struct Exact<T> {
    rows: Vec<(usize, usize)>,
    values: Vec<T>,
    /// How much further off each may be; empty: no more than roundings explain.
    slack: Vec<f32>,
}

impl<T: Element> Exact<T> {
    /// Asks the oracle.
    pub fn new(gemm: &DualGemm<'_>, rows: Rows) -> nvfp4_dual_gemm::Result<Self> {
        Self::of_rows(gemm, rows.choose(&gemm.shape()))
    }

    /// Asks the oracle for these rows, each (batch, row).
    pub fn of_rows(
        operation: &impl Operation,
        rows: Vec<(usize, usize)>,
    ) -> nvfp4_dual_gemm::Result<Self> {
        let values = oracle::exact_rows(operation, &rows)?;
        Ok(Exact { rows, values, slack: Vec::new() })
    }

    /// Of rows of a whole MLP that were asked for already.
    pub(crate) fn of_mlp(rows: Vec<(usize, usize)>, exact: MlpRows<T>) -> Self {
        Exact { rows, values: exact.values, slack: exact.slack }
    }

    /// Compares the same rows of a whole C, which is held to `bound`.
    pub fn check(&self, problem: &GemmShape, c: &[T], bound: Bound) -> Check {
        let GemmShape { m, n, batch, .. } = *problem;
        let picked: Vec<T> = self
            .rows
            .iter()
            .flat_map(|&(l, row)| c[(l * m + row) * n..][..n].iter().copied())
            .collect();
        let comparison = oracle::compare_within(&picked, &self.values, &self.slack).within(bound);
        let elements = comparison.count;
        Check {
            pass: comparison.passes(),
            rows: self.rows.len(),
            rows_total: batch * m,
            elements,
            ulp_of: comparison.ulp_of.to_string(),
            max_ulp: Some(comparison.max_ulp).filter(|&ulp| ulp != u64::MAX),
            allowed_ulp: comparison.allowed_ulp(),
            beyond_one_ulp: comparison.beyond_one_ulp,
            allowed_beyond_one_ulp: comparison.allowed_beyond_one_ulp(),
            share_beyond_one_ulp: comparison.beyond_one_ulp as f64 / elements.max(1) as f64,
            outside_tolerance: comparison.outside,
            max_abs_error: comparison.max_abs_error,
            rtol: comparison.tolerance.rtol,
            atol: comparison.tolerance.atol,
        }
    }
}

/// The outcome of a check. By default it failed, with nothing that was compared.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Check {
    /// Whether C is as near to the oracle as is asked for.
    pub pass: bool,
    /// Rows of C that were compared,
    pub rows: usize,
    /// of so many,
    pub rows_total: usize,
    /// and their elements.
    pub elements: usize,
    /// The type whose units in the last place are counted.
    pub ulp_of: String,
    /// `None`: a NaN on one side, which is at no distance.
    pub max_ulp: Option<u64>,
    /// Largest distance that passes; `None`: as far as the tolerance goes.
    pub allowed_ulp: Option<u64>,
    /// Elements further away than 1 ULP.
    pub beyond_one_ulp: usize,
    /// How many of them pass.
    pub allowed_beyond_one_ulp: usize,
    /// Of the elements, from 0 to 1.
    pub share_beyond_one_ulp: f64,
    /// Elements for which `|c - exact| > atol + rtol·|exact|`.
    pub outside_tolerance: usize,
    /// Largest `|c - exact|`.
    pub max_abs_error: f64,
    /// Relative tolerance.
    pub rtol: f64,
    /// Absolute tolerance.
    pub atol: f64,
}

impl Check {
    /// Which rows, in words.
    pub fn extent(&self) -> String {
        if self.rows_total == 0 {
            "C has no rows".to_owned()
        } else if self.rows == self.rows_total {
            format!("all {} of C", units::count(self.rows, "row"))
        } else {
            format!("{} of {} rows of C, sampled", self.rows, self.rows_total)
        }
    }

    /// The measures, in words, and next to those that are too large what they may be.
    pub fn measures(&self) -> String {
        let may_be = |too_large: bool, most: u64| match too_large {
            true => format!(" (at most {most} may be)"),
            false => String::new(),
        };
        let far = self.max_ulp.zip(self.allowed_ulp).filter(|(ulp, most)| ulp > most);
        let many = self.beyond_one_ulp > self.allowed_beyond_one_ulp;
        format!(
            "max {} ULP of {}{}, {} beyond 1 ULP{}, {} of {} outside tolerance",
            units::ulp(self.max_ulp),
            self.ulp_of,
            far.map_or_else(String::new, |(_, most)| may_be(true, most)),
            units::percent(self.share_beyond_one_ulp),
            may_be(many, self.allowed_beyond_one_ulp as u64),
            self.outside_tolerance,
            self.elements,
        )
    }

    /// An error unless the check passed.
    pub fn require(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.pass, "the result differs from the exact oracle: {}", self.measures());
        Ok(())
    }
}

/// The check of a whole C that `engine` computed; `None` where none is asked for, or where the oracle
/// would be compared with itself.
pub fn check<T: Element>(
    gemm: &DualGemm<'_>,
    engine: &Engine,
    rows: Rows,
    c: &[T],
) -> nvfp4_dual_gemm::Result<Option<Check>> {
    if rows == Rows::Some(0) || engine.backend() == Backend::Oracle {
        return Ok(None);
    }
    let shape = gemm.shape();
    Ok(Some(Exact::new(gemm, rows)?.check(&shape, c, engine.bound(shape.k, 2))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvfp4_dual_gemm::f16;
    use nvfp4_dual_gemm::synth::{Data, Operands};

    /// The check of the oracle's own C with its last value replaced.
    fn check_with_last(value: f16) -> Check {
        let problem = GemmShape { m: 3, n: 4, k: 32, batch: 1 };
        let operands = Operands::generate(problem, Data::Full, 1).unwrap();
        let gemm = operands.gemm().unwrap();
        let mut c: Vec<f16> = oracle::exact(&gemm).unwrap();
        if let Some(last) = c.last_mut() {
            *last = value;
        }
        let exact = Exact::new(&gemm, Rows::Some(1)).unwrap();
        exact.check(&problem, &c, Bound::default())
    }

    #[test]
    fn a_nan_is_at_no_distance_that_json_could_hold() {
        let check = check_with_last(f16::NAN);
        assert!(!check.pass);
        let value = serde_json::to_value(&check).unwrap();
        assert_eq!(value["max_ulp"], serde_json::Value::Null);
        assert_eq!((&value["outside_tolerance"], &value["pass"]), (&1.into(), &false.into()));
        assert!(check.measures().starts_with("max NaN ULP of f16"), "{}", check.measures());
    }

    #[test]
    fn a_value_far_from_the_oracle_fails() {
        assert!(!check_with_last(f16::from_f32(1e4)).pass);
    }

    #[test]
    fn a_failure_says_what_would_have_passed() {
        let check = Check {
            ulp_of: "f16".to_owned(),
            max_ulp: Some(86),
            allowed_ulp: Some(85),
            beyond_one_ulp: 3,
            allowed_beyond_one_ulp: 2,
            share_beyond_one_ulp: 3.0 / 684.0,
            elements: 684,
            ..Check::default()
        };
        assert_eq!(
            check.measures(),
            "max 86 ULP of f16 (at most 85 may be), 0.439 % beyond 1 ULP (at most 2 may be), 0 of 684 outside tolerance"
        );
    }

    #[test]
    fn the_oracle_does_not_check_itself() {
        let operands =
            Operands::generate(GemmShape { m: 2, n: 3, k: 16, batch: 1 }, Data::Full, 1).unwrap();
        let gemm = operands.gemm().unwrap();
        let c: Vec<f16> = oracle::exact(&gemm).unwrap();
        assert!(check(&gemm, &Engine::oracle(), Rows::All, &c).unwrap().is_none());
        let cpu = Engine::cpu().unwrap();
        assert!(check(&gemm, &cpu, Rows::Some(0), &c).unwrap().is_none());
        assert!(check(&gemm, &cpu, Rows::All, &c).unwrap().is_some_and(|check| check.pass));
    }

    #[test]
    fn the_first_and_the_last_row_are_always_among_those_picked() {
        // All numbers of rows and all that can be wanted, one batch or several; ten rows of which
        // seven are wanted among them.
        for total in 1..=40 {
            for batch in [1, 2, 5].into_iter().filter(|batch| total % batch == 0) {
                let problem = GemmShape { m: total / batch, n: 8, k: 16, batch };
                for wanted in 1..=total + 1 {
                    let chosen = Rows::Some(wanted).choose(&problem);
                    let distinct: BTreeSet<_> = chosen.iter().collect();
                    assert_eq!(distinct.len(), wanted.min(total), "{wanted} of {total}");
                    assert_eq!(distinct.len(), chosen.len(), "{wanted} of {total}");
                    assert!(
                        chosen.contains(&(batch - 1, total / batch - 1)),
                        "{wanted} of {total}"
                    );
                    assert!(wanted == 1 || chosen.contains(&(0, 0)), "{wanted} of {total}");
                    assert!(chosen.iter().all(|&(l, row)| l < batch && row < total / batch));
                }
            }
        }
        for rows in [Rows::All, Rows::Auto, Rows::Some(7)] {
            assert!(rows.choose(&GemmShape { m: 0, n: 8, k: 16, batch: 3 }).is_empty());
        }
    }

    #[test]
    fn rows_are_distinct_and_include_both_ends() {
        let problem = GemmShape { m: 100, n: 8, k: 16, batch: 3 };
        for rows in [Rows::All, Rows::Auto, Rows::Some(2), Rows::Some(7), Rows::Some(299)] {
            let chosen = rows.choose(&problem);
            let distinct: BTreeSet<_> = chosen.iter().collect();
            assert_eq!(distinct.len(), chosen.len(), "{rows}");
            assert_eq!(chosen[0], (0, 0), "{rows}");
            assert!(chosen.iter().all(|&(l, row)| l < 3 && row < 100));
        }
        assert_eq!(Rows::All.choose(&problem).len(), 300);
        assert_eq!(Rows::Some(7).choose(&problem).last(), Some(&(2, 99)));
        assert!(Rows::Some(0).choose(&problem).is_empty());
    }
}
