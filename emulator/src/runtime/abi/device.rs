//! The device: there is one, number 0.

use super::{calls, queries};
use crate::runtime::code::Code;
use crate::runtime::device::{PCI_BUS_ID, PRIORITIES, PROPERTIES_BYTES};
use crate::runtime::module::lock;
use crate::runtime::pointer::{In, Out, Text};
use crate::runtime::refusal::Outcome;

/// Fails for any device but the one.
pub fn only(device: i32) -> Outcome {
    if device == 0 { Ok(()) } else { Err(Code::INVALID_DEVICE.into()) }
}

queries! {
    cudaGetDeviceCount(count: Out<i32>) |_| count.set(1);

    cudaGetDevice(device: Out<i32>) |_| device.set(0);

    cudaSetDevice(device: i32) |_| only(device);

    cudaInitDevice(device: i32, _device_flags: u32, _flags: u32) |_| only(device);

    cudaGetDeviceFlags(flags: Out<u32>) |_| flags.set(0);

    cudaSetDeviceFlags(_flags: u32) |_| Ok(());

    cudaChooseDevice(device: Out<i32>, _wanted: In<u8>) |_| device.set(0);

    cudaDeviceGetAttribute(value: Out<i32>, attribute: u32, device: i32) |runtime| {
        only(device)?;
        let known = runtime.device.attribute(attribute);
        value.set(known.ok_or_else(|| Code::INVALID_VALUE.because(format!("attribute {attribute}")))?)
    };

    cudaGetDeviceProperties(properties: Out<[u8; PROPERTIES_BYTES]>, device: i32) |runtime| {
        only(device)?;
        properties.set(runtime.device.properties())
    };

    cudaDeviceGetPCIBusId(text: Out<u8>, bytes: i32, device: i32) |_| {
        only(device)?;
        let room = usize::try_from(bytes).unwrap_or(0);
        if room <= PCI_BUS_ID.len() {
            return Err(Code::INVALID_VALUE.into());
        }
        for (index, byte) in PCI_BUS_ID.bytes().chain([0]).enumerate() {
            text.set_at(index, byte)?;
        }
        Ok(())
    };

    cudaDeviceGetByPCIBusId(device: Out<i32>, text: Text) |_| {
        if text.get()? != PCI_BUS_ID {
            return Err(Code::INVALID_DEVICE.into());
        }
        device.set(0)
    };

    cudaDeviceGetStreamPriorityRange(least: Out<i32>, greatest: Out<i32>) |_| {
        let [lowest, highest] = PRIORITIES;
        least.set_if_wanted(lowest);
        greatest.set_if_wanted(highest);
        Ok(())
    };

    cudaDeviceCanAccessPeer(can: Out<i32>, device: i32, peer: i32) |_| {
        only(device)?;
        only(peer)?;
        can.set(0)
    };

    cudaDeviceReset() |runtime| {
        runtime.reset();
        Ok(())
    };
}

calls! {
    cudaDeviceSynchronize() |runtime| {
        let waits = lock(&runtime.streams).check_no_capture();
        waits?;
        runtime.synchronize_all()
    };

    cudaMemGetInfo(free: Out<u64>, total: Out<u64>) |runtime| {
        let all = runtime.device.memory;
        free.set(all.saturating_sub(lock(&runtime.memory).used()))?;
        total.set(all)
    };

    // Stacks, heaps and caches are as large as they need to be.
    cudaDeviceSetLimit(limit: u32, _value: u64) |_| known_limit(limit).map(drop);

    cudaDeviceGetLimit(value: Out<u64>, limit: u32) |_| value.set(known_limit(limit)?);

    cudaDeviceSetCacheConfig(_config: u32) |_| Ok(());

    cudaDeviceGetCacheConfig(config: Out<u32>) |_| config.set(0);

    cudaDeviceSetSharedMemConfig(_config: u32) |_| Ok(());

    cudaDeviceGetSharedMemConfig(config: Out<u32>) |_| config.set(1);

    cudaCtxResetPersistingL2Cache() |_| Ok(());
}

/// What `cudaDeviceGetLimit` says: the defaults of the real runtime for the stack, printf's buffer, the heap, and the
/// granularity of fetches.
fn known_limit(limit: u32) -> Outcome<u64> {
    match limit {
        0 => Ok(1024),
        1 => Ok(7_340_032),
        2 => Ok(8_388_608),
        5 => Ok(64),
        6 => Ok(0),
        _ => Err(Code::UNSUPPORTED_LIMIT.into()),
    }
}
