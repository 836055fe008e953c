//! NVIDIA's own kernels for sm_100a on the emulator, under every schedule, against exact integer arithmetic.
//!
//! EMULATOR_WRITE_TABLE=1 writes the table of the results into the README; otherwise the one there has to be the same.

mod stock;
mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use stock::build::{Source, programs};
use stock::numbers::{Format, Random, e2m1, e4m3, f16};
use stock::operands::{Kind, Layout, Numbers, Operands, Problem};
use stock::run::{Prepared, Variables};
use support::{Outcome, package, scratch};

/// A program, and what is known of its kernel.
struct Kernel {
    source: Source,
    layout: Layout,
    /// M, N and K of the tile of a cluster.
    tile: [usize; 3],
    /// Of a cluster.
    thread_blocks: usize,
    /// Products that an MMA sums for an entry.
    k_of_mma: usize,
    problems: [Problem; 4],
}

/// Few, so that kernels have more tiles than there are.
const SMS: usize = 4;
const SEEDS: usize = 20;

const fn problem([m, n, k]: [usize; 3], [alpha, beta]: [f32; 2], numbers: Numbers) -> Problem {
    Problem { m, n, k, alpha, beta, numbers }
}

const fn scaled(kind: Kind, d: Format) -> Layout {
    Layout { kind, along_mn: false, by_columns: false, has_c: false, d }
}

use Numbers::{Exact, Full};

const KERNELS: [Kernel; 6] = [
    Kernel {
        source: Source { name: "nvf4_1sm_128x128", plain: true, hopper: false },
        layout: scaled(Kind::Nvf4, Format::F16),
        tile: [128, 128, 256],
        thread_blocks: 1,
        k_of_mma: 64,
        problems: [
            problem([40, 72, 96], [1.0, 0.0], Exact),
            problem([393, 264, 288], [0.5, 0.0], Exact),
            problem([137, 120, 2080], [-0.75, 0.0], Exact),
            problem([201, 136, 2080], [1.0 / 2048.0, 0.0], Full),
        ],
    },
    Kernel {
        source: Source { name: "nvf4_1sm_128x192", plain: false, hopper: false },
        layout: scaled(Kind::Nvf4, Format::F16),
        tile: [128, 192, 256],
        thread_blocks: 1,
        k_of_mma: 64,
        problems: [
            problem([33, 168, 32], [1.0, 0.0], Exact),
            problem([258, 584, 480], [0.5, 0.0], Exact),
            problem([70, 200, 1696], [-0.75, 0.0], Exact),
            problem([129, 376, 1696], [1.0 / 2048.0, 0.0], Full),
        ],
    },
    Kernel {
        source: Source { name: "nvf4_2sm_256x128_c2x1", plain: false, hopper: false },
        layout: scaled(Kind::Nvf4, Format::Bf16),
        tile: [256, 128, 256],
        thread_blocks: 2,
        k_of_mma: 64,
        problems: [
            problem([70, 40, 160], [1.0, 0.0], Exact),
            problem([530, 264, 288], [0.5, 0.0], Exact),
            problem([200, 120, 2592], [-0.75, 0.0], Exact),
            problem([300, 136, 2592], [1.0 / 2048.0, 0.0], Full),
        ],
    },
    Kernel {
        source: Source { name: "mxf8_1sm_128x128", plain: false, hopper: false },
        layout: scaled(Kind::Mxf8, Format::F16),
        tile: [128, 128, 128],
        thread_blocks: 1,
        k_of_mma: 32,
        problems: [
            problem([100, 24, 96], [1.0, 0.0], Exact),
            problem([385, 264, 160], [0.5, 0.0], Exact),
            problem([90, 136, 1120], [-0.75, 0.0], Exact),
            problem([150, 136, 1120], [1.0 / 4_194_304.0, 0.0], Full),
        ],
    },
    Kernel {
        source: Source { name: "f16_2sm_128x128_c2x1", plain: false, hopper: false },
        // A and B lie along M and N: K has any size, and M is the one that is a multiple of 8.
        layout: Layout {
            kind: Kind::F16,
            along_mn: true,
            by_columns: true,
            has_c: true,
            d: Format::F16,
        },
        tile: [128, 128, 64],
        thread_blocks: 2,
        k_of_mma: 16,
        problems: [
            problem([40, 72, 37], [1.0, 1.0], Exact),
            problem([392, 264, 100], [0.5, 2.0], Exact),
            problem([136, 120, 1001], [-0.75, 1.5], Exact),
            problem([200, 136, 1001], [1.5, -0.3], Full),
        ],
    },
    Kernel {
        // Two stages, and two accumulators in the same columns.
        source: Source { name: "f16_1sm_64x128_s2", plain: false, hopper: false },
        layout: Layout {
            kind: Kind::F16,
            along_mn: true,
            by_columns: true,
            has_c: true,
            d: Format::F16,
        },
        tile: [64, 128, 64],
        thread_blocks: 1,
        k_of_mma: 16,
        problems: [
            problem([40, 72, 37], [1.0, 1.0], Exact),
            problem([200, 264, 100], [0.5, 2.0], Exact),
            problem([72, 120, 1001], [-0.75, 1.5], Exact),
            problem([136, 136, 1001], [1.5, -0.3], Full),
        ],
    },
];

