//! Every error that the library's own input can lead to, made through the public API, and its text.

use nvfp4_dual_gemm::format::{nibble, scale_layout::ScaleLayout};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{
    CudaError, CudaVersion, DualGemm, Engine, Error, Gemm, GemmShape, Glu, MlpWeights, Nvfp4Matrix,
    Nvfp4View, Operand, UnsuitableDevice, ValuesView, f16, oracle,
};

/// Name of the variant of an error: the start of its `Debug` text.
fn variant(error: &Error) -> String {
    let name = |text: String| text.split([' ', '(', '{']).next().unwrap_or_default().to_owned();
    match error {
        Error::Cuda(error) => format!("CudaError::{}", name(format!("{error:?}"))),
        error => name(format!("{error:?}")),
    }
}

fn matrix(batch: usize, rows: usize, cols: usize) -> Nvfp4Matrix {
    Nvfp4Matrix::quantize(&vec![1.0f32; batch * rows * cols], batch, rows, cols).unwrap()
}

fn with_global(global: f32) -> Nvfp4Matrix {
    Nvfp4Matrix::new(1, 2, 16, vec![0; 16], vec![0; 2], global).unwrap()
}

fn bad_value(index: usize, value: f32) -> Result<Nvfp4Matrix, Error> {
    let mut values = vec![0.5f32; 2 * 3 * 32];
    values[index] = value;
    Nvfp4Matrix::quantize(&values, 2, 3, 32)
}

fn bad_scale(byte: u8) -> Result<(), Error> {
    let mut scales = vec![0x38; 2 * 3 * 2];
    scales[9] = byte;
    Nvfp4View::new(2, 3, 32, &[0; 96], &scales, 1.0).map(|_| ())
}

fn mlp() -> MlpWeights {
    let (b, down) = (matrix(1, 16, 32), matrix(1, 1, 16));
    MlpWeights::new(b.clone(), b).unwrap().with_down(down).unwrap()
}

