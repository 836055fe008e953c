//! The time that a launch takes at least on a B200, modeled from what was counted. Nothing of it was measured.
//!
//! Each bound assumes that everything else is free: the tensor cores, the memory, shared memory, and the issue of
//! instructions. The modeled time is the largest. Latencies, the launch itself and imbalance between thread blocks are
//! not in it. The constants are public measurements of a B200.

use std::fmt;

use serde::Serialize;

use super::entry::Entry;

/// Multiprocessors.
const SMS: f64 = 148.0;
/// Clock in Hz under load, from and to.
const CLOCKS: [f64; 2] = [1.5e9, 1.965e9];
/// Bytes a second.
const MEMORY: f64 = 7.67e12;
/// Bytes a clock of one multiprocessor.
const SHARED: f64 = 128.0;
/// Schedulers of a multiprocessor; each issues an instruction of a warp in a clock.
const SCHEDULERS: usize = 4;

/// Cycles of an MMA of 128 rows on one multiprocessor, by columns. All kinds read 32 bytes of each row, and the
/// measurement (of MXF4) holds for each.
const ONE_SM: [(f64, f64); 4] = [(64.0, 48.0), (96.0, 56.0), (128.0, 64.0), (256.0, 128.0)];
/// The same of 256 rows on two.
const TWO_SMS: [(f64, f64); 4] = [(64.0, 43.5), (96.0, 49.5), (128.0, 64.0), (256.0, 128.0)];

/// One bound.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bound {
    /// What limits.
    pub what: &'static str,
    /// At both clocks, in microseconds.
    pub microseconds: [f64; 2],
}

/// All bounds of a launch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Model {
    /// Multiprocessors that have work.
    pub sms: f64,
    /// Bounds; the largest is the modeled time.
    pub bounds: Vec<Bound>,
    /// Things that were counted and that no bound covers.
    pub omitted: Vec<String>,
}

impl Model {
    /// For one launch of the entry.
    pub fn of(entry: &Entry) -> Self {
        let counters = &entry.counters;
        let blocks = entry.per_launch(counters.thread_blocks).max(1.0);
        let sms = blocks.min(SMS);
        // Blocks are spread evenly: the fullest multiprocessor has this part of all the work.
        let part = (blocks / SMS).ceil() / blocks;
        let mut omitted = Vec::new();
        let on_sm = |what, cycles: f64| Bound {
            what,
            microseconds: CLOCKS.map(|clock| cycles * part / clock * 1e6),
        };
        let per_launch = |count: u64| entry.per_launch(count);
        let mut cycles = 0.0;
        for (shape, count) in &counters.mma {
            match mma_cycles(shape) {
                Some(each) => cycles += each * per_launch(*count),
                None => omitted.push(format!("mma {shape}")),
            }
        }
        let memory = compulsory_bytes(entry) / MEMORY * 1e6;
        let moved = counters.loads.values().chain(counters.stores.values());
        let shared: u64 = moved.map(|moved| moved.shared).sum();
        let issue = |counts: &[u64]| busiest_scheduler(entry, counts);
        let bounds = vec![
            on_sm("tensor cores", cycles),
            Bound { what: "memory", microseconds: [memory; 2] },
            on_sm("shared memory, by TMA", per_launch(shared) / SHARED),
            on_sm("issue of all instructions", issue(&counters.instructions)),
            on_sm("issue of epilogues", issue(&counters.epilogue)),
        ];
        Self { sms, bounds, omitted }
    }

    /// The largest bound at both clocks, in microseconds.
    pub fn microseconds(&self) -> [f64; 2] {
        [0, 1].map(|clock| {
            self.bounds.iter().map(|bound| bound.microseconds[clock]).fold(0.0, f64::max)
        })
    }
}

/// Cycles of multiprocessors that an MMA takes in all: twice as many when two work on it. The shape is as in
/// [`crate::counters::Counters::mma`], `kind cta_group::1 128x128x64`.
fn mma_cycles(shape: &str) -> Option<f64> {
    let mut words = shape.split(' ');
    words.next()?;
    let (table, sms) = match words.next()? {
        "cta_group::1" => (ONE_SM, 1.0),
        "cta_group::2" => (TWO_SMS, 2.0),
        _ => return None,
    };
    let mut extents = words.next()?.split('x').map(str::parse::<f64>);
    let (_, columns) = (extents.next()?.ok()?, extents.next()?.ok()?);
    Some(sms * interpolate(&table, columns))
}

/// Between neighbors of the table; beyond its ends, as near there.
fn interpolate(table: &[(f64, f64)], at: f64) -> f64 {
    let [first, .., last] = table else { return 0.0 };
    let pair = table.windows(2).find(|pair| at <= pair[1].0).unwrap_or(&table[table.len() - 2..]);
    if at <= first.0 {
        return first.1;
    }
    if at >= last.0 {
        return last.1;
    }
    let (left, right) = (pair[0], pair[1]);
    left.1 + (right.1 - left.1) * (at - left.0) / (right.0 - left.0)
}

