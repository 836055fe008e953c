//! Clocks and power limit of a GPU.

use std::fmt;
use std::process::Command;

use serde::Serialize;

/// What only the driver's own tool tells of a device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct State {
    /// Version of the driver.
    pub driver: String,
    /// Clock of the SMs.
    pub sm_mhz: String,
    /// The highest that they have.
    pub sm_mhz_at_most: String,
    /// Clock of the memory.
    pub memory_mhz: String,
    /// In watts.
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