impl Kernel {
    fn tiles(&self, problem: Problem) -> usize {
        problem.m.div_ceil(self.tile[0]) * problem.n.div_ceil(self.tile[1])
    }

    fn k_blocks(&self, problem: Problem) -> usize {
        problem.k.div_ceil(self.tile[2])
    }

    /// More stages do not fit into the 227 KiB of shared memory of a thread block.
    fn most_stages(&self) -> usize {
        let bits = match self.layout.kind {
            Kind::Nvf4 => 4,
            Kind::Mxf8 => 8,
            Kind::F16 => 16,
        };
        let [m, n, k] = self.tile;
        227 * 1024 / ((m + n) / self.thread_blocks * k * bits / 8)
    }
}

/// Columns of the table: a name, and the settings of its runs.
fn columns(numbers: Numbers) -> Vec<(&'static str, Vec<Variables>)> {
    let schedule = |word: &str| vec![("EMULATOR_SCHEDULE", word.to_owned())];
    let with = |word: &str, name, value: &str| {
        let mut settings = schedule(word);
        settings.push((name, value.to_owned()));
        settings
    };
    let seeds = (0..SEEDS).map(|seed| with("random", "EMULATOR_SEED", &seed.to_string())).collect();
    let mut columns = vec![
        ("eager", vec![schedule("eager")]),
        ("lazy", vec![schedule("lazy")]),
        ("random, seeds 0 to 19", seeds),
        ("CLC `never`", vec![with("lazy", "EMULATOR_CLC", "never")]),
        ("CLC `random`", vec![with("random", "EMULATOR_CLC", "random")]),
        ("`mma-sim`", Vec::new()),
    ];
    // The model truncates: only where nothing is lost has its result to be the exact one.
    if let (Numbers::Exact, Some((_, runs))) = (numbers, columns.last_mut()) {
        runs.push(with("eager", "EMULATOR_ROUNDING", "mma-sim"));
    }
    columns
}

/// A problem of a kernel.
struct Case<'a> {
    kernel: &'a Kernel,
    prepared: Prepared<'a>,
}

impl Case<'_> {
    fn run(&self, settings: &[(&str, String)]) -> Result<Vec<u8>, String> {
        self.prepared.run(settings)
    }

    fn check(&self, d: &[u8]) -> Result<(), String> {
        self.prepared.operands.check(d, self.kernel.k_of_mma)
    }

    /// A check that passes everything would show nothing: D with its largest value a little off has to fail.
    fn check_can_fail(&self, d: &[u8]) -> Result<(), String> {
        let format = self.kernel.layout.d;
        let mut worse = d.to_vec();
        let magnitude = |pair: &[u8]| {
            pair.iter().rev().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) & 0x7FFF
        };
        let largest = worse.chunks_exact_mut(format.bytes()).max_by_key(|pair| magnitude(pair));
        if let Some(byte) = largest.and_then(<[u8]>::first_mut) {
            *byte ^= if self.prepared.operands.problem.numbers == Numbers::Exact { 1 } else { 8 };
        }
        match self.check(&worse) {
            Err(_) => Ok(()),
            Ok(()) => Err("the check passes a wrong result".into()),
        }
    }
}

