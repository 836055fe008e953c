//! Every error of the CUDA runtime in words.

use std::ffi::CStr;

use crate::cuda::ffi::sys::cudart;
use crate::error::{CudaError, CudaVersion, Error, Result};

/// `call` names what returned `code`.
pub(in crate::cuda) fn check(call: &str, code: cudart::cudaError_t) -> Result<()> {
    if code == cudart::cudaSuccess {
        return Ok(());
    }
    forget_last_error();
    Err(failed(call, code))
}

/// The runtime keeps the error for the next cudaGetLastError(), whose caller would take it for their own.
pub(in crate::cuda) fn forget_last_error() {
    // SAFETY: takes no argument and is allowed at any time.
    unsafe { cudart::cudaGetLastError() };
}

/// The error for a `code` that is not cudaSuccess.
pub(in crate::cuda) fn failed(call: &str, code: cudart::cudaError_t) -> Error {
    match code {
        cudart::cudaErrorNoDevice => Error::Cuda(CudaError::NoDevice),
        // Also what the runtime says where there is no driver at all.
        cudart::cudaErrorInsufficientDriver | cudart::cudaErrorStubLibrary => {
            match (driver_version(), runtime_version()) {
                (None, runtime) => Error::Cuda(CudaError::NoDriver { runtime }),
                (Some(driver), runtime) => Error::Cuda(CudaError::DriverTooOld { driver, runtime }),
            }
        }
        _ => Error::Cuda(CudaError::Call {
            call: call.to_owned(),
            name: text(cudart::cudaGetErrorName, code),
            code,
            text: text(cudart::cudaGetErrorString, code),
        }),
    }
}

/// The newest CUDA that the driver of this machine knows; `None` without a driver.
pub fn driver_version() -> Option<CudaVersion> {
    let mut version = 0;
    // SAFETY: writes one int.
    let code = unsafe { cudart::cudaDriverGetVersion(&mut version) };
    (code == cudart::cudaSuccess && version > 0).then(|| CudaVersion::from_number(version as u32))
}

/// The CUDA runtime that is linked.
pub fn runtime_version() -> CudaVersion {
    let mut version = 0;
    // SAFETY: writes one int.
    let code = unsafe { cudart::cudaRuntimeGetVersion(&mut version) };
    let known = code == cudart::cudaSuccess && version > 0;
    CudaVersion::from_number(if known { version as u32 } else { cudart::CUDART_VERSION })
}

fn text(
    describe: unsafe extern "C" fn(cudart::cudaError_t) -> *const std::ffi::c_char,
    code: cudart::cudaError_t,
) -> String {
    // SAFETY: both functions take any number and return a C string of the runtime's own.
    let words = unsafe { describe(code) };
    if words.is_null() {
        return "unknown".to_owned();
    }
    // SAFETY: not null, so a C string that lives as long as the program.
    unsafe { CStr::from_ptr(words) }.to_string_lossy().into_owned()
}
