//! Work that streams have taken and that has not run: what has to run before what, and what may run next.
//!
//! Each piece of work is an item that names the items before it: the last one of its stream, those of the streams that
//! the legacy stream orders itself with, events that are waited for, the nodes of a graph before a node. An item that is
//! not here any more is done.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use super::stream::{Node, StreamKey};
use super::work::Work;
use crate::machine::cluster::Random;
use crate::machine::dependence::Unfinished;
use crate::settings::Schedule;

/// Where a launch leaves what a dependent one has to know, when it has run.
pub type Slot = Arc<OnceLock<Unfinished>>;

/// The items of each stream that have to be done before something: up to which number.
type Clock = BTreeMap<StreamKey, u64>;

/// A place in the order of all work: what is done when an item is done.
#[derive(Clone, Debug, Default)]
pub struct Point {
    /// The items that have to be done; with them, all before them is.
    pub items: Vec<u64>,
    clock: Arc<Clock>,
}

impl Point {
    /// After several.
    fn after(points: &[&Point]) -> Self {
        let mut items = Vec::new();
        let mut clock = Clock::new();
        for point in points {
            items.extend(&point.items);
            for (stream, item) in &*point.clock {
                let last = clock.entry(*stream).or_default();
                *last = (*last).max(*item);
            }
        }
        Self { items, clock: Arc::new(clock) }
    }

    /// The same at an item of a stream after all of this.
    fn at(mut self, stream: StreamKey, item: u64) -> Self {
        Arc::make_mut(&mut self.clock).insert(stream, item);
        self.items = vec![item];
        self
    }
}

/// A piece of work that waits, or is being run.
#[derive(Debug)]
struct Item {
    work: Work,
    after: Vec<u64>,
    /// What is done when it is done, for a function of the host.
    point: Option<Point>,
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
    /// What is done when a function of the host is called.
    pub point: Option<Point>,
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
    /// After the item that was queued last.
    point: Point,
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
        let item = Item { work, after, point: None, is_running: false, primary, own };
        self.items.insert(self.next, item);
        self.next
    }

    /// What the stream's next item comes after, and others.
    fn before(&self, place: Place, also: &[Point]) -> Point {
        let mut before: Vec<&Point> = also.iter().collect();
        before.extend(self.tails.get(&place.stream).map(|tail| &tail.point));
        match place.stream {
            StreamKey::Legacy => {
                let blocking = self.tails.values().filter(|tail| tail.is_blocking);
                before.extend(blocking.map(|tail| &tail.point));
            }
            StreamKey::Numbered(_) if !place.is_non_blocking => {
                before.extend(self.tails.get(&StreamKey::Legacy).map(|tail| &tail.point));
            }
            StreamKey::Numbered(_) => {}
        }
        Point::after(&before)
    }

    /// Makes an item the last one of its stream. A launch in a stream that waited for another stream is not one that
    /// the next launch may overlap.
    fn append(&mut self, place: Place, point: Point, kernel: Option<Slot>) {
        let is_legacy = place.stream == StreamKey::Legacy;
        if is_legacy {
            // What is done of the others is before this one, and so before what comes after it in the others.
            let items = &self.items;
            self.tails.retain(|_, tail| {
                !tail.is_blocking || tail.point.items.iter().any(|id| items.contains_key(id))
            });
            self.tails.values_mut().filter(|tail| tail.is_blocking).for_each(Tail::forget);
        } else if !place.is_non_blocking
            && let Some(legacy) = self.tails.get_mut(&StreamKey::Legacy)
        {
            legacy.forget();
        }
        let is_blocking = !is_legacy && !place.is_non_blocking;
        self.tails.insert(place.stream, Tail { point, kernel, is_blocking });
    }

    /// Takes work at the end of a stream, and after other points.
    pub fn push(&mut self, place: Place, work: Work, also_after: &[Point]) -> Point {
        let before = self.before(place, also_after);
        let ahead = self.tails.get(&place.stream).and_then(|tail| tail.kernel.clone());
        let primary = match work {
            Work::Launch { programmatic: true, .. } => ahead.clone(),
            _ => None,
        };
        // An event that is recorded holds up nothing.
        let passes = matches!(work, Work::Mark(_));
        let is_host = matches!(work, Work::Host(_));
        let id = self.insert(work, before.items.clone(), primary);
        let point = before.at(place.stream, id);
        let mut own = None;
        if let Some(item) = self.items.get_mut(&id) {
            item.point = is_host.then(|| point.clone());
            own = item.own.clone();
        }
        self.append(place, point.clone(), if passes { ahead } else { own });
        point
    }

    /// Takes the nodes of a graph; gives the point after all of them.
    pub fn push_graph(&mut self, place: Place, nodes: &[Node], also_after: &[Point]) -> Point {
        let before = self.before(place, also_after);
        let start = self.insert(Work::Empty, before.items.clone(), None);
        let mut ids: Vec<u64> = Vec::with_capacity(nodes.len());
        for node in nodes {
            let ahead: Vec<u64> =
                node.after.iter().filter_map(|index| ids.get(*index).copied()).collect();
            let primary = match (&node.work, ahead.as_slice()) {
                (Work::Launch { programmatic: true, .. }, [one]) => {
                    self.items.get(one).and_then(|item| item.own.clone())
                }
                _ => None,
            };
            let after = if ahead.is_empty() { vec![start] } else { ahead };
            ids.push(self.insert(node.work.clone(), after, primary));
        }
        ids.push(start);
        let point = before.at(place.stream, self.insert(Work::Empty, ids, None));
        self.append(place, point.clone(), None);
        point
    }

    /// All that a stream has to do. The legacy stream waits for the others, as what is queued there would.
    pub fn of_stream(&self, place: Place) -> Point {
        match place.stream {
            StreamKey::Legacy => self.before(place, &[]),
            StreamKey::Numbered(_) => {
                self.tails.get(&place.stream).map(|tail| tail.point.clone()).unwrap_or_default()
            }
        }
    }

    /// All that there is to do.
    pub fn all(&self) -> Point {
        let tails: Vec<&Point> = self.tails.values().map(|tail| &tail.point).collect();
        Point::after(&tails)
    }

    /// The host has seen that a point was reached: what is launched now overlaps nothing before it.
    pub fn seen(&mut self, point: &Point) {
        for (stream, tail) in &mut self.tails {
            let last = tail.point.clock.get(stream);
            if last <= point.clock.get(stream) {
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
        let (primary, own, point) = (item.primary.take(), item.own.clone(), item.point.take());
        let work = item.work.clone();
        self.is_device_busy |= work.is_of_device();
        Next::Run(Box::new(Taken { id, work, primary, own, point }))
    }
}

impl Tail {
    fn forget(&mut self) {
        self.kernel = None;
    }
}
