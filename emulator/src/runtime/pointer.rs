//! Pointers of the C program. All reading and writing of its memory goes through here.
//!
//! The types have the layout of a pointer and stand as such in the signatures of the C functions; nothing else makes
//! them. What the C program promises of a pointer (that it holds a value, or that many bytes) is what makes the reads and
//! writes below sound; a null pointer is refused.

use std::ffi::{CStr, c_char};

use super::code::Code;
use super::refusal::{Outcome, Refusal};
use crate::fatbin;

/// `T *` that a function writes to.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Out<T>(*mut T);

impl<T: Copy> Out<T> {
    /// Whether there is nothing to write to.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Writes.
    pub fn set(self, value: T) -> Outcome {
        self.set_at(0, value)
    }

    /// Writes an element of an array.
    pub fn set_at(self, index: usize, value: T) -> Outcome {
        if self.is_null() {
            return Err(Refusal::from(Code::INVALID_VALUE));
        }
        // SAFETY: not null; the C program promises room for as many values as it says.
        unsafe { self.0.add(index).write_unaligned(value) };
        Ok(())
    }

    /// Writes unless null.
    pub fn set_if_wanted(self, value: T) {
        if !self.is_null() {
            // SAFETY: not null; the C program promises room for a value.
            unsafe { self.0.write_unaligned(value) };
        }
    }

    /// What is there.
    pub fn get(self) -> Outcome<T> {
        In(self.0.cast_const()).get()
    }

    /// The address.
    pub fn address(self) -> u64 {
        self.0 as u64
    }

    /// As bytes, to be written to.
    pub fn bytes(self, count: usize) -> HostBytes {
        HostBytes { address: self.0 as u64, bytes: (count * size_of::<T>()) as u64 }
    }
}

/// `T const *` that a function reads.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct In<T>(*const T);

impl<T: Copy> In<T> {
    /// Whether there is nothing to read.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Reads. The program's own value: it may hold any bits, so `T` must be a type of plain numbers.
    pub fn get(self) -> Outcome<T> {
        self.at(0)
    }

    /// Reads an element of an array.
    pub fn at(self, index: usize) -> Outcome<T> {
        if self.is_null() {
            return Err(Refusal::from(Code::INVALID_VALUE));
        }
        // SAFETY: not null; the C program promises that many values.
        Ok(unsafe { self.0.add(index).read_unaligned() })
    }
}

/// `char const *`
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Text(*const c_char);

impl Text {
    /// The string; what is not UTF-8 in it is replaced.
    pub fn get(self) -> Outcome<String> {
        if self.0.is_null() {
            return Err(Refusal::from(Code::INVALID_VALUE));
        }
        // SAFETY: not null; the C program promises a C string.
        Ok(unsafe { CStr::from_ptr(self.0) }.to_string_lossy().into_owned())
    }
}

/// `void *` into memory of the host or of the device.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Memory(u64);

impl Memory {
    /// An address that the runtime itself gave.
    pub fn at(address: u64) -> Self {
        Self(address)
    }

    /// The address.
    pub fn address(self) -> u64 {
        self.0
    }

    /// The bytes from there on, if they are memory of the host.
    pub fn host(self, bytes: u64) -> HostBytes {
        HostBytes { address: self.0, bytes }
    }
}

/// Memory of the host that the C program promised to be there.
#[derive(Clone, Copy, Debug)]
pub struct HostBytes {
    address: u64,
    bytes: u64,
}

impl HostBytes {
    /// First byte.
    pub fn address(self) -> u64 {
        self.address
    }

    /// A part; cut to what there is.
    pub fn part(self, offset: u64, bytes: u64) -> Self {
        let offset = offset.min(self.bytes);
        Self { address: self.address + offset, bytes: bytes.min(self.bytes - offset) }
    }

    /// Shows the bytes to `reader`.
    pub fn read<R>(self, reader: impl FnOnce(&[u8]) -> R) -> R {
        if self.bytes == 0 {
            return reader(&[]);
        }
        // SAFETY: made from a pointer and a length of the C program, which promises the bytes and that nothing writes
        // them during the call; not empty, so not dangling by convention.
        reader(unsafe {
            std::slice::from_raw_parts(self.address as *const u8, self.bytes as usize)
        })
    }

    /// Gives the bytes to `writer`.
    pub fn write<R>(self, writer: impl FnOnce(&mut [u8]) -> R) -> R {
        if self.bytes == 0 {
            return writer(&mut []);
        }
        // SAFETY: as in `read`; nothing else uses the bytes during the call.
        writer(unsafe {
            std::slice::from_raw_parts_mut(self.address as *mut u8, self.bytes as usize)
        })
    }
}

