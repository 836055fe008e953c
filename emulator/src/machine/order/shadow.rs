//! Who touched which bytes since the last write that all later accesses are after.

use std::collections::HashMap;

use super::clock::{Channel, Epoch};
use crate::isa::semantics::Scope;
use crate::settings::Checks;

/// Bytes of a cell. Records name the bytes of it that they are of.
const CELL: u64 = 16;
/// Cells of a page.
const PAGE: u64 = 256;
/// Pages that are found by their number alone.
const NEAR: u64 = 64;

/// What an access is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// It changes memory.
    pub writes: bool,
    /// Strong accesses, such as atomic operations, are no race among their like, as far as their scope reaches.
    pub strong: Option<Scope>,
    /// TMA or the tensor cores, not a load or store.
    pub is_async: bool,
    /// All lanes of the warp did it together: one of them that passes it on stands for all.
    pub is_collective: bool,
}

/// Where the words of a message come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Index of the instruction.
    pub pc: u32,
    /// Warp of the cluster.
    pub warp: u32,
    /// The lanes that executed it.
    pub lanes: u32,
    /// How many instructions the warp had executed before.
    pub executed: u32,
}

/// An access to bytes of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who and when.
    pub epoch: Epoch,
    /// By which instruction.
    pub origin: Origin,
    /// What.
    pub kind: Kind,
    /// Bit i is byte i of the cell.
    bytes: u16,
}

/// What is missing between two accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing orders them.
    Race,
    /// Barriers order them that promise nothing of memory: relaxed arrivals, or instructions of all lanes of a warp.
    Relaxed,
    /// A store is before, but not for the async proxy.
    Proxy,
}

/// What the one who accesses knows.
pub trait View {
    /// Whether an earlier access is known.
    fn knows(&self, channel: Channel, epoch: &Epoch, any: bool) -> bool;

    /// Whether a scope of both reaches from one to the other.
    fn reaches(&self, scope: Scope, epoch: &Epoch, origin: &Origin) -> bool;
}

/// What is missing between an earlier access and one now.
fn missing(old: &Record, new: &Record, view: &dyn View, checks: Checks) -> Option<Rule> {
    let (a, b) = (old.kind, new.kind);
    if !a.writes && !b.writes {
        return None;
    }
    if let (Some(one), Some(other)) = (a.strong, b.strong)
        && view.reaches(one.min(other), &old.epoch, &old.origin)
    {
        return None;
    }
    // Lanes of a warp that store the same together, as in epilogues of CUTLASS: one store, as for ordinary ones.
    let together = old.epoch.cluster == new.epoch.cluster
        && (old.origin.warp, old.origin.executed) == (new.origin.warp, new.origin.executed);
    if together && a.is_async && b.is_async && a.writes && b.writes {
        return None;
    }
    let knows = |channel| view.knows(channel, &old.epoch, a.is_collective);
    let in_memory = knows(Channel::Memory);
    if !in_memory {
        let reused = !a.writes && knows(Channel::Execution);
        return match reused {
            true => checks.relaxed_reuse.then_some(Rule::Relaxed),
            false => checks.races.then_some(Rule::Race),
        };
    }
    let crosses = checks.proxy_fence && a.writes && !a.is_async && b.is_async;
    (crosses && !knows(Channel::Proxy)).then_some(Rule::Proxy)
}

/// The accesses to 16 bytes.
pub type Cell = Vec<Record>;

fn touch(cell: &mut Cell, new: Record, view: &dyn View, checks: Checks) -> Option<(Record, Rule)> {
    let mut found = None;
    let mut index = 0;
    while index < cell.len() {
        let old = &mut cell[index];
        if old.bytes & new.bytes == 0 {
            index += 1;
            continue;
        }
        if found.is_none() {
            found = missing(old, &new, view, checks).map(|rule| (*old, rule));
        }
        // A write stands for all that is before it, a read for the earlier reads that it is after, and a strong access
        // only for strong ones: others may race with what it does not race with.
        let own = old.epoch.cluster == new.epoch.cluster
            && old.epoch.first == new.epoch.first
            && old.epoch.lanes & !new.epoch.lanes == 0;
        let after = own || view.knows(Channel::Memory, &old.epoch, old.kind.is_collective);
        let stands = match (new.kind.writes, new.kind.strong) {
            (true, None) => true,
            (true, Some(_)) => after && old.kind.strong.is_some(),
            (false, None) => after && !old.kind.writes,
            (false, Some(_)) => after && !old.kind.writes && old.kind.strong.is_some(),
        };
        if stands {
            old.bytes &= !new.bytes;
        }
        if old.bytes == 0 {
            cell.swap_remove(index);
        } else {
            index += 1;
        }
    }
    let alike = |old: &&mut Record| {
        old.epoch == new.epoch && old.kind == new.kind && old.origin == new.origin
    };
    match cell.iter_mut().find(alike) {
        Some(old) => old.bytes |= new.bytes,
        None => cell.push(new),
    }
    found
}

/// An access that is to be compared with those before.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Who and when.
    pub epoch: Epoch,
    /// By which instruction.
    pub origin: Origin,
    /// What.
    pub kind: Kind,
}

/// Cells by address.
#[derive(Debug, Default)]
pub struct Shadow {
    /// Of low addresses, which those of shared memory are.
    near: Vec<Vec<Cell>>,
    far: HashMap<u64, Vec<Cell>>,
}

impl Shadow {
    /// First byte of the page after this address.
    pub fn next_page(address: u64) -> u64 {
        (address / (CELL * PAGE) + 1) * (CELL * PAGE)
    }

    fn page(&mut self, number: u64) -> &mut [Cell] {
        if number >= NEAR {
            let page = self.far.entry(number);
            return page.or_insert_with(|| vec![Cell::new(); PAGE as usize]);
        }
        let number = number as usize;
        if self.near.len() <= number {
            self.near.resize(number + 1, Vec::new());
        }
        let page = &mut self.near[number];
        if page.is_empty() {
            page.resize(PAGE as usize, Cell::new());
        }
        page
    }

    /// An access to bytes. Gives the first earlier one that is not before it as it has to be.
    pub fn access(
        &mut self,
        address: u64,
        bytes: u64,
        access: Access,
        view: &dyn View,
        checks: Checks,
    ) -> Option<(Record, Rule)> {
        let end = address + bytes;
        let mut found = None;
        let mut at = address;
        while at < end {
            let page = self.page(at / (CELL * PAGE));
            let page_end = Self::next_page(at).min(end);
            while at < page_end {
                let skip = at % CELL;
                let count = (CELL - skip).min(page_end - at);
                let mask = ((1u32 << count) - 1) << skip;
                let Access { epoch, origin, kind } = access;
                let record = Record { epoch, origin, kind, bytes: mask as u16 };
                let cell = &mut page[(at / CELL % PAGE) as usize];
                found = found.or(touch(cell, record, view, checks));
                at += count;
            }
        }
        found
    }
}
