//! Facts about GPUs: the part of `nvfp4 doctor` that is about CUDA, and what nvidia-smi tells.

use std::fmt;
use std::process::Command;

use serde::Serialize;

use nvfp4_dual_gemm::Result;
use nvfp4_dual_gemm::cuda::{self, Device, Kernel};

use crate::output::{self, Align, Output, Style, Table};

#[derive(Serialize)]
pub struct Report {
    /// `None`: there is no driver.
    driver: Option<String>,
    runtime: String,
    toolkit: Option<&'static str>,
    cutlass: Option<&'static str>,
    devices: Vec<Gpu>,
    kernels: Vec<Row>,
    /// The device that would be used.
    usable: Option<usize>,
    /// Why there is none.
    reason: Option<String>,
}

#[derive(Serialize)]
struct Gpu {
    ordinal: usize,
    name: String,
    compute_capability: String,
    sms: usize,
    memory_bytes: usize,
    has_kernels: bool,
    /// A model on the CPU: its name says so.
    emulated: bool,
}

#[derive(Serialize)]
struct Row {
    id: usize,
    name: &'static str,
    compute_capability: String,
    tile: [i32; 3],
    cluster: [i32; 2],
    stages: i32,
    smem_bytes: i32,
    tmem_columns: i32,
    weights: String,
}

/// What only the driver's own tool tells of a device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct State {
    pub driver: String,
    pub sm_mhz: String,
    pub sm_mhz_at_most: String,
    pub memory_mhz: String,
    pub power_limit_w: String,
}

impl State {
    /// Of the device with this number, now; `None` where there is no nvidia-smi.
    pub fn now(ordinal: usize) -> Option<Self> {
        let output = Command::new("nvidia-smi")
            .args(["--query-gpu=driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.limit"])
            .args(["--format=csv,noheader,nounits", "--id", &ordinal.to_string()])
            .output()
            .ok()?;
        Self::parse(std::str::from_utf8(&output.stdout).ok()?)
    }

    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.trim().split(", ").collect();
        let [driver, sm, at_most, memory, power] = fields[..] else { return None };
        Some(State {
            driver: driver.to_owned(),
            sm_mhz: sm.to_owned(),
            sm_mhz_at_most: at_most.to_owned(),
            memory_mhz: memory.to_owned(),
            power_limit_w: power.to_owned(),
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "driver {}, SM clock {} MHz (at most {}), memory clock {} MHz, power limit {} W",
            self.driver, self.sm_mhz, self.sm_mhz_at_most, self.memory_mhz, self.power_limit_w
        )
    }
}

pub fn dotted((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

impl Report {
    pub fn new() -> Self {
        let usable: Result<Device> = Device::first_supported();
        Report {
            driver: cuda::driver_version().map(|version| version.to_string()),
            runtime: cuda::runtime_version().to_string(),
            toolkit: cuda::TOOLKIT,
            cutlass: cuda::CUTLASS,
            devices: Device::all().unwrap_or_default().iter().map(Gpu::new).collect(),
            kernels: Kernel::all().map(Row::new).collect(),
            usable: usable.as_ref().ok().map(Device::ordinal),
            reason: usable.err().map(|error| error.to_string()),
        }
    }

    pub fn print(&self, out: &Output) -> anyhow::Result<()> {
        let none = || "none".to_owned();
        out.fields(&[
            ("cuda driver", self.driver.as_ref().map_or_else(none, |v| format!("for CUDA {v}"))),
            (
                "built with",
                format!(
                    "CUDA {}, runtime {}, CUTLASS {}",
                    self.toolkit.unwrap_or("unknown"),
                    self.runtime,
                    self.cutlass.unwrap_or("unknown")
                ),
            ),
        ])?;
        for gpu in &self.devices {
            let fit = if gpu.has_kernels { "" } else { ", no kernel for it" };
            let text = format!(
                "{}: {}, compute capability {}, {}, {}{fit}",
                gpu.ordinal,
                gpu.name,
                gpu.compute_capability,
                output::count(gpu.sms, "SM"),
                output::bytes(gpu.memory_bytes as f64)
            );
            out.fields(&[("cuda device", text)])?;
        }
        let would = match (self.usable, &self.reason) {
            (Some(ordinal), _) => format!("device {ordinal}"),
            (None, reason) => {
                let reason = reason.as_deref().unwrap_or_default();
                format!("{}: {reason}", out.paint("none", Style::Red))
            }
        };
        out.fields(&[("would use", would)])?;
        out.line("")?;
        self.print_kernels(out)
    }

    fn print_kernels(&self, out: &Output) -> anyhow::Result<()> {
        let width = self.kernels.iter().map(|kernel| kernel.name.len()).max().unwrap_or(0);
        let columns = [
            ("", 2, Align::Right),
            ("kernel", width, Align::Left),
            ("for", 4, Align::Right),
            ("tile", 11, Align::Left),
            ("cluster", 7, Align::Left),
            ("stages", 6, Align::Right),
            ("smem", 7, Align::Right),
            ("tmem", 4, Align::Right),
            ("weights", 0, Align::Left),
        ];
        let table = Table::start(out, &columns)?;
        for kernel in &self.kernels {
            let ([m, n, k], [cluster_m, cluster_n]) = (kernel.tile, kernel.cluster);
            table.row(
                out,
                &[
                    kernel.id.to_string(),
                    kernel.name.to_owned(),
                    kernel.compute_capability.clone(),
                    format!("{m}x{n}x{k}"),
                    // Where each plan has its own.
                    if cluster_m == 0 {
                        "by plan".to_owned()
                    } else {
                        format!("{cluster_m}x{cluster_n}")
                    },
                    kernel.stages.to_string(),
                    kernel.smem_bytes.to_string(),
                    kernel.tmem_columns.to_string(),
                    kernel.weights.clone(),
                ],
            )?;
        }
        Ok(())
    }
}

impl Gpu {
    fn new(device: &Device) -> Self {
        Gpu {
            ordinal: device.ordinal(),
            name: device.name().to_owned(),
            compute_capability: dotted(device.compute_capability()),
            sms: device.sm_count(),
            memory_bytes: device.memory(),
            has_kernels: device.supports_kernels(),
            emulated: device.is_emulated(),
        }
    }
}

impl Row {
    fn new(kernel: Kernel) -> Self {
        let info = kernel.info();
        Row {
            id: kernel.id(),
            name: info.name,
            compute_capability: dotted(info.compute_capability),
            tile: info.tile.into(),
            cluster: info.cluster.into(),
            stages: info.stages,
            smem_bytes: info.smem_bytes,
            tmem_columns: info.tmem_columns,
            weights: info.weights.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_nvidia_smi_is_read() {
        let state = State::parse("580.159.04, 1755, 1980, 2619, 700.00\n").unwrap();
        assert_eq!((&*state.driver, &*state.sm_mhz), ("580.159.04", "1755"));
        assert_eq!((&*state.memory_mhz, &*state.power_limit_w), ("2619", "700.00"));
        assert_eq!(State::parse("No devices were found"), None);
    }
}
