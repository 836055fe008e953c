//! What was measured of whole MLPs.

use std::collections::BTreeMap;

use serde::Serialize;

use nvfp4_harness::timer::Timing;
use nvfp4_harness::units;

use super::Shape;
use crate::clocks::State;
use crate::peers::{About, Contender};
use crate::report::{self, Head, OnDevice};

/// What was measured, on what, and how.
#[derive(Serialize)]
pub struct Report {
    /// Of any report.
    #[serde(flatten)]
    pub head: Head,
    /// A device or a CPU.
    #[serde(flatten)]
    pub machine: Machine,
    /// Whether weights come from memory in each run, where there is room for their copies.
    pub cold: bool,
    /// A row for each layer and number of tokens.
    pub results: Vec<Row>,
}

/// What the layers ran on.
#[derive(Serialize)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant)] // there is one of it
pub enum Machine {
    /// A GPU.
    Device(OnDevice),
    /// A CPU.
    Cpu {
        /// Its model.
        cpu: String,
        /// Threads of ours and of the peers.
        threads: usize,
        /// What DRAM gives to all threads.
        dram_read_gb_per_s: f64,
    },
}

/// One layer with one number of tokens.
#[derive(Serialize)]
pub struct Row {
    /// K, N, H.
    pub layer: [usize; 3],
    /// Tokens, M.
    pub rows: usize,
    /// Each way of ours.
    pub ours: Vec<Ours>,
    /// Each variant of each peer.
    pub peers: Vec<PeerRow>,
}

/// A way of ours.
#[derive(Serialize)]
pub struct Ours {
    /// As it stands in a table.
    pub name: String,
    /// What was found.
    #[serde(flatten)]
    pub measured: Option<Measured>,
    /// Why there is nothing.
    pub failed: Option<String>,
}

/// Times of ours, and what they came with.
#[derive(Serialize)]
pub struct Measured {
    /// Of a launch of the whole layer, or of a run on the CPU.
    #[serde(flatten)]
    pub timing: Timing,
    /// Operations of the three GEMMs over the median.
    pub tflop_per_s: f64,
    /// Packed weights, x and y over the median.
    pub gb_per_s: f64,
    /// Copies of the weights.
    pub copies: usize,
    /// Launches of the graph; 1 on the CPU.
    pub nodes: usize,
    /// Kernels of the dual GEMM and of the down projection, on a device.
    pub kernels: Vec<&'static str>,
    /// The largest ‖error‖ over ‖row‖ of the rows that were compared with the exact oracle.
    pub relative_error: f64,
    /// What one layer needs.
    pub memory: Memory,
    /// Each stage alone, in their order, on a device.
    pub stages: Vec<Stage>,
}

/// Bytes of memory of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Memory {
    /// Packed weights.
    pub weight_bytes: usize,
    /// x and y.
    pub value_bytes: usize,
    /// Quantized activations, h and the workspace of the kernels; of the CPU it is not known.
    pub scratch_bytes: Option<usize>,
}

impl Memory {
    /// All of it that is known.
    pub fn peak(&self) -> usize {
        self.weight_bytes + self.value_bytes + self.scratch_bytes.unwrap_or(0)
    }
}

/// A part of a layer, from a graph of that part alone.
#[derive(Serialize)]
pub struct Stage {
    /// As [`nvfp4_dual_gemm::Stage`] has it.
    pub stage: String,
    /// Of a launch.
    #[serde(flatten)]
    pub timing: Timing,
}

/// A variant of a peer.
#[derive(Serialize)]
pub struct PeerRow {
    /// Name of the peer.
    pub peer: String,
    /// One way of it to compute y.
    pub variant: String,
    /// Of a call.
    #[serde(flatten)]
    pub timing: Option<Timing>,
    /// Its median over that of each way of ours.
    pub ratios: BTreeMap<String, f64>,
    /// Copies of its weights.
    pub copies: usize,
    /// Bytes of one copy of its weights.
    pub weight_bytes: Option<usize>,
    /// ‖error‖ over ‖y‖ beside y in f64 of activations that are not quantized.
    pub relative_error: Option<f64>,
    /// Why it has no times.
    pub failed: Option<String>,
}

