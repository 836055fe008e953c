//! Device memory and streams of the `cudarc` crate.
//!
//! cudarc frees a slice in the order of a stream of its own, so views of it are those of
//! [`DeviceView::from_stream_ordered`]. Its own events of a slice (`DevicePtr`, `SyncOnDrop`) would not do: there is
//! one for all reads and one for all writes, so that readers on two streams lose one another, none where cudarc itself
//! has one stream, and what fails is noted, not told. A `&CudaSlice` would not do either: a borrow can end while the
//! kernel runs.

use std::ffi::c_void;
use std::sync::Arc;

use ::cudarc::driver::{
    CudaContext, CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceSlice, SyncOnDrop,
    sys::CUdeviceptr,
};
use float4::F4E2M1x2;
use float8::F8E4M3;
use half::{bf16, f16};

use crate::cuda::chain::RawValues;
use crate::cuda::layer_plan::LayerPlan;
use crate::cuda::rt::device::Device;
use crate::cuda::rt::lent;
use crate::cuda::rt::memory::{DeviceElement, DeviceView};
use crate::cuda::rt::stream::Stream;
use crate::dtype::Element;
use crate::error::{CudaError, Error, Result};

/// Opens a device for cudarc; `CudaContext::new` panics where there is no driver.
///
/// # Errors
/// Those of [`Device::open`], and [`CudaError::Call`].
pub fn cudarc_context(ordinal: usize) -> Result<Arc<CudaContext>> {
    Device::open(ordinal)?;
    if !driver_is_there() {
        return Err(Error::Cuda(CudaError::NoDriver {
            runtime: crate::cuda::ffi::call::runtime_version(),
        }));
    }
    CudaContext::new(ordinal).map_err(|error| failed("CudaContext::new", &error))
}

/// Whether cudarc finds its library.
fn driver_is_there() -> bool {
    // cudarc has a function of this name where it loads the library at run time; where it is linked (a feature of
    // cudarc that another crate of the program may have set, and that cannot be asked for), this one is found.
    // SAFETY: does nothing; unsafe as the other is.
    #[allow(dead_code)]
    unsafe fn is_culib_present() -> bool {
        true
    }
    {
        #[allow(unused_imports)]
        use ::cudarc::driver::sys::*;
        // SAFETY: looks for the library, and loads it if it is there.
        unsafe { is_culib_present() }
    }
}

mod sealed {
    pub trait Sealed {}
}

/// What a slice of cudarc may hold to be lent as device memory: types of which every bit pattern is a value, as kernels
/// may write any. `bool`, for one, is none.
pub trait CudarcElement: Send + Sync + sealed::Sealed + 'static {}

macro_rules! every_bit_pattern_is_a_value {
    ($($element:ty),*) => {$(
        impl sealed::Sealed for $element {}
        impl CudarcElement for $element {}
    )*};
}

every_bit_pattern_is_a_value!(
    u8, i8, u16, i16, u32, i32, u64, i64, f16, bf16, f32, f64, F8E4M3, F4E2M1x2
);

impl<T: DeviceElement> DeviceView<T> {
    /// A view of a slice whose elements are as large as `T`: u8 for packed codes and scale factors. On the device,
    /// streams that use it wait for what cudarc has queued for the slice by now; later work of cudarc must be ordered
    /// by events, or waited for. When the view goes, the slice's stream waits for those that used it. The host waits
    /// for nothing; see [`DeviceView::from_stream_ordered`].
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use nvfp4_dual_gemm::cuda::{DeviceView, cudarc_context};
    /// let slice = cudarc_context(0)?.new_stream()?.alloc_zeros::<u8>(16)?;
    /// // SAFETY: nobody captures the slice's stream.
    /// let view = unsafe { DeviceView::<u8>::from_cudarc(&std::sync::Arc::new(slice)) }?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Elements of which not every bit pattern is a value are none that a kernel may write:
    ///
    /// ```compile_fail,E0277
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use nvfp4_dual_gemm::cuda::{DeviceView, cudarc_context};
    /// let slice = cudarc_context(0)?.new_stream()?.alloc_zeros::<bool>(16)?;
    /// // SAFETY: nobody captures the slice's stream.
    /// let view = unsafe { DeviceView::<u8>::from_cudarc(&std::sync::Arc::new(slice)) }?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Safety
    /// What [`Stream::from_raw`] asks of captures of the slice's stream.
    ///
    /// # Errors
    /// [`CudaError::Element`] for elements of another size; [`CudaError::Capture`] while the slice's stream is being
    /// captured; [`CudaError::Call`]; those of [`Stream::from_cudarc`] for the slice's stream.
    pub unsafe fn from_cudarc<S: CudarcElement>(slice: &Arc<CudaSlice<S>>) -> Result<Self> {
        if size_of::<S>() != size_of::<T>() {
            let (expected, actual) = (size_of::<T>(), size_of::<S>());
            return Err(Error::Cuda(CudaError::Element { expected, actual }));
        }
        // SAFETY: as the caller promises.
        let (stream, home) = (slice.stream(), unsafe { Stream::from_cudarc(slice.stream()) }?);
        let mut address = 0;
        // The stream waits for the last write, whichever stream that is on. A wait that fails is only noted.
        home.enqueue_outside_capture("the loan of memory", &[], |_| {
            let (of_slice, reading) = slice.device_ptr(stream);
            address = of_slice;
            // Nothing reads yet; dropped, it would be recorded in place of a reader of another stream.
            std::mem::forget(reading);
            slice.context().check_err().map_err(|error| failed("CudaStream::wait", &error))
        })?;
        // SAFETY: the slice has that many elements of that size in memory of the device, ready as its stream comes to
        // this point, and is freed in the order of that stream.
        unsafe {
            DeviceView::from_stream_ordered(
                address as usize as *mut _,
                slice.len(),
                &home,
                slice.clone(),
            )
        }
    }
}

