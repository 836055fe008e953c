//! Tensor memory of one thread block: 128 lanes of 512 columns of 32 bits, its allocations, and what is known of
//! each cell.

/// Rows.
pub const LANES: usize = 128;
/// Cells of a row.
pub const COLUMNS: usize = 512;

/// An allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// First column.
    pub column: u32,
    /// Columns.
    pub columns: u32,
}

/// Cells and shadow. `tensor::` has the operations.
#[derive(Debug)]
pub struct TensorMemory {
    /// `cells[lane * COLUMNS + column]`
    pub cells: Vec<u32>,
    /// Whether each cell was written since its allocation.
    pub written: Vec<bool>,
    /// Number of the last operation of the tensor cores that writes each column.
    pub writer: Vec<u64>,
    /// Operations up to this number were waited for by somebody in the cluster.
    pub observed: u64,
    /// What is allocated.
    pub allocations: Vec<Allocation>,
    /// `relinquish_alloc_permit` was executed.
    pub relinquished: bool,
    /// Size of the last allocation, which the next must not exceed.
    pub last_columns: Option<u32>,
}

impl Default for TensorMemory {
    fn default() -> Self {
        Self {
            cells: vec![0; LANES * COLUMNS],
            written: vec![false; LANES * COLUMNS],
            writer: vec![0; COLUMNS],
            observed: 0,
            allocations: Vec::new(),
            relinquished: false,
            last_columns: None,
        }
    }
}

impl TensorMemory {
    /// First column of the lowest free run that an allocation of this many columns fits in. Allocations begin at
    /// multiples of their size.
    pub fn free_run(&self, columns: u32) -> Option<u32> {
        let ends = COLUMNS as u32;
        let taken = |first: u32| {
            self.allocations.iter().any(|allocation| {
                first < allocation.column + allocation.columns
                    && allocation.column < first + columns
            })
        };
        (0..ends)
            .step_by(columns.max(1) as usize)
            .find(|first| first + columns <= ends && !taken(*first))
    }
}
