//! Work that streams have taken and that has not run: what has to run before what, and what may run next.
//!
//! Each piece of work is an item that names the items before it: the last one of its stream, those of the streams that
//! the legacy stream orders itself with, events that are waited for, the nodes of a graph before a node. An item that is
//! not here any more is done.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use super::stream::{Node, StreamKey, Work};
use crate::machine::cluster::Random;
use crate::machine::dependence::Unfinished;
use crate::settings::Schedule;

/// Where a launch leaves what a dependent one has to know, when it has run.
pub type Slot = Arc<OnceLock<Unfinished>>;

/// A piece of work that waits, or is being run.
#[derive(Debug)]
struct Item {
    work: Work,
    after: Vec<u64>,
    is_running: bool,
    /// For a launch that may begin before the one ahead of it has ended.
    primary: Option<Slot>,
    own: Option<Slot>,
}

/// A piece of work to run now.
#[derive(Debug)]
pub struct Taken {
    /// Number of the item.
    pub id: u64,
    /// What it does.
    pub work: Work,
    /// Of the launch before it that need not have ended.
    pub primary: Option<Slot>,
    /// Its own.
    pub own: Option<Slot>,
}

/// What can be done for a goal.
#[derive(Debug)]
pub enum Next {
    /// All of it is done.
    Done,
    /// This has to run, or may as well.
    Run(Box<Taken>),
    /// Other threads run what it takes.
    Busy,
}

/// The end of a stream.
#[derive(Debug, Default)]
struct Tail {
    /// The item that was queued last.
    last: u64,
    /// Of that item, if it is a launch that nobody waited for: one that is launched now may begin before it has ended.
    kernel: Option<Slot>,
    /// Orders itself with the legacy stream.
    is_blocking: bool,
}

/// All streams' work.
#[derive(Debug)]
pub struct Queue {
    next: u64,
    items: BTreeMap<u64, Item>,
    tails: HashMap<StreamKey, Tail>,
    is_device_busy: bool,
    schedule: Schedule,
    /// What is drawn for a random schedule.
    pub random: Random,
}

/// The stream that work is queued in.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Which.
    pub stream: StreamKey,
    /// cudaStreamNonBlocking
    pub is_non_blocking: bool,
}

impl Queue {
    /// Without any work.
    pub fn new(schedule: Schedule, seed: u64) -> Self {
        Self {
            next: 0,
            items: BTreeMap::new(),
            tails: HashMap::new(),
            is_device_busy: false,
            schedule,
            random: Random::new(seed),
        }
    }

    fn is_pending(&self, id: u64) -> bool {
        self.items.contains_key(&id)
    }

    fn insert(&mut self, work: Work, mut after: Vec<u64>, primary: Option<Slot>) -> u64 {
        self.next += 1;
        after.retain(|id| self.items.contains_key(id));
        let own = matches!(work, Work::Launch { .. }).then(Slot::default);
        self.items.insert(self.next, Item { work, after, is_running: false, primary, own });
        self.next
    }

    /// What the stream's next item comes after.
    fn before(&self, place: Place) -> Vec<u64> {
        let own = self.tails.get(&place.stream);
        let mut before: Vec<u64> = own.map(|tail| tail.last).into_iter().collect();
        match place.stream {
            StreamKey::Legacy => {
                let blocking = self.tails.values().filter(|tail| tail.is_blocking);
                before.extend(blocking.map(|tail| tail.last));
            }
            StreamKey::Numbered(_) if !place.is_non_blocking => {
                before.extend(self.tails.get(&StreamKey::Legacy).map(|tail| tail.last));
            }
            StreamKey::Numbered(_) => {}
        }
        before
    }

    /// Makes an item the last one of its stream. A launch in a stream that waited for another stream is not one that
    /// the next launch may overlap.
    fn append(&mut self, place: Place, last: u64, kernel: Option<Slot>) {
        let is_legacy = place.stream == StreamKey::Legacy;
        if is_legacy {
            // What is done needs no order, but a launch that is done may still be overlapped.
            let items = &self.items;
            self.tails.retain(|_, tail| items.contains_key(&tail.last) || tail.kernel.is_some());
            self.tails.values_mut().filter(|tail| tail.is_blocking).for_each(Tail::forget);
        } else if !place.is_non_blocking
            && let Some(legacy) = self.tails.get_mut(&StreamKey::Legacy)
        {
            legacy.forget();
        }
        let is_blocking = !is_legacy && !place.is_non_blocking;
        self.tails.insert(place.stream, Tail { last, kernel, is_blocking });
    }

    /// Takes work at the end of a stream, after which other items have to be done as well; gives its number.
    pub fn push(&mut self, place: Place, work: Work, also_after: &[u64]) -> u64 {
        let mut after = self.before(place);
        after.extend(also_after);
        let ahead = self.tails.get(&place.stream).and_then(|tail| tail.kernel.clone());
        let primary = match work {
            Work::Launch { programmatic: true, .. } => ahead.clone(),
            _ => None,
        };
        // An event that is recorded holds up nothing.
        let passes = matches!(work, Work::Mark(_));
        let id = self.insert(work, after, primary);
        let kernel =
            if passes { ahead } else { self.items.get(&id).and_then(|item| item.own.clone()) };
        self.append(place, id, kernel);
        id
    }

