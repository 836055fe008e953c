//! Builds the host programs around CUTLASS's kernels, once: a program is made again when its sources, its command or
//! the version of CUTLASS changed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Outcome, nvcc_or_skip, package, scratch};

/// A program of this folder or of `tests/h100`.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Of the file, without `.cu`.
    pub name: &'static str,
    /// Whether the PTX lies in the program as text; otherwise nvcc compresses it.
    pub plain: bool,
    /// For sm_90a; otherwise for sm_100a.
    pub hopper: bool,
}

/// nvcc takes a core and more than a gigabyte for each.
const AT_A_TIME: usize = 2;

/// Where the programs are, in the order of the sources; nothing where they cannot be built.
pub fn programs(test: &str, sources: &[Source]) -> Outcome<Option<Vec<PathBuf>>> {
    // Tests of one process would otherwise build the same ones side by side.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock();
    let Some(nvcc) = nvcc_or_skip(test) else { return Ok(None) };
    let cutlass = package().join("../third_party/cutlass");
    let Ok(version) = std::fs::read_to_string(cutlass.join("include/cutlass/version.h")) else {
        eprintln!("{test} is skipped: it takes CUTLASS (third_party/fetch.sh gets it)");
        return Ok(None);
    };
    let folder = scratch("stock")?;
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(source) = sources.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let built = build(&nvcc, &cutlass, &version, *source, &folder);
                    if let (Err(words), Ok(mut failures)) = (built, failures.lock()) {
                        failures.push(words);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner()?;
    if !failures.is_empty() {
        return Err(failures.join("\n").into());
    }
    Ok(Some(sources.iter().map(|source| folder.join(source.name)).collect()))
}

fn build(
    nvcc: &Path,
    cutlass: &Path,
    version: &str,
    source: Source,
    folder: &Path,
) -> Result<(), String> {
    let here = package().join("tests/stock");
    let named = [here.clone(), package().join("tests/h100")];
    let mut named = named.iter().map(|folder| folder.join(format!("{}.cu", source.name)));
    let Some(file) = named.find(|file| file.exists()) else {
        return Err(format!("there is no {}.cu", source.name));
    };
    let mut arguments: Vec<OsString> = [
        "-std=c++17",
        "-O3",
        "-DNDEBUG",
        "--expt-relaxed-constexpr",
        "-diag-suppress=20012",
        "-gencode",
        if source.hopper {
            "arch=compute_90a,code=compute_90a"
        } else {
            "arch=compute_100a,code=compute_100a"
        },
    ]
    .map(OsString::from)
    .to_vec();
    if source.plain {
        arguments.push("--no-compress".into());
    }
    for include in ["include", "tools/util/include"] {
        arguments.extend(["-I".into(), cutlass.join(include).into()]);
    }
    arguments.push(file.clone().into());

    let text = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let mut sources = text(&file)?;
    for header in ["stock/gemm.hpp", "stock/grouped.hpp", "h100/container.hpp"] {
        sources += &text(&package().join("tests").join(header))?;
    }
    let stamp = format!("{nvcc:?} {arguments:?}\n{version}\n{sources}");
    let (program, stamp_file) =
        (folder.join(source.name), folder.join(format!("{}.stamp", source.name)));
    if program.exists() && std::fs::read_to_string(&stamp_file).is_ok_and(|old| old == stamp) {
        return Ok(());
    }
    let object = folder.join(format!("{}.o", source.name));
    run(compiler(nvcc).arg("-c").args(&arguments).arg("-o").arg(&object), source)?;
    // The new name comes last, so that a build that was cut off leaves no program with a stamp.
    let fresh = folder.join(format!("{}.fresh", source.name));
    let mut link = Command::new(nvcc);
    link.args(["-cudart", "shared"]);
    // Some packages of the toolkit have no `lib64`, which is where nvcc looks.
    if let Some(toolkit) = nvcc.parent().and_then(Path::parent) {
        link.arg("-L").arg(toolkit.join("lib"));
    }
    run(link.arg(&object).arg("-o").arg(&fresh), source)?;
    let moved = std::fs::remove_file(&stamp_file).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    });
    moved
        .and_then(|()| std::fs::rename(&fresh, &program))
        .and_then(|()| std::fs::write(&stamp_file, stamp))
        .map_err(|error| format!("{}: {error}", program.display()))
}

/// nvcc, behind ccache where there is one, with settings of the library's own build (build/cache.rs).
fn compiler(nvcc: &Path) -> Command {
    if Command::new("ccache").arg("--version").output().is_err() {
        return Command::new(nvcc);
    }
    let mut command = Command::new("ccache");
    command.arg(nvcc).env("CCACHE_NOHASHDIR", "true").env("CCACHE_COMPILERCHECK", "content");
    command
}

fn run(command: &mut Command, source: Source) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("nvcc of {}: {}\n{words}", source.name, output.status));
    }
    Ok(())
}
