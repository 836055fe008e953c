//! Streams and captures.

use super::{calls, queries, queued};
use crate::runtime::code::Code;
use crate::runtime::device::PRIORITIES;
use crate::runtime::module::lock;
use crate::runtime::pointer::{HostFunction, Memory, Out};
use crate::runtime::refusal::Outcome;
use crate::runtime::state::{Runtime, exchange_mode};
use crate::runtime::stream::{Mode, StreamKey};
use crate::runtime::work::Work;

/// cudaStreamNonBlocking
const NON_BLOCKING: u32 = 1;

fn create(runtime: &Runtime, stream: Out<u64>, flags: u32, priority: i32) -> Outcome {
    if stream.is_null() || flags & !NON_BLOCKING != 0 {
        return Err(Code::INVALID_VALUE.into());
    }
    let [lowest, highest] = PRIORITIES;
    let priority = priority.clamp(highest, lowest);
    stream.set(lock(&runtime.streams).create(flags & NON_BLOCKING != 0, priority))
}

calls! {
    cudaStreamCreate(stream: Out<u64>) |runtime| create(runtime, stream, 0, 0);

    cudaStreamCreateWithFlags(stream: Out<u64>, flags: u32) |runtime| {
        create(runtime, stream, flags, 0)
    };

    cudaStreamCreateWithPriority(stream: Out<u64>, flags: u32, priority: i32) |runtime| {
        create(runtime, stream, flags, priority)
    };

    cudaStreamDestroy(stream: u64) |runtime| lock(&runtime.streams).destroy(stream);
}

queries! {
    cudaThreadExchangeStreamCaptureMode(mode: Out<u32>) |_| {
        let before = exchange_mode(Mode::new(mode.get()?)?);
        mode.set(before as u32)
    };
}

/// `cudaStreamCallback_t`
type Callback = extern "C" fn(u64, Code, Memory);

queued! {
    cudaStreamGetPriority / cudaStreamGetPriority_ptsz(stream: u64, priority: Out<i32>) stream =>
        |runtime, key| {
            priority.set(lock(&runtime.streams).stream(key)?.priority)
        }

    cudaStreamGetFlags / cudaStreamGetFlags_ptsz(stream: u64, flags: Out<u32>) stream =>
        |runtime, key| {
            flags.set(u32::from(lock(&runtime.streams).stream(key)?.non_blocking))
        }

    cudaStreamGetId / cudaStreamGetId_ptsz(stream: u64, id: Out<u64>) stream => |runtime, key| {
        lock(&runtime.streams).stream(key)?;
        id.set(match key {
            StreamKey::Legacy => 1,
            StreamKey::Numbered(handle) => handle,
        })
    }

    cudaStreamGetDevice / cudaStreamGetDevice_ptsz(stream: u64, device: Out<i32>) stream =>
        |runtime, key| {
            lock(&runtime.streams).stream(key)?;
            device.set(0)
        }

    cudaStreamSynchronize / cudaStreamSynchronize_ptsz(stream: u64) stream => |runtime, key| {
        let waits = lock(&runtime.streams).check_not_captured(key);
        waits?;
        runtime.check_unsafe()?;
        runtime.synchronize(key)
    }

    cudaStreamQuery / cudaStreamQuery_ptsz(stream: u64) stream => |runtime, key| {
        let waits = lock(&runtime.streams).check_not_captured(key);
        waits?;
        runtime.check_unsafe()?;
        runtime.query_stream(key)
    }

    cudaStreamWaitEvent / cudaStreamWaitEvent_ptsz(stream: u64, event: u64, flags: u32) stream =>
        |runtime, key| {
            if flags != 0 {
                return Err(Code::NOT_SUPPORTED.because("flags other than 0 are not implemented"));
            }
            runtime.wait_event(key, event)
        }

    cudaStreamBeginCapture / cudaStreamBeginCapture_ptsz(stream: u64, mode: u32) stream =>
        |runtime, key| {
            runtime.begin_capture(key, Mode::new(mode)?)
        }

    cudaStreamEndCapture / cudaStreamEndCapture_ptsz(stream: u64, graph: Out<u64>) stream =>
        |runtime, key| {
            if graph.is_null() {
                return Err(Code::INVALID_VALUE.into());
            }
            graph.set(0)?;
            graph.set(runtime.end_capture(key)?)
        }

    cudaStreamIsCapturing / cudaStreamIsCapturing_ptsz(stream: u64, status: Out<u32>) stream =>
        |runtime, key| {
            status.set(lock(&runtime.streams).status(key)?)
        }

    cudaStreamGetCaptureInfo / cudaStreamGetCaptureInfo_ptsz(
        stream: u64, status: Out<u32>, id: Out<u64>, graph: Out<u64>, dependencies: Out<u64>,
        edges: Out<u64>, count: Out<u64>,
    ) stream => |runtime, key| {
        let streams = lock(&runtime.streams);
        status.set(streams.status(key)?)?;
        id.set_if_wanted(streams.capture_id(key)?.unwrap_or(0));
        if [graph, dependencies, edges, count].iter().any(|wanted| !wanted.is_null()) {
            return Err(Code::NOT_SUPPORTED.because("the graph of a capture is not shown"));
        }
        Ok(())
    }

    cudaLaunchHostFunc / cudaLaunchHostFunc_ptsz(
        stream: u64, function: Option<extern "C" fn(Memory)>, argument: Memory,
    ) stream => |runtime, key| {
        let function = function.ok_or(Code::INVALID_VALUE)?;
        runtime.enqueue(key, Work::Host(HostFunction::Function(function, argument))).map(drop)
    }

    cudaStreamAddCallback / cudaStreamAddCallback_ptsz(
        stream: u64, callback: Option<Callback>, argument: Memory, flags: u32,
    ) stream => |runtime, key| {
        lock(&runtime.streams).check_not_captured(key)?;
        let Some(callback) = callback.filter(|_| flags == 0) else {
            return Err(Code::INVALID_VALUE.into());
        };
        let function = HostFunction::Callback(callback, stream, argument);
        runtime.enqueue(key, Work::Host(function)).map(drop)
    }
}
