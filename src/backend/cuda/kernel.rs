//! The kernels that are compiled in, and which of them a shape gets.

use std::ffi::CStr;
use std::fmt;
use std::str::FromStr;

use super::bridge::ffi;
use super::device::Device;
use super::sys::abi;
use super::weights::WeightFormat;
use crate::error::{Error, Operand, Result};
use crate::problem::Problem;

/// One of the compiled kernels; its number is that of `nvfp4_kernel` in abi.h.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kernel(usize);

/// How a kernel forms both products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mainloop {
    /// B1 over B2 in one shared memory tile, one MMA for both.
    Stacked,
    /// Two MMAs that share A in the collector.
    TwoAccumulators,
    /// One MMA over interleaved weights.
    Interleaved,
    /// Hopper's MMA in fp16: weights widened in registers, A by a small kernel ahead, into the plan's workspace; with
    /// tiles of 8 rows by each block itself.
    Widened,
}

/// How a kernel gets its tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheduler {
    /// Tiles strided over a persistent grid.
    Static,
    /// The next tile by cluster launch control.
    Clc,
    /// A tile for each cluster of the grid.
    Grid,
}

/// A kernel as compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelInfo {
    /// `sm100_<mainloop>_<SMs>sm_<tile M>x<tile N>_c<cluster M>x<cluster N>_<scheduler>`, or
    /// `sm90_<mainloop>_<tile M>x<tile N>_k<tile K>_s<slices>`, whose slices are the warpgroups that share the K of a
    /// tile.
    pub name: &'static str,
    /// How it forms both products.
    pub mainloop: Mainloop,
    /// How it gets its tiles.
    pub scheduler: Scheduler,
    /// The weights that it takes.
    pub weights: WeightFormat,
    /// The only compute capability that it runs on, major and minor.
    pub compute_capability: (u32, u32),
    /// SMs that work on one MMA.
    pub sms: i32,
    /// Rows and columns of C in one tile, and the K of a stage.
    pub tile: (i32, i32, i32),
    /// Thread blocks of a cluster along M and N; (0, 0) where each plan has a size of its own.
    pub cluster: (i32, i32),
    /// Threads of a block.
    pub threads: i32,
    /// Stages of the operand pipeline.
    pub stages: i32,
    /// Accumulators in flight.
    pub accumulator_stages: i32,
    /// Dynamic shared memory of a block, in bytes.
    pub smem_bytes: i32,
    /// Columns of tensor memory, of 512; 0 where the device has none.
    pub tmem_columns: i32,
}

impl Kernel {
    /// All kernels of this build.
    pub fn all() -> impl Iterator<Item = Kernel> {
        (0..ffi::kernels().len()).map(Kernel)
    }

    /// The kernel with this number.
    pub fn from_id(id: usize) -> Option<Kernel> {
        (id < ffi::kernels().len()).then_some(Kernel(id))
    }

    /// Its number in abi.h.
    pub fn id(self) -> usize {
        self.0
    }

    /// The kernel that is taken for `problem` where none is asked for, on a device of `compute_capability`, major and
    /// minor, with `sm_count` SMs.
    ///
    /// # Errors
    /// [`Error::SizeOverflow`] for sizes that a kernel cannot have, [`Error::CudaRefused`] where no kernel of that
    /// compute capability takes such weights.
    pub fn select(
        problem: Problem,
        weights: WeightFormat,
        compute_capability: (u32, u32),
        sm_count: usize,
    ) -> Result<Kernel> {
        let sm_count = i32::try_from(sm_count).unwrap_or(i32::MAX);
        let (major, minor) = compute_capability;
        // Of two numbers, the second of one digit, as the table has them; 0 is none.
        let capability = (minor < 10)
            .then(|| major.checked_mul(10)?.checked_add(minor)?.try_into().ok())
            .flatten()
            .unwrap_or(0);
        let selected = ffi::select_kernel(&sizes(problem)?, weights.to_abi(), capability, sm_count);
        usize::try_from(selected).ok().and_then(Kernel::from_id).ok_or_else(|| Error::CudaRefused {
            reason: format!(
                "no kernel of compute capability {major}.{minor} takes {weights} weights, for {problem:?}"
            ),
        })
    }

