//! NVIDIA's own kernels for sm_100a on the emulator, under every schedule, against exact integer arithmetic.
//!
//! EMULATOR_WRITE_TABLE=1 writes the table of the results into `docs/stock-kernels.md`; otherwise the one there has to be
//! the same. EMULATOR_KERNEL=name runs only the kernels with that in their name, and looks at no table.

mod stock;
mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use stock::build::{Source, programs};
use stock::numbers::{Format, Random, e2m1, e4m3, f16};
use stock::operands::{Kind, Layout, Numbers, Operands, Problem, Rounding};
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
    /// Clusters take over others that have not started.
    cancels: bool,
    problems: &'static [Work],
}

/// A problem, or several at once.
#[derive(Clone, Copy, Debug)]
enum Work {
    One(Problem),
    /// Into how many parts K of each tile is split, or 0: thread blocks share tiles as they come (stream-K).
    Split(Problem, usize),
    /// M, N and K of each group; the rest is that of the problem.
    Groups(&'static [[usize; 3]], Problem),
}

impl Work {
    fn problems(&self) -> Vec<Problem> {
        match self {
            Self::One(problem) | Self::Split(problem, _) => vec![*problem],
            Self::Groups(groups, problem) => {
                groups.iter().map(|[m, n, k]| Problem { m: *m, n: *n, k: *k, ..*problem }).collect()
            }
        }
    }

    fn numbers(&self) -> Numbers {
        let (Self::One(problem) | Self::Split(problem, _) | Self::Groups(_, problem)) = self;
        problem.numbers
    }