/// A function of the host in a stream, and its argument.
#[derive(Clone, Copy)]
pub enum HostFunction {
    /// `cudaHostFn_t`
    Function(extern "C" fn(Memory), Memory),
    /// `cudaStreamCallback_t`, with the stream.
    Callback(extern "C" fn(u64, Code, Memory), u64, Memory),
}

impl HostFunction {
    /// Calls it; callbacks get the state of the stream.
    pub fn call(self, state: Code) {
        match self {
            Self::Function(function, argument) => function(argument),
            Self::Callback(function, stream, argument) => function(stream, state, argument),
        }
    }

    /// Whether it is called even when what is before it in its stream has failed.
    pub fn wants_failures(self) -> bool {
        matches!(self, Self::Callback(..))
    }
}

impl std::fmt::Debug for HostFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Function(_, argument) | Self::Callback(_, _, argument)) = self;
        f.debug_struct("HostFunction").field("argument", &argument.0).finish_non_exhaustive()
    }
}

/// `void **args`: one pointer for each parameter of a kernel.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Arguments(In<u64>);

impl Arguments {
    /// Copies the parameters of these offsets and sizes.
    pub fn copy(self, parameters: &[(u32, u32)], bytes: u32) -> Outcome<Vec<u8>> {
        let mut copied = vec![0; bytes as usize];
        for (index, (offset, size)) in parameters.iter().enumerate() {
            let (from, to) = (*offset as usize, (*offset + *size) as usize);
            let address = self.0.at(index)?;
            let Some(room) = copied.get_mut(from..to) else {
                return Err(Refusal::from(Code::INVALID_VALUE));
            };
            if address == 0 {
                return Err(Refusal::from(Code::INVALID_VALUE));
            }
            let source = HostBytes { address, bytes: u64::from(*size) };
            source.read(|bytes| room.copy_from_slice(bytes));
        }
        Ok(copied)
    }
}

/// What nvcc embeds: see `fatbin`. The wrapper points to a container that states its own size.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct FatBinaryWrapper {
    /// 0x466243B1
    pub magic: u32,
    /// 1; 2 is a list of prelinked objects.
    pub version: u32,
    /// The container.
    pub data: u64,
    /// Unused in version 1.
    pub other: u64,
}

/// Magic number of a wrapper.
const WRAPPER: u32 = 0x4662_43B1;

impl FatBinaryWrapper {
    /// The bytes of the container, header included.
    pub fn container(&self) -> Result<HostBytes, String> {
        if self.magic != WRAPPER {
            return Err(format!("a fat binary's wrapper begins with {:#x}", self.magic));
        }
        container(self.data)
    }
}

/// The container at an address; its header says how long it is.
pub fn container(address: u64) -> Result<HostBytes, String> {
    let header = In(address as *const [u8; 16]).get();
    let header = header.map_err(|_| "a fat binary without data".to_owned())?;
    let bytes = fatbin::container_len(&header).map_err(|fault| fault.to_string())?;
    Ok(HostBytes { address, bytes })
}

// SAFETY: as stdlib.h declares it (C11, 7.22.4.2).
unsafe extern "C" {
    fn atexit(function: extern "C" fn()) -> i32;
}

/// Has a function called when the process ends.
pub fn at_exit(function: extern "C" fn()) {
    // SAFETY: the library is never unloaded while a program's kernels can have run, and the function does not unwind.
    let _ = unsafe { atexit(function) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with these sizes of itself and of what follows it.
    fn header(own: u16, rest: u64) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&fatbin::CONTAINER_MAGIC.to_le_bytes());
        bytes[6..8].copy_from_slice(&own.to_le_bytes());
        bytes[8..].copy_from_slice(&rest.to_le_bytes());
        bytes
    }

    #[test]
    fn a_container_whose_sizes_cannot_be_is_refused() {
        let length = |bytes: [u8; 16]| container(bytes.as_ptr() as u64).map(|found| found.bytes);
        assert_eq!(length(header(16, 48)), Ok(64));
        assert!(length(header(16, u64::MAX)).is_err_and(|words| words.contains("sizes")));
        assert!(length(header(8, 48)).is_err());
        assert!(length([0; 16]).is_err_and(|words| words.contains("begins with")));
        assert!(container(0).is_err());
    }
}
