//! The oracle for GEMMs, biases, 16-bit activations and the whole MLP, against numbers computed by hand and against dot
//! products in f64 that are written here.

use nvfp4_dual_gemm::oracle::{ExactMlp, compare_within};
use nvfp4_dual_gemm::synth::{self, Data, Operands};
use nvfp4_dual_gemm::{
    ActivationsView, DType16, DualGemm, Element, Error, Gemm, GemmShape, Glu, InputScale,
    MlpWeights, Nvfp4Matrix, Operand, Precision, ValuesView, bf16, f16, oracle,
};

/// Rows of 16 codes that are all the same, with scale 1.
fn rows_of(codes: &[u8], global: f32) -> Nvfp4Matrix {
    let packed = codes.iter().flat_map(|&code| [code | code << 4; 8]).collect::<Vec<u8>>();
    Nvfp4Matrix::new(1, codes.len(), 16, packed, vec![0x38; codes.len()], global).unwrap()
}

const ONE: u8 = 2;
const MINUS_TWO: u8 = 12;

#[test]
fn a_gemm_by_hand() {
    // 1 + 2 + ... + 16 = 136; three weights: 1, −2 and 0.5, global scale 0.25.
    let x: Vec<f16> = (1..=16).map(|i| f16::from_f32(i as f32)).collect();
    let w = rows_of(&[ONE, MINUS_TWO, 1], 0.25);
    let gemm = Gemm::new(ValuesView::new(1, 1, 16, &x).unwrap(), &w).unwrap();
    assert_eq!(oracle::exact::<f32>(&gemm).unwrap(), [34.0, -68.0, 17.0]);
    let bias = [0.5, 68.0, -1.0];
    let biased = gemm.with_bias(&bias).unwrap();
    assert_eq!(oracle::exact::<f32>(&biased).unwrap(), [34.5, 0.0, 16.0]);
    let residual = [bf16::ONE, bf16::from_f32(-3.0), bf16::from_f32(0.25)];
    let summed = biased.with_residual(&residual).unwrap();
    assert_eq!(oracle::exact::<f32>(&summed).unwrap(), [35.5, -3.0, 16.25]);
    assert_eq!(oracle::exact_rows::<f16>(&summed, &[(0, 0)]).unwrap()[2].to_f32(), 16.25);
    // Quantized activations of ones: 16·1·2·0.25 and so on.
    let a = rows_of(&[ONE], 2.0);
    let gemm = Gemm::new(&a, &w).unwrap().with_bias(&bias).unwrap();
    assert_eq!(oracle::exact::<f32>(&gemm).unwrap(), [8.5, 52.0, 3.0]);
    // 8 in place of 2: the products count for 4 times as much, the bias does not.
    let by_row = gemm.with_row_scales(&[8.0]).unwrap();
    assert_eq!(oracle::exact::<f32>(&by_row).unwrap(), [32.5, 4.0, 15.0]);
}

#[test]
fn a_dual_gemm_with_biases_by_hand() {
    let x = [bf16::ONE; 16];
    let (b1, b2) = (rows_of(&[ONE], 0.125), rows_of(&[MINUS_TWO], 0.125));
    let gemm = DualGemm::new(ValuesView::new(1, 1, 16, &x).unwrap(), &b1, &b2).unwrap();
    let y = |gemm: &DualGemm<'_>| f64::from(oracle::exact::<f32>(gemm).unwrap()[0]);
    // silu(2)·(−4) = −4·2/(1 + e^−2)
    assert!((y(&gemm) + 7.046_376_623_823_86).abs() < 1e-6);
    // silu(3)·6 = 6·3/(1 + e^−3)
    let gemm = gemm.with_biases([&[1.0], &[10.0]]).unwrap();
    assert!((y(&gemm) - 17.146_334_284_018_1).abs() < 1e-5);
    // The bias comes before the clamp: min(2 + 10, 7) and clamp(−4 + 20, ±7): (7 + 1)·7/(1 + e^(−1.702·7)).
    let gemm = gemm.with_biases([&[10.0], &[20.0]]).unwrap().with_glu(Glu::GPT_OSS).unwrap();
    assert!((y(&gemm) - 55.999_625_025_5).abs() < 1e-4);
}

