//! A stock kernel with one thing broken in its PTX, each in turn: the emulator has to report it, or the result has to
//! be wrong, under one of the schedules. What passes them all is a hole in the checks.

mod stock;
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use emulator::fatbin;
use emulator::settings::Model;
use stock::build::{Source, programs};
use stock::numbers::Format;
use stock::operands::{Kind, Layout, Numbers, Operands, Problem};
use support::{Outcome, scratch};

/// A text in the PTX, how often it is there, which of them (from 0; none: all) become which text.
type Edit = (&'static str, usize, Option<usize>, &'static str);

/// What is broken, how, and which words of the emulator may tell; "wrong" is a wrong result.
const MUTATIONS: [(&str, Edit, &[&str]); 15] = [
    ("`expect_tx` 16 too many", (", 36864;", 2, None, ", 36880;"), &["Deadlock"]),
    ("`expect_tx` 16 too few", (", 36864;", 2, None, ", 36848;"), &["TransactionBytes"]),
    ("no commit of a stage", ("tcgen05.commit.", 2, Some(0), "//"), &["Deadlock"]),
    ("no commit of the accumulator", ("tcgen05.commit.", 2, Some(1), "//"), &["Deadlock"]),
    (
        "producer starts with the wrong parity",
        ("mov.b32 %r1018, 1;", 1, None, "mov.b32 %r1018, 0;"),
        &["Deadlock"],
    ),
    (
        "scale factors in the next stage",
        (", 181248;", 2, Some(0), ", 183296;"),
        &["Uninitialised", "wrong"],
    ),
    (
        "no `wait::ld` before the accumulator is released",
        ("tcgen05.wait::ld", 1, None, "//"),
        &["TensorHazard", "Uninitialised", "wrong"],
    ),
    (
        "scale factors one column on",
        ("\ntcgen05.mma.", 4, Some(0), "\nadd.s32 %r945, %r945, 1;\ntcgen05.mma."),
        &["Uninitialised", "TensorMemory", "wrong"],
    ),
    (
        "scale factors four columns on",
        ("\ntcgen05.mma.", 4, Some(0), "\nadd.s32 %r945, %r945, 4;\ntcgen05.mma."),
        &["Uninitialised", "TensorMemory", "wrong"],
    ),
    (
        "no proxy fence before a store",
        ("fence.proxy.async.shared::cta", 8, Some(4), "//"),
        &["ProxyFence"],
    ),
    ("no `wait_group.read`", ("cp.async.bulk.wait_group.read", 4, None, "//"), &["wrong"]),
    (
        "accumulator barrier expects one more",
        ("mov.b32 %r193, 128;", 1, None, "mov.b32 %r193, 129;"),
        &["Deadlock"],
    ),
    (
        "no barrier before a store",
        ("bar.sync %r707, %r708;", 1, None, ""),
        &["Uninitialised", "ProxyFence", "wrong"],
    ),
    ("no dealloc", ("tcgen05.dealloc", 1, None, "//"), &["InFlightAtExit"]),
    (
        "another swizzle in the descriptor of A",
        ("mov.b64 %rd43, {", 1, None, "xor.b32 %r947, %r947, 536870912;\nmov.b64 %rd43, {"),
        &["Descriptor", "wrong"],
    ),
];

fn edited(text: &str, (from, times, which, to): Edit) -> Outcome<String> {
    let parts: Vec<&str> = text.split(from).collect();
    if parts.len() != times + 1 {
        return Err(format!("\"{from}\" is there {} times, not {times}", parts.len() - 1).into());
    }
    let mut new = String::new();
    for (at, part) in parts.iter().enumerate() {
        new += part;
        if at < times {
            new += if which.is_none_or(|which| which == at) { to } else { from };
        }
    }
    Ok(new)
}

/// The PTX in a program: its fat binaries begin with a magic number.
fn ptx_of(program: &Path) -> Outcome<String> {
    let bytes = std::fs::read(program)?;
    for at in (0..bytes.len().saturating_sub(16)).step_by(8) {
        if bytes[at..at + 4] != 0xBA55_ED50_u32.to_le_bytes() {
            continue;
        }
        if let Ok(entries) = fatbin::ptx_texts(&bytes[at..])
            && let Ok(text) = fatbin::choose(&entries, Model::B200)
            && text.contains("tcgen05.mma")
        {
            return Ok(text.to_owned());
        }
    }
    Err(format!("no PTX in {}", program.display()).into())
}

