//! Functions of the driver that programs ask the runtime for.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::queued;
use crate::fault::Fault;
use crate::runtime::code::Code;
use crate::runtime::pointer::{In, Out, Text};
use crate::runtime::refusal::{Outcome, say};
use crate::runtime::state;
use crate::tma::map::{self, Tiled};

/// CUDA_ERROR_INVALID_VALUE
const DRIVER_INVALID_VALUE: u32 = 1;
/// CUDA_ERROR_UNKNOWN
const DRIVER_UNKNOWN: u32 = 999;
/// CUDA_ERROR_NOT_SUPPORTED
const DRIVER_NOT_SUPPORTED: u32 = 801;

/// `cuTensorMapEncodeTiled`
#[allow(clippy::too_many_arguments)]
extern "C" fn encode_tiled(
    tensor_map: Out<[u8; map::BYTES]>,
    data_type: u32,
    rank: u32,
    address: u64,
    dims: In<u64>,
    strides: In<u64>,
    box_dims: In<u32>,
    element_strides: In<u32>,
    interleave: u32,
    swizzle: u32,
    l2_promotion: u32,
    fill: u32,
) -> u32 {
    let encode = || -> Outcome {
        let invalid = |fault: Fault| Code::INVALID_VALUE.because(fault.message);
        map::check_rank(rank).map_err(invalid)?;
        let encoded = Tiled {
            tensor_map: tensor_map.address(),
            data_type,
            rank,
            address,
            dims: &array(dims, rank)?,
            strides: &array(strides, rank - 1)?,
            box_dims: &array(box_dims, rank)?,
            element_strides: &array(element_strides, rank)?,
            interleave,
            swizzle,
            l2_promotion,
            fill,
        };
        tensor_map.set(encoded.encode().map_err(invalid)?)
    };
    if let Ok(runtime) = state::runtime() {
        runtime.note("cuTensorMapEncodeTiled");
    }
    match catch_unwind(AssertUnwindSafe(encode)) {
        Ok(Ok(())) => 0,
        Ok(Err(refusal)) => {
            say(format_args!("cuTensorMapEncodeTiled: {}", refusal.words.unwrap_or_default()));
            DRIVER_INVALID_VALUE
        }
        Err(_) => DRIVER_UNKNOWN,
    }
}

/// A copy of an array of the C program.
fn array<T: Copy>(from: In<T>, count: u32) -> Outcome<Vec<T>> {
    (0..count as usize).map(|index| from.at(index)).collect()
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
    if found.is_none() {
        say(format_args!("{name} of the driver is not implemented"));
    }
    Ok(())
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
