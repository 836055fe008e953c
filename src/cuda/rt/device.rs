//! Devices, and which of them is current on a thread.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

use crate::cuda::ffi::bridge;
use crate::cuda::ffi::call::{check, forget_last_error};
use crate::cuda::ffi::sys::cudart;
use crate::cuda::rt::capture::lock;
use crate::error::{CudaError, Error, Result, UnsuitableDevice};

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
    /// [`CudaError::NoDriver`], [`CudaError::DriverTooOld`], [`CudaError::NoDevice`], [`CudaError::Call`].
    pub fn count() -> Result<usize> {
        let mut count = 0;
        // SAFETY: writes one int.
        check("cudaGetDeviceCount", unsafe { cudart::cudaGetDeviceCount(&mut count) })?;
        match usize::try_from(count) {
            Ok(0) | Err(_) => Err(Error::Cuda(CudaError::NoDevice)),
            Ok(count) => Ok(count),
        }
    }

    /// Opens device `ordinal`, whatever its architecture; see [`Device::supports_kernels`].
    ///
    /// # Errors
    /// Those of [`Device::count`], and [`CudaError::NoSuchDevice`].
    pub fn open(ordinal: usize) -> Result<Self> {
        let count = Self::count()?;
        let missing = Error::Cuda(CudaError::NoSuchDevice { ordinal, count });
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

    /// Number of the device, as CUDA counts.
    pub fn ordinal(&self) -> usize {
        self.ordinal as usize
    }

    /// Name, such as `NVIDIA H100 80GB HBM3`.
    pub fn name(&self) -> &str {
        &self.properties.name
    }

    /// Whether it is not a device but a model of one that runs on the CPU, such as the crate `emulator` of this
    /// repository; its name says so. Results are those of the kernels, but times mean nothing.
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
    /// [`CudaError::Call`].
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
    /// [`CudaError::Call`].
    pub fn l2_cache(&self) -> Result<usize> {
        let mut bytes = 0;
        // SAFETY: writes one int; a wrong number of a device is an error.
        check("cudaDeviceGetAttribute", unsafe {
            cudart::cudaDeviceGetAttribute(&mut bytes, cudart::cudaDevAttrL2CacheSize, self.ordinal)
        })?;
        Ok(usize::try_from(bytes).unwrap_or(0))
    }

    /// Waits for all work on the device.
    ///
    /// # Errors
    /// [`CudaError::Call`], also for earlier work that failed.
    pub fn synchronize(&self) -> Result<()> {
        let _current = Current::enter(self)?;
        // SAFETY: takes no argument.
        check("cudaDeviceSynchronize", unsafe { cudart::cudaDeviceSynchronize() })
    }

    /// One that is not there.
    #[cfg(test)]
    pub(in crate::cuda) fn fake(ordinal: i32, compute_capability: (u32, u32)) -> Self {
        let name = format!("GPU {ordinal}");
        let properties =
            Arc::new(Properties { name, memory: 1 << 30, compute_capability, sm_count: 8 });
        Device { ordinal, properties }
    }

    pub(in crate::cuda) fn unsuitable(&self) -> UnsuitableDevice {
        UnsuitableDevice {
            device: self.ordinal(),
            name: self.name().to_owned(),
            compute_capability: self.compute_capability(),
        }
    }

    /// [`CudaError::WrongDevice`] unless `self` is `expected`.
    pub(in crate::cuda) fn require(&self, what: &'static str, expected: &Device) -> Result<()> {
        if self == expected {
            return Ok(());
        }
        Err(Error::Cuda(CudaError::WrongDevice {
            what,
            expected: expected.ordinal(),
            actual: self.ordinal(),
        }))
    }
}

/// Makes a device current on this thread until it is dropped.
pub(in crate::cuda) struct Current {
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
