//! What a layer launches, one after the other, and where in the scratch memory each finds what the one before wrote.

use std::ffi::c_void;
use std::ops::Range;

use crate::cuda::convert::Conversion;
use crate::cuda::ffi::sys::cudart;
use crate::cuda::io::{RawActivations, RawDestination, RawIo, RoundFirst};
use crate::cuda::kernel;
use crate::cuda::plan::Plan;
use crate::cuda::quantizer::{self, Work};
use crate::cuda::rt::memory::{Owner, VECTOR_ALIGNMENT, require_aligned};
use crate::dtype::DType;
use crate::error::{CudaError, Error, Operand, Result};
use crate::format::scale_layout::ScaleLayout;
use crate::op::{Stage, of_down};
use crate::shape::MatrixShape;

/// Where parts of the scratch memory begin: a multiple of this.
pub(in crate::cuda) const ALIGNMENT: usize = 256;

/// How values become the activations of a plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Input {
    /// They are quantized to NVFP4: with this global scale, or with one that is found anew each time.
    Nvfp4(Option<f32>),
    /// They are f16 or bf16, or are rounded to it.
    Values(DType),
}

/// What a chain is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The dual GEMM of gate_proj and up_proj.
    pub gate_up: Plan,
    pub input: Input,
    /// The GEMM of down_proj, and how it takes its input.
    pub down: Option<(Plan, Input)>,
    /// K of x; that of the weights on the device may be padded.
    pub k: usize,
    /// Every row is a problem of its own, with global scales of its own.
    pub per_row: bool,
}

/// The launches from x to y.
#[derive(Debug)]
pub(in crate::cuda) struct Chain {
    parts: Parts,
    between: Between,
}

/// How h gets from one plan to the next.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Between {
    /// It does not: it is y.
    Nothing,
    /// In NVFP4, from the kernel that computes it, with this global scale.
    Nvfp4(f32),
    /// As values of this type, which are the activations of the next plan.
    Direct(DType),
    /// As values in f32 that become activations by kernels between.
    Indirect(Input),
}

/// The operands of a launch as addresses, for memory that a framework owns. K is that of x, N that of y.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RawValues {
    /// Rows of x and y; leading dimensions count as rows.
    pub rows: usize,
    /// x \[rows, K\], from a multiple of 16 bytes on.
    pub x: *const c_void,
    /// Type of the elements of x.
    pub x_type: DType,
    /// From one row of x to the next, in elements: K where they are contiguous, a multiple of 16 bytes.
    pub x_row_stride: usize,
    /// y \[rows, N\].
    pub y: *mut c_void,
    /// Type of the elements of y.
    pub y_type: DType,
    /// From one row of y to the next, in elements, at least N; 0 is N.
    pub y_row_stride: usize,
    /// R \[rows, N\] of the type of y, which the down projection adds to its product, or null. It may be y itself.
    pub residual: *const c_void,
    /// From one row of R to the next, in elements, at least N; 0 is N.
    pub residual_row_stride: usize,
    /// Scratch memory, from a multiple of 256 bytes on; all zero before its first use.
    pub scratch: *mut c_void,
    /// Bytes of it, at least [`LayerPlan::scratch_bytes`](crate::cuda::LayerPlan::scratch_bytes).
    pub scratch_bytes: usize,
}

/// Activations of a plan in the scratch memory.
#[derive(Debug, Clone, Copy)]
struct Activations {
    /// An `nvfp4::QuantizeState`.
    state: usize,
    /// Codes of NVFP4, or values.
    codes: usize,
    scales: usize,
}

/// Offsets in the scratch memory.
pub(in crate::cuda) struct Scratch {
    x: Activations,
    h: Activations,
    /// Values of h that become activations.
    h_values: usize,
    workspace: usize,
    pub end: usize,
}

