//! Runs a launch: threads of the host take cluster after cluster of the grid.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::cluster::{Progress, Scheduler};
use crate::counters::Counters;
use crate::fault::{Fault, FaultKind, Result};
use crate::machine::cluster::Cluster;
use crate::machine::dependence::{Dependence, Unfinished};
use crate::machine::global::GlobalMemory;
use crate::machine::grid::Clusters;
use crate::machine::{Launch, Machine};

/// Warp instructions that a cluster executes before another one gets its turn. A cluster that waits for another by
/// polling global memory never ends by itself.
const TURN: u64 = 1 << 18;
/// Bytes of the memory for a grid barrier.
const WORKSPACE: u64 = 8;

/// Runs all clusters. The first fault ends the launch.
pub fn launch(machine: &Machine, launch: &Launch) -> Result<Counters> {
    launch_after(machine, launch, &Unfinished::default()).map(|(counters, _)| counters)
}

/// The same for a launch that may begin before others have ended. Gives, too, what may not have ended when one that may
/// begin before this one has ended does so.
pub fn launch_after(
    machine: &Machine,
    launch: &Launch,
    before: &Unfinished,
) -> Result<(Counters, Unfinished)> {
    let dependence = Arc::new(Dependence::new(launch, before));
    let counters = run(machine, launch, &dependence)?;
    Ok((counters, dependence.end()))
}

fn run(machine: &Machine, launch: &Launch, dependence: &Arc<Dependence>) -> Result<Counters> {
    check(launch)?;
    let running = Running::new(machine, launch)?;
    let grid = Arc::new(Clusters::new(launch, machine.settings.sms, running.workspace));
    let threads = (machine.settings.threads as u64).min(grid.total()).max(1);
    let stop = AtomicBool::new(false);
    let work = || work(machine, launch, &grid, dependence, &stop);
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

/// A launch that runs, and the memory of its grid barrier.
struct Running<'a> {
    memory: &'a GlobalMemory,
    workspace: u64,
}

impl<'a> Running<'a> {
    fn new(machine: &'a Machine, launch: &Launch) -> Result<Self> {
        let memory = &machine.memory;
        let mut workspace = 0;
        if launch.cooperative {
            let lost = || Fault::new(FaultKind::Launch, "the host has no memory for a barrier");
            workspace = memory.allocate(WORKSPACE).ok_or_else(lost)?;
            memory.fill(workspace, 0, WORKSPACE)?;
            // Its first word is its size; the second one is the barrier.
            memory.write(workspace, &(WORKSPACE as u32).to_le_bytes())?;
        }
        memory.begin_launch();
        Ok(Self { memory, workspace })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.memory.end_launch();
        if self.workspace != 0 {
            self.memory.free(self.workspace);
        }
    }
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
    dependence: &Arc<Dependence>,
    stop: &AtomicBool,
) -> Result<Counters> {
    let mut sum = Counters::default();
    let mut resident: VecDeque<(u32, Cluster)> = VecDeque::new();
    let mut admit = true;
    // Clusters in a row that cannot get on.
    let mut stuck = 0;
    while !stop.load(Ordering::Relaxed) {
        if (admit || resident.is_empty())
            && let Some((slot, number)) = grid.start(stuck >= resident.len())
        {
            let mut cluster = Cluster::new(machine, launch, grid, number, slot);
            cluster.prior_complete = dependence.is_complete_at_start();
            resident.push_front((slot, cluster));
            stuck = 0;
        }
        let Some((slot, mut cluster)) = resident.pop_front() else { break };
        let progress = grid.progress();
        if cluster.is_stuck(progress) {
            // Another launch may change what this one waits for.
            let left = grid.left_behind().filter(|_| machine.memory.launches() == 1);
            if let Some(left) = left {
                stop.store(true, Ordering::Relaxed);
                return Err(Scheduler::new(machine, launch, &mut cluster).livelock(left));
            }
            resident.push_back((slot, cluster));
            admit = true;
            stuck += 1;
            if stuck > resident.len() {
                std::thread::yield_now();
            }
            continue;
        }
        let before = cluster.all_changes();
        let mut complete = cluster.prior_complete;
        let outcome = dependence
            .turn(&mut complete, || Scheduler::new(machine, launch, &mut cluster).run(TURN));
        cluster.prior_complete = complete;
        match outcome {
            Ok(Progress::Finished) => {
                grid.end(slot);
                sum.add(&cluster.take_counters());
                admit = resident.is_empty();
                stuck = 0;
            }
            Ok(goes_on) => {
                if cluster.all_changes() != before {
                    grid.advance();
                    stuck = 0;
                } else if goes_on == Progress::Stuck {
                    grid.found_stuck(progress);
                    stuck += 1;
                }
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
