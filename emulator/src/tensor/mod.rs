//! Tensor cores: descriptors, arithmetic, and the maps between matrices, shared memory, tensor memory and registers.
//!
//! Nothing here knows of instructions, nor of the state of a machine.

pub mod block_scaled;
pub mod dense;
pub mod descriptor;
pub mod instruction;
pub mod layout;
pub mod numbers;
pub mod rounding;
