//! A layer with weights as a quantizer leaves them, and what it gives exactly.

use anyhow::{Context, ensure};

use nvfp4_dual_gemm::{
    Engine, GemmShape, Glu, MlpWeights, Nvfp4Matrix, Precision, Spec, bf16, oracle, synth,
};
use nvfp4_harness::check::Rows;
use nvfp4_harness::{system, units};

use super::{Mode, Shape};

/// Standard deviation of the inputs of the GLU, where x has 1.
const PRE_ACTIVATION: f32 = 2.0;
/// Tokens of which the global scale of h comes.
const CALIBRATION_ROWS: usize = 16;
/// The largest magnitude that a global scale of 1 can represent: 6 times 448.
const LARGEST: f32 = 2688.0;

/// Weights of normally distributed values, each matrix with the global scale `amax/2688`, and calibrated scales of x
/// and h.
#[derive(Debug, Clone)]
pub struct Layer {
    shape: Shape,
    weights: MlpWeights,
    seed: u64,
}

impl Layer {
    /// Makes one; the same arguments give the same weights on every machine.
    ///
    /// # Errors
    /// Too little memory; a GLU with parameters that it cannot have; those of the CPU, which calibrates.
    pub fn generate(shape: Shape, glu: Glu, seed: u64) -> anyhow::Result<Self> {
        let Shape { k, n, h } = shape;
        ensure_fits(shape)?;
        let matrix = |rows: usize, cols: usize, sigma: f32, stream: u64| {
            let sigma = sigma / (cols as f32).sqrt();
            let values = synth::normal(rows * cols, sigma, seed.wrapping_add(stream))?;
            Nvfp4Matrix::quantize(&values, 1, rows, cols)
        };
        let (gate, up) = (matrix(n, k, PRE_ACTIVATION, 1)?, matrix(n, k, PRE_ACTIVATION, 2)?);
        // No value of x is more than six standard deviations away from 0.
        let gate_up = MlpWeights::new(gate, up)?.with_glu(glu)?.with_input_scale(6.0 / LARGEST)?;
        let x = values(CALIBRATION_ROWS * k, seed.wrapping_add(4))?;
        let mut of_h = vec![0.0f32; CALIBRATION_ROWS * n];
        let calibrate = Engine::cpu()?.load(gate_up.clone(), &Spec::default())?;
        calibrate.run(&x, CALIBRATION_ROWS, &mut of_h)?;
        let amax = of_h.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let weights = gate_up.with_down(matrix(h, n, 1.0, 3)?)?;
        let weights = weights.with_down_input_scale(amax / LARGEST)?;
        Ok(Layer { shape, weights, seed })
    }

    /// Its sizes.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Its weights.
    pub fn weights(&self) -> &MlpWeights {
        &self.weights
    }

    /// x \[rows, K\] with a standard deviation of 1.
    ///
    /// # Errors
    /// Too little memory.
    pub fn input(&self, rows: usize) -> anyhow::Result<Vec<bf16>> {
        Ok(values(rows * self.shape.k, self.seed.wrapping_add(5))?)
    }

    /// Asks the oracle for two rows of y \[rows, H\], the first and the last, as `mode` computes them.
    ///
    /// # Errors
    /// Those of [`oracle::mlp_rows`].
    pub fn exact(&self, x: &[bf16], rows: usize, mode: Mode) -> anyhow::Result<Exact> {
        let Shape { n, h, .. } = self.shape;
        let chosen = Rows::Some(2).choose(&GemmShape { m: rows, n: h, k: n, batch: 1 });
        let chosen: Vec<usize> = chosen.into_iter().map(|(_, row)| row).collect();
        let precision = mode.precision();
        let values = oracle::mlp_rows(&self.weights, x, rows, precision, &chosen)?;
        Ok(Exact { h, rows: chosen, values, allowed: allowed(precision, n) })
    }
}

/// Exact values of some rows of y.
#[derive(Debug, Clone)]
pub struct Exact {
    h: usize,
    rows: Vec<usize>,
    values: Vec<bf16>,
    allowed: f64,
}

impl Exact {
    /// The largest ‖error‖ over ‖row‖ of the rows in a whole y.
    ///
    /// # Errors
    /// One that is too large, or is none.
    pub fn check(&self, y: &[bf16]) -> anyhow::Result<f64> {
        let mut largest = 0.0f64;
        for (&row, exact) in self.rows.iter().zip(self.values.chunks_exact(self.h)) {
            let actual = y.get(row * self.h..).and_then(|from| from.get(..self.h));
            let actual = actual.context("y has fewer rows than x")?;
            let square = |sum: f64, value: f64| sum + value * value;
            let errors = actual.iter().zip(exact).map(|(a, e)| f64::from(*a) - f64::from(*e));
            let norm = exact.iter().map(|&value| f64::from(value)).fold(0.0, square).sqrt();
            let error = errors.fold(0.0, square).sqrt() / norm;
            // A NaN is no error that is small enough.
            ensure!(
                error <= self.allowed,
                "row {row} of y differs from the exact oracle: relative error {error:.1e}, allowed are {:.1e}",
                self.allowed
            );
            largest = largest.max(error);
        }
        Ok(largest)
    }
}

