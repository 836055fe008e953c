//! What bindgen makes of `cpp/include/nvfp4_dual_gemm/types.h` and of the CUDA runtime's header: constants, plain
//! structs and raw calls, named as in C.
//!
//! The build script writes them for the toolkit at hand; docs.rs, which has none, shows `build/snapshot`.

#![allow(missing_docs, non_camel_case_types, non_snake_case, non_upper_case_globals)]

/// Constants and structs shared with the kernels.
pub mod abi {
    include!(concat!(env!("OUT_DIR"), "/abi.rs"));
}

/// The CUDA runtime API.
pub mod cudart {
    include!(concat!(env!("OUT_DIR"), "/cudart.rs"));
}
