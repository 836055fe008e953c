//! Tensor cores: descriptors, arithmetic, and the maps between matrices, shared memory, tensor memory and registers.
//!
//! Nothing here knows of instructions; `execute::tcgen05`, `execute::wgmma` and `execute::matrix` call it.

pub mod loads;