/// A row of the table, or what went wrong.
fn row(case: &Case) -> Result<String, String> {
    let problem = case.prepared.operands.problem;
    let Problem { m, n, k, numbers, .. } = problem;
    let name = case.kernel.source.name;
    let (kind, passed) = match numbers {
        Numbers::Exact => ("exact", "equal"),
        Numbers::Full => ("full range", "in bound"),
    };
    let tiles = case.kernel.tiles(problem);
    let blocks = case.kernel.k_blocks(problem);
    let mut row = format!("| `{name}` | {m} × {n} × {k} | {tiles} | {blocks} | {kind} |");
    let mut failures = String::new();
    for (_, runs) in columns(numbers) {
        let mut good = 0;
        for settings in &runs {
            let outcome = case.run(settings).and_then(|d| {
                case.check(&d)?;
                if good == 0 { case.check_can_fail(&d) } else { Ok(()) }
            });
            match outcome {
                Ok(()) => good += 1,
                Err(words) => {
                    let _ = writeln!(failures, "{name} {problem:?} {settings:?}: {words}");
                }
            }
        }
        let _ = match good {
            0 => write!(row, " – |"),
            1 => write!(row, " {passed} |"),
            _ => write!(row, " {good} × {passed} |"),
        };
    }
    if failures.is_empty() { Ok(row) } else { Err(failures) }
}

fn case<'a>(
    kernel: &'a Kernel,
    program: &'a Path,
    library: &'a Path,
    problem: Problem,
    folder: PathBuf,
) -> Outcome<Case<'a>> {
    let operands = Operands::new(kernel.layout, problem, problem.k as u64);
    let prepared = Prepared::new(program, library, operands, folder, SMS)?;
    Ok(Case { kernel, prepared })
}

const BEGIN: &str = "<!-- stock kernels -->\n";
const END: &str = "<!-- end -->";

fn table(rows: &[String]) -> String {
    let mut table = "| kernel | M × N × K | tiles | K blocks | numbers |".to_owned();
    let columns = columns(Numbers::Exact);
    for (name, _) in &columns {
        let _ = write!(table, " {name} |");
    }
    table += "\n";
    table += &"|---".repeat(5 + columns.len());
    table += "|\n";
    for row in rows {
        table += row;
        table += "\n";
    }
    table
}

#[test]
fn results_are_right_under_every_schedule() -> Outcome<()> {
    let sources = KERNELS.each_ref().map(|kernel| kernel.source);
    let Some(programs) = programs("results_are_right_under_every_schedule", &sources)? else {
        return Ok(());
    };
    let library = stock::library()?;
    let mut jobs = Vec::new();
    for (kernel, program) in KERNELS.iter().zip(&programs) {
        let exact = kernel.problems.iter().filter(|problem| problem.numbers == Numbers::Exact);
        assert!(exact.clone().any(|problem| kernel.tiles(*problem) * kernel.thread_blocks > SMS));
        assert!(exact.clone().any(|problem| kernel.k_blocks(*problem) > kernel.most_stages()));
        jobs.extend(kernel.problems.iter().map(|problem| (kernel, program, *problem)));
    }
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(vec![Err(String::new()); jobs.len()]));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((kernel, program, problem)) = jobs.get(number) else { return };
            let outcome = scratch(&format!("stock/case{number}"))
                .and_then(|folder| case(kernel, program, &library, *problem, folder))
                .map_err(|error| error.to_string())
                .and_then(|case| row(&case));
            if let Ok(mut rows) = rows.lock() {
                rows[number] = outcome;
            }
        }
    };
    let workers = std::thread::available_parallelism()?.get();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for row in rows.into_inner()? {
        match row {
            Ok(row) => good.push(row),
            Err(words) => bad.push(words),
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));

    let readme = package().join("README.md");
    let text = std::fs::read_to_string(&readme)?;
    let (before, rest) = text.split_once(BEGIN).ok_or("the README has no place for the table")?;
    let (old, after) = rest.split_once(END).ok_or("the table of the README has no end")?;
    let new = table(&good);
    if std::env::var_os("EMULATOR_WRITE_TABLE").is_some_and(|value| value == "1") {
        std::fs::write(&readme, format!("{before}{BEGIN}{new}{END}{after}"))?;
    } else {
        assert!(old == new, "EMULATOR_WRITE_TABLE=1 writes this one into the README:\n{new}");
    }
    Ok(())
}

