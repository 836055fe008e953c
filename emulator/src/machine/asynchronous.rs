//! What is under way: operations that were issued and complete later.

use std::collections::VecDeque;

use crate::fault::{Place, Result};
use crate::isa::semantics::Scope;
use crate::machine::cluster::Cluster;
use crate::machine::order::{Actor, Kind};
use crate::machine::tmem::Region;
use crate::machine::{Launch, Machine};
use crate::settings::Schedule;

/// Who carries an operation out. Operations of one agent complete in their order; agents are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Agent {
    /// A copy of its own: TMA loads and stores, answers to requests.
    Copy(u64),
    /// The tensor cores of a thread block or of a pair of them, by rank of the first: cp, mma, shift, commit.
    TensorCores(u32),
    /// tcgen05.ld and tcgen05.st of a warp: rank and warp.
    TensorMemory(u32, u32),
    /// wgmma of a warp, which has a quarter of the rows: rank and warp.
    Wgmma(u32, u32),
}

/// A thread of the cluster: rank, warp and lane.
pub type Thread = (u32, u32, u32);

/// Something that completes later.
pub trait Operation: std::fmt::Debug + Send {
    /// Carries it out.
    fn complete(self: Box<Self>, at: &mut Completion<'_>) -> Result<()>;

    /// A line for a dump.
    fn describe(&self) -> String;

    /// Tensor memory that it will write, by rank of the thread block.
    fn writes_regions(&self) -> Vec<(u32, Region)> {
        Vec::new()
    }

    /// Whose `tcgen05.commit` tracks it.
    fn tracked_by(&self) -> Option<Thread> {
        None
    }

    /// Whether a thread block may exit before it completes: the global writes of a bulk store.
    fn may_outlive_thread_block(&self) -> bool {
        false
    }

    /// Whether hardware keeps a thread block that exits until it is complete: the reads of a bulk store. The manual
    /// asks for `cp.async.bulk.wait_group.read` before; kernels of CUTLASS leave it out at their end.
    fn holds_thread_block(&self) -> bool {
        false
    }

    /// Thread blocks whose shared or tensor memory it still uses.
    fn uses(&self) -> Vec<u32>;
}

/// What an operation acts on.
#[derive(Debug)]
pub struct Completion<'a> {
    /// Device memory and settings.
    pub machine: &'a Machine,
    /// The launch.
    pub launch: &'a Launch,
    /// The cluster that it was issued in.
    pub cluster: &'a mut Cluster,
    /// Where it was issued.
    pub place: &'a Place,
    /// For the checks of order.
    pub actor: Option<&'a Actor>,
}

impl Completion<'_> {
    /// Issues a further part of the operation.
    pub fn submit(&mut self, agent: Agent, operation: Box<dyn Operation>) -> Result<u64> {
        let actor = self.actor.cloned().map(Box::new);
        self.cluster.submit(self.machine, self.launch, self.place.clone(), actor, agent, operation)
    }

    /// The operation is about to arrive at an mbarrier: rank and offset.
    pub fn signal(&mut self, at: (u32, u32)) -> Result<()> {
        match (&mut self.cluster.order, self.actor) {
            (Some(order), Some(actor)) => order.signal(self.launch, actor, at),
            _ => Ok(()),
        }
    }

    /// The same of a commit, which is no operation of its own.
    pub fn signal_commit(&mut self, at: (u32, u32)) -> Result<()> {
        match (&mut self.cluster.order, self.actor) {
            (Some(order), Some(actor)) => order.signal_commit(self.launch, actor, at),
            _ => Ok(()),
        }
    }

    /// `complete_tx` at an mbarrier: rank and offset.
    pub fn complete_bytes(&mut self, at: (u32, u32), bytes: u32) -> Result<()> {
        self.signal(at)?;
        self.cluster.complete_bytes(at.0, at.1, bytes)
    }

    /// The operation read, or wrote, shared memory as loads and stores do.
    pub fn touch_shared(&mut self, rank: u32, offset: u32, bytes: u32, writes: bool) -> Result<()> {
        let (Some(order), Some(actor)) = (&mut self.cluster.order, self.actor) else {
            return Ok(());
        };
        let kind = Kind { writes, strong: None, is_async: false, is_collective: false };
        order.shared_async(self.launch, actor, (rank, offset), bytes, kind)
    }

    /// Whether what the operation touches is to be told.
    pub fn is_watched(&self) -> bool {
        self.cluster.order.is_some() && self.actor.is_some()
    }

    /// The operation read, or wrote, global memory. Reductions are `strong`.
    pub fn touch_global(
        &mut self,
        address: u64,
        bytes: u64,
        writes: bool,
        strong: bool,
    ) -> Result<()> {
        let (Some(order), Some(actor)) = (&mut self.cluster.order, self.actor) else {
            return Ok(());
        };
        let strong = strong.then_some(Scope::Device);
        let kind = Kind { writes, strong, is_async: true, is_collective: false };
        let global = &self.cluster.grid.order;
        order.global_async(self.launch, global, actor, address, bytes, kind)
    }

    /// The operation read, or wrote, tensor memory.
    pub fn touch_tensor(&mut self, rank: u32, region: Region, writes: bool) -> Result<()> {
        let (Some(order), Some(actor)) = (&mut self.cluster.order, self.actor) else {
            return Ok(());
        };
        order.tensor_async(self.launch, actor, rank, region, writes)
    }
}

