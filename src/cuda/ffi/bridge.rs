//! The bridge to the C++ library, and the way of its errors: status, CUDA's code and words.

use crate::cuda::ffi::call;
use crate::cuda::ffi::sys::{abi, cudart};
use crate::error::{CudaError, Error, Result};

#[cxx::bridge(namespace = "nvfp4::bridge")]
#[allow(clippy::too_many_arguments)]
pub(in crate::cuda) mod ffi {
    struct DeviceProperties {
        name: String,
        memory: usize,
        major: u32,
        minor: u32,
        sm_count: u32,
    }

    /// `nvfp4::Quantization`: the addresses are of the current device.
    struct QuantizeWork {
        values: usize,
        value_type: u32,
        rows: i32,
        k: i32,
        batch: i32,
        /// In elements.
        row_stride: usize,
        codes: usize,
        scales: usize,
        state: usize,
    }

    /// `nvfp4::Conversion`: the addresses are of the current device.
    struct ConvertWork {
        values: usize,
        value_type: u32,
        rows: i32,
        k: i32,
        /// In elements.
        row_stride: usize,
        out: usize,
        out_type: u32,
        out_k: i32,
        state: usize,
    }

    struct QuantizeFindings {
        non_finite: bool,
        index: usize,
        value: f32,
        global_scale: f32,
    }

