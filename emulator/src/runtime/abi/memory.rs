//! Memory: made, given back, asked about.

use super::{calls, queued};
use crate::runtime::code::Code;
use crate::runtime::memory::Kind;
use crate::runtime::module::lock;
use crate::runtime::pointer::{Memory, Out};
use crate::runtime::refusal::Outcome;
use crate::runtime::state::Runtime;
use crate::runtime::work::Work;

fn allocate(runtime: &Runtime, pointer: Out<u64>, bytes: u64, kind: Kind, flags: u32) -> Outcome {
    if pointer.is_null() {
        return Err(Code::INVALID_VALUE.into());
    }
    runtime.check_unsafe()?;
    let total = runtime.device.memory;
    let address = lock(&runtime.memory).allocate(&runtime.machine, total, bytes, kind, flags)?;
    pointer.set(address)
}

fn free(runtime: &Runtime, pointer: Memory, kinds: &[Kind]) -> Outcome {
    runtime.check_unsafe()?;
    if pointer.address() != 0 {
        runtime.synchronize_all()?;
    }
    lock(&runtime.memory).free(&runtime.machine, pointer.address(), kinds)
}

/// Rows of cudaMallocPitch begin at multiples of this.
const PITCH: u64 = 512;

fn pitched(runtime: &Runtime, pointer: Out<u64>, width: u64, rows: u64) -> Outcome<u64> {
    let pitch = width.checked_next_multiple_of(PITCH);
    let bytes = pitch.and_then(|pitch| pitch.checked_mul(rows));
    let (Some(pitch), Some(bytes)) = (pitch, bytes) else {
        return Err(Code::MEMORY_ALLOCATION.into());
    };
    allocate(runtime, pointer, bytes, Kind::Device, 0)?;
    Ok(pitch)
}

/// `cudaPitchedPtr`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PitchedPointer {
    pub pointer: u64,
    pub pitch: u64,
    pub width: u64,
    pub rows: u64,
}

/// `cudaExtent`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Extent {
    pub width: u64,
    pub height: u64,
    pub depth: u64,
}

/// `cudaPointerAttributes`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PointerAttributes {
    kind: u32,
    device: i32,
    device_pointer: u64,
    host_pointer: u64,
    reserved: [u64; 8],
}

/// cudaMemAttachGlobal, cudaMemAttachHost
const ATTACH: [u32; 2] = [1, 2];
/// All flags of cudaHostAlloc: portable, mapped, write-combined.
const HOST_FLAGS: u32 = 7;

