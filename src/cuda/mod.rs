//! The kernels for NVIDIA GPUs, and a thin safe layer over the CUDA runtime to run them with.
//!
//! A [`Plan`] binds [`Weights`]; [`Plan::launch`] reads a [`DeviceMatrix`] of activations and writes C ([`Io`]) on a
//! [`Stream`], with any number of rows, and [`Graph::capture`] records launches. A [`Quantizer`] makes a matrix of
//! activations that are on the device already. An [`Engine`](crate::Engine) does it all for values on the host.
//!
//! Nothing here panics where there is no GPU: [`Device::open`] says what is missing. Work runs on the device of its
//! stream, whichever device is current on the calling thread, and that one stays current. (Calls that go through cudarc
//! bind its context to the thread.)
//!
//! # Memory
//! What the device uses is kept alive: a plan holds the weights, a [`BoundPlan`] all operands, and a graph all that was
//! captured. Memory of other libraries comes through [`DeviceView::from_raw`], through
//! [`DeviceView::from_stream_ordered`] where it is freed in the order of a stream, or as bare addresses
//! ([`Plan::launch_raw`]). The feature `cudarc` takes slices and streams of that crate.
//!
//! `docs/gpu.md` of the repository is a guide.

mod chain;
mod convert;
mod ffi;
#[cfg(feature = "cudarc")]
mod interop;
mod io;
mod kernel;
mod lane;
mod layer_plan;
mod matrix;
mod plan;
mod quantizer;
mod rt;
mod swizzle;
mod weights;

pub use chain::RawValues;
pub(crate) use chain::{Input, Parts};
pub use ffi::call::{driver_version, runtime_version};
#[doc(hidden)] // what the tests need of the runtime itself
pub use ffi::sys;
#[cfg(feature = "cudarc")]
pub use interop::{CudarcElement, CudarcView, cudarc_context};
pub use io::{Io, RawActivations, RawDestination, RawIo, RoundFirst};
pub use kernel::{ActivationType, Kernel, KernelInfo, Mainloop, Scheduler, WeightFormat};
pub(crate) use lane::Lane;
pub use layer_plan::LayerPlan;
pub use matrix::DeviceMatrix;
pub use plan::{BoundPlan, LaunchShape, Options, Plan};
pub use quantizer::Quantizer;
pub use rt::device::Device;
pub use rt::event::Event;
pub use rt::graph::Graph;
pub use rt::memory::{DeviceBuffer, DeviceElement, DeviceView, Owner};
pub use rt::stream::Stream;
pub use swizzle::{swizzle_scales, unswizzle_scales};
pub use weights::{Operation, Weights};

/// The CUDA toolkit that the kernels were compiled with; `None` in documentation builds.
pub const TOOLKIT: Option<&str> = option_env!("NVFP4_CUDA_VERSION");

/// The CUTLASS that the kernels were compiled with; `None` in documentation builds.
pub const CUTLASS: Option<&str> = option_env!("NVFP4_CUTLASS_VERSION");
