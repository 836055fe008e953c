//! The kernels that are compiled in, and which of them a shape gets.

use std::ffi::CStr;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::LazyLock;

use crate::cuda::ffi::bridge::ffi;
use crate::cuda::ffi::sys::abi;
use crate::cuda::rt::device::Device;
use crate::dtype::DType;
use crate::error::{CudaError, Error, Operand, Result, UnsuitableDevice};
use crate::shape::GemmShape;

/// One of the kernels that were compiled, known by its name.
#[derive(Clone, Copy)]
pub struct Kernel {
    info: &'static KernelInfo,
}

impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Kernel {}

impl Hash for Kernel {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

/// What the host code says of the kernels that were compiled. One that means nothing to this crate is no kernel.
static TABLE: LazyLock<Vec<Result<KernelInfo>>> =
    LazyLock::new(|| ffi::kernels().iter().map(KernelInfo::of).collect());

/// The layout of weights on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum WeightFormat {
    /// B1 and B2 apart, each K-major.
    #[default]
    Separate,
    /// 96 rows of B1, then 96 of B2, and so on, for kernels whose tile is 96 columns wide.
    Interleaved,
}

impl WeightFormat {
    pub(in crate::cuda) fn to_abi(self) -> abi::nvfp4_weight_format {
        match self {
            WeightFormat::Separate => abi::NVFP4_WEIGHTS_SEPARATE,
            WeightFormat::Interleaved => abi::NVFP4_WEIGHTS_INTERLEAVED,
        }
    }

    /// `None` for a number that is none of them.
    pub(in crate::cuda) fn from_abi(format: abi::nvfp4_weight_format) -> Option<Self> {
        match format {
            abi::NVFP4_WEIGHTS_SEPARATE => Some(WeightFormat::Separate),
            abi::NVFP4_WEIGHTS_INTERLEAVED => Some(WeightFormat::Interleaved),
            _ => None,
        }
    }
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WeightFormat::Separate => "separate",
            WeightFormat::Interleaved => "interleaved",
        })
    }
}

/// What A consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ActivationType {
    /// NVFP4 codes and scale factors (W4A4).
    #[default]
    Nvfp4,
    /// Values in f16, as they are (W4A16).
    F16,
    /// Values in bf16, as they are (W4A16).
    Bf16,
}

impl ActivationType {
    pub(in crate::cuda) fn to_abi(self) -> abi::nvfp4_data_type {
        match self {
            ActivationType::Nvfp4 => abi::NVFP4_DATA_TYPE_NVFP4,
            ActivationType::F16 => abi::NVFP4_DATA_TYPE_F16,
            ActivationType::Bf16 => abi::NVFP4_DATA_TYPE_BF16,
        }
    }

    /// `None` for a number that is none of them.
    pub(in crate::cuda) fn from_abi(data_type: abi::nvfp4_data_type) -> Option<Self> {
        match data_type {
            abi::NVFP4_DATA_TYPE_NVFP4 => Some(ActivationType::Nvfp4),
            abi::NVFP4_DATA_TYPE_F16 => Some(ActivationType::F16),
            abi::NVFP4_DATA_TYPE_BF16 => Some(ActivationType::Bf16),
            _ => None,
        }
    }

    /// That of values of this type; none has f32.
    pub fn of(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F16 => Some(ActivationType::F16),
            DType::Bf16 => Some(ActivationType::Bf16),
            DType::F32 => None,
        }
    }
}

