//! What nvcc's code calls before `main` and at exit. None of it reads a setting or fails: what is wrong with a module is
//! said when something of it is used.

use std::ffi::c_char;

use crate::runtime::code::Code;
use crate::runtime::module::with_registry;
use crate::runtime::pointer::{FatBinaryWrapper, In, Memory, Out, Text};
use crate::runtime::state::enter_always;

/// The handle is a number; nvcc's code only hands it back.
#[unsafe(no_mangle)]
pub extern "C" fn __cudaRegisterFatBinary(wrapper: In<FatBinaryWrapper>) -> u64 {
    let image = match wrapper.get() {
        Ok(wrapper) => wrapper.container(),
        Err(_) => Err("a fat binary without a wrapper".to_owned()),
    };
    with_registry(|registry| registry.add_module(image))
}

#[unsafe(no_mangle)]
pub extern "C" fn __cudaRegisterFatBinaryEnd(_module: u64) {}

#[unsafe(no_mangle)]
pub extern "C" fn __cudaUnregisterFatBinary(module: u64) {
    with_registry(|registry| registry.remove_module(module));
}

/// The extents behind the name are null in code of today's nvcc.
#[unsafe(no_mangle)]
pub extern "C" fn __cudaRegisterFunction(
    module: u64,
    stub: Memory,
    _device_name: u64,
    name: Text,
    _thread_limit: i32,
    _thread: u64,
    _block: u64,
    _block_size: u64,
    _grid_size: u64,
    _warp_size: u64,
) {
    if let Ok(name) = name.get() {
        with_registry(|registry| registry.add_function(module, stub.address(), name));
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn __cudaRegisterVar(
    module: u64,
    shadow: Memory,
    _device_address: u64,
    name: Text,
    _external: i32,
    _bytes: u64,
    _constant: i32,
    _global: i32,
) {
    if let Ok(name) = name.get() {
        with_registry(|registry| registry.add_variable(module, shadow.address(), name));
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn __cudaRegisterManagedVar(
    module: u64,
    pointer: Out<u64>,
    _device_address: u64,
    name: Text,
    _external: i32,
    bytes: u64,
    _constant: i32,
    _global: i32,
) {
    if let Ok(name) = name.get() {
        with_registry(|registry| registry.add_managed(module, pointer.bytes(1), name, bytes));
    }
}

/// Before the program's first use of a managed variable.
#[unsafe(no_mangle)]
pub extern "C" fn __cudaInitModule(module: u64) -> c_char {
    let code = enter_always("__cudaInitModule", |runtime| {
        let module = with_registry(|registry| registry.module(module));
        let module = module.ok_or(Code::INVALID_RESOURCE_HANDLE)?;
        module.load(&runtime.machine, &runtime.memory, runtime.device.memory).map(drop)
    });
    c_char::from(code == Code::SUCCESS)
}

/// The handle of a kernel is the address of its stub, which the other calls take in its place anyway.
#[unsafe(no_mangle)]
pub extern "C" fn __cudaGetKernel(kernel: Out<u64>, stub: Memory) -> Code {
    enter_always("__cudaGetKernel", |runtime| {
        runtime.function(stub.address())?;
        kernel.set(stub.address())
    })
}