/// The terms of the first block cancel and leave 2^-34, which is 2^-62 of them: beyond the 53 bits of f64.
#[test]
fn f16_sums_are_exact() {
    let mut x = [f16::ZERO; 32];
    (x[0], x[1], x[16]) = (f16::MAX, f16::MAX, f16::from_bits(1));
    let mut codes = [0; 16];
    (codes[0], codes[8]) = (7 | 15 << 4, 1); // 6, −6, and 0.5
    let w = Nvfp4Matrix::new(1, 1, 32, codes.to_vec(), vec![0x7e, 1], 1.0).unwrap();
    let gemm = Gemm::new(ValuesView::new(1, 1, 32, &x).unwrap(), &w).unwrap();
    assert_eq!(oracle::exact::<f32>(&gemm).unwrap(), [2f32.powi(-34)]);
}

/// Terms of all magnitudes that bf16 has: what cancels leaves nothing, and what is left is right.
#[test]
fn bf16_sums_of_all_magnitudes() {
    for exponent in [0, 20, 60, 100, 120] {
        let mut x = [bf16::ZERO; 16];
        let large = bf16::from_f32(2f32.powi(exponent) * 1.5);
        (x[0], x[1], x[2]) = (large, large, bf16::from_f32(2f32.powi(-exponent)));
        let mut codes = [0; 8];
        (codes[0], codes[1]) = (7 | 15 << 4, ONE);
        let w = Nvfp4Matrix::new(1, 1, 16, codes.to_vec(), vec![0x38], 1.0).unwrap();
        let gemm = Gemm::new(ValuesView::new(1, 1, 16, &x).unwrap(), &w).unwrap();
        assert_eq!(oracle::exact::<f32>(&gemm).unwrap(), [2f32.powi(-exponent)]);
    }
    // The least bf16, 2^-133, times 0.5·2^-9.
    let x = [bf16::from_bits(1); 16];
    let w = Nvfp4Matrix::new(1, 1, 16, vec![0x11; 8], vec![1], 2f32.powi(100)).unwrap();
    let gemm = Gemm::new(ValuesView::new(1, 1, 16, &x).unwrap(), &w).unwrap();
    assert_eq!(oracle::exact::<f32>(&gemm).unwrap(), [16.0 * 2f32.powi(-43)]);
}

