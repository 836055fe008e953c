//! Values as activations in 16 bits, on the device.

use std::ffi::c_void;

use crate::cuda::ffi::bridge::{self, ffi};
use crate::cuda::ffi::sys::cudart;
use crate::cuda::io::data_type;
use crate::cuda::kernel;
use crate::dtype::DType;
use crate::error::{Operand, Result};
use crate::shape::MatrixShape;

/// One conversion of values \[rows, K\], as addresses: each is rounded to nearest even, and rows are padded by zeros.
pub(in crate::cuda) struct Conversion {
    pub values: *const c_void,
    pub dtype: DType,
    /// From one row of the values to the next, in elements.
    pub row_stride: usize,
    pub rows: usize,
    pub k: usize,
    /// \[rows, out_k\]
    pub out: *mut c_void,
    /// f16 or bf16.
    pub out_type: DType,
    pub out_k: usize,
    /// An `nvfp4::QuantizeState`, which notes what is not finite, or does not fit the type.
    pub state: *mut c_void,
}

impl Conversion {
    /// # Safety
    /// Until the work has run, the addresses must be memory of the current device, of the lengths of the sizes and the
    /// stride, and `stream` a live stream of it.
    pub unsafe fn queue(&self, stream: cudart::cudaStream_t) -> Result<()> {
        // Sizes that fit an i32.
        MatrixShape::new(1, self.rows, self.k).map_err(|e| e.with_operand(Operand::A))?;
        let sizes = kernel::sizes_of(Operand::A, 1, self.rows, self.k)?;
        let work = ffi::ConvertWork {
            values: self.values as usize,
            value_type: data_type(self.dtype),
            rows: sizes.m,
            k: sizes.k,
            row_stride: self.row_stride,
            out: self.out as usize,
            out_type: data_type(self.out_type),
            out_k: kernel::size(Operand::A, "K", self.out_k)?,
            state: self.state as usize,
        };
        // SAFETY: the caller's.
        bridge::check(unsafe { ffi::convert(&work, stream) })
    }
}