impl fmt::Display for ActivationType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ActivationType::Nvfp4 => "nvfp4",
            ActivationType::F16 => "f16",
            ActivationType::Bf16 => "bf16",
        })
    }
}

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
    /// Hopper's MMA in fp16. Weights are widened in registers. A is widened into the workspace by a small kernel
    /// ahead, or by each thread block itself where tiles have 8 rows.
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
    /// The activations that it takes.
    pub activations: ActivationType,
    /// The compute capability that it is for, major and minor.
    pub compute_capability: (u32, u32),
    /// Whether it also runs on later minor versions of that.
    pub family: bool,
    /// SMs that work on one MMA.
    pub sms: i32,
    /// Rows and columns of C in one tile, and the K of a stage.
    pub tile: (i32, i32, i32),
    /// Thread blocks of a cluster along M and N; (0, 0) where the size is chosen for each launch.
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
    /// All kernels of this build: those of the architectures that `NVFP4_CUDA_ARCHS` named.
    pub fn all() -> impl Iterator<Item = Kernel> {
        TABLE.iter().filter_map(|row| row.as_ref().ok()).map(|info| Kernel { info })
    }

    /// The kernel of this name.
    pub fn by_name(name: &str) -> Option<Kernel> {
        Kernel::all().find(|kernel| kernel.name() == name)
    }

    /// That of a plan.
    pub(in crate::cuda) fn of_row(row: &abi::nvfp4_kernel_info) -> Result<Kernel> {
        let info = KernelInfo::of(row)?;
        Kernel::all().find(|kernel| *kernel.info == info).ok_or_else(|| {
            Error::Cuda(CudaError::Refused {
                reason: format!("kernel {} of the plan is none of this build's", info.name),
            })
        })
    }

    /// The kernel that is taken for `shape` where none is asked for, on a device of `compute_capability`, major and
    /// minor, with `sm_count` SMs.
    ///
    /// # Errors
    /// [`CudaError::Size`] for sizes that a kernel cannot have, [`CudaError::Refused`] where no kernel of that compute
    /// capability takes such weights.
    pub fn select(
        shape: GemmShape,
        weights: WeightFormat,
        compute_capability: (u32, u32),
        sm_count: usize,
    ) -> Result<Kernel> {
        let sm_count = i32::try_from(sm_count).unwrap_or(i32::MAX);
        let (major, minor) = compute_capability;
        let capability = capability(compute_capability);
        let name = ffi::select_kernel(
            &sizes(shape)?,
            abi::NVFP4_OPERATION_DUAL_GEMM,
            abi::NVFP4_DATA_TYPE_NVFP4,
            weights.to_abi(),
            capability,
            sm_count,
        );
        // SAFETY: null, or a name of the host code's, which live as long as the program.
        let name = (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy());
        name.and_then(|name| Kernel::by_name(&name)).ok_or_else(|| Error::Cuda(CudaError::Refused {
            reason: format!(
                "no kernel of compute capability {major}.{minor} takes {weights} weights, for {shape:?}"
            ),
        }))
    }

    /// Whether it runs on `device`.
    pub fn runs_on(self, device: &Device) -> bool {
        self.info.runs_on(device.compute_capability())
    }

    /// Refuses a device that it does not run on.
    pub(crate) fn require(self, device: &Device) -> Result<()> {
        if self.runs_on(device) {
            return Ok(());
        }
        Err(Error::Cuda(CudaError::KernelArchitecture {
            kernel: self.name().to_owned(),
            built_for: self.info.compute_capability,
            device: device.unsuitable(),
        }))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.info.name
    }

    /// Its properties.
    pub fn info(self) -> KernelInfo {
        *self.info
    }
}

/// Of two numbers, the second of one digit, as the table has them; 0 is none.
fn capability((major, minor): (u32, u32)) -> i32 {
    let number = (minor < 10).then(|| major.checked_mul(10)?.checked_add(minor)?.try_into().ok());
    number.flatten().unwrap_or(0)
}

impl Device {
    /// All devices that a kernel of this build runs on; there may be none. A device whose properties cannot be read is
    /// not among them.
    ///
    /// # Errors
    /// Those of [`Device::count`].
    pub fn all_supported() -> Result<Vec<Self>> {
        let devices = (0..Self::count()?).filter_map(|ordinal| Self::open(ordinal).ok());
        Ok(devices.filter(Self::supports_kernels).collect())
    }

    /// The first device that a kernel of this build runs on, whatever is wrong with others.
    ///
    /// # Errors
    /// Those of [`Device::count`]; where there is none, [`CudaError::Architecture`] with all devices, or the error of
    /// the first one when none tells what it is.
    pub fn first_supported() -> Result<Self> {
        first_supported((0..Self::count()?).map(|ordinal| (ordinal, Self::open(ordinal))))
    }

    /// Refuses a device that no kernel of this build runs on.
    pub(crate) fn require_kernels(&self) -> Result<()> {
        match self.supports_kernels() {
            true => Ok(()),
            false => Err(wrong_architecture(vec![self.unsuitable()], Vec::new())),
        }
    }

    /// Whether a kernel of this build runs on the device. Code for one architecture runs on no other; code for a family
    /// also runs on its later members.
    pub fn supports_kernels(&self) -> bool {
        Kernel::all().any(|kernel| kernel.runs_on(self))
    }
}

/// Of devices by ordinal, each as it opened.
fn first_supported(opened: impl Iterator<Item = (usize, Result<Device>)>) -> Result<Device> {
    let (mut devices, mut failed) = (Vec::new(), Vec::new());
    for (ordinal, device) in opened {
        match device {
            Ok(device) if device.supports_kernels() => return Ok(device),
            Ok(device) => devices.push(device.unsuitable()),
            Err(error) => failed.push((ordinal, error)),
        }
    }
    if devices.is_empty() {
        return Err(failed
            .into_iter()
            .next()
            .map_or(Error::Cuda(CudaError::NoDevice), |(_, error)| error));
    }
    let unreadable =
        failed.into_iter().map(|(ordinal, error)| (ordinal, error.to_string())).collect();
    Err(wrong_architecture(devices, unreadable))
}

impl KernelInfo {
    /// Whether it runs on devices of this compute capability, major and minor.
    pub fn runs_on(&self, compute_capability: (u32, u32)) -> bool {
        // SAFETY: as in `of`.
        let named = |row: &&abi::nvfp4_kernel_info| unsafe { CStr::from_ptr(row.name) };
        let row = ffi::kernels().iter().find(|row| named(row).to_bytes() == self.name.as_bytes());
        row.is_some_and(|row| ffi::runs_on(row, capability(compute_capability)))
    }

