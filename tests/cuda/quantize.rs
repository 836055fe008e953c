//! The device's quantizer and swizzle, bit for bit against those of the CPU.

use nvfp4_dual_gemm::cuda::sys::cudart;
use nvfp4_dual_gemm::cuda::{
    DeviceBuffer, DeviceMatrix, DeviceView, Graph, Options, Quantizer, Stream, WeightFormat,
    Weights, swizzle_scales, unswizzle_scales,
};
use nvfp4_dual_gemm::format::scale_layout::ScaleLayout;
use nvfp4_dual_gemm::format::{BLOCK, ue4m3};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{CudaError, Element, Error, Nvfp4Matrix, bf16, f16, oracle};

use crate::bound::bound_with;
use crate::harness::{Needs, Test, device, tests};
use crate::problem;
use crate::streams::Theirs;

pub fn all() -> Vec<Test> {
    let mut all = tests![Needs::Kernels;
        every_shape_is_quantized_as_on_the_cpu, every_16_bit_value_is_quantized_as_on_the_cpu,
        neighbors_of_ties_are_quantized_as_on_the_cpu, any_f32_is_quantized_as_on_the_cpu,
        nan_and_infinity_are_refused_as_on_the_cpu, a_graph_quantizes_and_multiplies,
        a_graph_of_others_quantizes_and_multiplies,
        scales_are_swizzled_as_on_the_cpu, what_does_not_fit_is_refused];
    // The same source, compiled for the other architecture.
    let hopper: [(&str, fn()); 4] = [
        ("every_shape_is_quantized_as_on_the_cpu", every_shape_is_quantized_as_on_the_cpu),
        (
            "neighbors_of_ties_are_quantized_as_on_the_cpu",
            neighbors_of_ties_are_quantized_as_on_the_cpu,
        ),
        ("nan_and_infinity_are_refused_as_on_the_cpu", nan_and_infinity_are_refused_as_on_the_cpu),
        ("scales_are_swizzled_as_on_the_cpu", scales_are_swizzled_as_on_the_cpu),
    ];
    for (name, test) in hopper {
        let name = format!("{name}::h100");
        all.push(Test::new(name, Needs::Emulator, test).with("EMULATOR_DEVICE", "h100"));
    }
    all
}

/// On the H100, too, which `device` takes only when kernels of the GEMM are built for it.
fn stream() -> Stream {
    Stream::new(&crate::harness::any_device()).unwrap()
}

/// Pseudo-random bits.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// Magnitudes over some powers of two, one in 16 a zero of either sign, blocks of zeros.
    fn values<T: Element>(&mut self, len: usize) -> Vec<T> {
        let mut values = Vec::with_capacity(len);
        while values.len() < len {
            let zeros = self.next().is_multiple_of(16);
            values.extend((0..BLOCK).map(|_| {
                let bits = self.next();
                let sign = bits & 0x8000_0000;
                let exponent = 127 - 12 + (bits >> 24 & 15);
                let value = sign | exponent << 23 | bits & 0x7f_ffff;
                T::from_f32(f32::from_bits(if zeros || bits >> 24 & 0x70 == 0 {
                    sign
                } else {
                    value
                }))
            }));
        }
        values
    }
}

/// What the CPU makes of the values, as it is uploaded; and what the device leaves in memory full of ones.
fn check_with_global<T: Element>(
    values: &[T],
    (batch, rows, k): (usize, usize, usize),
    global: f32,
    stream: &Stream,
) {
    let expected = Nvfp4Matrix::quantize_with_global(values, batch, rows, k, global).unwrap();
    let expected = DeviceMatrix::upload(&expected, stream).unwrap();
    let poisoned = |view: &DeviceView<u8>| {
        DeviceBuffer::from_host(&vec![0xffu8; view.len()], stream).unwrap().view()
    };
    let actual = DeviceMatrix::from_parts(
        batch,
        rows,
        expected.k(),
        poisoned(expected.codes()),
        poisoned(expected.scales()),
        global,
    )
    .unwrap();
    let device_values = DeviceBuffer::from_host(values, stream).unwrap();
    let quantizer = Quantizer::for_matrix(&actual, k, stream).unwrap();
    quantizer.quantize(&device_values, stream).unwrap();
    quantizer.check(stream).unwrap();
    let what = format!("{} {batch}x{rows}x{k}, global {global:e}", T::DTYPE);
    assert_same(&actual, &expected, stream, &what);
}

