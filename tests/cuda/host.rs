//! What needs no device, and what is said where there is none.

use nvfp4_dual_gemm::cuda::{
    self, BoundPlan, Device, DeviceBuffer, DeviceMatrix, DeviceView, Event, Graph, Kernel, Options,
    Plan, Stream, WeightFormat, Weights,
};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{Backend, CudaError, Engine, Error, Layer, f16, oracle};

use crate::harness::{Needs, Test, tests};
use crate::problem;

pub fn all() -> Vec<Test> {
    let mut all = tests![Needs::Nothing;
        everything_can_be_shared_between_threads, versions_are_those_of_the_build, kernels_are_what_their_names_say,
        a_kernel_is_selected_without_a_device];
    all.extend(tests![Needs::NoDevice; without_a_device_there_is_an_error_and_no_panic]);
    all
}

fn is_no_device(error: &Error) -> bool {
    matches!(
        error,
        Error::Cuda(CudaError::NoDriver { .. })
            | Error::Cuda(CudaError::DriverTooOld { .. })
            | Error::Cuda(CudaError::NoDevice)
            | Error::Cuda(CudaError::Architecture { .. })
    )
}

fn everything_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Device>();
    shared::<Stream>();
    shared::<Event>();
    shared::<Graph>();
    shared::<DeviceBuffer<f16>>();
    shared::<DeviceView<u8>>();
    shared::<DeviceMatrix>();
    shared::<Weights>();
    shared::<Plan>();
    shared::<BoundPlan>();
    shared::<Engine>();
    shared::<Layer>();
    shared::<Options>();
}

/// Each entry point that does not start from a device or a stream.
fn without_a_device_there_is_an_error_and_no_panic() {
    let why = Device::first_supported().unwrap_err();
    assert!(is_no_device(&why), "{why}");
    if !matches!(why, Error::Cuda(CudaError::Architecture { .. })) {
        for error in [
            Device::count().unwrap_err(),
            Device::open(0).unwrap_err(),
            Device::open(usize::MAX).unwrap_err(),
            Device::all().unwrap_err(),
        ] {
            assert_eq!(error.to_string(), why.to_string());
        }
    }
    assert_eq!(Engine::of(Backend::Cuda).unwrap_err().to_string(), why.to_string());
    if !matches!(why, Error::Cuda(CudaError::Architecture { .. })) {
        assert_eq!(Engine::cuda(0).unwrap_err().to_string(), why.to_string());
    }
    let auto = Engine::auto().unwrap();
    assert_eq!(auto.backend(), Backend::Cpu);
    assert!(auto.reason().starts_with(&why.to_string()), "{}", auto.reason());

    let operands = Operands::generate(problem(2, 3, 32, 1), Data::Full, 1).unwrap();
    let gemm = operands.gemm().unwrap();
    let mut c = [f16::ZERO; 6];
    let short = auto.run_into(&gemm, &mut c[..5]).unwrap_err();
    assert!(matches!(short, Error::Length { expected: 6, actual: 5, .. }), "{short}");
    auto.run_into(&gemm, &mut c).unwrap();
    assert!(oracle::compare(&c, &oracle::exact(&gemm).unwrap()).passes());
}

fn versions_are_those_of_the_build() {
    let toolkit = cuda::TOOLKIT.unwrap();
    assert_eq!(cuda::runtime_version().to_string(), toolkit);
    assert!(cuda::CUTLASS.unwrap().split('.').count() == 3);
    if let Err(Error::Cuda(CudaError::NoDriver { runtime })) = Device::count() {
        assert_eq!(runtime.to_string(), toolkit);
        assert_eq!(cuda::driver_version(), None);
    }
}