    fn raw(self) -> &'static abi::nvfp4_kernel_info {
        // Made only by `all` and `from_id`, which look at the length.
        &ffi::kernels()[self.0]
    }

    /// Whether it runs on `device`.
    pub fn runs_on(self, device: &Device) -> bool {
        self.info().compute_capability == device.compute_capability()
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// What is known of it.
    pub fn info(self) -> KernelInfo {
        KernelInfo::of(self.raw())
    }
}

impl KernelInfo {
    pub(super) fn of(raw: &'static abi::nvfp4_kernel_info) -> Self {
        let capability = u32::try_from(raw.compute_capability).unwrap_or_default();
        KernelInfo {
            // SAFETY: the table of kernels holds C strings that live as long as the program.
            name: unsafe { CStr::from_ptr(raw.name) }.to_str().unwrap_or("?"),
            mainloop: match raw.mainloop {
                abi::NVFP4_MAINLOOP_TWO_ACCUMULATORS => Mainloop::TwoAccumulators,
                abi::NVFP4_MAINLOOP_INTERLEAVED => Mainloop::Interleaved,
                abi::NVFP4_MAINLOOP_WIDENED => Mainloop::Widened,
                _ => Mainloop::Stacked,
            },
            scheduler: match raw.scheduler {
                abi::NVFP4_SCHEDULER_CLC => Scheduler::Clc,
                abi::NVFP4_SCHEDULER_GRID => Scheduler::Grid,
                _ => Scheduler::Static,
            },
            weights: WeightFormat::from_abi(raw.weights),
            compute_capability: (capability / 10, capability % 10),
            sms: raw.sms,
            tile: (raw.tile_m, raw.tile_n, raw.tile_k),
            cluster: (raw.cluster_m, raw.cluster_n),
            threads: raw.threads,
            stages: raw.stages,
            accumulator_stages: raw.accumulator_stages,
            smem_bytes: raw.smem_bytes,
            tmem_columns: raw.tmem_columns,
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernel({}, {})", self.0, self.name())
    }
}

/// By name or by number.
impl FromStr for Kernel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let by_number = text.parse().ok().and_then(Kernel::from_id);
        by_number.or_else(|| Kernel::all().find(|kernel| kernel.name() == text)).ok_or_else(|| {
            let names: Vec<_> = Kernel::all().map(Kernel::name).collect();
            format!("{text} is none of {}, nor one of their numbers from 0 on", names.join(", "))
        })
    }
}

/// The sizes as the kernels have them.
pub(super) fn sizes(problem: Problem) -> Result<abi::nvfp4_problem> {
    let Problem { m, n, k, batch } = problem;
    let size = |operand, rows: usize, value: usize| {
        let overflow = Error::SizeOverflow { operand, batch, rows, cols: k };
        i32::try_from(value).map_err(|_| overflow)
    };
    Ok(abi::nvfp4_problem {
        m: size(Operand::A, m, m)?,
        n: size(Operand::B1, n, n)?,
        k: size(Operand::A, m, k)?,
        batch: size(Operand::A, m, batch)?,
    })
}

/// [`Error::CudaArchitecture`] about a device that no kernel runs on.
pub(super) fn wrong_architecture(device: &Device) -> Error {
    let mut built_for: Vec<(u32, u32)> =
        Kernel::all().map(|kernel| kernel.info().compute_capability).collect();
    built_for.sort_unstable();
    built_for.dedup();
    Error::CudaArchitecture {
        device: device.ordinal(),
        name: device.name().to_owned(),
        compute_capability: device.compute_capability(),
        built_for,
    }
}
