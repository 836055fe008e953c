//! Device memory: what this crate allocates, and views that keep memory alive.
//!
//! Device memory is shared and mutable, as that of a [`std::cell::Cell`]: kernels write through a shared
//! reference, and streams say in which order. Two streams that are not ordered by an [`Event`](crate::cuda::Event)
//! may see each other's half-written values, but every bit pattern is a value of every [`DeviceElement`].
//!
//! Nothing is freed while the device may still use it. Plans, graphs and views hold the memory by `Arc`; the last of
//! them frees it by `cudaFree`, which waits for all work that is queued on the device. CUDA's documentation says that
//! in the negative only: `cudaFreeAsync` is without that implicit synchronization. The lifetimes of this module rest
//! on it, so a test on hardware looks whether it holds. Memory that is freed without such a wait, that of pools, is
//! lent in another way: [`DeviceView::from_stream_ordered`].

use std::any::Any;
use std::ffi::c_void;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use crate::cuda::ffi::call::{check, forget_last_error};
use crate::cuda::ffi::sys::{abi, cudart};
use crate::cuda::rt::capture::Relaxed;
use crate::cuda::rt::device::{Current, Device};
use crate::cuda::rt::lent::Lent;
use crate::cuda::rt::stream::Stream;
use crate::dtype::Element;
use crate::error::{CudaError, Error, Operand, Result};
use crate::memory::filled;

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl<T: crate::dtype::Element> Sealed for T {}
}

/// Elements of device memory: u8, f16, bf16 and f32, for which every bit pattern is a value.
pub trait DeviceElement: Copy + Default + Send + Sync + sealed::Sealed + 'static {}

impl DeviceElement for u8 {}
impl<T: Element> DeviceElement for T {}

/// Whatever must live as long as the device may use some memory.
pub type Owner = Arc<dyn Any + Send + Sync>;

/// From a multiple of how many bytes on kernels read and write vectors.
pub(in crate::cuda) const VECTOR_ALIGNMENT: usize = abi::NVFP4_POINTER_ALIGNMENT as usize;

/// [`CudaError::Address`] unless `address` is a multiple of `alignment`.
pub(in crate::cuda) fn require_aligned<T>(address: *const T, alignment: usize) -> Result<()> {
    let address = address as usize;
    if address.is_multiple_of(alignment) {
        Ok(())
    } else {
        Err(Error::Cuda(CudaError::Address { address, alignment }))
    }
}

/// Memory of cudaMalloc.
struct Allocation {
    address: usize,
    device: Device,
}

impl Allocation {
    fn new(device: &Device, bytes: usize) -> Result<Self> {
        let _current = Current::enter(device)?;
        let mut address = std::ptr::null_mut();
        // SAFETY: writes one pointer.
        let code = unsafe { cudart::cudaMalloc(&mut address, bytes) };
        if code == cudart::cudaErrorMemoryAllocation {
            forget_last_error();
            let (free, total) = device.memory_now()?;
            return Err(Error::Cuda(CudaError::OutOfMemory {
                device: device.ordinal(),
                bytes,
                free,
                total,
            }));
        }
        check("cudaMalloc", code)?;
        Ok(Allocation { address: address as usize, device: device.clone() })
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // It is no part of what is captured: the graph holds all memory of its own.
        let _relaxed = Relaxed::enter();
        if let Ok(_current) = Current::enter(&self.device) {
            // SAFETY: the address came from cudaMalloc, and this is the only owner. Waits for queued work.
            unsafe { cudart::cudaFree(self.address as *mut c_void) };
        }
        // Nobody to tell: after a failed kernel every call fails, and the memory goes with the process.
        forget_last_error();
    }
}

/// `len` elements of device memory, kept alive. Clones are views of the same memory.
#[derive(Clone)]
pub struct DeviceView<T> {
    address: usize,
    len: usize,
    device: Device,
    owner: Owner,
    element: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for DeviceView<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceView")
            .field("address", &format_args!("{:#x}", self.address))
            .field("len", &self.len)
            .field("device", &self.device.ordinal())
            .finish_non_exhaustive()
    }
}

