//! The C interface of the CUDA runtime: `libcudart.so.13` for programs that nvcc built with `-cudart shared`.
//!
//! What a program calls is in [`abi`](self); below that, everything is safe Rust except for `pointer`, which reads and
//! writes the program's memory. Rules of this runtime that CUDA leaves open:
//!
//! * Queued work runs in the thread of a call that queues or waits, one piece at a time: `progress` says when.
//! * What has not run when the process ends never runs.
//! * There is one device. Its memory is memory of the host; page-locked and managed memory have the same address on both.
//! * Words about an error are on stderr, with `emulator: ` before them.
//! * A kernel that fails makes the calls after its launch fail, until cudaDeviceReset; so does a launch that CUDA would
//!   do and the emulator cannot.
//! * With settings that mean nothing, every call gives cudaErrorInitializationError.

mod abi;
pub mod code;
mod copy;
pub mod device;
mod launch;
mod memory;
mod module;
mod pointer;
mod progress;
mod queue;
mod refusal;
mod state;
mod stream;
mod work;
