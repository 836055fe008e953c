//! Tensor cores: descriptors, arithmetic, and the maps between matrices, shared memory, tensor memory and registers.
//!
//! Nothing here knows of instructions; `execute::tcgen05`, `execute::wgmma` and `execute::matrix` call it.

pub mod block_scaled;
pub mod dense;
pub mod descriptor;
pub mod instruction;
pub mod layout;
pub mod loads;
pub mod numbers;
pub mod panel;
pub mod rounding;
