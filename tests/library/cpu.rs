//! Every CPU path that this machine has against the exact oracle.

use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{Element, Engine, GemmShape, Glu, Isa, Nvfp4Matrix, bf16, f16, oracle};

/// The paths to test; says which are left out, and why.
fn paths() -> Vec<Isa> {
    for isa in Isa::ALL {
        if let Err(why) = isa.check() {
            eprintln!("SKIPPED {isa}: {why}");
        }
    }
    Isa::available()
}

fn check<T: Element>(ops: &Operands, gate: Glu, isas: &[Isa], what: &str) {
    let gemm = ops.gemm().unwrap().with_glu(gate).unwrap();
    let exact = oracle::exact::<T>(&gemm).unwrap();
    for &isa in isas {
        let mut c = vec![T::from_f32(f32::NAN); exact.len()]; // every element must be written
        Engine::cpu_with(isa).unwrap().run_into(&gemm, &mut c).unwrap();
        let comparison = oracle::compare(&c, &exact);
        assert!(comparison.passes(), "{what} on {isa}: {comparison:?}");
    }
}

fn p(m: usize, n: usize, k: usize, batch: usize) -> GemmShape {
    GemmShape { m, n, k, batch }
}

#[test]
fn shapes_and_tails() {
    let isas = paths();
    let mut problems = vec![];
    for m in [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 65] {
        problems.push(p(m, 50, 272, 1));
    }
    for n in [1, 2, 15, 16, 17, 63, 64, 65, 130] {
        problems.push(p(19, n, 160, 2));
    }
    for k in [16, 32, 48, 112, 128, 144, 496, 512, 528, 1024, 1040, 2048] {
        problems.push(p(21, 33, k, 1));
        problems.push(p(3, 33, k, 3));
    }
    problems.extend([p(513, 80, 64, 1), p(1030, 17, 48, 1), p(40, 300, 7168, 1)]);
    for problem in problems {
        for data in [Data::Contest, Data::Full] {
            let ops = Operands::generate(problem, data, 11).unwrap();
            check::<f16>(&ops, Glu::Swiglu, &isas, &format!("{problem:?} {data}"));
        }
    }
}

#[test]
fn gates_and_output_types() {
    let isas = paths();
    for problem in [p(5, 40, 512, 1), p(37, 40, 512, 1)] {
        let ops = Operands::generate(problem, Data::Full, 5).unwrap();
        for gate in [
            Glu::Swiglu,
            Glu::GPT_OSS,
            Glu::ClampedSwiglu { limit: 0.5, slope: -2.0, offset: -3.0 },
            Glu::GegluTanh,
        ] {
            check::<f16>(&ops, gate, &isas, &format!("{gate:?}"));
            check::<bf16>(&ops, gate, &isas, &format!("{gate:?}"));
            check::<f32>(&ops, gate, &isas, &format!("{gate:?}"));
        }
    }
}

#[test]
fn separate_alphas_that_differ_a_lot() {
    let isas = paths();
    let ops = Operands::generate(p(20, 48, 256, 1), Data::Full, 3).unwrap();
    let (codes, scales, global) = ops.b2.clone().into_parts();
    let b2 = Nvfp4Matrix::new(1, 48, 256, codes, scales, global * 100.0).unwrap();
    check::<f32>(&Operands { b2, ..ops }, Glu::Swiglu, &isas, "up scale x100");
}

/// One panel of activations would take more than 16 MiB: rows are cut into waves, and for the longest K
/// tasks pack for themselves.
#[test]
fn panels_and_long_k() {
    let isas = paths();
    for problem in [p(24, 16, 1 << 19, 1), p(130, 3, 1 << 17, 1), p(3, 2, 1 << 22, 1)] {
        let ops = Operands::generate(problem, Data::Contest, 1).unwrap();
        check::<f32>(&ops, Glu::Swiglu, &isas, &format!("{problem:?}"));
    }
}

#[test]
fn any_thread_count_gives_the_same_bits() {
    for isa in paths() {
        for problem in [p(7, 100, 700 / 16 * 16, 1), p(70, 100, 1200, 2)] {
            let ops = Operands::generate(problem, Data::Full, 9).unwrap();
            let gemm = ops.gemm().unwrap();
            let results: Vec<Vec<u32>> = [1, 2, 3, 7]
                .map(|threads| {
                    let pool =
                        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    let mut c = vec![0.0f32; problem.batch * problem.m * problem.n];
                    pool.install(|| Engine::cpu_with(isa).unwrap().run_into(&gemm, &mut c))
                        .unwrap();
                    c.into_iter().map(f32::to_bits).collect()
                })
                .into();
            assert!(results.iter().all(|r| *r == results[0]), "{isa}");
        }
    }
}

/// Blocks are summed exactly and every block adds one rounding, so the integer paths agree to the bit.
#[test]
fn integer_paths_agree() {
    let ops = Operands::generate(p(11, 37, 1008, 1), Data::Full, 2).unwrap();
    let gemm = ops.gemm().unwrap();
    let run = |isa| {
        let mut c = vec![0.0f32; 11 * 37];
        Engine::cpu_with(isa).unwrap().run_into(&gemm, &mut c).map(|()| c)
    };
    let portable = run(Isa::Portable).unwrap();
    for isa in paths().into_iter().filter(|&isa| isa != Isa::Amx) {
        assert_eq!(run(isa).unwrap(), portable, "{isa}");
    }
}

/// Gates that are nearly closed: their sigmoid is no normal f32, C is a normal bf16 where the up projection is large.
#[test]
fn the_negative_tail() {
    let isas = paths();
    for gate in [Glu::Swiglu, Glu::GPT_OSS, Glu::GegluTanh] {
        let mut tail = 0;
        for seed in 0..20 {
            let ops = Operands::generate(p(5, 600, 32, 1), Data::Full, 791_000 + seed).unwrap();
            let scaled = |x: &Nvfp4Matrix, by: f32| {
                let (codes, scales, global) = x.clone().into_parts();
                Nvfp4Matrix::new(1, x.rows(), x.cols(), codes, scales, global * by).unwrap()
            };
            // x1 far from 0 in both directions, x2 from small to near the end of the range.
            let by1 = if gate == Glu::GegluTanh { 1.5 } else { 16.0 };
            let by2 = 1e3f32.powi(seed as i32 % 12);
            let ops = Operands { b1: scaled(&ops.b1, by1), b2: scaled(&ops.b2, by2), ..ops };
            let gemm = ops.gemm().unwrap().with_glu(gate).unwrap();
            let exact = oracle::exact::<bf16>(&gemm).unwrap();
            tail += exact.iter().filter(|c| (1.2e-38..1e-30).contains(&c.to_f32().abs())).count();
            for &isa in &isas {
                let mut c = vec![bf16::NAN; exact.len()];
                Engine::cpu_with(isa).unwrap().run_into(&gemm, &mut c).unwrap();
                let comparison = oracle::compare(&c, &exact);
                assert!(comparison.max_ulp <= 1, "{gate:?} {isa} {seed}: {comparison:?}");
            }
        }
        // The clamped SwiGLU has no large up projection.
        assert!(tail >= 40 || gate == Glu::GPT_OSS, "{gate:?}: {tail}");
    }
}
