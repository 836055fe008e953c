//! What a kernel did, counted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Bytes of an operand that TMA moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Copies issued.
    pub copies: u64,
    /// Bytes read from, or written to, global memory.
    pub global: u64,
    /// Bytes written to shared memory: more than `global` with multicast.
    pub shared: u64,
}

/// Counts of one launch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// MMA instructions by opcode and shape: `mxf4nvf4 cta_group::1 128x128x64`.
    pub mma: BTreeMap<String, u64>,
    /// TMA loads by tensor map: offset in the parameters, or address.
    pub loads: BTreeMap<u64, Moved>,
    /// TMA stores by tensor map.
    pub stores: BTreeMap<u64, Moved>,
    /// mbarrier waits that succeeded, and those of them that had to park.
    pub waits: u64,
    /// See `waits`.
    pub parked: u64,
    /// Warp instructions by warp of the thread block.
    pub instructions: Vec<u64>,
    /// Of those, what warps executed that read accumulators: by warp.
    pub epilogue: Vec<u64>,
    /// Thread blocks that ran.
    pub thread_blocks: u64,
    /// Bytes that ordinary loads and stores moved from and to global memory.
    pub global_loads: u64,
    /// See `global_loads`.
    pub global_stores: u64,
}

impl Counters {
    /// Adds the counts of another part of the launch.
    pub fn add(&mut self, other: &Self) {
        for (key, count) in &other.mma {
            *self.mma.entry(key.clone()).or_default() += count;
        }
        for (into, from) in [(&mut self.loads, &other.loads), (&mut self.stores, &other.stores)] {
            for (key, moved) in from {
                let sum = into.entry(*key).or_default();
                sum.copies += moved.copies;
                sum.global += moved.global;
                sum.shared += moved.shared;
            }
        }
        for (into, from) in
            [(&mut self.instructions, &other.instructions), (&mut self.epilogue, &other.epilogue)]
        {
            into.resize(into.len().max(from.len()), 0);
            for (sum, count) in into.iter_mut().zip(from) {
                *sum += count;
            }
        }
        self.waits += other.waits;
        self.parked += other.parked;
        self.thread_blocks += other.thread_blocks;
        self.global_loads += other.global_loads;
        self.global_stores += other.global_stores;
    }
}