    // SAFETY: what is declared without `unsafe` takes values, references and slices, which live through the call, and
    // keeps no address of them; what takes addresses of device memory is `unsafe` and says what must hold.
    unsafe extern "C++" {
        include!("bridge.hpp");
        include!("quantize_bridge.hpp");

        #[namespace = ""]
        type nvfp4_shape = super::abi::nvfp4_shape;
        #[namespace = ""]
        type nvfp4_spec = super::abi::nvfp4_spec;
        #[namespace = ""]
        type nvfp4_weights = super::abi::nvfp4_weights;
        #[namespace = ""]
        type nvfp4_io = super::abi::nvfp4_io;
        #[namespace = ""]
        type nvfp4_kernel_info = super::abi::nvfp4_kernel_info;
        #[namespace = ""]
        type nvfp4_launch_shape = super::abi::nvfp4_launch_shape;
        #[namespace = ""]
        type CUstream_st = super::cudart::CUstream_st;
        #[namespace = "nvfp4"]
        type Plan;
        #[namespace = "nvfp4"]
        type BoundPlan;

        fn kernels() -> &'static [nvfp4_kernel_info];
        fn runs_on(kernel: &nvfp4_kernel_info, compute_capability: i32) -> bool;
        /// The name; null where there is none.
        fn select_kernel(
            shape: &nvfp4_shape,
            operation: u32,
            activations: u32,
            weights: u32,
            compute_capability: i32,
            sm_count: i32,
        ) -> *const c_char;

        #[namespace = "nvfp4"]
        fn codes_bytes(rows: i32, k: i32, batch: i32) -> usize;
        #[namespace = "nvfp4"]
        fn scales_bytes(rows: i32, k: i32, batch: i32) -> usize;
        #[namespace = "nvfp4"]
        fn interleaved_codes_bytes(n: i32, k: i32, batch: i32) -> usize;
        #[namespace = "nvfp4"]
        fn interleaved_scales_bytes(n: i32, k: i32, batch: i32) -> usize;
        /// Of `shape` the host code takes n, k and batch.
        fn interleave_weights(
            shape: &nvfp4_shape,
            b1_codes: &[u8],
            b1_scales: &[u8],
            b2_codes: &[u8],
            b2_scales: &[u8],
            codes: &mut [u8],
            scales: &mut [u8],
        ) -> Result<()>;

        /// # Safety
        /// `spec.kernel` is null or a C string. Until the last launch of the plan has finished, the addresses must be
        /// device memory of the current device, of the sizes that types.h states.
        unsafe fn prepare(spec: &nvfp4_spec, weights: &nvfp4_weights) -> Result<UniquePtr<Plan>>;
        fn workspace_size(self: &Plan, rows: i32) -> Result<usize>;
        fn kernel(self: &Plan, rows: i32) -> Result<&nvfp4_kernel_info>;
        fn launch_shape(self: &Plan, rows: i32) -> Result<nvfp4_launch_shape>;
        /// # Safety
        /// Until the launch has finished, the addresses must be device memory of the plan's device, of the sizes that
        /// types.h states; `stream` must be a live stream of it.
        unsafe fn launch(self: &Plan, io: &nvfp4_io, stream: *mut CUstream_st) -> Result<()>;
        /// # Safety
        /// As for `Plan::launch`, until the last launch of what it gives has finished.
        unsafe fn bind(plan: &Plan, io: &nvfp4_io) -> Result<UniquePtr<BoundPlan>>;
        /// # Safety
        /// `stream` must be a live stream of the plan's device.
        unsafe fn launch(self: &BoundPlan, stream: *mut CUstream_st) -> Result<()>;
        fn kernel(self: &BoundPlan) -> &nvfp4_kernel_info;
        fn launch_shape(self: &BoundPlan) -> &nvfp4_launch_shape;

        fn device_properties(device: i32) -> Result<DeviceProperties>;

        /// Has the runtime load the kernels of the quantizer on the current device: not in a capture.
        fn load_quantizer() -> Result<()>;
        fn quantize_state_bytes() -> usize;
        fn quantize_global_scale_offset() -> usize;
        fn quantize_findings(state: &[u8]) -> Result<QuantizeFindings>;
        /// # Safety
        /// Until the work has run, the addresses must be memory of the current device, of the sizes that
        /// quantize.hpp states, and `stream` a live stream of it.
        unsafe fn find_amax(work: &QuantizeWork, stream: *mut CUstream_st) -> Result<()>;
        /// # Safety
        /// As for `find_amax`.
        unsafe fn quantize_with(
            work: &QuantizeWork,
            global_scale: f32,
            stream: *mut CUstream_st,
        ) -> Result<()>;
        /// # Safety
        /// As for `find_amax`.
        unsafe fn quantize_by_amax(work: &QuantizeWork, stream: *mut CUstream_st) -> Result<()>;
        /// # Safety
        /// As for `find_amax`.
        unsafe fn convert(work: &ConvertWork, stream: *mut CUstream_st) -> Result<()>;
        /// # Safety
        /// As for `find_amax`.
        #[namespace = "nvfp4"]
        unsafe fn swizzle_scales(
            row_major: *const u8,
            swizzled: *mut u8,
            rows: i32,
            k: i32,
            batch: i32,
            stream: *mut CUstream_st,
        ) -> Result<()>;
        /// # Safety
        /// As for `find_amax`.
        #[namespace = "nvfp4"]
        unsafe fn unswizzle_scales(
            swizzled: *const u8,
            row_major: *mut u8,
            rows: i32,
            k: i32,
            batch: i32,
            stream: *mut CUstream_st,
        ) -> Result<()>;
    }
}

macro_rules! trivial {
    ($($module:ident :: $name:ident),*) => {$(
        // SAFETY: bindgen made the struct from the C declaration of this name: plain data, trivially copied.
        unsafe impl cxx::ExternType for $module::$name {
            type Id = cxx::type_id!($name);
            type Kind = cxx::kind::Trivial;
        }
    )*};
}

trivial!(
    abi::nvfp4_shape,
    abi::nvfp4_spec,
    abi::nvfp4_weights,
    abi::nvfp4_io,
    abi::nvfp4_kernel_info,
    abi::nvfp4_launch_shape
);

// SAFETY: the name is that of the struct behind cudaStream_t, and only pointers to it are passed.
unsafe impl cxx::ExternType for cudart::CUstream_st {
    type Id = cxx::type_id!("CUstream_st");
    type Kind = cxx::kind::Opaque;
}

/// What `cpp/bridge/bridge.hpp` puts before the words of an nvfp4::Error.
const MARK: char = '\x1f';

#[derive(Debug, PartialEq)]
struct Parts<'a> {
    status: abi::nvfp4_status,
    cuda_error: cudart::cudaError,
    words: &'a str,
}

