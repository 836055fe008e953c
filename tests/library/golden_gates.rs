//! The gates against torch, transformers and 60-digit arithmetic: numbers that `scripts/golden_gates.py` wrote.

use nvfp4_dual_gemm::{DualGemm, Element, Engine, Glu, Isa, Nvfp4Matrix, bf16, f16, oracle};

/// One line of the data.
#[derive(Debug, Clone, Copy)]
struct Golden {
    gate: Glu,
    x1: f64,
    x2: f64,
    /// Of torch or transformers, in f64.
    library: f64,
    /// Of 60 digits, rounded once.
    exact: f64,
}

fn golden() -> Vec<Golden> {
    let lines = include_str!("../data/gates.txt").lines().filter(|l| !l.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |i: usize| words[i].parse::<f64>().unwrap();
            let gate = match words[0] {
                "silu" => Glu::Swiglu,
                "gelu-tanh" => Glu::GegluTanh,
                "clamped" => Glu::ClampedSwiglu {
                    limit: number(1) as f32,
                    slope: number(2) as f32,
                    offset: number(3) as f32,
                },
                other => panic!("{other}"),
            };
            let [x1, x2, library, exact] = [4, 5, 6, 7].map(number);
            Golden { gate, x1, x2, library, exact }
        })
        .collect()
}

#[test]
fn there_are_enough_of_each_gate() {
    let all = golden();
    let count = |wanted: fn(&Golden) -> bool| all.iter().filter(|g| wanted(g)).count();
    assert!(count(|g| g.gate == Glu::Swiglu) >= 100);
    assert!(count(|g| g.gate == Glu::GegluTanh) >= 100);
    assert!(count(|g| g.gate == Glu::GPT_OSS) >= 20);
    // At and beside the bounds, on both sides, and far down the tail with a result that is no 0.
    for x in [7.0f32, 7f32.next_up(), 7f32.next_down()] {
        let at = |v: f64| v as f32 == x;
        assert!(all.iter().any(|g| g.gate == Glu::GPT_OSS && at(g.x1)), "{x}");
        assert!(all.iter().any(|g| g.gate == Glu::GPT_OSS && at(g.x2)), "{x}");
        assert!(all.iter().any(|g| g.gate == Glu::GPT_OSS && at(-g.x2)), "{x}");
    }
    assert!(count(|g| g.x1 < -88.0 && g.exact.abs() > 1e-36) >= 8);
}

#[test]
fn the_definition_in_f64() {
    for g in golden() {
        let value = g.gate.apply(g.x1, g.x2);
        // The libraries compute 1 + tanh(y), which cancels: they are right to within the products' last places.
        let bound = 8.0 * f64::EPSILON * (g.x1 * g.x2).abs().max(g.exact.abs());
        assert!((value - g.library).abs() <= bound, "{g:?}: {value:e}");
        // e^t is off by t times the relative error of t, and t is about the logarithm of what it closes.
        let logarithm = |x: f64| if x == 0.0 { 0.0 } else { x.abs().ln().abs() };
        let t = logarithm(g.exact) + logarithm(g.x1) + logarithm(g.x2);
        let bound = 16.0 * f64::EPSILON * (1.0 + t) * g.exact.abs();
        assert!((value - g.exact).abs() <= bound.max(f64::from_bits(1)), "{g:?}: {value:e}");
    }
}

/// Operands of one dot product each, which is 1 or -1, so that the global scales make x1 and x2; `None`
/// where one of them is 0 or no normal f32.
fn operands(g: &Golden) -> Option<[Nvfp4Matrix; 3]> {
    let matrix = |code: u8, global: f32| {
        let mut codes = vec![0; 8];
        codes[3] = code;
        Nvfp4Matrix::new(1, 1, 16, codes, vec![0x38], global).unwrap()
    };
    let weight = |x: f64| {
        let x = x as f32;
        x.is_normal().then(|| matrix(if x < 0.0 { 0xa } else { 0x2 }, x.abs()))
    };
    Some([matrix(0x2, 1.0), weight(g.x1)?, weight(g.x2)?])
}

/// Calls `check` with a problem and the exact result for each line that can be made of operands.
fn each_problem(check: impl Fn(&Golden, &DualGemm<'_>)) {
    let mut count = 0;
    for g in golden() {
        if let Some([a, b1, b2]) = operands(&g) {
            check(&g, &DualGemm::new(&a, &b1, &b2).unwrap().with_glu(g.gate).unwrap());
            count += 1;
        }
    }
    assert!(count >= 200, "{count}");
}

#[test]
fn the_oracle() {
    fn check<T: Element>(g: &Golden, gemm: &DualGemm<'_>) {
        let c = oracle::exact::<T>(gemm).unwrap()[0];
        // Rounding to f16 and bf16 is in one step, which `half` alone does not do from f64.
        let ulp = oracle::ulp_distance(c, T::from_f64(g.exact));
        assert!(ulp <= u64::from(T::DTYPE == f32::DTYPE), "{g:?}: {c:?}, {ulp} ULP");
    }
    each_problem(|g, gemm| {
        check::<f16>(g, gemm);
        check::<bf16>(g, gemm);
        check::<f32>(g, gemm);
    });
}

#[test]
fn the_cpu_backend() {
    for isa in Isa::ALL {
        if let Err(why) = isa.check() {
            eprintln!("SKIPPED {isa}: {why}");
            continue;
        }
        fn check<T: Element>(g: &Golden, gemm: &DualGemm<'_>, isa: Isa) {
            let mut c = [T::from_f32(f32::NAN)];
            Engine::cpu_with(isa).unwrap().run_into(gemm, &mut c).unwrap();
            let comparison = oracle::compare(&c, &[T::from_f64(g.exact)]);
            assert!(comparison.max_ulp <= 1 && comparison.outside == 0, "{isa} {g:?}: {c:?}");
        }
        each_problem(|g, gemm| {
            check::<f16>(g, gemm, isa);
            check::<bf16>(g, gemm, isa);
            check::<f32>(g, gemm, isa);
            // f32 is compared in steps of f16, which says nothing of the tail.
            let mut c = [f32::NAN];
            Engine::cpu_with(isa).unwrap().run_into(gemm, &mut c).unwrap();
            let exact = g.exact as f32;
            if exact.is_normal() {
                let error = (f64::from(c[0]) / f64::from(exact) - 1.0).abs();
                assert!(error < 4e-5, "{isa} {g:?}: {c:?}, {error:e}");
            }
        });
    }
}
