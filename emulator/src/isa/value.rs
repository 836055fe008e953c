//! What operands become: values, addresses, and the lanes that have to come together.

use crate::ptx::{Register, Space, Special};

/// Lanes of a warp.
pub const LANES: usize = 32;

/// Something that can be read by each lane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A register; 8 and 16 bits with zeros above.
    Register(Register),
    /// Bits.
    Constant(u64),
    /// `%tid.x`
    Special(Special),
    /// The address of a variable in shared memory: this offset with the rank of the thread block above.
    Shared(u32),
}

/// `[base+offset]` with its space.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Address {
    /// How the sum is to be read.
    pub space: Space,
    /// What varies.
    pub base: Value,
    /// What does not.
    pub offset: i64,
}

/// Which lanes have to come together before an instruction executes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Convergence {
    /// None: each group of lanes by itself.
    None,
    /// All lanes of the warp that have not exited (`.aligned`).
    Warp,
    /// The lanes of this mask (`elect.sync`, `shfl.sync`).
    Members(Value),
}