    fn of(raw: &abi::nvfp4_kernel_info) -> Result<Self> {
        // SAFETY: the table of kernels holds C strings that live as long as the program.
        let name: &'static CStr = unsafe { CStr::from_ptr(raw.name) };
        let unknown = |what: &str, number: u32| {
            Error::Cuda(CudaError::Refused {
                reason: format!("kernel {}: {what} {number} is unknown", name.to_string_lossy()),
            })
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
            activations: ActivationType::from_abi(raw.activations)
                .ok_or_else(|| unknown("activations", raw.activations))?,
            compute_capability: (capability / 10, capability % 10),
            family: match raw.family {
                0 => false,
                1 => true,
                number => return Err(unknown("family", number as u32)),
            },
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
        write!(f, "Kernel({})", self.name())
    }
}

/// By name.
impl FromStr for Kernel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Kernel::by_name(text).ok_or_else(|| {
            let names: Vec<_> = Kernel::all().map(Kernel::name).collect();
            format!("{text} is none of {}", names.join(", "))
        })
    }
}

/// The sizes as the kernels have them.
pub(in crate::cuda) fn sizes(shape: GemmShape) -> Result<abi::nvfp4_shape> {
    let GemmShape { m, n, k, batch } = shape;
    Ok(abi::nvfp4_shape {
        m: size(Operand::A, "M", m)?,
        n: size(Operand::B1, "N", n)?,
        k: size(Operand::A, "K", k)?,
        batch: size(Operand::A, "batch", batch)?,
    })
}

/// Those of one operand; N is 1.
pub(in crate::cuda) fn sizes_of(
    operand: Operand,
    batch: usize,
    rows: usize,
    k: usize,
) -> Result<abi::nvfp4_shape> {
    Ok(abi::nvfp4_shape {
        m: size(operand, "rows", rows)?,
        n: 1,
        k: size(operand, "K", k)?,
        batch: size(operand, "batch", batch)?,
    })
}

pub(in crate::cuda) fn size(
    operand: Operand,
    dimension: &'static str,
    value: usize,
) -> Result<i32> {
    i32::try_from(value).map_err(|_| Error::Cuda(CudaError::Size { operand, dimension, value }))
}

/// [`CudaError::Architecture`] about devices that no kernel runs on.
pub(in crate::cuda) fn wrong_architecture(
    devices: Vec<UnsuitableDevice>,
    unreadable: Vec<(usize, String)>,
) -> Error {
    let mut built_for: Vec<(u32, u32)> =
        Kernel::all().map(|kernel| kernel.info.compute_capability).collect();
    built_for.sort_unstable();
    built_for.dedup();
    Error::Cuda(CudaError::Architecture { devices, built_for, unreadable })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of a newer table is no row of this one.
    #[test]
    fn what_is_unknown_of_a_kernel_is_an_error() {
        let row = ffi::kernels()[3];
        assert_eq!(Kernel::of_row(&row).unwrap(), Kernel::all().nth(3).unwrap());
        type Change = fn(&mut abi::nvfp4_kernel_info);
        let changes: [(&str, Change); 6] = [
            ("mainloop 99 is unknown", |row| row.mainloop = 99),
            ("scheduler 98 is unknown", |row| row.scheduler = 98),
            ("weight format 97 is unknown", |row| row.weights = 97),
            ("compute capability 0 is unknown", |row| row.compute_capability = 0),
            ("family 2 is unknown", |row| row.family = 2),
            ("is none of this build's", |row| row.tile_m += 1),
        ];
        for (words, change) in changes {
            let mut row = row;
            change(&mut row);
            let error = Kernel::of_row(&row).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("sm100_"), "{error}");
        }
    }

    fn device(ordinal: i32, compute_capability: (u32, u32)) -> (usize, Result<Device>) {
        (ordinal as usize, Ok(Device::fake(ordinal, compute_capability)))
    }

    fn broken(ordinal: usize) -> (usize, Result<Device>) {
        (
            ordinal,
            Err(Error::Cuda(CudaError::Refused {
                reason: format!("device {ordinal} fell off the bus"),
            })),
        )
    }

    #[test]
    fn a_broken_device_hides_no_other() {
        let devices = [broken(0), device(1, (8, 0)), device(2, (9, 0)), device(3, (10, 0))];
        assert_eq!(first_supported(devices.into_iter()).unwrap().ordinal(), 2);
    }

    #[test]
    fn where_none_will_do_all_are_named() {
        let error = first_supported([device(0, (8, 0)), broken(1), device(2, (7, 5))].into_iter());
        assert_eq!(
            error.unwrap_err().to_string(),
            "CUDA device 0 (GPU 0) has compute capability 8.0, CUDA device 2 (GPU 2) has compute capability 7.5, \
             the kernels of this build are for 9.0, 10.0; \
             CUDA device 1: the CUDA kernels refuse this: device 1 fell off the bus"
        );
        let error = first_supported([broken(0), broken(1)].into_iter()).unwrap_err().to_string();
        assert!(error.contains("device 0 fell off the bus"), "{error}");
        let none = first_supported(std::iter::empty()).unwrap_err();
        assert!(matches!(none, Error::Cuda(CudaError::NoDevice)), "{none}");
    }
}
