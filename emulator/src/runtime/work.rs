//! What streams take: launches, copies, and what else has its place in their order.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::copy::{Copy, Fill};
use super::pointer::HostFunction;
use crate::machine::Launch;
use crate::machine::global::Allocation;

/// Something to run.
#[derive(Clone, Debug)]
pub enum Work {
    /// A kernel.
    Launch {
        /// Which, and with what.
        launch: Arc<Launch>,
        /// It may begin before the launch ahead of it in its stream has ended.
        programmatic: bool,
    },
    /// A copy.
    Copy(Copy),
    /// A fill.
    Fill(Fill),
    /// A function of the host.
    Host(HostFunction),
    /// An event that was recorded: keeps the time.
    Mark(Recorded),
    /// cudaMallocAsync: memory can be used from then on.
    Publish(Arc<Allocation>),
    /// cudaFreeAsync: memory that begins there cannot be used any more.
    Free(u64),
    /// Nothing: what only orders others.
    Empty,
}

impl Work {
    /// Whether it takes the device, which does one such thing at a time.
    pub fn is_of_device(&self) -> bool {
        matches!(self, Self::Launch { .. } | Self::Copy(_) | Self::Fill(_))
    }

    /// As it is when the call that queues it has returned: memory that is not page-locked has been read.
    pub fn staged(self) -> Self {
        match self {
            Self::Copy(copy) => Self::Copy(copy.staged()),
            other => other,
        }
    }
}

/// When an event was reached, once it was.
#[derive(Clone, Debug, Default)]
pub struct Recorded(Arc<OnceLock<Instant>>);

impl Recorded {
    /// It is now.
    pub fn set(&self) {
        let _ = self.0.set(Instant::now());
    }

    /// When it was.
    pub fn get(&self) -> Option<Instant> {
        self.0.get().copied()
    }
}
