//! What is kept of launches: a line of JSON for each in the file of EMULATOR_REPORT, and the text that a person reads.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::PoisonError;

use super::entry::Entry;
use super::model::Model;
use crate::counters::{Counters, Moved};
use crate::machine::Launch;
use crate::settings::Settings;

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
                object.insert("modeled".to_owned(), model);
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
