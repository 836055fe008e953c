//! An instruction in execution: where it stands, and what it reads and writes.

mod special;

use crate::fault::{Fault, FaultKind, Place, Result};
use crate::isa::address::{Target, resolve, shared};
use crate::isa::value::{Address, Value};
use crate::machine::asynchronous::{Agent, Operation};
use crate::machine::cluster::Cluster;
use crate::machine::cta::Cta;
use crate::machine::order::{Issue, Kind, Order, Who};
use crate::machine::warp::{Wait, Warp};
use crate::machine::{Launch, Machine};
use crate::ptx::{Register, Space};

/// What happens after an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The next instruction.
    Next,
    /// The lanes wait, then execute this instruction again.
    Retry(Wait),
    /// The lanes wait, then go on with the next instruction.
    Advance(Wait),
}

/// An instruction in execution.
#[derive(Debug)]
pub struct Step<'a> {
    /// Device memory and settings.
    pub machine: &'a Machine,
    /// The launch.
    pub launch: &'a Launch,
    /// The cluster.
    pub cluster: &'a mut Cluster,
    /// Rank of the thread block in the cluster.
    pub rank: u32,
    /// Warp of the thread block.
    pub warp: u32,
    /// Lanes that execute: never 0.
    pub lanes: u32,
    /// Index of the instruction.
    pub pc: u32,
    /// Set by a poll that failed and by `nanosleep`: others get their turn after this instruction.
    pub yields: bool,
}

impl Step<'_> {
    /// The thread block.
    pub fn cta(&mut self) -> &mut Cta {
        &mut self.cluster.ctas[self.rank as usize]
    }

    /// The warp.
    pub fn warp(&mut self) -> &mut Warp {
        let (rank, warp) = (self.rank as usize, self.warp as usize);
        &mut self.cluster.ctas[rank].warps[warp]
    }

    /// The warp, to read.
    pub fn warp_ref(&self) -> &Warp {
        &self.cluster.ctas[self.rank as usize].warps[self.warp as usize]
    }

    /// Where the instruction stands, in words.
    pub fn place(&self) -> Place {
        let program = &self.launch.program;
        let instruction = program.instructions.get(self.pc as usize);
        Place {
            kernel: self.launch.kernel.name.clone(),
            cta: self.cluster.ctas[self.rank as usize].id,
            warp: self.warp,
            lanes: self.lanes,
            line: instruction.map_or(0, |instruction| instruction.line),
            source: program.source(self.pc).map(|(file, line)| (file.to_owned(), line)),
        }
    }

    /// A value in a lane.
    pub fn value(&self, value: Value, lane: usize) -> u64 {
        match value {
            Value::Register(register) => self.warp_ref().registers.get(register, lane),
            Value::Constant(bits) => bits,
            Value::Special(special) => self.special(special, lane),
            Value::Shared(offset) => u64::from(shared(self.rank, offset)),
        }
    }

    /// The 64 bits of an address in a lane.
    pub fn address(&self, address: &Address, lane: usize) -> u64 {
        self.value(address.base, lane).wrapping_add(address.offset as u64)
    }

    /// Rank and offset of an address in the shared memory of the cluster, given as such or as a generic one.
    pub fn cluster_shared(&self, address: &Address, lane: usize) -> Result<(u32, u32)> {
        let bits = self.address(address, lane);
        let bits = match (address.space, resolve(bits)) {
            (Space::Generic, Target::Shared(inside)) => inside,
            (Space::Generic, _) => {
                let message = format!("{bits:#x} is no address of shared memory");
                return Err(Fault::new(FaultKind::OutOfBounds, message));
            }
            _ => bits as u32,
        };
        self.cluster.locate(bits)
    }

    /// The same for an address that has to lie in the thread block's own shared memory.
    pub fn own_shared(&self, address: &Address, lane: usize) -> Result<(u32, u32)> {
        let (rank, offset) = self.cluster_shared(address, lane)?;
        if rank != self.rank {
            let message = format!(
                "an address of thread block {rank}, offset {offset:#x}, where one of {} itself is needed",
                self.rank
            );
            return Err(Fault::new(FaultKind::OutOfBounds, message));
        }
        Ok((rank, offset))
    }

    /// Writes a register in a lane.
    pub fn set(&mut self, register: Register, lane: usize, value: u64) {
        self.warp().registers.set(register, lane, value);
    }

    /// The lowest lane that executes.
    pub fn first_lane(&self) -> usize {
        self.lanes.trailing_zeros() as usize
    }

    /// The lanes that execute, ascending.
    pub fn each_lane(&self) -> impl Iterator<Item = usize> + use<> {
        let lanes = self.lanes;
        (0..32).filter(move |lane| lanes >> lane & 1 != 0)
    }

    /// Issues an asynchronous operation of a lane; the schedule decides when it completes. Gives its number.
    pub fn submit(
        &mut self,
        agent: Agent,
        lane: usize,
        how: Issue,
        operation: Box<dyn Operation>,
    ) -> Result<u64> {
        let place = self.place();
        let who = match how {
            Issue::Copies | Issue::Wgmma => self.who(),
            _ => self.who().lane(lane),
        };
        let actor =
            self.cluster.order.as_mut().and_then(|order| order.issue(who, how)).map(Box::new);
        self.cluster.submit(self.machine, self.launch, place, actor, agent, operation)
    }

    /// The lanes that execute, for the checks of order.
    pub fn who(&self) -> Who {
        let executed = self.warp_ref().executed as u32;
        Who { rank: self.rank, warp: self.warp, lanes: self.lanes, pc: self.pc, executed }
    }

    /// What is before what, where a check needs it.
    pub fn order(&mut self) -> Option<(&mut Order, Who)> {
        let who = self.who();
        self.cluster.order.as_deref_mut().map(|order| (order, who))
    }

    /// The lanes that execute read, or wrote, these bytes of shared memory together.
    pub fn touch_shared(&mut self, rank: u32, offset: u32, bytes: u32, writes: bool) -> Result<()> {
        let launch = self.launch;
        let Some((order, who)) = self.order() else { return Ok(()) };
        let kind = Kind { writes, strong: None, is_async: false, is_collective: true };
        order.shared(launch, who, (rank, offset), bytes, kind)
    }
}
