//! Tensor memory of one thread block: 128 lanes of 512 columns of 32 bits, its allocations, and what is known of
//! each cell.

use std::fmt::{self, Display, Formatter};
use std::ops::Range;

use crate::fault::{Fault, FaultKind, Result};

/// Rows.
pub const LANES: usize = 128;
/// Cells of a row.
pub const COLUMNS: usize = 512;

/// Lanes that are told apart when hazards are looked for: no instruction but `tcgen05.cp.4x256b` touches fewer.
pub const LANES_OF_UNIT: u32 = 16;
/// How many times as many there are.
const UNITS: usize = LANES / LANES_OF_UNIT as usize;

/// Some lanes of neighboring columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Bit i stands for lanes 16·i to 16·i + 15.
    pub units: u8,
    /// First column.
    pub column: u32,
    /// Columns.
    pub columns: u32,
}

impl Region {
    /// All lanes of these columns.
    pub fn whole(column: u32, columns: u32) -> Self {
        Self { units: u8::MAX, column, columns }
    }

    /// The units that hold these lanes, as bits.
    pub fn units_of(lanes: impl IntoIterator<Item = u32>) -> u8 {
        lanes.into_iter().fold(0, |units, lane| units | 1 << (lane / LANES_OF_UNIT % 8))
    }

    /// Whether some cell may be in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.units & other.units != 0
            && self.column < other.column + other.columns
            && other.column < self.column + self.columns
    }

    fn each_unit(self) -> impl Iterator<Item = usize> {
        (0..UNITS).filter(move |unit| self.units >> unit & 1 != 0)
    }
}

impl Display for Region {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "columns {}..{}", self.column, self.column + self.columns)?;
        if self.units == u8::MAX {
            return Ok(());
        }
        let lanes: Vec<String> =
            self.each_unit().map(|unit| format!("{}..{}", 16 * unit, 16 * unit + 16)).collect();
        write!(out, " of lanes {}", lanes.join(", "))
    }
}

/// For each unit of lanes and column, the number of the last operation of the tensor cores that did something there.
#[derive(Debug)]
pub struct Last(Vec<u64>);

impl Default for Last {
    fn default() -> Self {
        Self(vec![0; UNITS * COLUMNS])
    }
}

impl Last {
    /// An operation does it there.
    pub fn set(&mut self, region: Region, number: u64) {
        for row in Self::rows(region) {
            self.0[row].fill(number);
        }
    }

    /// The newest of a region; 0 for none.
    pub fn newest(&self, region: Region) -> u64 {
        Self::rows(region).flat_map(|row| &self.0[row]).copied().max().unwrap_or(0)
    }

    /// What is stored for a region, as far as it lies in the memory.
    fn rows(region: Region) -> impl Iterator<Item = Range<usize>> {
        let column = |at: u32| (at as usize).min(COLUMNS);
        let (first, end) = (column(region.column), column(region.column + region.columns));
        region.each_unit().map(move |unit| unit * COLUMNS + first..unit * COLUMNS + end)
    }
}

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
    /// Who wrote.
    pub writer: Last,
    /// Operations up to this number were waited for by somebody in the cluster.
    pub observed: u64,
    /// What is allocated.
    pub(super) allocations: Vec<Allocation>,
    /// `relinquish_alloc_permit` was executed.
    pub relinquished: bool,
    /// Size of the last allocation, which the next must not exceed.
    last_columns: Option<u32>,
    /// Who read other than as accumulator.
    pub reader: Last,
    /// `cta_group` of the first tcgen05 instruction: all others have to name the same.
    pub group: Option<u32>,
    /// Descriptor of A that the collector holds, when an MMA filled it and none has used it for the last time.
    pub collector: Option<u64>,
    /// A warp that waits for the same instruction of the peer (`cta_group::2`).
    pub meeting: Option<Meeting>,
}

