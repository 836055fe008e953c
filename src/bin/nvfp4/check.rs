//! The check of a result against the exact oracle, on all rows or on some.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use nvfp4_dual_gemm::{DualGemm, Element, Problem, reference};

use crate::output;

/// Rows of C to check.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rows {
    /// As many as take about a second.
    Auto,
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
    /// The rows, each as (batch, row): the first, the last, and others at random places.
    pub fn choose(self, problem: &Problem) -> Vec<(usize, usize)> {
        let Problem { m, n, k, batch } = *problem;
        let total = batch * m;
        let count = match self {
            Rows::All => total,
            Rows::Some(count) => count.min(total),
            Rows::Auto => {
                let affordable = AUTO_PRODUCTS / (2.0 * n as f64 * k as f64);
                (affordable as usize).max(4).min(total)
            }
        };
        let place = |row: usize| (row / m, row % m);
        // Past a half the random picks would mostly hit rows that are taken.
        if count > total / 2 {
            let stride = |i: usize| (i as u128 * total as u128 / count as u128) as usize;
            return (0..count).map(|i| place(stride(i))).collect();
        }
        let mut rows: BTreeSet<usize> = [0, total - 1].into_iter().take(count).collect();
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
}

impl<T: Element> Exact<T> {
    /// Asks the oracle.
    pub fn new(gemm: &DualGemm<'_>, rows: Rows) -> nvfp4_dual_gemm::Result<Self> {
        let rows = rows.choose(&gemm.problem());
        let values = reference::exact_rows(gemm, &rows)?;
        Ok(Exact { rows, values })
    }

    /// Compares the same rows of a whole C.
    pub fn check(&self, problem: &Problem, c: &[T]) -> Check {
        let Problem { m, n, batch, .. } = *problem;
        let picked: Vec<T> = self
            .rows
            .iter()
            .flat_map(|&(l, row)| c[(l * m + row) * n..][..n].iter().copied())
            .collect();
        let comparison = reference::compare(&picked, &self.values);
        let elements = comparison.count;
        Check {
            pass: comparison.passes(),
            rows: self.rows.len(),
            rows_total: batch * m,
            elements,
            ulp_of: comparison.ulp_of.to_string(),
            max_ulp: comparison.max_ulp,
            share_beyond_one_ulp: comparison.beyond_one_ulp as f64 / elements.max(1) as f64,
            outside_tolerance: comparison.outside,
            max_abs_error: comparison.max_abs_error,
            rtol: comparison.tolerance.rtol,
            atol: comparison.tolerance.atol,
        }
    }
}

/// The outcome of a check.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    pub pass: bool,
    pub rows: usize,
    pub rows_total: usize,
    pub elements: usize,
    /// The type whose units in the last place are counted.
    pub ulp_of: String,
    pub max_ulp: u64,
    pub share_beyond_one_ulp: f64,
    pub outside_tolerance: usize,
    pub max_abs_error: f64,
    pub rtol: f64,
    pub atol: f64,
}

impl Check {
    /// Which rows, in words.
    pub fn extent(&self) -> String {
        if self.rows == self.rows_total {
            format!("all {} of C", output::count(self.rows, "row"))
        } else {
            format!("{} of {} rows of C, sampled", self.rows, self.rows_total)
        }
    }

    /// The measures, in words.
    pub fn measures(&self) -> String {
        format!(
            "max {} ULP of {}, {} beyond 1 ULP, {} of {} outside tolerance",
            output::ulp(self.max_ulp),
            self.ulp_of,
            output::percent(self.share_beyond_one_ulp),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_distinct_and_include_both_ends() {
        let problem = Problem { m: 100, n: 8, k: 16, batch: 3 };
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