struct Case {
    program: PathBuf,
    library: PathBuf,
    operands: Operands,
    folder: PathBuf,
}

impl Case {
    /// What tells that something is wrong, if anything does.
    fn run(&self, ptx: &Path, schedule: &str, seed: u32) -> Outcome<Option<String>> {
        let Problem { m, n, k, alpha, beta, .. } = self.operands.problem;
        let d = self.folder.join("d.bin");
        let _ = std::fs::remove_file(&d);
        let output = Command::new(&self.program)
            .args([m, n, k].map(|extent| extent.to_string()))
            .args([alpha, beta].map(|factor| factor.to_string()))
            .arg(&self.folder)
            .env("LD_LIBRARY_PATH", &self.library)
            .env("EMULATOR_SMS", "4")
            .env("EMULATOR_PTX", ptx)
            .env("EMULATOR_SCHEDULE", schedule)
            .env("EMULATOR_SEED", seed.to_string())
            .output()?;
        if !output.status.success() {
            return Ok(Some(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        Ok(self
            .operands
            .check(&std::fs::read(&d)?, 64)
            .err()
            .map(|words| format!("wrong: {words}")))
    }

    /// The first schedule that tells, and what.
    fn first(&self, ptx: &Path) -> Outcome<Option<(String, String)>> {
        let fixed = [("eager", 0), ("lazy", 0)];
        for (schedule, seed) in fixed.into_iter().chain((0..20).map(|seed| ("random", seed))) {
            if let Some(words) = self.run(ptx, schedule, seed)? {
                let name =
                    if schedule == "random" { format!("seed {seed}") } else { schedule.into() };
                return Ok(Some((name, words)));
            }
        }
        Ok(None)
    }
}

#[test]
fn every_mutation_is_found() -> Outcome<()> {
    let source = Source { name: "nvf4_1sm_128x128", plain: true, hopper: false };
    let Some(programs) = programs("every_mutation_is_found", &[source])? else { return Ok(()) };
    let program = programs.into_iter().next().ok_or("no program")?;
    let output = Command::new(env!("CARGO_BIN_EXE_emulator")).arg("path").output()?;
    let library = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    let layout = Layout {
        kind: Kind::Nvf4,
        along_mn: false,
        by_columns: false,
        has_c: false,
        d: Format::F16,
    };
    // 12 tiles on 4 multiprocessors, 7 K blocks in 5 stages.
    let numbers = Numbers::Exact;
    let problem = Problem { m: 393, n: 264, k: 1568, alpha: 0.5, beta: 0.0, numbers };
    let operands = Operands::new(layout, problem, 1);
    let folder = scratch("mutants")?;
    for (name, bytes) in &operands.files {
        std::fs::write(folder.join(name), bytes)?;
    }
    let text = ptx_of(&program)?;
    let case = Case { program, library, operands, folder };
    let file = case.folder.join("mutant.ptx");
    // A thread block that ends gives its tensor memory's permit back.
    let fine: Edit = ("tcgen05.relinquish_alloc_permit", 1, None, "//");
    for text in [text.clone(), edited(&text, fine)?] {
        std::fs::write(&file, text)?;
        let found = case.first(&file)?;
        assert!(found.is_none(), "a correct kernel: {found:?}");
    }
    let mut missed = Vec::new();
    println!("| broken | found as | first schedule |\n|---|---|---|");
    for (name, edit, expected) in MUTATIONS {
        std::fs::write(&file, edited(&text, edit)?)?;
        match case.first(&file)? {
            Some((schedule, words)) => match expected.iter().find(|kind| words.contains(**kind)) {
                Some(kind) => println!("| {name} | {kind} | {schedule} |"),
                None => missed.push(format!("{name}, {schedule}: {words}")),
            },
            None => missed.push(format!("{name}: nothing told")),
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    Ok(())
}
