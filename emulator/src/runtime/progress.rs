//! Running what is queued: when, in whose thread, and what a failure does to the rest.
//!
//! The schedule of streams decides. `eager`: at once, before the call that queues it returns. `lazy`: when something waits
//! for it, and no sooner. `random`: any that may run, now and then when something is queued, and when something waits.
//! Whoever asks whether work is done has a piece of it run, so that asking again and again comes to an end.

use std::cell::Cell;
use std::panic::catch_unwind;

use super::code::Code;
use super::module::lock;
use super::pointer::{HostFunction, at_exit};
use super::queue::{Next, Point, Taken};
use super::refusal::{Outcome, say};
use super::state::Runtime;
use super::stream::{EventState, Node, StreamKey};
use super::work::{Recorded, Work};
use crate::execute;
use crate::fault::{Fault, FaultKind, Result};
use crate::machine::Launch;
use crate::machine::dependence::Unfinished;
use crate::report;
use crate::settings::Schedule;

thread_local! {
    static IN_HOST_FUNCTION: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in a function that a stream called.
pub fn is_in_host_function() -> bool {
    IN_HOST_FUNCTION.get()
}

fn call_host(function: &HostFunction, code: Code) {
    IN_HOST_FUNCTION.set(true);
    function.call(code);
    IN_HOST_FUNCTION.set(false);
}

impl Runtime {
    /// Queues work, or takes it into the stream's capture. Gives the point after it.
    pub fn enqueue(&self, stream: StreamKey, work: Work) -> Outcome<Option<Point>> {
        let point = {
            let mut streams = lock(&self.streams);
            let Some(work) = streams.submit(stream, work)? else { return Ok(None) };
            let place = streams.place(stream)?;
            let work = if self.is_eager() { work } else { work.staged() };
            lock(&self.queue).push(place, work, &[])
        };
        self.was_queued(&point);
        Ok(Some(point))
    }

    /// cudaEventRecord
    pub fn record(&self, event: u64, stream: StreamKey) -> Outcome {
        let point = {
            let mut streams = lock(&self.streams);
            if !streams.record(event, stream)? {
                return Ok(());
            }
            let place = streams.place(stream)?;
            let time = Recorded::default();
            let point = lock(&self.queue).push(place, Work::Mark(time.clone()), &[]);
            streams.recorded(event, EventState::Recorded { point: point.clone(), time });
            point
        };
        self.was_queued(&point);
        Ok(())
    }

    /// cudaStreamWaitEvent
    pub fn wait_event(&self, stream: StreamKey, event: u64) -> Outcome {
        let point = {
            let mut streams = lock(&self.streams);
            let Some(event) = streams.wait(stream, event)? else { return Ok(()) };
            let place = streams.place(stream)?;
            lock(&self.queue).push(place, Work::Empty, &[event])
        };
        self.was_queued(&point);
        Ok(())
    }

    /// cudaGraphLaunch: after the launches of the same executable graph before it.
    pub fn launch_graph(&self, stream: StreamKey, executable: u64) -> Outcome {
        let point = {
            let mut streams = lock(&self.streams);
            streams.check_not_captured(stream)?;
            let place = streams.place(stream)?;
            let graph = streams.executable(executable)?;
            let nodes: &[Node] = &graph.nodes;
            let mut last = lock(&graph.last);
            let point = lock(&self.queue).push_graph(place, nodes, last.as_slice());
            *last = Some(point.clone());
            point
        };
        self.was_queued(&point);
        Ok(())
    }

    fn is_eager(&self) -> bool {
        self.machine.settings.streams == Schedule::Eager
    }

    fn was_queued(&self, point: &Point) {
        match self.machine.settings.streams {
            Schedule::Eager => self.finish(point),
            Schedule::Lazy => {}
            // How many depends on the seed, so that seeds cover both extremes.
            Schedule::Random => {
                let most = (self.machine.settings.seed % 4) as usize;
                let count = lock(&self.queue).random.below(1 + most);
                for _ in 0..count {
                    let next = lock(&self.queue).next_of_all();
                    if let Next::Run(taken) = next {
                        self.run(*taken);
                    }
                }
            }
        }
    }

    /// Runs work until a point is reached.
    fn finish(&self, goal: &Point) {
        let mut queue = lock(&self.queue);
        loop {
            match queue.next(&goal.items) {
                Next::Done => return,
                Next::Run(taken) => {
                    drop(queue);
                    self.run(*taken);
                    queue = lock(&self.queue);
                }
                Next::Busy => {
                    queue =
                        self.moved.wait(queue).unwrap_or_else(std::sync::PoisonError::into_inner);
                }
            }
        }
    }

    /// Waits, as the host.
    pub fn wait_for(&self, goal: &Point) -> Outcome {
        self.finish(goal);
        lock(&self.queue).seen(goal);
        self.check()
    }

    /// cudaStreamSynchronize
    pub fn synchronize(&self, stream: StreamKey) -> Outcome {
        let place = lock(&self.streams).place(stream)?;
        let goal = lock(&self.queue).of_stream(place);
        self.wait_for(&goal)
    }

    /// cudaDeviceSynchronize
    pub fn synchronize_all(&self) -> Outcome {
        let goal = lock(&self.queue).all();
        self.wait_for(&goal)
    }

    /// cudaStreamQuery
    pub fn query_stream(&self, stream: StreamKey) -> Outcome {
        let place = lock(&self.streams).place(stream)?;
        let goal = lock(&self.queue).of_stream(place);
        self.poll(&goal)
    }

    /// cudaEventSynchronize, cudaEventQuery
    pub fn look_at_event(&self, state: &EventState, waits: bool) -> Outcome {
        match state {
            EventState::Recorded { point, .. } if waits => self.wait_for(point),
            EventState::Recorded { point, .. } => self.poll(point),
            _ => Ok(()),
        }
    }

    /// Fails unless a point is reached, but not forever.
    fn poll(&self, goal: &Point) -> Outcome {
        let next = lock(&self.queue).next(&goal.items);
        let mut is_done = matches!(next, Next::Done);
        match next {
            Next::Done => {}
            Next::Run(taken) => self.run(*taken),
            // The thread that runs it goes on meanwhile.
            Next::Busy => std::thread::yield_now(),
        }
        self.check()?;
        let mut queue = lock(&self.queue);
        is_done |= self.machine.settings.streams == Schedule::Random && !queue.has_any(&goal.items);
        if !is_done {
            return Err(Code::NOT_READY.into());
        }
        queue.seen(goal);
        Ok(())
    }

    fn run(&self, taken: Taken) {
        let outcome = match taken.work {
            Work::Launch { launch, .. } => {
                let before = taken.primary.as_ref().and_then(|slot| slot.get());
                self.launch(&launch, before).map(|unfinished| {
                    if let Some(own) = taken.own {
                        let _ = own.set(unfinished);
                    }
                })
            }
            Work::Copy(copy) => copy.run(&self.machine),
            Work::Fill(fill) => fill.run(&self.machine),
            Work::Host(function) => {
                // It may tell the rest of the program.
                if let Some(point) = taken.point {
                    lock(&self.queue).seen(&point);
                }
                call_host(&function, Code::SUCCESS);
                Ok(())
            }
            Work::Mark(time) => {
                time.set();
                Ok(())
            }
            Work::Publish(allocation) => {
                self.machine.memory.publish(allocation);
                Ok(())
            }
            Work::Free(address) => match self.machine.memory.free(address) {
                true => Ok(()),
                false => {
                    let message = format!(
                        "memory at {address:#x} is given back before it is made: nothing orders the two"
                    );
                    Err(Fault::new(FaultKind::OutOfBounds, message))
                }
            },
            Work::Empty => Ok(()),
        };
        if let Err(fault) = outcome {
            say(&fault);
            self.fail(failure_code(&fault));
        }
        lock(&self.queue).done(taken.id);
        self.moved.notify_all();
    }

    /// Makes all later calls fail. Nothing that is queued runs any more; callbacks are told.
    pub fn fail(&self, code: Code) {
        lock(&self.failure).get_or_insert(code);
        let abandoned = lock(&self.queue).abandon();
        for work in abandoned {
            if let Work::Host(function) = work
                && function.wants_failures()
            {
                call_host(&function, code);
            }
        }
        self.moved.notify_all();
    }

    fn launch(&self, launch: &Launch, before: Option<&Unfinished>) -> Result<Unfinished> {
        if self.machine.settings.trace >= 1 {
            say(format_args!(
                "launch {} grid {:?} block {:?} cluster {:?} dynamic shared {}",
                launch.kernel.name,
                launch.grid,
                launch.block,
                launch.cluster,
                launch.dynamic_shared
            ));
        }
        let nothing = Unfinished::default();
        let (counters, unfinished) =
            execute::launch_after(&self.machine, launch, before.unwrap_or(&nothing))?;
        if report::note(&self.machine.settings, launch, &counters) {
            at_exit(print_report);
        }
        Ok(unfinished)
    }
}

/// What the calls after a failed kernel give.
fn failure_code(fault: &Fault) -> Code {
    match fault.kind {
        FaultKind::OutOfBounds => Code::ILLEGAL_ADDRESS,
        FaultKind::Misaligned => Code::MISALIGNED_ADDRESS,
        FaultKind::Trap => Code::ASSERT,
        FaultKind::Steps => Code::LAUNCH_TIMEOUT,
        _ => Code::LAUNCH_FAILURE,
    }
}

/// What `EMULATOR_REPORT=-` asks for.
extern "C" fn print_report() {
    let _ = catch_unwind(|| eprint!("{}", report::noted()));
}
