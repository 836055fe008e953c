//! The state of the machine: memory, thread blocks, warps, barriers, and what is under way.

pub(crate) mod asynchronous;
pub(crate) mod byte_set;
pub(crate) mod circles;
pub(crate) mod cluster;
pub(crate) mod cta;
pub mod dependence;
pub(crate) mod dump;
pub mod global;
pub(crate) mod grid;
pub(crate) mod mbarrier;
pub(crate) mod order;
pub(crate) mod registers;
pub mod shared;
pub(crate) mod stall;
pub(crate) mod tmem;
pub mod variables;
pub(crate) mod warp;

use std::sync::Arc;

use crate::isa::{Kernel, Program};
use crate::settings::Settings;

/// What all launches share.
#[derive(Debug)]
pub struct Machine {
    /// From the environment.
    pub settings: Settings,
    /// Device memory.
    pub memory: global::GlobalMemory,
}

/// One launch of a kernel.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The module.
    pub program: Arc<Program>,
    /// The kernel, of this module.
    pub kernel: Kernel,
    /// Thread blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Thread blocks of a cluster.
    pub cluster: [u32; 3],
    /// Bytes.
    pub dynamic_shared: u32,
    /// `kernel.parameter_bytes` bytes.
    pub parameters: Vec<u8>,
    /// Thread blocks that fit a multiprocessor at once.
    pub blocks_per_sm: u32,
    /// All thread blocks run at the same time and may wait for each other.
    pub cooperative: bool,
}

impl Launch {
    /// Threads of a block.
    pub fn threads(&self) -> u32 {
        self.block.iter().product()
    }

    /// Thread blocks of a cluster.
    pub fn cluster_size(&self) -> u32 {
        self.cluster.iter().product()
    }
}
