//! The instructions in execution, by family, and the scheduler that gives warps their turns.

pub mod bulk;
mod clc;
mod control;
mod dispatch;
mod matrix;
mod memory;
mod panel;
mod scalar;
mod scheduler;
mod shuffle;
mod step;
mod sync;
mod tcgen05;
mod wgmma;

pub use scheduler::{launch, launch_after};
