//! The scheduler of a cluster: whose turn it is, what completes, and when nothing can go on.

use crate::counters::Counters;
use crate::execute::control::Effect;
use crate::execute::{Flow, Step, execute};
use crate::fault::{Fault, FaultKind, Result};
use crate::machine::asynchronous::{Agent, Queues};
use crate::machine::cluster::Cluster;
use crate::machine::dump;
use crate::machine::warp::{BulkGroups, State, Wait};
use crate::machine::{Launch, Machine};
use crate::program::{Convergence, Instruction, Op};
use crate::settings::Schedule;

/// Instructions of a warp before another one gets its turn.
const WARP_TURN: u64 = 4096;
/// Rounds over all warps without any event after which an operation is completed although warps still run: they poll.
const PATIENCE: u32 = 64;

/// How a cluster's turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All threads have exited.
    Finished,
    /// The time is over.
    Turn,
}

/// What becomes of a group after an instruction.
enum After {
    /// It goes on at this instruction.
    At(u32),
    /// It waits, or there is nothing left of it.
    Stopped,
}

impl Cluster {
    /// Executes about `turn` warp instructions.
    pub fn run(&mut self, machine: &Machine, launch: &Launch, turn: u64) -> Result<Progress> {
        let end = self.steps + turn;
        let limit = machine.settings.steps.saturating_mul(self.ctas.len() as u64);
        let (mut events, mut quiet) = (self.events, 0);
        loop {
            let ran = self.round(machine, launch)?;
            if self.ctas.iter().all(|cta| cta.finished) {
                self.drain(machine, launch)?;
                return Ok(Progress::Finished);
            }
            if !ran && self.queues.is_empty() && events == self.events {
                return Err(dump::deadlock(self, launch));
            }
            quiet = if events == self.events { quiet + 1 } else { 0 };
            events = self.events;
            if !ran || quiet >= PATIENCE {
                self.complete_one(machine, launch)?;
                quiet = 0;
            } else if machine.settings.schedule == Schedule::Random {
                self.complete_some(machine, launch)?;
            }
            if self.steps > limit {
                let message = format!("{} warp instructions in a cluster", self.steps);
                return Err(Fault::new(FaultKind::Steps, message));
            }
            if self.steps >= end {
                return Ok(Progress::Turn);
            }
        }
    }

    /// Gives every warp its turn; false when none could execute.
    fn round(&mut self, machine: &Machine, launch: &Launch) -> Result<bool> {
        let random = machine.settings.schedule == Schedule::Random;
        let mut order: Vec<(u32, u32)> = Vec::new();
        for cta in self.ctas.iter().filter(|cta| !cta.finished) {
            order.extend((0..cta.warps.len() as u32).map(|warp| (cta.rank, warp)));
        }
        if random {
            for last in (1..order.len()).rev() {
                order.swap(last, self.random.below(last + 1));
            }
        }
        let mut ran = false;
        for (rank, warp) in order {
            let turn = if random { 1 << self.random.below(10) } else { WARP_TURN };
            ran |= self.run_warp(machine, launch, rank, warp, turn)?;
        }
        Ok(ran)
    }

    /// Completes one operation, as nothing else goes on: the newest, or with a random schedule any.
    fn complete_one(&mut self, machine: &Machine, launch: &Launch) -> Result<()> {
        let agents = self.queues.queues.len();
        if agents == 0 {
            return Ok(());
        }
        let agent = match machine.settings.schedule {
            Schedule::Eager => 0,
            Schedule::Lazy => agents - 1,
            Schedule::Random => self.random.below(agents),
        };
        self.complete(machine, launch, agent).map(|_| ())
    }

    /// Completes operations at random. How eagerly depends on the seed, so that seeds cover both extremes.
    fn complete_some(&mut self, machine: &Machine, launch: &Launch) -> Result<()> {
        let eagerness = machine.settings.seed % 4;
        while !self.queues.is_empty() {
            let goes_on = match eagerness {
                0 => self.random.below(2) == 0,
                1 => self.random.below(8) == 0,
                2 => self.random.below(64) == 0,
                _ => self.random.below(4) != 0,
            };
            if !goes_on {
                break;
            }
            let agent = self.random.below(self.queues.queues.len());
            self.complete(machine, launch, agent)?;
        }
        Ok(())
    }

