//! M = 0: activations of no tokens. Everything is checked as for others, and nothing is launched.

use nvfp4_dual_gemm::cuda::{
    DeviceBuffer, DeviceMatrix, Graph, Kernel, Options, Plan, Quantizer, Stream, WeightFormat,
    Weights, swizzle_scales, unswizzle_scales,
};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{Backend, CudaError, Element, Engine, Error, Nvfp4Matrix, bf16, f16};

use crate::bound::bound;
use crate::harness::{Arch, Needs, Test, device, nvfp4_kernels, tests};
use crate::problem;

pub fn all() -> Vec<Test> {
    let of_arch = |arch: Arch| {
        let all = tests![Needs::Kernels;
            a_plan_of_no_rows_does_nothing, host_operands_of_no_rows_give_no_c,
            no_values_are_quantized_as_on_the_cpu];
        all.into_iter().map(move |test| test.on(arch))
    };
    Arch::ALL.into_iter().flat_map(of_arch).collect()
}

fn a_plan_of_no_rows_does_nothing() {
    let device = device();
    let stream = Stream::new(&device).unwrap();
    for format in crate::gemm::formats(&device) {
        // K is padded, too.
        let operands = Operands::generate(problem(0, 96, 80, 2), Data::Full, 1).unwrap();
        let a = DeviceMatrix::upload(&operands.a, &stream).unwrap();
        assert_eq!((a.rows(), a.k(), a.codes().len(), a.scales().len()), (0, 96, 0, 0));
        let weights = Weights::prepare(&operands.b1, &operands.b2, format, &stream).unwrap();
        // C of a larger buffer, of which nothing may be written.
        let around = DeviceBuffer::from_host(&[f16::ONE; 64], &stream).unwrap();
        let c = around.slice(32, 0).unwrap();
        let options = Options::default();
        let plan = bound(&weights, &a, &c, &options).unwrap();
        assert_eq!(plan.launch_shape().grid, [0; 3]);
        assert_eq!(Plan::new(&weights, &options).unwrap().workspace_bytes(0).unwrap(), 0);
        assert!(plan.kernel().name.parse::<Kernel>().unwrap().runs_on(&device));
        plan.launch(&stream).unwrap();
        // SAFETY: the stream lives.
        unsafe { plan.launch_unchecked(stream.as_ptr()) }.unwrap();
        // Alone in a graph, and among other work.
        Graph::capture(&stream, |stream| plan.launch(stream)).unwrap().launch(&stream).unwrap();
        let graph = Graph::capture(&stream, |stream| {
            plan.launch(stream)?;
            around.slice(0, 1)?.fill_bytes(0, stream)?;
            plan.launch(stream)
        });
        graph.unwrap().launch(&stream).unwrap();
        let mut expected = [f16::ONE; 64];
        expected[0] = f16::ZERO;
        assert_eq!(around.to_vec(&stream).unwrap(), expected);

        // What is wrong is wrong for no rows, too.
        let one = around.slice(0, 1).unwrap();
        let refused = bound(&weights, &a, &one, &options).unwrap_err();
        assert!(matches!(refused, Error::Length { expected: 0, actual: 1, .. }), "{refused}");
        let foreign = Kernel::all().find(|kernel| !kernel.runs_on(&device));
        let foreign = Options::default().kernel(foreign);
        let refused = bound(&weights, &a, &c, &foreign).unwrap_err();
        assert!(matches!(refused, Error::Cuda(CudaError::KernelArchitecture { .. })), "{refused}");
        let other =
            Kernel::all().find(|kernel| kernel.runs_on(&device) && kernel.info().weights != format);
        if let Some(kernel) = other {
            let options = Options::default().kernel(kernel);
            let refused = bound(&weights, &a, &c, &options).unwrap_err();
            assert!(matches!(refused, Error::Cuda(CudaError::Refused { .. })), "{refused}");
        }
        let some = Operands::generate(problem(3, 96, 80, 2), Data::Full, 1).unwrap();
        let some = DeviceMatrix::upload(&some.a, &stream).unwrap();
        bound(&weights, &some, &c, &options).unwrap_err();
    }
    let none = Nvfp4Matrix::quantize::<f32>(&[], 1, 0, 64).unwrap();
    for format in [WeightFormat::Separate, WeightFormat::Interleaved] {
        let error = Weights::prepare(&none, &none, format, &stream).unwrap_err();
        assert!(matches!(error, Error::ZeroDimension { rows: 0, .. }), "{error}");
    }
}

