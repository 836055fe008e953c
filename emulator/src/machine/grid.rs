//! The clusters of a grid, and the places for those that are resident.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::machine::Launch;
use crate::machine::order::GlobalOrder;

/// The clusters of a grid that have not started.
#[derive(Debug)]
pub struct Clusters {
    /// In clusters.
    extent: [u64; 3],
    next: Mutex<u64>,
    /// Places for resident clusters; each has its own multiprocessors.
    slots: Mutex<BTreeSet<u32>>,
    /// What is before what in global memory, where a check needs it.
    pub order: GlobalOrder,
}

impl Clusters {
    /// All of a launch, of which so many may be resident at once.
    pub fn new(launch: &Launch, slots: u32) -> Self {
        let extent =
            [0, 1, 2].map(|axis| u64::from(launch.grid[axis] / launch.cluster[axis].max(1)));
        let slots = Mutex::new((0..slots).collect());
        Self { extent, next: Mutex::new(0), slots, order: GlobalOrder::default() }
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.extent.iter().product()
    }

    /// Takes the next one that has not started.
    pub fn take(&self) -> Option<u64> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        (*next < self.total()).then(|| {
            *next += 1;
            *next - 1
        })
    }

    /// Place in the grid, in clusters, x fastest.
    pub fn id(&self, number: u64) -> [u32; 3] {
        let [x, y, _] = self.extent.map(|extent| extent.max(1));
        [(number % x) as u32, (number / x % y) as u32, (number / (x * y)) as u32]
    }

    /// Takes a place for a resident cluster.
    pub fn slot(&self) -> Option<u32> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).pop_first()
    }

    /// The cluster of a place has ended.
    pub fn give_back(&self, slot: u32) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).insert(slot);
    }
}
