//! The scheduler of a cluster: whose turn it is, what completes, and when nothing can go on.

use super::lanes;
use super::lanes::After;
use crate::execute::step::Step;
use crate::fault::{Fault, FaultKind, Result};
use crate::machine::asynchronous::Agent;
use crate::machine::cluster::Cluster;
use crate::machine::order::Who;
use crate::machine::warp::{BulkGroups, State, Wait};
use crate::machine::{Launch, Machine, dependence, dump};
use crate::settings::Schedule;

/// Instructions of a warp before another one gets its turn: a multiple of the lengths of most short loops, so that a warp
/// that polls stands where it stood a turn before.
const WARP_TURN: u64 = 5040;
/// Instructions over which the lines of a loop are gathered.
const TRACED: u32 = 1024;
/// Rounds over all warps without any event after which an operation is completed although warps still run: they poll.
const PATIENCE: u32 = 64;
/// Warp instructions without any event after which warps that run count as polling for what comes after a wait for
/// the launches before this one.
const LONG: u64 = 1 << 20;

/// How a cluster's turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All threads have exited.
    Finished,
    /// The time is over.
    Turn,
    /// No warp can change anything before another cluster does.
    Stuck,
}

/// A cluster and what it runs on.
#[derive(Debug)]
pub struct Scheduler<'a> {
    machine: &'a Machine,
    launch: &'a Launch,
    cluster: &'a mut Cluster,
}

impl<'a> Scheduler<'a> {
    /// For a turn of a cluster.
    pub fn new(machine: &'a Machine, launch: &'a Launch, cluster: &'a mut Cluster) -> Self {
        Self { machine, launch, cluster }
    }

    /// Executes about `turn` warp instructions.
    pub fn run(&mut self, turn: u64) -> Result<Progress> {
        let end = self.cluster.steps + turn;
        let limit = self.machine.settings.steps.saturating_mul(self.cluster.ctas.len() as u64);
        let mut events = self.cluster.events;
        loop {
            let ran = self.round()?;
            if self.cluster.ctas.iter().all(|cta| cta.finished) {
                self.drain()?;
                return Ok(Progress::Finished);
            }
            // Goes on from turn to turn: the more warps poll, the fewer rounds a turn has.
            let quiet = if events == self.cluster.events { self.cluster.quiet + 1 } else { 0 };
            self.cluster.quiet = quiet;
            events = self.cluster.events;
            if !ran || quiet >= PATIENCE {
                if !self.cluster.queues.is_empty() {
                    self.complete_one()?;
                } else if !self.complete_prior(ran)
                    && quiet > 0
                    && !self.cluster.end_waits()
                    && !ran
                {
                    return Err(dump::deadlock(self.cluster, self.launch));
                }
                self.cluster.quiet = 0;
            } else if self.machine.settings.schedule == Schedule::Random {
                self.complete_some()?;
            }
            if self.cluster.steps > limit {
                let message = format!("{} warp instructions in a cluster", self.cluster.steps);
                return Err(Fault::new(FaultKind::Steps, message));
            }
            // Warps that go round in circles poll for what comes after a wait, if there is one.
            if ran && self.cluster.goes_round() && !self.complete_prior(false) {
                return Ok(Progress::Stuck);
            }
            if self.cluster.steps >= end {
                if self.cluster.queues.is_empty() {
                    self.complete_prior(true);
                }
                return Ok(Progress::Turn);
            }
        }
    }

