//! `nvfp4 doctor`: what this machine has, what is built in, and what would run.

#[cfg(feature = "cuda")]
mod gpu;

use serde::Serialize;

use nvfp4_dual_gemm::{AMX_VARIABLE, Backend, Engine, ISA_VARIABLE, Isa};
use nvfp4_harness::{system, units};

use crate::ui::output::{Output, Style};
use crate::ui::table::{Align, Cell, Table, row};
use crate::{args, select};

/// Show the CPU, the GPUs, the backends that are built in and usable, and what would run
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nvfp4 doctor
  nvfp4 doctor --json > machine.json")]
pub struct Args {}

#[derive(Serialize)]
struct Report {
    os: &'static str,
    arch: &'static str,
    cpu: Cpu,
    memory: Memory,
    backends: Vec<Candidate>,
    cpu_paths: Vec<Candidate>,
    #[cfg(feature = "cuda")]
    cuda: gpu::Report,
    auto: Option<Auto>,
    environment: Vec<Variable>,
}

#[derive(Serialize)]
struct Cpu {
    model: String,
    logical: usize,
    physical: Option<usize>,
    threads: usize,
    l2_bytes: Option<usize>,
    l3_bytes: Option<usize>,
    features: Vec<Feature>,
}

#[derive(Serialize)]
struct Feature {
    name: &'static str,
    present: bool,
}

#[derive(Serialize)]
struct Memory {
    total_bytes: Option<usize>,
    available_bytes: Option<usize>,
    transparent_huge_pages: Option<String>,
}

/// A backend or a path of the CPU backend.
#[derive(Serialize)]
struct Candidate {
    name: String,
    usable: bool,
    /// Why not, or what would run.
    note: String,
}

#[derive(Serialize)]
struct Auto {
    backend: String,
    reason: String,
}

#[derive(Serialize)]
struct Variable {
    name: &'static str,
    value: Option<String>,
    meaning: &'static str,
}

pub fn run(_args: &Args, out: &Output) -> anyhow::Result<()> {
    args::use_threads(None)?;
    let auto = Engine::auto();
    let memory = system::memory();
    let report = Report {
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
        cpu: Cpu {
            model: system::cpu_model(),
            logical: system::logical_cpus(),
            physical: system::physical_cores(),
            threads: rayon::current_num_threads(),
            l2_bytes: system::cache_size(2),
            l3_bytes: system::cache_size(3),
            features: features(),
        },
        memory: Memory {
            total_bytes: memory.map(|(total, _)| total),
            available_bytes: memory.map(|(_, available)| available),
            transparent_huge_pages: system::huge_pages(),
        },
        backends: [Backend::Cpu, Backend::Oracle, Backend::Cuda].map(backend).into(),
        cpu_paths: Isa::ALL.map(cpu_path).into(),
        #[cfg(feature = "cuda")]
        cuda: gpu::Report::new(),
        auto: auto
            .as_ref()
            .ok()
            .map(|engine| Auto { backend: engine.to_string(), reason: engine.reason().to_owned() }),
        environment: environment(),
    };
    print(out, &report)?;
    out.json(auto.is_ok(), &report)?;
    auto?;
    Ok(())
}

fn backend(backend: Backend) -> Candidate {
    let (usable, note) = match (backend, Engine::of(backend)) {
        (Backend::Oracle, Ok(_)) => (true, "the oracle: integers, one rounding, slow".to_owned()),
        (_, Ok(engine)) => (true, engine.reason().to_owned()),
        (_, Err(error)) => (false, select::unavailable(&error)),
    };
    Candidate { name: backend.to_string(), usable, note }
}