calls! {
    cudaMalloc(pointer: Out<u64>, bytes: u64) |runtime| {
        allocate(runtime, pointer, bytes, Kind::Device, 0)
    };

    cudaMallocPitch(pointer: Out<u64>, pitch: Out<u64>, width: u64, rows: u64) |runtime| {
        pitch.set(pitched(runtime, pointer, width, rows)?)
    };

    cudaMalloc3D(pitched_pointer: Out<PitchedPointer>, extent: Extent) |runtime| {
        let pitch = extent.width.checked_next_multiple_of(PITCH);
        let rows = extent.height.checked_mul(extent.depth);
        let bytes = pitch.zip(rows).and_then(|(pitch, rows)| pitch.checked_mul(rows));
        let (Some(pitch), Some(bytes)) = (pitch, bytes) else {
            return Err(Code::MEMORY_ALLOCATION.into());
        };
        runtime.check_unsafe()?;
        let total = runtime.device.memory;
        let mut table = lock(&runtime.memory);
        let pointer = table.allocate(&runtime.machine, total, bytes, Kind::Device, 0)?;
        pitched_pointer.set(PitchedPointer { pointer, pitch, width: extent.width, rows: extent.height })
    };

    cudaMallocManaged(pointer: Out<u64>, bytes: u64, flags: u32) |runtime| {
        if !ATTACH.contains(&flags) {
            return Err(Code::INVALID_VALUE.into());
        }
        allocate(runtime, pointer, bytes, Kind::Managed, flags)
    };

    cudaMallocHost(pointer: Out<u64>, bytes: u64) |runtime| {
        allocate(runtime, pointer, bytes, Kind::Host, 0)
    };

    cudaHostAlloc(pointer: Out<u64>, bytes: u64, flags: u32) |runtime| {
        if flags & !HOST_FLAGS != 0 {
            return Err(Code::INVALID_VALUE.into());
        }
        allocate(runtime, pointer, bytes, Kind::Host, flags)
    };

    cudaFree(pointer: Memory) |runtime| free(runtime, pointer, &[Kind::Device, Kind::Managed]);

    cudaFreeHost(pointer: Memory) |runtime| free(runtime, pointer, &[Kind::Host]);

    cudaHostRegister(pointer: Memory, bytes: u64, flags: u32) |runtime| {
        runtime.check_unsafe()?;
        lock(&runtime.memory).register(pointer.address(), bytes, flags)
    };

    cudaHostUnregister(pointer: Memory) |runtime| {
        runtime.check_unsafe()?;
        runtime.synchronize_all()?;
        lock(&runtime.memory).unregister(pointer.address())
    };

    cudaHostGetDevicePointer(device: Out<u64>, host: Memory, flags: u32) |runtime| {
        let table = lock(&runtime.memory);
        let address = host.address();
        let known = table.find(address).filter(|block| block.kind == Kind::Host);
        if known.is_some() && flags == 0 {
            return device.set(address);
        }
        if table.find_registered(address).is_some() {
            let words = "kernels cannot reach registered host memory; cudaHostAlloc gives memory that they reach";
            return Err(Code::NOT_SUPPORTED.because(words));
        }
        Err(Code::INVALID_VALUE.into())
    };

    cudaHostGetFlags(flags: Out<u32>, host: Memory) |runtime| {
        let table = lock(&runtime.memory);
        let address = host.address();
        let known = table.find(address).filter(|block| block.kind == Kind::Host);
        let known = known.or_else(|| table.find_registered(address));
        flags.set(known.ok_or(Code::INVALID_VALUE)?.flags)
    };

    cudaPointerGetAttributes(attributes: Out<PointerAttributes>, pointer: Memory) |runtime| {
        let address = pointer.address();
        let table = lock(&runtime.memory);
        let (kind, device, device_pointer, host_pointer) =
            match table.find(address).map(|block| block.kind) {
                Some(Kind::Host) => (1, 0, address, address),
                Some(Kind::Device | Kind::Variable) => (2, 0, address, 0),
                Some(Kind::Managed | Kind::ManagedVariable) => (3, 0, address, address),
                None if table.find_registered(address).is_some() => (1, 0, 0, address),
                None => (0, -2, 0, address),
            };
        let reserved = [0; 8];
        attributes.set(PointerAttributes { kind, device, device_pointer, host_pointer, reserved })
    };

    // All memory is equally near.
    cudaMemAdvise(_pointer: Memory, _bytes: u64, _advice: u32, _location: u64) |_| Ok(());
}

queued! {
    cudaMallocAsync / cudaMallocAsync_ptsz(pointer: Out<u64>, bytes: u64, stream: u64) stream =>
        |runtime, key| {
            lock(&runtime.streams).check_not_captured(key)?;
            if pointer.is_null() {
                return Err(Code::INVALID_VALUE.into());
            }
            let total = runtime.device.memory;
            let reserved = lock(&runtime.memory).reserve(total, bytes, Kind::Device, 0)?;
            pointer.set(reserved.as_ref().map_or(0, |allocation| allocation.address()))?;
            let work = reserved.map_or(Work::Empty, Work::Publish);
            runtime.enqueue(key, work).map(drop)
        }

    cudaFreeAsync / cudaFreeAsync_ptsz(pointer: Memory, stream: u64) stream => |runtime, key| {
        lock(&runtime.streams).check_not_captured(key)?;
        lock(&runtime.memory).forget(pointer.address(), &[Kind::Device])?;
        let work = match pointer.address() {
            0 => Work::Empty,
            address => Work::Free(address),
        };
        runtime.enqueue(key, work).map(drop)
    }

    cudaMemPrefetchAsync / cudaMemPrefetchAsync_ptsz(
        _pointer: Memory, _bytes: u64, _location: u64, _flags: u32, stream: u64,
    ) stream => |runtime, key| {
        lock(&runtime.streams).stream(key).map(drop)
    }
}