/// A dot product in f64 of K terms is within K·2^-53 of `Σ|a·b|`, and so is the test.
#[test]
fn agrees_with_f64_dot_products() {
    fn values<T: Element>(len: usize, spread: i32) -> Vec<T> {
        let values = synth::values::<f32>(2 * len, 5);
        let value = |i: usize| values[i] * 2f32.powf(values[len + i] * spread as f32);
        (0..len).map(|i| T::from_f32(value(i))).collect()
    }
    for (m, n, k, batch) in [(1, 1, 16, 1), (3, 19, 48, 2), (17, 9, 1024, 1), (2, 3, 8192, 1)] {
        let ops = Operands::generate(GemmShape { m, n, k, batch }, Data::Full, 7).unwrap();
        let (halves, brains) = (values::<f16>(batch * m * k, 3), values::<bf16>(batch * m * k, 8));
        let bias: [Vec<f32>; 2] = [synth::values(batch * n, 1), synth::values(batch * n, 2)];
        let residual: Vec<f32> = synth::values(batch * m * n, 3);
        let wide = |x: &Nvfp4Matrix| -> Vec<f64> {
            let global = x.global_scale();
            let unscaled = x.clone().with_global_scale(1.0).unwrap().dequantize();
            unscaled.iter().map(|&x| f64::from(x) * f64::from(global)).collect()
        };
        let of = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let w = [wide(&ops.b1), wide(&ops.b2)];
        let activations: [(Vec<f64>, ActivationsView<'_>); 3] = [
            (wide(&ops.a), (&ops.a).into()),
            (
                of(&halves.iter().map(|x| x.to_f32()).collect::<Vec<_>>()),
                ValuesView::new(batch, m, k, &halves).unwrap().into(),
            ),
            (
                of(&brains.iter().map(|x| x.to_f32()).collect::<Vec<_>>()),
                ValuesView::new(batch, m, k, &brains).unwrap().into(),
            ),
        ];
        for (a, view) in activations {
            let gemm = Gemm::new(view, &ops.b1).unwrap().with_bias(&bias[0]).unwrap();
            let y: Vec<f32> = oracle::exact(&gemm.with_residual(&residual).unwrap()).unwrap();
            let dual = DualGemm::new(view, &ops.b1, &ops.b2).unwrap();
            let dual = dual.with_biases([&bias[0], &bias[1]]).unwrap();
            let h: Vec<f32> = oracle::exact(&dual).unwrap();
            for i in 0..batch * m * n {
                let (l, r, j) = (i / n / m, i / n % m, i % n);
                let x = |weight: usize| -> (f64, f64) {
                    let a = &a[(l * m + r) * k..][..k];
                    let b = &w[weight][(l * n + j) * k..][..k];
                    let terms = || a.iter().zip(b).map(|(a, b)| a * b);
                    let bias = f64::from(bias[weight][l * n + j]);
                    (terms().sum::<f64>() + bias, terms().map(f64::abs).sum::<f64>() + bias.abs())
                };
                let ((x1, size1), (x2, size2)) = (x(0), x(1));
                let (want, r) = (x1 + f64::from(residual[i]), f64::from(residual[i]).abs());
                let bound =
                    |size: f64, want: f64| size * k as f64 * 2f64.powi(-51) + want.abs() * 1.2e-7;
                let error = (f64::from(y[i]) - want).abs();
                assert!(error <= bound(size1 + r, want), "{i}: {} {want}", y[i]);
                // silu has a slope of at most 1.1.
                let want = x1 / (1.0 + (-x1).exp()) * x2;
                let size = 1.1 * size1 * x2.abs() + x1.abs() * size2;
                let error = (f64::from(h[i]) - want).abs();
                assert!(error <= bound(size, want) + 1e-40, "{i}: {} {want}", h[i]);
            }
        }
    }
}

/// One block: gate and up of ones over 16, up with bias 1, down of ones.
fn small() -> MlpWeights {
    let ones = |rows: usize, global: f32| rows_of(&vec![ONE; rows], global);
    MlpWeights::new(ones(16, 0.0625), ones(16, 0.0625))
        .unwrap()
        .with_biases(vec![0.0; 16], vec![1.0; 16])
        .unwrap()
        .with_down(ones(2, 1.0))
        .unwrap()
        .with_down_bias(vec![0.25, -0.5])
        .unwrap()
}

#[test]
fn a_whole_mlp_by_hand() {
    let x = [1.0f32; 16];
    let y = |weights: &MlpWeights, precision| {
        oracle::mlp::<f32, f32>(weights, &x, 1, precision).unwrap()
    };
    // h = silu(1)·2 = 1.46211...: 1.4609375 in bf16 and 1.4619140625 in f16, sixteen times.
    assert_eq!(y(&small(), Precision::W4A16), [23.625, 22.875]);
    let f16_rounded = Precision::W4A16 { round: DType16::F16 };
    assert_eq!(y(&small(), f16_rounded), [23.640625, 22.890625]);
    // The type of x goes before the choice.
    let x16 = [f16::ONE; 16];
    let of_f16: Vec<f32> = oracle::mlp(&small(), &x16, 1, Precision::W4A16).unwrap();
    assert_eq!(of_f16, [23.640625, 22.890625]);
    // Of the bias as well, whichever came first.
    let doubled = small().with_down_multiplier(2.0).unwrap();
    assert_eq!(y(&doubled, Precision::W4A16), [47.25, 45.75]);
    let doubled = doubled.with_down_bias(vec![1.0, 1.0]).unwrap();
    assert_eq!(y(&doubled, Precision::W4A16), [48.75, 48.75]);

    // x becomes 6·0.6875·0.25 = 1.03125, h = silu(1.03125)·2.03125 = 1.54413, and with global scale 0.5 that is
    // 6·0.5·0.5 = 1.5.
    let scaled = small().with_down_input_scale(0.5).unwrap();
    let fixed = Precision::W4A4 { scale: InputScale::Fixed(0.25) };
    assert_eq!(y(&scaled, fixed), [24.25, 23.5]);
    // Without the down projection h is the result.
    let h = y(&scaled.gate_up(), fixed);
    let want = 1.03125 / (1.0 + (-1.03125f64).exp()) * 2.03125;
    assert!(h.len() == 16 && h.iter().all(|&h| (f64::from(h) - want).abs() < 1e-7), "{h:?}");
}

/// Rows on their own are those of the whole, and a dynamic scale of h is that of all rows.
#[test]
fn some_rows_of_a_whole_mlp() {
    let shape = GemmShape { m: 1, n: 48, k: 64, batch: 1 };
    let Operands { b1, b2, .. } = Operands::generate(shape, Data::Full, 3).unwrap();
    let down =
        Operands::generate(GemmShape { m: 1, n: 21, k: 48, batch: 1 }, Data::Full, 4).unwrap();
    let weights = MlpWeights::new(b1, b2).unwrap().with_down(down.b1).unwrap();
    let mut x: Vec<f32> = synth::values(6 * 64, 1);
    x[3 * 64..4 * 64].iter_mut().for_each(|x| *x *= 20.0);
    let calibrated = weights.clone().with_down_input_scale(0.02).unwrap();
    let scale = |scale| Precision::W4A4 { scale };
    let mut all = Vec::new();
    for (weights, precision) in [
        (&weights, scale(InputScale::Dynamic)),
        (&weights, scale(InputScale::PerRow)),
        (&weights, scale(InputScale::Calibrated)),
        (&calibrated, scale(InputScale::Fixed(0.01))),
        (&weights, Precision::W4A16),
    ] {
        let y: Vec<f16> = oracle::mlp(weights, &x, 6, precision).unwrap();
        let some = ExactMlp::new(weights, precision).rows::<f32, f16>(&x, 6, &[4, 0]).unwrap();
        assert_eq!(some.values, [&y[4 * 21..5 * 21], &y[..21]].concat(), "{precision:?}");
        assert_eq!(some.slack.len(), some.values.len());
        all.push(y);
    }
    // The fourth row is large: it has a say in the dynamic scale of the others, and none by rows.
    assert_ne!(all[0], all[1]);
    assert_eq!(all[0], all[2]);
}

/// An h next to a step of its quantization: the slack is the step times the weight, and 0 away from steps.
#[test]
fn slack_is_the_step_of_what_is_next_to_one() {
    // h = silu(gate)·up with up = 1 by its bias and a gate so large that its sigmoid is 1: h is what the bias of gate is.
    let n = 32;
    let zero = Nvfp4Matrix::new(1, n, 16, vec![0; n * 8], vec![0; n], 1.0).unwrap();
    // Row 0 of the down projection is 1, row 1 is −2 in the second block only.
    let codes = [[0x22; 16], [0; 16]].concat();
    let mut codes = codes.to_vec();
    codes[24..].fill(0xcc);
    let down = Nvfp4Matrix::new(1, 2, n, codes, vec![0x38; 4], 0.5).unwrap();
    let with_h = |h: &[f32]| {
        let weights = MlpWeights::new(zero.clone(), zero.clone()).unwrap();
        let weights = weights.with_biases(h.to_vec(), vec![1.0; n]).unwrap();
        weights.with_down(down.clone()).unwrap().with_down_input_scale(8.0).unwrap()
    };
    let x = [1.0f32; 16];
    let precision = Precision::W4A4 { scale: InputScale::Fixed(1.0) };
    let slack = |h: &[f32]| {
        let weights = with_h(h);
        ExactMlp::new(&weights, precision).rows::<f32, f32>(&x, 1, &[0]).unwrap().slack
    };
    // Blocks with scale 1 and global scale 8: amax 48. The grid is 0, 4, 8, 12, 16, 24, 32, 48, its middles 2, 6, ... 40.
    let mut h = [48.0f32; 32];
    assert_eq!(slack(&h), [0.0, 0.0]);
    // Next to 40 the step is 16, and the weights are 1·0.5 and 0.
    h[3] = 40.0;
    let next = |value: f32, want: f32| (value - want).abs() <= 1e-6 * want;
    let of_first = slack(&h);
    assert!(next(of_first[0], 8.0) && of_first[1] == 0.0, "{of_first:?}");
    h[3] = 40.01;
    assert_eq!(slack(&h), [0.0, 0.0]);
    // In the second block it counts in both rows: 0.5 and 1 times the step.
    h[20] = 28.0; // between 24 and 32
    let of_both = slack(&h);
    assert!(next(of_both[0], 4.0) && next(of_both[1], 8.0), "{of_both:?}");
    // A backend on the other side is within it, one that is wrong by more is not.
    let weights = with_h(&h);
    let exact = ExactMlp::new(&weights, precision).rows::<f32, f32>(&x, 1, &[0]).unwrap();
    let moved = |by: f32| [exact.values[0] + by * of_both[0], exact.values[1] - by * of_both[1]];
    assert!(compare_within(&moved(1.0), &exact.values, &exact.slack).passes());
    assert!(!compare_within(&moved(1.2), &exact.values, &exact.slack).passes());
    assert!(!oracle::compare(&moved(1.0), &exact.values).passes());
}

/// Rounding h to bf16 before it is quantized moves what is next to a step.
#[test]
fn h_may_be_rounded_before_it_is_quantized() {
    let n = 16;
    let zero = Nvfp4Matrix::new(1, n, 16, vec![0; n * 8], vec![0; n], 1.0).unwrap();
    // 40.0625 is 40 in bf16 (steps of 0.25), a tie of 32 and 48 that goes to the even code of 32; as it is it is 48.
    let mut h = [48.0f32; 16];
    h[0] = 40.0625;
    let weights = MlpWeights::new(zero.clone(), zero).unwrap();
    let weights = weights.with_biases(h.to_vec(), vec![1.0; n]).unwrap();
    let weights = weights.with_down(rows_of(&[ONE], 1.0)).unwrap();
    let weights = weights.with_down_input_scale(8.0).unwrap();
    let precision = Precision::W4A4 { scale: InputScale::Fixed(1.0) };
    let y = |first| {
        let mlp = ExactMlp::new(&weights, precision).round_first(first);
        mlp.rows::<f32, f32>(&[1.0; 16], 1, &[0]).unwrap().values[0]
    };
    assert_eq!(y(None), 16.0 * 48.0);
    assert_eq!(y(Some(DType16::F16)), 16.0 * 48.0); // exact there
    assert_eq!(y(Some(DType16::Bf16)), 15.0 * 48.0 + 32.0);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let weights = small();
    let named = |error: Error| error.to_string();
    let bad = |at: usize, value: f32| {
        let mut x = [1.0f32; 32];
        x[at] = value;
        oracle::mlp::<f32, f32>(&weights, &x, 2, Precision::W4A16 { round: DType16::F16 })
            .unwrap_err()
    };
    assert!(named(bad(18, f32::NAN)).starts_with("a: NaN at batch 0, row 1, column 2 "));
    assert!(named(bad(3, 70000.0)).starts_with("a: 70000 at batch 0, row 0, column 3 "));
    // h = silu(300)·301 is more than an f16 holds.
    let x = [300.0f32; 16];
    let run = |round| oracle::mlp::<f32, f32>(&weights, &x, 1, Precision::W4A16 { round });
    assert!(
        named(run(DType16::F16).unwrap_err()).starts_with("h: 90300 at batch 0, row 0, column 0 ")
    );
    assert!(run(DType16::Bf16).is_ok());

    let one = |rows: usize| rows_of(&vec![ONE; rows], 1.0);
    let plain = MlpWeights::new(one(16), one(16)).unwrap();
    assert!(matches!(plain.clone().with_down_bias(vec![1.0]), Err(Error::NoDownProjection { .. })));
    assert!(plain.clone().with_down_input_scale(1.0).is_err());
    assert!(plain.clone().with_down_multiplier(1.0).is_err());
    let wide = Nvfp4Matrix::quantize(&[1.0f32; 2 * 32], 1, 2, 32).unwrap();
    assert!(matches!(
        plain.clone().with_down(wide),
        Err(Error::ShapeMismatch { operand: Operand::Down, .. })
    ));
    // N = 3 has no blocks of 16.
    assert!(MlpWeights::new(one(3), one(3)).unwrap().with_down(one(2)).is_err());
    for multiplier in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-40] {
        let error = weights.clone().with_down_multiplier(multiplier).unwrap_err();
        assert!(matches!(error, Error::Multiplier { operand: Operand::Down, .. }), "{error}");
    }
    let error = weights.clone().with_down_bias(vec![3e38, f32::NAN]).unwrap_err();
    assert_eq!(named(error), "down: bias NaN at index 1 is not finite");
    let error = weights.clone().with_down_bias(vec![0.0, 3e38]).unwrap();
    let error = error.with_down_multiplier(2.0).unwrap_err();
    assert_eq!(named(error), "down: bias inf at index 1 is not finite");
    let error = weights.with_biases(vec![0.0; 16], vec![0.0; 15]).unwrap_err();
    assert!(named(error).starts_with("b2: biases hold 15 elements"), "");

    // Views and operations.
    let nan = [f16::ONE, f16::NAN].map(|x| [x; 16]).concat();
    let error = ValuesView::new(1, 2, 16, &nan).unwrap_err();
    assert!(matches!(error, Error::NonFinite { row: 1, col: 0, .. }), "{error}");
    assert!(ValuesView::new(1, 1, 20, &[f16::ONE; 20]).is_err());
    assert!(ValuesView::new(1, 2, 16, &[f16::ONE; 16]).is_err());
    let x = [f16::ONE; 16];
    let a = ValuesView::new(1, 1, 16, &x).unwrap();
    let w = one(3);
    let gemm = Gemm::new(a, &w).unwrap();
    assert!(matches!(gemm.a().nvfp4(), Err(Error::NotQuantized { .. })));
    assert!(matches!(gemm.with_bias(&[0.0; 2]), Err(Error::Length { operand: Operand::W, .. })));
    assert!(matches!(gemm.with_residual(&x), Err(Error::Length { operand: Operand::R, .. })));
    assert!(matches!(gemm.with_row_scales(&[1.0]), Err(Error::NotQuantized { .. })));
    let quantized = rows_of(&[ONE], 2.0);
    let error = Gemm::new(&quantized, &w).unwrap().with_row_scales(&[0.0]).unwrap_err();
    assert!(matches!(error, Error::GlobalScale { .. }), "{error}");
    let error = Gemm::new(a, &rows_of(&[ONE], 1e-40)).unwrap_err();
    assert!(matches!(error, Error::Alpha { operand: Operand::W, .. }), "{error}");
    let error = Gemm::new(a, &Nvfp4Matrix::quantize(&[1.0f32; 32], 1, 1, 32).unwrap()).unwrap_err();
    assert!(matches!(error, Error::ShapeMismatch { operand: Operand::W, .. }), "{error}");
    let error =
        DualGemm::new(a, &w, &w).unwrap().with_biases([&[0.0; 3], &[0.0, f32::INFINITY, 0.0]]);
    assert!(matches!(
        error.unwrap_err(),
        Error::BiasNonFinite { operand: Operand::B2, index: 1, .. }
    ));
}