    /// Sums that the kernel adds up for an entry, at most.
    fn parts(&self) -> usize {
        match self {
            Self::Split(_, 0) => SMS + 1,
            Self::Split(_, splits) => *splits,
            _ => 1,
        }
    }
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

/// A and B lie along M and N: K has any size, and M is the one that is a multiple of 8.
const F16: Layout =
    Layout { kind: Kind::F16, along_mn: true, by_columns: true, has_c: true, d: Format::F16 };

use Numbers::{Exact, Full};

/// Those that EMULATOR_KERNEL asks for; all without it.
fn kernels() -> Vec<&'static Kernel> {
    let asked = std::env::var("EMULATOR_KERNEL").unwrap_or_default();
    KERNELS.iter().filter(|kernel| kernel.source.name.contains(&asked)).collect()
}

static KERNELS: [Kernel; 9] = [
    Kernel {
        source: Source { name: "nvf4_1sm_128x128", plain: true, hopper: false },
        layout: scaled(Kind::Nvf4, Format::F16),
        tile: [128, 128, 256],
        thread_blocks: 1,
        cancels: true,
        problems: &[
            Work::One(problem([40, 72, 96], [1.0, 0.0], Exact)),
            Work::One(problem([393, 264, 288], [0.5, 0.0], Exact)),
            Work::One(problem([137, 120, 2080], [-0.75, 0.0], Exact)),
            Work::One(problem([201, 136, 2080], [1.0 / 2048.0, 0.0], Full)),
        ],
    },
    Kernel {
        source: Source { name: "nvf4_1sm_128x192", plain: false, hopper: false },
        layout: scaled(Kind::Nvf4, Format::F16),
        tile: [128, 192, 256],
        thread_blocks: 1,
        cancels: true,
        problems: &[
            Work::One(problem([33, 168, 32], [1.0, 0.0], Exact)),
            Work::One(problem([258, 584, 480], [0.5, 0.0], Exact)),
            Work::One(problem([70, 200, 1696], [-0.75, 0.0], Exact)),
            Work::One(problem([129, 376, 1696], [1.0 / 2048.0, 0.0], Full)),
        ],
    },
    Kernel {
        source: Source { name: "nvf4_2sm_256x128_c2x1", plain: false, hopper: false },
        layout: scaled(Kind::Nvf4, Format::Bf16),
        tile: [256, 128, 256],
        thread_blocks: 2,
        cancels: true,
        problems: &[
            Work::One(problem([70, 40, 160], [1.0, 0.0], Exact)),
            Work::One(problem([530, 264, 288], [0.5, 0.0], Exact)),
            Work::One(problem([200, 120, 2592], [-0.75, 0.0], Exact)),
            Work::One(problem([300, 136, 2592], [1.0 / 2048.0, 0.0], Full)),
        ],
    },
    Kernel {
        source: Source { name: "mxf8_1sm_128x128", plain: false, hopper: false },
        layout: scaled(Kind::Mxf8, Format::F16),
        tile: [128, 128, 128],
        thread_blocks: 1,
        cancels: true,
        problems: &[
            Work::One(problem([100, 24, 96], [1.0, 0.0], Exact)),
            Work::One(problem([385, 264, 160], [0.5, 0.0], Exact)),
            Work::One(problem([90, 136, 1120], [-0.75, 0.0], Exact)),
            Work::One(problem([150, 136, 1120], [1.0 / 4_194_304.0, 0.0], Full)),
        ],
    },
    Kernel {
        source: Source { name: "f16_2sm_128x128_c2x1", plain: false, hopper: false },
        layout: F16,
        tile: [128, 128, 64],
        thread_blocks: 2,
        cancels: true,
        problems: &[
            Work::One(problem([40, 72, 37], [1.0, 1.0], Exact)),
            Work::One(problem([392, 264, 100], [0.5, 2.0], Exact)),
            Work::One(problem([136, 120, 1001], [-0.75, 1.5], Exact)),
            Work::One(problem([200, 136, 1001], [1.5, -0.3], Full)),
        ],
    },
    Kernel {
        // Two stages, and two accumulators in the same columns.
        source: Source { name: "f16_1sm_64x128_s2", plain: false, hopper: false },
        layout: F16,
        tile: [64, 128, 64],
        thread_blocks: 1,
        cancels: true,
        problems: &[
            Work::One(problem([40, 72, 37], [1.0, 1.0], Exact)),
            Work::One(problem([200, 264, 100], [0.5, 2.0], Exact)),
            Work::One(problem([72, 120, 1001], [-0.75, 1.5], Exact)),
            Work::One(problem([136, 136, 1001], [1.5, -0.3], Full)),
        ],
    },
    Kernel {
        // The scales of D are subnormal, of all sizes, and too large.
        source: Source { name: "nvf4_1sm_128x128_s2_nvf4", plain: false, hopper: false },
        layout: scaled(Kind::Nvf4, Format::E2m1),
        tile: [128, 128, 256],
        thread_blocks: 1,
        cancels: true,
        problems: &[
            Work::One(problem([40, 96, 96], [1.0 / 512.0, 0.0], Exact)),
            Work::One(problem([393, 288, 288], [0.5, 0.0], Exact)),
            Work::One(problem([137, 160, 2080], [-16.0, 0.0], Exact)),
            Work::One(problem([201, 160, 2080], [1.0 / 65536.0, 0.0], Full)),
        ],
    },
    Kernel {
        source: Source { name: "nvf4_1sm_128x128_grouped", plain: false, hopper: false },
        layout: Layout { has_c: true, ..scaled(Kind::Nvf4, Format::F16) },
        tile: [128, 128, 256],
        thread_blocks: 1,
        cancels: false,
        problems: &[
            Work::Groups(&[[40, 72, 96]], problem([0; 3], [1.0, 1.0], Exact)),
            Work::Groups(
                &[[70, 136, 288], [0, 136, 288], [300, 136, 288], [1, 136, 288], [129, 264, 96]],
                problem([0; 3], [0.5, 2.0], Exact),
            ),
            Work::Groups(
                &[[137, 120, 2080], [40, 120, 32], [0, 8, 32], [33, 136, 1696]],
                problem([0; 3], [-0.75, 1.5], Exact),
            ),
            Work::Groups(
                &[[150, 136, 2080], [0, 136, 2080], [130, 136, 1056]],
                problem([0; 3], [1.0 / 2048.0, -0.3], Full),
            ),
        ],
    },
    Kernel {
        source: Source { name: "f16_1sm_128x128_streamk", plain: false, hopper: false },
        layout: F16,
        tile: [128, 128, 64],
        thread_blocks: 1,
        cancels: true,
        problems: &[
            Work::Split(problem([40, 72, 37], [1.0, 1.0], Exact), 0),
            Work::Split(problem([136, 264, 1001], [0.5, 2.0], Exact), 0),
            Work::Split(problem([136, 264, 1001], [-0.75, 1.5], Exact), 3),
            Work::Split(problem([200, 120, 1001], [1.5, -0.3], Full), 0),
        ],
    },
];

impl Kernel {
    fn tiles(&self, problem: Problem) -> usize {
        problem.m.div_ceil(self.tile[0]) * problem.n.div_ceil(self.tile[1])
    }

