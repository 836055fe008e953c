//! GEMMs and dual GEMMs with and without biases, of quantized and of 16-bit activations: every CPU path that this machine
//! has against the exact oracle, over a generated table, and the paths against each other.

use nvfp4_dual_gemm::synth::{self, Data, Operands};
use nvfp4_dual_gemm::{
    ActivationsView, DualGemm, Element, Engine, Error, Gemm, GemmShape, Glu, Isa, Nvfp4Matrix,
    Operation, ValuesView, bf16, f16, oracle,
};

/// The paths to test; says which are left out, and why.
fn paths() -> Vec<Isa> {
    for isa in Isa::ALL {
        if let Err(why) = isa.check() {
            eprintln!("SKIPPED {isa}: {why}");
        }
    }
    Isa::available()
}

/// Where the sizes of strips, vectors, spans of blocks and tiles end, and where they do not.
const SHAPES: [(usize, usize, usize, usize); 13] = [
    (0, 5, 48, 1),
    (1, 1, 16, 1),
    (3, 1, 16, 2),
    (1, 17, 32, 3),
    (2, 16, 512, 1),
    (4, 31, 528, 1),
    (5, 33, 144, 2),
    (8, 49, 1040, 1),
    (9, 130, 64, 1),
    (17, 15, 160, 2),
    (19, 65, 1024, 1),
    (33, 32, 48, 1),
    (50, 100, 272, 1),
];

/// Operands of every kind for one shape.
struct Given {
    shape: GemmShape,
    nvfp4: Operands,
    f16: Vec<f16>,
    bf16: Vec<bf16>,
    biases: [Vec<f32>; 2],
    residual: Vec<f32>,
    row_scales: Vec<f32>,
}

impl Given {
    fn new((m, n, k, batch): (usize, usize, usize, usize), seed: u64) -> Self {
        let shape = GemmShape { m, n, k, batch };
        let values = |len, stream| synth::values::<f32>(len, 10 * seed + stream);
        Given {
            shape,
            nvfp4: Operands::generate(shape, Data::Full, seed).unwrap(),
            // As large as the quantized ones.
            f16: values(batch * m * k, 1).into_iter().map(|x| f16::from_f32(x / 2.0)).collect(),
            bf16: values(batch * m * k, 2).into_iter().map(|x| bf16::from_f32(x / 2.0)).collect(),
            biases: [values(batch * n, 3), values(batch * n, 4)],
            residual: values(batch * m * n, 5),
            row_scales: values(batch * m, 6).into_iter().map(|x| 0.001 * (1.0 + x * x)).collect(),
        }
    }

    fn activations(&self) -> [(&'static str, ActivationsView<'_>); 3] {
        let GemmShape { m, k, batch, .. } = self.shape;
        [
            ("nvfp4", (&self.nvfp4.a).into()),
            ("f16", ValuesView::new(batch, m, k, &self.f16).unwrap().into()),
            ("bf16", ValuesView::new(batch, m, k, &self.bf16).unwrap().into()),
        ]
    }
}

fn check<T: Element>(operation: &impl Operation, isas: &[Isa], what: &str) {
    let exact = oracle::exact::<T>(operation).unwrap();
    for &isa in isas {
        let mut c = vec![T::from_f32(f32::NAN); exact.len()]; // every element must be written
        Engine::cpu_with(isa).unwrap().run_into(operation, &mut c).unwrap();
        let comparison = oracle::compare(&c, &exact);
        assert!(comparison.passes(), "{what} on {isa}: {comparison:?}");
    }
}

fn check_types(operation: &impl Operation, isas: &[Isa], what: &str) {
    check::<f16>(operation, isas, &format!("{what} f16"));
    check::<bf16>(operation, isas, &format!("{what} bf16"));
    check::<f32>(operation, isas, &format!("{what} f32"));
}

