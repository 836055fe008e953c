//! What a scalar operation acts on, and what it is: a function of the values of registers.

use std::fmt;
use std::sync::Arc;

use crate::fault::Fault;
use crate::isa::address::{SHARED_RANK_SHIFT, shared};
use crate::isa::value::LANES;
use crate::ptx::{Register, Special};

/// Values of registers in all lanes, by class, and the lanes that execute.
#[derive(Debug)]
pub struct Lanes<'a> {
    /// `.pred`, a bit for each lane.
    pub predicates: &'a mut [u32],
    /// Up to 32 bits; narrower values have zeros above.
    pub words: &'a mut [[u32; LANES]],
    /// `.b64`
    pub doubles: &'a mut [[u64; LANES]],
    /// `.b128`
    pub quads: &'a mut [[u128; LANES]],
    /// Lanes that execute.
    pub mask: u32,
    /// Rank of the thread block.
    pub rank: u32,
    /// The seed of perturbed approximations.
    pub perturb: Option<u64>,
}

/// Code of an instruction.
pub type Code = Arc<dyn Fn(&mut Lanes<'_>) + Send + Sync>;

/// Lowered.
#[derive(Clone)]
pub enum Op {
    /// Computes.
    Code(Code),
    /// `mov` of a special register.
    Special {
        /// Destination.
        into: Register,
        /// Source.
        from: Special,
    },
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(_) => f.write_str("Code"),
            Self::Special { into, from } => write!(f, "Special({into:?}, {from:?})"),
        }
    }
}

/// The error of a form that is not known.
pub(super) fn unsupported(what: &str) -> Fault {
    Fault::unsupported(what)
}

/// Ranks of thread blocks of a cluster, for constants that hold one.
pub(super) const RANKS: u32 = 16;

/// The address of a shared variable in every thread block of a cluster.
pub(super) fn shared_addresses(offset: u32) -> impl Iterator<Item = u32> {
    const { assert!(RANKS <= 1 << (32 - SHARED_RANK_SHIFT)) };
    (0..RANKS).map(move |rank| shared(rank, offset))
}

/// All lanes.
pub(super) const ALL: u32 = (1 << (LANES - 1)) | ((1 << (LANES - 1)) - 1);