    fn all_tiles(&self, work: &Work) -> usize {
        work.problems().iter().map(|problem| self.tiles(*problem)).sum()
    }

    fn k_blocks(&self, problem: Problem) -> usize {
        problem.k.div_ceil(self.tile[2])
    }

    fn most_k_blocks(&self, work: &Work) -> usize {
        work.problems().iter().map(|problem| self.k_blocks(*problem)).max().unwrap_or(0)
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
fn columns(cancels: bool) -> Vec<(&'static str, Rounding, Vec<Variables>)> {
    let schedule = |word: &str| vec![("EMULATOR_SCHEDULE", word.to_owned())];
    let with = |word: &str, name, value: &str| {
        let mut settings = schedule(word);
        settings.push((name, value.to_owned()));
        settings
    };
    let seeds = (0..SEEDS).map(|seed| with("random", "EMULATOR_SEED", &seed.to_string())).collect();
    let where_it_cancels = |runs| if cancels { runs } else { Vec::new() };
    let never = where_it_cancels(vec![with("lazy", "EMULATOR_CLC", "never")]);
    let random = where_it_cancels(vec![with("random", "EMULATOR_CLC", "random")]);
    let model = vec![with("eager", "EMULATOR_ROUNDING", "mma-sim")];
    vec![
        ("eager", Rounding::Exact, vec![schedule("eager")]),
        ("lazy", Rounding::Exact, vec![schedule("lazy")]),
        ("random, seeds 0 to 19", Rounding::Exact, seeds),
        ("CLC `never`", Rounding::Exact, never),
        ("CLC `random`", Rounding::Exact, random),
        ("`mma-sim`", Rounding::MmaSim, model),
    ]
}

/// A problem of a kernel.
struct Case<'a> {
    kernel: &'a Kernel,
    work: &'a Work,
    prepared: Prepared<'a>,
}

impl Case<'_> {
    fn run(&self, settings: &[(&str, String)]) -> Result<Vec<u8>, String> {
        self.prepared.run(settings)
    }

    fn check(&self, d: &[u8], rounding: Rounding) -> Result<(), String> {
        self.prepared.check(d, rounding, self.work.parts())
    }

