//! Times of launches on a device: replays of a CUDA graph between events.

use std::time::Duration;

use anyhow::ensure;

use nvfp4_dual_gemm::cuda::{
    BoundPlan, Device, DeviceBuffer, DeviceMatrix, Event, Graph, Io, Kernel, Options, Plan, Stream,
    Weights,
};
use nvfp4_dual_gemm::{DualGemm, Element};
use nvfp4_harness::timer::Repeat;

/// Launches of a graph, at least: what a replay costs beside them is shared by all.
pub const NODES: usize = 48;
/// Weights that would take more copies than this are too small to be kept out of L2.
const COPIES: usize = 1024;
/// At most this many timed replays within a time budget, and at least so many.
const REPLAYS: (usize, usize) = (5, 200);

/// Which copy of the weights a launch reads, so that none of it is in L2 from the last time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rotation {
    /// Copies of the weights.
    pub copies: usize,
    /// Launches of the graph: as many of each copy.
    pub nodes: usize,
    /// Whether the copies together are more than four times the L2.
    pub cold: bool,
}

impl Rotation {
    /// More than four times `l2` bytes of weights, each copy of `weight_bytes`; `warm`: one copy.
    pub fn new(l2: usize, weight_bytes: usize, warm: bool) -> Self {
        let enough = 4 * l2 / weight_bytes.max(1) + 1;
        let copies = if warm { 1 } else { enough.min(COPIES) };
        Rotation { copies, nodes: NODES.next_multiple_of(copies), cold: copies >= enough }
    }

    /// The same copies in a graph of `nodes` launches, at least.
    pub fn with_nodes(self, nodes: usize) -> Self {
        Rotation { nodes: nodes.next_multiple_of(self.copies), ..self }
    }
}

/// Launches in one graph, timed by events around its replays.
pub struct GraphTimer {
    stream: Stream,
    graph: Graph,
    nodes: usize,
}

/// A dual GEMM on a device: a plan for each copy of the weights, each with a C of its own, and all in one graph.
pub struct Replay<T> {
    timer: GraphTimer,
    plans: Vec<BoundPlan>,
    results: Vec<DeviceBuffer<T>>,
}

impl<T: Element> Replay<T> {
    /// Copies operands to `device`, runs each plan once, and captures the graph.
    pub fn prepare(
        gemm: &DualGemm<'_>,
        device: &Device,
        kernel: Option<Kernel>,
        programmatic_launch: bool,
        rotation: Rotation,
    ) -> nvfp4_dual_gemm::Result<Self> {
        let stream = Stream::new(device)?;
        let options = Options::default()
            .glu(gemm.glu())
            .kernel(kernel)
            .programmatic_launch(programmatic_launch);
        let a = DeviceMatrix::upload(gemm.a().nvfp4()?, &stream)?;
        let problem = gemm.shape();
        let (mut plans, mut results) = (Vec::new(), Vec::new());
        for _ in 0..rotation.copies {
            let weights = Weights::prepare(gemm.b1(), gemm.b2(), options.weight_format(), &stream)?;
            let c = DeviceBuffer::<T>::alloc(problem.batch * problem.m * problem.n, device)?;
            let plan = Plan::new(&weights, &options)?;
            let bytes = plan.workspace_bytes(problem.m)?;
            let workspace = DeviceBuffer::<u8>::alloc(bytes, device)?;
            let plan = plan.bind(&Io::new(&a, &c).workspace(&workspace))?;
            // Loads the module outside of the capture.
            plan.launch(&stream)?;
            plans.push(plan);
            results.push(c);
        }
        stream.synchronize()?;
        for c in &results {
            // NaN in every type: what a replay leaves unwritten fails the check.
            c.fill_bytes(0xff, &stream)?;
        }
        let timer =
            GraphTimer::capture(&stream, rotation, |copy, stream| plans[copy].launch(stream))?;
        Ok(Replay { timer, plans, results })
    }

    /// The plan of the first copy; the others are alike.
    pub fn plan(&self) -> &BoundPlan {
        &self.plans[0]
    }

    /// [`GraphTimer::times`]
    pub fn times(&self, repeat: Repeat) -> nvfp4_dual_gemm::Result<Vec<f64>> {
        self.timer.times(repeat)
    }

    /// C of the first copy after the last replay; an error where another copy's differs.
    pub fn result(&self) -> anyhow::Result<Vec<T>> {
        one_of_all(&self.results, &self.timer.stream)
    }
}

impl GraphTimer {
    /// Captures the launches of a rotation; `launch` queues one with the copy of that number. What it launches has run
    /// before: a module is not loaded in a capture.
    pub fn capture(
        stream: &Stream,
        rotation: Rotation,
        launch: impl Fn(usize, &Stream) -> nvfp4_dual_gemm::Result<()>,
    ) -> nvfp4_dual_gemm::Result<Self> {
        let Rotation { copies, nodes, .. } = rotation;
        let graph = Graph::capture(stream, |stream| {
            (0..nodes).try_for_each(|node| launch(node % copies, stream))
        })?;
        Ok(GraphTimer { stream: stream.clone(), graph, nodes })
    }

