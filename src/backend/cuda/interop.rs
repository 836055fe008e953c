//! Device memory and streams of the `cudarc` crate.
//!
//! cudarc frees a slice on a stream of its own, which knows nothing of ours. So a view holds the slice by `Arc` and
//! waits for the device before it lets go; which is also why a `&CudaSlice` would not do: a borrow can end while the
//! kernel runs.

use std::sync::Arc;

use ::cudarc::driver::{
    CudaContext, CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceSlice, SyncOnDrop,
    sys::CUdeviceptr,
};

use super::buffer::{DeviceElement, DeviceView};
use super::device::Device;
use super::stream::Stream;
use crate::error::{Error, Result};

/// Opens a device for cudarc; `CudaContext::new` panics where there is no driver.
///
/// # Errors
/// Those of [`Device::open`], and [`Error::CudaCall`].
pub fn cudarc_context(ordinal: usize) -> Result<Arc<CudaContext>> {
    // SAFETY: looks for the library, and loads it if it is there.
    if !unsafe { ::cudarc::driver::sys::is_culib_present() } {
        return Err(Error::CudaNoDriver { runtime: super::runtime_version() });
    }
    Device::open(ordinal)?;
    CudaContext::new(ordinal).map_err(|error| failed("CudaContext::new", &error))
}

/// Holds a slice, and waits for the device before it lets go.
struct Kept<S> {
    slice: Arc<CudaSlice<S>>,
}

impl<S> Drop for Kept<S> {
    fn drop(&mut self) {
        if let Err(error) = self.slice.context().synchronize() {
            // cudarc reports it at the next call, as for errors of its own drops.
            self.slice.context().record_err::<()>(Err(error));
        }
    }
}

impl<T: DeviceElement> DeviceView<T> {
    /// A view of a slice whose elements are as large as `T`: u8 for packed codes and scale factors.
    ///
    /// Waits for what cudarc has queued for the slice. Order later work of other streams by events, or wait for it.
    ///
    /// # Errors
    /// [`Error::CudaLength`] for elements of another size; [`Error::CudaRefused`] for a context that is not the
    /// device's primary one; those of [`Device::open`].
    pub fn from_cudarc<S: Send + Sync + 'static>(slice: &Arc<CudaSlice<S>>) -> Result<Self> {
        if size_of::<S>() != size_of::<T>() {
            let (expected, actual) = (size_of::<T>(), size_of::<S>());
            return Err(Error::CudaLength { what: "bytes of an element", expected, actual });
        }
        let device = device_of(slice.context())?;
        let stream = slice.stream();
        let address = {
            let (address, _reading) = slice.device_ptr(stream);
            address
        };
        stream.synchronize().map_err(|error| failed("cuStreamSynchronize", &error))?;
        let owner = Arc::new(Kept { slice: slice.clone() });
        // SAFETY: the slice has that many elements of that size in memory of the device; `owner` holds it and waits
        // for the device before it lets go.
        unsafe { DeviceView::from_raw(address as usize as *mut _, slice.len(), &device, owner) }
    }
}

/// Memory of this crate as an argument of cudarc's safe calls, such as those of NCCL and cuBLAS.
///
/// As everywhere here, streams are ordered by events only: a call waits for nothing but its own stream.
#[derive(Clone, Debug)]
pub struct CudarcView<T> {
    view: DeviceView<T>,
    stream: Arc<CudaStream>,
}

impl<T: DeviceElement> DeviceView<T> {
    /// The memory for cudarc, as if allocated on `stream`.
    ///
    /// # Safety
    /// A graph that holds work of cudarc on the memory, whoever captured it, must not be launched after the last view,
    /// plan or graph of this crate that keeps the memory: such work is not among what a graph of this crate keeps.
    /// (Work that runs at once is no danger: the memory is freed after it.)
    ///
    /// # Errors
    /// [`Error::CudaWrongDevice`]; those of [`Stream::from_cudarc`].
    pub unsafe fn to_cudarc(&self, stream: &Arc<CudaStream>) -> Result<CudarcView<T>> {
        self.device().require("memory", &device_of(stream.context())?)?;
        Ok(CudarcView { view: self.clone(), stream: stream.clone() })
    }
}

impl<T: DeviceElement> DeviceSlice<T> for CudarcView<T> {
    fn len(&self) -> usize {
        self.view.len()
    }

    fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }
}

impl<T: DeviceElement> DevicePtr<T> for CudarcView<T> {
    fn device_ptr<'a>(&'a self, _: &'a CudaStream) -> (CUdeviceptr, SyncOnDrop<'a>) {
        (self.view.as_ptr() as CUdeviceptr, SyncOnDrop::Sync(None))
    }
}

impl<T: DeviceElement> DevicePtrMut<T> for CudarcView<T> {
    fn device_ptr_mut<'a>(&'a mut self, _: &'a CudaStream) -> (CUdeviceptr, SyncOnDrop<'a>) {
        (self.view.as_ptr() as CUdeviceptr, SyncOnDrop::Sync(None))
    }
}

impl Stream {
    /// Borrows a stream of cudarc, also the default one.
    ///
    /// # Errors
    /// [`Error::CudaRefused`] for a context that is not the device's primary one; those of [`Device::open`].
    pub fn from_cudarc(stream: &Arc<CudaStream>) -> Result<Self> {
        let device = device_of(stream.context())?;
        // SAFETY: the stream is held, and its context is the one that the runtime uses for the device.
        Ok(unsafe { Stream::from_raw(stream.cu_stream().cast(), &device, stream.clone()) })
    }
}

fn device_of(context: &Arc<CudaContext>) -> Result<Device> {
    if !context.is_primary() {
        let reason = "the cudarc context is not the device's primary one".to_owned();
        return Err(Error::CudaRefused { reason });
    }
    Device::open(context.ordinal())
}

fn failed(call: &str, error: &::cudarc::driver::DriverError) -> Error {
    let words = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
    Error::CudaCall {
        call: call.to_owned(),
        name: words(error.error_name().ok().map(|name| name.to_string_lossy().into_owned())),
        code: error.0 as u32,
        text: words(error.error_string().ok().map(|text| text.to_string_lossy().into_owned())),
    }
}
