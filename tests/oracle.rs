//! The oracle against a dot product in f64 over dequantised values, which is exact for short K.

use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{Element, Gate, Problem, f16, reference};

#[test]
fn agrees_with_f64_dot_products() {
    for (m, n, k, batch) in [(1, 1, 16, 1), (3, 19, 48, 2), (17, 33, 512, 1)] {
        for data in [Data::Contest, Data::Full] {
            for gate in [Gate::Silu, Gate::GPT_OSS, Gate::GeluTanh] {
                let ops = Operands::generate(Problem { m, n, k, batch }, data, 7).unwrap();
                let gemm = ops.gemm().unwrap().with_gate(gate).unwrap();
                let exact = reference::exact::<f16>(&gemm);
                // Without the global scales the products are exact in f64.
                let unscaled = |x: &nvfp4_dual_gemm::Nvfp4Matrix| {
                    let (c, s, _) = x.clone().into_parts();
                    nvfp4_dual_gemm::Nvfp4Matrix::new(x.batch(), x.rows(), x.cols(), c, s, 1.0)
                        .unwrap()
                        .dequantize()
                };
                let (a, b1, b2) = (unscaled(&ops.a), unscaled(&ops.b1), unscaled(&ops.b2));
                for (i, &c) in exact.iter().enumerate() {
                    let (l, r, j) = (i / n / m, i / n % m, i % n);
                    let dot = |b: &[f32]| -> f64 {
                        let a = &a[(l * m + r) * k..][..k];
                        let b = &b[(l * n + j) * k..][..k];
                        a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
                    };
                    let c1 = gate.apply(gemm.alpha1() * dot(&b1), gemm.alpha2() * dot(&b2));
                    assert_eq!(c, <f16 as Element>::from_f64(c1), "{m}x{n}x{k}x{batch} {data} {i}");
                }
                let rows: Vec<(usize, usize)> = (0..batch).map(|l| (l, m - 1)).rev().collect();
                let some = reference::exact_rows::<f16>(&gemm, &rows).unwrap();
                for (&(l, r), row) in rows.iter().zip(some.chunks_exact(n)) {
                    assert_eq!(row, &exact[(l * m + r) * n..][..n]);
                }
            }
        }
    }
}