    /// Seconds a launch, of each replay, after a third as many that do not count.
    pub fn times(&self, repeat: Repeat) -> nvfp4_dual_gemm::Result<Vec<f64>> {
        let replays = match repeat {
            Repeat::Exactly(replays) => replays,
            Repeat::For(budget) => {
                let shortest = self.replays(3)?.into_iter().fold(f64::INFINITY, f64::min);
                replays_within(budget, shortest * self.nodes as f64)
            }
        };
        self.replays(replays.div_ceil(3))?;
        self.replays(replays)
    }

    /// Queued without a break, so that the start of one is under the end of the one before.
    fn replays(&self, count: usize) -> nvfp4_dual_gemm::Result<Vec<f64>> {
        let device = self.stream.device();
        let events = (0..=count).map(|_| Event::new(device)).collect::<Result<Vec<_>, _>>()?;
        for (i, event) in events.iter().enumerate() {
            if i > 0 {
                self.graph.launch(&self.stream)?;
            }
            event.record(&self.stream)?;
        }
        self.stream.synchronize()?;
        let seconds = |ms: f32| f64::from(ms) * 1e-3 / self.nodes as f64;
        events.windows(2).map(|pair| pair[0].elapsed_ms(&pair[1]).map(seconds)).collect()
    }
}

/// The first of several results; an error where another differs.
pub fn one_of_all<T: Element>(
    results: &[DeviceBuffer<T>],
    stream: &Stream,
) -> anyhow::Result<Vec<T>> {
    let first = results[0].to_vec(stream)?;
    for (copy, result) in results.iter().enumerate().skip(1) {
        let other = result.to_vec(stream)?;
        let differ = first.iter().zip(&other).filter(|(a, b)| a != b).count();
        ensure!(
            differ == 0,
            "the same operands gave two results: {differ} of {} values of copies 0 and {copy} differ",
            first.len()
        );
    }
    Ok(first)
}

/// Replays of `seconds` each that fit `budget`.
fn replays_within(budget: Duration, seconds: f64) -> usize {
    ((budget.as_secs_f64() / seconds) as usize).clamp(REPLAYS.0, REPLAYS.1)
}

/// Bytes per second that a copy within the device's memory reads and writes, both counted: the best of ten, and the
/// size of what is copied.
pub fn copy_rate(device: &Device, l2: usize) -> nvfp4_dual_gemm::Result<(f64, usize)> {
    let (free, _) = device.memory_now()?;
    let bytes = (8 * l2).max(256 << 20).min(free / 8).next_multiple_of(1 << 20);
    let stream = Stream::new(device)?;
    let from = DeviceBuffer::<u8>::zeroed(bytes, &stream)?;
    let to = DeviceBuffer::<u8>::zeroed(bytes, &stream)?;
    let mut best = f64::INFINITY;
    for _ in 0..10 {
        let (begin, end) = (Event::new(device)?, Event::new(device)?);
        begin.record(&stream)?;
        to.copy_from(&from, &stream)?;
        end.record(&stream)?;
        end.synchronize()?;
        best = best.min(f64::from(begin.elapsed_ms(&end)?) * 1e-3);
    }
    Ok((2.0 * bytes as f64 / best, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_more_than_four_times_the_cache() {
        let l2 = 50 << 20;
        for weights in [1 << 20, 14_155_776, 33_030_144, l2, 4 * l2, 5 * l2] {
            let Rotation { copies, nodes, cold } = Rotation::new(l2, weights, false);
            assert!(cold);
            assert!(copies * weights > 4 * l2, "{weights}: {copies} copies");
            assert!((copies - 1) * weights <= 4 * l2, "{weights}: {copies} copies");
            assert!(nodes >= NODES && nodes.is_multiple_of(copies), "{weights}: {nodes} nodes");
        }
        let warm = Rotation { copies: 1, nodes: NODES, cold: false };
        assert_eq!(Rotation::new(l2, 33_030_144, true), warm);
        let six = Rotation::new(l2, 40 << 20, false).with_nodes(16);
        assert_eq!(six, Rotation { copies: 6, nodes: 18, cold: true });
        let small = Rotation { copies: COPIES, nodes: COPIES, cold: false };
        assert_eq!(Rotation::new(l2, 1, false), small);
    }

    #[test]
    fn replays_fit_the_budget_within_bounds() {
        let second = Duration::from_secs(1);
        assert_eq!(replays_within(second, 0.01), 100);
        assert_eq!(replays_within(second, 1e-6), REPLAYS.1);
        assert_eq!(replays_within(second, 60.0), REPLAYS.0);
    }
}