fn assert_same(actual: &DeviceMatrix, expected: &DeviceMatrix, stream: &Stream, what: &str) {
    let sizes = |matrix: &DeviceMatrix| (matrix.batch(), matrix.rows(), matrix.k());
    assert_eq!(sizes(actual), sizes(expected), "{what}");
    let pairs =
        [(actual.scales(), expected.scales(), "scale"), (actual.codes(), expected.codes(), "code")];
    for (actual, expected, kind) in pairs {
        let (actual, expected) = (actual.to_vec(stream).unwrap(), expected.to_vec(stream).unwrap());
        let wrong = actual.iter().zip(&expected).position(|(a, b)| a != b);
        if let Some(at) = wrong {
            let (actual, expected) = (actual[at], expected[at]);
            panic!("{what}: {kind} byte {at} is {actual:#04x}, on the CPU {expected:#04x}");
        }
        assert_eq!(actual.len(), expected.len());
    }
    let bits = |matrix: &DeviceMatrix| matrix.global_scale().to_bits();
    assert_eq!(bits(actual), bits(expected), "{what}");
}

/// Tails in rows and K, K that is padded, batches, more columns than a thread block does.
const SHAPES: [(usize, usize, usize); 9] = [
    (1, 1, 16),
    (1, 2, 32),
    (2, 3, 48),
    (1, 130, 80),
    (3, 33, 112),
    (1, 128, 512),
    (1, 5, 528),
    (2, 161, 576),
    (1, 4, 1040),
];

fn every_shape_is_quantized_as_on_the_cpu() {
    fn of_type<T: Element>(stream: &Stream) {
        let mut random = Random(1);
        for (batch, rows, k) in SHAPES {
            let values = random.values::<T>(batch * rows * k);
            let expected = Nvfp4Matrix::quantize(&values, batch, rows, k).unwrap();
            let global = expected.global_scale();
            let expected = DeviceMatrix::upload(&expected, stream).unwrap();
            let device_values = DeviceBuffer::from_host(&values, stream).unwrap();
            let actual = DeviceMatrix::quantize(&device_values, batch, rows, k, stream).unwrap();
            assert_same(&actual, &expected, stream, &format!("{} {batch}x{rows}x{k}", T::DTYPE));
            check_with_global(&values, (batch, rows, k), global, stream);
            // Values beyond its range saturate.
            check_with_global(&values, (batch, rows, k), global / 77.0, stream);
        }
        // The largest magnitude last, first, and nowhere.
        let mut values = vec![T::from_f32(-0.0); 3 * 80];
        let check = |values: &[T]| {
            let expected = Nvfp4Matrix::quantize(values, 1, 3, 80).unwrap();
            let expected = DeviceMatrix::upload(&expected, stream).unwrap();
            let values = DeviceBuffer::from_host(values, stream).unwrap();
            let actual = DeviceMatrix::quantize(&values, 1, 3, 80, stream).unwrap();
            assert_same(&actual, &expected, stream, T::DTYPE.to_string().as_str());
        };
        check(&values);
        values[239] = T::from_f32(-3.3);
        check(&values);
        values[0] = T::from_f32(61000.0);
        check(&values);
    }
    let stream = stream();
    of_type::<f16>(&stream);
    of_type::<bf16>(&stream);
    of_type::<f32>(&stream);
}

/// In their order, where a block has values of about one size, and mixed.
fn every_16_bit_value_is_quantized_as_on_the_cpu() {
    fn of_type<T: Element>(from_bits: fn(u16) -> T, stream: &Stream) {
        let finite: Vec<T> =
            (0..=u16::MAX).map(from_bits).filter(|value| value.to_f32().is_finite()).collect();
        let mixed: Vec<T> = (0..finite.len()).map(|i| finite[i * 40_503 % finite.len()]).collect();
        let globals =
            [1.0, 1.0 / 2688.0, 0.37, 2f32.powi(-24) / 1e4, 1e-38, f32::from_bits(1), 3e37];
        let k = 256;
        let rows = finite.len() / k;
        assert_eq!(finite.len() % k, 0);
        for global in globals {
            check_with_global(&finite, (1, rows, k), global, stream);
            check_with_global(&mixed, (1, rows, k), global, stream);
        }
    }
    let stream = stream();
    of_type(f16::from_bits, &stream);
    of_type(bf16::from_bits, &stream);
}