impl Row {
    /// A row; ratios are of the medians of `peers` over those of `ours`.
    pub fn new(shape: Shape, rows: usize, ours: Vec<Ours>, peers: Vec<Contender>) -> Self {
        let Shape { k, n, h } = shape;
        let peers = peers.into_iter().flat_map(|peer| peer_rows(peer, &ours)).collect();
        Row { layer: [k, n, h], rows, ours, peers }
    }

    /// The variant of a peer with the least median.
    pub fn fastest(&self, peer: &str) -> Option<&PeerRow> {
        report::fastest(&self.peers, peer, |row| (&row.peer, row.timing.as_ref()))
    }

    /// `4096→14336→4096, M = 16`
    pub fn title(&self) -> String {
        let [k, n, h] = self.layer;
        format!("{k}→{n}→{h}, M = {}", self.rows)
    }
}

fn peer_rows(contender: Contender, ours: &[Ours]) -> Vec<PeerRow> {
    let row = |variant: String, failed: Option<String>| PeerRow {
        peer: contender.peer.clone(),
        variant,
        timing: None,
        ratios: BTreeMap::new(),
        copies: 0,
        weight_bytes: None,
        relative_error: None,
        failed,
    };
    let variants = match contender.variants {
        Err(reason) => return vec![row(String::new(), Some(reason))],
        Ok(variants) => variants,
    };
    let with_times = |(variant, found): (String, crate::peers::Variant)| {
        let timing = Timing::of(found.times);
        let ratio = |own: &Ours| {
            let (timing, own_timing) = (timing.as_ref()?, &own.measured.as_ref()?.timing);
            Some((own.name.clone(), timing.median / own_timing.median))
        };
        PeerRow {
            ratios: ours.iter().filter_map(ratio).collect(),
            timing,
            copies: found.copies,
            weight_bytes: found.weight_bytes,
            relative_error: Some(found.relative_error),
            ..row(variant, None)
        }
    };
    variants.into_iter().map(with_times).collect()
}

impl Report {
    /// How it was measured, in a sentence.
    pub fn method(&self) -> String {
        let of_machine = match (&self.machine, self.cold) {
            (Machine::Device(_), true) => {
                "replays of CUDA graphs of many launches, timed by events, weights rotated over copies of more than 4 \
                 times the L2"
            }
            (Machine::Device(_), false) => {
                "replays of CUDA graphs of many launches, timed by events, one copy of the weights, which may stay in L2"
            }
            (Machine::Cpu { .. }, true) => "caches emptied before each run",
            (Machine::Cpu { .. }, false) => "caches left warm",
        };
        format!(
            "{of_machine}; {}; normally distributed weights and x, seed {}, GLU {}, x and y in bf16",
            self.head.turns(),
            self.head.seed,
            self.head.glu,
        )
    }

    /// Notes the clocks of a device.
    pub fn set_state(&mut self, state: Option<State>) {
        if let Machine::Device(machine) = &mut self.machine {
            machine.state_after = state;
        }
    }