    /// The fault of a cluster that is stuck with all others of its grid, of which so many could not start.
    pub fn livelock(&mut self, left: u64) -> Fault {
        let mut dump = Vec::new();
        let mut place = None;
        for (rank, warp) in self.cluster.circling() {
            let mut pcs = Vec::new();
            for _ in 0..TRACED {
                let groups = &self.cluster.ctas[rank as usize].warps[warp as usize].groups;
                pcs.extend(
                    groups.iter().filter(|group| group.state == State::Ready).map(|group| group.pc),
                );
                if self.run_warp(rank, warp, 1).is_err() {
                    break;
                }
            }
            let first = pcs.iter().min().copied().unwrap_or(0);
            let last = pcs.iter().max().copied().unwrap_or(first);
            dump.push(dump::circle(self.cluster, self.launch, (rank, warp), (first, last)));
            place
                .get_or_insert_with(|| dump::place(self.cluster, self.launch, (rank, warp), first));
        }
        dump.extend(dump::parked_groups(self.cluster, self.launch));
        let mut message =
            "warps repeat what they did, and nothing is left that changes what they see".to_owned();
        if left > 0 {
            message += &format!(
                "; {left} clusters of the grid did not start, as no more are resident on {} multiprocessors",
                self.machine.settings.sms
            );
        }
        Fault { place: place.map(Box::new), dump, ..Fault::new(FaultKind::Livelock, message) }
    }

    /// Gives every warp its turn; false when none could execute.
    fn round(&mut self) -> Result<bool> {
        let random = self.machine.settings.schedule == Schedule::Random;
        let mut order: Vec<(u32, u32)> = Vec::new();
        for cta in self.cluster.ctas.iter().filter(|cta| !cta.finished) {
            order.extend((0..cta.warps.len() as u32).map(|warp| (cta.rank, warp)));
        }
        if random {
            for last in (1..order.len()).rev() {
                order.swap(last, self.cluster.random.below(last + 1));
            }
        }
        let mut ran = false;
        for (rank, warp) in order {
            let turn = if random { 1 << self.cluster.random.below(10) } else { WARP_TURN };
            ran |= self.run_warp(rank, warp, turn)?;
        }
        Ok(ran)
    }

    /// Lets the launches before this one be complete, if a warp waits for that: as late as possible, when nothing else
    /// can go on, or the warps that run have polled for long. So whatever need not come after the wait has come before it.
    fn complete_prior(&mut self, ran: bool) -> bool {
        let (events, steps) = (self.cluster.events, self.cluster.steps);
        if self.cluster.last_event.0 != events {
            self.cluster.last_event = (events, steps);
        }
        let groups =
            self.cluster.ctas.iter().flat_map(|cta| &cta.warps).flat_map(|warp| &warp.groups);
        let waits = groups.into_iter().any(|group| group.state == State::Advance(Wait::PriorGrids));
        if !waits || ran && steps - self.cluster.last_event.1 < LONG {
            return false;
        }
        dependence::wait_is_over();
        self.cluster.events += 1;
        true
    }

    /// Completes one operation, as nothing else goes on: the newest, or with a random schedule any.
    fn complete_one(&mut self) -> Result<()> {
        let agents = self.cluster.queues.agents();
        if agents == 0 {
            return Ok(());
        }
        let agent = match self.machine.settings.schedule {
            Schedule::Eager => 0,
            Schedule::Lazy => agents - 1,
            Schedule::Random => self.cluster.random.below(agents),
        };
        self.cluster.complete(self.machine, self.launch, agent).map(|_| ())
    }

    /// Completes operations at random. How eagerly depends on the seed, so that seeds cover both extremes.
    fn complete_some(&mut self) -> Result<()> {
        let eagerness = self.machine.settings.seed % 4;
        while !self.cluster.queues.is_empty() {
            let goes_on = match eagerness {
                0 => self.cluster.random.below(2) == 0,
                1 => self.cluster.random.below(8) == 0,
                2 => self.cluster.random.below(64) == 0,
                _ => self.cluster.random.below(4) != 0,
            };
            if !goes_on {
                break;
            }
            let agent = self.cluster.random.below(self.cluster.queues.agents());
            self.cluster.complete(self.machine, self.launch, agent)?;
        }
        Ok(())
    }

    /// What may outlive the thread blocks.
    fn drain(&mut self) -> Result<()> {
        while !self.cluster.queues.is_empty() {
            self.complete_one()?;
        }
        Ok(())
    }

