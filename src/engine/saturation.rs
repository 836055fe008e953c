//! What the global scales of a layer's activations cannot represent.

use super::Layer;
use crate::dtype::{Element, Values, each_type};
use crate::error::{Operand, Result};
use crate::format::{Saturation, quantize};
use crate::memory;
use crate::op::{InputScale, Precision};
use crate::shape;

/// What the global scales of a [`Layer`] clip, or are too coarse for, of the activations that it quantizes
/// ([`Layer::saturation`]).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct LayerSaturation {
    /// Of x; `None` where it is not quantized.
    pub x: Option<Saturation>,
    /// Of h; `None` where it is not quantized, or is the result.
    pub h: Option<Saturation>,
}

impl Layer {
    /// Looks at what [`Layer::run`] would quantize of `x` \[rows, in_features\]: x itself, and h as its engine computes it.
    ///
    /// That is for finding out whether calibrated scales fit. It costs about a run of gate and up, for which a device
    /// gets their weights once more; runs look at nothing.
    ///
    /// # Errors
    /// Those of [`Engine::load`](super::Engine::load) and [`Layer::run`] without the down projection.
    pub fn saturation<'x>(&self, x: impl Into<Values<'x>>, rows: usize) -> Result<LayerSaturation> {
        let (x, weights, known) = (x.into(), self.weights(), self.known_scales());
        let (k, n) = (self.in_features(), weights.intermediate_features());
        shape::check_values(rows, (k, x.len()), (n, rows.saturating_mul(n)))?;
        let Precision::W4A4 { scale } = self.precision() else {
            return Ok(LayerSaturation::default());
        };
        let of_x = each_type!(Values, x, x => of(x, k, scale, known.x));
        let mut found = LayerSaturation { x: Some(of_x), h: None };
        if weights.down_proj().is_some() {
            let mut h = memory::filled(0f32, rows * n, Operand::H)?;
            self.gate_up()?.run(x, rows, &mut h[..])?;
            found.h = Some(of(&h, n, scale.of_down(), known.h));
        }
        Ok(found)
    }
}

/// Of rows of `cols` values, with the global scale that is `known`, or else the one that `scale` means.
fn of<T: Element>(values: &[T], cols: usize, scale: InputScale, known: Option<f32>) -> Saturation {
    let own = |values: &[T]| quantize::global_of_amax(quantize::amax(values));
    match (scale, known) {
        (InputScale::PerRow, _) => {
            let rows = values.chunks_exact(cols).map(|row| Saturation::of(row, own(row)));
            rows.fold(Saturation::of::<T>(&[], 0.0), |all, row| all.and(&row))
        }
        (_, known) => Saturation::of(values, known.unwrap_or_else(|| own(values))),
    }
}