impl RawValues {
    /// Contiguous values, and scratch memory.
    pub fn new(
        rows: usize,
        (x, x_type, k): (*const c_void, DType, usize),
        (y, y_type): (*mut c_void, DType),
        (scratch, scratch_bytes): (*mut c_void, usize),
    ) -> Self {
        RawValues {
            rows,
            x,
            x_type,
            x_row_stride: k,
            y,
            y_type,
            y_row_stride: 0,
            residual: std::ptr::null(),
            residual_row_stride: 0,
            scratch,
            scratch_bytes,
        }
    }
}

impl Chain {
    pub fn new(parts: Parts) -> Self {
        let n = parts.gate_up.weights().n();
        let whole = n == quantizer::padded(n);
        let between = match &parts.down {
            None => Between::Nothing,
            Some((_, Input::Nvfp4(Some(scale)))) if whole => Between::Nvfp4(*scale),
            Some((_, Input::Values(dtype))) if whole => Between::Direct(*dtype),
            Some((_, input)) => Between::Indirect(*input),
        };
        Chain { parts, between }
    }

    /// The dual GEMM of gate_proj and up_proj.
    pub fn plan(&self) -> &Plan {
        &self.parts.gate_up
    }

    pub fn down_plan(&self) -> Option<&Plan> {
        self.parts.down.as_ref().map(|(plan, _)| plan)
    }

    /// What x becomes.
    pub fn input(&self) -> Input {
        self.parts.input
    }

    /// Whether the dual GEMM writes h in NVFP4.
    pub fn quantizes_in_epilogue(&self) -> bool {
        matches!(self.between, Between::Nvfp4(_))
    }

    /// Length of a row of x.
    pub fn k(&self) -> usize {
        self.parts.k
    }

    /// Length of a row of y.
    pub fn n(&self) -> usize {
        self.down_plan().unwrap_or(self.plan()).weights().n()
    }

    pub fn scratch(&self, rows: usize) -> Result<Scratch> {
        let rows = if self.parts.per_row { rows.min(1) } else { rows };
        let mut end = Some(0usize);
        let mut take = |bytes: Option<usize>| {
            let begin = end;
            let sum = begin.zip(bytes).and_then(|(begin, bytes)| begin.checked_add(bytes));
            end = sum.and_then(|sum| sum.checked_next_multiple_of(ALIGNMENT));
            begin.unwrap_or(0)
        };
        // The states come first, where no other layer of the same scratch memory writes.
        let [of_x, of_h] = [(); 2].map(|()| take(Some(quantizer::state_bytes())));
        let x = activations(&mut take, of_x, rows, self.parts.k, Some(self.parts.input))?;
        let n = self.plan().weights().n();
        let (input, values) = match (self.between, &self.parts.down) {
            (Between::Nothing, _) | (_, None) => (None, None),
            (Between::Indirect(input), _) => (Some(input), Some(DType::F32)),
            (_, Some((_, input))) => (Some(*input), None),
        };
        let h = activations(&mut take, of_h, rows, n, input)?;
        let size = values.map_or(0, DType::size);
        let h_values = take(rows.checked_mul(n).and_then(|values| values.checked_mul(size)));
        let mut workspace_bytes = self.plan().workspace_bytes(rows)?;
        if let Some(down) = self.down_plan() {
            workspace_bytes = workspace_bytes.max(down.workspace_bytes(rows)?);
        }
        let workspace = take(Some(workspace_bytes));
        let (operand, batch, cols) = (Operand::A, 1, self.parts.k);
        let end = end.ok_or(Error::SizeOverflow { operand, batch, rows, cols })?;
        Ok(Scratch { x, h, h_values, workspace, end })
    }

    pub fn weights(&self) -> impl Iterator<Item = &Owner> {
        let plans = std::iter::once(self.plan()).chain(self.down_plan());
        plans.flat_map(|plan| plan.weights().owners())
    }

    /// Where launches of so many rows note what is not finite, in rows of how many columns, of which operand.
    pub fn states(&self, rows: usize) -> Result<Vec<(usize, usize, Operand)>> {
        let scratch = self.scratch(rows)?;
        let mut states = vec![(scratch.x.state, self.k(), Operand::A)];
        if matches!(self.between, Between::Indirect(_)) {
            states.push((scratch.h.state, self.plan().weights().n(), Operand::H));
        }
        Ok(states)
    }

