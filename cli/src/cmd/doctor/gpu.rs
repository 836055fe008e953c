//! The part of `nvfp4 doctor` that is about CUDA.

use serde::Serialize;

use nvfp4_dual_gemm::Result;
use nvfp4_dual_gemm::cuda::{self, Device, Kernel};
use nvfp4_harness::units;

use crate::ui::output::{Output, Style};
use crate::ui::table::{Align, Table, row};

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
    name: &'static str,
    compute_capability: String,
    tile: [i32; 3],
    cluster: [i32; 2],
    stages: i32,
    smem_bytes: i32,
    tmem_columns: i32,
    weights: String,
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
                units::count(gpu.sms, "SM"),
                units::bytes(gpu.memory_bytes as f64)
            );
            out.fields(&[("cuda device", text)])?;
        }
        let would = match (self.usable, &self.reason) {
            (Some(ordinal), _) => format!("device {ordinal}"),
            (None, reason) => {
                let reason = reason.as_deref().unwrap_or_default();
                format!("{}: {reason}", Style::Red.paint("none"))
            }
        };
        out.fields(&[("would use", would)])?;
        out.line("")?;
        self.print_kernels(out)
    }

    fn print_kernels(&self, out: &Output) -> anyhow::Result<()> {
        let mut table = Table::new(&[
            ("kernel", Align::Left),
            ("for", Align::Right),
            ("tile", Align::Left),
            ("cluster", Align::Left),
            ("stages", Align::Right),
            ("smem", Align::Right),
            ("tmem", Align::Right),
            ("weights", Align::Left),
        ]);
        for kernel in &self.kernels {
            let ([m, n, k], [cluster_m, cluster_n]) = (kernel.tile, kernel.cluster);
            table.row(row![
                kernel.name,
                &kernel.compute_capability,
                format!("{m}x{n}x{k}"),
                // Where each plan has its own.
                if cluster_m == 0 {
                    "by plan".to_owned()
                } else {
                    format!("{cluster_m}x{cluster_n}")
                },
                kernel.stages,
                kernel.smem_bytes,
                kernel.tmem_columns,
                &kernel.weights,
            ]);
        }
        table.print(out)
    }
}

impl Gpu {
    fn new(device: &Device) -> Self {
        Gpu {
            ordinal: device.ordinal(),
            name: device.name().to_owned(),
            compute_capability: units::dotted(device.compute_capability()),
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
            name: info.name,
            compute_capability: units::dotted(info.compute_capability),
            tile: info.tile.into(),
            cluster: info.cluster.into(),
            stages: info.stages,
            smem_bytes: info.smem_bytes,
            tmem_columns: info.tmem_columns,
            weights: info.weights.to_string(),
        }
    }
}
