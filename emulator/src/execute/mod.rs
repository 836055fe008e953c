//! The instructions, by family. Each family has an `Op`, `lower` and `execute`.

pub mod bulk;
pub mod clc;
pub mod control;
pub mod matrix;
pub mod memory;
pub mod scalar;
pub mod shuffle;
mod special;
pub mod sync;
pub mod tcgen05;
pub mod wgmma;

use crate::fault::{Place, Result};
use crate::machine::address;
use crate::machine::asynchronous::{Agent, Operation};
use crate::machine::cluster::Cluster;
use crate::machine::cta::Cta;
use crate::machine::warp::{Wait, Warp};
use crate::machine::{Launch, Machine};
use crate::program::Value;
use crate::ptx::Register;

/// What happens after an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The next instruction.
    Next,
    /// The lanes wait, then execute this instruction again.
    Retry(Wait),
    /// The lanes wait, then go on with the next instruction.
    Advance(Wait),
    /// The lanes let others run first, then execute this instruction again: a poll that failed.
    Yield,
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
        let source =
            instruction.and_then(|instruction| instruction.source).and_then(|(file, line)| {
                let (_, name) = program.files.iter().find(|(number, _)| *number == file)?;
                Some((name.clone(), line))
            });
        Place {
            kernel: self.launch.kernel.name.clone(),
            cta: self.cluster.ctas[self.rank as usize].id,
            warp: self.warp,
            lanes: self.lanes,
            line: instruction.map_or(0, |instruction| instruction.line),
            source,
        }
    }

    /// A value in a lane.
    pub fn value(&self, value: Value, lane: usize) -> u64 {
        match value {
            Value::Register(register) => self.warp_ref().registers.get(register, lane),
            Value::Constant(bits) => bits,
            Value::Special(special) => self.special(special, lane),
            Value::Shared(offset) => u64::from(address::shared(self.rank, offset)),
        }
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

    /// Issues an asynchronous operation; the schedule decides when it completes. Gives its number.
    pub fn submit(&mut self, _agent: Agent, _operation: Box<dyn Operation>) -> Result<u64> {
        Ok(0)
    }
}
