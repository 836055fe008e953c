//! Programmatic dependent launch: what a launch that may begin before those ahead of it have ended must leave alone.
//!
//! Launches run one after the other. Each leaves a record of the bytes that it read and wrote, and a dependent launch is
//! held against it: the dependent may begin when all thread blocks have executed `griddepcontrol.launch_dependents` or
//! ended, and even if they have ended what they wrote need not be visible yet. In each of the dependent's clusters the
//! launches before it count as incomplete until a `griddepcontrol.wait` is over, and that is as late as can be: when
//! nothing in the cluster can go on without it. What is accessed until then is not ordered after the wait, whatever
//! warp waited, and may not touch what a launch ahead wrote, nor write what it read. Values play no part, so it does
//! not matter that those ahead have, in fact, ended.
//!
//! The wait is for the whole grid: a cluster that reads what another one of its launch wrote after a wait is past
//! it as well.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::Launch;
use super::byte_set::ByteSet;
use crate::fault::{Fault, FaultKind, Result};

/// How memory is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An atomic operation.
    Update,
}

/// Bytes of an allocation.
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    /// Which allocation.
    pub id: u64,
    /// How many it has.
    pub all: u64,
    /// Where these are.
    pub address: u64,
    /// The same within the allocation.
    pub offset: u64,
    /// How many these are.
    pub bytes: u64,
}

/// What a launch did to an allocation.
#[derive(Debug)]
struct Touched {
    read: ByteSet,
    written: ByteSet,
    /// Written in a cluster that was past its wait.
    written_after: ByteSet,
}

impl Touched {
    fn new(bytes: u64) -> Option<Self> {
        let set = || ByteSet::new(bytes);
        Some(Self { read: set()?, written: set()?, written_after: set()? })
    }
}

/// What a launch did to memory, and to the order of launches.
#[derive(Debug, Default)]
pub struct Record {
    kernel: String,
    touched: RwLock<HashMap<u64, Arc<Touched>>>,
    /// A thread block let dependents begin before its end: they may begin while this launch reads.
    early: AtomicBool,
    /// One did so, or ended, only after a wait: dependents begin when those ahead of this launch have ended.
    closed: AtomicBool,
    /// A wait was over: this launch ends after those ahead of it.
    waited: AtomicBool,
}

impl Record {
    fn touched(&self, id: u64) -> Option<Arc<Touched>> {
        self.touched.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    fn touch(&self, bytes: &Bytes) -> Result<Arc<Touched>> {
        if let Some(known) = self.touched(bytes.id) {
            return Ok(known);
        }
        let new = Touched::new(bytes.all).ok_or_else(|| {
            let message = format!("the host has no memory to note accesses to {} bytes", bytes.all);
            Fault::new(FaultKind::Launch, message)
        })?;
        let mut all = self.touched.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(all.entry(bytes.id).or_insert_with(|| Arc::new(new))))
    }
}

/// Launches that may not have ended when a dependent one begins.
#[derive(Clone, Debug, Default)]
pub struct Unfinished {
    at_start: Vec<Arc<Record>>,
    /// Of these, the ones that its wait does not wait for, either.
    after_wait: Vec<Arc<Record>>,
}

/// A launch among those ahead of it.
#[derive(Debug)]
pub struct Dependence {
    own: Arc<Record>,
    before: Unfinished,
}

impl Dependence {
    /// A launch that may begin before others have ended.
    pub fn new(launch: &Launch, before: &Unfinished) -> Self {
        let own = Record { kernel: launch.kernel.name.clone(), ..Record::default() };
        Self { own: Arc::new(own), before: before.clone() }
    }

    /// Whether all before it has ended when it begins.
    pub fn is_complete_at_start(&self) -> bool {
        self.before.at_start.is_empty()
    }

    /// Runs a turn of a cluster, in which the launches ahead may be complete already, and may become so.
    pub fn turn<R>(self: &Arc<Self>, complete: &mut bool, work: impl FnOnce() -> R) -> R {
        let watch = Watch { dependence: Arc::clone(self), complete: *complete, last: None };
        CURRENT.set(Some(watch));
        WATCHED.set(true);
        let result = work();
        WATCHED.set(false);
        if let Some(watch) = CURRENT.take() {
            *complete = watch.complete;
        }
        result
    }

