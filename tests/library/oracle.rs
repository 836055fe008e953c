//! The oracle against dot products in f64 over dequantized values, which are exact for short K, and the gates' own
//! definitions by tanh. The gates alone are compared with other libraries in golden_gates.rs.

use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{Element, GemmShape, Glu, Nvfp4Matrix, f16, oracle};

/// `gate(x1, x2)` without the exponential of the implementation: sigmoid(x) = (1 + tanh(x/2))/2. It cancels for
/// x << 0, to an absolute error of about 2^-53·|x1·x2|.
fn by_tanh(gate: Glu, x1: f64, x2: f64) -> f64 {
    match gate {
        Glu::Swiglu => x1 * (0.5 + 0.5 * (0.5 * x1).tanh()) * x2,
        Glu::GPT_OSS => {
            let (g, u) = (x1.min(7.0), x2.clamp(-7.0, 7.0));
            (u + 1.0) * g * (0.5 + 0.5 * (0.5 * f64::from(1.702f32) * g).tanh())
        }
        Glu::GegluTanh => {
            let inner = 0.797_884_560_802_865_4 * (x1 + 0.044_715 * x1.powi(3));
            0.5 * x1 * (1.0 + inner.tanh()) * x2
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn agrees_with_f64_dot_products() {
    for (m, n, k, batch) in [(1, 1, 16, 1), (3, 19, 48, 2), (17, 33, 512, 1), (300, 5, 32, 1)] {
        for data in [Data::Contest, Data::Full] {
            for gate in [Glu::Swiglu, Glu::GPT_OSS, Glu::GegluTanh] {
                let ops = Operands::generate(GemmShape { m, n, k, batch }, data, 7).unwrap();
                let gemm = ops.gemm().unwrap().with_glu(gate).unwrap();
                let exact = oracle::exact::<f16>(&gemm).unwrap();
                // Without the global scales the products are exact in f64.
                let unscaled = |x: &Nvfp4Matrix| {
                    let (c, s, _) = x.clone().into_parts();
                    Nvfp4Matrix::new(x.batch(), x.rows(), x.cols(), c, s, 1.0).unwrap().dequantize()
                };
                let (a, b1, b2) = (unscaled(&ops.a), unscaled(&ops.b1), unscaled(&ops.b2));
                let global = |x: &Nvfp4Matrix| f64::from(x.global_scale());
                let (alpha1, alpha2) =
                    (global(&ops.a) * global(&ops.b1), global(&ops.a) * global(&ops.b2));
                for (i, &c) in exact.iter().enumerate() {
                    let (l, r, j) = (i / n / m, i / n % m, i % n);
                    let dot = |b: &[f32]| -> f64 {
                        let a = &a[(l * m + r) * k..][..k];
                        let b = &b[(l * n + j) * k..][..k];
                        a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
                    };
                    let want = by_tanh(gate, alpha1 * dot(&b1), alpha2 * dot(&b2));
                    let want = <f16 as Element>::from_f64(want);
                    assert_eq!(c, want, "{m}x{n}x{k}x{batch} {data} {gate:?} {i}");
                }
                let rows: Vec<(usize, usize)> =
                    (0..batch).flat_map(|l| [(l, m - 1), (l, 0)]).rev().collect();
                let some = oracle::exact_rows::<f16>(&gemm, &rows).unwrap();
                for (&(l, r), row) in rows.iter().zip(some.chunks_exact(n)) {
                    assert_eq!(row, &exact[(l * m + r) * n..][..n]);
                }
            }
        }
    }
}
