//! M = 0, a step without tokens: every operation takes it, and gives an empty result. Weights without
//! elements stay an error (errors.rs).

use nvfp4_dual_gemm::format::{quantize, scale_layout::ScaleLayout};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{
    Backend, DType, DualGemm, Element, Engine, Error, GemmShape, Glu, Isa, Nvfp4Matrix, Nvfp4View,
    bf16, f16, oracle,
};

const PROBLEMS: [GemmShape; 3] = [
    GemmShape { m: 0, n: 5, k: 48, batch: 1 },
    GemmShape { m: 0, n: 1, k: 16, batch: 1 },
    GemmShape { m: 0, n: 40, k: 1040, batch: 3 },
];

#[test]
fn matrices() {
    for (batch, cols) in [(1, 16), (3, 7168)] {
        let m = Nvfp4Matrix::quantize::<f32>(&[], batch, 0, cols).unwrap();
        assert_eq!((m.batch(), m.rows(), m.cols(), m.global_scale()), (batch, 0, cols, 1.0));
        assert_eq!(m, Nvfp4Matrix::new(batch, 0, cols, vec![], vec![], 1.0).unwrap());
        assert_eq!(m, Nvfp4Matrix::from_swizzled(batch, 0, cols, vec![], &[], 1.0).unwrap());
        assert_eq!(m.view(), Nvfp4View::new(batch, 0, cols, &[], &[], 1.0).unwrap());
        assert_eq!(m.view().to_owned(), m);
        assert!(m.dequantize().is_empty());
        assert!(m.view().dequantize_as::<bf16>().is_empty());
        m.view().dequantize_into::<f16>(&mut []).unwrap();
        assert!(m.view().to_swizzled_scales().unwrap().is_empty());
        let known = Nvfp4Matrix::quantize_with_global::<bf16>(&[], batch, 0, cols, 0.25).unwrap();
        assert_eq!((known.rows(), known.global_scale()), (0, 0.25));
        assert_eq!(quantize::two_level::<f16>(&[], batch, 0, cols, &mut [], &mut []).unwrap(), 1.0);
        assert_eq!(quantize::global_scale::<f32>(&[], 0, cols).unwrap(), 1.0);
    }
    // What has elements does not fit a shape without rows.
    let one = Nvfp4Matrix::quantize(&[1.0f32; 16], 1, 0, 16).unwrap_err();
    assert!(matches!(one, Error::Length { expected: 0, actual: 16, .. }), "{one}");
    assert!(quantize::global_scale(&[1.0f32; 16], 0, 16).is_err());
    assert!(Nvfp4View::new(1, 0, 16, &[0; 8], &[], 1.0).is_err());
    assert!(Nvfp4View::new(1, 0, 16, &[], &[0], 1.0).is_err());
    assert!(Nvfp4View::new(1, 0, 16, &[], &[], f32::NAN).is_err());
    // As large as one row could not be.
    assert!(Nvfp4View::new(usize::MAX, 0, 32, &[], &[], 1.0).is_err());
    assert!(Nvfp4View::new(1, 0, usize::MAX - 15, &[], &[], 1.0).is_err());
}

#[test]
fn scale_layouts_have_no_tiles() {
    for batch in [1, 4] {
        let layout = ScaleLayout::new(batch, 0, 80).unwrap();
        let sizes = (layout.batch_stride(), layout.swizzled_len(), layout.row_major_len());
        assert_eq!(sizes, (0, 0, 0));
        assert!(layout.swizzle(&[]).unwrap().is_empty());
        assert!(layout.unswizzle(&[]).unwrap().is_empty());
        assert!(layout.swizzle(&[0]).is_err());
        assert!(layout.unswizzle(&[0; 512]).is_err());
    }
}

#[test]
fn every_backend_gives_an_empty_c() {
    fn check<T: Element>() {
        for problem in PROBLEMS {
            let operands = Operands::generate(problem, Data::Full, 1).unwrap();
            assert_eq!(operands.a.codes(), [0u8; 0]);
            for gate in [Glu::Swiglu, Glu::GPT_OSS, Glu::GegluTanh] {
                let gemm = operands.gemm().unwrap().with_glu(gate).unwrap();
                assert_eq!(gemm.shape(), problem);
                for backend in [Backend::Cpu, Backend::Oracle] {
                    assert_eq!(Engine::of(backend).unwrap().run::<T>(&gemm).unwrap(), []);
                    Engine::of(backend).unwrap().run_into::<T>(&gemm, &mut []).unwrap();
                    let one = Engine::of(backend)
                        .unwrap()
                        .run_into(&gemm, &mut [T::default()])
                        .unwrap_err();
                    assert!(matches!(one, Error::Length { expected: 0, actual: 1, .. }), "{one}");
                }
                for isa in Isa::available() {
                    Engine::cpu_with(isa).unwrap().run_into::<T>(&gemm, &mut []).unwrap();
                }
                oracle::exact_into::<T>(&gemm, &mut []).unwrap();
                assert_eq!(oracle::exact_rows::<T>(&gemm, &[]).unwrap(), []);
                let outside = oracle::exact_rows::<T>(&gemm, &[(0, 0)]).unwrap_err();
                assert!(matches!(outside, Error::RowOutOfRange { rows: 0, .. }), "{outside}");
            }
        }
    }
    check::<f16>();
    check::<bf16>();
    check::<f32>();
}