    /// After its end: what may not have ended when one that depends on it begins.
    pub fn end(&self) -> Unfinished {
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        let mut at_start = vec![Arc::clone(&self.own)];
        if !is(&self.own.closed) {
            at_start.extend(self.before.at_start.iter().cloned());
        }
        let waited = is(&self.own.waited);
        let after_wait = if waited { &self.before.after_wait } else { &self.before.at_start };
        Unfinished { at_start, after_wait: after_wait.clone() }
    }
}

/// What a thread of the host executes now.
#[derive(Debug)]
struct Watch {
    dependence: Arc<Dependence>,
    /// The launches ahead are complete for the cluster.
    complete: bool,
    /// The allocation that was accessed last.
    last: Option<(u64, Arc<Touched>)>,
}

thread_local! {
    static CURRENT: RefCell<Option<Watch>> = const { RefCell::new(None) };
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

/// All access to global memory comes through here, whatever instruction it is for.
pub fn note(access: Access, bytes: Bytes) -> Result<()> {
    if !WATCHED.get() {
        return Ok(());
    }
    with(Ok(()), |watch| watch.note(access, &bytes))
}

/// Whether the launches ahead are complete.
pub fn is_complete() -> bool {
    with(true, |watch| watch.complete)
}

/// `griddepcontrol.wait` is over.
pub fn wait_is_over() {
    with((), |watch| {
        watch.complete = true;
        watch.dependence.own.waited.store(true, Ordering::Relaxed);
    });
}

/// The first `griddepcontrol.launch_dependents` of a thread block.
pub fn launch_dependents() {
    with((), |watch| watch.dependence.own.early.store(true, Ordering::Relaxed));
    ended();
}

/// A thread block ended, or let dependents begin.
pub fn ended() {
    with((), |watch| {
        if watch.complete {
            watch.dependence.own.closed.store(true, Ordering::Relaxed);
        }
    });
}

fn with<R>(otherwise: R, act: impl FnOnce(&mut Watch) -> R) -> R {
    CURRENT.with_borrow_mut(|current| match current {
        Some(watch) => act(watch),
        None => otherwise,
    })
}

impl Watch {
    fn note(&mut self, access: Access, bytes: &Bytes) -> Result<()> {
        let (reads, writes) = (access != Access::Write, access != Access::Read);
        let before = &self.dependence.before;
        let unfinished = if self.complete { &before.after_wait } else { &before.at_start };
        for record in unfinished {
            let Some(touched) = record.touched(bytes.id) else { continue };
            let (offset, count) = (bytes.offset, bytes.bytes);
            if let Some(at) = touched.written.first(offset, count) {
                return Err(self.fault(record, access, bytes, at, "writes"));
            }
            let may_read = record.early.load(Ordering::Relaxed);
            if writes
                && may_read
                && let Some(at) = touched.read.first(offset, count)
            {
                return Err(self.fault(record, access, bytes, at, "reads"));
            }
        }
        let own = match &self.last {
            Some((id, touched)) if *id == bytes.id => touched,
            _ => {
                let touched = self.dependence.own.touch(bytes)?;
                &self.last.insert((bytes.id, touched)).1
            }
        };
        let is_dependent = !before.at_start.is_empty();
        if reads {
            own.read.insert(bytes.offset, bytes.bytes);
            self.complete |= own.written_after.first(bytes.offset, bytes.bytes).is_some();
        }
        if writes {
            own.written.insert(bytes.offset, bytes.bytes);
            if is_dependent && self.complete {
                own.written_after.insert(bytes.offset, bytes.bytes);
            }
        }
        Ok(())
    }

    fn fault(&self, ahead: &Record, access: Access, bytes: &Bytes, at: u64, does: &str) -> Fault {
        let what = match access {
            Access::Read => "a read",
            Access::Write => "a write",
            Access::Update => "an atomic operation",
        };
        let why = if self.complete {
            "griddepcontrol.wait is over, but a launch between did not wait for that one"
        } else {
            "it is not ordered after a griddepcontrol.wait"
        };
        let message = format!(
            "{what} of {} bytes of global memory at {:#x}, of which the launch of {} before this one {does} {:#x} \
             (byte {at} of an allocation of {}) and may not have ended: {why}",
            bytes.bytes,
            bytes.address,
            ahead.kernel,
            bytes.address - bytes.offset + at,
            bytes.all
        );
        Fault::new(FaultKind::GridDependency, message)
    }
}