/// Quotients at, just below and just above every tie, for units with all kinds of significands.
fn neighbors_of_ties_are_quantized_as_on_the_cpu() {
    fn of_type<T: Element>(
        neighbor: fn(T, i32) -> T,
        exponents: std::ops::Range<u32>,
        stream: &Stream,
    ) {
        let mut random = Random(2);
        for exponent in exponents {
            let global = f32::from_bits(exponent << 23 | random.next() & 0x7f_ffff);
            let mut values = Vec::new();
            for byte in (1..0x7f).chain([1, 0x7e]) {
                let unit = ue4m3::decode(byte) * global;
                values.extend([T::from_f32(6.0 * unit), T::from_f32(-0.0)]); // the first fixes the scale
                for (i, tie) in [0.25f32, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0].into_iter().enumerate() {
                    let value = T::from_f32(tie * unit);
                    let step = (random.next() >> i) as i32 & 3;
                    values.extend([neighbor(value, step - 1), T::from_f32(-tie * unit)]);
                }
            }
            check_with_global(&values, (1, 8, values.len() / 8), global, stream);
        }
    }
    let stream = stream();
    let f32_neighbor = |value: f32, step| f32::from_bits((value.to_bits() as i32 + step) as u32);
    of_type::<f32>(f32_neighbor, 120..134, &stream);
    of_type::<f32>(f32_neighbor, 1..3, &stream);
    // Where the quotient's arithmetic goes another way.
    of_type::<f32>(f32_neighbor, 18..34, &stream);
    of_type::<f32>(f32_neighbor, 216..229, &stream);
    let f16_neighbor =
        |value: f16, step| f16::from_bits((i32::from(value.to_bits()) + step) as u16);
    of_type::<f16>(f16_neighbor, 114..120, &stream);
    let bf16_neighbor =
        |value: bf16, step| bf16::from_bits((i32::from(value.to_bits()) + step) as u16);
    of_type::<bf16>(bf16_neighbor, 120..126, &stream);
}

/// Bits of all kinds in one block, and of about one size.
fn any_f32_is_quantized_as_on_the_cpu() {
    let stream = stream();
    let mut random = Random(3);
    for round in 0..6 {
        let mut values: Vec<f32> = Vec::new();
        while values.len() < 8 * 1024 {
            let exponent = random.next() % 255;
            values.extend((0..BLOCK).map(|_| {
                let bits = random.next();
                let own = if round % 2 == 0 { bits >> 23 & 0xff } else { exponent };
                f32::from_bits(bits & 0x807f_ffff | own.min(254) << 23)
            }));
        }
        let expected = Nvfp4Matrix::quantize(&values, 1, 8, 1024).unwrap();
        check_with_global(&values, (1, 8, 1024), expected.global_scale(), &stream);
        let any = f32::from_bits(random.next() % 0x7f80_0000 + 1).min(f32::MAX);
        check_with_global(&values, (1, 8, 1024), any, &stream);
        let expected = DeviceMatrix::upload(&expected, &stream).unwrap();
        let values = DeviceBuffer::from_host(&values, &stream).unwrap();
        let actual = DeviceMatrix::quantize(&values, 1, 8, 1024, &stream).unwrap();
        assert_same(&actual, &expected, &stream, "any f32");
    }
}