    /// Gives a warp its turn; false when no group of its lanes could execute.
    fn run_warp(&mut self, rank: u32, warp: u32, turn: u64) -> Result<bool> {
        let mut left = turn;
        let (mut ran, mut yielded) = (false, false);
        while left > 0 && !yielded {
            self.wake(rank, warp)?;
            let Some(group) = self.choose(rank, warp) else { break };
            let before = left;
            yielded = self.run_group(rank, warp, group, &mut left)?;
            ran |= before != left;
            if self.cluster.ctas[rank as usize].warps[warp as usize].groups.is_empty() {
                self.end_warp(rank)?;
                break;
            }
        }
        if left == 0 || yielded {
            self.cluster.ctas[rank as usize].warps[warp as usize].turns += 1;
        }
        Ok(ran)
    }

    /// Ends the waits that are over.
    fn wake(&mut self, rank: u32, warp: u32) -> Result<()> {
        let cta = &self.cluster.ctas[rank as usize];
        let groups = &cta.warps[warp as usize].groups;
        if groups.iter().all(|group| matches!(group.state, State::Ready | State::Converging)) {
            return Ok(());
        }
        let mut over = Vec::new();
        for (index, group) in groups.iter().enumerate() {
            let (State::Retry(wait) | State::Advance(wait)) = &group.state else { continue };
            if self.is_over(rank, warp, group.lanes, wait)? {
                over.push(index);
            }
        }
        for index in over {
            self.learn_at_barrier(rank, warp, index);
            let group = &mut self.cluster.ctas[rank as usize].warps[warp as usize].groups[index];
            if matches!(group.state, State::Advance(_)) {
                group.pc += 1;
            }
            group.state = State::Ready;
        }
        Ok(())
    }

    /// A group of lanes goes on after a named barrier: it knows what the others did before.
    fn learn_at_barrier(&mut self, rank: u32, warp: u32, index: usize) {
        let Some(order) = &mut self.cluster.order else { return };
        let group = &self.cluster.ctas[rank as usize].warps[warp as usize].groups[index];
        if let State::Advance(Wait::NamedBarrier { id, round }) = group.state {
            let who = Who { rank, warp, lanes: group.lanes, pc: group.pc, executed: 0 };
            order.named_wait(who, id, round);
        }
    }

    fn is_over(&self, rank: u32, warp: u32, lanes: u32, wait: &Wait) -> Result<bool> {
        let cta = &self.cluster.ctas[rank as usize];
        let this = &cta.warps[warp as usize];
        Ok(match wait {
            Wait::MBarrier { offset, phase } => {
                let Some(barrier) = cta.mbarriers.get(offset) else { return Ok(true) };
                if barrier.phase > phase + 1 {
                    return Err(Fault::new(
                        FaultKind::Barrier,
                        format!(
                            "mbarrier {rank}:{offset:#x}: warp {warp} waits for phase {phase}, but phase {} is \
                             complete already: by its parity the warp cannot tell",
                            barrier.phase - 1
                        ),
                    ));
                }
                barrier.phase > *phase
            }
            Wait::NamedBarrier { id, round } => cta.named[usize::from(*id) % 16].round > *round,
            Wait::ClusterBarrier { round } => self.cluster.barrier_rounds() > *round,
            Wait::BulkGroups { allowed, read } => {
                each_of(&this.bulk, lanes).all(|groups| groups.is_over(*allowed, *read))
            }
            Wait::CopyGroups { allowed } => {
                each_of(&this.copies, lanes).all(|groups| groups.is_over(*allowed, false))
            }
            Wait::TensorLoads | Wait::TensorStores => {
                self.cluster.queues.is_idle(Agent::TensorMemory(rank, warp))
            }
            Wait::TensorColumns { columns } => cta.tmem.free_run(*columns).is_some(),
            Wait::Peer { round } => self.cluster.pairs[rank as usize / 2].1 > *round,
            Wait::WgmmaGroups { allowed } => cta.wgmma_is_over(warp, *allowed),
            Wait::PriorGrids => dependence::is_complete(),
        })
    }

