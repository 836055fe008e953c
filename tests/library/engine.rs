//! Engines and layers: weights loaded once, values in and out.

use std::sync::{Arc, mpsc};

use rayon::prelude::*;

use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{
    Backend, DType, Element, Engine, Error, GemmShape, Glu, InputScale, Isa, Layer, MlpWeights,
    Nvfp4Matrix, Operand, Spec, Values, bf16, f16, oracle,
};

const N: usize = 80;
const K: usize = 272;

fn weights() -> MlpWeights {
    let shape = GemmShape { m: 1, n: N, k: K, batch: 1 };
    let Operands { b1, b2, .. } = Operands::generate(shape, Data::Full, 11).unwrap();
    MlpWeights::new(b1, b2).unwrap()
}

fn x<T: Element>(rows: usize) -> Vec<T> {
    (0..rows * K).map(|i| T::from_f32((i as f32 * 0.73).sin() * (1 + i % 5) as f32)).collect()
}

/// Those of this machine, and the oracle.
fn engines() -> Vec<Engine> {
    let cpu = Isa::available().into_iter().map(|isa| Engine::cpu_with(isa).unwrap());
    cpu.chain([Engine::oracle()]).collect()
}

/// y of a layer, which must write every value.
fn y<X: Element, Y: Element>(layer: &Layer, x: &[X], rows: usize) -> Vec<Y> {
    let mut y = vec![Y::from_f32(f32::NAN); rows * N];
    layer.run(x, rows, &mut y[..]).unwrap();
    y
}

/// Every type in and out, every scale, against the exact result of activations that were quantized alone.
#[test]
fn layers_agree_with_the_oracle() {
    fn of_types<X: Element, Y: Element>(engine: &Engine) {
        let weights = weights().with_input_scale(0.004).unwrap().with_glu(Glu::GPT_OSS).unwrap();
        for scale in [
            InputScale::Calibrated,
            InputScale::Dynamic,
            InputScale::PerRow,
            InputScale::Fixed(0.002),
        ] {
            let layer = engine.load(weights.clone(), &Spec::default().input_scale(scale)).unwrap();
            for rows in [1, 5, 40] {
                let x = x::<X>(rows);
                let row = |x: &[X]| match scale {
                    InputScale::PerRow => Nvfp4Matrix::quantize(x, 1, 1, K),
                    InputScale::Dynamic => {
                        let whole = Nvfp4Matrix::quantize(&self::x::<X>(rows), 1, rows, K).unwrap();
                        Nvfp4Matrix::quantize_with_global(x, 1, 1, K, whole.global_scale())
                    }
                    InputScale::Fixed(scale) => {
                        Nvfp4Matrix::quantize_with_global(x, 1, 1, K, scale)
                    }
                    _ => Nvfp4Matrix::quantize_with_global(x, 1, 1, K, 0.004),
                };
                let exact: Vec<Y> = x
                    .chunks(K)
                    .flat_map(|x| {
                        let (a, w) = (row(x).unwrap(), &weights);
                        let gemm =
                            nvfp4_dual_gemm::DualGemm::new(&a, w.gate_proj(), w.up_proj()).unwrap();
                        oracle::exact::<Y>(&gemm.with_glu(Glu::GPT_OSS).unwrap()).unwrap()
                    })
                    .collect();
                let comparison = oracle::compare(&y::<X, Y>(&layer, &x, rows), &exact);
                assert!(comparison.passes(), "{engine} {scale} {rows} rows: {comparison:?}");
            }
        }
    }
    for engine in engines() {
        of_types::<f32, f32>(&engine);
        of_types::<bf16, f16>(&engine);
        of_types::<f16, bf16>(&engine);
    }
}

/// With a scale of its own or a known one, a row gives the same bits in any company; with the scale of the whole batch
/// it does not.
#[test]
fn a_row_does_not_depend_on_its_company() {
    let rows = 12; // AMX takes over at 17
    let mut x = x::<f32>(rows);
    x[7] = 300.0; // of the first row
    for isa in Isa::available() {
        let engine = Engine::cpu_with(isa).unwrap();
        for (scale, apart) in [
            (InputScale::PerRow, false),
            (InputScale::Fixed(0.01), false),
            (InputScale::Dynamic, true),
        ] {
            let layer = engine.load(weights(), &Spec::default().input_scale(scale)).unwrap();
            let together = y::<_, f32>(&layer, &x, rows);
            let alone: Vec<f32> = x.chunks(K).flat_map(|x| y::<_, f32>(&layer, x, 1)).collect();
            assert_eq!(together != alone, apart, "{isa} {scale}");
        }
    }
}