#[test]
fn every_combination_against_the_oracle() {
    let isas = paths();
    for (seed, shape) in SHAPES.into_iter().enumerate() {
        let given = Given::new(shape, seed as u64);
        let Operands { b1, b2, .. } = &given.nvfp4;
        let biases = [&given.biases[0][..], &given.biases[1]];
        for (name, a) in given.activations() {
            for with_bias in [false, true] {
                let what = |op: &str| format!("{shape:?} {name} {op} bias {with_bias}");
                for glu in [Glu::Swiglu, Glu::GPT_OSS, Glu::GegluTanh] {
                    let gemm = DualGemm::new(a, b1, b2).unwrap().with_glu(glu).unwrap();
                    let gemm = if with_bias { gemm.with_biases(biases).unwrap() } else { gemm };
                    check_types(&gemm, &isas, &what(&format!("{glu:?}")));
                }
                let gemm = Gemm::new(a, b1).unwrap();
                let gemm = if with_bias { gemm.with_bias(biases[0]).unwrap() } else { gemm };
                check_types(&gemm, &isas, &what("gemm"));
                let by_rows = gemm.with_row_scales(&given.row_scales);
                match a.nvfp4() {
                    Ok(_) => check_types(&by_rows.unwrap(), &isas, &what("gemm by rows")),
                    Err(_) => assert!(matches!(by_rows, Err(Error::NotQuantized { .. }))),
                }
                let residual = gemm.with_residual(&given.residual).unwrap();
                check_types(&residual, &isas, &what("gemm + r"));
            }
        }
    }
}

/// What a wrong kernel would give does not pass: faults put into exact results.
#[test]
fn faults_do_not_pass() {
    let given = Given::new((9, 70, 1024, 2), 12);
    let GemmShape { n, k, batch, .. } = given.shape;
    let biases = [&given.biases[0][..], &given.biases[1]];
    let (b1, bias) = (&given.nvfp4.b1, &given.biases[0]);
    let moved: Vec<f32> = (0..bias.len()).map(|i| bias[(i + 1) % bias.len()]).collect();
    let zeros = vec![0.0; bias.len()];
    // The last block of K left out: its scale factors are 0.
    let (codes, mut scales, global) = b1.clone().into_parts();
    scales.iter_mut().skip(k / 16 - 1).step_by(k / 16).for_each(|scale| *scale = 0);
    let without_end = Nvfp4Matrix::new(batch, n, k, codes, scales, global).unwrap();
    let other_alpha = b1.clone().with_global_scale(b1.global_scale() * 1.01).unwrap();
    let exact = |gemm: Gemm<'_>| oracle::exact::<f16>(&gemm).unwrap();
    for (name, a) in given.activations() {
        let gemm = |w| Gemm::new(a, w).unwrap();
        let right = |w| gemm(w).with_bias(bias).unwrap().with_residual(&given.residual).unwrap();
        let want = exact(right(b1));
        let swapped: Vec<f16> = want
            .chunks(n)
            .flat_map(|row| [&row[16..32], &row[..16], &row[32..]].concat())
            .collect();
        let from_other_rows = [&want[n..], &want[..n]].concat();
        for (fault, c) in [
            ("no residual", exact(gemm(b1).with_bias(bias).unwrap())),
            ("no bias", exact(gemm(b1).with_residual(&given.residual).unwrap())),
            ("bias of the next column", exact(right(b1).with_bias(&moved).unwrap())),
            ("K is short", exact(right(&without_end))),
            ("alpha is off by 1 %", exact(right(&other_alpha))),
            ("strips are swapped", swapped),
            ("rows are shifted", from_other_rows),
        ] {
            assert!(!oracle::compare(&c, &want).passes(), "{name}: {fault}");
        }
        assert!(oracle::compare(&want, &want).passes());
        let dual = DualGemm::new(a, b1, &given.nvfp4.b2).unwrap();
        let with = |biases| oracle::exact::<f16>(&dual.with_biases(biases).unwrap()).unwrap();
        let want = with(biases);
        for (fault, biases) in [
            ("swapped", [biases[1], biases[0]]),
            ("gate only", [biases[0], &zeros]),
            ("up only", [&zeros, biases[1]]),
        ] {
            assert!(!oracle::compare(&with(biases), &want).passes(), "{name}: {fault}");
        }
    }
}

/// The residual has a type of its own, and is what its values are.
#[test]
fn residuals_of_all_types() {
    let given = Given::new((5, 37, 64, 2), 3);
    let gemm = Gemm::new(&given.nvfp4.a, &given.nvfp4.b1).unwrap();
    let r16: Vec<f16> = given.residual.iter().map(|&r| f16::from_f32(r)).collect();
    let rb16: Vec<bf16> = given.residual.iter().map(|&r| bf16::from_f32(r)).collect();
    let widened16: Vec<f32> = r16.iter().map(|r| r.to_f32()).collect();
    let widenedb16: Vec<f32> = rb16.iter().map(|r| r.to_f32()).collect();
    for isa in paths() {
        let engine = Engine::cpu_with(isa).unwrap();
        let run = |gemm: Gemm<'_>| engine.run::<f32>(&gemm).unwrap();
        assert_eq!(
            run(gemm.with_residual(&r16).unwrap()),
            run(gemm.with_residual(&widened16).unwrap())
        );
        assert_eq!(
            run(gemm.with_residual(&rb16).unwrap()),
            run(gemm.with_residual(&widenedb16).unwrap())
        );
    }
    let exact = |gemm: Gemm<'_>| oracle::exact::<f32>(&gemm).unwrap();
    assert_eq!(
        exact(gemm.with_residual(&r16).unwrap()),
        exact(gemm.with_residual(&widened16).unwrap())
    );
}