/// An allocation or deallocation of both thread blocks of a pair, seen from the one that came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meeting {
    /// First column, for a deallocation.
    pub column: Option<u32>,
    /// Columns.
    pub columns: u32,
    /// Offset of the word that receives the address, and the warp that writes it.
    pub slot: Option<(u32, u32)>,
}

impl Default for TensorMemory {
    fn default() -> Self {
        Self {
            cells: vec![0; LANES * COLUMNS],
            written: vec![false; LANES * COLUMNS],
            writer: Last::default(),
            observed: 0,
            allocations: Vec::new(),
            relinquished: false,
            last_columns: None,
            reader: Last::default(),
            group: None,
            collector: None,
            meeting: None,
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

    /// Checks the `cta_group` of an instruction against that of the first one.
    pub fn check_group(&mut self, group: u32) -> Result<()> {
        let first = *self.group.get_or_insert(group);
        if first != group {
            let message = format!(
                "cta_group::{group} in a kernel whose first tcgen05 instruction has cta_group::{first}"
            );
            return Err(Fault::new(FaultKind::TensorMemory, message));
        }
        Ok(())
    }

    /// Checks an allocation of so many columns. It may still have to wait for them.
    pub fn check_allocation(&self, columns: u32) -> Result<()> {
        let refused = |why: String| {
            Err(Fault::new(
                FaultKind::TensorMemory,
                format!("tcgen05.alloc of {columns} columns: {why}"),
            ))
        };
        if !columns.is_power_of_two() || !(32..=COLUMNS as u32).contains(&columns) {
            return refused("it must be a power of two in 32..=512".to_owned());
        }
        if self.relinquished {
            return refused("after tcgen05.relinquish_alloc_permit".to_owned());
        }
        match self.last_columns {
            Some(last) if columns > last => {
                refused(format!("the one before had {last}, and they must not grow"))
            }
            _ => Ok(()),
        }
    }

    /// Allocates columns at this place, which is free.
    pub fn allocate(&mut self, column: u32, columns: u32) {
        self.allocations.push(Allocation { column, columns });
        self.last_columns = Some(columns);
        self.forget(column, columns);
    }

    /// Gives an allocation back.
    pub fn free(&mut self, column: u32, columns: u32) -> Result<()> {
        let allocation = Allocation { column, columns };
        let Some(index) = self.allocations.iter().position(|other| *other == allocation) else {
            let known: Vec<String> = self
                .allocations
                .iter()
                .map(|other| format!("{} from {}", other.columns, other.column))
                .collect();
            let message = format!(
                "tcgen05.dealloc of {columns} columns from {column}; allocated are: {}",
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            );
            return Err(Fault::new(FaultKind::TensorMemory, message));
        };
        self.allocations.remove(index);
        self.forget(column, columns);
        Ok(())
    }

    fn forget(&mut self, column: u32, columns: u32) {
        // What wrote them before does not matter to the next owner.
        let region = Region::whole(column, columns);
        self.writer.set(region, 0);
        self.reader.set(region, 0);
        let (column, columns) = (column as usize, columns as usize);
        for row in self.written.chunks_exact_mut(COLUMNS) {
            row[column..column + columns].fill(false);
        }
    }

    /// Checks that columns are allocated.
    pub fn check_columns(&self, what: &str, column: u32, columns: u32) -> Result<()> {
        let covered = |at: u32| {
            self.allocations
                .iter()
                .any(|other| at >= other.column && at - other.column < other.columns)
        };
        match (column..column.saturating_add(columns)).find(|at| !covered(*at)) {
            None => Ok(()),
            Some(at) => {
                let message = format!(
                    "{what} uses columns {column}..{}; column {at} is not allocated",
                    column.saturating_add(columns)
                );
                Err(Fault::new(FaultKind::TensorMemory, message))
            }
        }
    }

    /// Cells of a lane, checked to be written.
    pub fn read(&self, what: &str, lane: u32, column: u32, columns: u32) -> Result<&[u32]> {
        let range = self.range(what, lane, column, columns)?;
        if let Some(at) = self.written[range.clone()].iter().position(|written| !written) {
            let message = format!(
                "{what}: tensor memory at lane {lane}, column {} was never written",
                column as usize + at
            );
            return Err(Fault::new(FaultKind::Uninitialised, message));
        }
        Ok(&self.cells[range])
    }

    /// Cells of a lane, to be written; they count as written from now on.
    pub fn write(
        &mut self,
        what: &str,
        lane: u32,
        column: u32,
        columns: u32,
    ) -> Result<&mut [u32]> {
        let range = self.range(what, lane, column, columns)?;
        self.written[range.clone()].fill(true);
        Ok(&mut self.cells[range])
    }

    fn range(&self, what: &str, lane: u32, column: u32, columns: u32) -> Result<Range<usize>> {
        let end = u64::from(column) + u64::from(columns);
        if lane as usize >= LANES || end > COLUMNS as u64 {
            let message = format!("{what}: tensor memory at lane {lane}, columns {column}..{end}");
            return Err(Fault::new(FaultKind::OutOfBounds, message));
        }
        let start = lane as usize * COLUMNS + column as usize;
        Ok(start..start + columns as usize)
    }
}

/// Lane and column of an address.
pub fn split(address: u32) -> (u32, u32) {
    (address >> 16, address & 0xFFFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind<T>(result: Result<T>) -> Option<FaultKind> {
        result.err().map(|fault| fault.kind)
    }

    #[test]
    fn the_lowest_run_is_taken_and_sizes_must_not_grow() -> Result<()> {
        let mut memory = TensorMemory::default();
        memory.check_allocation(128)?;
        assert_eq!(memory.free_run(128), Some(0));
        memory.allocate(0, 128);
        assert_eq!(memory.free_run(128), Some(128));
        memory.allocate(128, 128);
        assert_eq!(kind(memory.check_allocation(256)), Some(FaultKind::TensorMemory));
        assert_eq!(kind(memory.free(0, 64)), Some(FaultKind::TensorMemory));
        memory.free(0, 128)?;
        assert_eq!(memory.free_run(128), Some(0));
        memory.allocate(256, 128);
        memory.allocate(384, 128);
        memory.allocate(0, 128);
        assert_eq!(memory.free_run(32), None);
        for columns in [0, 16, 48, 1024] {
            assert_eq!(kind(memory.check_allocation(columns)), Some(FaultKind::TensorMemory));
        }
        memory.relinquished = true;
        assert_eq!(kind(memory.check_allocation(32)), Some(FaultKind::TensorMemory));
        Ok(())
    }

    #[test]
    fn columns_are_undefined_until_written_and_after_they_were_given_back() -> Result<()> {
        let mut memory = TensorMemory::default();
        memory.allocate(32, 32);
        memory.check_columns("test", 32, 32)?;
        assert_eq!(kind(memory.check_columns("test", 31, 2)), Some(FaultKind::TensorMemory));
        assert_eq!(kind(memory.check_columns("test", 63, 2)), Some(FaultKind::TensorMemory));
        assert_eq!(kind(memory.read("test", 5, 40, 2)), Some(FaultKind::Uninitialised));
        memory.write("test", 5, 40, 2)?.copy_from_slice(&[1, 2]);
        assert_eq!(memory.read("test", 5, 40, 2)?, [1, 2]);
        assert_eq!(kind(memory.read("test", 6, 40, 1)), Some(FaultKind::Uninitialised));
        assert_eq!(kind(memory.read("test", 128, 0, 1)), Some(FaultKind::OutOfBounds));
        memory.free(32, 32)?;
        memory.allocate(32, 32);
        assert_eq!(kind(memory.read("test", 5, 40, 1)), Some(FaultKind::Uninitialised));
        memory.check_group(2)?;
        assert_eq!(kind(memory.check_group(1)), Some(FaultKind::TensorMemory));
        Ok(())
    }
}
