//! How 64 bits name a byte.
//!
//! Global addresses are addresses of the host. The windows of the other spaces lie where no address of the host can
//! be. A shared address has 32 bits, `rank << 24 | offset`, also for the thread block's own memory: CUTLASS clears
//! bit 24 to name the even block of a pair.

/// Generic addresses of shared memory: this plus the 32 bits.
pub const SHARED_WINDOW: u64 = 1 << 56;
/// Generic addresses of parameters: this plus the offset.
pub const PARAM_WINDOW: u64 = 2 << 56;
/// Generic addresses of local memory: this plus the offset.
pub const LOCAL_WINDOW: u64 = 3 << 56;
/// Generic addresses of functions: this plus the index of their first instruction.
pub const FUNCTION_WINDOW: u64 = 4 << 56;
/// Below each window's next: which bits are the address inside of it.
pub const WINDOW_MASK: u64 = (1 << 56) - 1;

/// Shared memory of a thread block that the hardware keeps for itself: offset 0 is never valid, and dynamic shared
/// memory begins at a multiple of 1024.
pub const SHARED_RESERVED: u32 = 0x400;
/// Offset within the shared memory of one thread block.
pub const SHARED_OFFSET_MASK: u32 = 0x00FF_FFFF;
/// Where the rank begins.
pub const SHARED_RANK_SHIFT: u32 = 24;

/// The 32 bits that name a byte of shared memory in the cluster.
pub fn shared(rank: u32, offset: u32) -> u32 {
    rank << SHARED_RANK_SHIFT | offset
}

/// Rank and offset of a shared address.
pub fn split_shared(address: u32) -> (u32, u32) {
    (address >> SHARED_RANK_SHIFT, address & SHARED_OFFSET_MASK)
}

/// What `mov` gives as the address of the function that begins at this instruction.
pub fn function(start: u32) -> u64 {
    FUNCTION_WINDOW | u64::from(start)
}

/// Where a generic address points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Device memory, by address of the host.
    Global(u64),
    /// The 32 bits of a shared address.
    Shared(u32),
    /// Offset into the parameters.
    Param(u32),
    /// Offset into the local memory of the thread.
    Local(u32),
}

/// Resolves a generic address. What is in no window is taken as global; the table of allocations decides there.
pub fn resolve(generic: u64) -> Target {
    let inside = generic & WINDOW_MASK;
    match (generic & !WINDOW_MASK, u32::try_from(inside)) {
        (SHARED_WINDOW, Ok(inside)) => Target::Shared(inside),
        (PARAM_WINDOW, Ok(inside)) => Target::Param(inside),
        (LOCAL_WINDOW, Ok(inside)) => Target::Local(inside),
        _ => Target::Global(generic),
    }
}