/// What a kernel's name says of it, written down by hand: name, tile, SMs of an MMA, cluster (0x0 where each plan
/// chooses), threads, main loop, scheduler, weights, compute capability.
const KERNELS: &str = "\
sm100_stacked_2sm_256x128_c2x1_static 256x128x256 2 2x1 256 Stacked Static separate 10.0
sm100_stacked_2sm_256x128_c4x1_static 256x128x256 2 4x1 256 Stacked Static separate 10.0
sm100_stacked_2sm_256x128_c2x1_clc 256x128x256 2 2x1 256 Stacked Clc separate 10.0
sm100_stacked_1sm_128x128_c1x1_static 128x128x256 1 1x1 256 Stacked Static separate 10.0
sm100_twoacc_2sm_256x64_c2x2_static 256x64x256 2 2x2 256 TwoAccumulators Static separate 10.0
sm100_twoacc_2sm_256x64_c2x1_static 256x64x256 2 2x1 256 TwoAccumulators Static separate 10.0
sm100_twoacc_1sm_128x64_c1x1_static 128x64x256 1 1x1 256 TwoAccumulators Static separate 10.0
sm100_interleaved_2sm_256x96_c2x2_static 256x96x256 2 2x2 256 Interleaved Static interleaved 10.0
sm90_widened_256x64_k64_s1 256x64x64 1 0x0 384 Widened Grid separate 9.0
sm90_widened_128x96_k64_s1 128x96x64 1 0x0 512 Widened Grid separate 9.0
sm90_widened_128x64_k64_s1 128x64x64 1 0x0 384 Widened Grid separate 9.0
sm90_widened_64x64_k128_s2 64x64x128 1 0x0 640 Widened Grid separate 9.0
sm90_widened_32x64_k128_s2 32x64x128 1 0x0 640 Widened Grid separate 9.0
sm90_widened_16x64_k128_s2 16x64x128 1 0x0 640 Widened Grid separate 9.0
sm90_widened_8x64_k128_s2 8x64x128 1 0x0 640 Widened Grid separate 9.0
sm90_f16_256x64_k64_s1 256x64x64 1 0x0 384 Widened Grid separate 9.0
sm90_f16_128x64_k64_s1 128x64x64 1 0x0 384 Widened Grid separate 9.0
sm90_f16_64x64_k128_s2 64x64x128 1 0x0 640 Widened Grid separate 9.0
sm90_f16_16x64_k128_s2 16x64x128 1 0x0 640 Widened Grid separate 9.0
sm90_f16_8x64_k128_s2 8x64x128 1 0x0 640 Widened Grid separate 9.0
sm90_bf16_256x64_k64_s1 256x64x64 1 0x0 384 Widened Grid separate 9.0
sm90_bf16_128x64_k64_s1 128x64x64 1 0x0 384 Widened Grid separate 9.0
sm90_bf16_64x64_k128_s2 64x64x128 1 0x0 640 Widened Grid separate 9.0
sm90_bf16_16x64_k128_s2 16x64x128 1 0x0 640 Widened Grid separate 9.0
sm90_bf16_8x64_k128_s2 8x64x128 1 0x0 640 Widened Grid separate 9.0
";

/// The table as compiled: every row of it is the kernel that its name says.
fn kernels_are_what_their_names_say() {
    let row = |kernel: Kernel| {
        let info = kernel.info();
        let ((m, n, k), (along_m, along_n)) = (info.tile, info.cluster);
        let (major, minor) = info.compute_capability;
        format!(
            "{} {m}x{n}x{k} {} {along_m}x{along_n} {} {:?} {:?} {} {major}.{minor}\n",
            kernel.name(),
            info.sms,
            info.threads,
            info.mainloop,
            info.scheduler,
            info.weights
        )
    };
    let table: String = Kernel::all().map(row).collect();
    assert_eq!(table, KERNELS);
    for kernel in Kernel::all() {
        let (info, name) = (kernel.info(), kernel.name());
        assert_eq!(name.parse::<Kernel>().unwrap(), kernel);
        assert_eq!(Kernel::by_name(name), Some(kernel));
        // Codes of both matrices, half a byte each, divided among the SMs of an MMA; 227 KiB is all that a CTA may have.
        let stage = info.tile.1 * info.tile.2 / info.sms;
        assert!(info.stages >= 2 && info.smem_bytes > info.stages * stage, "{name}");
        assert!(info.smem_bytes <= 227 << 10, "{name}: {} bytes", info.smem_bytes);
        // Two sums for each element, in 512 columns of tensor memory; Hopper has them in registers.
        let hopper = info.compute_capability == (9, 0);
        let columns = if hopper { 0..=0 } else { 2 * info.tile.1..=512 };
        assert!(columns.contains(&info.tmem_columns), "{name}: {} columns", info.tmem_columns);
        assert!(info.accumulator_stages >= 1, "{name}");
    }
    for text in ["", "x", "0", "-1", "sm100"] {
        let error = text.parse::<Kernel>().unwrap_err();
        assert!(error.contains("sm100_stacked_2sm_256x128_c2x1_static"), "{text}: {error}");
    }
}

fn a_kernel_is_selected_without_a_device() {
    for weights in [WeightFormat::Separate, WeightFormat::Interleaved] {
        for shape in
            [problem(1, 1, 32, 1), problem(256, 4096, 7168, 1), problem(8192, 28672, 8192, 2)]
        {
            let kernel = Kernel::select(shape, weights, (10, 0), 148).unwrap();
            assert_eq!(kernel.info().weights, weights, "{shape:?}");
        }
    }
    let error = Kernel::select(problem(1, usize::MAX, 32, 1), WeightFormat::Separate, (10, 0), 148);
    assert_eq!(
        error.unwrap_err().to_string(),
        "b1: N = 18446744073709551615, the CUDA kernels take at most 2147483647"
    );
    let hopper = |weights| Kernel::select(problem(1, 96, 64, 1), weights, (9, 0), 132);
    let kernel = hopper(WeightFormat::Separate).unwrap();
    assert_eq!(kernel.info().compute_capability, (9, 0));
    let interleaved = hopper(WeightFormat::Interleaved).unwrap_err().to_string();
    assert!(interleaved.contains("9.0 takes interleaved"), "{interleaved}");
    for capability in [(0, 0), (8, 0), (8, 10), (10, 3), (12, 0), (u32::MAX, 9), (9, u32::MAX)] {
        let error = Kernel::select(problem(1, 96, 64, 1), WeightFormat::Separate, capability, 132);
        assert!(
            matches!(error.unwrap_err(), Error::Cuda(CudaError::Refused { .. })),
            "{capability:?}"
        );
    }
}
