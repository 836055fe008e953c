//! A whole MLP on the CPU, one projection after the other.

use half::{bf16, f16};

use crate::cpu::{self, Scratch};
use crate::dtype::{Element, Values, each_type};
use crate::error::{Error, Operand, Result};
use crate::format::{BLOCK, quantize};
use crate::matrix::{Nvfp4View, ValuesView};
use crate::op::{ActivationsView, DType16, InputScale, MlpWeights, Precision, Stage, of_down};
use crate::simd::Isa;

/// How values become activations.
#[derive(Debug, Clone, Copy)]
enum Input {
    /// Quantized with this global scale, or with that of all values.
    Nvfp4(Option<f32>),
    /// Quantized, each row with a global scale of its own.
    PerRow,
    /// As they are, or rounded to this type.
    Values(DType16),
}

impl Input {
    fn new(precision: Precision, known_scale: Option<f32>) -> Self {
        match precision {
            Precision::W4A4 { scale: InputScale::PerRow } => Input::PerRow,
            Precision::W4A4 { .. } => Input::Nvfp4(known_scale),
            Precision::W4A16 { round } => Input::Values(round),
        }
    }
}

/// Buffers of one call.
#[derive(Default)]
struct Buffers {
    x: Activations,
    h: Activations,
    /// h in f32, before it is quantized.
    values: Vec<f32>,
}

/// Activations in their form for the kernels.
#[derive(Default)]
struct Activations {
    codes: Vec<u8>,
    scales: Vec<u8>,
    row_scales: Vec<f32>,
    f16: Vec<f16>,
    bf16: Vec<bf16>,
}

/// Activations, and the global scales of their rows where these are apart.
type Ready<'a> = (ActivationsView<'a>, Option<&'a [f32]>);

/// Scales that are known before there are values ([`MlpWeights::known_scale`]).
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownScales {
    pub x: Option<f32>,
    pub h: Option<f32>,
}

/// An MLP that is ready to run.
pub(super) struct Mlp<'a> {
    pub weights: &'a MlpWeights,
    pub precision: Precision,
    pub known: KnownScales,
    pub isa: Isa,
    pub scratch: &'a Scratch,
}

impl Mlp<'_> {
    /// Computes `y` \[rows, out_features\] of `x` \[rows, in_features\]. h is quantized from f32, or rounded to the 16-bit
    /// type of x. Calls `done` after each stage.
    ///
    /// # Errors
    /// [`Error::NonFinite`] of x (operand a) and h, [`Error::Alpha`].
    pub fn run<X: Element, Y: Element>(
        &self,
        (x, rows): (&[X], usize),
        y: &mut [Y],
        done: &mut (dyn FnMut(Stage) + Send),
    ) -> Result<()> {
        let Mlp { weights, precision, known, isa, scratch } = *self;
        let mut buffers = scratch.take::<Buffers>();
        let Buffers { x: of_x, h: of_h, values } = &mut *buffers;
        let (k, n) = (weights.in_features(), weights.intermediate_features());
        let (a, row_scales) = of_x
            .make(Values::of(x), rows, k, Input::new(precision, known.x))
            .map_err(|e| e.with_operand(Operand::A))?;
        done(Stage::X);
        let mut gate_up = weights.gate_up_gemm(a)?;
        if let Some(row_scales) = row_scales {
            gate_up = gate_up.with_row_scales(row_scales)?;
        }
        if weights.down_proj().is_none() {
            cpu::run(&gate_up, isa, scratch, y)?;
            done(Stage::GateUp);
            return Ok(());
        }
        let at = |e: Error| e.with_operand(Operand::H);
        let (h, row_scales): Ready<'_> = match a {
            ActivationsView::Nvfp4(_) => {
                let h = first(values, rows * n);
                cpu::run(&gate_up, isa, scratch, h)?;
                done(Stage::GateUp);
                of_h.make(Values::F32(h), rows, n, Input::new(precision, known.h)).map_err(at)?
            }
            ActivationsView::F16(_) => {
                let h = first(&mut of_h.f16, rows * n);
                cpu::run(&gate_up, isa, scratch, h)?;
                done(Stage::GateUp);
                (ValuesView::new(1, rows, n, h).map_err(at)?.into(), None)
            }
            ActivationsView::Bf16(_) => {
                let h = first(&mut of_h.bf16, rows * n);
                cpu::run(&gate_up, isa, scratch, h)?;
                done(Stage::GateUp);
                (ValuesView::new(1, rows, n, h).map_err(at)?.into(), None)
            }
        };
        done(Stage::H);
        let mut down = weights.down_gemm(h)?;
        if let Some(row_scales) = row_scales {
            down = down.with_row_scales(row_scales).map_err(of_down)?;
        }
        cpu::run(&down, isa, scratch, y)?;
        done(Stage::Down);
        Ok(())
    }
}

