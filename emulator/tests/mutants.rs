//! Breaks NVIDIA's own kernels in their PTX, one statement at a time: every mutant has to be reported, by the right
//! check, or give a wrong result, under at least one of the schedules. One that is missed fails the test.
//!
//! EMULATOR_WRITE_TABLE=1 writes the table of what found each into `docs/mutations.md`; otherwise the one there has to be the
//! same.

mod stock;
mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use stock::build::{Source, programs};
use stock::library;
use stock::numbers::Format;
use stock::operands::{Kind, Layout, Numbers, Operands, Problem, Rounding};
use stock::run::{Prepared, Variables};
use stock::text::{self, Change, Text};
use support::{Outcome, package, scratch};

/// As in `stock_sm100.rs`: a program is built once.
const SOURCES: [Source; 2] = [
    Source { name: "nvf4_1sm_128x128", plain: true, hopper: false },
    Source { name: "nvf4_2sm_256x128_c2x1", plain: false, hopper: false },
];
const SINGLE: usize = 0;
const PAIR: usize = 1;

/// Six tiles for one cluster, so that accumulators, stages of the epilogue and answers of the launch control are used
/// again; more K blocks than stages; tails everywhere.
const PROBLEMS: [Problem; 2] = [problem(136, 264, 1568), problem(264, 264, 2080)];
const FORMATS: [Format; 2] = [Format::F16, Format::Bf16];
const SEEDS: usize = 20;
/// Warp instructions of a thread block: more than ten times what an unchanged kernel takes. A mutant may not run on.
const STEPS: u64 = 20_000_000;

const fn problem(m: usize, n: usize, k: usize) -> Problem {
    Problem { m, n, k, alpha: 0.5, beta: 0.0, numbers: Numbers::Exact }
}

struct Mutant {
    words: &'static str,
    kernel: usize,
    change: fn(&mut Text) -> Change,
    /// What may find it.
    found: &'static [&'static str],
}

const WRONG: &str = "wrong result";

const EXPECT: &str = "mbarrier.arrive.expect_tx.shared::cta";
const ARRIVE: &str = "mbarrier.arrive.shared::cluster.b64";
const LOAD_A_B: &str = "cp.async.bulk.tensor.3d.shared::cluster";
const LOAD_SCALES: &str = "cp.async.bulk.tensor.4d.shared::cluster";
const STORE: &str = "cp.async.bulk.tensor.3d.global";
const COMMIT: &str = "tcgen05.commit";
const MMA: &str = "tcgen05.mma";
const WAIT: &str = "mbarrier.try_wait.parity";
const LOAD_D: &str = "tcgen05.ld.";