fn errors() -> Vec<Error> {
    let (a, b) = (matrix(1, 2, 32), matrix(1, 3, 32));
    let mut codes = [3u8; 100_000];
    codes[70_001] = 16;
    vec![
        Nvfp4Matrix::new(1, 2, 32, vec![0; 31], vec![0; 4], 1.0).unwrap_err(),
        Nvfp4Matrix::new(1, 2, 32, vec![0; 32], vec![0; 5], 1.0).unwrap_err(),
        Nvfp4Matrix::quantize(&[0.0f32; 63], 1, 2, 32).unwrap_err(),
        Nvfp4Matrix::from_swizzled(1, 2, 32, vec![0; 32], &[0; 4], 1.0).unwrap_err(),
        ScaleLayout::new(1, 2, 32).unwrap().swizzle(&[0; 3]).unwrap_err(),
        nibble::pack(&[1, 2, 3]).unwrap_err(),
        nibble::unpack_into(&[1, 2, 3], &mut [0; 5]).unwrap_err(),
        a.view().dequantize_into(&mut [0.0f32; 1]).unwrap_err(),
        Engine::auto()
            .unwrap()
            .run_into(&DualGemm::new(&a, &b, &b).unwrap(), &mut [f16::ZERO; 5])
            .unwrap_err(),
        Nvfp4View::new(0, 1, 16, &[], &[], 1.0).unwrap_err(),
        Nvfp4View::new(1, 2, 0, &[], &[], 1.0).unwrap_err(),
        DualGemm::new(&a, &matrix(1, 0, 32), &matrix(1, 0, 32)).unwrap_err(),
        Operands::generate(GemmShape { m: 2, n: 0, k: 32, batch: 1 }, Data::Full, 1).unwrap_err(),
        Nvfp4View::new(1, 1, 24, &[], &[], 1.0).unwrap_err(),
        DualGemm::new(&a, &matrix(1, 3, 48), &b).unwrap_err(),
        DualGemm::new(&a, &b, &matrix(1, 4, 32)).unwrap_err(),
        DualGemm::new(&a, &matrix(2, 3, 32), &b).unwrap_err(),
        ScaleLayout::new(usize::MAX / 32, 1, 32).unwrap_err(),
        ScaleLayout::new(usize::MAX / 256, 1, 16).unwrap_err(), // only with its padding
        bad_scale(0x7f).unwrap_err(),
        bad_scale(0x80).unwrap_err(),
        bad_scale(0xb8).unwrap_err(),
        bad_scale(0xff).unwrap_err(),
        bad_scale(0x7f).unwrap_err().with_operand(Operand::B2),
        nibble::pack(&codes).unwrap_err(),
        Nvfp4View::new(1, 1, 16, &[0; 8], &[0], f32::NAN).unwrap_err(),
        Nvfp4View::new(1, 1, 16, &[0; 8], &[0], 0.0).unwrap_err(),
        Nvfp4Matrix::quantize_with_global(&[0.0f32; 16], 1, 1, 16, -1.5).unwrap_err(),
        DualGemm::new(&with_global(1e-30), &with_global(1.0), &with_global(1e-20)).unwrap_err(),
        DualGemm::new(&with_global(1e30), &with_global(1e20), &with_global(1.0)).unwrap_err(),
        bad_value(0, f32::NAN).unwrap_err(),
        bad_value(133, f32::NEG_INFINITY).unwrap_err(),
        Nvfp4Matrix::quantize(&[f16::INFINITY; 16], 1, 1, 16).unwrap_err(),
        oracle::exact_rows::<f16>(&DualGemm::new(&a, &b, &b).unwrap(), &[(0, 1), (1, 0)])
            .unwrap_err(),
        DualGemm::new(&a, &b, &b)
            .unwrap()
            .with_glu(Glu::ClampedSwiglu { limit: -7.0, slope: 1.702, offset: 1.0 })
            .unwrap_err(),
        DualGemm::new(&a, &b, &b)
            .unwrap()
            .with_glu(Glu::ClampedSwiglu { limit: 7.0, slope: f32::MAX, offset: 1.0 })
            .unwrap_err(),
        Gemm::new(&a, &b).unwrap().with_bias(&[0.0; 2]).unwrap_err(),
        Gemm::new(&a, &b).unwrap().with_bias(&[0.0, 1.0, f32::NAN]).unwrap_err(),
        Gemm::new(&a, &b).unwrap().with_residual(&[0.0f32; 5]).unwrap_err(),
        Gemm::new(&a, &matrix(1, 3, 48)).unwrap_err(),
        Gemm::new(ValuesView::new(1, 1, 32, &[f16::ONE; 32]).unwrap(), &b)
            .unwrap()
            .a()
            .nvfp4()
            .unwrap_err(),
        MlpWeights::new(b.clone(), b.clone()).unwrap().with_down_bias(vec![0.0]).unwrap_err(),
        MlpWeights::new(b.clone(), b.clone()).unwrap().with_down(b.clone()).unwrap_err(),
        mlp().with_down_multiplier(-2.0).unwrap_err(),
        mlp().shard(2, 2).unwrap_err(),
        mlp().with_down_bias(vec![f32::INFINITY]).unwrap_err(),
        // With feature `cuda` it is the device that is missing; tests/cuda has that.
        #[cfg(not(feature = "cuda"))]
        Engine::of(nvfp4_dual_gemm::Backend::Cuda).unwrap_err(),
        #[cfg(feature = "cuda")]
        Error::BackendUnavailable {
            backend: "cuda".to_owned(),
            reason: "this build has no CUDA backend".to_owned(),
        },
        // Made by hand: the environment of a test is shared, an allocation that fails cannot be
        // counted on, and the words of an I/O error are the system's.
        Error::Environment { variable: "NAME", value: "x".to_owned(), expected: "a, b" },
        Error::OutOfMemory { operand: Operand::Matrix, bytes: 1 << 40 }.with_operand(Operand::C),
        Error::Io { path: "dir/file".into(), source: std::io::Error::other("cannot be read") },
    ]
    .into_iter()
    .chain(cuda_errors())
    .collect()
}

fn h100() -> UnsuitableDevice {
    let name = "NVIDIA H100".to_owned();
    UnsuitableDevice { device: 0, name, compute_capability: (9, 0) }
}