impl Activations {
    fn make<'a>(
        &'a mut self,
        values: Values<'a>,
        rows: usize,
        k: usize,
        input: Input,
    ) -> Result<Ready<'a>> {
        match input {
            Input::Values(round) => Ok((self.rounded(values, rows, k, round)?, None)),
            Input::Nvfp4(known) => {
                each_type!(Values, values, values => self.quantized(values, rows, k, Some(known)))
            }
            Input::PerRow => {
                each_type!(Values, values, values => self.quantized(values, rows, k, None))
            }
        }
    }

    /// With one global scale, which may be known, or without `scale` with one for each row.
    fn quantized<T: Element>(
        &mut self,
        values: &[T],
        rows: usize,
        k: usize,
        scale: Option<Option<f32>>,
    ) -> Result<Ready<'_>> {
        let codes = first(&mut self.codes, rows * k / 2);
        let scales = first(&mut self.scales, rows * k / BLOCK);
        let amax = quantize::finite_amax(values, rows, k)?;
        let Some(known) = scale else {
            let row_scales = first(&mut self.row_scales, rows);
            quantize::quantize_rows_into(values, k, row_scales, codes, scales);
            return Ok((Nvfp4View::new(1, rows, k, codes, scales, 1.0)?.into(), Some(row_scales)));
        };
        let global = known.unwrap_or_else(|| quantize::global_of_amax(amax));
        quantize::quantize_into(values, global, codes, scales);
        Ok((Nvfp4View::new(1, rows, k, codes, scales, global)?.into(), None))
    }

    fn rounded<'a>(
        &'a mut self,
        values: Values<'a>,
        rows: usize,
        k: usize,
        round: DType16,
    ) -> Result<ActivationsView<'a>> {
        Ok(match (values, round) {
            (Values::F16(values), _) => ValuesView::new(1, rows, k, values)?.into(),
            (Values::Bf16(values), _) => ValuesView::new(1, rows, k, values)?.into(),
            (Values::F32(values), DType16::F16) => narrowed(values, rows, k, &mut self.f16)?.into(),
            (Values::F32(values), DType16::Bf16) => {
                narrowed(values, rows, k, &mut self.bf16)?.into()
            }
        })
    }
}

/// Rounds to nearest even. What overflows is named as it was.
fn narrowed<'a, T: Element>(
    values: &[f32],
    rows: usize,
    k: usize,
    out: &'a mut Vec<T>,
) -> Result<ValuesView<'a, T>> {
    let out = first(out, values.len());
    T::convert(values, out);
    ValuesView::new(1, rows, k, out).map_err(|error| match error {
        Error::NonFinite { operand, batch, row, col, .. } => {
            let value = values[row * k + col];
            Error::NonFinite { operand, value, batch, row, col }
        }
        error => error,
    })
}

/// The first `len` elements, of which there are enough afterwards; what they hold does not matter.
fn first<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
    &mut buffer[..len]
}
