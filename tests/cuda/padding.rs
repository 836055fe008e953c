//! Scale factors that belong to no block: the 128x4 layout pads rows and K, and whoever brings the bytes may leave
//! anything there.

use nvfp4_dual_gemm::cuda::{
    DeviceBuffer, DeviceMatrix, DualGemm, Kernel, Options, Stream, WeightFormat, Weights,
};
use nvfp4_dual_gemm::format::scale_layout::ScaleLayout;
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{Nvfp4Matrix, f16, reference};

use crate::harness::{Arch, Needs, Test, device};
use crate::problem;

pub fn all() -> Vec<Test> {
    let separate = |kernel: &Kernel| kernel.info().weights == WeightFormat::Separate;
    let mut all = Vec::new();
    for arch in Arch::ALL {
        let of_arch =
            move |kernel: &Kernel| kernel.info().compute_capability == arch.compute_capability();
        for kernel in Kernel::all().filter(separate).filter(of_arch) {
            let name = format!("what_pads_scale_factors_adds_nothing::{kernel}");
            let run = move || adds_nothing(kernel, arch);
            all.push(Test::new(name, Needs::Kernels, run).on(arch));
        }
    }
    all
}

/// K ends in the middle of an atom of scale factors, and A and the weights in the middle of its rows.
fn adds_nothing(kernel: Kernel, arch: Arch) {
    for k in [32, 160, 1056] {
        let shape = problem(7, 70, k, 2);
        let operands = Operands::generate(shape, Data::Full, 3).unwrap();
        let stream = Stream::new(&device()).unwrap();
        let upload = |matrix: &Nvfp4Matrix| with_padding(matrix, arch, &stream);
        let a = upload(&operands.a);
        let weights = Weights::from_matrices(upload(&operands.b1), upload(&operands.b2)).unwrap();
        let nan = vec![f16::NAN; shape.batch * shape.m * shape.n];
        let c = DeviceBuffer::from_host(&nan, &stream).unwrap();
        let options = Options { kernel: Some(kernel), ..Options::default() };
        let plan = DualGemm::prepare(&weights, &a, &c, &options).unwrap();
        plan.launch(&stream).unwrap();
        let exact = reference::exact::<f16>(&operands.gemm().unwrap());
        let comparison = reference::compare(&c.to_vec(&stream).unwrap(), &exact);
        assert!(comparison.passes(), "{shape:?}: {comparison:?}");
    }
}

/// With every byte in turn where there is no block. Only Hopper's kernels make something else of NaN, and of bit 7.
fn with_padding(matrix: &Nvfp4Matrix, arch: Arch, stream: &Stream) -> DeviceMatrix {
    let (batch, rows, k) = (matrix.batch(), matrix.rows(), matrix.cols());
    let layout = ScaleLayout::new(batch, rows, k).unwrap();
    let row_major = matrix.scales();
    let mut scales = layout.swizzle(row_major).unwrap();
    let is_scale = layout.swizzle(&vec![1; row_major.len()]).unwrap();
    let bytes: Vec<u8> = match arch {
        Arch::H100 => (0x7f..=0xff).collect(),
        Arch::B200 => (0x01..=0x7e).collect(),
    };
    let mut bytes = bytes.into_iter().cycle();
    for (scale, is_scale) in scales.iter_mut().zip(is_scale) {
        if is_scale == 0 {
            *scale = bytes.next().unwrap();
        }
    }
    let codes = DeviceBuffer::from_host(matrix.codes(), stream).unwrap().view();
    let scales = DeviceBuffer::from_host(&scales, stream).unwrap().view();
    DeviceMatrix::from_parts(batch, rows, k, codes, scales, matrix.global_scale()).unwrap()
}