/// `None` for an exception that is not the library's.
fn parts(what: &str) -> Option<Parts<'_>> {
    let (numbers, words) = what.strip_prefix(MARK)?.split_once(MARK)?;
    let (status, code) = numbers.split_once(' ')?;
    Some(Parts { status: status.parse().ok()?, cuda_error: code.parse().ok()?, words })
}

/// The result of a call of the bridge.
pub(in crate::cuda) fn check<T>(result: Result<T, cxx::Exception>) -> Result<T> {
    result.map_err(|exception| from_words(exception.what()))
}

fn from_words(what: &str) -> Error {
    let Some(Parts { status, cuda_error, words }) = parts(what) else {
        return Error::Cuda(CudaError::Refused { reason: what.to_owned() });
    };
    if cuda_error != cudart::cudaSuccess {
        // Words of such a failure are "call: NAME: text"; the call alone is what is not known here already.
        return call::failed(words.split(": ").next().unwrap_or(words), cuda_error);
    }
    // The host code's words name the operand, or the kernel and the device, and the numbers.
    match status {
        abi::NVFP4_STATUS_INVALID_ARGUMENT
        | abi::NVFP4_STATUS_ARCHITECTURE
        | abi::NVFP4_STATUS_NO_DEVICE
        | abi::NVFP4_STATUS_CUDA
        | abi::NVFP4_STATUS_CUTLASS => Error::Cuda(CudaError::Refused { reason: words.to_owned() }),
        unknown => Error::Cuda(CudaError::Refused { reason: format!("status {unknown}: {words}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_code_and_words_come_apart() {
        let parts = parts("\x1f4 700\x1fcudaLaunchKernelExC(x): words\x1f").unwrap();
        assert_eq!((parts.status, parts.cuda_error), (abi::NVFP4_STATUS_CUDA, 700));
        assert_eq!(parts.words, "cudaLaunchKernelExC(x): words\x1f");
        for text in ["std::bad_alloc", "", "\x1f", "\x1f4\x1fx", "\x1f4 x\x1fy", "\x1f-1 0\x1fy"] {
            assert_eq!(super::parts(text), None, "{text:?}");
        }
    }

    #[test]
    fn each_status_is_an_error_of_its_own() {
        let text = |what: &str| format!("{:?}", from_words(what));
        assert!(text("\x1f1 0\x1fa.codes: null").starts_with("Cuda(Refused"));
        assert!(text("\x1f5 0\x1fcannot implement").starts_with("Cuda(Refused"));
        // What is wrong is in the words alone: the kernel, what it is for, and the device.
        let words = "kernel x is for compute capability 10.0, device 0 (y) has 9.0";
        let error = from_words(&format!("\x1f2 0\x1f{words}")).to_string();
        assert!(error.contains(words), "{error}");
        assert!(text("\x1f77 0\x1fnew").contains("status 77: new"));
        assert!(text("\x1f3 100\x1fcudaGetDeviceCount: x").starts_with("Cuda(NoDevice"));
        assert!(text("std::bad_alloc").contains("bad_alloc"));
        let Error::Cuda(CudaError::Call { call, name, code, .. }) =
            from_words("\x1f4 1\x1fcudaFuncSetAttribute(x): cudaErrorInvalidValue: y")
        else {
            panic!("no CudaCall");
        };
        assert_eq!(
            (call.as_str(), name.as_str(), code),
            ("cudaFuncSetAttribute(x)", "cudaErrorInvalidValue", 1)
        );
    }

    /// Through the real exception: the C++ throws, `trycatch` frames, this side reads.
    #[test]
    fn an_exception_of_the_library_crosses_the_bridge() {
        let shape = abi::nvfp4_shape { m: 1, n: 3, k: 48, batch: 1 };
        let exception =
            ffi::interleave_weights(&shape, &[], &[], &[], &[], &mut [], &mut []).unwrap_err();
        let parts = parts(exception.what()).unwrap();
        assert_eq!((parts.status, parts.cuda_error), (abi::NVFP4_STATUS_INVALID_ARGUMENT, 0));
        assert!(parts.words.contains("K = 48"), "{}", parts.words);
    }
}
