//! Global memory during a launch: who touched it, and what strong accesses passed on.
//!
//! What was before the launch is before all of it. Clusters on several threads of the host share it, so that it is in
//! pieces with a lock each. A store passes on what it knows before it is carried out, and a load takes it afterwards: who
//! sees the value knows what it stands for.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Release;
use super::clock::Knowledge;
use super::shadow::{Access, Record, Rule, Shadow, View};
use crate::isa::semantics::Scope;
use crate::settings::Checks;

/// Pieces.
const PIECES: usize = 64;

#[derive(Debug, Default)]
struct Piece {
    shadow: Shadow,
    places: HashMap<u64, Vec<Release>>,
}

/// Of one launch.
#[derive(Debug)]
pub struct GlobalOrder {
    pieces: Vec<Mutex<Piece>>,
}

impl Default for GlobalOrder {
    fn default() -> Self {
        Self { pieces: (0..PIECES).map(|_| Mutex::default()).collect() }
    }
}

impl GlobalOrder {
    fn piece(&self, address: u64) -> MutexGuard<'_, Piece> {
        let page = Shadow::next_page(address) / Shadow::next_page(0);
        self.pieces[page as usize % PIECES].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An access. Gives the first earlier one that is not before it as it has to be.
    pub(super) fn access(
        &self,
        address: u64,
        bytes: u64,
        access: Access,
        view: &dyn View,
        checks: Checks,
    ) -> Option<(Record, Rule)> {
        let (mut at, end) = (address, address + bytes);
        let mut found = None;
        while at < end {
            let next = Shadow::next_page(at).min(end);
            let mut piece = self.piece(at);
            found = found.or(piece.shadow.access(at, next - at, access, view, checks));
            at = next;
        }
        found
    }

    /// A strong access to a place passes on what is known. Nothing is taken back: a reader may still see the value before.
    pub(super) fn pass_on(
        &self,
        address: u64,
        parts: Vec<(Scope, Knowledge)>,
        cluster: u32,
        rank: u32,
    ) {
        add(self.piece(address).places.entry(address).or_default(), parts, cluster, rank);
    }

    /// What was passed on at a place.
    pub(super) fn observe(&self, address: u64) -> Vec<Release> {
        self.piece(address).places.get(&address).cloned().unwrap_or_default()
    }
}

/// Adds what is passed on to that of the same thread block and scope.
pub(super) fn add(
    place: &mut Vec<Release>,
    parts: Vec<(Scope, Knowledge)>,
    cluster: u32,
    rank: u32,
) {
    for (scope, known) in parts.into_iter().filter(|(_, known)| !known.is_empty()) {
        let same = |other: &&mut Release| {
            (other.scope, other.cluster, other.rank) == (scope, cluster, rank)
        };
        match place.iter_mut().find(same) {
            Some(other) => other.known.join(&known),
            None => place.push(Release { known, scope, cluster, rank }),
        }
    }
}