fn nan_and_infinity_are_refused_as_on_the_cpu() {
    fn of_type<T: Element>(stream: &Stream) {
        let (batch, rows, k) = (2, 37, 80);
        let mut random = Random(4);
        let finite = random.values::<T>(batch * rows * k);
        let quantizer = Quantizer::with_scale(batch, rows, k, 0.01, stream).unwrap();
        let dynamic = Quantizer::dynamic(batch, rows, k, stream).unwrap();
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in [0, 1, 2 * 80 + 17, 40 * 80 + 3, batch * rows * k - 1] {
                let mut values = finite.clone();
                // One more behind it, which is not the one to be told, of another kind.
                let other = if bad.is_nan() { f32::INFINITY } else { f32::NAN };
                values[(place + 700).min(batch * rows * k - 1)] = T::from_f32(other);
                values[place] = T::from_f32(bad);
                let words = |error: Error| {
                    assert!(matches!(error, Error::NonFinite { .. }), "{error}");
                    error.to_string()
                };
                let expected = words(Nvfp4Matrix::quantize(&values, batch, rows, k).unwrap_err());
                let values = DeviceBuffer::from_host(&values, stream).unwrap();
                let error = DeviceMatrix::quantize(&values, batch, rows, k, stream).unwrap_err();
                assert_eq!(words(error), expected);
                let error =
                    DeviceMatrix::quantize_with_global(&values, batch, rows, k, 0.01, stream);
                assert_eq!(words(error.unwrap_err()), expected);
                for quantizer in [&quantizer, &dynamic] {
                    quantizer.quantize(&values, stream).unwrap();
                    assert_eq!(words(quantizer.check(stream).unwrap_err()), expected);
                    // Told once, and the scale factors are numbers all the same.
                    quantizer.check(stream).unwrap();
                    let scales = quantizer.matrix().scales().to_vec(stream).unwrap();
                    assert_eq!(ue4m3::find_invalid(&scales), None);
                }
            }
        }
        // It stays until somebody looks, also when good values follow.
        let mut values = finite.clone();
        values[5] = T::from_f32(f32::NAN);
        let (good, bad) = (
            DeviceBuffer::from_host(&finite, stream).unwrap(),
            DeviceBuffer::from_host(&values, stream).unwrap(),
        );
        quantizer.quantize(&good, stream).unwrap();
        quantizer.check(stream).unwrap();
        quantizer.quantize(&bad, stream).unwrap();
        quantizer.quantize(&good, stream).unwrap();
        quantizer.check(stream).unwrap_err();
        quantizer.check(stream).unwrap();
    }
    let stream = stream();
    of_type::<f16>(&stream);
    of_type::<bf16>(&stream);
    of_type::<f32>(&stream);
}

/// New activations through one graph, with a global scale that is known, and with one that the device finds.
fn a_graph_quantizes_and_multiplies() {
    let device = device();
    let stream = Stream::new(&device).unwrap();
    let (m, n, k) = (9, 80, 144);
    let operands = Operands::generate(problem(m, n, k, 1), Data::Full, 3).unwrap();
    let weights =
        Weights::prepare(&operands.b1, &operands.b2, WeightFormat::Separate, &stream).unwrap();
    let values = DeviceBuffer::<bf16>::zeroed(m * k, &stream).unwrap();
    let c = DeviceBuffer::<f32>::zeroed(m * n, &stream).unwrap();
    for known in [Some(0.003f32), None] {
        let graph = {
            let quantizer = match known {
                Some(scale) => Quantizer::with_scale(1, m, k, scale, &stream),
                None => Quantizer::dynamic(1, m, k, &stream),
            }
            .unwrap();
            let alpha = quantizer.global_scale();
            assert_eq!(alpha.is_none(), known.is_some());
            let (options, factors) = (Options::default(), [alpha.as_ref(); 2]);
            let plan = bound_with(&weights, quantizer.matrix(), &c, &options, factors).unwrap();
            // A look at what was found cannot be captured.
            let error = Graph::capture(&stream, |stream| quantizer.check(stream)).unwrap_err();
            assert!(matches!(error, Error::Cuda(CudaError::Capture { .. })), "{error}");
            Graph::capture(&stream, |stream| {
                quantizer.quantize(&values, stream)?;
                plan.launch(stream)
            })
            .unwrap()
        };
        let mut random = Random(5);
        for factor in [1.0f32, 0.01] {
            let fresh: Vec<bf16> = random.values::<bf16>(m * k);
            let fresh: Vec<bf16> =
                fresh.iter().map(|value| bf16::from_f32(value.to_f32() * factor)).collect();
            values.upload(&fresh, &stream).unwrap();
            graph.launch(&stream).unwrap();
            let a = match known {
                Some(scale) => Nvfp4Matrix::quantize_with_global(&fresh, 1, m, k, scale),
                None => Nvfp4Matrix::quantize(&fresh, 1, m, k),
            }
            .unwrap();
            let gemm = nvfp4_dual_gemm::DualGemm::new(&a, &operands.b1, &operands.b2).unwrap();
            // Scales meet in one more rounding where one of them is on the device: in f16 that does not show.
            let narrow =
                |values: Vec<f32>| values.into_iter().map(f16::from_f32).collect::<Vec<_>>();
            let (actual, exact) =
                (narrow(c.to_vec(&stream).unwrap()), oracle::exact::<f16>(&gemm).unwrap());
            let comparison = oracle::compare(&actual, &exact);
            assert!(comparison.passes(), "{known:?}: {comparison:?}");
        }
    }
}

