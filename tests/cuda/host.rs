//! What needs no device, and what is said where there is none.

use std::collections::BTreeSet;

use nvfp4_dual_gemm::cuda::{
    self, Device, DeviceBuffer, DeviceMatrix, DeviceView, DualGemm, Event, Graph, Kernel, Mainloop,
    Options, Scheduler, Stream, WeightFormat, Weights, sys::abi,
};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{Backend, Error, f16, reference};

use crate::harness::{Needs, Test, tests};
use crate::problem;

pub fn all() -> Vec<Test> {
    let mut all = tests![Needs::Nothing;
        everything_can_be_shared_between_threads, versions_are_those_of_the_build, kernels_are_as_the_header_says,
        a_kernel_is_selected_without_a_device];
    all.extend(tests![Needs::NoDevice; without_a_device_there_is_an_error_and_no_panic]);
    all
}

fn is_no_device(error: &Error) -> bool {
    matches!(
        error,
        Error::CudaNoDriver { .. }
            | Error::CudaDriverTooOld { .. }
            | Error::CudaNoDevice
            | Error::CudaArchitecture { .. }
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
    shared::<DualGemm>();
    shared::<Options>();
    shared::<cuda::OnDevice<f32>>();
}

/// Each entry point that does not start from a device or a stream.
fn without_a_device_there_is_an_error_and_no_panic() {
    let why = Device::first_supported().unwrap_err();
    assert!(is_no_device(&why), "{why}");
    if !matches!(why, Error::CudaArchitecture { .. }) {
        for error in [
            Device::count().unwrap_err(),
            Device::open(0).unwrap_err(),
            Device::open(usize::MAX).unwrap_err(),
            Device::all().unwrap_err(),
        ] {
            assert_eq!(error.to_string(), why.to_string());
        }
    }
    assert_eq!(Backend::Cuda.resolve().unwrap_err().to_string(), why.to_string());
    let auto = Backend::Auto.resolve().unwrap();
    assert_eq!(auto.backend, Backend::Cpu);
    assert!(auto.reason.starts_with(&why.to_string()), "{}", auto.reason);

    let operands = Operands::generate(problem(2, 3, 32, 1), Data::Full, 1).unwrap();
    let gemm = operands.gemm().unwrap();
    let mut c = [f16::ZERO; 6];
    for error in [
        gemm.run_into(Backend::Cuda, &mut c).unwrap_err(),
        cuda::run(&gemm, Kernel::from_id(0), &mut c).unwrap_err(),
    ] {
        assert_eq!(error.to_string(), why.to_string());
    }
    let short = cuda::run(&gemm, None, &mut c[..5]).unwrap_err();
    assert!(matches!(short, Error::Length { expected: 6, actual: 5, .. }), "{short}");
    gemm.run_into(Backend::Auto, &mut c).unwrap();
    assert!(reference::compare(&c, &reference::exact(&gemm).unwrap()).passes());
}

fn versions_are_those_of_the_build() {
    let toolkit = cuda::TOOLKIT.unwrap();
    assert_eq!(cuda::runtime_version().to_string(), toolkit);
    assert!(cuda::CUTLASS.unwrap().split('.').count() == 3);
    if let Err(Error::CudaNoDriver { runtime }) = Device::count() {
        assert_eq!(runtime.to_string(), toolkit);
        assert_eq!(cuda::driver_version(), None);
    }
}

/// The table as compiled against the numbers of abi.h, and the names against what they say.
fn kernels_are_as_the_header_says() {
    let kernels: Vec<Kernel> = Kernel::all().collect();
    assert_eq!(kernels.len(), abi::NVFP4_KERNEL_COUNT as usize);
    let named = |kernel: abi::nvfp4_kernel| Kernel::from_id(kernel as usize).unwrap().name();
    assert_eq!(
        named(abi::NVFP4_KERNEL_sm100_stacked_2sm_256x128_c2x1_static),
        "sm100_stacked_2sm_256x128_c2x1_static"
    );
    assert_eq!(
        named(abi::NVFP4_KERNEL_sm100_interleaved_2sm_256x96_c2x2_static),
        "sm100_interleaved_2sm_256x96_c2x2_static"
    );
    for kernel in &kernels {
        let info = kernel.info();
        assert_eq!(info.name.parse::<Kernel>().unwrap(), *kernel);
        assert_eq!(kernel.id().to_string().parse::<Kernel>().unwrap(), *kernel);
        assert!(info.stages >= 1 && info.accumulator_stages >= 1 && info.threads >= 128);
        if info.mainloop == Mainloop::Widened {
            let (m, n, k) = info.tile;
            assert!(
                info.name.starts_with(&format!("sm90_widened_{m}x{n}_k{k}_s")),
                "{}",
                info.name
            );
            assert_eq!((info.compute_capability, info.scheduler), ((9, 0), Scheduler::Grid));
            assert_eq!((info.cluster, info.weights), ((0, 0), WeightFormat::Separate));
            assert!(info.smem_bytes <= abi::NVFP4_SM90_SMEM_BYTES as i32);
            continue;
        }
        let (mainloop, columns) = match info.mainloop {
            Mainloop::Stacked => ("stacked", 2 * info.tile.1),
            Mainloop::TwoAccumulators => ("twoacc", 2 * info.tile.1),
            Mainloop::Interleaved => ("interleaved", 2 * info.tile.1),
            other => panic!("{other:?}"),
        };
        let scheduler = format!("{:?}", info.scheduler).to_lowercase();
        let (tile, cluster) = (info.tile, info.cluster);
        let name = format!(
            "sm100_{mainloop}_{}sm_{}x{}_c{}x{}_{scheduler}",
            info.sms, tile.0, tile.1, cluster.0, cluster.1
        );
        assert_eq!(info.name, name);
        assert_eq!(info.compute_capability, (10, 0));
        assert_eq!(tile.2, abi::NVFP4_TILE_K as i32);
        assert!(info.smem_bytes > 0 && info.smem_bytes <= abi::NVFP4_SM100_SMEM_BYTES as i32);
        assert!(info.tmem_columns >= columns, "{name}: {} columns", info.tmem_columns);
        assert!(info.tmem_columns <= abi::NVFP4_TMEM_COLUMNS as i32);
        assert!(info.stages >= 2);
        let interleaved = info.mainloop == Mainloop::Interleaved;
        assert_eq!(info.weights == WeightFormat::Interleaved, interleaved);
    }
    let names: BTreeSet<_> = kernels.iter().map(|kernel| kernel.name()).collect();
    assert_eq!(names.len(), kernels.len());
    for text in ["", "x", "15", "-1", "sm100"] {
        assert!(text.parse::<Kernel>().unwrap_err().contains(names.first().unwrap()), "{text}");
    }
    assert_eq!(Kernel::from_id(kernels.len()), None);
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
    assert!(matches!(error.unwrap_err(), Error::SizeOverflow { .. }));
    let hopper = |weights| Kernel::select(problem(1, 96, 64, 1), weights, (9, 0), 132);
    let kernel = hopper(WeightFormat::Separate).unwrap();
    assert_eq!(kernel.info().compute_capability, (9, 0));
    let interleaved = hopper(WeightFormat::Interleaved).unwrap_err().to_string();
    assert!(interleaved.contains("9.0 takes interleaved"), "{interleaved}");
    for capability in [(0, 0), (8, 0), (8, 10), (10, 3), (12, 0), (u32::MAX, 9), (9, u32::MAX)] {
        let error = Kernel::select(problem(1, 96, 64, 1), WeightFormat::Separate, capability, 132);
        assert!(matches!(error.unwrap_err(), Error::CudaRefused { .. }), "{capability:?}");
    }
}
