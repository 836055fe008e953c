//! What is kept of launches: a line of JSON for each in the file of EMULATOR_REPORT, and the text that a person reads.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::Model;
use crate::counters::{Counters, Moved};
use crate::machine::Launch;
use crate::settings::Settings;
use crate::tma::map::{self, TensorMap};

/// Launches of one kernel with one shape.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// As in PTX.
    pub kernel: String,
    /// `b200` or `h100`.
    pub device: String,
    /// Multiprocessors that the program saw.
    pub sms: u32,
    /// In thread blocks.
    pub grid: [u32; 3],
    /// In threads.
    pub block: [u32; 3],
    /// In thread blocks.
    pub cluster: [u32; 3],
    /// Bytes.
    pub dynamic_shared: u32,
    /// How many launches the counts are of.
    pub launches: u64,
    /// Bytes of the whole tensor of a tensor map that is a parameter, by offset.
    pub tensors: BTreeMap<u64, u64>,
    /// What was counted.
    pub counters: Counters,
}

impl Entry {
    /// Of one launch.
    pub fn new(settings: &Settings, launch: &Launch, counters: &Counters) -> Self {
        let keys = counters.loads.keys().chain(counters.stores.keys());
        let tensors = keys.filter_map(|key| Some((*key, tensor_bytes(&launch.parameters, *key)?)));
        Self {
            kernel: launch.kernel.name.clone(),
            device: format!("{:?}", settings.model).to_lowercase(),
            sms: settings.sms,
            grid: launch.grid,
            block: launch.block,
            cluster: launch.cluster,
            dynamic_shared: launch.dynamic_shared,
            launches: 1,
            tensors: tensors.collect(),
            counters: counters.clone(),
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        let shape = |entry: &Self| {
            (entry.sms, entry.grid, entry.block, entry.cluster, entry.dynamic_shared)
        };
        self.kernel == other.kernel
            && self.device == other.device
            && shape(self) == shape(other)
            && self.tensors == other.tensors
    }

    /// The counts of one launch: the mean, as equal launches count almost equally.
    pub fn per_launch(&self, count: u64) -> f64 {
        count as f64 / self.launches.max(1) as f64
    }
}

/// Bytes of the tensor that the map at an offset of the parameters describes.
fn tensor_bytes(parameters: &[u8], offset: u64) -> Option<u64> {
    let start = usize::try_from(offset).ok()?;
    let map = TensorMap::decode(parameters.get(start..start.checked_add(map::BYTES)?)?).ok()?;
    let elements = map.dims[..map.rank]
        .iter()
        .try_fold(1, |product: u64, extent| product.checked_mul(*extent))?;
    Some(elements.checked_mul(map.element.bits())? / 8)
}

/// Everything that was noted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order of the first launches.
    pub entries: Vec<Entry>,
}

impl Report {
    /// Adds launches.
    pub fn add(&mut self, entry: Entry) {
        match self.entries.iter_mut().find(|known| known.is_like(&entry)) {
            Some(known) => {
                known.launches += entry.launches;
                known.counters.add(&entry.counters);
            }
            None => self.entries.push(entry),
        }
    }

    /// From the lines of a file.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut report = Self::default();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
            let entry = serde_json::from_str(line)
                .map_err(|error| format!("line {}: {error}", index + 1))?;
            report.add(entry);
        }
        Ok(report)
    }

    /// An object for each kernel and shape, with the model.
    pub fn json_lines(&self) -> String {
        let line = |entry: &Entry| {
            let mut value = serde_json::to_value(entry).unwrap_or_default();
            let model = serde_json::to_value(Model::of(entry)).unwrap_or_default();
            if let Some(object) = value.as_object_mut() {
                object.insert("modelled".to_owned(), model);
            }
            format!("{value}\n")
        };
        self.entries.iter().map(line).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.entries {
            write_entry(f, entry)?;
        }
        Ok(())
    }
}

fn write_entry(f: &mut fmt::Formatter<'_>, entry: &Entry) -> fmt::Result {
    let by = |[x, y, z]: [u32; 3]| format!("{x}x{y}x{z}");
    let counters = &entry.counters;
    writeln!(f, "{}", entry.kernel)?;
    writeln!(
        f,
        "  {} launches on {} with {} SMs: grid {}, block {}, cluster {}, {} bytes of dynamic shared memory",
        entry.launches,
        entry.device,
        entry.sms,
        by(entry.grid),
        by(entry.block),
        by(entry.cluster),
        entry.dynamic_shared
    )?;
    writeln!(f, "  counted, per launch:")?;
    let number = |count: u64| entry.per_launch(count);
    writeln!(f, "    thread blocks {:.0}", number(counters.thread_blocks))?;
    for (shape, count) in &counters.mma {
        writeln!(f, "    mma {shape}: {:.0}", number(*count))?;
    }
    write_moved(f, entry, "load", &counters.loads)?;
    write_moved(f, entry, "store", &counters.stores)?;
    writeln!(
        f,
        "    ordinary accesses: {:.0} bytes loaded, {:.0} stored",
        number(counters.global_loads),
        number(counters.global_stores)
    )?;
    writeln!(
        f,
        "    mbarrier waits: {:.0}, of which {:.0} had to park",
        number(counters.waits),
        number(counters.parked)
    )?;
    let warps = |counts: &[u64]| {
        let words: Vec<String> =
            counts.iter().map(|count| format!("{:.0}", number(*count))).collect();
        words.join(" ")
    };
    writeln!(f, "    instructions by warp, of all blocks: {}", warps(&counters.instructions))?;
    writeln!(f, "    of these in epilogues: {}", warps(&counters.epilogue))?;
    write!(f, "{}", Model::of(entry))
}

fn write_moved(
    f: &mut fmt::Formatter<'_>,
    entry: &Entry,
    what: &str,
    by_map: &BTreeMap<u64, Moved>,
) -> fmt::Result {
    for (key, moved) in by_map {
        let operand = match entry.tensors.get(key) {
            Some(bytes) => format!("tensor map at parameter byte {key}, tensor of {bytes} bytes"),
            None => format!("from {key:#x}"),
        };
        writeln!(
            f,
            "    TMA {what}, {operand}: {:.0} copies, {:.0} bytes of global memory, {:.0} of shared memory",
            entry.per_launch(moved.copies),
            entry.per_launch(moved.global),
            entry.per_launch(moved.shared)
        )?;
    }
    Ok(())
}

/// For the report on stderr, which is printed at exit.
static NOTED: Mutex<Report> = Mutex::new(Report { entries: Vec::new() });

/// Notes a launch for the report that the settings ask for. True when it is the first of those that are printed at exit.
pub fn note(settings: &Settings, launch: &Launch, counters: &Counters) -> bool {
    let Some(target) = &settings.report else { return false };
    let entry = Entry::new(settings, launch, counters);
    if target == "-" {
        let mut noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner);
        noted.add(entry);
        return noted.entries.len() == 1 && noted.entries[0].launches == 1;
    }
    // In one piece: other processes may append to the same file.
    let line = format!("{}\n", serde_json::to_value(&entry).unwrap_or_default());
    let file = OpenOptions::new().create(true).append(true).open(target);
    if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
        eprintln!("emulator: EMULATOR_REPORT: {target}: {error}");
    }
    false
}

/// The text of what was noted for stderr.
pub fn noted() -> String {
    NOTED.lock().unwrap_or_else(PoisonError::into_inner).to_string()
}
