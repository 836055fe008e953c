//! Sizes that nobody has memory for: an `Err` that names the numbers, before anything is allocated by them. No
//! panic (these tests have overflow checks on), no abort.

use nvfp4_dual_gemm::format::{quantize, scale_layout::ScaleLayout};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{
    Backend, DualGemm, Engine, Error, GemmShape, Nvfp4Matrix, Nvfp4View, Operand, f16, oracle,
};

/// More than the 2^47 bytes that a process can address: an allocator refuses it whatever its policy is.
const TOO_MUCH: usize = 1 << 48;

const EXTREMES: [usize; 15] = [
    0,
    1,
    16,
    128,
    1 << 24,
    1 << 31,
    1 << 32,
    1 << 56,
    1 << 57,
    (1 << 59) + 16,
    (1 << 61) - 16,
    1 << 61,
    isize::MAX as usize,
    usize::MAX - 15,
    usize::MAX,
];

fn shapes() -> impl Iterator<Item = [usize; 3]> {
    let each = EXTREMES.into_iter();
    each.flat_map(|l| EXTREMES.into_iter().flat_map(move |m| EXTREMES.map(|k| [l, m, k])))
}

#[test]
fn empty_buffers_of_any_shape() {
    for [batch, rows, cols] in shapes() {
        // Only a matrix without rows has empty buffers.
        let empty = rows == 0;
        let what = format!("{batch} x {rows} x {cols}");
        let ok = Nvfp4View::new(batch, rows, cols, &[], &[], 1.0).is_ok();
        assert!(!ok || empty, "{what}");
        assert_eq!(Nvfp4Matrix::new(batch, rows, cols, vec![], vec![], 1.0).is_ok(), ok, "{what}");
        let from = Nvfp4Matrix::from_swizzled(batch, rows, cols, vec![], &[], 1.0);
        assert!(from.is_ok() <= ok, "{what}");
        let quantized = Nvfp4Matrix::quantize::<f32>(&[], batch, rows, cols);
        assert_eq!(quantized.is_ok(), ok, "{what}");
        let quantized = quantize::two_level::<f16>(&[], batch, rows, cols, &mut [], &mut []);
        assert_eq!(quantized.is_ok(), ok, "{what}");
        let _ = quantize::global_scale(&[1.0f32; 16], rows, cols);
        let Ok(layout) = ScaleLayout::new(batch, rows, cols) else { continue };
        // Lengths that do not agree are found before anything of the claimed size is allocated.
        assert_eq!(layout.swizzle(&[]).is_ok(), empty, "{what}");
        assert_eq!(layout.unswizzle(&[]).is_ok(), empty, "{what}");
        assert!(layout.swizzle(&[0]).is_err() || layout.row_major_len() == 1, "{what}");
        assert!(layout.unswizzle(&[0; 512]).is_err() || layout.swizzled_len() == 512, "{what}");
    }
}

#[test]
fn the_length_is_the_error_where_a_shape_claims_terabytes() {
    let error = Nvfp4Matrix::from_swizzled(1, 1 << 24, 1 << 24, vec![], &[], 1.0).unwrap_err();
    assert!(matches!(error, Error::Length { actual: 0, .. }), "{error}");
    let layout = ScaleLayout::new(1, 1 << 24, 1 << 24).unwrap();
    let error = layout.swizzle(&[0; 3]).unwrap_err();
    assert!(matches!(error, Error::Length { actual: 3, .. }), "{error}");
}

#[test]
fn operands_that_do_not_fit() {
    let too_large = [
        (GemmShape { m: TOO_MUCH, n: 1, k: 16, batch: 1 }, Operand::A),
        (GemmShape { m: 1, n: TOO_MUCH, k: 16, batch: 1 }, Operand::B1),
        (GemmShape { m: 1, n: 1, k: TOO_MUCH << 1, batch: 1 }, Operand::A),
        (GemmShape { m: 1, n: 1, k: 16, batch: TOO_MUCH }, Operand::A),
        (GemmShape { m: 1 << 20, n: 1, k: 1 << 30, batch: 1 << 5 }, Operand::A),
        (GemmShape { m: 0, n: TOO_MUCH, k: 16, batch: 1 }, Operand::B1),
    ];
    for (problem, at) in too_large {
        match Operands::generate(problem, Data::Full, 1) {
            Err(Error::OutOfMemory { operand, bytes }) => {
                assert!(operand == at && bytes >= TOO_MUCH, "{problem:?}: {operand} {bytes}");
            }
            other => panic!("{problem:?}: {:?}", other.map(|_| ())),
        }
    }
    for [batch, rows, cols] in shapes().filter(|s| s.contains(&usize::MAX)) {
        let problem = GemmShape { m: rows, n: 1, k: cols, batch };
        assert!(Operands::generate(problem, Data::Full, 1).is_err(), "{problem:?}");
    }
}

/// 2^23 rows of 16 take 72 MiB; C would take 2^47 bytes and more.
#[test]
fn a_c_that_does_not_fit() {
    let rows = 1 << 23;
    let one = Nvfp4Matrix::new(1, rows, 16, vec![0; rows * 8], vec![0; rows], 1.0).unwrap();
    let gemm = DualGemm::new(&one, &one, &one).unwrap();
    let check = |error: Error| match error {
        Error::OutOfMemory { operand: Operand::C, bytes } => assert!(bytes >= TOO_MUCH, "{bytes}"),
        other => panic!("{other}"),
    };
    check(oracle::exact::<f32>(&gemm).unwrap_err());
    check(Engine::of(Backend::Cpu).unwrap().run::<f32>(&gemm).unwrap_err());
    check(Engine::of(Backend::Oracle).unwrap().run::<f32>(&gemm).unwrap_err());
    check(oracle::exact_rows::<f32>(&gemm, &vec![(0, 7); rows]).unwrap_err());
}
