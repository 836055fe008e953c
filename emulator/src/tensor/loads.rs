//! Registers and columns of tcgen05.ld between issue and tcgen05.wait::ld.

/// What a warp has issued and not waited for.
#[derive(Clone, Debug, Default)]
pub struct PendingLoads {
    /// Word registers that are being filled.
    pub registers: Vec<u32>,
    /// Columns that are being read: first and count.
    pub columns: Vec<(u32, u32)>,
}
