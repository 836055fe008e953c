//! The operands of one launch.

use std::ffi::c_void;

use crate::cuda::ffi::bridge::ffi;
use crate::cuda::ffi::sys::abi;
use crate::cuda::kernel::{self, ActivationType};
use crate::cuda::matrix::DeviceMatrix;
use crate::cuda::rt::device::Device;
use crate::cuda::rt::memory::{DeviceView, Owner};
use crate::cuda::weights::{Operation, Weights};
use crate::dtype::{DType, Element};
use crate::error::{Buffer, CudaError, Error, Operand, Result};

/// As the host code has it.
pub(in crate::cuda) type Addresses = abi::nvfp4_io;

/// What values of C are rounded to before they are quantized to NVFP4: for equality with programs that keep them in 16
/// bits between two kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum RoundFirst {
    /// Nothing: the f32 value is quantized.
    #[default]
    None,
    /// f16.
    F16,
    /// bf16.
    Bf16,
}

impl RoundFirst {
    fn to_abi(self) -> abi::nvfp4_round_first {
        match self {
            RoundFirst::None => abi::NVFP4_ROUND_FIRST_NONE,
            RoundFirst::F16 => abi::NVFP4_ROUND_FIRST_F16,
            RoundFirst::Bf16 => abi::NVFP4_ROUND_FIRST_BF16,
        }
    }
}

/// Values in device memory, of a type that need not be known at compile time.
#[derive(Debug, Clone, Copy)]
struct Memory<'a> {
    dtype: DType,
    address: *mut c_void,
    len: usize,
    device: &'a Device,
    owner: &'a Owner,
}

impl<'a, T: Element> From<&'a DeviceView<T>> for Memory<'a> {
    fn from(view: &'a DeviceView<T>) -> Self {
        let (address, len) = (view.as_ptr(), view.len());
        Memory { dtype: T::DTYPE, address, len, device: view.device(), owner: view.owner() }
    }
}