/// Order and roundings are the same everywhere but in AMX, and do not depend on what else is in the batch.
#[test]
fn paths_agree_to_the_bit() {
    let isas: Vec<Isa> = paths().into_iter().filter(|&isa| isa != Isa::Amx).collect();
    for shape in [(11, 37, 1008, 1), (1, 70, 2064, 1), (4, 16, 528, 2)] {
        let given = Given::new(shape, 7);
        let Operands { b1, b2, .. } = &given.nvfp4;
        let biases = [&given.biases[0][..], &given.biases[1]];
        for (name, a) in given.activations() {
            let gemm = Gemm::new(a, b1).unwrap().with_bias(biases[0]).unwrap();
            let gemm = gemm.with_residual(&given.residual).unwrap();
            let dual = DualGemm::new(a, b1, b2).unwrap().with_biases(biases).unwrap();
            fn bits(isa: Isa, operation: &impl Operation) -> Vec<u32> {
                let c = Engine::cpu_with(isa).unwrap().run::<f32>(operation).unwrap();
                c.into_iter().map(f32::to_bits).collect()
            }
            for &isa in &isas {
                assert_eq!(bits(isa, &gemm), bits(Isa::Portable, &gemm), "{shape:?} {name} {isa}");
                assert_eq!(bits(isa, &dual), bits(Isa::Portable, &dual), "{shape:?} {name} {isa}");
            }
        }
    }
    // One row alone and the same row among others.
    let given = Given::new((13, 40, 1040, 1), 8);
    for &isa in &isas {
        let run = |rows: usize| {
            let a = ValuesView::new(1, rows, 1040, &given.f16[..rows * 1040]).unwrap();
            Engine::cpu_with(isa)
                .unwrap()
                .run::<f32>(&Gemm::new(a, &given.nvfp4.b1).unwrap())
                .unwrap()
        };
        for rows in 1..13 {
            assert_eq!(run(rows), run(13)[..rows * 40], "{isa} {rows}");
        }
    }
}

/// A GEMM is the product that a dual GEMM gates: with the second one 1 and the first far from 0, both are the same.
#[test]
fn a_gemm_is_what_a_dual_gemm_gates() {
    let given = Given::new((6, 40, 96, 1), 4);
    let zero = Nvfp4Matrix::new(1, 40, 96, vec![0; 40 * 48], vec![0; 40 * 6], 1.0).unwrap();
    let (large, one) = ([64.0f32; 40], [1.0f32; 40]);
    for isa in paths().into_iter().filter(|&isa| isa != Isa::Amx) {
        let engine = Engine::cpu_with(isa).unwrap();
        for (name, a) in given.activations() {
            let gemm = Gemm::new(a, &given.nvfp4.b1).unwrap().with_bias(&large).unwrap();
            let dual = DualGemm::new(a, &given.nvfp4.b1, &zero).unwrap();
            let dual = dual.with_biases([&large, &one]).unwrap();
            let (gemm, dual): (Vec<f32>, Vec<f32>) =
                (engine.run(&gemm).unwrap(), engine.run(&dual).unwrap());
            assert_eq!(gemm, dual, "{isa} {name}"); // sigmoid(40 and more) is 1 in f32
        }
    }
}

