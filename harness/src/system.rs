//! Facts about the machine, as far as the system tells them.

use std::fs;

use anyhow::bail;

use nvfp4_dual_gemm::Problem;

use crate::notation::shape_text;
use crate::units;

/// Model name of the CPU.
pub fn cpu_model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpuinfo(&info, "model name").or_else(|| cpuinfo(&info, "Model"));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), str::to_owned)
}

/// Physical cores, where /proc/cpuinfo names them.
pub fn physical_cores() -> Option<usize> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let cores: std::collections::BTreeSet<_> = info
        .split("\n\n")
        .filter_map(|cpu| Some((cpuinfo(cpu, "physical id")?, cpuinfo(cpu, "core id")?)))
        .collect();
    (!cores.is_empty()).then_some(cores.len())
}

/// CPUs that this process may use.
pub fn logical_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Whether the kernel lists a CPU flag; None where there is no such list.
pub fn cpu_flag(flag: &str) -> Option<bool> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    Some(cpuinfo(&info, "flags")?.split_whitespace().any(|f| f == flag))
}

fn cpuinfo<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then_some(value.trim())
    })
}

/// Size in bytes of the unified cache of a level.
pub fn cache_size(level: u32) -> Option<usize> {
    (0..8).find_map(|index| {
        let read = |name: &str| {
            let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{name}");
            fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
        };
        if read("level")?.parse() != Ok(level) || read("type")? != "Unified" {
            return None;
        }
        let size = read("size")?;
        match size.strip_suffix('K') {
            Some(kib) => kib.parse::<usize>().ok()?.checked_mul(1 << 10),
            None => size.strip_suffix('M')?.parse::<usize>().ok()?.checked_mul(1 << 20),
        }
    })
}

/// Memory: all of it, and what is available now, in bytes.
pub fn memory() -> Option<(usize, usize)> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let read = |key| {
        let kib: usize = cpuinfo(&info, key)?.strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1 << 10)
    };
    let (mut total, mut available) = (read("MemTotal")?, read("MemAvailable")?);
    // A container's own limit, if it has one (cgroup v2).
    let cgroup = |name: &str| -> Option<usize> {
        fs::read_to_string(format!("/sys/fs/cgroup/memory.{name}")).ok()?.trim().parse().ok()
    };
    if let (Some(limit), Some(used)) = (cgroup("max"), cgroup("current")) {
        total = total.min(limit);
        available = available.min(limit.saturating_sub(used));
    }
    Some((total, available))
}

/// The choice in brackets of the transparent-hugepage switch.
pub fn huge_pages() -> Option<String> {
    let text = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").ok()?;
    let start = text.find('[')? + 1;
    let end = start + text[start..].find(']')?;
    Some(text[start..end].to_owned())
}

/// Refuses a problem whose operands and C (`c_size` bytes an element) do not fit into memory: the
/// system would kill the process rather than fail an allocation.
pub fn ensure_fits(problem: &Problem, c_size: usize) -> anyhow::Result<()> {
    let needed = problem.bytes(c_size);
    // Without figures from the system, only what no machine has is refused.
    let available = memory().map_or((1u64 << 44) as f64, |(_, available)| available as f64);
    if needed > available {
        bail!(
            "{} needs {} for operands and C, but only {} of memory are available",
            shape_text(problem),
            units::bytes(needed),
            units::bytes(available)
        );
    }
    Ok(())
}