impl<T: DeviceElement> DeviceView<T> {
    /// A view of memory that something else allocated. `owner` is kept as long as a view, a plan or a graph
    /// uses the memory; whoever keeps it alive by other means passes `Arc::new(())`.
    ///
    /// # Safety
    /// From `address` on there must be `len` elements of memory of `device`, readable and writable by kernels.
    /// They must stay so until `owner` is dropped, and dropping it must free them only after all queued work
    /// that uses them (as cudaFree does).
    ///
    /// # Errors
    /// [`CudaError::Address`] when the address is not aligned to an element, or null where there are elements.
    pub unsafe fn from_raw(
        address: *mut c_void,
        len: usize,
        device: &Device,
        owner: Owner,
    ) -> Result<Self> {
        let address = address as usize;
        let alignment = size_of::<T>();
        if (address == 0 && len > 0) || !address.is_multiple_of(alignment) {
            return Err(Error::Cuda(CudaError::Address { address, alignment }));
        }
        Ok(DeviceView { address, len, device: device.clone(), owner, element: PhantomData })
    }

    /// A view of memory that `owner` frees in the order of `stream`, such as `cudaFreeAsync` on it does, or a wait for
    /// that stream and `cudaFree`: the pools of cudarc, candle and PyTorch. On the device, streams that use the view
    /// wait for what `stream` has queued by now; and before `owner` is dropped, `stream` is made to wait for them. The
    /// host waits for nothing.
    ///
    /// Dropped inside of a capture that one of these streams takes part in, `owner` lives as long as the graph; while
    /// somebody else captures one of them, it is never dropped.
    ///
    /// # Safety
    /// As of what is queued on `stream` by now, there must be `len` elements of memory from `address` on, of the
    /// stream's device, readable and writable by kernels. They must stay so until `owner` is dropped and `stream` has
    /// come to that point. Streams that this crate is not told of ([`DeviceView::as_ptr`],
    /// [`BoundPlan::launch_unchecked`](crate::cuda::BoundPlan::launch_unchecked)) must be ordered by the caller.
    ///
    /// # Errors
    /// Those of [`DeviceView::from_raw`]; [`CudaError::Capture`] while `stream` is being captured;
    /// [`CudaError::Call`].
    pub unsafe fn from_stream_ordered(
        address: *mut c_void,
        len: usize,
        stream: &Stream,
        owner: Owner,
    ) -> Result<Self> {
        let owner = Arc::new(Lent::new(owner, stream)?);
        // SAFETY: the caller's, and `Lent` has the owner free only after all work that uses the memory.
        unsafe { Self::from_raw(address, len, stream.device(), owner) }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The device whose memory it is.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The device address, for kernels of other libraries; null where there are no elements. It is valid as long as the
    /// view.
    pub fn as_ptr(&self) -> *mut c_void {
        self.address as *mut c_void
    }

    pub(in crate::cuda) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The same memory as bytes.
    pub fn bytes(&self) -> DeviceView<u8> {
        let Self { address, len, device, owner, .. } = self.clone();
        DeviceView { address, len: len * size_of::<T>(), device, owner, element: PhantomData }
    }

    /// Elements `from..from + len`.
    ///
    /// # Errors
    /// [`CudaError::Range`] when they are not all inside.
    pub fn slice(&self, from: usize, len: usize) -> Result<Self> {
        if from.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Error::Cuda(CudaError::Range {
                what: "elements",
                from,
                len,
                of: self.len,
            }));
        }
        Ok(DeviceView { address: self.address + from * size_of::<T>(), len, ..self.clone() })
    }

    /// Copies `host` to the device and waits for it.
    ///
    /// # Errors
    /// [`CudaError::Length`], [`CudaError::WrongDevice`], [`CudaError::Capture`] inside of a capture (the graph
    /// would read host memory at each replay), [`CudaError::Call`].
    pub fn upload(&self, host: &[T], stream: &Stream) -> Result<()> {
        self.check_copy("host memory", host.len(), stream)?;
        if self.is_empty() {
            return Ok(());
        }
        let owner = std::slice::from_ref(&self.owner);
        stream.with_host_memory("a copy from host memory", owner, |raw| {
            // SAFETY: both sides have self.len elements; the host's is borrowed until `with_host_memory` returns,
            // which waits for the copy.
            check("cudaMemcpyAsync", unsafe {
                cudart::cudaMemcpyAsync(
                    self.as_ptr(),
                    host.as_ptr().cast(),
                    size_of_val(host),
                    cudart::cudaMemcpyHostToDevice,
                    raw,
                )
            })
        })
    }

    /// Copies to `host` and waits for it.
    ///
    /// # Errors
    /// Those of [`DeviceView::upload`].
    pub fn download(&self, host: &mut [T], stream: &Stream) -> Result<()> {
        self.check_copy("host memory", host.len(), stream)?;
        if self.is_empty() {
            return Ok(());
        }
        let owner = std::slice::from_ref(&self.owner);
        stream.with_host_memory("a copy to host memory", owner, |raw| {
            // SAFETY: as in `upload`; every bit pattern that arrives is a value of T.
            check("cudaMemcpyAsync", unsafe {
                cudart::cudaMemcpyAsync(
                    host.as_mut_ptr().cast(),
                    self.as_ptr(),
                    size_of_val(host),
                    cudart::cudaMemcpyDeviceToHost,
                    raw,
                )
            })
        })
    }

    /// A copy of all elements on the host.
    ///
    /// # Errors
    /// Those of [`DeviceView::upload`].
    pub fn to_vec(&self, stream: &Stream) -> Result<Vec<T>> {
        let mut host = filled(T::default(), self.len, Operand::Matrix)?;
        self.download(&mut host, stream)?;
        Ok(host)
    }

    /// Queues a copy of all elements from `source`, which is as long. May be captured.
    ///
    /// # Errors
    /// [`CudaError::Length`]; [`CudaError::Overlap`]: what CUDA copies within one piece of memory is not defined;
    /// [`CudaError::WrongDevice`]; [`CudaError::Call`].
    pub fn copy_from(&self, source: &DeviceView<T>, stream: &Stream) -> Result<()> {
        self.check_copy("source", source.len, stream)?;
        source.device.require("source", stream.device())?;
        if self.is_empty() {
            return Ok(());
        }
        self.require_apart(source, 1, self.len, 0, self.len)?;
        stream.enqueue(&[self.owner.clone(), source.owner.clone()], |raw| {
            // SAFETY: both hold self.len elements of the stream's device, apart, alive as `buffer.rs` explains.
            check("cudaMemcpyAsync", unsafe {
                cudart::cudaMemcpyAsync(
                    self.as_ptr(),
                    source.as_ptr(),
                    self.len * size_of::<T>(),
                    cudart::cudaMemcpyDeviceToDevice,
                    raw,
                )
            })
        })
    }

    /// Queues a copy of `source`, a row-major matrix of `rows` rows, to the columns of `self` from `first` on; `self`
    /// has as many rows. This puts C together where several devices have computed parts of its columns. May be
    /// captured.
    ///
    /// # Errors
    /// [`CudaError::Rows`] when elements do not make `rows` rows, [`CudaError::Range`] when the columns are not all
    /// inside, [`CudaError::Overlap`], [`CudaError::WrongDevice`], [`CudaError::Call`].
    pub fn copy_columns_from(
        &self,
        source: &DeviceView<T>,
        rows: usize,
        first: usize,
        stream: &Stream,
    ) -> Result<()> {
        self.device.require("memory", stream.device())?;
        source.device.require("source", stream.device())?;
        let (columns, width) = (self.columns(rows)?, source.columns(rows)?);
        if first.checked_add(width).is_none_or(|end| end > columns) {
            return Err(Error::Cuda(CudaError::Range {
                what: "columns",
                from: first,
                len: width,
                of: columns,
            }));
        }
        if source.is_empty() {
            return Ok(());
        }
        self.require_apart(source, rows, columns, first, width)?;
        let bytes = size_of::<T>();
        stream.enqueue(&[self.owner.clone(), source.owner.clone()], |raw| {
            // SAFETY: `rows` rows of `width` elements are inside of both, which are memory of the stream's device,
            // apart, and alive as `buffer.rs` explains.
            check("cudaMemcpy2DAsync", unsafe {
                cudart::cudaMemcpy2DAsync(
                    (self.address + first * bytes) as *mut c_void,
                    columns * bytes,
                    source.as_ptr(),
                    width * bytes,
                    width * bytes,
                    rows,
                    cudart::cudaMemcpyDeviceToDevice,
                    raw,
                )
            })
        })
    }

    /// Elements of a row, if there are `rows`; none where there are neither.
    fn columns(&self, rows: usize) -> Result<usize> {
        match self.len.checked_div(rows) {
            Some(columns) if columns * rows == self.len => Ok(columns),
            None if self.is_empty() => Ok(0),
            _ => Err(Error::Cuda(CudaError::Rows { rows, elements: self.len })),
        }
    }

    /// That no element of `source` is among those that a copy of all of it writes: of each of `rows` rows of `columns`
    /// elements the `width` from `first` on. Neither is empty.
    fn require_apart(
        &self,
        source: &DeviceView<T>,
        rows: usize,
        columns: usize,
        first: usize,
        width: usize,
    ) -> Result<()> {
        let (from, end) = (source.address, source.address + source.len * size_of::<T>());
        let (row, bytes) = (columns * size_of::<T>(), width * size_of::<T>());
        let to = self.address + first * size_of::<T>();
        // The first row that does not end before the source begins.
        let candidate = (from + 1).saturating_sub(to + bytes).div_ceil(row);
        if candidate < rows && to + candidate * row < end {
            return Err(Error::Cuda(CudaError::Overlap {
                to: self.address,
                from,
                bytes: end - from,
            }));
        }
        Ok(())
    }

    /// Queues setting every byte to `byte`. May be captured.
    ///
    /// # Errors
    /// [`CudaError::WrongDevice`], [`CudaError::Call`].
    pub fn fill_bytes(&self, byte: u8, stream: &Stream) -> Result<()> {
        self.device.require("memory", stream.device())?;
        if self.is_empty() {
            return Ok(());
        }
        stream.enqueue(std::slice::from_ref(&self.owner), |raw| {
            // SAFETY: self.len elements of the stream's device, alive as `buffer.rs` explains.
            check("cudaMemsetAsync", unsafe {
                cudart::cudaMemsetAsync(
                    self.as_ptr(),
                    i32::from(byte),
                    self.len * size_of::<T>(),
                    raw,
                )
            })
        })
    }

    fn check_copy(&self, what: &'static str, actual: usize, stream: &Stream) -> Result<()> {
        self.device.require("memory", stream.device())?;
        if actual != self.len {
            return Err(Error::Cuda(CudaError::Length { what, expected: self.len, actual }));
        }
        Ok(())
    }
}

