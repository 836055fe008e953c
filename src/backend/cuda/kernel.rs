//! The kernels that are compiled in, and which of them a shape gets.

use std::ffi::CStr;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::LazyLock;

use super::bridge::ffi;
use super::device::Device;
use super::sys::abi;
use super::weights::WeightFormat;
use crate::error::{Error, Operand, Result, UnsuitableDevice};
use crate::problem::Problem;

/// One of the compiled kernels; its number is that of `nvfp4_kernel` in abi.h.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    id: usize,
    info: &'static KernelInfo,
}

impl Hash for Kernel {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// The table of the host code, by the numbers of the kernels. A row that means nothing to this crate is no kernel.
static TABLE: LazyLock<Vec<Result<KernelInfo>>> =
    LazyLock::new(|| ffi::kernels().iter().map(KernelInfo::of).collect());

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
        (0..TABLE.len()).filter_map(Kernel::from_id)
    }

    /// The kernel with this number.
    pub fn from_id(id: usize) -> Option<Kernel> {
        let info = TABLE.get(id)?.as_ref().ok()?;
        Some(Kernel { id, info })
    }

    /// That of a plan.
    pub(super) fn of_row(row: &abi::nvfp4_kernel_info) -> Result<Kernel> {
        let info = KernelInfo::of(row)?;
        Kernel::all().find(|kernel| *kernel.info == info).ok_or_else(|| Error::CudaRefused {
            reason: format!("kernel {} of the plan is none of this build's", info.name),
        })
    }

    /// Its number in abi.h.
    pub fn id(self) -> usize {
        self.id
    }

    /// The kernel that is taken for `problem` where none is asked for, on a device of `compute_capability`, major and
    /// minor, with `sm_count` SMs.
    ///
    /// # Errors
    /// [`Error::CudaSize`] for sizes that a kernel cannot have, [`Error::CudaRefused`] where no kernel of that compute
    /// capability takes such weights.
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

    /// Whether it runs on `device`.
    pub fn runs_on(self, device: &Device) -> bool {
        self.info.compute_capability == device.compute_capability()
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.info.name
    }

    /// What is known of it.
    pub fn info(self) -> KernelInfo {
        *self.info
    }
}

impl KernelInfo {
    fn of(raw: &abi::nvfp4_kernel_info) -> Result<Self> {
        // SAFETY: the table of kernels holds C strings that live as long as the program.
        let name: &'static CStr = unsafe { CStr::from_ptr(raw.name) };
        let unknown = |what: &str, number: u32| Error::CudaRefused {
            reason: format!("kernel {}: {what} {number} is unknown", name.to_string_lossy()),
        };
        let capability = u32::try_from(raw.compute_capability)
            .ok()
            .filter(|&capability| capability > 0)
            .ok_or_else(|| unknown("compute capability", raw.compute_capability as u32))?;
        Ok(KernelInfo {
            name: name.to_str().map_err(|_| unknown("name of", raw.mainloop))?,
            mainloop: match raw.mainloop {
                abi::NVFP4_MAINLOOP_STACKED => Mainloop::Stacked,
                abi::NVFP4_MAINLOOP_TWO_ACCUMULATORS => Mainloop::TwoAccumulators,
                abi::NVFP4_MAINLOOP_INTERLEAVED => Mainloop::Interleaved,
                abi::NVFP4_MAINLOOP_WIDENED => Mainloop::Widened,
                number => return Err(unknown("mainloop", number)),
            },
            scheduler: match raw.scheduler {
                abi::NVFP4_SCHEDULER_STATIC => Scheduler::Static,
                abi::NVFP4_SCHEDULER_CLC => Scheduler::Clc,
                abi::NVFP4_SCHEDULER_GRID => Scheduler::Grid,
                number => return Err(unknown("scheduler", number)),
            },
            weights: WeightFormat::from_abi(raw.weights)
                .ok_or_else(|| unknown("weight format", raw.weights))?,
            compute_capability: (capability / 10, capability % 10),
            sms: raw.sms,
            tile: (raw.tile_m, raw.tile_n, raw.tile_k),
            cluster: (raw.cluster_m, raw.cluster_n),
            threads: raw.threads,
            stages: raw.stages,
            accumulator_stages: raw.accumulator_stages,
            smem_bytes: raw.smem_bytes,
            tmem_columns: raw.tmem_columns,
        })
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernel({}, {})", self.id, self.name())
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
    Ok(abi::nvfp4_problem {
        m: size(Operand::A, "M", m)?,
        n: size(Operand::B1, "N", n)?,
        k: size(Operand::A, "K", k)?,
        batch: size(Operand::A, "batch", batch)?,
    })
}

/// Those of one operand; N is 1.
pub(super) fn sizes_of(
    operand: Operand,
    batch: usize,
    rows: usize,
    k: usize,
) -> Result<abi::nvfp4_problem> {
    Ok(abi::nvfp4_problem {
        m: size(operand, "rows", rows)?,
        n: 1,
        k: size(operand, "K", k)?,
        batch: size(operand, "batch", batch)?,
    })
}

fn size(operand: Operand, dimension: &'static str, value: usize) -> Result<i32> {
    i32::try_from(value).map_err(|_| Error::CudaSize { operand, dimension, value })
}

/// [`Error::CudaArchitecture`] about devices that no kernel runs on.
pub(super) fn wrong_architecture(
    devices: Vec<UnsuitableDevice>,
    unreadable: Vec<(usize, String)>,
) -> Error {
    let mut built_for: Vec<(u32, u32)> =
        Kernel::all().map(|kernel| kernel.info.compute_capability).collect();
    built_for.sort_unstable();
    built_for.dedup();
    Error::CudaArchitecture { devices, built_for, unreadable }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of a newer table is no row of this one.
    #[test]
    fn what_is_unknown_of_a_kernel_is_an_error() {
        let row = ffi::kernels()[3];
        assert_eq!(Kernel::of_row(&row).unwrap().id(), 3);
        type Change = fn(&mut abi::nvfp4_kernel_info);
        let changes: [(&str, Change); 5] = [
            ("mainloop 99 is unknown", |row| row.mainloop = 99),
            ("scheduler 98 is unknown", |row| row.scheduler = 98),
            ("weight format 97 is unknown", |row| row.weights = 97),
            ("compute capability 0 is unknown", |row| row.compute_capability = 0),
            ("is none of this build's", |row| row.tile_m += 1),
        ];
        for (words, change) in changes {
            let mut row = row;
            change(&mut row);
            let error = Kernel::of_row(&row).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("sm100_"), "{error}");
        }
    }
}