/// The longest K of a model (Llama 70B), rows and columns that cancel to a thousandth of their terms, and outliers.
#[test]
fn long_sums_and_cancellation() {
    let (m, n, k) = (20, 48, 28672);
    let given = Given::new((m, n, k, 1), 21);
    let weights = &given.nvfp4.b1;
    // The second half of K has the first half's values and weights, with the other sign and a little noise.
    let (mut codes, mut scales, global) = weights.clone().into_parts();
    for row in 0..n {
        let codes = &mut codes[row * k / 2..][..k / 2];
        let (first, second) = codes.split_at_mut(k / 4);
        second.copy_from_slice(first);
        let scales = &mut scales[row * k / 16..][..k / 16];
        let (first, second) = scales.split_at_mut(k / 32);
        second.copy_from_slice(first);
    }
    let canceling = Nvfp4Matrix::new(1, n, k, codes, scales, global).unwrap();
    let opposed = |noise: f32| -> Vec<f32> {
        let noise_of = synth::values::<f32>(m * k, 99);
        (0..m * k)
            .map(|i| match i % k < k / 2 {
                true => given.bf16[i].to_f32(),
                false => -given.bf16[i - k / 2].to_f32() * (1.0 + noise * noise_of[i]),
            })
            .collect()
    };
    let outliers: Vec<f32> = (0..m * k)
        .map(|i| given.bf16[i].to_f32() * if i % 997 == 5 { 300.0 } else { 1.0 })
        .collect();
    let isas = paths();
    check::<f16>(&Gemm::new(&given.nvfp4.a, weights).unwrap(), &isas, "nvfp4");
    for (name, values, w) in [
        ("plain", given.bf16.iter().map(|x| x.to_f32()).collect(), weights),
        ("canceling", opposed(0.05), &canceling),
        ("outliers", outliers, weights),
    ] {
        let halves: Vec<f16> = values.iter().map(|&x: &f32| f16::from_f32(x)).collect();
        let brains: Vec<bf16> = values.iter().map(|&x| bf16::from_f32(x)).collect();
        let a16 = Gemm::new(ValuesView::new(1, m, k, &halves).unwrap(), w).unwrap();
        let ab16 = Gemm::new(ValuesView::new(1, m, k, &brains).unwrap(), w).unwrap();
        check::<f16>(&a16, &isas, &format!("{name} f16"));
        check::<bf16>(&ab16, &isas, &format!("{name} bf16"));
        check::<f16>(&ab16, &isas, &format!("{name} bf16 to f16"));
    }
}

/// Panels of less than all rows, tasks that pack for themselves, and many batches.
#[test]
fn panels_of_values() {
    let isas = paths();
    for shape in [(700, 33, 8192, 1), (40, 20, 1 << 17, 1), (3, 2, 1 << 20, 1), (2, 3, 16, 500)] {
        let given = Given::new(shape, 5);
        let (m, _, k, batch) = shape;
        let a = ValuesView::new(batch, m, k, &given.bf16).unwrap();
        check::<f32>(&Gemm::new(a, &given.nvfp4.b1).unwrap(), &isas[..1], &format!("{shape:?}"));
    }
}

#[test]
fn any_thread_count_gives_the_same_bits() {
    let given = Given::new((70, 100, 1200, 2), 9);
    for isa in paths() {
        for (name, a) in given.activations() {
            let gemm = Gemm::new(a, &given.nvfp4.b1).unwrap();
            let results = [1, 2, 3, 7].map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| Engine::cpu_with(isa).unwrap().run::<f32>(&gemm)).unwrap()
            });
            assert!(results.iter().all(|r| *r == results[0]), "{isa} {name}");
        }
    }
}

/// What has no bias keeps the sign of a zero: of −0·1 and of a gate that is closed.
#[test]
fn without_a_bias_zeros_keep_their_sign() {
    let x = [f16::NEG_ZERO; 16];
    let one = Nvfp4Matrix::new(1, 1, 16, vec![0x22; 8], vec![0x38], 1.0).unwrap();
    let gemm = Gemm::new(ValuesView::new(1, 1, 16, &x).unwrap(), &one).unwrap();
    for isa in paths().into_iter().filter(|&isa| isa != Isa::Amx) {
        let engine = Engine::cpu_with(isa).unwrap();
        // Sums begin with 0: 0 + (−0) is 0.
        assert_eq!(engine.run::<f32>(&gemm).unwrap()[0].to_bits(), 0, "{isa}");
        // The sum is below the least f32, so that the product with alpha is −0.
        let tiny = [f16::from_f32(-6e-8); 16];
        let least = Nvfp4Matrix::new(1, 1, 16, vec![0x11; 8], vec![1], 2e-38).unwrap();
        let gemm = Gemm::new(ValuesView::new(1, 1, 16, &tiny).unwrap(), &least).unwrap();
        let y = engine.run::<f16>(&gemm).unwrap()[0];
        assert_eq!(y.to_bits(), f16::NEG_ZERO.to_bits(), "{isa}");
        let zero = [0.0];
        let y = engine.run::<f16>(&gemm.with_bias(&zero).unwrap()).unwrap()[0];
        assert_eq!(y, f16::ZERO, "{isa}");
    }
}
