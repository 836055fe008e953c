//! Devices, and which of them is current on a thread.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

use super::call::{check, forget_last_error};
use super::capture::lock;
use super::sys::cudart;
use super::{bridge, kernel};
use crate::error::{Error, Result, UnsuitableDevice};

/// A CUDA device, by its ordinal. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Device {
    ordinal: i32,
    properties: Arc<Properties>,
}

#[derive(Debug)]
struct Properties {
    name: String,
    memory: usize,
    compute_capability: (u32, u32),
    sm_count: usize,
}

/// Devices that were opened already: CUDA takes long to tell their properties, which do not change.
static OPENED: Mutex<BTreeMap<usize, Device>> = Mutex::new(BTreeMap::new());

impl PartialEq for Device {
    fn eq(&self, other: &Self) -> bool {
        self.ordinal == other.ordinal
    }
}

impl Eq for Device {}

impl Device {
    /// Number of devices, at least one.
    ///
    /// # Errors
    /// [`Error::CudaNoDriver`], [`Error::CudaDriverTooOld`], [`Error::CudaNoDevice`], [`Error::CudaCall`].
    pub fn count() -> Result<usize> {
        let mut count = 0;
        // SAFETY: writes one int.
        check("cudaGetDeviceCount", unsafe { cudart::cudaGetDeviceCount(&mut count) })?;
        match usize::try_from(count) {
            Ok(0) | Err(_) => Err(Error::CudaNoDevice),
            Ok(count) => Ok(count),
        }
    }

    /// Opens device `ordinal`, whatever its architecture; see [`Device::supports_kernels`].
    ///
    /// # Errors
    /// Those of [`Device::count`], and [`Error::CudaNoSuchDevice`].
    pub fn open(ordinal: usize) -> Result<Self> {
        let count = Self::count()?;
        let missing = Error::CudaNoSuchDevice { ordinal, count };
        let Some(number) = i32::try_from(ordinal).ok().filter(|_| ordinal < count) else {
            return Err(missing);
        };
        let mut opened = lock(&OPENED);
        if let Some(device) = opened.get(&ordinal) {
            return Ok(device.clone());
        }
        let properties = bridge::check(bridge::ffi::device_properties(number))?;
        let device = Device {
            ordinal: number,
            properties: Arc::new(Properties {
                name: properties.name,
                memory: properties.memory,
                compute_capability: (properties.major, properties.minor),
                sm_count: properties.sm_count as usize,
            }),
        };
        opened.insert(ordinal, device.clone());
        Ok(device)
    }

    /// All devices.
    ///
    /// # Errors
    /// Those of [`Device::count`], and that of the first device that does not tell what it is.
    pub fn all() -> Result<Vec<Self>> {
        (0..Self::count()?).map(Self::open).collect()
    }

    /// All devices that a kernel of this build runs on; there may be none. Devices that do not tell what they are are
    /// none of them.
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
    /// Those of [`Device::count`]; where there is none, [`Error::CudaArchitecture`] with all devices, or the error of
    /// the first one when none tells what it is.
    pub fn first_supported() -> Result<Self> {
        first_supported((0..Self::count()?).map(|ordinal| (ordinal, Self::open(ordinal))))
    }

    /// Number of the device, as CUDA counts.
    pub fn ordinal(&self) -> usize {
        self.ordinal as usize
    }

    /// Name, such as `NVIDIA H100 80GB HBM3`.
    pub fn name(&self) -> &str {
        &self.properties.name
    }

    /// Whether it is no device, but a model of one that runs on the CPU, as the crate `emulator` of this repository
    /// does: its name says so. Results are those of the kernels, times mean nothing.
    pub fn is_emulated(&self) -> bool {
        self.name().contains("(emulated")
    }

    /// Major and minor: (9, 0) for an H100 or H200, (10, 0) for a B200.
    pub fn compute_capability(&self) -> (u32, u32) {
        self.properties.compute_capability
    }

    /// Streaming multiprocessors.
    pub fn sm_count(&self) -> usize {
        self.properties.sm_count
    }

