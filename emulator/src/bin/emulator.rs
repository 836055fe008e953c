//! Runs CUDA programs on the emulator, and prints reports.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs, io};

use clap::{Parser, Subcommand, ValueEnum};

/// What programs look for.
const SONAME: &str = "libcudart.so.13";
/// What cargo builds.
const LIBRARY: &str = "libemulator.so";
/// Where the link is, beside the library.
const FOLDER: &str = "emulator-path";

/// A functional B200 (or H100) on a CPU, for programs that nvcc built with `-cudart shared` and PTX inside.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Run a program on the emulated device.
    Run(Run),
    /// Print a folder for LD_LIBRARY_PATH; it is made if need be.
    Path,
    /// Print the report that EMULATOR_REPORT=FILE collected.
    Report {
        /// What the programs wrote.
        file: PathBuf,
        /// As JSON, one object for each kernel and shape.
        #[arg(long)]
        json: bool,
    },
}

/// Options stand for the variables EMULATOR_…; those that are not given stay as the environment has them.
#[derive(clap::Args)]
struct Run {
    /// Device that the program sees.
    #[arg(long, value_enum)]
    device: Option<Device>,
    /// Multiprocessors.
    #[arg(long)]
    sms: Option<u32>,
    /// Threads of the host that interpret.
    #[arg(long)]
    threads: Option<u32>,
    /// When asynchronous operations complete.
    #[arg(long, value_enum)]
    schedule: Option<Schedule>,
    /// When queued work runs; as the schedule if it is not given.
    #[arg(long, value_enum)]
    streams: Option<Schedule>,
    /// For everything random.
    #[arg(long)]
    seed: Option<u64>,
    /// Answers to clusterlaunchcontrol.
    #[arg(long, value_enum)]
    clc: Option<Cancel>,
    /// How the tensor cores round.
    #[arg(long, value_enum)]
    rounding: Option<Rounding>,
    /// How ex2.approx and the like round.
    #[arg(long, value_enum)]
    mufu: Option<Mufu>,
    /// Checks of what hardware allows but no document says: names with commas between them, or all.
    #[arg(long)]
    checks: Option<OsString>,
    /// Warp instructions that a thread block may execute.
    #[arg(long)]
    steps: Option<u64>,
    /// 1 for launches, 2 for asynchronous operations, 3 for every instruction.
    #[arg(long)]
    trace: Option<u8>,
    /// File for the report, or `-` for stderr.
    #[arg(long)]
    report: Option<OsString>,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true)]
    program: Vec<OsString>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Device {
    B200,
    H100,
}

#[derive(Clone, Copy, ValueEnum)]
enum Schedule {
    Eager,
    Lazy,
    Random,
}

#[derive(Clone, Copy, ValueEnum)]
enum Cancel {
    Greedy,
    Never,
    Random,
}

#[derive(Clone, Copy, ValueEnum)]
enum Rounding {
    Exact,
    MmaSim,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mufu {
    Exact,
    Perturbed,
}

/// The word of a choice, as the variable takes it.
fn word(choice: Option<impl ValueEnum>) -> Option<OsString> {
    choice?.to_possible_value().map(|value| value.get_name().into())
}

fn number(number: Option<impl ToString>) -> Option<OsString> {
    number.map(|number| number.to_string().into())
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Action::Run(run) => start(run),
        Action::Path => folder().map(|folder| println!("{}", folder.display())),
        Action::Report { file, json } => report(&file, json),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => {
            eprintln!("emulator: {words}");
            ExitCode::FAILURE
        }
    }
}

/// Becomes the program; comes back only where that is not possible.
fn start(run: Run) -> Result<(), String> {
    let [program, arguments @ ..] = run.program.as_slice() else {
        return Err("no program".to_owned());
    };
    let mut path = folder()?.into_os_string();
    if let Some(rest) = env::var_os("LD_LIBRARY_PATH").filter(|rest| !rest.is_empty()) {
        path.push(":");
        path.push(rest);
    }
    let mut command = Command::new(program);
    command.args(arguments).env("LD_LIBRARY_PATH", path);
    let variables = [
        ("EMULATOR_DEVICE", word(run.device)),
        ("EMULATOR_SMS", number(run.sms)),
        ("EMULATOR_THREADS", number(run.threads)),
        ("EMULATOR_SCHEDULE", word(run.schedule)),
        ("EMULATOR_STREAMS", word(run.streams)),
        ("EMULATOR_SEED", number(run.seed)),
        ("EMULATOR_CLC", word(run.clc)),
        ("EMULATOR_ROUNDING", word(run.rounding)),
        ("EMULATOR_MUFU", word(run.mufu)),
        ("EMULATOR_CHECKS", run.checks),
        ("EMULATOR_STEPS", number(run.steps)),
        ("EMULATOR_TRACE", number(run.trace)),
        ("EMULATOR_REPORT", run.report),
    ];
    for (name, value) in variables {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    Err(format!("{}: {}", program.display(), command.exec()))
}

/// A folder with a link of the right name to the library.
fn folder() -> Result<PathBuf, String> {
    let library = library()?;
    let beside = library.parent().unwrap_or(Path::new("/")).join(FOLDER);
    link(&library, &beside).map_err(|error| format!("{}: {error}", beside.display()))?;
    Ok(beside)
}

/// Makes the link in one step, as several programs may start at once.
fn link(library: &Path, folder: &Path) -> io::Result<()> {
    let link = folder.join(SONAME);
    if fs::read_link(&link).is_ok_and(|target| target == library) {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    let fresh = folder.join(format!("{SONAME}.{}", std::process::id()));
    std::os::unix::fs::symlink(library, &fresh)?;
    fs::rename(&fresh, &link)
}

/// The library that cargo built: beside this program, or in `deps` where only tests were built. The newest, as both
/// may be there.
fn library() -> Result<PathBuf, String> {
    let program = env::current_exe().map_err(|error| format!("this program's path: {error}"))?;
    let folder = program.parent().unwrap_or(Path::new("/"));
    let places = ["", "deps", ".."].map(|place| folder.join(place).join(LIBRARY));
    let dated =
        places.iter().filter_map(|place| Some((fs::metadata(place).ok()?.modified().ok()?, place)));
    // The first of equally new ones: a later one is another name of the same file.
    let newest = dated.reduce(|best, next| if next.0 > best.0 { next } else { best });
    let found = newest.and_then(|(_, place)| place.canonicalize().ok());
    found.ok_or_else(|| format!("{LIBRARY} is not beside {}", program.display()))
}

fn report(file: &Path, json: bool) -> Result<(), String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let report = emulator::report::Report::parse(&text)
        .map_err(|words| format!("{}: {words}", file.display()))?;
    if json {
        print!("{}", report.json_lines());
    } else {
        print!("{report}");
    }
    Ok(())
}
