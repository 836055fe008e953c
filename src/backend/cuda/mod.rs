//! The kernels for NVIDIA GPUs, and a thin safe layer over the CUDA runtime to run them with.
//!
//! [`DualGemm::prepare`] binds [`Weights`], a [`DeviceMatrix`] and a [`DeviceBuffer`] for C to a kernel,
//! [`DualGemm::launch`] queues it on a [`Stream`], and [`Graph::capture`] records launches. [`run`] does it all for
//! operands on the host. A [`Quantizer`] makes a matrix of activations that are on the device already.
//!
//! Nothing here panics where there is no GPU: [`Device::open`] says what is missing. The device is always that of
//! the stream, whatever is current on the calling thread, and a call leaves that current. (Those that go through
//! cudarc bind its context to the thread.)
//!
//! # Memory
//! What the device uses, it keeps: a plan holds operands and C, a graph all that was captured. Memory of other
//! libraries comes by [`DeviceView::from_raw`], or by [`DeviceView::from_stream_ordered`] where it is freed in the
//! order of a stream; feature `cudarc` takes slices and streams of that crate.

mod bridge;
mod buffer;
mod call;
mod capture;
mod device;
mod event;
mod gemm;
mod graph;
mod host;
#[cfg(feature = "cudarc")]
mod interop;
mod kernel;
mod lent;
mod matrix;
mod quantize;
mod scales;
mod stream;
pub mod sys;
mod weights;

pub use buffer::{DeviceBuffer, DeviceElement, DeviceView, Owner};
pub use call::{driver_version, runtime_version};
pub use device::Device;
pub use event::Event;
pub use gemm::{DualGemm, Options};
pub use graph::Graph;
pub use host::{OnDevice, run};
#[cfg(feature = "cudarc")]
pub use interop::{CudarcElement, CudarcView, cudarc_context};
pub use kernel::{Kernel, KernelInfo, Mainloop, Scheduler};
pub use matrix::DeviceMatrix;
pub use quantize::Quantizer;
pub use scales::{swizzle_scales, unswizzle_scales};
pub use stream::Stream;
pub use weights::{WeightFormat, Weights};

/// The CUDA toolkit that the kernels were compiled with; `None` in documentation builds.
pub const TOOLKIT: Option<&str> = option_env!("NVFP4_CUDA_VERSION");

/// The CUTLASS that the kernels were compiled with; `None` in documentation builds.
pub const CUTLASS: Option<&str> = option_env!("NVFP4_CUTLASS_VERSION");
