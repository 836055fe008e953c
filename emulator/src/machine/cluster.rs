//! A cluster of thread blocks, interpreted by one thread of the host.

use crate::machine::asynchronous::Queues;
use crate::machine::cta::Cta;
use crate::report::Counters;

/// Thread blocks that run together.
#[derive(Debug)]
pub struct Cluster {
    /// By rank.
    pub ctas: Vec<Cta>,
    /// Place in the grid, in clusters.
    pub id: [u32; 3],
    /// What is under way.
    pub queues: Queues,
    /// Threads that arrived at the cluster's barrier, and complete rounds.
    pub barrier: (u32, u64),
    /// For everything random.
    pub random: Random,
    /// For the report.
    pub counters: Counters,
    /// Number of the last operation of the tensor cores.
    pub tensor_operations: u64,
    /// Meeting points of pairs of thread blocks (`cta_group::2`): by pair, who came, and complete rounds.
    pub pairs: Vec<(u32, u64)>,
}

/// xorshift64*: small, fast, the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Equal seeds give equal numbers.
    pub fn new(seed: u64) -> Self {
        // A finaliser spreads neighbouring seeds; the state must not be zero.
        let mut state = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self((state ^ (state >> 31)) | 1)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end
    }
}
