//! CUTLASS's own kernels for sm_100a: the programs around them, their operands, and what they have to compute.

// Each test program uses a part of this.
#![allow(dead_code)]

pub mod build;
pub mod numbers;
pub mod operands;