/// Where A comes from.
#[derive(Debug, Clone, Copy)]
enum Source<'a> {
    Nvfp4(&'a DeviceMatrix),
    Values(Memory<'a>, usize),
}

/// Where C goes.
#[derive(Debug, Clone, Copy)]
enum Target<'a> {
    Values(Memory<'a>),
    Nvfp4(&'a DeviceMatrix, RoundFirst),
}

/// Activations, C, and everything else that may differ between launches.
#[derive(Debug, Clone, Copy)]
pub struct Io<'a> {
    a: Source<'a>,
    c: Target<'a>,
    residual: Option<Memory<'a>>,
    workspace: Option<&'a DeviceView<u8>>,
    factors: [Option<&'a DeviceView<f32>>; 2],
}

impl<'a> Io<'a> {
    /// Reads `a` and writes `c` \[batch, M, N\], row-major.
    pub fn new<T: Element>(a: &'a DeviceMatrix, c: &'a DeviceView<T>) -> Self {
        Self::of(Source::Nvfp4(a), Target::Values(c.into()))
    }

    /// Reads `a` and writes C in NVFP4 with the global scale of `c`: what the next plan reads as A.
    pub fn to_nvfp4(a: &'a DeviceMatrix, c: &'a DeviceMatrix, round_first: RoundFirst) -> Self {
        Self::of(Source::Nvfp4(a), Target::Nvfp4(c, round_first))
    }

    /// Reads values \[batch, `rows`, K\] as they are, and writes `c` \[batch, `rows`, N\]: for a plan whose
    /// [`Options::activations`](crate::cuda::Options::activations) are of that type. K is that of the weights on the
    /// device.
    pub fn of_values<A: Element, T: Element>(
        a: &'a DeviceView<A>,
        rows: usize,
        c: &'a DeviceView<T>,
    ) -> Self {
        Self::of(Source::Values(a.into(), rows), Target::Values(c.into()))
    }

    fn of(a: Source<'a>, c: Target<'a>) -> Self {
        Io { a, c, residual: None, workspace: None, factors: [None; 2] }
    }

    /// Adds R \[batch, M, N\], of the type of C, to the product of a plain GEMM. It may be C itself.
    pub fn residual<T: Element>(mut self, residual: &'a DeviceView<T>) -> Self {
        self.residual = Some(residual.into());
        self
    }

    /// Memory that the launch writes before it reads it, at least [`Plan::workspace_bytes`](crate::cuda::Plan::workspace_bytes),
    /// from a multiple of 128 bytes on.
    pub fn workspace(mut self, workspace: &'a DeviceView<u8>) -> Self {
        self.workspace = Some(workspace);
        self
    }

    /// Scalars in device memory by which the launch multiplies alpha1 and alpha2, such as the global scale of A where
    /// it was found on the device ([`Quantizer::global_scale`](crate::cuda::Quantizer::global_scale)). A plain GEMM
    /// takes the same twice.
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
        let of_matrix = |matrix: &'a DeviceMatrix| {
            [Some(matrix.codes().owner()), Some(matrix.scales().owner())]
        };
        let a = match self.a {
            Source::Nvfp4(a) => of_matrix(a),
            Source::Values(a, _) => [Some(a.owner), None],
        };
        let c = match self.c {
            Target::Nvfp4(c, _) => of_matrix(c),
            Target::Values(c) => [Some(c.owner), None],
        };
        let residual = self.residual.map(|residual| residual.owner);
        let workspace = self.workspace.map(DeviceView::owner);
        let factors = self.factors.into_iter().flatten().map(DeviceView::owner);
        a.into_iter().chain(c).flatten().chain(residual).chain(workspace).chain(factors)
    }

    /// Looks at sizes and devices.
    pub(in crate::cuda) fn addresses(
        &self,
        weights: &Weights,
        activations: ActivationType,
    ) -> Result<Addresses> {
        let device = weights.device();
        let (rows, a) = self.source(weights)?;
        let c = self.target(weights, rows)?;
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
        let mut residual = std::ptr::null();
        if let Some(memory) = self.residual {
            memory.device.require("residual", device)?;
            check_c(Operand::R, rows, weights, memory.len)?;
            if Some(memory.dtype) != self.dtype() {
                let (r, c) = (memory.dtype, self.dtype().map_or("nvfp4", DType::name));
                let reason = format!("residual: its type is {r}, that of C {c}");
                return Err(Error::Cuda(CudaError::Refused { reason }));
            }
            residual = memory.address.cast_const();
        }
        let address = |view: Option<&DeviceView<f32>>| {
            view.map_or(std::ptr::null(), |view| view.as_ptr().cast_const())
        };
        let [factor1, factor2] = self.factors.map(address);
        if weights.operation() == Operation::Gemm && factor1 != factor2 {
            let reason =
                "factor2: a GEMM has one alpha, and takes the same factor twice".to_owned();
            return Err(Error::Cuda(CudaError::Refused { reason }));
        }
        RawIo {
            residual,
            residual_row_stride: 0,
            factor1: factor1.cast(),
            factor2: factor2.cast(),
            workspace: self.workspace.map_or(std::ptr::null_mut(), DeviceView::as_ptr),
            workspace_bytes: self.workspace.map_or(0, |view| view.len()),
            ..RawIo::new(rows, a, c)
        }
        .addresses(weights, activations)
    }

    /// The type of C, where it is not NVFP4.
    fn dtype(&self) -> Option<DType> {
        match self.c {
            Target::Values(c) => Some(c.dtype),
            Target::Nvfp4(..) => None,
        }
    }

    fn source(&self, weights: &Weights) -> Result<(usize, RawActivations)> {
        let (batch, k) = (weights.batch(), weights.k());
        match self.a {
            Source::Nvfp4(a) => {
                a.device().require("a", weights.device())?;
                check_matrix(a, Operand::A, ["a.codes", "a.scales"], (batch, a.rows(), k))?;
                let (codes, scales) = (a.codes().as_ptr(), a.scales().as_ptr());
                let (codes, scales) = (codes.cast_const(), scales.cast_const());
                let global_scale = a.global_scale();
                Ok((a.rows(), RawActivations::Nvfp4 { codes, scales, global_scale }))
            }
            Source::Values(a, rows) => {
                a.device.require("a", weights.device())?;
                let operand = Operand::A;
                let overflow = Error::SizeOverflow { operand, batch, rows, cols: k };
                let expected = batch.checked_mul(rows).and_then(|rows| rows.checked_mul(k));
                let (expected, actual) = (expected.ok_or(overflow)?, a.len);
                if expected != actual {
                    let (buffer, cols) = (Buffer::Values, k);
                    return Err(Error::Length {
                        operand,
                        buffer,
                        expected,
                        actual,
                        batch,
                        rows,
                        cols,
                    });
                }
                let values = a.address.cast_const();
                Ok((rows, RawActivations::Values { values, dtype: a.dtype, row_stride: 0 }))
            }
        }
    }

    fn target(&self, weights: &Weights, rows: usize) -> Result<RawDestination> {
        match self.c {
            Target::Values(c) => {
                c.device.require("c", weights.device())?;
                check_c(Operand::C, rows, weights, c.len)?;
                Ok(RawDestination::Values { values: c.address, dtype: c.dtype, row_stride: 0 })
            }
            Target::Nvfp4(c, round_first) => {
                c.device().require("c", weights.device())?;
                let expected = (weights.batch(), rows, weights.n());
                check_matrix(c, Operand::C, ["c.codes", "c.scales"], expected)?;
                Ok(RawDestination::Nvfp4 {
                    codes: c.codes().as_ptr(),
                    scales: c.scales().as_ptr(),
                    global_scale: c.global_scale(),
                    round_first,
                })
            }
        }
    }

    pub(in crate::cuda) fn require_workspace(&self, expected: usize) -> Result<()> {
        let actual = self.workspace.map_or(0, |view| view.len());
        if actual < expected {
            return Err(Error::Cuda(CudaError::Length { what: "workspace", expected, actual }));
        }
        Ok(())
    }
}