fn cpu_path(isa: Isa) -> Candidate {
    let (usable, note) = match isa.check() {
        Ok(()) => (true, String::new()),
        Err(error) => (false, select::unavailable(&error)),
    };
    Candidate { name: isa.to_string(), usable, note }
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<Feature> {
    macro_rules! detected {
        ($($name:tt)*) => {
            vec![$(Feature { name: $name, present: is_x86_feature_detected!($name) }),*]
        };
    }
    let mut features = detected!("avx2" "fma" "f16c" "avx512f" "avx512bw" "avx512vl" "avx512vbmi" "avx512vnni" "avx512bf16");
    // Not detectable in stable Rust.
    let amx = system::amx_features();
    features.extend(amx.into_iter().map(|(name, present)| Feature { name, present }));
    features
}

#[cfg(target_arch = "aarch64")]
fn features() -> Vec<Feature> {
    macro_rules! detected {
        ($($name:tt)*) => {
            vec![$(Feature {
                name: $name,
                present: std::arch::is_aarch64_feature_detected!($name),
            }),*]
        };
    }
    detected!("neon" "fp16" "dotprod" "i8mm" "bf16" "sve")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<Feature> {
    Vec::new()
}

fn environment() -> Vec<Variable> {
    [
        (ISA_VARIABLE, "forces the instruction set of the cpu backend, the quantizer and packing"),
        (AMX_VARIABLE, "off: no AMX"),
        ("RAYON_NUM_THREADS", "number of threads"),
        ("NO_COLOR", "no colors"),
    ]
    .map(|(name, meaning)| {
        let value = std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Variable { name, value, meaning }
    })
    .into()
}

fn print(out: &Output, report: &Report) -> anyhow::Result<()> {
    let Cpu { model, logical, physical, threads, l2_bytes, l3_bytes, features } = &report.cpu;
    let list = |present: bool| -> String {
        let of = features.iter().filter(|feature| feature.present == present);
        let names: Vec<&str> = of.map(|feature| feature.name).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(" ") }
    };
    let cores = physical.map_or(String::new(), |n| format!(" on {}", units::count(n, "core")));
    let cache = |name, size: &Option<usize>| {
        size.map_or(String::new(), |size| format!(", {name} {}", units::binary_bytes(size)))
    };
    let mut fields = vec![
        ("nvfp4", format!("{} for {} {}", env!("CARGO_PKG_VERSION"), report.os, report.arch)),
        ("cpu", model.clone()),
        (
            "",
            format!(
                "{}{cores}, {} used{}{}",
                units::count(*logical, "CPU"),
                units::count(*threads, "thread"),
                cache("L2", l2_bytes),
                cache("L3", l3_bytes)
            ),
        ),
    ];
    if !features.is_empty() {
        fields.push(("has", list(true)));
        fields.push(("lacks", list(false)));
    }
    if let (Some(total), Some(available)) =
        (report.memory.total_bytes, report.memory.available_bytes)
    {
        fields.push((
            "memory",
            format!("{}, {} available", units::bytes(total as f64), units::bytes(available as f64)),
        ));
    }
    if let Some(setting) = &report.memory.transparent_huge_pages {
        fields.push(("huge pages", format!("transparent huge pages: {setting}")));
    }
    out.fields(&fields)?;
    out.line("")?;
    print_candidates(out, "backend", &report.backends)?;
    out.line("")?;
    print_candidates(out, "cpu path", &report.cpu_paths)?;
    out.line("")?;
    #[cfg(feature = "cuda")]
    {
        report.cuda.print(out)?;
        out.line("")?;
    }
    let mut table =
        Table::new(&[("variable", Align::Left), ("value", Align::Left), ("", Align::Left)]);
    for Variable { name, value, meaning } in &report.environment {
        let value = value.as_ref().map_or_else(|| Cell::styled("unset", Style::Dim), Cell::from);
        table.row(row![name, value, meaning]);
    }
    table.print(out)?;
    if let Some(Auto { backend, reason }) = &report.auto {
        out.line("")?;
        out.line(format!("auto would run {}: {reason}", Style::Bold.paint(backend)))?;
    }
    Ok(())
}

fn print_candidates(out: &Output, title: &str, candidates: &[Candidate]) -> anyhow::Result<()> {
    let mut table = Table::new(&[(title, Align::Left), ("usable", Align::Left), ("", Align::Left)]);
    for Candidate { name, usable, note } in candidates {
        let (word, style) = if *usable { ("yes", Style::Green) } else { ("no", Style::Red) };
        table.row(row![name, Cell::styled(word, style), note]);
    }
    table.print(out)
}
