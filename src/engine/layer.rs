//! A layer: weights prepared by an engine, ready to run.

use std::fmt;
use std::sync::Arc;

use super::{Engine, Kind};
use crate::cpu;
#[cfg(feature = "cuda")]
use crate::cuda::LayerPlan;
use crate::dtype::{Element, Values, ValuesMut, each_type};
use crate::error::{Error, Operand, Result};
use crate::format::{BLOCK, quantize};
use crate::glu::Glu;
use crate::matrix::Nvfp4View;
use crate::op::{InputScale, MlpWeights, Precision};
use crate::oracle;
use crate::shape::{self, GemmShape};

/// How a layer runs, apart from its weights.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Spec {
    /// The precision. By default, activations are quantized to NVFP4 with the calibrated scale.
    pub precision: Precision,
    /// The function that joins the products; `None` takes that of the weights.
    pub glu: Option<Glu>,
}

impl Spec {
    /// Quantizes activations with this global scale.
    pub fn input_scale(mut self, scale: InputScale) -> Self {
        self.precision = Precision::W4A4 { scale };
        self
    }

    /// Joins the products by this function.
    pub fn glu(mut self, glu: Glu) -> Self {
        self.glu = Some(glu);
        self
    }
}

/// Weights that an engine has prepared: `y = glu(x·gate_projᵀ, x·up_projᵀ)`, as often as needed.
///
/// Clones are the same layer. It owns what it needs, and several threads may use it at once.
///
/// With [`InputScale::Calibrated`] (where the weights have such a scale), [`InputScale::Fixed`] and
/// [`InputScale::PerRow`], a row of y depends on the same row of x alone, whatever else is in the batch. On the CPU it
/// is the same to the bit as long as the same kernel computes it (AMX takes over at 17 rows). On a device another
/// number of rows may get another kernel, which adds in another order.
#[derive(Clone)]
pub struct Layer(Arc<Inner>);

struct Inner {
    engine: Engine,
    weights: MlpWeights,
    scale: InputScale,
    /// The one global scale of all activations, where it is known beforehand.
    known_scale: Option<f32>,
    #[cfg(feature = "cuda")]
    on_device: Option<LayerPlan>,
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer")
            .field("engine", &self.0.engine.to_string())
            .field("in_features", &self.in_features())
            .field("out_features", &self.out_features())
            .field("scale", &self.0.scale)
            .finish_non_exhaustive()
    }
}

impl Layer {
    pub(super) fn new(engine: &Engine, weights: MlpWeights, spec: &Spec) -> Result<Self> {
        let Precision::W4A4 { scale } = spec.precision else {
            let reason = format!("layers in {} are not built yet", spec.precision);
            return Err(Error::BackendUnavailable { backend: engine.to_string(), reason });
        };
        if weights.down_proj().is_some() {
            let reason = "layers with a down projection are not built yet".to_owned();
            return Err(Error::BackendUnavailable { backend: engine.to_string(), reason });
        }
        let weights = match spec.glu {
            Some(glu) => weights.with_glu(glu)?,
            None => weights,
        };
        let known_scale = weights.known_scale(scale)?;
        weights.check(spec.precision)?;
        #[cfg(feature = "cuda")]
        let on_device = match &engine.0.kind {
            Kind::Cuda(cuda) => Some(cuda.load(&weights, scale, known_scale)?),
            _ => None,
        };
        Ok(Layer(Arc::new(Inner {
            engine: engine.clone(),
            weights,
            scale,
            known_scale,
            #[cfg(feature = "cuda")]
            on_device,
        })))
    }

    /// Computes `y` \[rows, N\] of `x` \[rows, K\], both row-major. Leading dimensions count as rows, and there may be
    /// none. Each may be a slice, an array or a vector of f32, f16 or bf16.
    ///
    /// # Errors
    /// [`Error::Length`] of x (operand a) or y (operand c); [`Error::NonFinite`] for a NaN or an infinity in x, with
    /// its place, and what y holds then is unspecified; [`Error::Alpha`] where the product of the global scales of x
    /// and of a weight is not a normal f32; [`Error::OutOfMemory`]; those of the device.
    pub fn run<'x, 'y>(
        &self,
        x: impl Into<Values<'x>>,
        rows: usize,
        y: impl Into<ValuesMut<'y>>,
    ) -> Result<()> {
        let (x, y) = (x.into(), y.into());
        let (k, n) = (self.in_features(), self.out_features());
        shape::check_values(rows, (k, x.len()), (n, y.len()))?;
        if rows == 0 {
            return Ok(());
        }
        each_type!(Values, x, x => each_type!(ValuesMut, y, y => self.run_typed(x, rows, y)))
    }

    fn run_typed<X: Element, Y: Element>(&self, x: &[X], rows: usize, y: &mut [Y]) -> Result<()> {
        let Inner { engine, weights, scale, .. } = &*self.0;
        #[cfg(feature = "cuda")]
        if let (Kind::Cuda(cuda), Some(on_device)) = (&engine.0.kind, &self.0.on_device) {
            return cuda.run_layer(on_device, x, rows, y);
        }
        let (k, scratch) = (weights.in_features(), &engine.0.scratch);
        let shape = GemmShape { m: rows, n: weights.out_features(), k, batch: 1 };
        engine.in_pool(shape, || {
            let mut buffers = scratch.take::<Quantized>();
            let Quantized { codes, scales, row_scales } = &mut *buffers;
            let (codes, scales) = (first(codes, rows * k / 2), first(scales, rows * k / BLOCK));
            let at = |e: Error| e.with_operand(Operand::A);
            let amax = quantize::finite_amax(x, rows, k).map_err(at)?;
            let (global, row_scales) = match (scale, self.0.known_scale) {
                (InputScale::PerRow, _) => {
                    let row_scales = first(row_scales, rows);
                    quantize::quantize_rows_into(x, k, row_scales, codes, scales);
                    (1.0, Some(&*row_scales))
                }
                (_, known) => {
                    let global = known.unwrap_or_else(|| quantize::global_of_amax(amax));
                    quantize::quantize_into(x, global, codes, scales);
                    (global, None)
                }
            };
            let a = Nvfp4View::new(1, rows, k, codes, scales, global).map_err(at)?;
            let gemm = weights.gate_up_gemm(a)?;
            let gemm = match row_scales {
                Some(row_scales) => gemm.with_row_scales(row_scales)?,
                None => gemm,
            };
            match engine.0.kind {
                Kind::Cpu(isa) => cpu::run(&gemm, isa, scratch, y),
                _ => oracle::exact_into(&gemm, y),
            }
        })
    }

    /// K: length of a row of x.
    pub fn in_features(&self) -> usize {
        self.0.weights.in_features()
    }

    /// N: length of a row of y.
    pub fn out_features(&self) -> usize {
        self.0.weights.out_features()
    }

    /// The weights, as they were given.
    pub fn weights(&self) -> &MlpWeights {
        &self.0.weights
    }

    /// The engine that runs it.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// The layer on the device, to launch with activations that are there already; `None` for other engines.
    #[cfg(feature = "cuda")]
    pub fn on_device(&self) -> Option<&LayerPlan> {
        self.0.on_device.as_ref()
    }
}

/// Buffers for quantized activations.
#[derive(Default)]
struct Quantized {
    codes: Vec<u8>,
    scales: Vec<u8>,
    row_scales: Vec<f32>,
}

/// The first `len` elements, of which there are enough afterwards; what they hold does not matter.
fn first<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
    &mut buffer[..len]
}
