//! The operands of one launch.

use std::ffi::c_void;

use crate::cuda::ffi::bridge::ffi;
use crate::cuda::ffi::sys::abi;
use crate::cuda::kernel;
use crate::cuda::matrix::DeviceMatrix;
use crate::cuda::rt::device::Device;
use crate::cuda::rt::memory::{DeviceView, Owner};
use crate::cuda::weights::Weights;
use crate::dtype::{DType, Element};
use crate::error::{Buffer, CudaError, Error, Operand, Result};

/// As the host code has it.
pub(in crate::cuda) type Addresses = abi::nvfp4_io;

/// The memory of C: \[batch, M, N\], row-major, of a type that need not be known at compile time.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'a> {
    dtype: DType,
    address: *mut c_void,
    len: usize,
    device: &'a Device,
    owner: &'a Owner,
}

impl<'a, T: Element> From<&'a DeviceView<T>> for Destination<'a> {
    fn from(view: &'a DeviceView<T>) -> Self {
        let (address, len) = (view.as_ptr(), view.len());
        Destination { dtype: T::DTYPE, address, len, device: view.device(), owner: view.owner() }
    }
}

/// Activations, C, and everything else that may differ between launches.
#[derive(Debug, Clone, Copy)]
pub struct Io<'a> {
    a: &'a DeviceMatrix,
    c: Destination<'a>,
    workspace: Option<&'a DeviceView<u8>>,
    factors: [Option<&'a DeviceView<f32>>; 2],
}

impl<'a> Io<'a> {
    /// Reads `a` and writes `c` \[batch, M, N\].
    pub fn new<T: Element>(a: &'a DeviceMatrix, c: &'a DeviceView<T>) -> Self {
        Io { a, c: c.into(), workspace: None, factors: [None; 2] }
    }

    /// Memory that the launch writes before it reads it, at least [`Plan::workspace_bytes`](crate::cuda::Plan::workspace_bytes),
    /// from a multiple of 128 bytes on.
    pub fn workspace(mut self, workspace: &'a DeviceView<u8>) -> Self {
        self.workspace = Some(workspace);
        self
    }

    /// Scalars in device memory by which the launch multiplies alpha1 and alpha2, such as the global scale of A where
    /// it was found on the device ([`Quantizer::global_scale`](crate::cuda::Quantizer::global_scale)).
    pub fn factors(
        mut self,
        factor1: impl Into<Option<&'a DeviceView<f32>>>,
        factor2: impl Into<Option<&'a DeviceView<f32>>>,
    ) -> Self {
        self.factors = [factor1.into(), factor2.into()];
        self
    }

    /// What the launch uses beyond the weights.
    pub(in crate::cuda) fn owners(&self) -> impl Iterator<Item = &'a Owner> {
        let always = [self.a.codes().owner(), self.a.scales().owner(), self.c.owner];
        let workspace = self.workspace.map(DeviceView::owner);
        let factors = self.factors.into_iter().flatten().map(DeviceView::owner);
        always.into_iter().chain(workspace).chain(factors)
    }

    /// Looks at sizes and devices.
    pub(in crate::cuda) fn addresses(&self, weights: &Weights) -> Result<Addresses> {
        let (a, c, device) = (self.a, &self.c, weights.device());
        a.device().require("a", device)?;
        c.device.require("c", device)?;
        if let Some(view) = self.workspace {
            view.device().require("workspace", device)?;
        }
        for view in self.factors.into_iter().flatten() {
            view.device().require("factor", device)?;
            if view.is_empty() {
                return Err(Error::Cuda(CudaError::Length {
                    what: "factor",
                    expected: 1,
                    actual: 0,
                }));
            }
        }
        if (a.batch(), a.k()) != (weights.batch(), weights.k()) {
            return Err(Error::ShapeMismatch {
                operand: Operand::A,
                other: Operand::B1,
                expected: (weights.batch(), a.rows(), weights.k()),
                actual: (a.batch(), a.rows(), a.k()),
            });
        }
        check_c(a.rows(), weights, c.len)?;
        check_a(a)?;
        let address = |view: Option<&DeviceView<f32>>| {
            view.map_or(std::ptr::null(), |view| view.as_ptr().cast_const())
        };
        let [factor1, factor2] = self.factors.map(address);
        RawIo {
            rows: a.rows(),
            a_codes: a.codes().as_ptr().cast_const(),
            a_scales: a.scales().as_ptr().cast_const(),
            global_scale: a.global_scale(),
            c: c.address,
            dtype: c.dtype,
            factor1: factor1.cast(),
            factor2: factor2.cast(),
            workspace: self.workspace.map_or(std::ptr::null_mut(), DeviceView::as_ptr),
            workspace_bytes: self.workspace.map_or(0, |view| view.len()),
        }
        .addresses(weights)
    }

    pub(in crate::cuda) fn require_workspace(&self, expected: usize) -> Result<()> {
        let actual = self.workspace.map_or(0, |view| view.len());
        if actual < expected {
            return Err(Error::Cuda(CudaError::Length { what: "workspace", expected, actual }));
        }
        Ok(())
    }
}