    /// Takes the nodes of a graph; gives the number of an item that comes after all of them.
    pub fn push_graph(&mut self, place: Place, nodes: &[Node], also_after: &[u64]) -> u64 {
        let mut after = self.before(place);
        after.extend(also_after);
        let start = self.insert(Work::Empty, after, None);
        let mut ids: Vec<u64> = Vec::with_capacity(nodes.len());
        for node in nodes {
            let before: Vec<u64> =
                node.after.iter().filter_map(|index| ids.get(*index).copied()).collect();
            let primary = match (&node.work, before.as_slice()) {
                (Work::Launch { programmatic: true, .. }, [one]) => {
                    self.items.get(one).and_then(|item| item.own.clone())
                }
                _ => None,
            };
            let after = if before.is_empty() { vec![start] } else { before };
            ids.push(self.insert(node.work.clone(), after, primary));
        }
        ids.push(start);
        let end = self.insert(Work::Empty, ids, None);
        self.append(place, end, None);
        end
    }

    /// The launch at the end of a stream that nobody waited for.
    pub fn kernel(&self, stream: StreamKey) -> Option<Slot> {
        self.tails.get(&stream)?.kernel.clone()
    }

    /// All that a stream has to do. The legacy stream waits for the others, as what is queued there would.
    pub fn of_stream(&self, place: Place) -> Vec<u64> {
        let mut all = match place.stream {
            StreamKey::Legacy => self.before(place),
            StreamKey::Numbered(_) => {
                self.tails.get(&place.stream).map(|tail| tail.last).into_iter().collect()
            }
        };
        all.retain(|id| self.is_pending(*id));
        all
    }

    /// All that there is to do.
    pub fn all(&self) -> Vec<u64> {
        self.items.keys().copied().collect()
    }

    /// The host has seen that these launches have ended, or all that streams had: what is launched now overlaps none
    /// of them.
    pub fn seen(&mut self, has_ended: impl Fn(StreamKey, bool, &Slot) -> bool) {
        for (stream, tail) in &mut self.tails {
            if tail.kernel.as_ref().is_some_and(|kernel| {
                kernel.get().is_some() && has_ended(*stream, tail.is_blocking, kernel)
            }) {
                tail.forget();
            }
        }
    }

    /// Whether anything of a goal is to be done.
    pub fn has_any(&self, goal: &[u64]) -> bool {
        goal.iter().any(|id| self.is_pending(*id))
    }

    /// Picks what to run for a goal. With an eager schedule nothing else is left; a lazy one runs nothing else.
    pub fn next(&mut self, goal: &[u64]) -> Next {
        if !self.has_any(goal) {
            return Next::Done;
        }
        let chosen = match self.schedule {
            Schedule::Eager => {
                self.items.iter().find(|(_, item)| self.may_run(item)).map(|(id, _)| *id)
            }
            Schedule::Lazy => self.last_needed(goal),
            Schedule::Random => self.any(),
        };
        chosen.map_or(Next::Busy, |id| self.take(id))
    }

    /// Picks anything that may run.
    pub fn next_of_all(&mut self) -> Next {
        match self.any() {
            Some(id) => self.take(id),
            None if self.items.is_empty() => Next::Done,
            None => Next::Busy,
        }
    }

    /// The item is done.
    pub fn done(&mut self, id: u64) {
        if let Some(item) = self.items.remove(&id)
            && item.work.is_of_device()
        {
            self.is_device_busy = false;
        }
    }

    /// Takes all work away that nobody runs, as after a failure.
    pub fn abandon(&mut self) -> Vec<Work> {
        let mut abandoned = Vec::new();
        self.items.retain(|_, item| {
            if !item.is_running {
                abandoned.push(std::mem::replace(&mut item.work, Work::Empty));
            }
            item.is_running
        });
        self.tails.clear();
        abandoned
    }

    fn is_ready(&self, item: &Item) -> bool {
        !item.is_running && !item.after.iter().any(|id| self.is_pending(*id))
    }

    fn may_run(&self, item: &Item) -> bool {
        self.is_ready(item) && !(self.is_device_busy && item.work.is_of_device())
    }

    fn any(&mut self) -> Option<u64> {
        let ready: Vec<u64> =
            self.items.iter().filter(|(_, item)| self.may_run(item)).map(|(id, _)| *id).collect();
        (!ready.is_empty()).then(|| ready[self.random.below(ready.len())])
    }

    /// Picks for a lazy schedule: the newest part of the goal comes first, with what it needs and no more, and of that
    /// what was queued last.
    fn last_needed(&self, goal: &[u64]) -> Option<u64> {
        let newest_first: BTreeSet<u64> = goal.iter().copied().collect();
        newest_first.into_iter().rev().find_map(|part| {
            let mut todo = BTreeSet::from([part]);
            while let Some(id) = todo.pop_last() {
                let Some(item) = self.items.get(&id) else { continue };
                if self.may_run(item) {
                    return Some(id);
                }
                // All of these are older.
                todo.extend(&item.after);
            }
            None
        })
    }

    fn take(&mut self, id: u64) -> Next {
        let Some(item) = self.items.get_mut(&id) else { return Next::Busy };
        item.is_running = true;
        let (primary, own) = (item.primary.take(), item.own.clone());
        let work = item.work.clone();
        self.is_device_busy |= work.is_of_device();
        Next::Run(Box::new(Taken { id, work, primary, own }))
    }
}

impl Tail {
    fn forget(&mut self) {
        self.kernel = None;
    }
}
