//! A layer: weights prepared by an engine, ready to run.

use std::fmt;
use std::sync::Arc;

use super::host::{KnownScales, Mlp};
use super::{Engine, Kind};
#[cfg(feature = "cuda")]
use crate::cuda::LayerPlan;
use crate::dtype::{Element, Values, ValuesMut, each_type};
use crate::error::Result;
use crate::glu::Glu;
use crate::op::{InputScale, MlpWeights, Precision, Stage};
use crate::oracle;
use crate::shape::{self, GemmShape};

/// How a layer runs, apart from its weights.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Spec {
    /// The precision; `None` takes the one that the weights are meant for ([`MlpWeights::precision`]).
    pub precision: Option<Precision>,
    /// The function that joins the products; `None` takes that of the weights.
    pub glu: Option<Glu>,
}

impl Spec {
    /// Computes in this precision.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = Some(precision);
        self
    }

    /// Computes in [`Precision::W4A4`], and quantizes activations with this global scale.
    pub fn input_scale(self, scale: InputScale) -> Self {
        self.precision(Precision::W4A4 { scale })
    }

    /// Joins the products by this function.
    pub fn glu(mut self, glu: Glu) -> Self {
        self.glu = Some(glu);
        self
    }
}

/// Weights that an engine has prepared, as often as needed: `y = h·down_projᵀ` of `h = glu(x·gate_projᵀ, x·up_projᵀ)`, with
/// biases where there are any, or `y = h` of weights without a down projection ([`MlpWeights::gate_up`]).
///
/// In [`Precision::W4A4`] x and h are quantized to NVFP4, h from f32. In [`Precision::W4A16`](const@crate::Precision::W4A16) they have 16 bits: x as it is,
/// or rounded where it is f32, and h rounded to the type of x.
///
/// Clones are the same layer. It owns what it needs, and several threads may use it at once.
///
/// With [`InputScale::Calibrated`] (where the weights have such a scale), [`InputScale::Fixed`] and
/// [`InputScale::PerRow`], a row of y depends on the same row of x alone, whatever else is in the batch. On the CPU it
/// is the same to the bit as long as the same kernel computes it (AMX takes over at 17 rows, and at 5 rows of bf16). On a device another
/// number of rows may get another kernel, which adds in another order.
#[derive(Clone)]
pub struct Layer(Arc<Inner>);

struct Inner {
    engine: Engine,
    weights: MlpWeights,
    precision: Precision,
    known_scales: KnownScales,
    #[cfg(feature = "cuda")]
    on_device: Option<LayerPlan>,
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer")
            .field("engine", &self.0.engine.to_string())
            .field("in_features", &self.in_features())
            .field("out_features", &self.out_features())
            .field("precision", &self.0.precision)
            .finish_non_exhaustive()
    }
}

impl Layer {
    pub(super) fn new(engine: &Engine, weights: MlpWeights, spec: &Spec) -> Result<Self> {
        let weights = match spec.glu {
            Some(glu) => weights.with_glu(glu)?,
            None => weights,
        };
        let precision = spec.precision.unwrap_or(weights.precision());
        weights.check(precision)?;
        let known_scales = match precision {
            Precision::W4A4 { scale } => {
                KnownScales { x: weights.known_scale(scale)?, h: weights.known_down_scale(scale)? }
            }
            Precision::W4A16 { .. } => KnownScales { x: None, h: None },
        };
        #[cfg(feature = "cuda")]
        let on_device = match &engine.0.kind {
            Kind::Cuda(cuda) => Some(cuda.load(&weights, precision, known_scales)?),
            _ => None,
        };
        Ok(Layer(Arc::new(Inner {
            engine: engine.clone(),
            weights,
            precision,
            known_scales,
            #[cfg(feature = "cuda")]
            on_device,
        })))
    }

