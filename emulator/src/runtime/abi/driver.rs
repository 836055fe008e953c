//! Functions of the driver that programs ask the runtime for.

use std::ffi::c_void;

use super::queued;
use crate::runtime::code::Code;
use crate::runtime::pointer::{In, Out, Text};
use crate::runtime::refusal::{Outcome, say};

/// CUDA_ERROR_INVALID_VALUE
const DRIVER_INVALID_VALUE: u32 = 1;
/// CUDA_ERROR_NOT_SUPPORTED
const DRIVER_NOT_SUPPORTED: u32 = 801;

/// `cuTensorMapEncodeTiled`
#[allow(clippy::too_many_arguments)]
extern "C" fn encode_tiled(
    _map: Out<[u8; 128]>,
    _data_type: u32,
    _rank: u32,
    _address: u64,
    _dims: In<u64>,
    _strides: In<u64>,
    _box_dims: In<u32>,
    _element_strides: In<u32>,
    _interleave: u32,
    _swizzle: u32,
    _l2_promotion: u32,
    _fill: u32,
) -> u32 {
    say("cuTensorMapEncodeTiled: not yet");
    DRIVER_INVALID_VALUE
}

/// `cuTensorMapEncodeIm2col`
extern "C" fn encode_im2col() -> u32 {
    say("cuTensorMapEncodeIm2col is not implemented");
    DRIVER_NOT_SUPPORTED
}

/// `cuDriverGetVersion`
extern "C" fn driver_version(version: Out<i32>) -> u32 {
    version.set(crate::runtime::device::VERSION).map_or(DRIVER_INVALID_VALUE, |()| 0)
}

/// cudaDriverEntryPointSuccess, cudaDriverEntryPointSymbolNotFound
const FOUND: [u32; 2] = [0, 1];

fn find(name: &str) -> Option<*const c_void> {
    match name {
        "cuTensorMapEncodeTiled" => Some(encode_tiled as *const c_void),
        "cuTensorMapEncodeIm2col" => Some(encode_im2col as *const c_void),
        "cuDriverGetVersion" => Some(driver_version as *const c_void),
        _ => None,
    }
}

fn entry_point(name: Text, function: Out<*const c_void>, status: Out<u32>) -> Outcome {
    let name = name.get()?;
    let found = find(&name);
    function.set(found.unwrap_or(std::ptr::null()))?;
    let [success, not_found] = FOUND;
    status.set_if_wanted(if found.is_some() { success } else { not_found });
    match found {
        Some(_) => Ok(()),
        None => {
            Err(Code::SYMBOL_NOT_FOUND.because(format!("{name} of the driver is not implemented")))
        }
    }
}

queued! {
    cudaGetDriverEntryPoint / cudaGetDriverEntryPoint_ptsz(
        name: Text, function: Out<*const c_void>, _flags: u64, status: Out<u32>,
    ) 0 => |_runtime, _stream| {
        entry_point(name, function, status)
    }

    cudaGetDriverEntryPointByVersion / cudaGetDriverEntryPointByVersion_ptsz(
        name: Text, function: Out<*const c_void>, _version: u32, _flags: u64, status: Out<u32>,
    ) 0 => |_runtime, _stream| {
        entry_point(name, function, status)
    }
}