    /// What it ran on, in sentences for a page.
    pub fn facts(&self) -> Vec<String> {
        let peers = self.head.peers.as_ref().map(About::fact);
        let how = peers.into_iter().chain([self.method()]);
        match &self.machine {
            Machine::Device(machine) => machine.facts(how),
            Machine::Cpu { cpu, threads, dram_read_gb_per_s } => {
                let mut facts = vec![format!("{cpu}, {}", units::count(*threads, "thread"))];
                facts.extend(how);
                facts.push(format!("DRAM gives {}", units::byte_rate(dram_read_gb_per_s * 1e9)));
                facts
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::report::tests::{head, on_device};
    use nvfp4_harness::json;

    pub(crate) fn timing(median: f64) -> Timing {
        Timing { median, min: median / 2.0, runs: 10, warmed_up: true }
    }

    pub(crate) fn ours(name: &str, found: Result<f64, &str>) -> Ours {
        let measured = |median: f64| Measured {
            timing: timing(median),
            tflop_per_s: 2.5,
            gb_per_s: 1900.0,
            copies: 3,
            nodes: 24,
            kernels: vec!["gate_up_kernel", "down_kernel"],
            relative_error: 1e-5,
            memory: Memory {
                weight_bytes: 99_000_000,
                value_bytes: 16_000,
                scratch_bytes: Some(30_000),
            },
            stages: vec![
                Stage { stage: "gate and up".to_owned(), timing: timing(median * 0.5) },
                Stage { stage: "down".to_owned(), timing: timing(median * 0.25) },
            ],
        };
        Ours {
            name: name.to_owned(),
            failed: found.as_ref().err().map(|reason| (*reason).to_owned()),
            measured: found.ok().map(measured),
        }
    }

    pub(crate) fn contender(peer: &str, variants: Result<&[(&str, f64)], &str>) -> Contender {
        let variant = |&(name, median): &(&str, f64)| {
            let found = crate::peers::Variant {
                relative_error: 1e-4,
                copies: 1,
                weight_bytes: Some(352_000_000),
                times: vec![median],
            };
            (name.to_owned(), found)
        };
        let found = variants.map(|all| all.iter().map(variant).collect());
        Contender { peer: peer.to_owned(), variants: found.map_err(str::to_owned) }
    }

    /// One layer on a device, two ways of ours of which one is not there, and two peers of which one is not there.
    pub(crate) fn report() -> Report {
        let peers = vec![
            contender("cublas", Ok(&[("three GEMMs", 100e-6), ("two GEMMs", 80e-6)])),
            contender("humming", Err("no module")),
        ];
        let ours = vec![
            ours("W4A4", Ok(40e-6)),
            ours("W4A4 dynamic", Ok(160e-6)),
            ours("W4A16", Err("no kernel for it")),
        ];
        Report {
            head: head("nvfp4 bench --mlp", 3e-3),
            machine: Machine::Device(on_device()),
            cold: true,
            results: vec![Row::new(Shape { k: 4096, n: 14336, h: 4096 }, 16, ours, peers)],
        }
    }

    #[test]
    fn a_peer_counts_with_its_faster_variant_and_beside_each_of_ours() {
        let report = report();
        let row = &report.results[0];
        let fastest = row.fastest("cublas").unwrap();
        assert_eq!(fastest.variant, "two GEMMs");
        let ratios: Vec<(&str, f64)> = fastest.ratios.iter().map(|(n, r)| (&**n, *r)).collect();
        assert_eq!(ratios, [("W4A4", 2.0), ("W4A4 dynamic", 0.5)]);
        assert!(row.fastest("humming").is_none());
    }

    /// Only a GPU gives such a report: its JSON is looked at here.
    #[test]
    fn the_json_has_each_field_once() {
        let line = json::line("bench", "1", true, report()).unwrap();
        assert_eq!(json::check_keys(&line), Ok(()));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        let keys = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        let sorted = |names: &str| -> Vec<String> {
            let mut names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
            names.sort();
            names
        };
        assert_eq!(
            keys(&value),
            sorted(
                "command version ok command_line device state_after copy_gb_per_s seed glu cold rounds peers results"
            )
        );
        let row = &value["results"][0];
        assert_eq!(keys(row), sorted("layer rows ours peers"));
        let timing = "median_s min_s runs warmed_up";
        assert_eq!(
            keys(&row["ours"][0]),
            sorted(&format!(
                "name failed {timing} tflop_per_s gb_per_s copies nodes kernels relative_error memory stages"
            ))
        );
        assert_eq!(keys(&row["ours"][2]), sorted("name failed"));
        assert_eq!(row["ours"][2]["failed"], "no kernel for it");
        assert_eq!(keys(&row["ours"][0]["stages"][1]), sorted(&format!("stage {timing}")));
        let peer = "peer variant ratios copies weight_bytes relative_error failed";
        assert_eq!(keys(&row["peers"][0]), sorted(&format!("{peer} {timing}")));
        assert_eq!(row["peers"][1]["ratios"]["W4A4"], 2.0);
        assert_eq!(row["peers"][2]["failed"], "no module");
    }
}
