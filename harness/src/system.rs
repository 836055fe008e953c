//! Facts about the machine, as far as the system tells them.

use std::fs;

use anyhow::bail;
use sysinfo::{CpuRefreshKind, RefreshKind, System};

use nvfp4_dual_gemm::GemmShape;

use crate::notation::shape_text;
use crate::units;

/// Model name of the CPU.
pub fn cpu_model() -> String {
    let refresh = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing());
    let system = System::new_with_specifics(refresh).ok();
    let brand = system.and_then(|system| Some(system.cpus().first()?.brand().trim().to_owned()));
    brand.filter(|brand| !brand.is_empty()).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// Physical cores, where the system names them.
pub fn physical_cores() -> Option<usize> {
    System::physical_core_count().ok().filter(|&cores| cores > 0)
}

/// CPUs that this process may use.
pub fn logical_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Whether the CPU has AMX, by the names of Linux. Whether a process may use it is another question.
#[cfg(target_arch = "x86_64")]
pub fn amx_features() -> Vec<(&'static str, bool)> {
    let features = raw_cpuid::CpuId::new().get_extended_feature_info();
    let has = |of: fn(&raw_cpuid::ExtendedFeatures) -> bool| features.as_ref().is_some_and(of);
    vec![
        ("amx_tile", has(|features| features.has_amx_tile())),
        ("amx_bf16", has(|features| features.has_amx_bf16())),
        ("amx_int8", has(|features| features.has_amx_int8())),
    ]
}

/// Size in bytes of the unified cache of a level.
pub fn cache_size(level: u32) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    if let Some(bytes) = cache_of_cpuid(level) {
        return Some(bytes);
    }
    cache_of_sysfs(level)
}

#[cfg(target_arch = "x86_64")]
fn cache_of_cpuid(level: u32) -> Option<usize> {
    let caches = raw_cpuid::CpuId::new().get_cache_parameters()?;
    let mut unified = caches.filter(|cache| cache.cache_type() == raw_cpuid::CacheType::Unified);
    let cache = unified.find(|cache| u32::from(cache.level()) == level)?;
    let line = cache.physical_line_partitions().checked_mul(cache.coherency_line_size())?;
    line.checked_mul(cache.associativity())?.checked_mul(cache.sets())
}

/// Where there is no CPUID, Linux alone tells.
fn cache_of_sysfs(level: u32) -> Option<usize> {
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

/// Memory: all of it, and what is available now, in bytes; within the limits of a container, if it has some.
pub fn memory() -> Option<(usize, usize)> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    let (mut total, mut available) = (system.total_memory(), system.available_memory());
    if let Some(limits) = system.cgroup_limits() {
        total = total.min(limits.total_memory);
        available = available.min(limits.free_memory);
    }
    let bytes = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    (total > 0).then(|| (bytes(total), bytes(available)))
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
pub fn ensure_fits(problem: &GemmShape, c_size: usize) -> anyhow::Result<()> {
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