/// An application keeps layers in a struct, hands them to threads, and drops what they came from.
#[test]
fn layers_are_owned_and_shared() {
    fn owned<T: Clone + Send + Sync + 'static>(_: &T) {}
    let engine = Engine::cpu().unwrap();
    let layer = engine.load(weights(), &Spec::default()).unwrap();
    owned(&engine);
    owned(&layer);
    let layers = vec![layer.clone(), layer];
    drop(engine);
    let x = x::<bf16>(20);
    let expected = y::<_, f32>(&layers[0], &x, 20);
    std::thread::scope(|scope| {
        for i in 0..8 {
            let (layers, x, expected) = (&layers, &x, &expected);
            scope.spawn(move || {
                for rows in [20, 1, 7] {
                    let y = y::<_, f32>(&layers[i % 2], &x[..rows * K], rows);
                    // The scale is that of the whole batch.
                    assert!(rows < 20 || y == *expected);
                }
            });
        }
    });
}

#[test]
fn no_rows_and_wrong_lengths() {
    for engine in engines() {
        let layer = engine.load(weights(), &Spec::default()).unwrap();
        layer.run(&[0f32; 0], 0, &mut [0f32; 0]).unwrap();
        layer.run(Values::of::<f16>(&[]), 0, &mut Vec::<bf16>::new()).unwrap();
        let mut y = vec![0f32; 2 * N];
        let error = layer.run(&vec![0f32; 2 * K - 1], 2, &mut y).unwrap_err();
        let (expected, actual) = (2 * K, 2 * K - 1);
        assert!(
            matches!(error, Error::Length { operand: Operand::A, expected: e, actual: a, .. } if (e, a) == (expected, actual)),
            "{error}"
        );
        let error = layer.run(&vec![0f32; K], 1, &mut y).unwrap_err();
        assert!(matches!(error, Error::Length { operand: Operand::C, .. }), "{error}");
        let error = layer.run(&vec![0f32; K], usize::MAX, &mut y).unwrap_err();
        assert!(matches!(error, Error::SizeOverflow { .. }), "{error}");
        let mut bad = vec![1f32; 2 * K];
        bad[K + 3] = f32::NAN;
        for scale in [InputScale::Dynamic, InputScale::PerRow, InputScale::Fixed(1.0)] {
            let layer = engine.load(weights(), &Spec::default().input_scale(scale)).unwrap();
            let error = layer.run(&bad, 2, &mut y).unwrap_err();
            let at = matches!(error, Error::NonFinite { operand: Operand::A, row: 1, col: 3, .. });
            assert!(at, "{engine} {scale}: {error}");
        }
    }
}

#[test]
fn what_no_call_could_do_is_refused_by_load() {
    let engine = Engine::cpu().unwrap();
    let load = |spec: Spec| engine.load(weights(), &spec).unwrap_err();
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let error = load(Spec::default().input_scale(InputScale::Fixed(scale)));
        let named = matches!(error, Error::GlobalScale { operand: Operand::A, .. });
        assert!(named, "{scale}: {error}");
    }
    let tiny = load(Spec::default().input_scale(InputScale::Fixed(1e-38)));
    assert!(matches!(tiny, Error::Alpha { .. }), "{tiny}");
    let glu = Glu::ClampedSwiglu { limit: -1.0, slope: 1.0, offset: 0.0 };
    assert!(matches!(load(Spec::default().glu(glu)), Error::GluParameter { .. }));

    let wide = Nvfp4Matrix::quantize(&[1f32; 3 * 32], 1, 3, 32).unwrap();
    let tall = Nvfp4Matrix::quantize(&[1f32; 4 * 32], 1, 4, 32).unwrap();
    let error = MlpWeights::new(wide.clone(), tall).unwrap_err();
    assert!(matches!(error, Error::ShapeMismatch { operand: Operand::B2, .. }), "{error}");
    let batch = Nvfp4Matrix::quantize(&[1f32; 2 * 3 * 32], 2, 3, 32).unwrap();
    let error = MlpWeights::new(batch.clone(), batch).unwrap_err();
    assert!(matches!(error, Error::ShapeMismatch { operand: Operand::B1, .. }), "{error}");
    let none = Nvfp4Matrix::quantize::<f32>(&[], 1, 0, 32).unwrap();
    assert!(matches!(MlpWeights::new(none.clone(), none), Err(Error::ZeroDimension { .. })));
    assert!(MlpWeights::new(wide.clone(), wide).unwrap().with_input_scale(f32::NAN).is_err());
}

