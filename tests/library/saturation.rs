//! What the scales of a layer's activations clip, of x and of h.

use nvfp4_dual_gemm::format::Saturation;
use nvfp4_dual_gemm::{
    DualGemm, Engine, Error, InputScale, LayerSaturation, MlpWeights, Nvfp4Matrix, Precision, Spec,
    bf16, oracle,
};

const ROWS: usize = 3;
const K: usize = 64;
const N: usize = 48;

fn matrix(rows: usize, cols: usize, step: f32) -> Nvfp4Matrix {
    let values: Vec<f32> = (0..rows * cols).map(|i| (i as f32 * step).sin()).collect();
    Nvfp4Matrix::quantize(&values, 1, rows, cols).unwrap()
}

fn x() -> Vec<f32> {
    (0..ROWS * K).map(|i| (i as f32 * 0.11).cos() * (1 + i / K) as f32).collect()
}

fn found(weights: &MlpWeights, precision: Precision) -> LayerSaturation {
    let spec = Spec::default().precision(precision);
    let layer = Engine::cpu().unwrap().load(weights.clone(), &spec).unwrap();
    layer.saturation(&x(), ROWS).unwrap()
}

#[test]
fn calibrated_scales_of_x_and_of_h_are_looked_at_apart() {
    let weights = MlpWeights::new(matrix(N, K, 0.37), matrix(N, K, 0.61)).unwrap();
    let a = Nvfp4Matrix::quantize_with_global(&x(), 1, ROWS, K, 0.01).unwrap();
    let gemm = DualGemm::new(&a, weights.gate_proj(), weights.up_proj()).unwrap();
    let h: Vec<f32> = oracle::exact(&gemm).unwrap();
    let amax = h.iter().fold(0f32, |amax, h| amax.max(h.abs()));

    let weights = weights.with_input_scale(0.01).unwrap();
    let calibrated = Precision::W4A4 { scale: InputScale::Calibrated };
    let only = found(&weights, calibrated);
    assert!(only.x.is_some() && only.h.is_none());

    let weights = weights.with_down(matrix(33, N, 0.23)).unwrap();
    for reaches in [amax / 4.0, 2.0 * amax, 1e8 * amax] {
        let scale = reaches / 2688.0;
        let weights = weights.clone().with_down_input_scale(scale).unwrap();
        let LayerSaturation { x, h: of_h, .. } = found(&weights, calibrated);
        assert_eq!(x, Some(Saturation::of(&self::x(), 0.01)));
        let (of_h, exact) = (of_h.unwrap(), Saturation::of(&h, scale));
        let counts = |s: Saturation| (s.blocks, s.saturated, s.underflowed, s.lost);
        assert_eq!(counts(of_h), counts(exact));
        assert_eq!((of_h.saturated > 0, of_h.lost > 0), (reaches < amax, reaches > 2.0 * amax));
        // A number is the scale of x alone.
        let fixed = found(&weights, Precision::W4A4 { scale: InputScale::Fixed(1e-4) });
        assert_eq!(fixed.x, Some(Saturation::of(&self::x(), 1e-4)));
        assert_eq!(fixed.h.unwrap().largest, exact.largest);
        for scale in [InputScale::Dynamic, InputScale::PerRow] {
            let own = found(&weights, Precision::W4A4 { scale });
            for (found, values) in [(own.x.unwrap(), ROWS * K), (own.h.unwrap(), ROWS * N)] {
                assert_eq!((found.blocks, found.saturated), (values / 16, 0), "{scale}");
            }
        }
        assert_eq!(found(&weights, Precision::W4A16), LayerSaturation::default());
    }
}

#[test]
fn any_type_and_any_engine() {
    let weights = MlpWeights::new(matrix(N, K, 0.37), matrix(N, K, 0.61)).unwrap();
    let weights = weights.with_input_scale(1e-4).unwrap().with_down(matrix(33, N, 0.23)).unwrap();
    let weights = weights.with_down_input_scale(1e-6).unwrap();
    let x: Vec<bf16> = x().into_iter().map(bf16::from_f32).collect();
    for engine in [Engine::cpu().unwrap(), Engine::oracle()] {
        let layer = engine.load(weights.clone(), &Spec::default()).unwrap();
        let found = layer.saturation(&x, ROWS).unwrap();
        assert_eq!(found.x, Some(Saturation::of(&x, 1e-4)));
        assert_eq!(found.h.unwrap().saturated, ROWS * N / 16, "{engine}");
        assert_eq!(layer.saturation(&[0f32; 0], 0).unwrap().h.unwrap().blocks, 0);
        let error = layer.saturation(&x[1..], ROWS).unwrap_err();
        assert!(matches!(error, Error::Length { .. }), "{error}");
    }
}
