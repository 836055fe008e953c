//! Copies and fills.

use super::device::only;
use super::queued;
use crate::runtime::code::Code;
use crate::runtime::copy::{Copy, Direction, Fill, Shape};
use crate::runtime::module::lock;
use crate::runtime::pointer::Memory;
use crate::runtime::refusal::Outcome;
use crate::runtime::state::Runtime;
use crate::runtime::stream::StreamKey;
use crate::runtime::work::Work;

type Rows = (Memory, u64);

fn copy(
    runtime: &Runtime,
    stream: StreamKey,
    to: Rows,
    from: Rows,
    shape: Shape,
    kind: u32,
) -> Outcome {
    let direction = Direction::new(kind)?;
    let copy = Copy::new(&lock(&runtime.memory), to, from, shape, direction)?;
    let waits = copy.as_ref().is_some_and(Copy::is_within_host);
    queue(runtime, stream, copy.map_or(Work::Empty, Work::Copy), waits)
}

/// Queues work, and has it done if the call `waits`.
fn queue(runtime: &Runtime, stream: StreamKey, work: Work, waits: bool) -> Outcome {
    match runtime.enqueue(stream, work)? {
        Some(point) if waits => runtime.wait_for(&point),
        _ => Ok(()),
    }
}

/// Copies that wait: their stream must not be captured. They are no unsafe calls, as an H100 showed.
fn copy_now(
    runtime: &Runtime,
    stream: StreamKey,
    to: Rows,
    from: Rows,
    shape: Shape,
    kind: u32,
) -> Outcome {
    lock(&runtime.streams).check_not_captured(stream)?;
    let direction = Direction::new(kind)?;
    let copy = Copy::new(&lock(&runtime.memory), to, from, shape, direction)?;
    if copy.as_ref().is_some_and(Copy::is_from_pageable) {
        runtime.synchronize(stream)?;
    }
    let waits = copy.as_ref().is_some_and(Copy::waits);
    queue(runtime, stream, copy.map_or(Work::Empty, Work::Copy), waits)
}

fn fill(runtime: &Runtime, stream: StreamKey, to: Rows, value: i32, shape: Shape) -> Outcome {
    let fill = Fill::new(&lock(&runtime.memory), to.0, to.1, value, shape)?;
    queue(runtime, stream, fill.map_or(Work::Empty, Work::Fill), false)
}

/// Fills of names without Async, which wait where the host can see the memory.
fn fill_now(runtime: &Runtime, stream: StreamKey, to: Rows, value: i32, shape: Shape) -> Outcome {
    let fill = Fill::new(&lock(&runtime.memory), to.0, to.1, value, shape)?;
    let waits = fill.as_ref().is_some_and(Fill::waits);
    queue(runtime, stream, fill.map_or(Work::Empty, Work::Fill), waits)
}

/// A part of a variable of the device, checked.
fn symbol(runtime: &Runtime, shadow: Memory, offset: u64, bytes: u64) -> Outcome<Memory> {
    let (address, size) = runtime.variable(shadow.address())?;
    if offset.checked_add(bytes).is_none_or(|end| end > size) {
        let words = format!("{bytes} bytes at {offset} of a variable of {size}");
        return Err(Code::INVALID_VALUE.because(words));
    }
    Ok(Memory::at(address + offset))
}

/// Directions that a copy to, or from, a variable can have.
fn symbol_kind(kind: u32, allowed: [u32; 2]) -> Outcome {
    if kind == 4 || allowed.contains(&kind) {
        return Ok(());
    }
    Err(Code::INVALID_MEMCPY_DIRECTION.into())
}

