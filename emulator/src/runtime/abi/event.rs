//! Events. Their times are those of the host's clock, and say how long the emulator took.

use super::{calls, queued};
use crate::runtime::code::Code;
use crate::runtime::module::lock;
use crate::runtime::pointer::Out;
use crate::runtime::refusal::Outcome;
use crate::runtime::state::Runtime;
use crate::runtime::stream::EventState;

/// cudaEventBlockingSync, cudaEventDisableTiming, cudaEventInterprocess
const FLAGS: u32 = 7;
const DISABLE_TIMING: u32 = 2;
const INTERPROCESS: u32 = 4;

fn create(runtime: &Runtime, event: Out<u64>, flags: u32) -> Outcome {
    if event.is_null() || flags & !FLAGS != 0 {
        return Err(Code::INVALID_VALUE.into());
    }
    if flags & INTERPROCESS != 0 {
        return Err(Code::NOT_SUPPORTED.because("events of several processes"));
    }
    event.set(lock(&runtime.streams).create_event(flags & DISABLE_TIMING == 0))
}

/// Waits for an event, or asks whether it is done.
fn look(runtime: &Runtime, event: u64, waits: bool) -> Outcome {
    let event = lock(&runtime.streams).check_event(event)?;
    runtime.check_unsafe()?;
    runtime.look_at_event(&event.state, waits)
}

calls! {
    cudaEventCreate(event: Out<u64>) |runtime| create(runtime, event, 0);

    cudaEventCreateWithFlags(event: Out<u64>, flags: u32) |runtime| create(runtime, event, flags);

    cudaEventDestroy(event: u64) |runtime| lock(&runtime.streams).destroy_event(event);

    cudaEventQuery(event: u64) |runtime| look(runtime, event, false);

    cudaEventSynchronize(event: u64) |runtime| look(runtime, event, true);

    cudaEventElapsedTime(milliseconds: Out<f32>, start: u64, end: u64) |runtime| {
        let mut streams = lock(&runtime.streams);
        let (start, end) = (streams.check_event(start)?, streams.check_event(end)?);
        let (EventState::Recorded { time: from, .. }, EventState::Recorded { time: to, .. }) =
            (start.state, end.state)
        else {
            return Err(Code::INVALID_RESOURCE_HANDLE.into());
        };
        if !start.timing || !end.timing {
            return Err(Code::INVALID_RESOURCE_HANDLE.into());
        }
        let (Some(from), Some(to)) = (from.get(), to.get()) else {
            return Err(Code::NOT_READY.into());
        };
        let seconds = if to >= from {
            (to - from).as_secs_f64()
        } else {
            -(from - to).as_secs_f64()
        };
        milliseconds.set((seconds * 1e3) as f32)
    };
}

queued! {
    cudaEventRecord / cudaEventRecord_ptsz(event: u64, stream: u64) stream => |runtime, key| {
        runtime.record(event, key)
    }

    cudaEventRecordWithFlags / cudaEventRecordWithFlags_ptsz(
        event: u64, stream: u64, flags: u32,
    ) stream => |runtime, key| {
        if flags != 0 {
            return Err(Code::NOT_SUPPORTED.because("flags other than 0 are not implemented"));
        }
        runtime.record(event, key)
    }
}