/// The largest relative error of a row of y. h is rounded before it is multiplied, and a value of h that is as near to
/// one neighbor as to the other may go either way: with a sum of one term of N that is off by as much as its standard
/// deviation, y is off by 1/√N. NVFP4 gets room for a few such values, bf16 for all that there can be.
fn allowed(precision: Precision, n: usize) -> f64 {
    match precision {
        Precision::W4A16 { .. } => 1e-3,
        _ => 3.0 / (n as f64).sqrt(),
    }
}

fn values(len: usize, seed: u64) -> nvfp4_dual_gemm::Result<Vec<bf16>> {
    let values = synth::normal(len, 1.0, seed)?;
    Ok(values.into_iter().map(bf16::from_f32).collect())
}

/// The largest matrix in f32 and three in NVFP4.
fn ensure_fits(shape: Shape) -> anyhow::Result<()> {
    let needed = shape.n as f64 * shape.k.max(shape.h) as f64 * 4.0 + shape.weight_bytes() as f64;
    let available = system::memory().map_or((1u64 << 44) as f64, |(_, available)| available as f64);
    ensure!(
        needed <= available,
        "{shape} needs {} for its weights, but only {} of memory are available",
        units::bytes(needed),
        units::bytes(available)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { k: 256, n: 512, h: 96 };

    #[test]
    fn inputs_of_the_glu_have_the_standard_deviation_that_is_meant() {
        let layer = Layer::generate(SHAPE, Glu::Swiglu, 1).unwrap();
        let x = layer.input(64).unwrap();
        let x: Vec<f64> = x.iter().map(|&value| f64::from(value)).collect();
        let deviation = |values: &[f64]| {
            (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt()
        };
        assert!((deviation(&x) - 1.0).abs() < 0.02, "{}", deviation(&x));
        let gate = layer.weights().gate_proj().dequantize();
        let of_gate: Vec<f64> = x
            .chunks_exact(SHAPE.k)
            .flat_map(|x| {
                gate.chunks_exact(SHAPE.k)
                    .map(move |w| w.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum::<f64>())
            })
            .collect();
        assert!((deviation(&of_gate) - 2.0).abs() < 0.1, "{}", deviation(&of_gate));
        let scale = layer.weights().input_scale().unwrap().unwrap();
        assert_eq!(scale, 6.0 / 2688.0);
        assert!(layer.weights().down_input_scale().unwrap().is_some_and(|scale| scale > 0.0));
    }

    /// Against sums in f64 of the dequantized weights: with 16-bit activations nothing but h and y is rounded.
    #[test]
    fn exact_rows_are_those_of_the_layer() {
        let layer = Layer::generate(SHAPE, Glu::Swiglu, 7).unwrap();
        let rows = 5;
        let x = layer.input(rows).unwrap();
        let weights = layer.weights();
        let product = |x: &[f64], matrix: &Nvfp4Matrix| -> Vec<f64> {
            let values = matrix.dequantize();
            let sum = |w: &[f32]| w.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum();
            values.chunks_exact(matrix.cols()).map(sum).collect()
        };
        let y: Vec<bf16> = x
            .chunks_exact(SHAPE.k)
            .flat_map(|x| {
                let x: Vec<f64> = x.iter().map(|&value| f64::from(value)).collect();
                let (gate, up) = (product(&x, weights.gate_proj()), product(&x, weights.up_proj()));
                let h = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u);
                let h: Vec<f64> = h.map(|h| f64::from(bf16::from_f64(h))).collect();
                product(&h, weights.down_proj().unwrap()).into_iter().map(bf16::from_f64)
            })
            .collect();
        let exact = layer.exact(&x, rows, Mode::W4A16).unwrap();
        assert_eq!(exact.rows, [0, rows - 1]);
        assert!(exact.check(&y).unwrap() < 1e-3);
        // A value that was not written, a row in the place of another, and a row that is missing.
        let mut unwritten = y.clone();
        unwritten[(rows - 1) * SHAPE.h] = bf16::NAN;
        assert!(exact.check(&unwritten).unwrap_err().to_string().contains("row 4 of y differs"));
        let mut turned = y.clone();
        turned.rotate_left(SHAPE.h);
        assert!(exact.check(&turned).is_err());
        assert!(exact.check(&y[..SHAPE.h]).is_err());
        // Activations of 4 bits are another result, by far more than W4A16 may be off.
        let quantized = layer.exact(&x, rows, Mode::W4A4).unwrap();
        assert!(exact.check(&spread(&quantized, rows)).is_err());
        assert_eq!(quantized.check(&spread(&quantized, rows)).unwrap(), 0.0);
    }

    /// A whole y with the exact rows in their places.
    fn spread(exact: &Exact, rows: usize) -> Vec<bf16> {
        let mut y = vec![bf16::ZERO; rows * exact.h];
        for (&row, values) in exact.rows.iter().zip(exact.values.chunks_exact(exact.h)) {
            y[row * exact.h..][..exact.h].copy_from_slice(values);
        }
        y
    }
}
