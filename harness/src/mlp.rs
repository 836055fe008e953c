//! The check of a whole MLP against the exact oracle.
//!
//! A value of h next to a step of its quantization may become another code than the exact one, and every column of y then
//! differs by far more than rounding does. So h is checked by itself, as strictly as any GEMM, and y against the oracle
//! run from x to y, where each value may be off by what such steps explain ([`oracle::ExactMlp`]).

use serde::Serialize;

use nvfp4_dual_gemm::{Backend, Element, Engine, GemmShape, Layer, Result, Spec, oracle};

use crate::check::{Check, Exact, Rows};

/// The outcome of the check of an MLP.
#[derive(Debug, Clone, Serialize)]
pub struct MlpCheck {
    /// Whether all of it is as near to the oracle as is asked for.
    pub pass: bool,
    /// Of h, where y is another.
    pub h: Option<Check>,
    /// Of y, with what steps of h explain.
    pub y: Check,
    /// Largest `|y - exact|₂ / |exact|₂` of a row, steps of h included; `None` without a down projection or rows.
    pub end_to_end: Option<f64>,
}

impl MlpCheck {
    /// An error unless the check passed.
    pub fn require(&self) -> anyhow::Result<()> {
        if let Some(h) = &self.h {
            h.require()?;
        }
        self.y.require()
    }
}

/// Checks `y` \[rows, out_features\], which `layer` computed of `x`. `None` where no check is asked for, or where the
/// oracle would be compared with itself.
///
/// # Errors
/// Those of the layer and of the oracle.
pub fn check<X: Element, Y: Element>(
    layer: &Layer,
    x: &[X],
    rows: usize,
    y: &[Y],
    wanted: Rows,
) -> Result<Option<MlpCheck>> {
    if wanted == Rows::Some(0) || layer.engine().backend() == Backend::Oracle {
        return Ok(None);
    }
    let (weights, precision) = (layer.weights(), layer.precision());
    let (k, n) = (weights.in_features(), weights.intermediate_features());
    let has_down = weights.down_proj().is_some();
    let out = weights.out_features();
    // As much work for the oracle as a dual GEMM of this shape.
    let work = n + if has_down { out * n / (2 * k) } else { 0 };
    let chosen = wanted.choose(&GemmShape { m: rows, n: work, k, batch: 1 });
    let only: Vec<usize> = chosen.iter().map(|&(_, row)| row).collect();
    let exact = oracle::ExactMlp::new(weights, precision).rows::<X, Y>(x, rows, &only)?;
    let end_to_end = only.iter().zip(exact.values.chunks_exact(out));
    let end_to_end = end_to_end.map(|(&row, exact)| distance(&y[row * out..][..out], exact));
    let end_to_end = end_to_end.filter(|_| has_down).reduce(f64::max);
    let shape = GemmShape { m: rows, n: out, k, batch: 1 };
    let engine = layer.engine();
    let of_gate_up = engine.bound(k, 2);
    let bound = if has_down { engine.bound(n, 1) } else { of_gate_up };
    let y = Exact::of_mlp(chosen.clone(), exact).check(&shape, y, bound);
    if !has_down {
        return Ok(Some(MlpCheck { pass: y.pass, h: None, y, end_to_end }));
    }
    let h = hidden(layer, x, rows)?;
    let gate_up = weights.gate_up();
    let exact = oracle::ExactMlp::new(&gate_up, precision).rows::<X, f32>(x, rows, &only)?;
    let shape = GemmShape { m: rows, n, k, batch: 1 };
    let h = Exact::of_mlp(chosen, exact).check(&shape, &h, of_gate_up);
    Ok(Some(MlpCheck { pass: h.pass && y.pass, h: Some(h), y, end_to_end }))
}

/// h of the same engine, in f32: the same sums as in the whole layer.
fn hidden<X: Element>(layer: &Layer, x: &[X], rows: usize) -> Result<Vec<f32>> {
    let engine: &Engine = layer.engine();
    let spec = Spec::default().precision(layer.precision());
    let gate_up = engine.load(layer.weights().gate_up(), &spec)?;
    let mut h = vec![0.0; rows * gate_up.out_features()];
    gate_up.run(x, rows, &mut h)?;
    Ok(h)
}

fn distance<T: Element>(y: &[T], exact: &[T]) -> f64 {
    let (mut of_error, mut of_exact) = (0.0, 0.0);
    for (y, exact) in y.iter().zip(exact) {
        let (y, exact) = (f64::from(y.to_f32()), f64::from(exact.to_f32()));
        of_error += (y - exact) * (y - exact);
        of_exact += exact * exact;
    }
    if of_error == 0.0 { 0.0 } else { (of_error / of_exact).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvfp4_dual_gemm::{InputScale, MlpWeights, Nvfp4Matrix, Precision};

    fn matrix(rows: usize, cols: usize, step: f32) -> Nvfp4Matrix {
        let values: Vec<f32> = (0..rows * cols).map(|i| (i as f32 * step).sin()).collect();
        Nvfp4Matrix::quantize(&values, 1, rows, cols).unwrap()
    }

    fn layer(precision: Precision) -> Layer {
        let weights = MlpWeights::new(matrix(48, 64, 0.37), matrix(48, 64, 0.61)).unwrap();
        let weights = weights.with_down(matrix(33, 48, 0.23)).unwrap();
        Engine::cpu().unwrap().load(weights, &Spec::default().precision(precision)).unwrap()
    }

    #[test]
    fn a_layer_passes_and_a_wrong_value_does_not() {
        let x: Vec<f32> = (0..5 * 64).map(|i| (i as f32 * 0.11).cos()).collect();
        for precision in [
            Precision::W4A4 { scale: InputScale::Dynamic },
            Precision::W4A4 { scale: InputScale::PerRow },
            Precision::W4A16,
        ] {
            let layer = layer(precision);
            let mut y = vec![0f32; 5 * 33];
            layer.run(&x, 5, &mut y).unwrap();
            let good = check(&layer, &x, 5, &y, Rows::All).unwrap().unwrap();
            good.require().unwrap();
            assert!(good.h.is_some_and(|h| h.elements == 5 * 48) && good.end_to_end.is_some());
            let value = y[2 * 33 + 7];
            for wrong in [value + 0.1 * value.abs().max(0.1), f32::NAN] {
                y[2 * 33 + 7] = wrong;
                let bad = check(&layer, &x, 5, &y, Rows::All).unwrap().unwrap();
                assert!(!bad.pass && !bad.y.pass && bad.require().is_err(), "{wrong}");
            }
        }
    }

    #[test]
    fn distances_are_relative_to_the_length() {
        assert!((distance(&[3.0f32, 4.0], &[3.0, 4.5]) - 0.5 / 29.25f64.sqrt()).abs() < 1e-12);
        assert_eq!(distance::<f32>(&[0.0], &[0.0]), 0.0);
        assert!(
            distance(&[1.0f32], &[0.0]).is_infinite() && distance(&[f32::NAN], &[1.0]).is_nan()
        );
    }
}
