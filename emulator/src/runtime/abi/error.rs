//! Errors and versions.

use std::ffi::c_char;

use super::queries;
use crate::runtime::code::Code;
use crate::runtime::device::VERSION;
use crate::runtime::pointer::Out;
use crate::runtime::state::{peek_last_error, take_last_error};

queries! {
    cudaDriverGetVersion(version: Out<i32>) |_| version.set(VERSION);

    cudaRuntimeGetVersion(version: Out<i32>) |_| version.set(VERSION);
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaGetLastError() -> Code {
    take_last_error()
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaPeekAtLastError() -> Code {
    peek_last_error()
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaGetErrorName(code: Code) -> *const c_char {
    code.name().as_ptr()
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaGetErrorString(code: Code) -> *const c_char {
    code.words().as_ptr()
}
