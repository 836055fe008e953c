//! The C interface of the CUDA runtime.
