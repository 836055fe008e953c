//! Launches of kernels.

use std::sync::Arc;

use super::queued;
use crate::machine::Launch;
use crate::runtime::code::Code;
use crate::runtime::launch::{Dim3, LaunchConfig, Shape, prepare};
use crate::runtime::module::lock;
use crate::runtime::pointer::{Arguments, In, Memory, Out};
use crate::runtime::refusal::{Outcome, Refusal};
use crate::runtime::state::{
    CallConfiguration, Runtime, enter_always, pop_configuration, push_configuration,
};
use crate::runtime::stream::StreamKey;
use crate::runtime::work::Work;

fn launch(
    runtime: &Runtime,
    stream: StreamKey,
    stub: Memory,
    shape: &Shape,
    arguments: Arguments,
) -> Outcome {
    let launch = prepared(runtime, stub, shape, arguments)
        .inspect_err(|refusal| refused(runtime, stream, refusal))?;
    runtime.enqueue(stream, Work::Launch { launch, programmatic: shape.programmatic }).map(drop)
}

fn prepared(
    runtime: &Runtime,
    stub: Memory,
    shape: &Shape,
    arguments: Arguments,
) -> Outcome<Arc<Launch>> {
    let found = runtime.find(stub.address())?;
    prepare(&runtime.device, &found, shape, arguments)
}

/// A launch that cannot be. What a device refuses as well is over with this call. What only the emulator cannot do
/// stays an error: a program that does not look would go on as if the kernel had run.
fn refused(runtime: &Runtime, stream: StreamKey, refusal: &Refusal) {
    lock(&runtime.streams).spoil(stream);
    if [Code::INVALID_PTX, Code::NOT_SUPPORTED].contains(&refusal.code) {
        runtime.fail(refusal.code);
    }
}

fn plain(grid: Dim3, block: Dim3, dynamic_shared: u64, cooperative: bool) -> Shape {
    let (grid, block) = (grid.into(), block.into());
    Shape { grid, block, dynamic_shared, cooperative, ..Shape::default() }
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
        let shape = Shape::from_config(&config.get()?)
            .inspect_err(|refusal| refused(runtime, key, refusal))?;
        launch(runtime, key, stub, &shape, arguments)
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
