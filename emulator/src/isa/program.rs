//! A module made ready to run: its instructions, and its kernels.

use std::collections::HashMap;

use super::value::Convergence;
use super::{bulk, clc, control, matrix, memory, scalar, shuffle, sync, tcgen05, wgmma};
use crate::ptx::Guard;

/// An instruction by family. Each family lowers its own.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Op {
    Scalar(scalar::Op),
    Memory(memory::Op),
    Control(control::Op),
    Shuffle(shuffle::Op),
    Sync(sync::Op),
    Bulk(bulk::Op),
    Matrix(matrix::Op),
    Tcgen05(tcgen05::Op),
    Wgmma(wgmma::Op),
    Clc(clc::Op),
    /// Without a function here: prefetches, hints, fences that order nothing in this model.
    Nothing,
}

/// A lowered statement.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// Which lanes execute it.
    pub guard: Option<Guard>,
    /// Which lanes must come together first.
    pub convergence: Convergence,
    /// What it does.
    pub op: Op,
    /// All word registers that it reads or writes, to find uses of a register that is still being loaded.
    pub words: Box<[u32]>,
    /// Line of the PTX text.
    pub line: u32,
    /// Index into [`Program::files`] and line.
    pub source: Option<(u32, u32)>,
}

/// A kernel that can be launched.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// As in PTX.
    pub name: String,
    /// Index of its first instruction.
    pub start: u32,
    /// Offset and size of each parameter in the parameter window.
    pub parameters: Vec<(u32, u32)>,
    /// Bytes of all parameters.
    pub parameter_bytes: u32,
    /// Bytes of static shared memory. It begins at [`super::address::SHARED_RESERVED`].
    pub static_shared: u32,
    /// Offset at which dynamic shared memory begins.
    pub dynamic_shared: u32,
    /// Bytes of local memory of a thread.
    pub local: u32,
    /// Bytes that `.param` variables of functions and calls take of each thread, after the parameters.
    pub call_bytes: u32,
    /// How many registers there are of each class: predicates, words, doubles, quads.
    pub registers: [u32; 4],
    /// `.maxntid`
    pub max_threads: Option<u32>,
    /// `.reqnctapercluster`
    pub required_cluster: Option<[u32; 3]>,
}

/// All instructions of a module. Functions follow each other; control flow is by index.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// `sm_100a`
    pub target: String,
    /// Lowered statements of all functions. A `call` with results is two: the second fetches them. Each function ends with a `ret`.
    pub instructions: Vec<Instruction>,
    /// By name.
    pub kernels: HashMap<String, Kernel>,
    /// Addresses of functions that have a body and are no kernels, by name.
    pub functions: HashMap<String, u64>,
    /// The most that a kernel has of each class: predicates, words, doubles, quads.
    pub registers: [u32; 4],
    /// From `.file`, by number.
    pub files: Vec<(u32, String)>,
    /// Names of variables in shared memory by offset, for messages.
    pub shared_names: Vec<(u32, String)>,
}

impl Program {
    /// File and line of the source of an instruction, where the program has `-lineinfo`.
    pub fn source(&self, pc: u32) -> Option<(&str, u32)> {
        let (file, line) = self.instructions.get(pc as usize)?.source?;
        let (_, name) = self.files.iter().find(|(number, _)| *number == file)?;
        Some((name, line))
    }
}