    /// Whether x of this type goes to the kernel as it is, so that nothing looks for NaN and infinity in it.
    pub fn takes_as_it_is(&self, dtype: DType) -> bool {
        self.parts.input == Input::Values(dtype) && quantizer::padded(self.k()) == self.k()
    }

    pub fn check_values(&self, values: &RawValues) -> Result<Scratch> {
        let rows = values.rows;
        let parts = self.scratch(rows)?;
        kernel::size(Operand::A, "M", rows)?;
        if rows == 0 {
            return Ok(parts);
        }
        let (expected, actual) = (parts.end, values.scratch_bytes);
        if actual < expected {
            return Err(Error::Cuda(CudaError::Length { what: "scratch", expected, actual }));
        }
        require_aligned(values.x, VECTOR_ALIGNMENT)?;
        require_aligned(values.scratch, ALIGNMENT)?;
        let refuse = |reason: String| Err(Error::Cuda(CudaError::Refused { reason }));
        let (stride, size, k) = (values.x_row_stride, values.x_type.size(), self.k());
        if rows > 1 && (stride < k || !stride.is_multiple_of(VECTOR_ALIGNMENT / size)) {
            return refuse(format!(
                "x: a row stride of {stride} {} is less than K = {k} or no multiple of {VECTOR_ALIGNMENT} bytes",
                values.x_type
            ));
        }
        for (what, stride) in [("y", values.y_row_stride), ("residual", values.residual_row_stride)]
        {
            if stride != 0 && stride < self.n() {
                return refuse(format!(
                    "{what}: a row stride of {stride} is less than N = {}",
                    self.n()
                ));
            }
        }
        self.check_overlaps(values, parts.end)?;
        if !values.residual.is_null() && self.parts.down.is_none() {
            return refuse(
                "residual: the layer has no down projection, which would add it".to_owned(),
            );
        }
        Ok(parts)
    }

    /// What the launches of a chain do to each other's operands; what one launch does is the host code's to see.
    fn check_overlaps(&self, values: &RawValues, scratch_bytes: usize) -> Result<()> {
        let region = |address: usize, columns: usize, stride: usize, dtype: DType| {
            let stride = if stride == 0 || values.rows == 1 { columns } else { stride };
            let elements = (values.rows - 1).saturating_mul(stride).saturating_add(columns);
            address..address.saturating_add(elements.saturating_mul(dtype.size()))
        };
        let apart = |a: &Range<usize>, b: &Range<usize>| a.end <= b.start || b.end <= a.start;
        let x = region(values.x as usize, self.k(), values.x_row_stride, values.x_type);
        let y = region(values.y as usize, self.n(), values.y_row_stride, values.y_type);
        let residual = values.residual as usize;
        let r = region(residual, self.n(), values.residual_row_stride, values.y_type);
        let scratch = values.scratch as usize;
        let scratch = scratch..scratch.saturating_add(scratch_bytes);
        let refuse = |reason: String| Err(Error::Cuda(CudaError::Refused { reason }));
        for (what, region) in [("x", &x), ("y", &y), ("residual", &r)] {
            let there = what != "residual" || residual != 0;
            if there && !apart(region, &scratch) {
                return refuse(format!("{what} overlaps the scratch memory"));
            }
        }
        if self.parts.per_row && values.rows > 1 && !apart(&x, &y) {
            return refuse("y overlaps x, and rows are computed one after the other".to_owned());
        }
        Ok(())
    }