/// Bytes that have to come from, or go to, memory at least once: of a tensor no more than it has, as the rest is found in
/// the L2 cache. Ordinary accesses count in full.
fn compulsory_bytes(entry: &Entry) -> f64 {
    let counters = &entry.counters;
    let moved = counters.loads.iter().chain(&counters.stores);
    let tma: f64 = moved
        .map(|(key, moved)| {
            let bytes = entry.per_launch(moved.global);
            entry.tensors.get(key).map_or(bytes, |tensor| bytes.min(*tensor as f64))
        })
        .sum();
    tma + entry.per_launch(counters.global_loads + counters.global_stores)
}

/// Instructions of the scheduler that issues most: warps are dealt out by their number.
fn busiest_scheduler(entry: &Entry, by_warp: &[u64]) -> f64 {
    let mut sums = [0; SCHEDULERS];
    for (warp, count) in by_warp.iter().enumerate() {
        sums[warp % SCHEDULERS] += count;
    }
    entry.per_launch(sums.into_iter().max().unwrap_or(0))
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [slow, fast] = CLOCKS.map(|clock| clock / 1e9);
        let sms = self.sms;
        writeln!(
            f,
            "  modeled for a B200 (not measured), {sms:.0} of {SMS} SMs at {slow} to {fast} GHz:"
        )?;
        for Bound { what, microseconds: [slow, fast] } in &self.bounds {
            writeln!(f, "    {what}: at least {fast:.3} to {slow:.3} us (modeled)")?;
        }
        for what in &self.omitted {
            writeln!(f, "    {what}: no figure, left out")?;
        }
        let [slow, fast] = self.microseconds();
        writeln!(f, "    all: at least {fast:.3} to {slow:.3} us (modeled, the largest of these)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::{Counters, Moved};

    fn bound(model: &Model, what: &str) -> [f64; 2] {
        let found = model.bounds.iter().find(|bound| bound.what == what);
        found.map_or([f64::NAN; 2], |bound| bound.microseconds)
    }

    /// By hand, for M = 512, N = 4096, K = 7168 in tiles of 128x128 on one SM each: 128 tiles of 2 accumulators.
    #[test]
    fn bounds_are_those_worked_by_hand() {
        let blocks = 128;
        let mma = blocks * 2 * (7168 / 64);
        let counters = Counters {
            mma: [("mxf4nvf4 cta_group::1 128x128x64".to_owned(), mma)].into(),
            loads: [(128, Moved { copies: 1, global: 1 << 30, shared: 1 << 30 })].into(),
            thread_blocks: blocks,
            instructions: vec![10, 0, 0, 1, 128_000],
            global_stores: 7_670_000,
            ..Counters::default()
        };
        let entry =
            Entry { launches: 1, tensors: [(128, 7_670_000)].into(), counters, ..Entry::default() };
        let model = Model::of(&entry);
        // 224 MMAs of 64 cycles on each SM: 14336 cycles.
        let close =
            |[a, b]: [f64; 2], [x, y]: [f64; 2]| (a - x).abs() < 1e-3 && (b - y).abs() < 1e-3;
        assert!(close(bound(&model, "tensor cores"), [9.557_333, 7.295_674]), "{model}");
        // The tensor once, not the 2^30 bytes that were copied, and the stores: 15.34 MB at 7.67 TB/s.
        assert!(close(bound(&model, "memory"), [2.0, 2.0]), "{model}");
        // 2^30 bytes over 128 SMs and 128 bytes a clock: 65536 cycles.
        assert!(close(bound(&model, "shared memory, by TMA"), [43.690_667, 33.351_654]), "{model}");
        // Warps 0 and 4 share a scheduler: 128010 in 128 blocks.
        let issue = bound(&model, "issue of all instructions");
        assert!(close(issue, [0.666_719, 0.508_946]), "{model}");
        assert!(close(model.microseconds(), [43.690_667, 33.351_654]));
    }

    #[test]
    fn cycles_are_those_of_the_table_and_between() {
        let cases = [
            ("mxf4nvf4 cta_group::1 128x64x64", Some(48.0)),
            ("mxf4nvf4 cta_group::1 128x96x64", Some(56.0)),
            ("mxf4nvf4 cta_group::1 128x192x64", Some(96.0)),
            ("mxf4nvf4 cta_group::1 128x32x64", Some(48.0)),
            ("mxf4nvf4 cta_group::2 256x64x64", Some(87.0)),
            ("f16 cta_group::2 256x256x16", Some(256.0)),
            ("wgmma m64n128k16", None),
            ("", None),
        ];
        for (shape, cycles) in cases {
            assert_eq!(mma_cycles(shape), cycles, "{shape}");
        }
    }

    /// Two waves: 149 blocks take as long as 296.
    #[test]
    fn a_part_of_a_wave_counts_whole() {
        let time = |blocks: u64| {
            let counters = Counters {
                mma: [("f16 cta_group::1 128x128x16".to_owned(), blocks * 1000)].into(),
                thread_blocks: blocks,
                ..Counters::default()
            };
            Model::of(&Entry { launches: 1, counters, ..Entry::default() }).microseconds()
        };
        assert_eq!(time(149).map(f64::round), time(296).map(f64::round));
        assert_eq!(time(148).map(f64::round), time(1).map(f64::round));
    }
}