/// An operation and where it was issued.
#[derive(Debug)]
pub struct Pending {
    /// Place of the instruction.
    pub place: Place,
    /// In order of issue.
    pub number: u64,
    /// For the checks of order.
    pub actor: Option<Box<Actor>>,
    /// What.
    pub operation: Box<dyn Operation>,
}

/// Everything under way in a cluster.
#[derive(Debug, Default)]
pub struct Queues {
    /// By agent; no queue is empty.
    queues: Vec<(Agent, VecDeque<Pending>)>,
    /// The last number.
    issued: u64,
}

impl Queues {
    /// All operations.
    pub fn iter(&self) -> impl Iterator<Item = (Agent, &Pending)> {
        self.queues.iter().flat_map(|(agent, queue)| queue.iter().map(move |op| (*agent, op)))
    }

    /// The number that the next operation will have.
    pub fn next_number(&self) -> u64 {
        self.issued + 1
    }

    /// How many agents have something under way.
    pub fn agents(&self) -> usize {
        self.queues.len()
    }

    /// The place of an agent whose next operation keeps a thread block from its end.
    pub fn holding(&self, rank: u32) -> Option<usize> {
        self.queues.iter().position(|(_, queue)| {
            queue.front().is_some_and(|pending| {
                let operation = &pending.operation;
                operation.holds_thread_block() && operation.uses().contains(&rank)
            })
        })
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Where the queue of an agent is, if it has one.
    pub fn position(&self, agent: Agent) -> Option<usize> {
        self.queues.iter().position(|(other, _)| *other == agent)
    }

    /// Whether a thread has operations under way that its `tcgen05.commit` tracks.
    pub fn tracks(&self, thread: Thread) -> bool {
        self.iter().any(|(_, pending)| pending.operation.tracked_by() == Some(thread))
    }

    /// Whether an agent has nothing under way.
    pub fn is_idle(&self, agent: Agent) -> bool {
        self.queues.iter().all(|(other, _)| *other != agent)
    }
}

impl Cluster {
    /// Issues an operation. It completes at once if the schedule is eager and its agent has nothing else to do.
    pub fn submit(
        &mut self,
        machine: &Machine,
        launch: &Launch,
        place: Place,
        actor: Option<Box<Actor>>,
        agent: Agent,
        operation: Box<dyn Operation>,
    ) -> Result<u64> {
        let number = self.queues.next_number();
        self.queues.issued = number;
        if machine.settings.trace >= 2 {
            eprintln!(
                "emulator: {number} issued: {} at PTX line {}",
                operation.describe(),
                place.line
            );
        }
        let pending = Pending { place, number, actor, operation };
        if machine.settings.schedule == Schedule::Eager && self.queues.is_idle(agent) {
            self.carry_out(machine, launch, pending)?;
            return Ok(number);
        }
        match self.queues.queues.iter_mut().find(|(other, _)| *other == agent) {
            Some((_, queue)) => queue.push_back(pending),
            None => self.queues.queues.push((agent, VecDeque::from([pending]))),
        }
        Ok(number)
    }

    /// Completes the next operation of the agent at this place of the queues; false when there is none.
    pub fn complete(&mut self, machine: &Machine, launch: &Launch, agent: usize) -> Result<bool> {
        let Some((_, queue)) = self.queues.queues.get_mut(agent) else { return Ok(false) };
        let next = queue.pop_front();
        if queue.is_empty() {
            // Keeps the order of the others: the newest agent is the last.
            self.queues.queues.remove(agent);
        }
        let Some(pending) = next else { return Ok(false) };
        self.carry_out(machine, launch, pending)?;
        Ok(true)
    }

    fn carry_out(&mut self, machine: &Machine, launch: &Launch, pending: Pending) -> Result<()> {
        let Pending { place, number, actor, operation } = pending;
        if machine.settings.trace >= 2 {
            eprintln!("emulator: {number} completes: {}", operation.describe());
        }
        self.events += 1;
        let actor = actor.as_deref();
        let mut at = Completion { machine, launch, cluster: self, place: &place, actor };
        let done = operation.complete(&mut at);
        done.and_then(|()| self.tell_touched(launch, actor)).map_err(|mut fault| {
            if fault.place.is_none() {
                fault.place = Some(Box::new(place));
            }
            fault
        })
    }

    /// What an operation did to shared memory by the async proxy goes to the checks of order.
    fn tell_touched(&mut self, launch: &Launch, actor: Option<&Actor>) -> Result<()> {
        let (Some(order), Some(actor)) = (&mut self.order, actor) else { return Ok(()) };
        for cta in &mut self.ctas {
            for (offset, bytes, writes) in cta.shared.take_touched() {
                let kind = Kind { writes, strong: None, is_async: true, is_collective: false };
                order.shared_async(launch, actor, (cta.rank, offset), bytes, kind)?;
            }
        }
        Ok(())
    }
}