fn host_operands_of_no_rows_give_no_c() {
    for shape in [problem(0, 3, 32, 1), problem(0, 96, 80, 3)] {
        let operands = Operands::generate(shape, Data::Full, 1).unwrap();
        let gemm = operands.gemm().unwrap();
        assert_eq!(Engine::of(Backend::Cuda).unwrap().run::<f16>(&gemm).unwrap(), []);
        assert_eq!(Engine::of(Backend::Cuda).unwrap().run::<f32>(&gemm).unwrap(), [0f32; 0]);
        let kernels = nvfp4_kernels().filter(|kernel| kernel.runs_on(&device()));
        for kernel in kernels {
            let engine = Engine::of(Backend::Cuda).unwrap().with_kernel(kernel).unwrap();
            engine.run_into::<bf16>(&gemm, &mut []).unwrap();
        }
        let engine = Engine::cuda(device().ordinal()).unwrap();
        let long = engine.run_into(&gemm, &mut [0f32]).unwrap_err();
        assert!(matches!(long, Error::Length { expected: 0, actual: 1, .. }), "{long}");
    }
}

fn no_values_are_quantized_as_on_the_cpu() {
    fn of_type<T: Element>(stream: &Stream) {
        let device = stream.device();
        let (batch, k) = (2, 80);
        let values = DeviceBuffer::<T>::alloc(0, device).unwrap();
        let host = Nvfp4Matrix::quantize::<T>(&[], batch, 0, k).unwrap();
        let matrix = DeviceMatrix::quantize(&values, batch, 0, k, stream).unwrap();
        let sizes = (matrix.batch(), matrix.rows(), matrix.k(), matrix.global_scale());
        assert_eq!(sizes, (batch, 0, 96, host.global_scale()));
        let with = DeviceMatrix::quantize_with_global(&values, batch, 0, k, 0.5, stream).unwrap();
        assert_eq!((with.rows(), with.global_scale()), (0, 0.5));
        for quantizer in [
            Quantizer::dynamic(batch, 0, k, stream).unwrap(),
            Quantizer::with_scale(batch, 0, k, 0.5, stream).unwrap(),
            Quantizer::for_matrix(&with, k, stream).unwrap(),
        ] {
            quantizer.quantize(&values, stream).unwrap();
            // SAFETY: the stream lives.
            unsafe { quantizer.quantize_unchecked(&values, stream.as_ptr()) }.unwrap();
            let graph = Graph::capture(stream, |stream| quantizer.quantize(&values, stream));
            graph.unwrap().launch(stream).unwrap();
            quantizer.check(stream).unwrap();
            let long = DeviceBuffer::<T>::zeroed(80, stream).unwrap();
            let error = quantizer.quantize(&long, stream).unwrap_err();
            assert!(matches!(error, Error::Length { expected: 0, actual: 80, .. }), "{error}");
        }
    }
    let stream = Stream::new(&device()).unwrap();
    of_type::<f16>(&stream);
    of_type::<bf16>(&stream);
    of_type::<f32>(&stream);
    let none = DeviceBuffer::<u8>::alloc(0, stream.device()).unwrap();
    swizzle_scales(&none, 2, 0, 80, &none, &stream).unwrap();
    unswizzle_scales(&none, 2, 0, 80, &none, &stream).unwrap();
    stream.synchronize().unwrap();
}