/// Device memory of this crate's own; all that it can do is in [`DeviceView`], to which it dereferences.
#[derive(Debug)]
pub struct DeviceBuffer<T>(DeviceView<T>);

impl<T: DeviceElement> DeviceBuffer<T> {
    /// `len` elements of whatever the memory held before. None take no memory.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`], [`CudaError::Allocation`] for more than can be addressed, [`CudaError::Call`], also
    /// for an allocation inside of a capture.
    pub fn alloc(len: usize, device: &Device) -> Result<Self> {
        let size = size_of::<T>();
        let bytes = len.checked_mul(size).filter(|&bytes| isize::try_from(bytes).is_ok());
        let bytes = bytes.ok_or(Error::Cuda(CudaError::Allocation { elements: len, size }))?;
        let (address, owner): (usize, Owner) = if bytes == 0 {
            (0, Arc::new(()))
        } else {
            let allocation = Allocation::new(device, bytes)?;
            (allocation.address, Arc::new(allocation))
        };
        let device = device.clone();
        Ok(DeviceBuffer(DeviceView { address, len, device, owner, element: PhantomData }))
    }

    /// `len` zeros, as soon as the stream gets there.
    ///
    /// # Errors
    /// Those of [`DeviceBuffer::alloc`].
    pub fn zeroed(len: usize, stream: &Stream) -> Result<Self> {
        let buffer = Self::alloc(len, stream.device())?;
        buffer.fill_bytes(0, stream)?;
        Ok(buffer)
    }

    /// A copy of `host`.
    ///
    /// # Errors
    /// Those of [`DeviceBuffer::alloc`] and [`DeviceView::upload`].
    pub fn from_host(host: &[T], stream: &Stream) -> Result<Self> {
        let buffer = Self::alloc(host.len(), stream.device())?;
        buffer.upload(host, stream)?;
        Ok(buffer)
    }

    /// Another view of the memory.
    pub fn view(&self) -> DeviceView<T> {
        self.0.clone()
    }
}

impl<T> Deref for DeviceBuffer<T> {
    type Target = DeviceView<T>;

    fn deref(&self) -> &DeviceView<T> {
        &self.0
    }
}
