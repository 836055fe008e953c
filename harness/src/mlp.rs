//! The check of a whole MLP against the exact oracle.
//!
//! A value of h next to a tie of its quantization may become another code than the exact one, and every column of y then
//! differs by far more than rounding does. So the two projections are checked one after the other, each as strictly as
//! a GEMM by itself: h against the oracle, and y against the oracle's result for the engine's own h. What an error of h
//! adds to y shows in the distance from the oracle run end to end.

use serde::Serialize;

use nvfp4_dual_gemm::{
    Backend, DType, DType16, Element, Engine, Error, GemmShape, Layer, MlpWeights, Precision,
    Result, Spec, ValuesView, bf16, f16, oracle,
};

use crate::check::{Check, Exact, Rows};

/// The outcome of the check of an MLP.
#[derive(Debug, Clone, Serialize)]
pub struct MlpCheck {
    /// Whether all of it is as near to the oracle as is asked for.
    pub pass: bool,
    /// Of h, where y is another.
    pub h: Option<Check>,
    /// Of y, from the engine's own h.
    pub y: Check,
    /// Largest `|y - exact|₂ / |exact|₂` of a row, where exact is the oracle run from x to y; `None` without rows.
    pub end_to_end: Option<f64>,
    /// What it may be.
    pub allowed_end_to_end: f64,
}

impl MlpCheck {
    /// An error unless the check passed.
    pub fn require(&self) -> anyhow::Result<()> {
        if let Some(h) = &self.h {
            h.require()?;
        }
        self.y.require()?;
        anyhow::ensure!(
            self.pass,
            "y is {:.2e} away from the exact oracle run from x to y, at most {:.2e} may be",
            self.end_to_end.unwrap_or(f64::NAN),
            self.allowed_end_to_end
        );
        Ok(())
    }
}

/// How far a row of y may be from the oracle run end to end, as a part of its length: four codes of h, of `n`, that are
/// next to the right one, each a quarter off, and 1 %.
fn allowed_end_to_end(n: usize) -> f64 {
    0.01 + 4f64.sqrt() / 4.0 / (n as f64).sqrt()
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
    let exact: Vec<Y> = oracle::mlp_rows(weights, x, rows, precision, &only)?;
    let shape = GemmShape { m: rows, n: out, k, batch: 1 };
    let allowed_end_to_end = allowed_end_to_end(n);
    if !has_down {
        let y = Exact::from_values(chosen, exact).check(&shape, y);
        let pass = y.pass;
        return Ok(Some(MlpCheck { pass, h: None, y, end_to_end: None, allowed_end_to_end }));
    }
    let end_to_end = only
        .iter()
        .zip(exact.chunks_exact(out))
        .map(|(&row, exact)| distance(&y[row * out..][..out], exact));
    let end_to_end =
        end_to_end.reduce(|a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) });

    let h = hidden(layer, x, rows)?;
    let exact: Vec<f32> = oracle::mlp_rows(&weights.gate_up(), x, rows, precision, &only)?;
    let of_h = GemmShape { m: rows, n, k, batch: 1 };
    let check_h = Exact::from_values(chosen.clone(), exact).check(&of_h, &h);
    let y = of_own_h(weights, precision, X::DTYPE, &h, rows, chosen)?.check(&shape, y);
    let near = end_to_end.is_none_or(|distance| distance <= allowed_end_to_end);
    let pass = check_h.pass && y.pass && near;
    Ok(Some(MlpCheck { pass, h: Some(check_h), y, end_to_end, allowed_end_to_end }))
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

/// What y has to be for this h.
fn of_own_h<Y: Element>(
    weights: &MlpWeights,
    precision: Precision,
    x_type: DType,
    h: &[f32],
    rows: usize,
    chosen: Vec<(usize, usize)>,
) -> Result<Exact<Y>> {
    fn rounded<T: Element>(h: &[f32]) -> Vec<T> {
        h.iter().map(|&value| T::from_f32(value)).collect()
    }
    let n = weights.intermediate_features();
    match precision {
        Precision::W4A4 { scale } => {
            let h = weights.quantize_down(h, rows, scale)?;
            let gemm = weights.down_gemm(h.matrix())?;
            match h.row_scales() {
                Some(scales) => Exact::of_rows(&gemm.with_row_scales(scales)?, chosen),
                None => Exact::of_rows(&gemm, chosen),
            }
        }
        Precision::W4A16 { round } => match round.of(x_type) {
            DType16::F16 => {
                let h = rounded::<f16>(h);
                Exact::of_rows(&weights.down_gemm(ValuesView::new(1, rows, n, &h)?)?, chosen)
            }
            DType16::Bf16 => {
                let h = rounded::<bf16>(h);
                Exact::of_rows(&weights.down_gemm(ValuesView::new(1, rows, n, &h)?)?, chosen)
            }
        },
        other => {
            let (backend, reason) = ("oracle".to_owned(), format!("precision {other}"));
            Err(Error::BackendUnavailable { backend, reason })
        }
    }
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
    use nvfp4_dual_gemm::{InputScale, Nvfp4Matrix};

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
    fn what_is_far_from_the_oracle_from_end_to_end_does_not_pass() {
        assert!((distance(&[3.0f32, 4.0], &[3.0, 4.5]) - 0.5 / 29.25f64.sqrt()).abs() < 1e-12);
        assert_eq!(distance::<f32>(&[0.0], &[0.0]), 0.0);
        assert!(
            distance(&[1.0f32], &[0.0]).is_infinite() && distance(&[f32::NAN], &[1.0]).is_nan()
        );
        // A whole factor of two in a global scale of h would be a distance of 1.
        assert!(allowed_end_to_end(16) < 0.2 && allowed_end_to_end(14336) < 0.02);
    }
}