    /// A check that passes everything would show nothing: D with its largest value a little off has to fail.
    fn check_can_fail(&self, d: &[u8], rounding: Rounding) -> Result<(), String> {
        match self.check(&self.prepared.spoiled(d, rounding), rounding) {
            Err(_) => Ok(()),
            Ok(()) => Err("the check passes a wrong result".into()),
        }
    }
}

/// The first cells of a row: what is computed.
fn begin_of_row(kernel: &Kernel, work: &Work) -> String {
    let name = kernel.source.name;
    let tiles = kernel.all_tiles(work);
    let extents = |Problem { m, n, k, .. }: &Problem| format!("{m} × {n} × {k}");
    let all: Vec<String> = work.problems().iter().map(extents).collect();
    let blocks: Vec<String> =
        work.problems().iter().map(|problem| kernel.k_blocks(*problem).to_string()).collect();
    let shared = match work {
        Work::Split(_, 0) => ", stream-K".to_owned(),
        Work::Split(_, splits) => format!(", in {splits} parts"),
        _ => String::new(),
    };
    let kind = match work.numbers() {
        Numbers::Exact => "exact",
        Numbers::Full => "full range",
    };
    let (all, blocks) = (all.join("; "), blocks.join("; "));
    format!("| `{name}` | {all} | {tiles}{shared} | {blocks} | {kind} |")
}

/// A row of the table, or what went wrong.
fn row(case: &Case) -> Result<String, String> {
    let passed = match case.work.numbers() {
        Numbers::Exact => "equal",
        Numbers::Full => "in bound",
    };
    let mut row = begin_of_row(case.kernel, case.work);
    let mut failures = String::new();
    for (_, rounding, runs) in columns(case.kernel.cancels) {
        let mut good = 0;
        for settings in &runs {
            let outcome = case.run(settings).and_then(|d| {
                case.check(&d, rounding)?;
                if good == 0 { case.check_can_fail(&d, rounding) } else { Ok(()) }
            });
            match outcome {
                Ok(()) => good += 1,
                Err(words) => {
                    let name = case.kernel.source.name;
                    let _ = writeln!(failures, "{name} {:?} {settings:?}: {words}", case.work);
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
    work: &'a Work,
    folder: PathBuf,
) -> Outcome<Case<'a>> {
    let operands = |problem: &Problem| Operands::new(kernel.layout, *problem, problem.k as u64);
    let prepared = match work {
        Work::One(problem) => Prepared::new(program, library, operands(problem), folder, SMS)?,
        Work::Split(problem, splits) => {
            let prepared = Prepared::new(program, library, operands(problem), folder, SMS)?;
            Prepared { splits: Some(*splits), ..prepared }
        }
        Work::Groups(..) => {
            let operands = work.problems().iter().map(operands).collect();
            Prepared::of_groups(program, library, operands, folder, SMS)?
        }
    };
    Ok(Case { kernel, work, prepared })
}

const BEGIN: &str = "<!-- stock kernels -->\n";
const END: &str = "<!-- end -->";

fn table(rows: &[String]) -> String {
    let mut table = "| kernel | M × N × K | tiles | K blocks | numbers |".to_owned();
    let columns = columns(true);
    for (name, ..) in &columns {
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
    let kernels = kernels();
    let sources: Vec<Source> = kernels.iter().map(|kernel| kernel.source).collect();
    let Some(programs) = programs("results_are_right_under_every_schedule", &sources)? else {
        return Ok(());
    };
    let library = stock::library()?;
    let mut jobs = Vec::new();
    for (kernel, program) in kernels.iter().zip(&programs) {
        let exact = kernel.problems.iter().filter(|work| work.numbers() == Numbers::Exact);
        assert!(exact.clone().any(|work| kernel.all_tiles(work) * kernel.thread_blocks > SMS));
        assert!(exact.clone().any(|work| kernel.most_k_blocks(work) > kernel.most_stages()));
        jobs.extend(kernel.problems.iter().map(|work| (kernel, program, work)));
    }
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(vec![Err(String::new()); jobs.len()]));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((kernel, program, work)) = jobs.get(number) else { return };
            let outcome = scratch(&format!("stock/case{number}"))
                .and_then(|folder| case(kernel, program, &library, work, folder))
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

    if kernels.len() < KERNELS.len() {
        return Ok(());
    }
    let page = package().join("docs/stock-kernels.md");
    let text = std::fs::read_to_string(&page)?;
    let (before, rest) = text.split_once(BEGIN).ok_or("the page has no place for the table")?;
    let (old, after) = rest.split_once(END).ok_or("the table of the page has no end")?;
    let new = table(&good);
    if std::env::var_os("EMULATOR_WRITE_TABLE").is_some_and(|value| value == "1") {
        std::fs::write(&page, format!("{before}{BEGIN}{new}{END}{after}"))?;
    } else {
        assert!(old == new, "EMULATOR_WRITE_TABLE=1 writes this one into the page:\n{new}");
    }
    Ok(())
}

/// CUTLASS takes two liberties that hardware grants: it copies scale factors after MMAs that still read the old ones,
/// and it leaves out a wait for a load from tensor memory whose registers it then uses.
#[test]
fn checks_report_the_liberties_of_cutlass() -> Outcome<()> {
    let kernels = kernels();
    let sources: Vec<Source> = kernels.iter().map(|kernel| kernel.source).collect();
    let Some(programs) = programs("checks_report_the_liberties_of_cutlass", &sources)? else {
        return Ok(());
    };
    let library = stock::library()?;
    for (kernel, program) in kernels.iter().zip(&programs) {
        // One tile, more K blocks than stages.
        let [m, n, k] = kernel.tile;
        let extents = [m, n, k * (kernel.most_stages() + 1)];
        let problem = problem(extents, [0.25, 0.0], Exact);
        let work = match kernel.problems.first() {
            Some(Work::Groups(..)) => Work::Groups(&[[128, 128, 2304]], problem),
            Some(Work::Split(..)) => Work::Split(problem, 1),
            _ => Work::One(problem),
        };
        let folder = scratch(&format!("stock/checks-{}", kernel.source.name))?;
        let case = case(kernel, program, &library, &work, folder)?;
        let copy = ["TensorHazard: tcgen05.cp overwrites", "does not order cp after mma"];
        let load = ["PendingRegister: ", "between the tcgen05.ld that fills it and the wait"];
        // f16 has no scale factors. And lazily, the TMA warp has waited for the commit of a stage before the copy of
        // the next one completes; with two stages it always has.
        let two_stages = kernel.source.name.contains("_s2");
        let scaled = kernel.layout.kind != Kind::F16 && !two_stages;
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
                (Ok(d), None) => case.check(&d, Rounding::Exact)?,
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