queued! {
    cudaMemcpy / cudaMemcpy_ptds(to: Memory, from: Memory, bytes: u64, kind: u32) 0 =>
        |runtime, stream| {
            copy_now(runtime, stream, (to, bytes), (from, bytes), Shape::line(bytes), kind)
        }

    cudaMemcpyAsync / cudaMemcpyAsync_ptsz(
        to: Memory, from: Memory, bytes: u64, kind: u32, stream: u64,
    ) stream => |runtime, key| {
        copy(runtime, key, (to, bytes), (from, bytes), Shape::line(bytes), kind)
    }

    cudaMemcpy2D / cudaMemcpy2D_ptds(
        to: Memory, to_pitch: u64, from: Memory, from_pitch: u64, width: u64, rows: u64, kind: u32,
    ) 0 => |runtime, stream| {
        copy_now(runtime, stream, (to, to_pitch), (from, from_pitch), Shape { width, rows }, kind)
    }

    cudaMemcpy2DAsync / cudaMemcpy2DAsync_ptsz(
        to: Memory, to_pitch: u64, from: Memory, from_pitch: u64, width: u64, rows: u64, kind: u32,
        stream: u64,
    ) stream => |runtime, key| {
        copy(runtime, key, (to, to_pitch), (from, from_pitch), Shape { width, rows }, kind)
    }

    cudaMemset / cudaMemset_ptds(to: Memory, value: i32, bytes: u64) 0 => |runtime, stream| {
        fill_now(runtime, stream, (to, bytes), value, Shape::line(bytes))
    }

    cudaMemsetAsync / cudaMemsetAsync_ptsz(to: Memory, value: i32, bytes: u64, stream: u64) stream =>
        |runtime, key| {
            fill(runtime, key, (to, bytes), value, Shape::line(bytes))
        }

    cudaMemset2D / cudaMemset2D_ptds(
        to: Memory, pitch: u64, value: i32, width: u64, rows: u64,
    ) 0 => |runtime, stream| {
        fill_now(runtime, stream, (to, pitch), value, Shape { width, rows })
    }

    cudaMemset2DAsync / cudaMemset2DAsync_ptsz(
        to: Memory, pitch: u64, value: i32, width: u64, rows: u64, stream: u64,
    ) stream => |runtime, key| {
        fill(runtime, key, (to, pitch), value, Shape { width, rows })
    }

    cudaMemcpyToSymbol / cudaMemcpyToSymbol_ptds(
        shadow: Memory, from: Memory, bytes: u64, offset: u64, kind: u32,
    ) 0 => |runtime, stream| {
        symbol_kind(kind, [1, 3])?;
        let to = symbol(runtime, shadow, offset, bytes)?;
        copy_now(runtime, stream, (to, bytes), (from, bytes), Shape::line(bytes), kind)
    }

    cudaMemcpyToSymbolAsync / cudaMemcpyToSymbolAsync_ptsz(
        shadow: Memory, from: Memory, bytes: u64, offset: u64, kind: u32, stream: u64,
    ) stream => |runtime, key| {
        symbol_kind(kind, [1, 3])?;
        let to = symbol(runtime, shadow, offset, bytes)?;
        copy(runtime, key, (to, bytes), (from, bytes), Shape::line(bytes), kind)
    }

    cudaMemcpyFromSymbol / cudaMemcpyFromSymbol_ptds(
        to: Memory, shadow: Memory, bytes: u64, offset: u64, kind: u32,
    ) 0 => |runtime, stream| {
        symbol_kind(kind, [2, 3])?;
        let from = symbol(runtime, shadow, offset, bytes)?;
        copy_now(runtime, stream, (to, bytes), (from, bytes), Shape::line(bytes), kind)
    }

    cudaMemcpyFromSymbolAsync / cudaMemcpyFromSymbolAsync_ptsz(
        to: Memory, shadow: Memory, bytes: u64, offset: u64, kind: u32, stream: u64,
    ) stream => |runtime, key| {
        symbol_kind(kind, [2, 3])?;
        let from = symbol(runtime, shadow, offset, bytes)?;
        copy(runtime, key, (to, bytes), (from, bytes), Shape::line(bytes), kind)
    }
}

super::calls! {
    cudaMemcpyPeer(to: Memory, to_device: i32, from: Memory, from_device: i32, bytes: u64) |runtime| {
        only(to_device)?;
        only(from_device)?;
        let stream = runtime.stream(0, false);
        copy_now(runtime, stream, (to, bytes), (from, bytes), Shape::line(bytes), 3)
    };

    cudaMemcpyPeerAsync(
        to: Memory, to_device: i32, from: Memory, from_device: i32, bytes: u64, stream: u64,
    ) |runtime| {
        only(to_device)?;
        only(from_device)?;
        let stream = runtime.stream(stream, false);
        copy(runtime, stream, (to, bytes), (from, bytes), Shape::line(bytes), 3)
    };

    cudaGetSymbolAddress(pointer: crate::runtime::pointer::Out<u64>, shadow: Memory) |runtime| {
        pointer.set(runtime.variable(shadow.address())?.0)
    };

    cudaGetSymbolSize(bytes: crate::runtime::pointer::Out<u64>, shadow: Memory) |runtime| {
        bytes.set(runtime.variable(shadow.address())?.1)
    };
}
