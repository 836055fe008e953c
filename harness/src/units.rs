//! Quantities with their units, as people read them.

/// Four digits and a unit, `value` in the first unit, each unit `step` times the one before.
fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut unit = 0;
    // 999.95 prints as 1000.0: go up before that.
    while value.abs() >= 0.99995 * step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = match value.abs() {
        v if v >= 99.995 => 1,
        v if v >= 9.9995 => 2,
        _ => 3,
    };
    format!("{value:.digits$} {}", units[unit])
}

/// `34.12 ms`.
pub fn time(seconds: f64) -> String {
    if seconds >= 99.5 {
        return format!("{seconds:.0} s");
    }
    scaled(seconds * 1e9, 1e3, &["ns", "µs", "ms", "s"])
}

/// `881.2 GFLOP/s`.
pub fn flop_rate(per_second: f64) -> String {
    scaled(per_second / 1e6, 1e3, &["MFLOP/s", "GFLOP/s", "TFLOP/s", "PFLOP/s"])
}

/// `12.4 GB/s`, decimal.
pub fn byte_rate(per_second: f64) -> String {
    scaled(per_second / 1e6, 1e3, &["MB/s", "GB/s", "TB/s"])
}

/// `35.1 MB`, decimal.
pub fn bytes(count: f64) -> String {
    if count < 1000.0 {
        return format!("{count:.0} bytes");
    }
    scaled(count / 1e3, 1e3, &["kB", "MB", "GB", "TB", "PB", "EB"])
}

/// `48 MiB`, for caches.
pub fn binary_bytes(count: usize) -> String {
    let mib = count as f64 / (1 << 20) as f64;
    if mib >= 1.0 { format!("{mib} MiB") } else { format!("{} KiB", count >> 10) }
}

/// A distance in units of the last place; a NaN on one side has none.
pub fn ulp(distance: Option<u64>) -> String {
    distance.map_or_else(|| "NaN".to_owned(), |distance| distance.to_string())
}

/// `0.013 %`.
pub fn percent(share: f64) -> String {
    format!("{:.3} %", 100.0 * share)
}

/// `9.0`, of a version or a compute capability.
pub fn dotted((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

/// `1 run`, `5 runs`.
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_change_before_five_digits_show() {
        assert_eq!(time(0.034_123), "34.12 ms");
        assert_eq!(time(999.96e-6), "1.000 ms");
        assert_eq!(time(812e-6), "812.0 µs");
        assert_eq!(time(250.0), "250 s");
        assert_eq!(flop_rate(2.5e12), "2.500 TFLOP/s");
        assert_eq!(byte_rate(12.4e9), "12.40 GB/s");
        assert_eq!(bytes(640.0), "640 bytes");
        assert_eq!(bytes(35.1e6), "35.10 MB");
        assert_eq!(binary_bytes(48 << 20), "48 MiB");
        assert_eq!(binary_bytes(1280 << 10), "1.25 MiB");
    }
}