    /// The group that executes next: the one that is furthest behind. After each turn that was used up it is another
    /// one's turn, as the first may wait for what a later one does.
    fn choose(&mut self, rank: u32, warp: u32) -> Option<usize> {
        let warp = &mut self.cluster.ctas[rank as usize].warps[warp as usize];
        let skip = warp.turns as usize;
        let mut ready: Vec<usize> = (0..warp.groups.len())
            .filter(|index| warp.groups[*index].state == State::Ready)
            .collect();
        ready.sort_by_key(|index| warp.groups[*index].pc);
        let group = *ready.get(skip.checked_rem(ready.len())?)?;
        Some(if warp.groups.len() > 1 { warp.gather(group) } else { group })
    }

    /// Executes a group until it waits, ends, meets another group, or the turn is over. True if others shall run.
    fn run_group(
        &mut self,
        rank: u32,
        warp: u32,
        mut group: usize,
        left: &mut u64,
    ) -> Result<bool> {
        let program = &*self.launch.program;
        loop {
            let pc = self.cluster.ctas[rank as usize].warps[warp as usize].groups[group].pc;
            let Some(instruction) = program.instructions.get(pc as usize) else {
                return Err(Fault::new(FaultKind::Unsupported, "control runs out of the program"));
            };
            if *left == 0 {
                return Ok(false);
            }
            *left -= 1;
            self.cluster.steps += 1;
            let mut step = Step {
                machine: self.machine,
                launch: self.launch,
                cluster: self.cluster,
                rank,
                warp,
                lanes: 0,
                pc,
                yields: false,
            };
            let after =
                lanes::advance(&mut step, instruction, &mut group).map_err(|mut fault| {
                    if fault.place.is_none() {
                        fault.place = Some(Box::new(step.place()));
                    }
                    fault
                })?;
            let yields = step.yields;
            let this = &mut self.cluster.ctas[rank as usize].warps[warp as usize];
            match after {
                After::At(pc) => {
                    this.groups[group].pc = pc;
                    // Those that are behind go first, and those that stand here join.
                    let lanes = this.groups[group].lanes;
                    let meets = this.groups.iter().any(|other| {
                        other.lanes != lanes
                            && (other.state == State::Ready && other.pc <= pc
                                || other.state == State::Converging && other.pc == pc)
                    });
                    if meets {
                        return Ok(yields);
                    }
                    if yields {
                        return Ok(true);
                    }
                }
                After::Stopped => return Ok(yields),
            }
        }
    }

    /// A warp has ended: barriers without a count wait for fewer, and perhaps its thread block has ended.
    fn end_warp(&mut self, rank: u32) -> Result<()> {
        self.cluster.exit_from_barriers(rank);
        let cta = &self.cluster.ctas[rank as usize];
        if cta.finished || cta.warps.iter().any(|warp| !warp.groups.is_empty()) {
            return Ok(());
        }
        if !self.machine.settings.checks.bulk_stores {
            while let Some(agent) = self.cluster.queues.holding(rank) {
                self.cluster.complete(self.machine, self.launch, agent)?;
            }
        }
        dump::check_exit(self.cluster, rank)?;
        if !self.cluster.ctas[rank as usize].launched_dependents {
            dependence::ended();
        }
        self.cluster.events += 1;
        self.cluster.ctas[rank as usize].finished = true;
        Ok(())
    }
}

fn each_of(groups: &[BulkGroups], lanes: u32) -> impl Iterator<Item = &BulkGroups> {
    groups
        .iter()
        .enumerate()
        .filter(move |(lane, _)| lanes >> lane & 1 != 0)
        .map(|(_, groups)| groups)
}