    /// What may outlive the thread blocks.
    fn drain(&mut self, machine: &Machine, launch: &Launch) -> Result<()> {
        while !self.queues.is_empty() {
            self.complete_one(machine, launch)?;
        }
        Ok(())
    }

    /// Gives a warp its turn; false when no group of its lanes could execute.
    fn run_warp(
        &mut self,
        machine: &Machine,
        launch: &Launch,
        rank: u32,
        warp: u32,
        turn: u64,
    ) -> Result<bool> {
        let mut left = turn;
        let mut ran = false;
        while left > 0 {
            self.wake(rank, warp)?;
            let Some(group) = self.choose(rank, warp) else { break };
            let before = left;
            let yielded = self.run_group(machine, launch, rank, warp, group, &mut left)?;
            ran |= before != left;
            if self.ctas[rank as usize].warps[warp as usize].groups.is_empty() {
                self.end_warp(machine, launch, rank)?;
                break;
            }
            if yielded {
                break;
            }
        }
        if left == 0 {
            self.ctas[rank as usize].warps[warp as usize].turns += 1;
        }
        Ok(ran)
    }

    /// Ends the waits that are over.
    fn wake(&mut self, rank: u32, warp: u32) -> Result<()> {
        let cta = &self.ctas[rank as usize];
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
            let group = &mut self.ctas[rank as usize].warps[warp as usize].groups[index];
            if matches!(group.state, State::Advance(_)) {
                group.pc += 1;
            }
            group.state = State::Ready;
        }
        Ok(())
    }

    fn is_over(&self, rank: u32, warp: u32, lanes: u32, wait: &Wait) -> Result<bool> {
        let cta = &self.ctas[rank as usize];
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
            Wait::ClusterBarrier { round } => self.barrier.1 > *round,
            Wait::BulkGroups { allowed, read } => {
                each_of(&this.bulk, lanes).all(|groups| groups.is_over(*allowed, *read))
            }
            Wait::CopyGroups { allowed } => {
                each_of(&this.copies, lanes).all(|groups| groups.is_over(*allowed, false))
            }
            Wait::TensorLoads | Wait::TensorStores => {
                self.queues.is_idle(crate::machine::asynchronous::Agent::TensorMemory(rank, warp))
            }
            Wait::TensorColumns { columns } => cta.tmem.free_run(*columns).is_some(),
            Wait::Peer { round } => self.pairs[rank as usize / 2].1 > *round,
            Wait::WgmmaGroups { allowed } => cta.wgmma_is_over(warp, *allowed),
        })
    }

    /// The group that executes next: the one that is furthest behind. After each turn that was used up it is another
    /// one's turn, as the first may wait for what a later one does.
    fn choose(&mut self, rank: u32, warp: u32) -> Option<usize> {
        let warp = &mut self.ctas[rank as usize].warps[warp as usize];
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
        machine: &Machine,
        launch: &Launch,
        rank: u32,
        warp: u32,
        mut group: usize,
        left: &mut u64,
    ) -> Result<bool> {
        let program = &*launch.program;
        loop {
            let pc = self.ctas[rank as usize].warps[warp as usize].groups[group].pc;
            let Some(instruction) = program.instructions.get(pc as usize) else {
                return Err(Fault::new(FaultKind::Unsupported, "control runs out of the program"));
            };
            if *left == 0 {
                return Ok(false);
            }
            *left -= 1;
            self.steps += 1;
            let mut step =
                Step { machine, launch, cluster: self, rank, warp, lanes: 0, pc, yields: false };
            let after = step.advance(instruction, &mut group).map_err(|mut fault| {
                if fault.place.is_none() {
                    fault.place = Some(Box::new(step.place()));
                }
                fault
            })?;
            let yields = step.yields;
            let this = &mut self.ctas[rank as usize].warps[warp as usize];
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
    fn end_warp(&mut self, machine: &Machine, launch: &Launch, rank: u32) -> Result<()> {
        self.exit_from_barriers(rank);
        let cta = &self.ctas[rank as usize];
        if cta.finished || cta.warps.iter().any(|warp| !warp.groups.is_empty()) {
            return Ok(());
        }
        if !machine.settings.strict {
            let held = |queues: &Queues| {
                queues.queues.iter().position(|(_, queue)| {
                    queue.front().is_some_and(|pending| {
                        let operation = &pending.operation;
                        operation.holds_thread_block() && operation.uses().contains(&rank)
                    })
                })
            };
            while let Some(agent) = held(&self.queues) {
                self.complete(machine, launch, agent)?;
            }
        }
        dump::check_exit(self, rank)?;
        self.events += 1;
        self.ctas[rank as usize].finished = true;
        Ok(())
    }

    /// The counts, with those of the warps.
    pub fn take_counters(&mut self) -> Counters {
        let mut counters = std::mem::take(&mut self.counters);
        let warps = self.ctas.iter().map(|cta| cta.warps.len()).max().unwrap_or(0);
        counters.instructions.resize(warps, 0);
        counters.epilogue.resize(warps, 0);
        for warp in self.ctas.iter().flat_map(|cta| &cta.warps) {
            counters.instructions[warp.index as usize] += warp.executed;
            if warp.reads_accumulators {
                counters.epilogue[warp.index as usize] += warp.executed;
            }
        }
        counters
    }
}

fn each_of(groups: &[BulkGroups], lanes: u32) -> impl Iterator<Item = &BulkGroups> {
    groups
        .iter()
        .enumerate()
        .filter(move |(lane, _)| lanes >> lane & 1 != 0)
        .map(|(_, groups)| groups)
}

impl Step<'_> {
    /// Executes the instruction for a group of the warp.
    fn advance(&mut self, instruction: &Instruction, group: &mut usize) -> Result<After> {
        let pc = self.pc;
        let whole = self.warp_ref().groups[*group].lanes;
        self.lanes = match instruction.guard {
            None => whole,
            Some(guard) => {
                let index = guard.register.index as usize;
                let predicates = &self.warp_ref().registers.predicates;
                let bits = predicates.get(index).copied().unwrap_or(0);
                whole & if guard.negated { !bits } else { bits }
            }
        };
        if self.lanes == 0 {
            return Ok(After::At(pc + 1));
        }
        if instruction.convergence != Convergence::None && !self.converge(instruction, group)? {
            return Ok(After::Stopped);
        }
        let lanes = self.lanes;
        self.warp().executed += 1;
        if !self.warp_ref().loads.registers.is_empty() {
            self.check_pending(instruction)?;
        }
        // Accumulators of wgmma may be used by the next wgmma.
        if !self.warp_ref().wgmma.is_empty() && !matches!(instruction.op, Op::Wgmma(_)) {
            let wgmma = &self.warp_ref().wgmma;
            if let Some(word) = instruction.words.iter().find(|word| wgmma.uses(**word)) {
                let message = format!(
                    "register {word} is used between the wgmma.mma_async that uses it and the wait for that"
                );
                return Err(Fault::new(FaultKind::PendingRegister, message));
            }
        }
        if self.machine.settings.trace >= 3 {
            eprintln!(
                "emulator: CTA {} warp {} lanes {lanes:08x} PTX line {}",
                self.rank, self.warp, instruction.line
            );
        }
        if let Op::Control(op) = &instruction.op {
            let effect = crate::execute::control::execute(op, self)?;
            return Ok(self.jump(effect, *group, lanes));
        }
        let flow = execute(&instruction.op, self)?;
        let waits = match flow {
            Flow::Next => return Ok(After::At(pc + 1)),
            Flow::Retry(wait) => State::Retry(wait),
            Flow::Advance(wait) => State::Advance(wait),
        };
        let warp = self.warp();
        let rest = warp.groups[*group].lanes & !lanes;
        if rest != 0 {
            warp.split(*group, rest, pc + 1);
        }
        warp.groups[*group].state = waits;
        Ok(After::Stopped)
    }

    /// Brings lanes together for an instruction that needs them. False if some are still to come.
    fn converge(&mut self, instruction: &Instruction, group: &mut usize) -> Result<bool> {
        let pc = self.pc;
        let lanes = self.lanes;
        let warp = self.warp();
        let rest = warp.groups[*group].lanes & !lanes;
        if rest != 0 {
            warp.split(*group, rest, pc + 1);
        }
        *group = warp.gather(*group);
        let present = warp.groups[*group].lanes;
        let alive = warp.alive();
        let needed = match instruction.convergence {
            Convergence::None => 0,
            Convergence::Warp => alive,
            Convergence::Members(mask) => {
                let lane = present.trailing_zeros() as usize;
                let mask = self.value(mask, lane) as u32;
                if mask >> lane & 1 == 0 {
                    let message =
                        format!("lane {lane} executes with a member mask {mask:#010x} without it");
                    return Err(Fault::new(FaultKind::Divergence, message));
                }
                mask & alive
            }
        };
        self.lanes = present;
        if needed & !present == 0 {
            if let Convergence::Members(_) = instruction.convergence {
                // Lanes outside of the mask execute with one of their own.
                let others = present & !needed;
                if others != 0 {
                    let warp = self.warp();
                    warp.split(*group, others, pc);
                    self.lanes = needed;
                }
            }
            self.warp().groups[*group].state = State::Ready;
            return Ok(true);
        }
        let warp = self.warp();
        warp.groups[*group].state = State::Converging;
        // Nobody else can come when all others stand at such an instruction, too.
        if warp.groups.iter().all(|other| other.state == State::Converging) {
            let missing = needed & !present;
            let program = &self.launch.program;
            let places: Vec<String> = self
                .warp_ref()
                .groups
                .iter()
                .map(|other| {
                    let line = program.instructions.get(other.pc as usize).map_or(0, |at| at.line);
                    format!("lanes {:#010x} at PTX line {line}", other.lanes)
                })
                .collect();
            return Err(Fault::new(
                FaultKind::Divergence,
                format!(
                    "lanes {missing:#010x} cannot come to this instruction: {}",
                    places.join(", ")
                ),
            ));
        }
        Ok(false)
    }

    fn check_pending(&mut self, instruction: &Instruction) -> Result<()> {
        let warp = self.warp();
        warp.reads_accumulators = true;
        let pending = &warp.loads.registers;
        let Some(word) = instruction.words.iter().find(|word| pending.contains(word)) else {
            return Ok(());
        };
        if self.machine.settings.strict {
            let message = format!(
                "register {word} is used between the tcgen05.ld that fills it and the wait for that"
            );
            return Err(Fault::new(FaultKind::PendingRegister, message));
        }
        // Hardware waits for a register that an instruction depends on (PTX ISA, "tcgen05 Memory Consistency Model").
        let agent = Agent::TensorMemory(self.rank, self.warp);
        while let Some(place) = self.cluster.queues.position(agent) {
            self.cluster.complete(self.machine, self.launch, place)?;
        }
        let loads = &mut self.warp().loads;
        loads.registers.clear();
        loads.columns.clear();
        Ok(())
    }

    /// Applies control flow to the lanes that executed it; the others of the group go on.
    fn jump(&mut self, effect: Effect, group: usize, lanes: u32) -> After {
        let pc = self.pc;
        let warp = self.warp();
        let rest = warp.groups[group].lanes & !lanes;
        match effect {
            Effect::Next => return After::At(pc + 1),
            Effect::Jump(target) if rest == 0 => return After::At(target),
            _ if rest != 0 => warp.split(group, rest, pc + 1),
            _ => {}
        }
        match effect {
            Effect::Next => {}
            Effect::Jump(target) => {
                warp.groups[group].pc = target;
                return After::Stopped;
            }
            Effect::Indexed(targets) => {
                let mut left = lanes;
                for (some, target) in targets {
                    let some = some & left;
                    if some == left {
                        warp.groups[group].pc = target;
                        break;
                    }
                    if some != 0 {
                        warp.split(group, some, target);
                        left &= !some;
                    }
                }
            }
            Effect::Call { target } => {
                warp.groups[group].calls.push(pc + 1);
                return After::At(target);
            }
            Effect::Calls(targets) => {
                warp.groups[group].calls.push(pc + 1);
                let mut left = lanes;
                for (some, target) in targets {
                    let some = some & left;
                    if some == left {
                        warp.groups[group].pc = target;
                        break;
                    }
                    if some != 0 {
                        warp.split(group, some, target);
                        left &= !some;
                    }
                }
            }
            Effect::Return if !warp.groups[group].calls.is_empty() => {
                let back = warp.groups[group].calls.pop().unwrap_or(0);
                return After::At(back);
            }
            Effect::Return | Effect::Exit => {
                warp.exited |= lanes;
                warp.groups.swap_remove(group);
            }
        }
        After::Stopped
    }
}