/// A of a [`RawIo`], \[B, M, K\] with K that of the weights on the device.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum RawActivations {
    /// W4A4.
    Nvfp4 {
        /// Packed codes, \[B, M, K/2\] bytes, from a multiple of 16 bytes on.
        codes: *const c_void,
        /// Scale factors in the 128x4 layout ([`crate::format::scale_layout`]), from a multiple of 16 bytes on.
        scales: *const c_void,
        /// The multiplier of all of A.
        global_scale: f32,
    },
    /// W4A16.
    Values {
        /// From a multiple of 16 bytes on.
        values: *const c_void,
        /// Their type, that of the plan.
        dtype: DType,
        /// From one row to the next, in elements: at least K, and a multiple of 8; 0 is K.
        row_stride: usize,
    },
}

/// C of a [`RawIo`], \[B, M, N\].
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum RawDestination {
    /// Values.
    Values {
        /// At a multiple of the size of an element.
        values: *mut c_void,
        /// Their type.
        dtype: DType,
        /// From one row to the next, in elements: at least N; 0 is N.
        row_stride: usize,
    },
    /// NVFP4, of which N is a multiple of 32.
    Nvfp4 {
        /// Packed codes, \[B, M, N/2\] bytes, from a multiple of 16 bytes on.
        codes: *mut c_void,
        /// Scale factors in the 128x4 layout, from a multiple of 16 bytes on; their padding is written as 0.
        scales: *mut c_void,
        /// The multiplier of all of C.
        global_scale: f32,
        /// What values are rounded to first.
        round_first: RoundFirst,
    },
}