    /// Memory in bytes.
    pub fn memory(&self) -> usize {
        self.properties.memory
    }

    /// Free and total memory in bytes, now.
    ///
    /// # Errors
    /// [`Error::CudaCall`].
    pub fn memory_now(&self) -> Result<(usize, usize)> {
        let _current = Current::enter(self)?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: writes two size_t.
        check("cudaMemGetInfo", unsafe { cudart::cudaMemGetInfo(&mut free, &mut total) })?;
        Ok((free, total))
    }

    /// Bytes of the L2 cache.
    ///
    /// # Errors
    /// [`Error::CudaCall`].
    pub fn l2_cache(&self) -> Result<usize> {
        let mut bytes = 0;
        // SAFETY: writes one int; a wrong number of a device is an error.
        check("cudaDeviceGetAttribute", unsafe {
            cudart::cudaDeviceGetAttribute(&mut bytes, cudart::cudaDevAttrL2CacheSize, self.ordinal)
        })?;
        Ok(usize::try_from(bytes).unwrap_or(0))
    }

    /// Whether a kernel of this build runs on the device: SASS for one architecture runs on no other.
    pub fn supports_kernels(&self) -> bool {
        kernel::Kernel::all().any(|kernel| kernel.runs_on(self))
    }

    /// Waits for all work on the device.
    ///
    /// # Errors
    /// [`Error::CudaCall`], also for earlier work that failed.
    pub fn synchronize(&self) -> Result<()> {
        let _current = Current::enter(self)?;
        // SAFETY: takes no argument.
        check("cudaDeviceSynchronize", unsafe { cudart::cudaDeviceSynchronize() })
    }

    pub(super) fn unsuitable(&self) -> UnsuitableDevice {
        UnsuitableDevice {
            device: self.ordinal(),
            name: self.name().to_owned(),
            compute_capability: self.compute_capability(),
        }
    }

    /// [`Error::CudaWrongDevice`] unless `self` is `expected`.
    pub(super) fn require(&self, what: &'static str, expected: &Device) -> Result<()> {
        if self == expected {
            return Ok(());
        }
        Err(Error::CudaWrongDevice { what, expected: expected.ordinal(), actual: self.ordinal() })
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
        return Err(failed.into_iter().next().map_or(Error::CudaNoDevice, |(_, error)| error));
    }
    let unreadable =
        failed.into_iter().map(|(ordinal, error)| (ordinal, error.to_string())).collect();
    Err(kernel::wrong_architecture(devices, unreadable))
}

/// Makes a device current on this thread until it is dropped.
pub(super) struct Current {
    previous: Option<i32>,
    /// What is current belongs to the thread: the guard must not leave it.
    _of_this_thread: PhantomData<*const ()>,
}

impl Current {
    pub fn enter(device: &Device) -> Result<Self> {
        let mut previous = 0;
        // SAFETY: writes one int.
        check("cudaGetDevice", unsafe { cudart::cudaGetDevice(&mut previous) })?;
        let changed = previous != device.ordinal;
        if changed {
            // SAFETY: any number is allowed; a wrong one is an error.
            check("cudaSetDevice", unsafe { cudart::cudaSetDevice(device.ordinal) })?;
        }
        Ok(Current { previous: changed.then_some(previous), _of_this_thread: PhantomData })
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        if let Some(previous) = self.previous {
            // SAFETY: as in `enter`.
            if unsafe { cudart::cudaSetDevice(previous) } != cudart::cudaSuccess {
                forget_last_error();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(ordinal: i32, compute_capability: (u32, u32)) -> (usize, Result<Device>) {
        let name = format!("GPU {ordinal}");
        let properties =
            Arc::new(Properties { name, memory: 1 << 30, compute_capability, sm_count: 8 });
        (ordinal as usize, Ok(Device { ordinal, properties }))
    }

    fn broken(ordinal: usize) -> (usize, Result<Device>) {
        (ordinal, Err(Error::CudaRefused { reason: format!("device {ordinal} fell off the bus") }))
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
        assert!(matches!(none, Error::CudaNoDevice), "{none}");
    }
}
