//! What a device is, in a report.

#[cfg(feature = "cuda")]
use nvfp4_dual_gemm::cuda::{self, Device};
use nvfp4_harness::units;
use serde::Serialize;

use crate::clocks::State;

/// The device, and what its kernels were built with.
#[derive(Serialize)]
pub struct Hardware {
    /// As the driver gives it.
    pub name: String,
    /// Such as 9.0.
    pub compute_capability: String,
    /// Streaming multiprocessors.
    pub sms: usize,
    /// All of its memory.
    pub memory_bytes: usize,
    /// Its L2 cache.
    pub l2_bytes: usize,
    /// The newest CUDA that the driver knows.
    pub driver: Option<String>,
    /// CUDA that the kernels were built with.
    pub toolkit: Option<&'static str>,
    /// CUTLASS that the kernels were built with.
    pub cutlass: Option<&'static str>,
}

impl Hardware {
    /// What the driver and this build tell.
    #[cfg(feature = "cuda")]
    pub fn of(device: &Device, l2: usize) -> Self {
        Hardware {
            name: device.name().to_owned(),
            compute_capability: units::dotted(device.compute_capability()),
            sms: device.sm_count(),
            memory_bytes: device.memory(),
            l2_bytes: l2,
            driver: cuda::driver_version().map(|version| version.to_string()),
            toolkit: cuda::TOOLKIT,
            cutlass: cuda::CUTLASS,
        }
    }

    /// In sentences for a page, with the state just after the last measurement.
    pub fn facts(&self, state: Option<&State>) -> Vec<String> {
        let state = state.map(|state| format!("{state}, just after"));
        vec![
            format!(
                "{}, compute capability {}, {}, L2 {}, {}",
                self.name,
                self.compute_capability,
                units::count(self.sms, "SM"),
                units::binary_bytes(self.l2_bytes),
                state.unwrap_or_else(|| "no nvidia-smi".to_owned()),
            ),
            format!(
                "built with CUDA {}, CUTLASS {}; the driver is for CUDA {}",
                self.toolkit.unwrap_or("unknown"),
                self.cutlass.unwrap_or("unknown"),
                self.driver.as_deref().unwrap_or("unknown"),
            ),
        ]
    }
}
