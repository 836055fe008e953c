//! Kernels: their attributes, and how many of their blocks fit the device.

use super::calls;
use super::device::only;
use crate::runtime::code::Code;
use crate::runtime::device::{
    MAX_CLUSTER, MAX_THREADS, SHARED_OPTIN, SHARED_PER_SM, SHARED_RESERVED,
};
use crate::runtime::launch::{LaunchConfig, Shape, active_clusters, blocks_per_sm, dynamic_limit};
use crate::runtime::module::lock;
use crate::runtime::pointer::{In, Memory, Out};
use crate::runtime::refusal::Outcome;
use crate::runtime::state::Runtime;

/// `cudaFuncAttributes`
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct FunctionAttributes {
    shared: u64,
    constant: u64,
    local: u64,
    max_threads: i32,
    registers: i32,
    ptx_version: i32,
    binary_version: i32,
    cache_mode: i32,
    max_dynamic_shared: i32,
    carveout: i32,
    cluster_must_be_set: i32,
    required_cluster: [i32; 3],
    cluster_policy: i32,
    non_portable_cluster: i32,
    device_node_update: i32,
    shared_memory_mode: i32,
    reserved: [i32; 15],
}

fn set_attribute(runtime: &Runtime, stub: Memory, attribute: u32, value: i32) -> Outcome {
    let found = runtime.find(stub.address())?;
    let invalid = |words: String| Err(Code::INVALID_VALUE.because(words));
    let mut settings = lock(&found.function.settings);
    match attribute {
        8 => {
            let most = SHARED_OPTIN.saturating_sub(found.kernel.static_shared);
            match u32::try_from(value).ok().filter(|bytes| *bytes <= most) {
                Some(bytes) => settings.dynamic_shared = Some(bytes),
                None => {
                    return invalid(format!("{value} bytes of shared memory; {most} are possible"));
                }
            }
        }
        9 => {
            if !(-1..=100).contains(&value) {
                return invalid(format!("a carveout of {value}; it can be -1..=100"));
            }
            settings.carveout = value;
        }
        at @ 11..=13 => {
            let Ok(extent) = u32::try_from(value) else {
                return invalid(format!("a cluster's extent of {value}"));
            };
            settings.required_cluster[at as usize - 11] = extent;
        }
        14 => settings.non_portable_cluster = value != 0,
        15 => {}
        _ => return invalid(format!("attribute {attribute}")),
    }
    Ok(())
}

fn blocks(runtime: &Runtime, stub: Memory, threads: i32, shared: u64) -> Outcome<i32> {
    let found = runtime.find(stub.address())?;
    let threads = u32::try_from(threads).ok().filter(|threads| *threads > 0);
    let threads = threads.ok_or(Code::INVALID_VALUE)?;
    Ok(blocks_per_sm(&found.kernel, threads, shared) as i32)
}

calls! {
    cudaFuncGetAttributes(attributes: Out<FunctionAttributes>, stub: Memory) |runtime| {
        let found = runtime.find(stub.address())?;
        let settings = *lock(&found.function.settings);
        let (major, minor) = found.loaded.version;
        let [binary_major, binary_minor] = runtime.device.capability;
        attributes.set(FunctionAttributes {
            shared: u64::from(found.kernel.static_shared),
            local: u64::from(found.kernel.local),
            max_threads: found.kernel.max_threads.unwrap_or(MAX_THREADS) as i32,
            ptx_version: (10 * major + minor) as i32,
            binary_version: 10 * binary_major + binary_minor,
            max_dynamic_shared: dynamic_limit(&found.kernel, &settings) as i32,
            carveout: settings.carveout,
            cluster_must_be_set: i32::from(found.kernel.required_cluster.is_some()),
            required_cluster: found.kernel.required_cluster
                .unwrap_or(settings.required_cluster).map(|extent| extent as i32),
            non_portable_cluster: i32::from(settings.non_portable_cluster),
            ..FunctionAttributes::default()
        })
    };

    cudaFuncSetAttribute(stub: Memory, attribute: u32, value: i32) |runtime| {
        set_attribute(runtime, stub, attribute, value)
    };

    cudaKernelSetAttributeForDevice(kernel: Memory, attribute: u32, value: i32, device: i32) |runtime| {
        only(device)?;
        set_attribute(runtime, kernel, attribute, value)
    };

    cudaFuncSetCacheConfig(stub: Memory, _config: u32) |runtime| {
        runtime.function(stub.address()).map(drop)
    };

    cudaFuncSetSharedMemConfig(stub: Memory, _config: u32) |runtime| {
        runtime.function(stub.address()).map(drop)
    };

    cudaFuncGetParamCount(stub: Memory, count: Out<u64>) |runtime| {
        count.set(runtime.find(stub.address())?.kernel.parameters.len() as u64)
    };

    cudaFuncGetParamInfo(stub: Memory, index: u64, offset: Out<u64>, bytes: Out<u64>) |runtime| {
        let found = runtime.find(stub.address())?;
        let parameter = usize::try_from(index).ok().and_then(|at| found.kernel.parameters.get(at));
        let (at, size) = parameter.ok_or(Code::INVALID_VALUE)?;
        offset.set(u64::from(*at))?;
        bytes.set_if_wanted(u64::from(*size));
        Ok(())
    };

    cudaGetFuncBySymbol(function: Out<u64>, stub: Memory) |runtime| {
        runtime.function(stub.address())?;
        function.set(stub.address())
    };

    cudaGetKernel(kernel: Out<u64>, stub: Memory) |runtime| {
        runtime.function(stub.address())?;
        kernel.set(stub.address())
    };

    cudaOccupancyMaxActiveBlocksPerMultiprocessor(
        count: Out<i32>, stub: Memory, threads: i32, shared: u64,
    ) |runtime| {
        count.set(blocks(runtime, stub, threads, shared)?)
    };

    cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        count: Out<i32>, stub: Memory, threads: i32, shared: u64, _flags: u32,
    ) |runtime| {
        count.set(blocks(runtime, stub, threads, shared)?)
    };

    cudaOccupancyAvailableDynamicSMemPerBlock(
        bytes: Out<u64>, stub: Memory, blocks: i32, _threads: i32,
    ) |runtime| {
        let found = runtime.find(stub.address())?;
        let blocks = u32::try_from(blocks).ok().filter(|blocks| *blocks > 0);
        let each = SHARED_PER_SM / blocks.ok_or(Code::INVALID_VALUE)?;
        let most = each.saturating_sub(SHARED_RESERVED).min(SHARED_OPTIN);
        bytes.set(u64::from(most.saturating_sub(found.kernel.static_shared)))
    };

    cudaOccupancyMaxActiveClusters(
        count: Out<i32>, stub: Memory, config: In<LaunchConfig>,
    ) |runtime| {
        let found = runtime.find(stub.address())?;
        let shape = Shape::from_config(&config.get()?)?;
        count.set(active_clusters(&runtime.device, &found, &shape)? as i32)
    };

    cudaOccupancyMaxPotentialClusterSize(
        size: Out<i32>, stub: Memory, _config: In<LaunchConfig>,
    ) |runtime| {
        let found = runtime.find(stub.address())?;
        let [portable, largest] = MAX_CLUSTER;
        let allowed = lock(&found.function.settings).non_portable_cluster;
        size.set(if allowed { largest } else { portable } as i32)
    };
}