/// Made by hand: what a machine without a GPU, or with another one, cannot bring about.
fn cuda_errors() -> Vec<Error> {
    let version = CudaVersion::from_number;
    vec![
        Error::Cuda(CudaError::NoDriver { runtime: version(13050) }),
        Error::Cuda(CudaError::DriverTooOld { driver: version(12080), runtime: version(13050) }),
        Error::Cuda(CudaError::NoDevice),
        Error::Cuda(CudaError::NoSuchDevice { ordinal: 3, count: 2 }),
        Error::Cuda(CudaError::Architecture {
            devices: vec![h100()],
            built_for: vec![(10, 0)],
            unreadable: vec![],
        }),
        Error::Cuda(CudaError::Architecture {
            devices: vec![h100(), UnsuitableDevice { device: 2, ..h100() }],
            built_for: vec![(8, 0), (10, 0)],
            unreadable: vec![(1, "it fell off the bus".to_owned())],
        }),
        Error::Cuda(CudaError::KernelArchitecture {
            kernel: "sm100_x".to_owned(),
            built_for: (10, 0),
            device: h100(),
        }),
        Error::Cuda(CudaError::OutOfMemory {
            device: 1,
            bytes: 1 << 40,
            free: 1 << 30,
            total: 1 << 37,
        }),
        Error::Cuda(CudaError::Call {
            call: "cudaMemcpyAsync".to_owned(),
            name: "cudaErrorIllegalAddress".to_owned(),
            code: 700,
            text: "an illegal memory access was encountered".to_owned(),
        }),
        Error::Cuda(CudaError::WrongDevice { what: "c", expected: 0, actual: 1 }),
        Error::Cuda(CudaError::Capture {
            reason: "the stream is being captured already".to_owned(),
        }),
        Error::Cuda(CudaError::Length { what: "source", expected: 4, actual: 5 }),
        Error::Cuda(CudaError::Range { what: "columns", from: 3, len: 2, of: 4 }),
        Error::Cuda(CudaError::Rows { rows: 3, elements: 8 }),
        Error::Cuda(CudaError::Element { expected: 4, actual: 8 }),
        Error::Cuda(CudaError::Allocation { elements: usize::MAX, size: 4 }),
        Error::Cuda(CudaError::Overlap { to: 0x1000, from: 0x1008, bytes: 16 }),
        Error::Cuda(CudaError::Size { operand: Operand::Matrix, dimension: "N", value: 1 << 31 })
            .with_operand(Operand::B1),
        Error::Cuda(CudaError::Address { address: 0x1001, alignment: 16 }),
        Error::Cuda(CudaError::Refused {
            reason: "K = 33 is not a positive multiple of 32".to_owned(),
        }),
    ]
}

#[test]
fn texts() {
    let lines: Vec<String> = errors().iter().map(|e| format!("{}: {e}", variant(e))).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

/// The source lists the variants: those that are not made above are named here with the reason.
#[test]
fn no_variant_is_forgotten() {
    let elsewhere = [
        "Checkpoint", // transparent; tests of checkpoints
        "Cuda",       // transparent; each of its own variants is made
    ];
    let all = include_str!("../../src/error/mod.rs");
    let of_cuda = include_str!("../../src/error/cuda.rs");
    let variants = |source: &'static str, of: &str| {
        source.split(of).nth(1).unwrap().split("\n}").next().unwrap().lines()
    };
    let made: Vec<String> = errors().iter().map(variant).collect();
    let mut seen = 0;
    let of_cuda = variants(of_cuda, "pub enum CudaError {").map(|line| ("CudaError::", line));
    let lines = variants(all, "pub enum Error {").map(|line| ("", line)).chain(of_cuda);
    for (of, line) in lines {
        // Variants are the lines at the first indent that start with a capital.
        let Some(name) = line.strip_prefix("    ").filter(|l| l.starts_with(char::is_uppercase))
        else {
            continue;
        };
        let name = format!("{of}{}", name.split([' ', '(', ',']).next().unwrap());
        assert_ne!(made.contains(&name), elsewhere.contains(&name.as_str()), "{name}");
        seen += 1;
    }
    assert!(seen >= 35, "{seen} variants found: does the source look different now?");
}

#[test]
fn errors_of_the_down_projection_speak_of_h() {
    let weights = mlp().with_down_input_scale(1e-38).unwrap();
    let error = Engine::cpu().unwrap().load(weights, &Default::default()).unwrap_err();
    assert_eq!(error.operand(), Some(Operand::Down));
    assert!(error.to_string().contains("(global scales of h and down)"), "{error}");
    let error = mlp().with_down_input_scale(f32::NAN).unwrap_err();
    assert_eq!(error.operand(), Some(Operand::H));
    let error = Engine::cpu().unwrap().load(mlp().gate_up(), &Default::default());
    let error = error.unwrap().run(&[f32::NAN; 32], 1, &mut [0f32; 16]).unwrap_err();
    assert_eq!(error.operand(), Some(Operand::A));
    assert_eq!(mlp().gate_up().with_down_bias(vec![0.0]).unwrap_err().operand(), None);
}