/// One layer run by all threads of a pool at once, each of whose runs has parallel parts: in the pool of the caller, and in
/// one of the engine that has fewer threads than there are callers.
#[test]
fn layers_run_from_inside_a_parallel_iterator() {
    let shape = GemmShape { m: 1, n: 512, k: 1024, batch: 1 };
    let Operands { b1, b2, .. } = Operands::generate(shape, Data::Full, 3).unwrap();
    let weights = MlpWeights::new(b1, b2).unwrap();
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let (callers, own) = (pool(3), Arc::new(pool(2)));
    for isa in Isa::available() {
        let engine = Engine::cpu_with(isa).unwrap();
        let alone = engine.load(weights.clone(), &Spec::default()).unwrap();
        let shared = engine.with_pool(own.clone()).load(weights.clone(), &Spec::default()).unwrap();
        let run = |layer: &Layer, seed: usize| {
            let x: Vec<f32> = (0..20 * 1024).map(|i| ((i + seed) as f32).sin()).collect();
            let mut y = vec![f32::NAN; 20 * 512];
            layer.run(&x, 20, &mut y).unwrap();
            y
        };
        let expected: Vec<Vec<f32>> = (0..12).map(|seed| run(&alone, seed)).collect();
        for layer in [&alone, &shared] {
            let found: Vec<Vec<f32>> =
                callers.install(|| (0..12).into_par_iter().map(|seed| run(layer, seed)).collect());
            assert!(found == expected, "{isa}");
        }
    }
}

/// Blocks every thread of a pool until it is dropped.
struct Blocked(#[allow(dead_code)] Vec<mpsc::Sender<()>>);

impl Blocked {
    fn new(spawn: impl Fn(Box<dyn FnOnce() + Send>), threads: usize) -> Self {
        let (ready, blocked) = mpsc::channel();
        let senders = (0..threads).map(|_| {
            let ((release, wait), ready) = (mpsc::channel::<()>(), ready.clone());
            spawn(Box::new(move || {
                ready.send(()).unwrap();
                let _ = wait.recv();
            }));
            release
        });
        let senders = senders.collect();
        (0..threads).for_each(|_| blocked.recv().unwrap());
        Blocked(senders)
    }
}

/// Where the wrong threads would be asked to work, these calls would never end.
#[test]
fn small_work_stays_on_its_thread_and_large_work_in_the_callers_pool() {
    let shape = GemmShape { m: 1, n: 1024, k: 1024, batch: 1 };
    let Operands { b1, b2, .. } = Operands::generate(shape, Data::Full, 2).unwrap();
    let large = MlpWeights::new(b1, b2).unwrap();
    let pool =
        |threads| Arc::new(rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap());
    let run = |engine: &Engine, weights: &MlpWeights, rows: usize| {
        let layer = engine.load(weights.clone(), &Spec::default()).unwrap();
        let x = vec![1f32; rows * weights.in_features()];
        layer.run(&x, rows, &mut vec![0f32; rows * weights.out_features()]).unwrap();
    };
    // Synthetic operands come from the global pool.
    let small = weights();
    let all = rayon::current_num_threads();
    let global = Blocked::new(rayon::spawn, all);
    let (mine, theirs) = (pool(2), pool(1));
    let of_theirs = Blocked::new(|work| theirs.spawn(work), 1);
    for isa in Isa::available() {
        let engine = Engine::cpu_with(isa).unwrap();
        run(&engine, &small, 8);
        run(&engine.with_pool(theirs.clone()), &small, 8);
        run(&engine.with_pool(mine.clone()), &large, 64);
        mine.install(|| run(&engine, &large, 64));
    }
    drop((global, of_theirs));
}

#[test]
fn engines_have_names_and_reasons() {
    for (backend, name) in [
        (Backend::Auto, "auto"),
        (Backend::Cpu, "cpu"),
        (Backend::Oracle, "oracle"),
        (Backend::Cuda, "cuda"),
    ] {
        assert_eq!(backend.to_string(), name);
        assert_eq!(name.parse::<Backend>().unwrap(), backend);
    }
    assert!("exact".parse::<Backend>().unwrap_err().contains("oracle"));
    let cpu = Engine::cpu().unwrap();
    assert_eq!(
        (cpu.backend(), cpu.to_string()),
        (Backend::Cpu, format!("cpu ({})", cpu.isa().unwrap()))
    );
    assert!(!cpu.reason().is_empty() && !Engine::auto().unwrap().reason().is_empty());
    let oracle = Engine::of(Backend::Oracle).unwrap();
    assert_eq!((oracle.to_string().as_str(), oracle.isa()), ("oracle", None));
    if cfg!(not(feature = "cuda")) {
        let error = Engine::cuda(0).unwrap_err();
        assert!(matches!(error, Error::BackendUnavailable { .. }), "{error}");
    }
}

#[test]
fn values_know_their_type() {
    assert_eq!(Values::from(&[1f32, 2.0]).dtype(), DType::F32);
    assert_eq!(Values::from(&vec![f16::ONE; 3]).len(), 3);
    assert_eq!(Values::of(&[bf16::ONE][..]).dtype(), DType::Bf16);
    assert!(Values::of::<f32>(&[]).is_empty());
}