/// [`Io`] as addresses, for memory that a framework owns. With B = batch, N and K those of the weights on the device:
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RawIo {
    /// M. Without rows nothing is read.
    pub rows: usize,
    /// A.
    pub a: RawActivations,
    /// C.
    pub c: RawDestination,
    /// R \[B, M, N\] of a plain GEMM, of the type of C, or null. It may be C itself.
    pub residual: *const c_void,
    /// From one row of R to the next, in elements: at least N; 0 is N.
    pub residual_row_stride: usize,
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
    /// Without residual, factors and workspace.
    pub fn new(rows: usize, a: RawActivations, c: RawDestination) -> Self {
        RawIo {
            rows,
            a,
            c,
            residual: std::ptr::null(),
            residual_row_stride: 0,
            factor1: std::ptr::null(),
            factor2: std::ptr::null(),
            workspace: std::ptr::null_mut(),
            workspace_bytes: 0,
        }
    }

    pub(in crate::cuda) fn addresses(
        &self,
        weights: &Weights,
        activations: ActivationType,
    ) -> Result<Addresses> {
        let (global1, global2) = weights.global_scales();
        let (given, a_codes, a_scales, global_scale, a_stride) = match self.a {
            RawActivations::Nvfp4 { codes, scales, global_scale } => {
                (Some(ActivationType::Nvfp4), codes, scales, global_scale, 0)
            }
            RawActivations::Values { values, dtype, row_stride } => {
                (ActivationType::of(dtype), values, std::ptr::null(), 1.0, row_stride)
            }
        };
        if given != Some(activations) {
            let given = given.map_or("f32".to_owned(), |given| given.to_string());
            let reason = format!("a: {given}, and the plan is for {activations}");
            return Err(Error::Cuda(CudaError::Refused { reason }));
        }
        let (first, second) = match weights.operation() {
            Operation::DualGemm => (Operand::B1, Operand::B2),
            Operation::Gemm => (Operand::W, Operand::W),
        };
        let c = match self.c {
            RawDestination::Values { values, dtype, row_stride } => abi::nvfp4_destination {
                size: size_of::<abi::nvfp4_destination>() as u32,
                type_: data_type(dtype),
                data: values,
                scales: std::ptr::null_mut(),
                global_scale: 0.0,
                round_first: abi::NVFP4_ROUND_FIRST_NONE,
                row_stride: stride("c.row_stride", row_stride)?,
            },
            RawDestination::Nvfp4 { codes, scales, global_scale, round_first } => {
                abi::nvfp4_destination {
                    size: size_of::<abi::nvfp4_destination>() as u32,
                    type_: abi::NVFP4_DATA_TYPE_NVFP4,
                    data: codes,
                    scales,
                    global_scale,
                    round_first: round_first.to_abi(),
                    row_stride: 0,
                }
            }
        };
        Ok(abi::nvfp4_io {
            size: size_of::<abi::nvfp4_io>() as u32,
            rows: kernel::size(Operand::A, "M", self.rows)?,
            a_codes,
            a_scales,
            a_row_stride: stride("a_row_stride", a_stride)?,
            c,
            residual: self.residual,
            residual_row_stride: stride("residual_row_stride", self.residual_row_stride)?,
            alpha1: alpha(first, global_scale, global1)?,
            alpha2: alpha(second, global_scale, global2)?,
            factor1: self.factor1,
            factor2: self.factor2,
            workspace: self.workspace,
            workspace_bytes: self.workspace_bytes,
        })
    }
}

fn stride(what: &str, elements: usize) -> Result<i64> {
    i64::try_from(elements).map_err(|_| {
        let reason = format!("{what} = {elements} is more than {}", i64::MAX);
        Error::Cuda(CudaError::Refused { reason })
    })
}

/// The sizes of a matrix, and the kernels' own account of what they read or write against what is there.
fn check_matrix(
    matrix: &DeviceMatrix,
    operand: Operand,
    names: [&'static str; 2],
    expected: (usize, usize, usize),
) -> Result<()> {
    let actual = (matrix.batch(), matrix.rows(), matrix.k());
    if actual != expected {
        return Err(Error::ShapeMismatch { operand, other: Operand::B1, expected, actual });
    }
    let (batch, rows, k) = actual;
    let abi::nvfp4_shape { m, k, batch, .. } = kernel::sizes_of(operand, batch, rows, k)?;
    let codes = (names[0], matrix.codes(), ffi::codes_bytes(m, k, batch));
    let scales = (names[1], matrix.scales(), ffi::scales_bytes(m, k, batch));
    for (what, view, expected) in [codes, scales] {
        if view.len() != expected {
            return Err(Error::Cuda(CudaError::Length { what, expected, actual: view.len() }));
        }
    }
    Ok(())
}

fn check_c(operand: Operand, m: usize, weights: &Weights, actual: usize) -> Result<()> {
    let (batch, n) = (weights.batch(), weights.n());
    let overflow = Error::SizeOverflow { operand, batch, rows: m, cols: n };
    let expected = batch.checked_mul(m).and_then(|values| values.checked_mul(n)).ok_or(overflow)?;
    if actual != expected {
        let buffer = Buffer::Values;
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