#[test]
fn what_fits_is_still_checked() {
    let a = Nvfp4Matrix::quantize::<f32>(&[], 1, 0, 32).unwrap();
    let b = |cols| Nvfp4Matrix::quantize(&vec![1.0f32; 3 * cols], 1, 3, cols).unwrap();
    let other = DualGemm::new(&a, &b(48), &b(48)).unwrap_err();
    assert!(matches!(other, Error::ShapeMismatch { .. }), "{other}");
    // Alone, the other operand without rows is A as well: it is its place that counts.
    let none = DualGemm::new(&b(32), &a, &a).unwrap_err();
    assert!(matches!(none, Error::ZeroDimension { rows: 0, .. }), "{none}");
}

#[test]
fn nothing_compares_equal_to_nothing() {
    let comparison = oracle::compare::<bf16>(&[], &[]);
    assert!(comparison.passes(), "{comparison:?}");
    let counts = (comparison.count, comparison.max_ulp, comparison.beyond_one_ulp);
    assert_eq!((counts, comparison.outside, comparison.max_abs_error), ((0, 0, 0), 0, 0.0));
    assert_eq!(comparison.tolerance.atol, 1e-3);
    assert_eq!(comparison.ulp_of, DType::Bf16);
    assert!(!oracle::compare(&[1.0f32], &[]).passes());
    assert!(!oracle::compare(&[], &[1.0f32]).passes());
}

#[cfg(feature = "checkpoint")]
mod files {
    use super::*;
    use nvfp4_dual_gemm::Operand;
    use nvfp4_dual_gemm::checkpoint::Checkpoint;
    use nvfp4_dual_gemm::checkpoint::tensors::{self, TensorFile};

    #[test]
    fn operands_and_results() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in.safetensors");
        for problem in PROBLEMS {
            let operands = Operands::generate(problem, Data::Full, 1).unwrap();
            tensors::write_matrices(&path, &operands.named()).unwrap();
            let file = TensorFile::open(&path).unwrap();
            assert_eq!(file.operand("a", Operand::A).unwrap(), operands.a);
            assert_eq!(file.packed("a", Operand::A).unwrap(), operands.a);
            assert_eq!(file.operand("b2", Operand::B2).unwrap(), operands.b2);
            assert!(file.operand("a", Operand::B1).is_err());
            assert!(file.packed("a", Operand::B2).is_err());

            let shape = [problem.batch, 0, problem.n];
            tensors::write_output::<bf16>(&path, "c", &shape, &[]).unwrap();
            let file = TensorFile::open(&path).unwrap();
            assert_eq!(file.values::<f32>("c").unwrap(), (shape.to_vec(), vec![]));
        }
        // Floats that are quantized when they are read.
        tensors::write_output::<bf16>(&path, "a", &[0, 48], &[]).unwrap();
        let file = TensorFile::open(&path).unwrap();
        let a = file.operand("a", Operand::A).unwrap();
        assert_eq!((a.rows(), a.cols(), a.global_scale()), (0, 48, 1.0));
        assert!(file.operand("a", Operand::B1).is_err());
    }

    #[test]
    fn the_input_of_a_layer() {
        let checkpoint = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/checkpoints/modelopt");
        let checkpoint = Checkpoint::open(checkpoint).unwrap();
        let layer = checkpoint.layer(&checkpoint.layers()[0]).unwrap();
        let a = layer.quantize_input::<bf16>(&[], 0).unwrap();
        assert_eq!((a.matrix().rows(), a.matrix().cols()), (0, layer.gate_proj.cols()));
        let gemm = DualGemm::new(a.matrix(), &layer.gate_proj, &layer.up_proj).unwrap();
        assert_eq!(Engine::of(Backend::Cpu).unwrap().run::<f16>(&gemm).unwrap(), []);
    }
}
