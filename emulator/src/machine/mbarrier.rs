//! The mbarrier object (PTX ISA, "Parallel Synchronization and Communication Instructions: mbarrier").

use crate::fault::{Fault, FaultKind, Result};

/// Largest count of arrivals, and of bytes either way.
pub const MAX_COUNT: u32 = (1 << 20) - 1;

/// The state of one object. The eight bytes in shared memory are not used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MBarrier {
    /// Arrivals of a phase.
    pub expected: u32,
    /// Arrivals still missing.
    pub pending: u32,
    /// Bytes still missing; negative when bytes came before they were expected.
    pub bytes: i64,
    /// Phases completed.
    pub phase: u64,
    /// Bytes expected so far in this phase, for dumps.
    pub(super) announced: i64,
    /// Operations of the tensor cores that are complete when this phase is, by number.
    pub commit: u64,
    /// The same for the last complete phase.
    pub completed_commit: u64,
    /// Who arrived last, for dumps.
    pub last: String,
}

impl MBarrier {
    /// `mbarrier.init`
    pub fn new(count: u32) -> Result<Self> {
        if count == 0 || count > MAX_COUNT {
            let message =
                format!("mbarrier.init with a count of {count}; it can be 1..={MAX_COUNT}");
            return Err(Fault::new(FaultKind::Barrier, message));
        }
        Ok(Self { expected: count, pending: count, ..Self::default() })
    }

    /// `expect_tx`
    pub fn expect_bytes(&mut self, bytes: u32) -> Result<()> {
        self.bytes += i64::from(bytes);
        self.announced += i64::from(bytes);
        self.check_bytes()
    }

    /// `arrive`
    pub fn arrive(&mut self, count: u32) -> Result<()> {
        if count > self.pending {
            let message =
                format!("{count} arrivals where {} of {} are missing", self.pending, self.expected);
            return Err(Fault::new(FaultKind::Barrier, message));
        }
        self.pending -= count;
        self.flip();
        Ok(())
    }

    /// `complete_tx`, by hardware.
    pub fn complete_bytes(&mut self, bytes: u32) -> Result<()> {
        self.bytes -= i64::from(bytes);
        self.check_bytes()?;
        self.flip();
        Ok(())
    }

    /// Whether the phase with this parity is complete.
    pub fn is_complete(&self, parity: bool) -> bool {
        (self.phase & 1 != 0) != parity
    }

    fn flip(&mut self) {
        if self.pending == 0 && self.bytes == 0 {
            self.pending = self.expected;
            self.announced = 0;
            self.phase += 1;
            self.completed_commit = self.completed_commit.max(self.commit);
        }
    }

    fn check_bytes(&self) -> Result<()> {
        if self.bytes.unsigned_abs() > u64::from(MAX_COUNT) {
            let message = format!(
                "{} transaction bytes are pending; the limit is {MAX_COUNT} either way",
                self.bytes
            );
            return Err(Fault::new(FaultKind::TransactionBytes, message));
        }
        if self.bytes < 0 && self.pending == 0 {
            let message = format!(
                "{} bytes more came than the phase expects ({}), and all have arrived",
                -self.bytes, self.announced
            );
            return Err(Fault::new(FaultKind::TransactionBytes, message));
        }
        Ok(())
    }
}
