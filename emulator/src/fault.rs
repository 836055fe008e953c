//! What stops a kernel: its kind, its words, and where it happened.

use std::fmt;

/// What rule was broken. Tests and the runtime tell faults apart by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// PTX that this library cannot parse, lower or execute.
    Unsupported,
    /// An address outside of any allocation, window or box.
    OutOfBounds,
    /// An address that is not a multiple of the size of the access.
    Misaligned,
    /// A read of shared, tensor or global memory that nobody wrote.
    Uninitialised,
    /// Nothing can run and nothing is under way.
    Deadlock,
    /// Warps repeat what they did, and nothing can change what they see.
    Livelock,
    /// The transaction bytes of an mbarrier do not add up.
    TransactionBytes,
    /// An mbarrier, a named barrier or the cluster's barrier is used against its rules.
    Barrier,
    /// Lanes of a warp disagree where they have to execute together.
    Divergence,
    /// An accumulator is read, or overwritten, while an operation on it may still be under way.
    TensorHazard,
    /// Allocation, lane or column rules of tensor memory.
    TensorMemory,
    /// A matrix or instruction descriptor, or a tensor map, with an illegal field.
    Descriptor,
    /// Data written by ordinary stores is read by the async proxy without a fence between.
    ProxyFence,
    /// Accesses to the same memory that nothing orders.
    Race,
    /// A register is used while an asynchronous load into it is under way.
    PendingRegister,
    /// Memory that a launch which has not ended uses is accessed before `griddepcontrol.wait`.
    GridDependency,
    /// A thread block ends with asynchronous work or tensor memory left.
    InFlightAtExit,
    /// `trap`, or an assertion of the program itself.
    Trap,
    /// The launch itself is impossible on the device.
    Launch,
    /// More steps than EMULATOR_STEPS allows.
    Steps,
}

/// Where an instruction stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The name of the kernel, as in PTX.
    pub kernel: String,
    /// %ctaid.
    pub cta: [u32; 3],
    /// Warp of the thread block.
    pub warp: u32,
    /// Lanes that executed the instruction.
    pub lanes: u32,
    /// Line of the PTX text, from 1.
    pub line: u32,
    /// File and line of the source, where the program has `-lineinfo`.
    pub source: Option<(String, u32)>,
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which rule.
    pub kind: FaultKind,
    /// The words, with the numbers.
    pub message: String,
    /// Where; filled in by the scheduler for faults that come from an instruction.
    pub place: Option<Box<Place>>,
    /// More lines: the parked warps of a deadlock.
    pub dump: Vec<String>,
}

/// A result whose error stops the kernel.
pub type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    /// A fault whose place is not known yet.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), place: None, dump: Vec::new() }
    }

    /// For a form of PTX that is not implemented.
    pub fn unsupported(what: impl fmt::Display) -> Self {
        Self::new(FaultKind::Unsupported, format!("not implemented: {what}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)?;
        if let Some(place) = &self.place {
            let [x, y, z] = place.cta;
            write!(f, "\n  in {}, CTA ({x}, {y}, {z}), warp {}", place.kernel, place.warp)?;
            write!(f, ", lanes {:#010x}, PTX line {}", place.lanes, place.line)?;
            if let Some((file, line)) = &place.source {
                write!(f, ", {file}:{line}")?;
            }
        }
        for line in &self.dump {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}