const MUTANTS: &[Mutant] = &[
    Mutant {
        words: "16 bytes too many expected of TMA",
        kernel: SINGLE,
        change: |text| alter(text, EXPECT, 0, 2, 1, 16),
        found: &["Deadlock"],
    },
    Mutant {
        words: "16 bytes too few expected of TMA",
        kernel: SINGLE,
        change: |text| alter(text, EXPECT, 1, 2, 1, -16),
        found: &["TransactionBytes", "Deadlock"],
    },
    Mutant {
        words: "no commit that frees a stage",
        kernel: SINGLE,
        change: |text| drop(text, COMMIT, 0, 2),
        found: &["Deadlock"],
    },
    Mutant {
        words: "no commit that hands the accumulator over",
        kernel: SINGLE,
        change: |text| drop(text, COMMIT, 1, 2),
        found: &["Deadlock"],
    },
    Mutant {
        words: "the commit that frees a stage before the last MMA that reads it",
        kernel: SINGLE,
        change: |text| {
            let commit = text.line(COMMIT, 0, 2)?;
            let address = text.before(commit, "add.s32", 2)?;
            let mma = text.line(MMA, 3, 4)?;
            text.copy(commit, mma)?;
            text.copy(address, mma)?;
            text.drop(commit)
        },
        found: &[WRONG, "TensorHazard"],
    },
    Mutant {
        words: "a stage is freed that is not the one read",
        kernel: SINGLE,
        change: |text| alter(text, COMMIT, 0, 2, 0, 8),
        found: &[WRONG, "Deadlock", "Barrier"],
    },
    Mutant {
        words: "the producer's first parity the other way",
        kernel: SINGLE,
        change: |text| {
            let load = text.line(LOAD_A_B, 0, 4)?;
            parity_before(text, load, 60)
        },
        found: &["Deadlock"],
    },
    Mutant {
        words: "the first parity of the MMA's wait for data the other way",
        kernel: SINGLE,
        change: |text| {
            let mma = text.line(MMA, 0, 4)?;
            parity_before(text, mma, 110)
        },
        found: &["Uninitialised", "Deadlock", WRONG],
    },
    Mutant {
        words: "the first parity of the MMA's wait for an accumulator the other way",
        kernel: SINGLE,
        change: |text| {
            let end = text.line("tcgen05.relinquish", 0, 1)?;
            let wait = text.after(end, WAIT, 15)?;
            let parity = text.register(wait, 1)?;
            text.other_parity(&parity)
        },
        found: &["Deadlock"],
    },
    Mutant {
        words: "the first parity of the epilogue's wait for an accumulator the other way",
        kernel: SINGLE,
        change: |text| {
            let load = text.line(LOAD_D, 0, 4)?;
            parity_before(text, load, 30)
        },
        found: &["TensorHazard", "Uninitialised"],
    },
    Mutant {
        words: "A goes to the stage after its own",
        kernel: SINGLE,
        change: |text| alter(text, LOAD_A_B, 2, 4, 0, 16384),
        found: &[WRONG],
    },
    Mutant {
        words: "scales of A go where those of B belong",
        kernel: SINGLE,
        change: |text| alter(text, LOAD_SCALES, 0, 4, 0, 10240),
        found: &["Uninitialised"],
    },
    Mutant {
        words: "the MMA reads the scales of A a column further",
        kernel: SINGLE,
        change: |text| alter(text, MMA, 0, 4, 4, 1),
        found: &[WRONG],
    },
    Mutant {
        words: "the MMA reads the scales of the next 64 of K",
        kernel: SINGLE,
        change: |text| alter(text, MMA, 2, 4, 5, 4),
        found: &[WRONG],
    },
    Mutant {
        words: "scales are copied a column further",
        kernel: SINGLE,
        change: |text| alter(text, "tcgen05.cp", 5, 8, 0, 1),
        found: &["Uninitialised", WRONG],
    },
    Mutant {
        words: "the second MMA reads the first 64 of K of B",
        kernel: SINGLE,
        change: |text| {
            let mma = text.line(MMA, 1, 4)?;
            let b = text.register(mma, 2)?;
            text.alter(mma, &b, "sub.s64", 2)
        },
        found: &[WRONG],
    },
    Mutant {
        words: "the first MMA of a tile adds to what was there",
        kernel: SINGLE,
        change: |text| {
            let mma = text.line(MMA, 0, 4)?;
            let enable = text.before(mma, "setp.ne.b32", 1)?;
            let input = text.register(enable, 0)?;
            text.alter(enable, &input, "or.b32", 1)
        },
        found: &["Uninitialised", WRONG],
    },
    Mutant {
        words: "the descriptor of A has the swizzle of 64 bytes",
        kernel: SINGLE,
        change: |text| {
            let descriptor = text.line("4611756662049538048", 0, 2)?;
            let wrong = (4_611_756_662_049_538_048_u64 ^ (2 ^ 4) << 61).to_string();
            text.replace(descriptor, "4611756662049538048", &wrong)
        },
        found: &[WRONG, "Descriptor"],
    },
    Mutant {
        words: "no tcgen05.wait::ld before the accumulator is given back",
        kernel: SINGLE,
        change: |text| drop(text, "tcgen05.wait::ld", 0, 1),
        found: &["TensorHazard", "Uninitialised", WRONG],
    },
    Mutant {
        words: "the epilogue does not give the accumulator back",
        kernel: SINGLE,
        change: |text| {
            let wait = text.line("tcgen05.wait::ld", 0, 1)?;
            let arrive = text.after(wait, ARRIVE, 10)?;
            text.drop(arrive)
        },
        found: &["Deadlock"],
    },
    Mutant {
        words: "no fence.proxy.async before a TMA store",
        kernel: SINGLE,
        change: |text| {
            let store = text.line(STORE, 1, 4)?;
            let fence = text.before(store, "fence.proxy.async", 20)?;
            text.drop(fence)
        },
        found: &["ProxyFence"],
    },
    Mutant {
        words: "no barrier between the epilogue's stores and TMA's",
        kernel: SINGLE,
        change: |text| {
            let store = text.line(STORE, 1, 4)?;
            let barrier = text.before(store, "bar.sync", 12)?;
            text.drop(barrier)
        },
        found: &["ProxyFence", "Uninitialised", WRONG],
    },
    Mutant {
        words: "no wait for TMA to read what the epilogue then overwrites",
        kernel: SINGLE,
        change: |text| drop(text, "cp.async.bulk.wait_group.read", 1, 4),
        found: &[WRONG],
    },
    Mutant {
        words: "one store more may be unread",
        kernel: SINGLE,
        change: |text| {
            for place in 0..4 {
                let wait = text.line("cp.async.bulk.wait_group.read", place, 4)?;
                text.replace(wait, "read 1", "read 2")?;
            }
            Ok(())
        },
        found: &[WRONG],
    },
    Mutant {
        words: "tensor memory is not given back",
        kernel: SINGLE,
        change: |text| drop(text, "tcgen05.dealloc", 0, 1),
        found: &["InFlightAtExit", "TensorMemory"],
    },
    Mutant {
        words: "half of the tensor memory is allocated",
        kernel: SINGLE,
        change: |text| {
            let alloc = text.line("tcgen05.alloc", 0, 1)?;
            let columns = text.register(alloc, 1)?;
            text.alter(alloc, &columns, "shr.u32", 1)
        },
        found: &["TensorMemory"],
    },
    Mutant {
        words: "a stage counts as free after two arrivals",
        kernel: SINGLE,
        change: |text| alter(text, "mbarrier.init", 1, 32, 1, 1),
        found: &["Deadlock"],
    },
    Mutant {
        words: "scales of B go to one of the pair only",
        kernel: PAIR,
        change: |text| alter_with(text, "multicast::cluster.L2", 0, 2, "%rs", "and.b16", 1),
        found: &["Deadlock"],
    },
    Mutant {
        words: "the commit that frees a stage tells one of the pair only",
        kernel: PAIR,
        change: |text| alter_with(text, COMMIT, 0, 2, "%rs", "and.b16", 1),
        found: &["Deadlock"],
    },
    Mutant {
        words: "TMA tells the barrier of its own thread block, not that of the first of the pair",
        kernel: PAIR,
        change: |text| {
            let mask = text.line("-16777224", 0, 3)?;
            text.replace(mask, "-16777224", "-8")
        },
        found: &["Deadlock", "TransactionBytes"],
    },
];

