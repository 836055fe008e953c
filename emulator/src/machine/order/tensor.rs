//! Who touched which cells of tensor memory. Operations of the tensor cores that one thread issued are in their order,
//! and `tcgen05.ld` and `tcgen05.st` are looked at elsewhere until they were waited for.

use super::clock::Channel;
use super::shadow::{Access, Kind, View};
use crate::machine::tmem::Region;

#[derive(Clone, Copy, Debug)]
struct Touched {
    region: Region,
    access: Access,
}

/// Of one thread block.
#[derive(Debug, Default)]
pub struct TensorShadow(Vec<Touched>);

fn contains(large: &Region, small: &Region) -> bool {
    small.units & !large.units == 0
        && large.column <= small.column
        && small.column + small.columns <= large.column + large.columns
}

impl TensorShadow {
    /// An access. Gives an earlier one that is not before it.
    pub fn access(&mut self, region: Region, access: Access, view: &dyn View) -> Option<Access> {
        let races = |old: &&Touched| {
            let Kind { writes, .. } = old.access.kind;
            (writes || access.kind.writes)
                && old.region.overlaps(&region)
                && !view.knows(Channel::Tensor, &old.access.epoch, true)
        };
        let found = self.0.iter().find(races).map(|old| old.access);
        self.0.retain(|old| {
            let own = old.access.epoch.first == access.epoch.first
                && old.access.kind.writes == access.kind.writes;
            !(contains(&region, &old.region) && (access.kind.writes || own))
        });
        self.0.push(Touched { region, access });
        found
    }

    /// What was before does not matter to the next owner.
    pub fn forget(&mut self, region: Region) {
        self.0.retain(|old| !contains(&region, &old.region));
    }
}