/// What others capture, the checked calls refuse and the unchecked ones take.
fn a_graph_of_others_quantizes_and_multiplies() {
    let device = device();
    let stream = Stream::new(&device).unwrap();
    let (m, n, k) = (9, 80, 144);
    let operands = Operands::generate(problem(m, n, k, 1), Data::Full, 3).unwrap();
    let weights =
        Weights::prepare(&operands.b1, &operands.b2, WeightFormat::Separate, &stream).unwrap();
    let values = DeviceBuffer::<bf16>::zeroed(m * k, &stream).unwrap();
    for quantizer in [
        Quantizer::dynamic(1, m, k, &stream).unwrap(),
        Quantizer::with_scale(1, m, k, 0.003, &stream).unwrap(),
    ] {
        let c = DeviceBuffer::<f16>::zeroed(m * n, &stream).unwrap();
        let alpha = quantizer.global_scale();
        let (options, factors) = (Options::default(), [alpha.as_ref(); 2]);
        let plan = bound_with(&weights, quantizer.matrix(), &c, &options, factors).unwrap();
        let capture = Theirs::begin(&stream, cudart::cudaStreamCaptureModeThreadLocal);
        for refused in [quantizer.quantize(&values, &stream), plan.launch(&stream)] {
            let words = refused.unwrap_err().to_string();
            assert!(words.contains("Quantizer::quantize_unchecked"), "{words}");
        }
        // SAFETY: the stream lives, and so does all memory until after the replays.
        unsafe {
            quantizer.quantize_unchecked(&values, stream.as_ptr()).unwrap();
            plan.launch_unchecked(stream.as_ptr()).unwrap();
        }
        let graph = capture.end().unwrap();
        let mut random = Random(8);
        for _ in 0..2 {
            let fresh: Vec<bf16> = random.values::<bf16>(m * k);
            values.upload(&fresh, &stream).unwrap();
            graph.launch(&stream);
            let a = match quantizer.global_scale() {
                Some(_) => Nvfp4Matrix::quantize(&fresh, 1, m, k),
                None => Nvfp4Matrix::quantize_with_global(&fresh, 1, m, k, 0.003),
            }
            .unwrap();
            let gemm = nvfp4_dual_gemm::DualGemm::new(&a, &operands.b1, &operands.b2).unwrap();
            let exact = oracle::exact::<f16>(&gemm).unwrap();
            let comparison = oracle::compare(&c.to_vec(&stream).unwrap(), &exact);
            assert!(comparison.passes(), "{comparison:?}");
        }
    }
    let short = values.slice(0, 16).unwrap();
    let quantizer = Quantizer::with_scale(1, m, k, 1.0, &stream).unwrap();
    // SAFETY: refused before anything is queued.
    let error = unsafe { quantizer.quantize_unchecked(&short, stream.as_ptr()) }.unwrap_err();
    assert!(matches!(error, Error::Length { .. }), "{error}");
}

fn scales_are_swizzled_as_on_the_cpu() {
    let stream = stream();
    let mut random = Random(6);
    let shapes =
        [(1, 1, 16), (2, 3, 80), (1, 129, 256), (1, 200, 1024), (3, 64, 4096), (1, 70, 2080)];
    for (batch, rows, k) in shapes {
        let layout = ScaleLayout::new(batch, rows, k).unwrap();
        let bytes: Vec<u8> = (0..layout.row_major_len()).map(|_| random.next() as u8).collect();
        let expected = layout.swizzle(&bytes).unwrap();
        // At an odd address, too.
        for shift in [0, 16, 3] {
            let shifted = [&vec![0xee; shift][..], &bytes, &[0xee; 16]].concat();
            let whole = DeviceBuffer::from_host(&shifted, &stream).unwrap();
            let row_major = whole.slice(shift, bytes.len()).unwrap();
            let swizzled = DeviceBuffer::from_host(&vec![0xffu8; expected.len()], &stream).unwrap();
            swizzle_scales(&row_major, batch, rows, k, &swizzled, &stream).unwrap();
            assert_eq!(swizzled.to_vec(&stream).unwrap(), expected, "{batch}x{rows}x{k}");
            row_major.fill_bytes(0x55, &stream).unwrap();
            unswizzle_scales(&swizzled, batch, rows, k, &row_major, &stream).unwrap();
            assert_eq!(whole.to_vec(&stream).unwrap(), shifted, "{batch}x{rows}x{k} at {shift}");
        }
    }
}