/// [`Io`] as addresses, for memory that a framework owns. With B = batch, N and K those of the weights on the device:
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RawIo {
    /// M. Without rows nothing is read.
    pub rows: usize,
    /// Packed codes of A, \[B, M, K/2\] bytes, from a multiple of 16 bytes on.
    pub a_codes: *const c_void,
    /// Scale factors of A in the 128x4 layout ([`crate::format::scale_layout`]), from a multiple of 16 bytes on.
    pub a_scales: *const c_void,
    /// The multiplier of all of A.
    pub global_scale: f32,
    /// C \[B, M, N\].
    pub c: *mut c_void,
    /// Type of the elements of C.
    pub dtype: DType,
    /// An f32 that multiplies alpha1, or null.
    pub factor1: *const f32,
    /// An f32 that multiplies alpha2, or null.
    pub factor2: *const f32,
    /// Memory that the launch writes before it reads it, from a multiple of 128 bytes on, or null.
    pub workspace: *mut c_void,
    /// Bytes of it, at least [`Plan::workspace_bytes`](crate::cuda::Plan::workspace_bytes).
    pub workspace_bytes: usize,
}

impl RawIo {
    /// Without factors and without a workspace.
    pub fn new(
        rows: usize,
        a_codes: *const c_void,
        a_scales: *const c_void,
        global_scale: f32,
        c: *mut c_void,
        dtype: DType,
    ) -> Self {
        RawIo {
            rows,
            a_codes,
            a_scales,
            global_scale,
            c,
            dtype,
            factor1: std::ptr::null(),
            factor2: std::ptr::null(),
            workspace: std::ptr::null_mut(),
            workspace_bytes: 0,
        }
    }

    pub(in crate::cuda) fn addresses(&self, weights: &Weights) -> Result<Addresses> {
        let (global1, global2) = weights.global_scales();
        Ok(abi::nvfp4_io {
            size: size_of::<abi::nvfp4_io>() as u32,
            rows: kernel::size(Operand::A, "M", self.rows)?,
            a_codes: self.a_codes,
            a_scales: self.a_scales,
            a_row_stride: 0,
            c: abi::nvfp4_destination {
                size: size_of::<abi::nvfp4_destination>() as u32,
                type_: data_type(self.dtype),
                data: self.c,
                scales: std::ptr::null_mut(),
                global_scale: 0.0,
                round_first: abi::NVFP4_ROUND_FIRST_NONE,
                row_stride: 0,
            },
            residual: std::ptr::null(),
            residual_row_stride: 0,
            alpha1: alpha(Operand::B1, self.global_scale, global1)?,
            alpha2: alpha(Operand::B2, self.global_scale, global2)?,
            factor1: self.factor1,
            factor2: self.factor2,
            workspace: self.workspace,
            workspace_bytes: self.workspace_bytes,
        })
    }
}

/// The kernels' own account of what they read, against what is there.
fn check_a(a: &DeviceMatrix) -> Result<()> {
    let abi::nvfp4_shape { m, k, batch, .. } =
        kernel::sizes_of(Operand::A, a.batch(), a.rows(), a.k())?;
    let codes = ("a.codes", a.codes(), ffi::codes_bytes(m, k, batch));
    let scales = ("a.scales", a.scales(), ffi::scales_bytes(m, k, batch));
    for (what, view, expected) in [codes, scales] {
        if view.len() != expected {
            return Err(Error::Cuda(CudaError::Length { what, expected, actual: view.len() }));
        }
    }
    Ok(())
}

fn check_c(m: usize, weights: &Weights, actual: usize) -> Result<()> {
    let (batch, n) = (weights.batch(), weights.n());
    let overflow = Error::SizeOverflow { operand: Operand::C, batch, rows: m, cols: n };
    let expected = batch.checked_mul(m).and_then(|values| values.checked_mul(n)).ok_or(overflow)?;
    if actual != expected {
        let (operand, buffer) = (Operand::C, Buffer::Values);
        return Err(Error::Length { operand, buffer, expected, actual, batch, rows: m, cols: n });
    }
    Ok(())
}

fn alpha(operand: Operand, global_a: f32, global_b: f32) -> Result<f32> {
    let alpha = (f64::from(global_a) * f64::from(global_b)) as f32;
    if alpha.is_normal() { Ok(alpha) } else { Err(Error::Alpha { operand, global_a, global_b }) }
}

pub(in crate::cuda) fn data_type(dtype: DType) -> abi::nvfp4_data_type {
    match dtype {
        DType::F16 => abi::NVFP4_DATA_TYPE_F16,
        DType::Bf16 => abi::NVFP4_DATA_TYPE_BF16,
        DType::F32 => abi::NVFP4_DATA_TYPE_F32,
    }
}
