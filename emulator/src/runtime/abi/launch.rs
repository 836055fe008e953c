//! Launches of kernels.

use super::queued;
use crate::runtime::code::Code;
use crate::runtime::launch::{Dim3, LaunchConfig, Shape, prepare};
use crate::runtime::module::lock;
use crate::runtime::pointer::{Arguments, In, Memory, Out};
use crate::runtime::refusal::Outcome;
use crate::runtime::state::{
    CallConfiguration, Runtime, enter_always, pop_configuration, push_configuration,
};
use crate::runtime::stream::{StreamKey, Work};

fn launch(
    runtime: &Runtime,
    stream: StreamKey,
    stub: Memory,
    shape: &Shape,
    arguments: Arguments,
) -> Outcome {
    let found = runtime.find(stub.address())?;
    let launch = prepare(&runtime.device, &found, shape, arguments)
        .inspect_err(|_| lock(&runtime.streams).spoil(stream))?;
    runtime.enqueue(stream, Work::Launch(launch))
}

fn plain(grid: Dim3, block: Dim3, dynamic_shared: u64, cooperative: bool) -> Shape {
    let (grid, block) = (grid.into(), block.into());
    Shape { grid, block, cluster: None, dynamic_shared, cooperative }
}

queued! {
    cudaLaunchKernel / cudaLaunchKernel_ptsz(
        stub: Memory, grid: Dim3, block: Dim3, arguments: Arguments, shared: u64, stream: u64,
    ) stream => |runtime, key| {
        launch(runtime, key, stub, &plain(grid, block, shared, false), arguments)
    }

    // The kernel's handle is the address of its stub: see `__cudaGetKernel`.
    __cudaLaunchKernel / __cudaLaunchKernel_ptsz(
        kernel: Memory, grid: Dim3, block: Dim3, arguments: Arguments, shared: u64, stream: u64,
    ) stream => |runtime, key| {
        launch(runtime, key, kernel, &plain(grid, block, shared, false), arguments)
    }

    cudaLaunchCooperativeKernel / cudaLaunchCooperativeKernel_ptsz(
        stub: Memory, grid: Dim3, block: Dim3, arguments: Arguments, shared: u64, stream: u64,
    ) stream => |runtime, key| {
        launch(runtime, key, stub, &plain(grid, block, shared, true), arguments)
    }

    cudaLaunchKernelExC / cudaLaunchKernelExC_ptsz(
        config: In<LaunchConfig>, stub: Memory, arguments: Arguments,
    ) config.get()?.stream => |runtime, key| {
        launch(runtime, key, stub, &Shape::from_config(&config.get()?)?, arguments)
    }
}

/// `kernel<<<...>>>(...)` calls it before it evaluates the arguments; not 0 would skip the launch.
#[unsafe(no_mangle)]
pub extern "C" fn __cudaPushCallConfiguration(
    grid: Dim3,
    block: Dim3,
    dynamic_shared: u64,
    stream: u64,
) -> u32 {
    push_configuration(CallConfiguration { grid, block, dynamic_shared, stream });
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn __cudaPopCallConfiguration(
    grid: Out<Dim3>,
    block: Out<Dim3>,
    dynamic_shared: Out<u64>,
    stream: Out<u64>,
) -> Code {
    enter_always("__cudaPopCallConfiguration", |_| {
        let configuration = pop_configuration().ok_or(Code::MISSING_CONFIGURATION)?;
        grid.set(configuration.grid)?;
        block.set(configuration.block)?;
        dynamic_shared.set(configuration.dynamic_shared)?;
        stream.set(configuration.stream)
    })
}