/// Adds to the value of a register of a statement.
fn alter(
    text: &mut Text,
    words: &str,
    place: usize,
    of: usize,
    operand: usize,
    number: i64,
) -> Change {
    let line = text.line(words, place, of)?;
    let register = text.register(line, operand)?;
    text.alter(line, &register, "add.s32", number)
}

/// Changes the value of the only register of a class in a statement.
fn alter_with(
    text: &mut Text,
    words: &str,
    place: usize,
    of: usize,
    class: &str,
    operation: &str,
    number: i64,
) -> Change {
    let line = text.line(words, place, of)?;
    let mut registers = (0..).map_while(|operand| text.register(line, operand).ok());
    let register = registers.find(|register| register.starts_with(class));
    let register = register.ok_or_else(|| format!("no {class} in line {}", line + 1))?;
    text.alter(line, &register, operation, number)
}

fn drop(text: &mut Text, words: &str, place: usize, of: usize) -> Change {
    let line = text.line(words, place, of)?;
    text.drop(line)
}

/// Turns around the parity of the last wait before a line.
fn parity_before(text: &mut Text, line: usize, within: usize) -> Change {
    let wait = text.before(line, WAIT, within)?;
    let parity = text.register(wait, 1)?;
    text.other_parity(&parity)
}

/// In this order: the cheapest first.
fn schedules() -> Vec<(String, Variables)> {
    let schedule = |word: &str| vec![("EMULATOR_SCHEDULE", word.to_owned())];
    let mut all =
        vec![("eager".to_owned(), schedule("eager")), ("lazy".to_owned(), schedule("lazy"))];
    for seed in 0..SEEDS {
        let mut settings = schedule("random");
        settings.push(("EMULATOR_SEED", seed.to_string()));
        all.push((format!("random, seed {seed}"), settings));
    }
    for (_, settings) in &mut all {
        settings.push(("EMULATOR_STEPS", STEPS.to_string()));
    }
    all
}

/// What is wrong with a run with other PTX, if anything is: what found it, and in words.
fn run(subject: &Prepared, ptx: &Path, settings: &Variables) -> Option<(String, String)> {
    let mut settings = settings.clone();
    settings.push(("EMULATOR_PTX", ptx.display().to_string()));
    match subject.run(&settings) {
        Ok(d) => {
            let wrong = subject.check(&d, Rounding::Exact, 1).err()?;
            Some((WRONG.to_owned(), wrong))
        }
        Err(said) => {
            let kind = said.lines().find_map(|line| {
                let (kind, _) = line.strip_prefix("emulator: ")?.split_once(": ")?;
                kind.chars().all(char::is_alphanumeric).then(|| kind.to_owned())
            });
            Some((kind.unwrap_or_else(|| "error".to_owned()), said))
        }
    }
}

