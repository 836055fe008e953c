//! A layer with weights as a quantizer leaves them.

use anyhow::ensure;

use nvfp4_dual_gemm::{Engine, Glu, MlpWeights, Nvfp4Matrix, Spec, bf16, synth};
use nvfp4_harness::{system, units};

use super::Shape;

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
            let mut values: Vec<f32> = synth::values(rows * cols, seed.wrapping_add(stream));
            values.iter_mut().for_each(|value| *value *= sigma);
            Nvfp4Matrix::quantize(&values, 1, rows, cols)
        };
        let (gate, up) = (matrix(n, k, PRE_ACTIVATION, 1)?, matrix(n, k, PRE_ACTIVATION, 2)?);
        // No value of x is more than six standard deviations away from 0.
        let gate_up = MlpWeights::new(gate, up)?.with_glu(glu)?.with_input_scale(6.0 / LARGEST)?;
        let x: Vec<bf16> = synth::values(CALIBRATION_ROWS * k, seed.wrapping_add(4));
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
    pub fn input(&self, rows: usize) -> Vec<bf16> {
        synth::values(rows * self.shape.k, self.seed.wrapping_add(5))
    }
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
        let x = layer.input(64);
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
}
