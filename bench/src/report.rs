//! What reports of dual GEMMs and of whole MLPs have in common.

#[cfg(feature = "cuda")]
use nvfp4_dual_gemm::cuda::Device;
use nvfp4_harness::notation::glu_text;
use nvfp4_harness::timer::Timing;
use nvfp4_harness::units;
use serde::Serialize;

use crate::clocks::State;
use crate::hardware::Hardware;
use crate::peers::{About, Peers};

/// How something was measured, whatever it is.
#[derive(Serialize)]
pub struct Head {
    /// As it was typed; `command` is a field of every report.
    pub command_line: String,
    /// Seed of the operands.
    pub seed: u64,
    /// The GLU.
    pub glu: String,
    /// Turns of each contender.
    pub rounds: usize,
    /// What the peers say of themselves.
    pub peers: Option<About>,
}

impl Head {
    pub(crate) fn new(
        command_line: String,
        common: &crate::Settings,
        rounds: usize,
        peers: Option<&Peers>,
    ) -> Self {
        let (seed, glu) = (common.seed, glu_text(&common.glu));
        Head { command_line, seed, glu, rounds, peers: peers.map(|peers| peers.about().clone()) }
    }

    /// `3 rounds, each contender in turn`
    pub(crate) fn turns(&self) -> String {
        let turns = if self.peers.is_some() { ", each contender in turn" } else { "" };
        format!("{}{turns}", units::count(self.rounds, "round"))
    }
}

/// The device that was measured.
#[derive(Serialize)]
pub struct OnDevice {
    /// What it is.
    pub device: Hardware,
    /// Just after the last measurement.
    pub state_after: Option<State>,
    /// What a copy within its memory reads and writes.
    pub copy_gb_per_s: f64,
}

impl OnDevice {
    #[cfg(feature = "cuda")]
    pub(crate) fn new(device: &Device, l2: usize, copy_rate: f64) -> Self {
        let device = Hardware::of(device, l2);
        OnDevice { device, state_after: None, copy_gb_per_s: copy_rate / 1e9 }
    }

    /// In sentences for a page, with others between them.
    pub(crate) fn facts(&self, between: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut facts = self.device.facts(self.state_after.as_ref());
        facts.extend(between);
        facts.push(format!(
            "a copy within the device's memory reads and writes {}",
            units::byte_rate(self.copy_gb_per_s * 1e9)
        ));
        facts
    }
}

/// The variant of a peer with the least median, among rows that `of` names with their times.
pub(crate) fn fastest<'a, R>(
    rows: &'a [R],
    peer: &str,
    of: impl Fn(&R) -> (&str, Option<&Timing>),
) -> Option<&'a R> {
    let median = |row: &R| of(row).1.map_or(f64::INFINITY, |timing| timing.median);
    let variants = rows.iter().filter(|row| of(row).0 == peer && of(row).1.is_some());
    variants.min_by(|a, b| median(a).total_cmp(&median(b)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Of a run with two peers.
    pub(crate) fn head(command_line: &str, tolerance: f64) -> Head {
        let title = |name: &str, title: &str| (name.to_owned(), title.to_owned());
        Head {
            command_line: command_line.to_owned(),
            seed: 1,
            glu: "swiglu".to_owned(),
            rounds: 3,
            peers: Some(About {
                peers: vec![title("cublas", "cuBLAS"), title("humming", "Humming")],
                versions: [title("torch", "2")].into(),
                tolerance,
                rows: 8,
            }),
        }
    }

    pub(crate) fn on_device() -> OnDevice {
        OnDevice {
            device: Hardware {
                name: "A GPU".to_owned(),
                compute_capability: "9.0".to_owned(),
                sms: 132,
                memory_bytes: 80 << 30,
                l2_bytes: 50 << 20,
                driver: None,
                toolkit: None,
                cutlass: None,
            },
            state_after: None,
            copy_gb_per_s: 2500.0,
        }
    }

    #[test]
    fn rounds_are_told_with_the_turns_of_peers() {
        let mut head = head("nvfp4 bench", 1e-3);
        assert_eq!(head.turns(), "3 rounds, each contender in turn");
        (head.rounds, head.peers) = (1, None);
        assert_eq!(head.turns(), "1 round");
    }
}
