//! Tensor parallelism: the parts of an MLP add up to the whole.

use nvfp4_dual_gemm::{
    Engine, Error, InputScale, MlpWeights, Nvfp4Matrix, Precision, Spec, oracle,
};

fn matrix(rows: usize, cols: usize, step: f32) -> Nvfp4Matrix {
    let values: Vec<f32> = (0..rows * cols).map(|i| (i as f32 * step).sin()).collect();
    Nvfp4Matrix::quantize(&values, 1, rows, cols).unwrap()
}

fn wave(len: usize, step: f32) -> Vec<f32> {
    (0..len).map(|i| (i as f32 * step).cos()).collect()
}

/// N of 80 are five blocks, which two, three and four ranks share unequally.
fn weights() -> MlpWeights {
    let weights = MlpWeights::new(matrix(80, 64, 0.37), matrix(80, 64, 0.61)).unwrap();
    let weights = weights.with_biases(wave(80, 0.3), wave(80, 0.5)).unwrap();
    let weights = weights.with_down(matrix(33, 80, 0.23)).unwrap();
    let weights = weights.with_down_bias(wave(33, 0.7)).unwrap();
    let weights = weights.with_down_multiplier(0.5).unwrap();
    weights.with_input_scale(0.002).unwrap().with_down_input_scale(0.01).unwrap()
}

#[test]
fn parts_add_up() {
    let (weights, rows) = (weights(), 4);
    let x = wave(rows * 64, 0.11);
    for precision in [Precision::default(), Precision::W4A16] {
        let whole: Vec<f32> = oracle::mlp(&weights, &x, rows, precision).unwrap();
        for ranks in 1..=5 {
            let mut sum = vec![0f64; rows * 33];
            let mut columns = 0;
            for rank in 0..ranks {
                let part = weights.shard(rank, ranks).unwrap();
                columns += part.intermediate_features();
                assert_eq!(part.down_bias().is_some(), rank == 0);
                let y: Vec<f32> = oracle::mlp(&part, &x, rows, precision).unwrap();
                sum.iter_mut().zip(&y).for_each(|(sum, &y)| *sum += f64::from(y));
            }
            assert_eq!(columns, 80);
            for (sum, &whole) in sum.iter().zip(&whole) {
                // Of each part one rounding to f32.
                assert!((sum - f64::from(whole)).abs() < 1e-5, "{ranks} ranks: {sum} {whole}");
            }
        }
    }
}

/// The codes of h are those of the whole, so that the sum is the same even of quantized h: but not where each part has an
/// amax of its own.
#[test]
fn an_engine_runs_parts() {
    let (weights, rows) = (weights(), 3);
    let x = wave(rows * 64, 0.17);
    let engine = Engine::cpu().unwrap();
    let run = |weights: MlpWeights, scale| {
        let layer = engine.load(weights, &Spec::default().input_scale(scale)).unwrap();
        let mut y = vec![0f32; rows * 33];
        layer.run(&x, rows, &mut y).unwrap();
        y
    };
    for (scale, near) in [(InputScale::Calibrated, 1e-6), (InputScale::Dynamic, 0.1)] {
        let whole = run(weights.clone(), scale);
        let parts = [0, 1].map(|rank| run(weights.shard(rank, 2).unwrap(), scale));
        let length =
            |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>().sqrt();
        let both = parts[0].iter().zip(&parts[1]).zip(&whole);
        let error = length(&mut both.map(|((a, b), whole)| a + b - whole));
        let all = length(&mut whole.iter().copied());
        assert!(error <= near * all, "{scale}: {error} of {all}");
    }
}

#[test]
fn ranks_that_cannot_be_are_refused() {
    for (rank, ranks) in [(0, 6), (2, 2), (0, 0), (7, 3)] {
        let error = weights().shard(rank, ranks).unwrap_err();
        assert!(matches!(error, Error::Shard { n: 80, .. }), "{error}");
    }
}