    /// Calls `after` as each stage has been queued.
    ///
    /// # Safety
    /// The values passed `check_values`, of which `parts` came; their memory lives until the work has run, and
    /// `stream` is a live stream of the plan's device, which is current.
    pub unsafe fn queue(
        &self,
        values: &RawValues,
        parts: &Scratch,
        stream: cudart::cudaStream_t,
        after: &mut dyn FnMut(Stage) -> Result<()>,
    ) -> Result<()> {
        if !self.parts.per_row {
            // SAFETY: the caller's.
            return unsafe { self.queue_rows(values, parts, stream, after) };
        }
        // A kernel multiplies by one alpha: each row is a problem of its own.
        let bytes = |stride: usize, dtype: DType| {
            let columns = if stride == 0 { self.n() } else { stride };
            columns * dtype.size()
        };
        let x_bytes = values.x_row_stride * values.x_type.size();
        let y_bytes = bytes(values.y_row_stride, values.y_type);
        let residual_bytes = bytes(values.residual_row_stride, values.y_type);
        for row in 0..values.rows {
            let mut of_row = RawValues { rows: 1, ..*values };
            of_row.x = values.x.wrapping_byte_add(row * x_bytes);
            of_row.y = values.y.wrapping_byte_add(row * y_bytes);
            if !values.residual.is_null() {
                of_row.residual = values.residual.wrapping_byte_add(row * residual_bytes);
            }
            // SAFETY: a row of the caller's values, which begins at a multiple of 16 bytes as the stride is one.
            unsafe { self.queue_rows(&of_row, parts, stream, after) }?;
        }
        Ok(())
    }

    /// # Safety
    /// That of `queue`.
    unsafe fn queue_rows(
        &self,
        values: &RawValues,
        parts: &Scratch,
        stream: cudart::cudaStream_t,
        after: &mut dyn FnMut(Stage) -> Result<()>,
    ) -> Result<()> {
        let rows = values.rows;
        let part = |offset: usize| values.scratch.wrapping_byte_add(offset);
        let n = self.plan().weights().n();
        let x = Given {
            values: values.x,
            dtype: values.x_type,
            row_stride: values.x_row_stride,
            rows,
            k: self.k(),
        };
        // SAFETY: the caller's, and the parts of the scratch memory have the lengths that `scratch` counted.
        let a = unsafe { x.queue(self.parts.input, parts.x.at(values.scratch), stream) }?;
        after(Stage::X)?;
        let y = RawDestination::Values {
            values: values.y,
            dtype: values.y_type,
            row_stride: values.y_row_stride,
        };
        let h_codes = part(parts.h.codes);
        let of_h = |values, dtype| RawDestination::Values { values, dtype, row_stride: 0 };
        let c = match self.between {
            Between::Nothing => y,
            Between::Nvfp4(global_scale) => RawDestination::Nvfp4 {
                codes: h_codes,
                scales: part(parts.h.scales),
                global_scale,
                round_first: RoundFirst::None,
            },
            Between::Direct(dtype) => of_h(h_codes, dtype),
            Between::Indirect(_) => of_h(part(parts.h_values), DType::F32),
        };
        let launch = |plan: &Plan, a: Ready, c: RawDestination, residual: *const c_void| {
            let mut io = RawIo::new(rows, a.activations, c);
            (io.factor1, io.factor2) = (a.factor, a.factor);
            if !residual.is_null() {
                (io.residual, io.residual_row_stride) = (residual, values.residual_row_stride);
            }
            io.workspace = part(parts.workspace);
            io.workspace_bytes = parts.end - parts.workspace;
            // SAFETY: as above.
            unsafe { plan.launch_raw(&io, stream.cast()) }
        };
        launch(self.plan(), a, c, std::ptr::null())?;
        after(Stage::GateUp)?;
        let Some(down) = self.down_plan() else { return Ok(()) };
        let at = parts.h.at(values.scratch);
        let h = match self.between {
            Between::Nothing => return Ok(()),
            Between::Nvfp4(global_scale) => at.nvfp4(global_scale, std::ptr::null()),
            Between::Direct(dtype) => Ready::values(at.codes, dtype, 0),
            Between::Indirect(input) => {
                let h = part(parts.h_values);
                let h = Given { values: h, dtype: DType::F32, row_stride: n, rows, k: n };
                // SAFETY: as above.
                unsafe { h.queue(input, at, stream) }?
            }
        };
        after(Stage::H)?;
        launch(down, h, y, values.residual).map_err(of_down)?;
        after(Stage::Down)
    }
}