/// CUTLASS takes two liberties that hardware grants: it copies scale factors after MMAs that still read the old ones,
/// and it leaves out a wait for a load from tensor memory whose registers it then uses.
#[test]
fn checks_report_the_liberties_of_cutlass() -> Outcome<()> {
    let sources = KERNELS.each_ref().map(|kernel| kernel.source);
    let Some(programs) = programs("checks_report_the_liberties_of_cutlass", &sources)? else {
        return Ok(());
    };
    let library = stock::library()?;
    for (kernel, program) in KERNELS.iter().zip(&programs) {
        // One tile, more K blocks than stages.
        let [m, n, k] = kernel.tile;
        let problem = problem([m, n, k * (kernel.most_stages() + 1)], [0.25, 0.0], Exact);
        let folder = scratch(&format!("stock/checks-{}", kernel.source.name))?;
        let case = case(kernel, program, &library, problem, folder)?;
        let copy = ["TensorHazard: tcgen05.cp overwrites", "does not order cp after mma"];
        let load = ["PendingRegister: ", "between the tcgen05.ld that fills it and the wait"];
        // f16 has no scale factors. And lazily, the TMA warp has waited for the commit of a stage before the copy of
        // the next one completes.
        let scaled = kernel.layout.kind != Kind::F16;
        let checks = [
            ("pending-registers", "eager", Some(load)),
            ("pending-registers", "lazy", Some(load)),
            ("copy-order", "eager", scaled.then_some(copy)),
            ("copy-order", "lazy", None),
        ];
        for (check, schedule, reported) in checks {
            let what = format!("{} {check} {schedule}", kernel.source.name);
            let settings =
                [("EMULATOR_SCHEDULE", schedule.to_owned()), ("EMULATOR_CHECKS", check.to_owned())];
            match (case.run(&settings), reported) {
                (Ok(d), None) => case.check(&d)?,
                (Err(said), Some(words)) => {
                    assert!(words.iter().all(|word| said.contains(word)), "{what}: {said}");
                }
                (Ok(_), Some(_)) => return Err(format!("{what}: nothing is reported").into()),
                (Err(said), None) => return Err(format!("{what}: {said}").into()),
            }
        }
    }
    Ok(())
}

/// The rounding of the oracle against that of the crate `half` and of the language.
#[test]
fn formats_of_the_oracle_agree_with_half() {
    let mut random = Random(1);
    for _ in 0..200_000 {
        let exponent = random.below(80) as i32 - 70;
        let number = |value: i64| value as f64 * 2f64.powi(exponent);
        let rounded = |format: Format, value| format.round(i128::from(value), exponent);
        // The crate looks at the upper half of an f64 only: 21 bits.
        let value = (random.next() as i64) >> (43 + random.below(21));
        let halves = (half::f16::from_f64(number(value)), half::bf16::from_f64(number(value)));
        assert_eq!(
            rounded(Format::F16, value),
            u32::from(halves.0.to_bits()),
            "{value}, {exponent}"
        );
        assert_eq!(
            rounded(Format::Bf16, value),
            u32::from(halves.1.to_bits()),
            "{value}, {exponent}"
        );
        // All the bits of an f64, and few, so that there are ties.
        let value = (random.next() as i64) >> (11 + random.below(53));
        let single = number(value) as f32;
        assert_eq!(rounded(Format::F32, value), single.to_bits(), "{value}, {exponent}");
    }
    for bits in (0..=u16::MAX).filter(|bits| bits & 0x7C00 != 0x7C00) {
        let number = half::f16::from_bits(bits).to_f64();
        assert_eq!(f16(bits) as f64 * 2f64.powi(-24), number);
        assert_eq!(Format::F16.value(u32::from(bits)), number);
    }
}

/// Against the tables of the OCP formats: greatest, least normal and least subnormal numbers, and one.
#[test]
fn small_formats_of_the_oracle_are_those_of_ocp() {
    for (code, ninths) in
        [(0x7E, 448 * 512), (0x38, 512), (0x08, 8), (0x07, 7), (0x01, 1), (0x80, 0)]
    {
        assert_eq!(e4m3(code), ninths);
    }
    assert_eq!([0x0, 0x1, 0x2, 0x7, 0x9, 0xF].map(e2m1), [0, 1, 2, 12, -1, -12]);
}