/// What finds a mutant: the row of the table, or why it fails the test.
fn find(mutant: &Mutant, texts: &[String], subject: &Prepared) -> Result<String, String> {
    let words = mutant.words;
    let mut text = Text::new(&texts[mutant.kernel]);
    (mutant.change)(&mut text).map_err(|why| format!("{words}: {why}"))?;
    let file = subject.folder.join("mutant.ptx");
    std::fs::write(&file, text.to_text()).map_err(|error| error.to_string())?;
    for (schedule, settings) in schedules() {
        let Some((found, said)) = run(subject, &file, &settings) else { continue };
        if !mutant.found.contains(&found.as_str()) {
            return Err(format!("{words}: {schedule}: {found}, not {:?}: {said}", mutant.found));
        }
        let kernel = SOURCES[mutant.kernel].name;
        return Ok(format!("| {words} | `{kernel}` | {found} | {schedule} |"));
    }
    Err(format!("{words}: nothing finds it"))
}

fn subject<'a>(
    kernel: usize,
    programs: &'a [PathBuf],
    library: &'a Path,
    name: &str,
) -> Outcome<Prepared<'a>> {
    let kind = Kind::Nvf4;
    let d = FORMATS[kernel];
    let layout = Layout { kind, along_mn: false, by_columns: false, has_c: false, d };
    let operands = Operands::new(layout, PROBLEMS[kernel], 4);
    let folder = scratch(&format!("mutants/{name}"))?;
    // One cluster at a time.
    Prepared::new(&programs[kernel], library, operands, folder, kernel + 1)
}

/// Does the work of all numbers below `count` on all CPUs; gives the results in order.
fn side_by_side<R: Send>(count: usize, work: impl Fn(usize) -> R + Sync) -> Outcome<Vec<R>> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, R)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let result = work(number);
                    if let Ok(mut results) = results.lock() {
                        results.push((number, result));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().map_err(|_| "a worker ended early")?;
    results.sort_by_key(|(number, _)| *number);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

const BEGIN: &str = "<!-- mutations -->\n";
const END: &str = "<!-- end of mutations -->";

#[test]
fn every_mutant_is_found() -> Outcome<()> {
    let Some(programs) = programs("every_mutant_is_found", &SOURCES)? else { return Ok(()) };
    let library = library()?;
    let texts = programs
        .iter()
        .map(|program| text::of_program(program))
        .collect::<Outcome<Vec<String>>>()?;

    let rows = side_by_side(MUTANTS.len(), |number| {
        let mutant = &MUTANTS[number];
        subject(mutant.kernel, &programs, &library, &number.to_string())
            .map_err(|error| error.to_string())
            .and_then(|subject| find(mutant, &texts, &subject))
    })?;
    let failures: Vec<&String> = rows.iter().filter_map(|row| row.as_ref().err()).collect();
    assert!(failures.is_empty(), "{failures:#?}");

    let mut table = "| change | kernel | found as | schedule |\n|---|---|---|---|\n".to_owned();
    for row in rows.iter().flatten() {
        writeln!(table, "{row}")?;
    }
    let page = package().join("docs/mutations.md");
    let text = std::fs::read_to_string(&page)?;
    let (before, rest) = text.split_once(BEGIN).ok_or("the page has no place for the table")?;
    let (old, after) = rest.split_once(END).ok_or("the table of the page has no end")?;
    if std::env::var_os("EMULATOR_WRITE_TABLE").is_some_and(|value| value == "1") {
        std::fs::write(&page, format!("{before}{BEGIN}{table}{END}{after}"))?;
    } else {
        assert!(old == table, "EMULATOR_WRITE_TABLE=1 writes this one into the page:\n{table}");
    }
    Ok(())
}

/// The same texts unchanged, by the same way, and with a change that breaks no rule: what finds a mutant finds nothing
/// in them.
#[test]
fn nothing_is_found_in_the_kernels_themselves() -> Outcome<()> {
    let Some(programs) = programs("nothing_is_found_in_the_kernels_themselves", &SOURCES)? else {
        return Ok(());
    };
    let library = library()?;
    let schedules = schedules();
    let outcomes = side_by_side(2 * SOURCES.len() * schedules.len(), |number| {
        let (kernel, rest) = (number % SOURCES.len(), number / SOURCES.len());
        let (schedule, settings) = &schedules[rest / 2];
        let found = || -> Outcome<Option<(String, String)>> {
            let subject = subject(kernel, &programs, &library, &format!("unchanged-{number}"))?;
            let mut text = Text::new(&text::of_program(&programs[kernel])?);
            if rest % 2 == 1 {
                // A thread block that ends gives up its right to allocate, too.
                drop(&mut text, "tcgen05.relinquish", 0, 1)?;
            }
            let file = subject.folder.join("unchanged.ptx");
            std::fs::write(&file, text.to_text())?;
            Ok(run(&subject, &file, settings))
        };
        match found() {
            Ok(None) => None,
            other => Some(format!("{} {schedule}: {other:?}", SOURCES[kernel].name)),
        }
    })?;
    let found: Vec<&String> = outcomes.iter().flatten().collect();
    assert!(found.is_empty(), "{found:#?}");
    Ok(())
}