impl LayerPlan {
    /// [`LayerPlan::launch`] with slices as programs of cudarc, candle among them, hold them: a `&CudaSlice`, or a
    /// `CudaView` of a part. cudarc's guards are held over the launch: `stream` waits for earlier work on the slices
    /// on other streams, and later work on them, freeing included, waits for the launch. The host does not wait,
    /// allocate or query, and `stream` may be of any kind and under capture.
    ///
    /// # Safety
    /// Where `stream` is being captured, the slices and the layer must outlive every replay of the graph. cudarc knows
    /// of one reader and one writer of a slice: where other streams read `x` at the same time, it must not be freed or
    /// written to before all have.
    ///
    /// # Errors
    /// [`Error::Length`] of x (operand a) and y (operand c), [`CudaError::Length`] of the scratch memory,
    /// [`CudaError::Address`] unless x begins at a multiple of 16 bytes and the scratch memory at one of 256,
    /// [`CudaError::WrongDevice`], [`CudaError::Refused`] for a context that is not the device's primary one,
    /// [`CudaError::Call`].
    pub unsafe fn launch_with<X: Element, Y: Element>(
        &self,
        x: &impl DevicePtr<X>,
        rows: usize,
        y: &mut impl DevicePtrMut<Y>,
        scratch: &mut impl DevicePtrMut<u8>,
        stream: &Arc<CudaStream>,
    ) -> Result<()> {
        self.check_lengths(x.len(), rows, y.len())?;
        for (what, context) in [
            ("x", x.stream().context()),
            ("y", y.stream().context()),
            ("scratch", scratch.stream().context()),
            ("stream", stream.context()),
        ] {
            require_primary(context)?;
            let (expected, actual) = (self.device().ordinal(), context.ordinal());
            if actual != expected {
                return Err(Error::Cuda(CudaError::WrongDevice { what, expected, actual }));
            }
        }
        let scratch_bytes = scratch.len();
        let (x, _reads) = x.device_ptr(stream);
        let (y, _writes) = y.device_ptr_mut(stream);
        let (scratch, _writes_scratch) = scratch.device_ptr_mut(stream);
        let values = RawValues::new(
            rows,
            (x as usize as *const c_void, X::DTYPE, self.k()),
            (y as usize as *mut c_void, Y::DTYPE),
            (scratch as usize as *mut c_void, scratch_bytes),
        );
        // SAFETY: the lengths were looked at, the guards order the memory, and captures are the caller's.
        unsafe { self.launch_raw(&values, stream.cu_stream().cast()) }
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
    /// (Work that runs at once is no danger: the memory is freed after it. But of memory that came by
    /// [`DeviceView::from_cudarc`] or [`DeviceView::from_stream_ordered`], only work on `stream` is known: work on
    /// other streams of cudarc must be ordered before that, or waited for.) Of captures of `stream`, what
    /// [`Stream::from_raw`] asks.
    ///
    /// # Errors
    /// [`CudaError::WrongDevice`]; [`CudaError::Refused`] for a context that is not the device's primary one; those of
    /// [`Device::open`]; for memory that is lent itself, those of [`Stream::from_cudarc`], and [`CudaError::Capture`]
    /// while `stream` is being captured.
    pub unsafe fn to_cudarc(&self, stream: &Arc<CudaStream>) -> Result<CudarcView<T>> {
        self.device().require("memory", &device_of(stream.context())?)?;
        if lent::is_lent(self.owner()) {
            let owner = std::slice::from_ref(self.owner());
            let what = "the loan of memory";
            // SAFETY: whoever captures the stream while this call runs breaks its own promise.
            let stream = unsafe { Stream::from_cudarc(stream) }?;
            stream.enqueue_outside_capture(what, owner, |_| Ok(()))?;
        }
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
    /// # Safety
    /// What [`Stream::from_raw`] asks of captures: cudarc's are safe calls from any thread.
    ///
    /// # Errors
    /// [`CudaError::Refused`] for a context that is not the device's primary one, and for `per_thread_stream()`, which
    /// is another stream on each thread; those of [`Device::open`].
    pub unsafe fn from_cudarc(stream: &Arc<CudaStream>) -> Result<Self> {
        let device = device_of(stream.context())?;
        // SAFETY: the stream is held, and its context is the one that the runtime uses for the device; of captures the
        // caller promises what is asked.
        unsafe { Stream::from_raw(stream.cu_stream().cast(), &device, stream.clone()) }
    }
}

fn device_of(context: &Arc<CudaContext>) -> Result<Device> {
    require_primary(context)?;
    Device::open(context.ordinal())
}

fn require_primary(context: &Arc<CudaContext>) -> Result<()> {
    if context.is_primary() {
        return Ok(());
    }
    let reason = "the cudarc context is not the device's primary one".to_owned();
    Err(Error::Cuda(CudaError::Refused { reason }))
}

fn failed(call: &str, error: &::cudarc::driver::DriverError) -> Error {
    let words = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
    Error::Cuda(CudaError::Call {
        call: call.to_owned(),
        name: words(error.error_name().ok().map(|name| name.to_string_lossy().into_owned())),
        code: error.0 as u32,
        text: words(error.error_string().ok().map(|text| text.to_string_lossy().into_owned())),
    })
}