    /// Computes `y` \[rows, out_features\] of `x` \[rows, in_features\], both row-major. Leading dimensions count as rows, and there may be
    /// none. Each may be a slice, an array or a vector of f32, f16 or bf16.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) of x (operand a) or y (operand c); [`Error::NonFinite`](crate::Error::NonFinite) for a NaN or an infinity in x, with
    /// its place, and what y holds then is unspecified; [`Error::Alpha`](crate::Error::Alpha) where the product of the global scales of x
    /// and of a weight is known and is not a normal f32; [`Error::NonFinite`](crate::Error::NonFinite) of h, where a step
    /// between looks at it: not on a device that takes h from one kernel to the next as it is, where infinities saturate
    /// (NVFP4) or go into y (16 bits); [`Error::OutOfMemory`](crate::Error::OutOfMemory); those of the device.
    pub fn run<'x, 'y>(
        &self,
        x: impl Into<Values<'x>>,
        rows: usize,
        y: impl Into<ValuesMut<'y>>,
    ) -> Result<()> {
        self.run_any(x.into(), rows, y.into(), None)
    }

    /// [`Layer::run`] that calls `done` as each stage has ended, in the order of [`Stage`], so that stages can be timed. On
    /// a device it waits after each; with input scales per row, stages come once a row. The oracle has no stages.
    ///
    /// # Errors
    /// Those of [`Layer::run`].
    pub fn run_in_stages<'x, 'y>(
        &self,
        x: impl Into<Values<'x>>,
        rows: usize,
        y: impl Into<ValuesMut<'y>>,
        mut done: impl FnMut(Stage) + Send,
    ) -> Result<()> {
        self.run_any(x.into(), rows, y.into(), Some(&mut done))
    }

    fn run_any(
        &self,
        x: Values<'_>,
        rows: usize,
        y: ValuesMut<'_>,
        done: Option<&mut (dyn FnMut(Stage) + Send)>,
    ) -> Result<()> {
        let (k, n) = (self.in_features(), self.out_features());
        shape::check_values(rows, (k, x.len()), (n, y.len()))?;
        if rows == 0 {
            return Ok(());
        }
        each_type!(Values, x, x => each_type!(ValuesMut, y, y => self.run_typed(x, rows, y, done)))
    }

    fn run_typed<X: Element, Y: Element>(
        &self,
        x: &[X],
        rows: usize,
        y: &mut [Y],
        done: Option<&mut (dyn FnMut(Stage) + Send)>,
    ) -> Result<()> {
        let Inner { engine, weights, precision, known_scales, .. } = &*self.0;
        #[cfg(feature = "cuda")]
        if let (Kind::Cuda(cuda), Some(on_device)) = (&engine.0.kind, &self.0.on_device) {
            return cuda.run_layer(on_device, x, rows, y, done);
        }
        let (k, n) = (weights.in_features(), weights.intermediate_features());
        let shape = GemmShape { m: rows, n, k, batch: 1 };
        let mut nothing = |_| {};
        let (precision, known, scratch) = (*precision, *known_scales, &engine.0.scratch);
        engine.in_pool(shape, || match engine.0.kind {
            Kind::Cpu(isa) => {
                let done = done.unwrap_or(&mut nothing);
                let mlp = Mlp { weights, precision, known, isa, scratch };
                mlp.run((x, rows), y, done)
            }
            _ => {
                y.copy_from_slice(&oracle::mlp(weights, x, rows, precision)?);
                Ok(())
            }
        })
    }

    /// K: length of a row of x.
    pub fn in_features(&self) -> usize {
        self.0.weights.in_features()
    }

    /// Length of a row of y.
    pub fn out_features(&self) -> usize {
        self.0.weights.out_features()
    }

    /// The precision in which it runs.
    pub fn precision(&self) -> Precision {
        self.0.precision
    }

    /// The weights, as they were given.
    pub fn weights(&self) -> &MlpWeights {
        &self.0.weights
    }

    pub(super) fn known_scales(&self) -> KnownScales {
        self.0.known_scales
    }

    /// The same engine's layer that ends at h.
    pub(super) fn gate_up(&self) -> Result<Layer> {
        self.engine().load(self.weights().gate_up(), &Spec::default().precision(self.precision()))
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
