//! Runs a launch: threads of the host take cluster after cluster of the grid.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::counters::Counters;
use crate::fault::{Fault, FaultKind, Result};
use crate::machine::cluster::Cluster;
use crate::machine::run::Progress;
use crate::machine::{Launch, Machine};

/// Warp instructions that a cluster executes before another one gets its turn. A cluster that waits for another by
/// polling global memory never ends by itself.
const TURN: u64 = 1 << 18;

/// The clusters of a grid that have not started.
#[derive(Debug)]
pub struct Clusters {
    /// In clusters.
    extent: [u64; 3],
    next: Mutex<u64>,
    /// Places for resident clusters; each has its own multiprocessors.
    slots: Mutex<BTreeSet<u32>>,
}

impl Clusters {
    fn new(launch: &Launch, slots: u32) -> Self {
        let extent =
            [0, 1, 2].map(|axis| u64::from(launch.grid[axis] / launch.cluster[axis].max(1)));
        Self { extent, next: Mutex::new(0), slots: Mutex::new((0..slots).collect()) }
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.extent.iter().product()
    }

    /// Takes the next one that has not started.
    pub fn take(&self) -> Option<u64> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        (*next < self.total()).then(|| {
            *next += 1;
            *next - 1
        })
    }

    /// Place in the grid, in clusters, x fastest.
    pub fn id(&self, number: u64) -> [u32; 3] {
        let [x, y, _] = self.extent.map(|extent| extent.max(1));
        [(number % x) as u32, (number / x % y) as u32, (number / (x * y)) as u32]
    }

    fn slot(&self) -> Option<u32> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).pop_first()
    }

    fn give_back(&self, slot: u32) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).insert(slot);
    }
}

/// Runs all clusters. The first fault ends the launch.
pub fn launch(machine: &Machine, launch: &Launch) -> Result<Counters> {
    check(launch)?;
    let slots = (machine.settings.sms / launch.cluster_size()).max(1);
    let grid = Arc::new(Clusters::new(launch, slots));
    let threads = (machine.settings.threads as u64).min(grid.total()).max(1);
    let stop = AtomicBool::new(false);
    let work = || work(machine, launch, &grid, &stop);
    if threads == 1 {
        return work();
    }
    let results: Vec<Result<Counters>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let lost = || Err(Fault::new(FaultKind::Launch, "a thread of the emulator ended early"));
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| lost())).collect()
    });
    let mut sum = Counters::default();
    for counters in results {
        sum.add(&counters?);
    }
    Ok(sum)
}

fn check(launch: &Launch) -> Result<()> {
    let bad = |message: String| Err(Fault::new(FaultKind::Launch, message));
    let (grid, block, cluster) = (launch.grid, launch.block, launch.cluster);
    if grid.contains(&0) || block.contains(&0) || cluster.contains(&0) {
        return bad(format!("a grid of {grid:?}, blocks of {block:?}, clusters of {cluster:?}"));
    }
    if (0..3).any(|axis| grid[axis] % cluster[axis] != 0) {
        return bad(format!("a grid of {grid:?} is not made of clusters of {cluster:?}"));
    }
    if launch.parameters.len() != launch.kernel.parameter_bytes as usize {
        return bad(format!(
            "{} bytes of parameters; {} takes {}",
            launch.parameters.len(),
            launch.kernel.name,
            launch.kernel.parameter_bytes
        ));
    }
    Ok(())
}

fn work(
    machine: &Machine,
    launch: &Launch,
    grid: &Arc<Clusters>,
    stop: &AtomicBool,
) -> Result<Counters> {
    let mut sum = Counters::default();
    let mut resident: VecDeque<(u32, Cluster)> = VecDeque::new();
    let mut admit = true;
    while !stop.load(Ordering::Relaxed) {
        if (admit || resident.is_empty())
            && let Some(slot) = grid.slot()
        {
            match grid.take() {
                Some(number) => {
                    resident.push_front((slot, Cluster::new(machine, launch, grid, number, slot)));
                }
                None => grid.give_back(slot),
            }
        }
        let Some((slot, mut cluster)) = resident.pop_front() else { break };
        match cluster.run(machine, launch, TURN) {
            Ok(Progress::Finished) => {
                grid.give_back(slot);
                sum.add(&cluster.take_counters());
                admit = resident.is_empty();
            }
            Ok(Progress::Turn) => {
                resident.push_back((slot, cluster));
                admit = true;
            }
            Err(fault) => {
                stop.store(true, Ordering::Relaxed);
                return Err(fault);
            }
        }
    }
    Ok(sum)
}
