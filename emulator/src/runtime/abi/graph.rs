//! Graphs that captures made. Building one node by node is not implemented.

use super::{calls, queued};
use crate::runtime::code::Code;
use crate::runtime::module::lock;
use crate::runtime::pointer::Out;
use crate::runtime::refusal::Outcome;
use crate::runtime::state::Runtime;

/// `cudaGraphInstantiateParams`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct InstantiateParameters {
    flags: u64,
    upload_stream: u64,
    error_node: u64,
    result: u64,
}

fn instantiate(runtime: &Runtime, executable: Out<u64>, graph: u64) -> Outcome {
    if executable.is_null() {
        return Err(Code::INVALID_VALUE.into());
    }
    executable.set(lock(&runtime.streams).instantiate(graph)?)
}

calls! {
    cudaGraphCreate(graph: Out<u64>, flags: u32) |runtime| {
        if flags != 0 {
            return Err(Code::INVALID_VALUE.into());
        }
        graph.set(lock(&runtime.streams).create_graph())
    };

    cudaGraphDestroy(graph: u64) |runtime| lock(&runtime.streams).destroy_graph(graph);

    cudaGraphInstantiate(executable: Out<u64>, graph: u64, _flags: u64) |runtime| {
        instantiate(runtime, executable, graph)
    };

    cudaGraphInstantiateWithFlags(executable: Out<u64>, graph: u64, _flags: u64) |runtime| {
        instantiate(runtime, executable, graph)
    };

    cudaGraphInstantiateWithParams(
        executable: Out<u64>, graph: u64, parameters: Out<InstantiateParameters>,
    ) |runtime| {
        let mut set = parameters.get()?;
        instantiate(runtime, executable, graph)?;
        (set.error_node, set.result) = (0, 0);
        parameters.set(set)
    };

    cudaGraphExecDestroy(executable: u64) |runtime| {
        lock(&runtime.streams).destroy_executable(executable)
    };

    // Only the number of nodes.
    cudaGraphGetNodes(graph: u64, nodes: Out<u64>, count: Out<u64>) |runtime| {
        if !nodes.is_null() {
            return Err(Code::NOT_SUPPORTED.because("handles of nodes are not implemented"));
        }
        count.set(lock(&runtime.streams).graph(graph)?.len() as u64)
    };
}

queued! {
    cudaGraphUpload / cudaGraphUpload_ptsz(executable: u64, stream: u64) stream => |runtime, key| {
        let streams = lock(&runtime.streams);
        streams.stream(key)?;
        streams.executable(executable).map(drop)
    }

    cudaGraphLaunch / cudaGraphLaunch_ptsz(executable: u64, stream: u64) stream => |runtime, key| {
        runtime.launch_graph(key, executable)
    }
}
