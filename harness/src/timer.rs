//! Timing.

use std::time::{Duration, Instant};

use serde::Serialize;

/// Times of repeated runs, in seconds.
#[derive(Debug, Clone, Serialize)]
pub struct Timing {
    /// Half of the runs took less.
    #[serde(rename = "median_s")]
    pub median: f64,
    /// The fastest run.
    #[serde(rename = "min_s")]
    pub min: f64,
    /// Timed runs.
    pub runs: usize,
    /// Whether an untimed run went before.
    pub warmed_up: bool,
}

impl Timing {
    /// Of times in any order, after a run that does not count; `None` where there are none.
    pub fn of(mut times: Vec<f64>) -> Option<Self> {
        times.sort_by(f64::total_cmp);
        let runs = times.len();
        let median = (times.get(runs.checked_sub(1)? / 2)? + times.get(runs / 2)?) / 2.0;
        Some(Timing { median, min: times[0], runs, warmed_up: true })
    }
}

/// How often to run.
#[derive(Debug, Clone, Copy)]
pub enum Repeat {
    /// This often, after one run that does not count.
    Exactly(usize),
    /// For about this long; a first run that takes more than five times as long is the only one.
    For(Duration),
}

impl Repeat {
    /// Of an option that gives the number of runs; without it, for about `budget`.
    pub fn from_arg(repeat: Option<usize>, budget: Duration) -> Self {
        repeat.map_or(Repeat::For(budget), Repeat::Exactly)
    }
}

/// At most this many runs within a time budget.
const MAX_RUNS: usize = 200;

/// Runs `work` repeatedly, `before` (not timed) ahead of each.
pub fn measure<E>(
    repeat: Repeat,
    before: impl FnMut(),
    work: impl FnMut() -> Result<(), E>,
) -> Result<Timing, E> {
    let (times, warmed_up) = run_times(repeat, before, work)?;
    let first = times.first().copied().unwrap_or_default();
    let single = Timing { median: first, min: first, runs: 1, warmed_up };
    Ok(Timing::of(times).map_or(single, |timing| Timing { warmed_up, ..timing }))
}

/// Seconds of each run of [`measure`], at least one, and whether an untimed run went before.
pub fn run_times<E>(
    repeat: Repeat,
    mut before: impl FnMut(),
    mut work: impl FnMut() -> Result<(), E>,
) -> Result<(Vec<f64>, bool), E> {
    let mut timed = || -> Result<Duration, E> {
        before();
        let start = Instant::now();
        work()?;
        Ok(start.elapsed())
    };
    let first = timed()?;
    if let Repeat::For(budget) = repeat
        && first > 5 * budget
    {
        return Ok((vec![first.as_secs_f64()], false));
    }
    let mut times = Vec::new();
    let start = Instant::now();
    loop {
        times.push(timed()?.as_secs_f64());
        let enough = match repeat {
            Repeat::Exactly(n) => times.len() >= n,
            Repeat::For(budget) => times.len() >= MAX_RUNS || start.elapsed() >= budget,
        };
        if enough {
            break;
        }
    }
    Ok((times, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_or_between_two() {
        let median = |times: &[f64]| Timing::of(times.to_vec()).map(|timing| timing.median);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[9.0, 4.0, 1.0, 2.0]), Some(3.0));
        let timing = Timing::of(vec![9.0, 1.0, 2.0]).unwrap();
        assert_eq!((timing.min, timing.runs), (1.0, 3));
    }

    #[test]
    fn one_run_to_warm_up_and_n_to_count() {
        let (mut before, mut work) = (0, 0);
        let timing = measure(
            Repeat::Exactly(4),
            || before += 1,
            || {
                work += 1;
                Ok::<(), ()>(())
            },
        )
        .unwrap();
        assert_eq!((before, work, timing.runs), (5, 5, 4));
        assert!(timing.min <= timing.median);
    }
}