fn what_does_not_fit_is_refused() {
    let stream = stream();
    let buffer = DeviceBuffer::<f32>::zeroed(3 * 64 + 4, &stream).unwrap();
    let values = buffer.slice(0, 3 * 64).unwrap();
    let host = vec![0.0f32; 3 * 64];
    // Words of the CPU, whatever is wrong.
    let shapes = [
        (1, 3, 63),
        (0, 3, 64),
        (1, 0, 64), // of which there are none
        (1, 3, 0),
        (1, 3, 48),
        (2, 3, 64),
        (1, usize::MAX, 64),
    ];
    for (batch, rows, k) in shapes {
        let expected = Nvfp4Matrix::quantize(&host, batch, rows, k).unwrap_err().to_string();
        let error = DeviceMatrix::quantize(&values, batch, rows, k, &stream).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    for global in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let expected = Nvfp4Matrix::quantize_with_global(&host, 1, 3, 64, global).unwrap_err();
        let error = DeviceMatrix::quantize_with_global(&values, 1, 3, 64, global, &stream);
        assert_eq!(error.unwrap_err().to_string(), expected.to_string());
    }
    let quantizer = Quantizer::with_scale(1, 3, 64, 1.0, &stream).unwrap();
    let odd = buffer.slice(1, 3 * 64).unwrap();
    let error = quantizer.quantize(&odd, &stream).unwrap_err();
    assert!(matches!(error, Error::Cuda(CudaError::Address { alignment: 16, .. })), "{error}");
    let error = quantizer.quantize(&buffer, &stream).unwrap_err();
    assert!(matches!(error, Error::Length { .. }), "{error}");
    for k in [32, 80, 96] {
        let error = Quantizer::for_matrix(quantizer.matrix(), k, &stream).unwrap_err();
        assert!(matches!(error, Error::ShapeMismatch { .. }), "{error}");
    }
    let too_many = 1usize << 31;
    let error = Quantizer::with_scale(1, too_many, 16, 1.0, &stream).unwrap_err();
    let words = "matrix: rows = 2147483648, the CUDA kernels take at most 2147483647";
    assert_eq!(error.to_string(), words);

    // Values in the memory of the matrix.
    let memory = DeviceBuffer::<u8>::zeroed(3 * 64 * 4, &stream).unwrap();
    let owner = std::sync::Arc::new(memory.view());
    // SAFETY: as long as the buffer, which the owner holds.
    let inside = unsafe {
        DeviceView::<f32>::from_raw(memory.as_ptr(), 3 * 64, stream.device(), owner).unwrap()
    };
    let codes = memory.slice(3 * 64, 3 * 32).unwrap();
    let scales = DeviceBuffer::<u8>::zeroed(512, &stream).unwrap();
    let matrix = DeviceMatrix::from_parts(1, 3, 64, codes, scales.view(), 1.0).unwrap();
    let overlapping = Quantizer::for_matrix(&matrix, 64, &stream).unwrap();
    let error = overlapping.quantize(&inside, &stream).unwrap_err();
    assert!(error.to_string().contains("values overlaps codes"), "{error}");
    let error = swizzle_scales(&scales, 1, 128, 64, &scales, &stream).unwrap_err();
    assert!(error.to_string().contains("row_major overlaps swizzled"), "{error}");
    let (row_major, shifted) = (scales.slice(0, 12).unwrap(), scales.slice(1, 511).unwrap());
    let error = swizzle_scales(&row_major, 1, 3, 64, &shifted, &stream).unwrap_err();
    assert!(matches!(error, Error::Length { expected: 512, actual: 511, .. }), "{error}");
}