/// Takes room for activations \[rows, k\] that are made as `input` says.
fn activations(
    mut take: impl FnMut(Option<usize>) -> usize,
    state: usize,
    rows: usize,
    k: usize,
    input: Option<Input>,
) -> Result<Activations> {
    let shape = MatrixShape::new(1, rows, quantizer::padded(k));
    let MatrixShape { cols, .. } = shape.map_err(|e| e.with_operand(Operand::A))?;
    Ok(match input {
        None => Activations { state, codes: 0, scales: 0 },
        Some(Input::Nvfp4(_)) => {
            let codes = take(Some(rows * cols / 2));
            let scales = take(Some(ScaleLayout::new(1, rows, cols)?.swizzled_len()));
            Activations { state, codes, scales }
        }
        Some(Input::Values(dtype)) => {
            Activations { state, codes: take(Some(rows * cols * dtype.size())), scales: 0 }
        }
    })
}

/// Addresses of [`Activations`].
#[derive(Clone, Copy)]
struct Place {
    state: *mut c_void,
    codes: *mut c_void,
    scales: *mut c_void,
}

impl Activations {
    fn at(&self, scratch: *mut c_void) -> Place {
        let part = |offset: usize| scratch.wrapping_byte_add(offset);
        Place { state: part(self.state), codes: part(self.codes), scales: part(self.scales) }
    }
}

impl Place {
    fn nvfp4(self, global_scale: f32, factor: *const f32) -> Ready {
        let (codes, scales) = (self.codes.cast_const(), self.scales.cast_const());
        Ready { activations: RawActivations::Nvfp4 { codes, scales, global_scale }, factor }
    }
}

/// Activations as a plan takes them.
#[derive(Clone, Copy)]
struct Ready {
    activations: RawActivations,
    /// Their global scale where it was found on the device, or null.
    factor: *const f32,
}

impl Ready {
    fn values(values: *const c_void, dtype: DType, row_stride: usize) -> Self {
        let factor = std::ptr::null();
        Ready { activations: RawActivations::Values { values, dtype, row_stride }, factor }
    }
}

/// Values \[rows, k\] that are to become activations.
struct Given {
    values: *const c_void,
    dtype: DType,
    row_stride: usize,
    rows: usize,
    k: usize,
}

impl Given {
    /// Queues what makes activations of them at `place`, if they are none yet.
    ///
    /// # Safety
    /// The values are memory of the current device, and so is what `place` says, with room for the activations, until
    /// the work has run; `stream` is a live stream of the device.
    unsafe fn queue(
        self,
        input: Input,
        place: Place,
        stream: cudart::cudaStream_t,
    ) -> Result<Ready> {
        let Given { values, dtype, row_stride, rows, k } = self;
        // A single row has no next one, and frameworks give it any stride.
        let row_stride = if rows == 1 { k } else { row_stride };
        let Place { state, codes, scales } = place;
        match input {
            Input::Nvfp4(global_scale) => {
                let shape = MatrixShape::new(1, rows, k)?;
                let known_scale = global_scale;
                let work =
                    Work { values, dtype, row_stride, shape, codes, scales, state, known_scale };
                // SAFETY: the caller's.
                unsafe { work.queue(stream) }?;
                let found = state.wrapping_byte_add(quantizer::global_scale_offset());
                Ok(match global_scale {
                    Some(global_scale) => place.nvfp4(global_scale, std::ptr::null()),
                    None => place.nvfp4(1.0, found.cast_const().cast()),
                })
            }
            Input::Values(out_type) => {
                let out_k = quantizer::padded(k);
                if dtype == out_type && k == out_k {
                    return Ok(Ready::values(values, dtype, row_stride));
                }
                let out = codes;
                let work =
                    Conversion { values, dtype, row_stride, rows, k, out, out_type, out_k, state };
                // SAFETY: the caller's.
                unsafe { work.queue(stream) }?;
                Ok(Ready::values(out, out_type, 0))
            }
        }
    }
}
