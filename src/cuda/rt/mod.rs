//! Devices, streams, events, graphs and memory of the CUDA runtime. Knows no kernel.

pub(in crate::cuda) mod capture;
pub(in crate::cuda) mod device;
pub(in crate::cuda) mod event;
pub(in crate::cuda) mod graph;
pub(in crate::cuda) mod lent;
pub(in crate::cuda) mod memory;
pub(in crate::cuda) mod stream;
