//! The C++ library and the CUDA runtime as they are declared there, and what their errors become.

pub(in crate::cuda) mod bridge;
pub(in crate::cuda) mod call;
pub mod sys;
